"""--plan: its counts against a run, its schedule against a plain simulation, its disk against what a run left."""

from __future__ import annotations

import heapq
import itertools
import json
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import ROOT, Run, nextflow_command, run_nextflow

pytestmark = pytest.mark.pipeline

Triple = tuple[float, float, float]
UNITS = {"min": 1.0, "h": 60.0, "days": 1440.0, "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


class Forecast:
    """The printed tables by their titles: row name -> column -> cell."""

    def __init__(self, output: str) -> None:
        self.text = text = output[output.index("\nTasks ") :].strip()
        self.tables: dict[str, dict[str, dict[str, str]]] = {}
        for block in re.split(r"\n\s*\n", text):
            lines = [re.split(r" {2,}", line.strip()) for line in block.splitlines()]
            title, *columns = lines[0]
            rows = [line for line in lines[1:] if len(line) == len(columns) + 1]
            self.tables[title] = {name: dict(zip(columns, cells, strict=True)) for name, *cells in rows}

    def count(self, row: str, column: str) -> int:
        return int(self.tables["Tasks"][row][column].replace(",", ""))

    def tasks(self) -> Counter[str]:
        """Tasks of every stage, those that run once included."""
        rows = self.tables["Tasks"]
        total = "in all" if "in all" in rows else next(iter(rows))
        line = next(line for line in self.text.splitlines() if line.endswith("tasks in all."))
        once = {name: int(number) for name, number in re.findall(r"([A-Z]+) (\d+)", line)}
        by_row = {name: self.count(total, name) for name in rows[total] if name.isupper()}
        found = Counter({name: number for name, number in (once | by_row).items() if number})
        assert f"{found.total():,} tasks in all." in line
        return found

    def amount(self, table: str, row: str, column: str) -> float:
        """A cell with a unit, in minutes or bytes; 0 for '-'."""
        number, _, unit = self.tables[table][row][column].partition(" ")
        return 0.0 if number == "-" else float(number.replace(",", "")) * UNITS[unit]


def forecast(folder: Path, *args: object, parser: str = "v1", **params: object) -> Forecast:
    done = run_nextflow(folder, *args, plan=True, env={"NXF_SYNTAX_PARSER": parser}, timeout=300, **params)
    assert done.returncode == 0, done.output
    assert not done.trace, "a task was started"
    return Forecast(done.stdout)


def test_the_papers_study_before_there_are_data(tmp_path: Path) -> None:
    """4 data sets x 3 regimes x 8 strategies (5 of them want maps) x 4 seeds x 5 cycles x 5 folds."""
    command = nextflow_command(
        input=ROOT / "conf/studies/paper.csv", data=tmp_path / "nowhere", outdir="mine", plan=True, plan_minutes="60,6"
    )
    command = [word for word in command if word not in ("-with-trace", "trace_of_test.txt")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".nextflow")] == ["work"]
    assert not list((tmp_path / "work").iterdir())

    told = Forecast(done.stdout)
    nodes, predicted = 12 * 4 * (1 + 8 * 4), 12 * 4 * (1 + 5 * 3)
    assert told.tasks() == {
        "PREPARE": 4, "QUERY": nodes, "ANNOTATE": nodes, "TRAIN": 7920, "PREDICT": predicted, "EVALUATE": nodes,
        "ANALYSE": 1, "REPORT": 1,
    }  # fmt: skip
    assert {told.count(row, "TRAIN") for row in told.tables["Tasks"] if row != "in all"} == {660}
    assert told.count("KiTS high", "patches") == 4 * (500 + 8 * 4 * 500)
    assert told.count("in all", "trajectories") == 12 * 8 * 4
    assert "saves 1,680 of 9,600 trainings" in told.text

    hours = (7920 * 60 + predicted * 6 + nodes * 15) / 60
    assert float(told.tables["Time"]["shared at cycle 0"]["GPU hours"].replace(",", "")) == round(hours)
    # One GPU is never idle once the first labels are there, 16 hardly ever before the end
    for gpus in (1, 4, 16):
        column = f"{gpus} GPU{'s' if gpus > 1 else ''}"
        shared = told.amount("Time", "shared at cycle 0", column)
        assert hours * 60 / gpus == pytest.approx(shared, rel=0.02)
        assert shared < told.amount("Time", "not shared", column)

    for name in ("ACDC", "AMOS", "Hippocampus", "KiTS"):
        assert f"not known: no data in {tmp_path}/nowhere/{name}; networks of 31 million parameters" in told.text
    assert told.amount("Disk", "networks", "store") == pytest.approx(7920 * 31.2e6 * 4, rel=0.01)
    assert told.amount("Disk", "uncertainty maps", "work") == 0


