"""A run that goes on with other parameters: what runs anew, by the table of docs/going_on.md. How one is stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT, VERSIONS, Run, copy_project, nextflow_command, nextflow_program, run_nextflow

pytestmark = pytest.mark.pipeline

STUB = ("-profile", "test,stub", "-stub-run")
HANG = 900  # seconds after which a run counts as one that waits for labels that never come
PAGE = (ROOT / "docs" / "going_on.md").read_text()


class Line(NamedTuple):
    """A line of the table: its options, processes that get new tasks, and which tasks run again."""

    options: dict[str, str]
    new: set[str]
    again: Callable[[str], bool]


def lines() -> list[Line]:
    """Those with options."""
    rows = [row.strip("|").split("|") for row in PAGE.splitlines() if re.match(r"\|.*`--", row)]
    return [Line(options_in(changed), names(new), rule(again.strip())) for changed, new, again in rows]


def options_in(text: str) -> dict[str, str]:
    """`--name value` or `--name`, in backticks."""
    return {name: value or "true" for name, value in re.findall(r"`--(\w+) ?([^`]*)`", text)}


def names(text: str) -> set[str]:
    return set(re.findall(r"[A-Z]{3,}", text))


def rule(text: str) -> Callable[[str], bool]:
    """Which tasks `QUERY, TRAIN of cycle 1 where maps are read; EVALUATE`, or `all but PHANTOM`, are."""

    def holds(task: str) -> bool:
        process, tag = task.split(" ", 1)
        if text.startswith("all but "):
            return process not in names(text)
        return any(
            process in names(part)
            and (" of cycle 1" not in part or re.search(r"-c01\b|cycle 1\b", tag) is not None)
            and ("where maps are read" not in part or "-predictive_entropy-" in tag)
            for part in text.split("; ")
        )

    return holds


def tasks(run: Run, status: str) -> set[str]:
    """Process and tag of each task."""
    return {row["name"].rpartition("ACTIVE_LEARNING:")[2] for row in run.trace if row["status"] == status}


# Lines whose parameters a table of a study may set: each is a data set there, so that one run tries them all.
COLUMNS = set(json.loads((ROOT / "study_schema.json").read_text())["items"]["properties"])
LINES = [line for line in lines() if set(line.options) <= COLUMNS]
FOR_THE_RUN = [line for line in lines() if not set(line.options) <= COLUMNS]
FIRST = re.findall(r"```text\n(--.*)\n```", PAGE)[0].split()


def table(changed: bool, most: int = len(LINES)) -> str:
    """A study with a data set `d<number>` for each of the first lines, changed as they say or not."""
    columns = sorted({name for line in LINES for name in line.options})
    rows = [["phantom", f"d{i}", *(line.options.get(name, "") if changed else "" for name in columns)]
            for i, line in enumerate(LINES[:most])]  # fmt: skip
    lines = [["input", "dataset", *columns], *rows]
    return "".join(",".join(f'"{cell}"' for cell in line) + "\n" for line in lines)


class Going:
    """A first run, and runs that go on with it in its folder."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder, self.version = folder, version
        self.project = copy_project(folder / "project")
        module = self.project / "modules" / "train.nf"
        head, stub = module.read_text().split("    stub:\n")
        held = f"[[ ! -e {folder}/hold ]] || sleep 300\n"
        module.write_text(f"{head}    stub:\n" + stub.replace('"""\n', f'"""\n    {held}', 1))
        (folder / "site.config").write_text("process { withName: 'QUERY|TRAIN' { cpus = 2 } }\n")
        self.first = self.run(table(False))

    def run(self, study: str, *options: str) -> Run:
        (self.folder / "study.csv").write_text(study)
        done = run_nextflow(
            self.folder, *STUB, *FIRST, "--input", "study.csv", *options, project=self.project, version=self.version,
            measured=False, timeout=HANG,
        )  # fmt: skip
        assert done.returncode == 0, done.output
        return done


