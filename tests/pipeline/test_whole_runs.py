"""Whole runs with real trainings on small data: what a user sees, what a killed run leaves, what runs anew."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import NEXTFLOW_26, ROOT, VERSIONS, Run, copy_project, nextflow_command, run_nextflow
from pages import PAGES, blocks, columns_of_tables, names_in, spans, tables
from plan import ROW, Told, make_row, write_plan

from nnactive_nf.forecast.disk import Publishing
from nnactive_nf.forecast.run import Times, forecast

AFTER_TRAIN = {"PREDICT", "EVALUATE", "QUERY", "VIEWS", "ANNOTATE", "ANALYSE", "REPORT"}

# A part of what `phantom_run` does.
FIRST_CYCLES: dict[str, Any] = {"strategies": "predictive_entropy", "cycles": 2}

# Tables of packages (docs/people.md), and those that users bring.
OF_PACKAGES = {"tasks.csv", "deliveries.csv", "patches_mm.csv", "reserve.csv", "double_read.csv", "agreement.csv"}
OF_USERS = {"groups.csv"}

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


def queries(results: Path) -> dict[str, str]:
    """Every query table of a run, by trajectory and name."""
    folder = results / "queries"
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.csv")}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def assert_the_same_first_cycles(mine: Path, whole: Path, *tables: str) -> None:
    """The results of a run of `FIRST_CYCLES` are those of the phantom run that are not of the rest of it."""
    assert queries(mine) == {
        name: text for name, text in queries(whole).items() if "c02" not in name and "-random-" not in name
    }
    for name in tables:
        assert rows(mine / "tables" / name) == [
            row for row in rows(whole / "tables" / name) if int(row["cycle"]) < 2 and row["strategy"] != "random"
        ]


def test_the_phantom_run_makes_what_the_readme_promises(phantom_run: Run) -> None:
    results = phantom_run.folder / "results"
    strategies, cycles, folds = 2, 3, 2
    nodes = 1 + strategies * (cycles - 1)
    tasks = phantom_run.tasks("COMPLETED")
    assert tasks["TRAIN"] == folds * nodes
    assert tasks["EVALUATE"] == tasks["ANNOTATE"] == nodes
    # predictive_entropy asks for maps at cycles 0 and 1, random never does
    assert tasks["PREDICT"] == 2
    for name in ("report.html", "cases.csv", "parameters.json", "versions.json", "tables/metrics.csv"):
        assert (results / name).stat().st_size > 0, name
    for name in ("timeline", "report", "dag"):  # the trace goes where the test reads it
        assert len(list((results / "pipeline_info").glob(f"{name}_*.html"))) == 1
    metrics = rows(results / "tables" / "metrics.csv")
    of_mean = [row for row in metrics if row["class"] == "mean"]
    assert len(of_mean) == strategies * cycles
    assert {row["class"] for row in metrics} == {"mean", "organ", "tail", "lesion"}
    assert max(float(row["dice"]) for row in of_mean) > 0.3, "the networks have learned nothing"
    assert len(rows(results / "tables" / "queries.csv")) == strategies * (12 + 2 * 8)
    assert len(list((results / "labels").rglob("*.h5"))) == nodes
    assert len(list((results / "uncertainty").rglob("*.h5"))) == 2
    page = (results / "report.html").read_text()
    assert "predictive_entropy" in page or "Predictive Entropy" in page


@pytest.fixture(scope="module")
def names(phantom_run: Run) -> dict[str, set[str]]:
    """What `<trajectory>`, `<node>`, `<class>`, .. stand for in docs/outputs.md. Starts name no strategy."""
    results = phantom_run.folder / "results"
    metrics = rows(results / "tables" / "metrics.csv")
    nodes = {row["node"] for row in metrics}
    return {
        "case": {row["case"] for row in rows(results / "cases.csv")},
        "maps": {"predictive_entropy"},
        "shard": {"0"},
        "trajectory": {node.rpartition("-c")[0] for node in nodes},
        "node": nodes,
        "class": {row["class"] for row in metrics} - {"mean"} | {"background"},
    }


def as_pattern(documented: str, names: dict[str, set[str]]) -> re.Pattern[str]:
    """Paths or columns that one in the documentation stands for; a folder stands for all in it."""
    pattern = re.escape(documented)
    for name, values in names.items():
        pattern = pattern.replace(f"<{name}>", f"(?:{'|'.join(map(re.escape, sorted(values)))})")
    pattern = re.sub(r"(?<=_c)NN|(?<=fold_)F", lambda found: r"\d" * len(found[0]), pattern)
    return re.compile(pattern + ".+" if documented.endswith("/") else pattern)


def test_the_docs_name_every_published_file_and_no_other(phantom_run: Run, names: dict[str, set[str]]) -> None:
    results = phantom_run.folder / "results"
    (table,) = [table for table in tables(ROOT / "docs" / "outputs.md") if table.rows[0][0] == "path"]
    always = [row for row in table.rows[1:] if "where they are asked for" not in row[1]]
    documented = [as_pattern(name, names) for row in always for name in names_in(row[0])]
    published = [str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()]
    assert [path for path in published if not any(pattern.fullmatch(path) for pattern in documented)] == []
    assert [pattern.pattern for pattern in documented if not any(map(pattern.fullmatch, published))] == []

    (table,) = [table for table in tables(ROOT / "README.md") if table.rows[0][0] == "in `--outdir`"]
    for row in table.rows[1:]:
        for name in names_in(row[0]):
            assert (results / name).exists(), name
            assert all((results / name / inside).exists() for inside in names_in(row[1])), row


def test_the_docs_name_every_column_and_no_other(phantom_run: Run, names: dict[str, set[str]]) -> None:
    """Of the files in `tables/`, each of which has a place in the documentation."""
    folder = phantom_run.folder / "results" / "tables"
    documented = columns_of_tables()
    assert sorted(documented) == sorted(path.name for path in folder.iterdir() if ".csv" in path.suffixes)
    for name, columns in documented.items():
        written = list(pd.read_csv(folder / name, nrows=0))
        patterns = [as_pattern(column, names) for column in columns]
        assert [column for column in written if not any(p.fullmatch(column) for p in patterns)] == [], name
        assert [p.pattern for p in patterns if not any(map(p.fullmatch, written))] == [], name
    in_sentences = {code.text for page in PAGES for code in spans(page) if re.fullmatch(r"[a-z_]+\.csv", code.text)}
    elsewhere = {
        *OF_USERS,
        *OF_PACKAGES,
        "cases.csv",
        "query.csv",
        *(path.name for path in (ROOT / "conf" / "studies").iterdir()),
    }
    assert in_sentences - elsewhere - set(documented) == set()
    inside = next(row for table in tables(ROOT / "docs" / "outputs.md") for row in table.rows if row[0] == "`tables/`")
    assert {path.name for path in folder.iterdir() if path.suffix != ".csv"} == set(names_in(inside[1]))


def test_the_python_of_the_docs_reads_the_results(phantom_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strategies are run by tests/unit/test_query_own.py, trainers by tests/stages/test_own_trainer.py."""
    monkeypatch.chdir(phantom_run.folder)
    assert {page.name for page in PAGES if blocks(page, "python")} == {"outputs.md", "strategies.md", "trainers.md"}
    for block in blocks(ROOT / "docs" / "outputs.md", "python"):
        found: dict[str, Any] = {}
        exec(compile(block.text, block.where, "exec"), found)
        assert sorted(found["mean"].columns) == ["predictive_entropy", "random"]
        assert list(found["mean"].index) == [12, 20, 28]
        assert found["mask"].ndim == 3


