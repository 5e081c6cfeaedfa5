"""What FORECAST tells: counts by hand, the schedule against a plain simulation, where its figures come from."""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from conftest import ROOT, Command
from plan import Told, make_row, write_plan

from nnactive_nf.core.errors import UserError
from nnactive_nf.forecast.disk import Publishing
from nnactive_nf.forecast.run import Times, forecast
from nnactive_nf.forecast.text import decimal, duration, in_bytes

COPIED = Publishing("copy", False, False)


def told(folder: Path, rows: list[dict[str, Any]], minutes: str | None = None, gpus: tuple[int, ...] = (1,)) -> Told:
    return Told(forecast(write_plan(folder / "plan.json", rows), {}, Times(None, None, minutes, gpus), COPIED))


def test_strategies_that_a_run_would_refuse_are_refused(tmp_path: Path) -> None:
    rows = [make_row("random"), make_row("random,power_bald", where="study.csv, row 2", regime="high")]
    rows[1]["strategies"][1]["name"] = "power_bald:bta=1"
    with pytest.raises(UserError) as refused:
        told(tmp_path, rows)
    (line,) = refused.value.lines
    assert line.startswith("study.csv, row 2: strategies power_bald:bta=1: unknown option 'bta' of power_bald")


def test_rules_to_stop_by_make_upper_bounds_and_are_checked(tmp_path: Path) -> None:
    told(tmp_path, [make_row("random", stop="minutes:9", oracle="people")])
    bound = "With --stop trajectories may end before: all figures are upper bounds."
    for stop, lines in ((None, 0), ("dice:0.8", 1)):
        rows = [make_row("random", stop=stop)]
        (tmp_path / "plan.json").unlink()
        text = forecast(write_plan(tmp_path / "plan.json", rows), {}, Times(None, None, None, (1,)), COPIED)
        assert text.splitlines().count(bound) == lines
    with pytest.raises(UserError, match="--stop minutes: nobody counts minutes here"):
        told(tmp_path, [make_row("random", stop="minutes:9")])


def test_the_papers_study_before_there_are_data(tmp_path: Path) -> None:
    """4 data sets x 3 regimes x 8 strategies (5 of them want maps, of two sets) x 4 seeds x 5 cycles x 5 folds."""
    names = ["dataset", "regime", "start_size", "query_size", "cycles", "patch_size", "folds", "epochs", "iterations"]
    table = pd.read_csv(ROOT / "conf/studies/paper.csv")
    rows = [
        make_row(
            row["strategies"], input=row["input"], folder=f"/nowhere/{row['input']}",
            seeds=[int(seed) for seed in row["seeds"].split(",")], **{name: row[name] for name in names},
        )
        for row in table.to_dict("records")
    ]  # fmt: skip
    found = told(tmp_path, rows, "60,6", (1, 4, 16))
    nodes, predicted = 12 * 4 * (1 + 8 * 4), 12 * 4 * (2 + 5 * 3)
    assert found.tasks() == {
        "CHECK": 4, "PREPARE": 4, "QUERY": nodes, "VIEWS": nodes, "ANNOTATE": nodes, "TRAIN": 7920,
        "PREDICT": predicted, "EVALUATE": nodes, "ANALYSE": 1, "REPORT": 1, "PROTOCOL": 5,
    }  # fmt: skip
    assert {found.count(row, "TRAIN") for row in found.tables["Tasks"] if row != "in all"} == {660}
    assert found.count("KiTS high", "patches") == 4 * (500 + 8 * 4 * 500)
    assert found.count("in all", "trajectories") == 12 * 8 * 4
    assert "saves 1,680 of 9,600 trainings" in found.text

    hours = (7920 * 60 + predicted * 6 + nodes * 15) / 60
    assert float(found.tables["Time"]["shared at cycle 0"]["GPU hours"].replace(",", "")) == round(hours)
    # One GPU is never idle once the first labels are there, 16 hardly ever before the end
    for gpus in (1, 4, 16):
        column = f"{gpus} GPU{'s' if gpus > 1 else ''}"
        shared = found.amount("Time", "shared at cycle 0", column)
        assert hours * 60 / gpus == pytest.approx(shared, rel=0.02)
        assert shared < found.amount("Time", "not shared", column)

    for name in ("ACDC", "AMOS", "Hippocampus", "KiTS"):
        assert f"not known: no data in /nowhere/{name}; networks of 31 million parameters are assumed" in found.text
        assert found.tables["Training"][name]["patch"] == "128 x 128 x 128"
    assert found.amount("Disk", "networks", "store") == pytest.approx(7920 * 31.2e6 * 4, rel=0.01)
    assert found.amount("Disk", "uncertainty maps", "work") == 0
    figures = {name: found.text.partition("\nFigures\n")[2].partition(name)[2].splitlines()[0] for name in
               ("images of KiTS", "minutes of TRAIN", "minutes of EVALUATE")}  # fmt: skip
    assert "assumed: 256 x 256 x 256 voxels" in figures["images of KiTS"]
    assert figures["minutes of TRAIN"].strip() == "given"
    assert figures["minutes of EVALUATE"].strip() == "assumed"