@pytest.fixture(scope="module", params=VERSIONS)
def going(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Going:
    nextflow_program(request.param)
    return Going(tmp_path_factory.mktemp("going"), request.param)


def of_dataset(number: int, found: set[str]) -> set[str]:
    return {task for task in found if re.search(rf"\(d{number}\b", task)}


def test_what_changes_what(going: Going) -> None:
    """All lines about a data set at once, with other cores and other files among the results, which change nothing."""
    before = tasks(going.first, "COMPLETED")
    done = going.run(table(True), "-resume", "-c", "site.config", "--publish_models", "--publish_uncertainty")
    ran, kept = tasks(done, "COMPLETED"), tasks(done, "CACHED")
    for number, line in enumerate(LINES):
        was = of_dataset(number, before)
        again = {task for task in was if line.again(task)} & (ran | kept)
        assert of_dataset(number, ran) & was == again, line.options
        assert of_dataset(number, kept) == was & (ran | kept) - again, line.options
        assert {task.split()[0] for task in of_dataset(number, ran) - was} == line.new, line.options
    dropped = {task for task in before - ran - kept if "predictive_entropy" not in task}
    assert dropped == set()  # a strategy less, but all of the others
    assert len(LINES) == 11 and [sorted(line.options) for line in FOR_THE_RUN] == [
        ["publish_models", "publish_uncertainty"], ["view_patches"], ["view_patches"]
    ]  # fmt: skip


def test_other_pictures_are_no_other_queries(going: Going) -> None:
    """And what has changed meanwhile is undone: all else comes from the first run."""
    pictures, none = FOR_THE_RUN[1:]
    assert (pictures.options, none.options) == ({"view_patches": "3"}, {"view_patches": "0"})
    before = tasks(going.first, "COMPLETED")
    done = going.run(table(False), "-resume", "--view_patches", "3")
    again = {task for task in before if pictures.again(task)} | {"REPORT (all)", "PROTOCOL (parameters.json)"}
    assert tasks(done, "COMPLETED") == again
    assert tasks(done, "CACHED") == before - again


def test_no_pictures_and_what_is_left_of_earlier_runs(going: Going) -> None:
    done = going.run(table(False, most=1), "-resume", "--view_patches", "0")
    last = "Beside it results still holds ensembles of earlier runs, which it leaves out: "
    mine = {"d0-main-s1-c00", "d0-main-random-s1-c01", "d0-main-predictive_entropy-s1-c01"}
    others = sorted({path.stem for path in (going.folder / "results" / "metrics").iterdir()} - mine)
    assert len(others) > 5 and done.stdout.splitlines()[-1] == f"{last}{', '.join(others[:5])}, .."
    assert "Beside it" not in going.first.stdout
    assert tasks(done, "COMPLETED") == {
        "ANALYSE (all)",
        "REPORT (all)",
        "PROTOCOL (parameters.json)",
        "PROTOCOL (cases.csv)",
    }
    assert of_dataset(0, tasks(done, "CACHED")) == {
        task for task in of_dataset(0, tasks(going.first, "COMPLETED")) if not task.startswith("VIEWS")
    }


def test_a_run_that_is_stopped_says_so(going: Going) -> None:
    """By Ctrl-C, which reaches Nextflow and its tasks."""
    (going.folder / "hold").touch()
    (going.folder / "study.csv").write_text(table(False, most=1))
    command = nextflow_command(
        *STUB, *FIRST, "-resume", project=going.project, version=going.version, input="study.csv", epochs=9
    )
    with subprocess.Popen(
        command, cwd=going.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True, env={**os.environ, "NXF_DISABLE_CHECK_LATEST": "true"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # which tests in the background ignore
    ) as started:  # fmt: skip
        assert started.stdout is not None
        said = []
        for line in started.stdout:
            said.append(line.strip())
            if "Submitted process > ACTIVE_LEARNING:TRAIN" in line:
                os.killpg(started.pid, signal.SIGINT)
                break
        said += [line.strip() for line in started.stdout]
    (going.folder / "hold").unlink()
    assert started.returncode != 0
    told = [line for line in said if line.startswith("The run")]
    report = going.folder / "results" / "report.html"
    assert told == [
        "The run was stopped. The same command with -resume goes on from there. "
        f"Until then {report} is an earlier run's."
    ], said


# What each strategy's query is told of the run's cycles, and what the run says of an earlier one with others.
TOLD = """
include { check_settings ; prepare_settings ; query_settings } from './functions/settings.nf'
include { kept_file } from './functions/given.nf'
include { options } from './functions/shell.nf'
include { next_trajectories ; node_of ; plan_rows ; start_trajectories } from './functions/plan.nf'
include { schedule_warnings ; study_rows } from './functions/study.nf'
include { typed_parameters } from './functions/parameters.nf'

workflow {
    main:
    def values = typed_parameters(params)
    def rows = study_rows(values)
    schedule_warnings(values, rows).each { line -> println("told ${line}") }
    def plan = plan_rows(rows)
    plan.each { row ->
        def start = node_of(plan, start_trajectories([row])[0])
        next_trajectories(plan, start).each { trajectory ->
            println("cycles ${trajectory.id} ${query_settings(row, trajectory, start).cycles}")
        }
        def sizes = (0..<row.cycles).collect { cycle ->
            def strategy = cycle ? row.strategies[0] : row.start
            query_settings(row, start + [cycle: cycle, strategy: strategy.name], start).size
        }
        println("sizes ${row.dataset}-${row.regime} ${sizes.join(' ')}")
        def first = query_settings(row, start_trajectories([row])[0], start)
        println("start ${row.dataset}-${row.regime} ${first.strategy} ${first.class_guarantee}")
        println("split ${row.dataset} ${options(prepare_settings([row]))} | ${options(check_settings([row]))}")
    }
    println("kept ${kept_file('start.csv')} ${kept_file('same.csv')} ${kept_file('test.txt')} ${kept_file(null)}")
}
"""
SCHEDULES = (
    "input,dataset,regime,cycles,strategies,test_cases,query_size,start_queries,folds_file\n"
    + "".join(
        f"phantom,a,{regime},{cycles},{names},,,,\n"
        for regime, cycles, names in (
            ("one", 3, '"random,clasp_pe,clasp_pe:steps=5"'),
            ("two", 4, "clasp_pe:cap=2"),
            ("new", 4, "clasp_pe"),
            ("same", 5, "clasp_pe"),
        )
    )
    + "".join(
        f'phantom,{name},main,3,random,{given},"4, 6",{more}\n'
        for name, given, more in (
            ("b", "test.txt", "start.csv,"),
            ("c", "cases.csv", "same.csv,folds.csv"),
            ("d", "imagesTs", ",folds.csv"),
        )
    )
)
FILES = {
    "start.csv": "rank,case",
    "same.csv": "rank,case",
    "folds.csv": "case,fold",
    "test.txt": "\ufeff# held out\n\n  it's_1 \ncase, 2\n#case_3\ncase_4",
    "cases.csv": '\ufeffcase,group,split,z\ncase_1,p,test,3\ncase_2,p,pool,3\n"case, 3",q,test,4\n',
}
GIVEN = {
    "b": {"start_queries": ("start.csv", "given_1")},
    "c": {"start_queries": ("same.csv", "given_1"), "folds_file": ("folds.csv", "given_2")},
    "d": {"folds_file": ("folds.csv", "given_1")},
}
SPLITS = {
    "a": "--test-fraction 0.25 --split-seed 12345",
    "b": "--test-case 'it'\\''s_1' --test-case 'case, 2' --test-case case_4",
    "c": "--test-case case_1 --test-case 'case, 3'", "d": "--test-folder",
}  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_what_stages_are_told_and_what_is_said_of_a_change(tmp_path: Path, version: str) -> None:
    """Cycles to schedules alone, test sets where they are given.

    The earlier run had 2 cycles in its first row, 5 in the others, and no third strategy.
    """
    mine = copy_project(tmp_path / "project")
    (mine / "main.nf").write_text(TOLD)
    (tmp_path / "study.csv").write_text(SCHEDULES)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "results").mkdir()
    before = {
        "cycles": 5, "strategies": "clasp_pe", "study_row_1": {"cycles": "2", "strategies": "clasp_pe, random"},
        "study_row_2": {"strategies": "bald,clasp_pe:cap=2"}, "study_row_3": {"strategies": "random"},
        "study_row_4": {},
    }  # fmt: skip
    (tmp_path / "results" / "parameters.json").write_text(json.dumps(before))
    done = run_nextflow(
        tmp_path, "-profile", "test", project=mine, version=version, input="study.csv", timeout=HANG, measured=False,
    )  # fmt: skip
    assert done.returncode == 0, done.output
    sizes = re.findall(r"^sizes (\S+) (.*)$", done.stdout, flags=re.MULTILINE)
    assert dict(sizes) == {
        "a-one": "12 8 8", "a-two": "12 8 8 8", "a-new": "12 8 8 8", "a-same": "12 8 8 8 8",
        "b-main": "12 4 6", "c-main": "12 4 6", "d-main": "12 4 6",
    }  # fmt: skip
    starts = re.findall(r"^start (\S+) (\S+) (\S+)$", done.stdout, flags=re.MULTILINE)
    given = ("replay:path=start_queries", "null")
    assert {name: rest for name, *rest in starts if not name.startswith("a")} == {
        "b-main": [*given], "c-main": [*given], "d-main": ["random_fg33", "true"]
    }  # fmt: skip
    (kept,) = re.findall(r"^kept (\S+) (\S+) (\S+) (\S+)$", done.stdout, flags=re.MULTILINE)
    assert Path(kept[0]).parent == tmp_path / "work" / "given" and Path(kept[0]).read_text() == FILES["start.csv"]
    assert kept[0] == kept[1] != kept[2] and kept[3] == "[]"
    told_splits = re.findall(r"^split (\w) (.*) \| (.*)$", done.stdout, flags=re.MULTILINE)
    assert {name for name, *_ in told_splits} == set(SPLITS)
    for name, prepare, check in told_splits:
        (rows,) = json.loads(re.findall(r"--rows '(.*?\])'", check)[0])
        assert rows["given"] == {
            parameter: [str(tmp_path / file), staged] for parameter, (file, staged) in GIVEN.get(name, {}).items()
        }
        assert prepare.endswith(f" {SPLITS[name]}") and check.endswith(SPLITS[name].partition(" --split-seed")[0])
    assert re.findall(r"^cycles (\S+) (\S+)$", done.stdout, flags=re.MULTILINE) == [
        ("a-one-random-s12345", "null"), ("a-one-clasp_pe-s12345", "3"), ("a-one-clasp_pe_steps_5-s12345", "null"),
        ("a-two-clasp_pe_cap_2-s12345", "4"), ("a-new-clasp_pe-s12345", "4"), ("a-same-clasp_pe-s12345", "5"),
        *((f"{name}-main-random-s12345", "null") for name in "bcd"),
    ]  # fmt: skip
    told = re.findall(r"^told (.*)$", done.stdout, flags=re.MULTILINE)
    assert [line.split(":")[0] for line in told] == ["study.csv, row 1", "study.csv, row 2"]
    assert "queries of clasp_pe change" in told[0] and "3 instead of 2; clasp_pe:steps=2 queries as before" in told[0]
    assert "4 instead of 5; clasp_pe:cap=2:steps=5 queries as before" in told[1]