def test_the_terminal_says_what_the_docs_show(phantom_run: Run) -> None:
    """Line by line but for the figures: the example is this run's, whose Dice may differ on another machine."""
    (block,) = blocks(ROOT / "docs" / "outputs.md", "text")
    printed = phantom_run.stdout.splitlines()
    for line in block.text.splitlines():
        pattern = re.sub(r"\d+(\\\.\d+)?", r"\\d+(\\.\\d+)?", re.escape(line))
        assert any(re.fullmatch(pattern, other) for other in printed), line


def test_disk_is_what_a_run_left(phantom_run: Run, tmp_path: Path) -> None:
    left = phantom_run.folder
    values = json.loads((left / "results" / "parameters.json").read_text())
    known = {name: values[name] for name in ROW if name in values}
    one = {"dataset": "phantom", "source": "phantom", "seeds": [12345], "query_size": int(values["query_size"])}
    row = make_row(values["strategies"], **known | one)
    plan = write_plan(tmp_path / "plan.json", [row])
    (raw,) = [path.parent for path in left.glob("work/*/*/phantom/imagesTr")]
    told = Told(forecast(plan, {"phantom": raw}, Times(None, None, None, (1,)), Publishing("copy", True, True)))
    assert told.tasks() == phantom_run.tasks()

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


def test_a_second_run_with_resume_runs_nothing(phantom_run: Run) -> None:
    again = run_nextflow(
        phantom_run.folder, "-profile", "test", "-resume", publish_uncertainty=True, publish_models=True,
        tensorboard=True,
    )  # fmt: skip
    assert again.returncode == 0, again.output
    assert again.trace
    assert {row["status"] for row in again.trace} == {"CACHED"}