MINUTES = {"TRAIN": 2.9, "PREDICT": 0.7, "EVALUATE": 0.53, "QUERY": 0.31}
GPUS = (1, 2, 3, 7, 1000)
FOLDS = 2
STUDY = [
    make_row("bald,random,power_bald,predictive_entropy", regime="low", start_size=8, query_size=4, cycles=3, shards=3,
             folds=FOLDS),
    make_row("random,predictive_entropy", regime="high", start_size=12, query_size=6, seeds=[1, 2], cycles=2, shards=2,
             folds=FOLDS, view_patches=0),
    make_row("", regime="full", cycles=1, folds=FOLDS, shards=3),
]  # fmt: skip

# The same by hand, for the simulation: shards, strategies with the maps that they want, seeds, cycles
ROWS = [
    (3, {"bald": "both", "random": "", "power_bald": "both", "predictive_entropy": "one"}, 1, 3),
    (2, {"random": "", "predictive_entropy": "one"}, 2, 2),
    (0, {}, 1, 1),  # the reference
]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return told(tmp_path_factory.mktemp("study"), STUDY, " , ".join(map(str, MINUTES.values())), GPUS)


def test_counts_by_hand(study: Told) -> None:
    assert study.tasks() == {
        "CHECK": 1, "PREPARE": 1, "QUERY": 9 + 6, "VIEWS": 9, "ANNOTATE": 9 + 6 + 1, "TRAIN": 2 * 16,
        "PREDICT": 3 * 5 + 2 * 2, "EVALUATE": 16, "ANALYSE": 1, "REPORT": 1, "PROTOCOL": 2,
    }  # fmt: skip
    assert study.count("one low", "patches") == 8 + 4 * 2 * 4
    assert study.count("one high", "nodes") == 2 * (1 + 2)
    assert study.count("one full (whole pool)", "TRAIN") == FOLDS
    assert study.count("in all", "trajectories") == 4 + 4
    assert "saves 10 of 42 trainings" in study.text


def test_queries_that_grow_are_summed(tmp_path: Path) -> None:
    found = told(tmp_path, [make_row("random", query_size=[4, 6], start_size=8, cycles=3, seeds=[1, 2])])
    assert found.count("one main", "patches") == 2 * (8 + 4 + 6)


class Node(NamedTuple):
    """Of a row of `ROWS`."""

    row: int
    seed: int
    strategy: str
    cycle: int


def simulate(rows: list[tuple[int, dict[str, str], int, int]], gpus: int) -> float:
    """Minutes to finish, event by event: what is ready joins a line, and the first in it takes the next free GPU."""
    numbers = itertools.count()
    events: list[tuple[float, int, str, Node]] = []
    line: list[tuple[str, Node]] = []  # a prediction's stage is PREDICT with the set of maps behind it
    left = {"TRAIN": defaultdict[Node, int](lambda: FOLDS)}
    idle = gpus

    def at(minute: float, what: str, node: Node) -> None:
        heapq.heappush(events, (minute, next(numbers), what, node))

    for row, (_, strategies, seeds, _) in enumerate(rows):
        for seed in range(seeds):
            at(MINUTES["QUERY"] if strategies else 0.0, "labels", Node(row, seed, "", 0))
    while events:
        now, _, what, node = heapq.heappop(events)
        shards, strategies, _, cycles = rows[node.row]
        wants_maps = {name: wants for name, wants in strategies.items() if node.strategy in ("", name)}
        following = wants_maps if node.cycle + 1 < cycles else {}
        sets = sorted({maps for maps in following.values() if maps})
        asked: list[str] = []
        if what == "labels":
            line += [("TRAIN", node)] * FOLDS
            asked = [name for name, wants in following.items() if not wants]
        else:
            idle += 1
        if what in left:
            left[what][node] -= 1
            if left[what][node] == 0 and what == "TRAIN":
                line += [("EVALUATE", node)]
                for maps in sets:
                    left.setdefault(f"PREDICT {maps}", defaultdict(int))[node] = shards
                    line += [(f"PREDICT {maps}", node)] * shards
            elif left[what][node] == 0:
                asked = [name for name, wants in following.items() if f"PREDICT {wants}" == what]
        for name in asked:
            at(now + MINUTES["QUERY"], "labels", Node(node.row, node.seed, name, node.cycle + 1))
        while idle and line:
            idle -= 1
            task, its = line.pop(0)
            at(now + MINUTES[task.split()[0]], task, its)
    return now


