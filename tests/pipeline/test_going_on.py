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
    done = going.run(
        table(True), "-resume", "-c", "site.config", "--publish_models", "--publish_uncertainty", "--tensorboard"
    )
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
        ["publish_models", "publish_uncertainty", "tensorboard"], ["view_patches"], ["view_patches"]
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