def test_shards_cores_and_parser_choose_the_same_patches(phantom_run: Run, tmp_path: Path) -> None:
    """Trainings come from the first run's store, so they return at once; maps and queries are made anew."""
    (tmp_path / "site.config").write_text("process { withName: 'PREPARE|QUERY|TRAIN' { cpus = 2 } }\n")
    done = run_nextflow(
        tmp_path, "-profile", "test", "-c", "site.config", version=VERSIONS[NEXTFLOW_26.exists()],
        shards=3, **FIRST_CYCLES, checkpoint_store=phantom_run.folder / "checkpoints",
    )  # fmt: skip
    assert done.returncode == 0, done.output
    assert done.tasks("COMPLETED")["PREDICT"] == 3
    trainings = [row for row in done.trace if ":TRAIN " in row["name"]]
    log = next((tmp_path / "work").glob(f"{trainings[0]['hash']}*")) / ".command.out"
    assert "was trained before" in log.read_text()
    assert_the_same_first_cycles(tmp_path / "results", phantom_run.folder / "results", "metrics.csv", "queries.csv")


def test_a_killed_run_goes_on_and_ends_the_same(phantom_run: Run, tmp_path: Path) -> None:
    """Nextflow and its tasks are killed (-9) in mid-training of cycle 1; `-resume` ends as the undisturbed run did.

    Cycle 0 was trained by that run, and is taken from its store.
    """
    store = tmp_path / "checkpoints"
    for folder in trained_first(phantom_run.folder / "checkpoints", 2):
        shutil.copytree(folder, store / folder.relative_to(phantom_run.folder / "checkpoints"))

    def finished_folds() -> dict[Path, int]:
        """The finished folds with their times; one that is being written lies a folder deeper."""
        return {path: path.stat().st_mtime_ns for path in store.glob("*/*/finished/checkpoint.pth")}

    def in_the_second_cycle() -> bool:
        """Two trainings are done, and another has begun and is not; a state goes when its training is done."""
        return len(finished_folds()) >= 2 and len(list(store.rglob("latest.pth"))) >= 1

    with (tmp_path / "first.log").open("w") as log:
        run = subprocess.Popen(
            nextflow_command("-profile", "test", **FIRST_CYCLES),
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        held = False
        while not held:
            wait_until(in_the_second_cycle, while_alive=run, log=tmp_path / "first.log")
            signal_family(run.pid, signal.SIGSTOP)
            held = in_the_second_cycle()  # also now that nothing moves
            signal_family(run.pid, signal.SIGKILL if held else signal.SIGCONT)
        run.wait()
    finished = finished_folds()
    assert 2 <= len(finished) < 4

    done = run_nextflow(tmp_path, "-profile", "test", "-resume", **FIRST_CYCLES)
    assert done.returncode == 0, done.output
    assert finished_folds().items() >= finished.items(), "a finished fold was trained again"
    assert len(finished_folds()) == 4
    trained = [json.loads(path.read_text()) for path in (tmp_path / "results" / "training").rglob("*.json")]
    assert len(trained) == 4
    resumed = [record for record in trained if record["resumed_from"]]
    assert resumed, "no training went on from its checkpoint"
    assert all(0 < epoch < 4 for record in resumed for epoch in record["resumed_from"])
    assert all(len(record["curve"]) == 4 for record in trained)

    assert_the_same_first_cycles(tmp_path / "results", phantom_run.folder / "results", "metrics.csv")


def trained_first(store: Path, number: int) -> list[Path]:
    """A store's folders of the trainings that were done first."""
    done = sorted(store.glob("*/*/finished/checkpoint.pth"), key=lambda path: path.stat().st_mtime_ns)
    return [path.parents[1] for path in done[:number]]


def wait_until(
    condition: Callable[[], bool], while_alive: subprocess.Popen[bytes], log: Path, limit: float = 900
) -> None:
    end = time.monotonic() + limit
    while not condition():
        assert while_alive.poll() is None, f"the run ended before it could be killed: {log.read_text()}"
        assert time.monotonic() < end, f"nothing to kill within {limit} s: {log.read_text()}"
        time.sleep(0.2)


def signal_family(pid: int, number: signal.Signals) -> None:
    """Signal a process and all below it; tasks run in sessions of their own, so by parentage, not by group."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    for member in family:
        try:
            os.kill(member, number)
        except ProcessLookupError:
            continue


def test_a_changed_line_runs_anew_what_rests_on_it(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")

    def run() -> Counter[str]:
        done = run_nextflow(tmp_path, "-profile", "test,stub", "-stub-run", "-resume", project=project, cycles=2)
        assert done.returncode == 0, done.output
        assert set(done.tasks()) == {"PHANTOM", "CHECK", "PREPARE", "PROTOCOL", "TRAIN", *AFTER_TRAIN}
        return done.tasks("COMPLETED")

    run()
    for changed, runs in {
        "bin/nnactive_nf/report/templates/report.html.j2": {"REPORT"},
        "bin/nnactive_nf/evaluate/measures.py": {"EVALUATE", "ANALYSE", "REPORT"},
        "bin/nnactive_nf/train/trainer.py": {"TRAIN", *AFTER_TRAIN},
    }.items():
        path = project / changed
        path.write_text(path.read_text() + "\n")
        assert set(run()) == runs, changed


def test_what_check_refuses_ends_the_run_before_any_data_set_is_prepared(phantom: Path, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    shutil.copytree(phantom, folder)
    sorted((folder / "labelsTr").iterdir())[1].unlink()
    (tmp_path / "own.py").write_text("MAPS = []\n\ndef mine(image, margin=1):\n    pass\n")
    (tmp_path / "study.csv").write_text(
        "dataset,input,groups,strategies,start_size\n"
        f'good,{phantom},{phantom}/groups.csv,"random,mine:margin=2",8\n'
        f'bad,raw,raw/groups.csv,"random,mine:x=1",8\n'
    )
    # The refused one comes last by far, so that the other would be prepared meanwhile if it did not wait.
    (tmp_path / "slow.config").write_text(
        f"process.beforeScript = {{ 'export PATH={ROOT}/.venv/bin:$PATH; ' + (task.tag == 'bad' ? 'sleep 20' : '') }}\n"
    )
    done = run_nextflow(
        tmp_path, "-profile", "test", "-c", "slow.config", input="study.csv", strategy_file="own.py"
    )  # fmt: skip
    assert done.returncode != 0
    assert "Traceback" not in done.output and "\tat " not in done.output
    told = [line.strip() for line in done.output.splitlines() if line.strip().startswith("ERROR: ")]
    assert told[0].startswith("ERROR: study.csv, row 2: strategy_file own.py: options of strategy 'mine' do not fit")
    assert re.match(rf"ERROR: case \S+: label is missing \({folder}/labelsTr/\S+\)$", told[1])
    assert set(done.tasks()) - {"PROTOCOL"} == {"CHECK"}


def test_a_broken_voxel_ends_the_run_before_any_training(phantom: Path, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    shutil.copytree(phantom, folder)
    image = sorted((folder / "imagesTr").iterdir())[0]
    image.write_bytes(image.read_bytes()[:3000])
    done = run_nextflow(tmp_path, "-profile", "test", input=folder, groups=folder / "groups.csv", start_size=8)
    assert done.returncode != 0
    # the reason stands last and alone, behind all that Nextflow says of a failed task
    *_, failed, reason = done.stdout.strip().splitlines()
    assert failed.startswith("The run has failed.") and re.match(r"ERROR: case \S+: image \S+ cannot be read", reason)
    assert "Traceback" not in done.output and "\tat " not in done.output
    assert set(done.tasks()) - {"PROTOCOL"} == {"CHECK", "PREPARE"}


@pytest.mark.hippocampus
def test_hippocampus_small(hippocampus: Path, tmp_path: Path) -> None:
    """A dozen real cases of the Decathlon in its own layout, with the profile of the long run."""
    head = json.loads((hippocampus / "dataset.json").read_text())
    head["training"] = head["training"][:12]
    folder = tmp_path / "Task04_Hippocampus"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for entry in head["training"]:
        for key in ("image", "label"):
            (folder / entry[key]).symlink_to((hippocampus / entry[key]).resolve())
    (folder / "dataset.json").write_text(json.dumps(head))
    done = run_nextflow(
        tmp_path, "-profile", "hippocampus_cpu", input=folder, strategies="bald", seeds=1, cycles=2,
        folds=2, epochs=4, iterations=30, start_size=8, query_size=8, features=4, patch_size="12,16,12",
        full_reference="false", optimiser="adamw", learning_rate=0.01,
    )  # fmt: skip
    assert done.returncode == 0, done.output
    results = tmp_path / "results"
    of_mean = [row for row in rows(results / "tables" / "metrics.csv") if row["class"] == "mean"]
    assert len(of_mean) == 2
    assert max(float(row["dice"]) for row in of_mean) > 0.2, "the networks have learned nothing"
    assert (results / "report.html").is_file()