def test_the_schedule_is_that_of_a_plain_simulation(study: Told) -> None:
    apart = [
        (shards, {name: wants}, seeds, cycles)
        for shards, strategies, seeds, cycles in ROWS
        for name, wants in strategies.items()
    ] + [ROWS[-1]]
    for gpus in GPUS:
        column = f"{gpus:,} GPU{'s' if gpus > 1 else ''}"
        for row, rows in (("shared at cycle 0", ROWS), ("not shared", apart)):
            found, expected = study.amount("Time", row, column), simulate(rows, gpus)
            assert found == pytest.approx(expected, abs=0.51 if expected < 120 else 3.01), (gpus, row)

    # By hand: one GPU works without a pause, any number waits for one trajectory's cycles
    work = 32 * MINUTES["TRAIN"] + 19 * MINUTES["PREDICT"] + 16 * MINUTES["EVALUATE"]
    assert simulate(ROWS, 1) == pytest.approx(work, abs=MINUTES["QUERY"])
    longest = 3 * (MINUTES["TRAIN"] + MINUTES["QUERY"]) + 2 * MINUTES["PREDICT"] + MINUTES["EVALUATE"]
    assert simulate(ROWS, 1000) == pytest.approx(longest)
    assert study.amount("Time", "shared at cycle 0", "1,000 GPUs") == pytest.approx(longest, abs=0.51)


def test_given_minutes_are_the_first_rows_and_others_follow_their_iterations(tmp_path: Path) -> None:
    rows = [make_row("random", cycles=1), make_row("random", cycles=1, regime="long", epochs=600, iterations=125)]
    found = told(tmp_path, rows, "100,0,0,0")
    assert float(found.tables["Time"]["shared at cycle 0"]["GPU hours"]) == pytest.approx(5 * 250 / 60, abs=0.5)


def test_rows_of_a_data_set_that_train_otherwise_have_lines_of_their_own(tmp_path: Path) -> None:
    rows = [
        make_row("random"),
        make_row("random", regime="small", train_patch_size="32,64,96", features=8, batch_size=3),
    ]
    found = told(tmp_path, rows)
    training = found.tables["Training"]
    assert list(training) == ["one main", "one small"]
    assert (training["one small"]["patch"], training["one small"]["batch"]) == ("32 x 64 x 96", "3")
    # Feature maps shrink with the patch's voxels and the features, and grow with the batch
    shrunk = (32 * 64 * 96) / 128**3 * 8 / 32 * 3 / 2
    ratio = found.amount("Training", "one small", "GPU memory") / found.amount("Training", "one main", "GPU memory")
    assert ratio == pytest.approx(shrunk, rel=0.2)
    assert "For the time: --plan_trace with the trace of an earlier run, or --plan_minutes" in found.text
    assert "as --train_patch_size, --features and --batch_size change it" in found.text


def test_numbers_are_told_in_two_digits() -> None:
    assert [decimal(n) for n in (0, 0.049, 0.94, 0.96, 9.94, 9.96, 12_345.4)] == [
        "0.0", "0.05", "0.94", "1.0", "9.9", "10", "12,345"
    ]  # fmt: skip
    assert [in_bytes(n) for n in (0.5, 999, 1000, 1.5e6, 2e15, 3e18)] == [
        "0.50 B", "999 B", "1.0 kB", "1.5 MB", "2.0 PB", "3,000 PB"
    ]  # fmt: skip
    assert [duration(n) for n in (119, 121, 48 * 60, 1440 * 350)] == ["119 min", "2.0 h", "2.0 days", "350 days"]


def test_the_command(stage: Callable[..., Command], tmp_path: Path) -> None:
    """Options to text; a user's mistake is a line and exit status 2."""
    plan = write_plan(tmp_path / "plan.json", [make_row("random,bald")])
    done = stage("forecast", "--plan", plan, "--plan-minutes", "10", "--plan-gpus", "2", "--publish-models")
    assert done.returncode == 0, done.stderr
    assert Told(done.stdout).amount("Disk", "networks", "results") > 0
    (tmp_path / "trace.txt").write_text("name\tstatus\n")
    done = stage("forecast", "--plan", plan, "--trace", tmp_path / "trace.txt", "--plan-trace", "my.txt")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("ERROR: --plan_trace my.txt: no trace of Nextflow; a table with the columns")