STUDY = """\
dataset,input,regime,start_size,query_size,strategies,seeds,cycles,shards,full_reference
one,phantom,low,8,4,"bald,random",1,3,3,true
one,phantom,high,12,6,"random,predictive_entropy","1,2",2,2,
"""
MINUTES = {"TRAIN": 2.9, "PREDICT": 0.7, "EVALUATE": 0.53, "QUERY": 0.31}
GPUS = (1, 2, 3, 7, 1000)

# The same by hand, for the simulation: shards, strategies with whether they want maps, seeds, cycles
ROWS = [
    (3, {"bald": True, "random": False}, 1, 3),
    (2, {"random": False, "predictive_entropy": True}, 2, 2),
    (0, {}, 1, 1),  # the reference
]
FOLDS = 2


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.csv").write_text(STUDY)
    return folder


@pytest.fixture(scope="module")
def planned(study: Path) -> Forecast:
    return forecast(
        study, "-profile", "test", parser="v2", input="study.csv", folds=FOLDS,
        plan_minutes=" , ".join(map(str, MINUTES.values())), plan_gpus=",".join(map(str, GPUS)),
    )  # fmt: skip


def test_counts_are_those_of_a_run(study: Path, planned: Forecast) -> None:
    done = run_nextflow(study, "-profile", "test,stub", "-stub-run", input="study.csv", folds=FOLDS)
    assert done.returncode == 0, done.output
    assert planned.tasks() == done.tasks("COMPLETED") == done.tasks()
    for row, regime in (("one low", "low"), ("one high", "high"), ("one full (whole pool)", "full")):
        tasks = Counter(name for name, tag in tags(done) if tag.startswith(f"one-{regime}-"))
        stages = [name for name in planned.tables["Tasks"][row] if name.isupper()]
        assert {name: planned.count(row, name) for name in stages} == {name: tasks[name] for name in stages}
    assert planned.count("one low", "patches") == 8 + 2 * 2 * 4
    assert planned.count("one high", "nodes") == 2 * (1 + 2)
    assert planned.count("in all", "trajectories") == 2 + 4
    assert "saves 6 of 30 trainings" in planned.text


def tags(run: Run) -> Iterator[tuple[str, str]]:
    """The stage and the tag of each task."""
    for row in run.trace:
        name, _, tag = row["name"].partition(" (")
        yield name.rpartition(":")[2], tag


class Node(NamedTuple):
    """Of a row of `ROWS`."""

    row: int
    seed: int
    strategy: str
    cycle: int


def simulate(rows: list[tuple[int, dict[str, bool], int, int]], gpus: int) -> float:
    """Minutes to finish, event by event: what is ready joins a line, and the first in it takes the next free GPU."""
    numbers = itertools.count()
    events: list[tuple[float, int, str, Node]] = []
    line: list[tuple[str, Node]] = []
    left = {"TRAIN": defaultdict[Node, int](lambda: FOLDS), "PREDICT": dict[Node, int]()}
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
        asked: list[str] = []
        if what == "labels":
            line += [("TRAIN", node)] * FOLDS
            asked = [name for name, wants in following.items() if not wants]
        else:
            idle += 1
        if what in left:
            left[what][node] -= 1
            if left[what][node] == 0 and what == "TRAIN":
                left["PREDICT"][node] = shards
                line += [("EVALUATE", node)] + [("PREDICT", node)] * (shards if any(following.values()) else 0)
            elif left[what][node] == 0:
                asked = [name for name, wants in following.items() if wants]
        for name in asked:
            at(now + MINUTES["QUERY"], "labels", Node(node.row, node.seed, name, node.cycle + 1))
        while idle and line:
            idle -= 1
            task, its = line.pop(0)
            at(now + MINUTES[task], task, its)
    return now


def test_the_schedule_is_that_of_a_plain_simulation(planned: Forecast) -> None:
    apart = [
        (shards, {name: wants}, seeds, cycles)
        for shards, strategies, seeds, cycles in ROWS
        for name, wants in strategies.items()
    ] + [ROWS[-1]]
    for gpus in GPUS:
        column = f"{gpus:,} GPU{'s' if gpus > 1 else ''}"
        for row, rows in (("shared at cycle 0", ROWS), ("not shared", apart)):
            found, expected = planned.amount("Time", row, column), simulate(rows, gpus)
            assert found == pytest.approx(expected, abs=0.51 if expected < 120 else 3.01), (gpus, row)

    # By hand: one GPU works without a pause, any number waits for one trajectory's cycles
    work = 24 * MINUTES["TRAIN"] + 10 * MINUTES["PREDICT"] + 12 * MINUTES["EVALUATE"]
    assert simulate(ROWS, 1) == pytest.approx(work, abs=MINUTES["QUERY"])
    longest = 3 * (MINUTES["TRAIN"] + MINUTES["QUERY"]) + 2 * MINUTES["PREDICT"] + MINUTES["EVALUATE"]
    assert simulate(ROWS, 1000) == pytest.approx(longest)
    assert planned.amount("Time", "shared at cycle 0", "1,000 GPUs") == pytest.approx(longest, abs=0.51)


TRACE = """\
task_id\thash\tnative_id\tname\tstatus\texit\tsubmit\tduration\trealtime
1\ta\t1\tACTIVE_LEARNING:PREPARE (one)\tCOMPLETED\t0\t-\t1m\t1m
2\ta\t1\tACTIVE_LEARNING:TRAIN (one-low-s1-c00 fold 0)\tCOMPLETED\t0\t-\t3h\t1h 30m
3\ta\t1\tACTIVE_LEARNING:TRAIN (one-low-s1-c00 fold 1)\tCACHED\t0\t-\t3h\t1h 50m
4\ta\t1\tACTIVE_LEARNING:TRAIN (one-low-s1-c00 fold 1)\tFAILED\t1\t-\t9h\t9h
5\ta\t1\tACTIVE_LEARNING:TRAIN (one-b-low-s1-c00 fold 0)\tCOMPLETED\t0\t-\t3h\t40m 30s
6\ta\t1\tACTIVE_LEARNING:TRAIN (one-b-low-s1-c00 fold 1)\tABORTED\t-\t-\t-\t-
7\ta\t1\tACTIVE_LEARNING:EVALUATE (one-b-low-s1-c00)\tCOMPLETED\t0\t-\t3h\t450000
8\ta\t1\tACTIVE_LEARNING:QUERY (one-low-s1 cycle 0)\tCOMPLETED\t0\t-\t3h\t30s
9\ta\t1\tACTIVE_LEARNING:ANNOTATE (one-low-s1-c00)\tCOMPLETED\t0\t-\t3h\t6s
"""


def test_times_of_a_trace_and_images_of_several_kinds(tmp_path: Path) -> None:
    (tmp_path / "trace.txt").write_text(TRACE)
    # Thick slices, one file unpacked, one case thinner: nnU-Net plans the 10th percentile of the thickness, 2.4 mm
    images = [((20, 100, 80), (4.0, 1.0, 1.0)), ((20, 100, 80), (4.0, 1.0, 1.0)), ((40, 100, 80), (2.0, 1.0, 1.0))]
    raw(tmp_path / "one", images, [".nii.gz", ".nii", ".nii.gz"])
    raw(tmp_path / "other", [((20, 20, 20), (1.0, 1.0, 1.0))] * 3, [".mha"] * 3)
    rows = [
        "dataset,input,start_size,query_size,strategies,configuration,groups",
        'one,one,4,4,"random,bald",3d_fullres,nowhere.csv',
        'one-b,other,4,4,"random,bald",3d_fullres,',
        'three,msd:Spleen,4,4,"random,bald",2d,',
        'four,phantom,4,4,"random,bald",3d_fullres,',
    ]
    (tmp_path / "study.csv").write_text("\n".join(rows) + "\n")
    told = forecast(tmp_path, input="study.csv", plan_trace="trace.txt", folds=2, cycles=2)

    minutes = told.tables["Minutes of a task"]
    assert minutes["one"] == {"PREPARE": "1.0", "TRAIN": "100", "PREDICT": "10*", "EVALUATE": "7.5~", "QUERY": "0.60"}
    assert minutes["one-b"] == {
        "PREPARE": "1.0~", "TRAIN": "41", "PREDICT": "4.1*", "EVALUATE": "7.5", "QUERY": "0.60~"
    }  # fmt: skip
    assert minutes["three"]["TRAIN"] == "80~"  # the mean of 90, 110 and 40.5
    assert told.tasks()["DOWNLOAD"] == told.tasks()["PHANTOM"] == 1

    assert re.search("one +3 cases of about 33 x 100 x 80 voxels, channels 2, classes 3; networks of", told.text)
    assert re.search(r"one-b +not known: \S+/other/labelsTr/c0.mha has no head of a NIfTI file; networks", told.text)
    assert re.search(r"three +not known: msd:Spleen is still to be downloaded", told.text)
    assert "Not in it, for lack of images: images and maps of one-b, three." in told.text
    # Two channels, all resampled; and the phantom
    voxels, phantom = 3 * 33 * 100 * 80, 20 * 25 * 42 * 38
    expected = voxels * (2 * 3.6 + 0.04) + 3 * 1e4 + phantom * (3.6 + 0.04) + 20 * 1e4
    assert told.amount("Disk", "prepared images and masks", "work") == pytest.approx(expected, rel=0.05)
    pool = 0.75 * (voxels + phantom)
    assert told.amount("Disk", "uncertainty maps", "work") == pytest.approx(pool * 2 * 3.4, rel=0.1)


def raw(
    folder: Path, images: list[tuple[tuple[int, int, int], tuple[float, float, float]]], endings: list[str]
) -> None:
    """A Decathlon folder with labels only; sizes and spacings are (z, y, x)."""
    (folder / "labelsTr").mkdir(parents=True)
    cases = []
    for i, ((shape, spacing), ending) in enumerate(zip(images, endings, strict=True)):
        image = sitk.GetImageFromArray(np.zeros(shape, np.uint8))
        image.SetSpacing(spacing[::-1])
        sitk.WriteImage(image, str(folder / "labelsTr" / f"c{i}{ending}"))
        cases.append({"image": f"imagesTr/c{i}{ending}", "label": f"labelsTr/c{i}{ending}"})
    head = {"modality": {"0": "T1", "1": "T2"}, "labels": {"0": "background", "1": "a", "2": "b"}, "training": cases}
    (folder / "dataset.json").write_text(json.dumps(head))


def test_a_trace_of_another_workflow(tmp_path: Path) -> None:
    (tmp_path / "trace.txt").write_text(TRACE.replace("TRAIN", "ALIGN"))
    done = run_nextflow(tmp_path, "-profile", "test", plan=True, plan_trace="trace.txt")
    assert done.returncode != 0
    (error,) = [text for text in done.output.splitlines() if "ERROR" in text]
    assert "--plan_trace trace.txt: no training of this workflow has ended in it" in error


def test_disk_is_what_a_run_left(phantom_run: Run, tmp_path: Path) -> None:
    told = forecast(tmp_path, "-profile", "test", publish_uncertainty=True)
    left = phantom_run.folder
    networks = (left / "checkpoints").rglob("checkpoint.pth")
    assert told.amount("Disk", "in all", "store") == pytest.approx(room(networks), rel=0.25)
    files = [path for path in (left / "work").rglob("*") if not path.is_symlink() and path.suffix != ".pth"]
    assert told.amount("Disk", "in all", "work") == pytest.approx(room(files), rel=0.25)
    maps = [path for path in files if path.name.startswith("uncertainty_")]
    assert told.amount("Disk", "uncertainty maps", "work") == pytest.approx(room(maps), rel=0.25)
    assert told.amount("Disk", "in all", "results") == pytest.approx(room((left / "results").rglob("*")), rel=0.25)


def room(paths: Iterable[Path]) -> int:
    """Bytes on the disk, as `du` counts them."""
    return sum(path.lstat().st_blocks * 512 for path in paths)
