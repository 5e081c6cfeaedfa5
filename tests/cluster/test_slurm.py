"""The workflow on a real SLURM, its tasks in a real container: what is submitted, and what survives stops and kills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SLURM_CONF, Run, nextflow_command, run_nextflow
from preflight_table import of, table

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

GPU = ("TRAIN", "PREDICT", "EVALUATE")
SMALL = {"cycles": 2, "epochs": 2, "iterations": 10, "phantom_cases": 12, "strategies": "bald"}
# One node of two folds. Many short epochs: also on a fast machine both trainings are far from their end when both have
# written their first checkpoint.
ONE_NODE = {"cycles": 1, "epochs": 30, "iterations": 12, "phantom_cases": 12, "strategies": "random"}

# QUERY alone is done before SLURM, which looks every two seconds, has seen what it holds. So its first attempt starts
# with a process that holds 200 MB and waits to be killed for it; where it is not, the query passes and the test fails.
HOLD = "import time; held = bytes(range(1, 201)) * 2**20; time.sleep(300)"
STARVED = f"""
process {{
    withName: 'QUERY' {{
        memory = {{ task.attempt == 1 ? 60.MB : 3.GB }}
        beforeScript = {{ task.attempt == 1 ? '{sys.executable} -c "{HOLD}"' : '' }}
    }}
}}
"""
JOBS = SLURM_CONF.parent / "log" / "jobs.txt"  # a line for each job that has ended, of all runs
WAIT = 1800  # seconds after which a run counts as one that hangs


@pytest.fixture(scope="module")
def on_slurm(slurm, apptainer_image, here_config, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("slurm")
    done = run_nextflow(folder, "-profile", "slurm,apptainer,test", "-c", here_config, env=slurm, **SMALL)
    assert done.returncode == 0, done.output
    return done


def job_scripts(folder: Path) -> dict[str, str]:
    """The submitted scripts by the tasks' names."""
    texts = [path.read_text() for path in (folder / "work").glob("*/*/.command.run")]
    return {text.split("### name: '", 1)[1].split("'", 1)[0].rpartition(":")[2]: text for text in texts}


def test_the_phantom_run_passes(on_slurm):
    assert set(on_slurm.tasks()) == set(on_slurm.tasks("COMPLETED"))
    assert on_slurm.tasks("COMPLETED")["TRAIN"] == 2 * 2
    assert (on_slurm.folder / "results" / "report.html").stat().st_size > 0


def test_gpu_tasks_ask_for_a_gpu_and_the_others_do_not(on_slurm):
    scripts = job_scripts(on_slurm.folder)
    assert {name.split(" ")[0] for name in scripts} >= {*GPU, "PREPARE", "QUERY", "ANNOTATE", "ANALYSE", "REPORT"}
    for name, text in scripts.items():
        assert ("--gres=gpu:1" in text) == name.startswith(GPU), name


def test_every_task_ran_in_the_container(on_slurm, apptainer_image):
    """Their logs show it too: the image's Python is not this machine's."""
    for name, text in job_scripts(on_slurm.folder).items():
        assert "apptainer exec" in text, name
        assert str(apptainer_image) in text, name


def test_the_preflight_passes(slurm, apptainer_image, here_config, tmp_path):
    """The profile test has --device cpu, but its jobs have a GPU reserved: that is said, and no fault."""
    run = run_nextflow(tmp_path, "--preflight", "-profile", "slurm,apptainer,test", "-c", here_config, env=slurm)
    assert run.returncode == 0, run.output
    lines = table(run)
    assert {line.where.split(" ")[0] for line in lines} == {os.uname().nodename}
    assert [line.check for line in lines if line.state != "ok"] == ["GPU"]
    assert of(lines, "GPU", "gpu").remedy == "add the profile cpu"
    assert of(lines, "CUDA_VISIBLE_DEVICES", "gpu").what.startswith(("'0'", "'1'"))
    for label in ("cpu_low", "cpu", "gpu"):
        assert of(lines, "task starts", label).what == f"slurm, apptainer, {apptainer_image}"


def test_a_queue_that_is_not_there(slurm, apptainer_image, here_config, tmp_path):
    site = tmp_path / "site.config"
    site.write_text(here_config.read_text() + "process.queue = 'nowhere'\n")
    run = run_nextflow(tmp_path, "--preflight", "-profile", "slurm,apptainer,cpu", "-c", site, env=slurm)
    assert run.returncode == 1
    faults = [line for line in table(run) if line.state == "FAULT"]
    assert faults
    assert "the scheduler does not know the queue: invalid partition specified: nowhere" in faults[0].what


class Started:
    """A run in the background."""

    def __init__(self, folder: Path, env: dict[str, str], *args: object, **params: object) -> None:
        self.folder, self.env = folder, {**os.environ, **env, "PYTHONDONTWRITEBYTECODE": "1"}
        folder.mkdir(exist_ok=True)
        self.log = folder / "output.txt"
        with self.log.open("w") as file:
            self.process = subprocess.Popen(
                nextflow_command(*args, **params), cwd=folder, env=self.env, stdout=file, stderr=subprocess.STDOUT
            )

    def jobs(self, name: str = "", states: str = "R") -> list[str]:
        """Numbers of this run's jobs with `name` in theirs, as they were submitted: those that run, or in `states`."""
        listed = self._tell("squeue", "-h", "-t", states, "-o", "%i %Z %j").splitlines()
        rows = [line.split(" ", 2) for line in listed]
        return sorted((job for job, work, title in rows if str(self.folder) in work and name in title), key=int)

    def signal(self, *args: str) -> None:
        self._tell("scancel", *args)

    def kill_with_jobs(self) -> None:
        """Kill Nextflow and cancel its jobs; wait for their end, since a training that is told to end still saves."""
        self.process.kill()
        self.process.wait()
        told: set[str] = set()
        end = time.monotonic() + WAIT
        while left := self.jobs(states="PD,R,S,CG"):
            assert time.monotonic() < end, f"jobs do not end: {left}"
            if new := set(left) - told:
                self.signal("--full", *new)
            told |= new
            time.sleep(0.5)

    def _tell(self, *command: str) -> str:
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=False).stdout

    def wait_for(self, what: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT
        while not what():
            assert time.monotonic() < end, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.5)


def test_stopped_killed_and_starved_jobs_come_back(slurm, apptainer_image, here_config, tmp_path):
    """Everything is cancelled and the run resumed; then one training is told to end, as a time limit does, the other is
    killed, and a task exceeds its memory."""
    starved = tmp_path / "starved.config"
    starved.write_text(here_config.read_text() + STARVED)
    arguments = ("-profile", "slurm,apptainer,test", "-c", starved)
    store = tmp_path / "run" / "checkpoints"
    earlier = len(JOBS.read_text().splitlines()) if JOBS.exists() else 0

    first = Started(tmp_path / "run", slurm, *arguments, **ONE_NODE)
    first.wait_for(lambda: len(list(store.rglob("latest.pth"))) == 2)
    first.kill_with_jobs()

    before = {path: path.stat().st_mtime_ns for path in store.rglob("latest.pth")}
    second = Started(tmp_path / "run", slurm, *arguments, "-resume", **ONE_NODE)
    # both have gone on from their checkpoints and written the next
    second.wait_for(lambda: all(path.stat().st_mtime_ns > then for path, then in before.items()))
    stopped, killed = second.jobs("TRAIN")
    second.signal("--batch", "--signal=USR2", stopped)
    second.signal("--full", "--signal=KILL", killed)
    assert second.process.wait(timeout=WAIT) == 0, second.log.read_text()

    results = tmp_path / "run" / "results"
    assert (results / "report.html").exists()
    records = [json.loads(path.read_text()) for path in sorted((results / "training").rglob("*.json"))]
    assert [record["fold"] for record in records] == [0, 1]
    for record in records:
        assert [point["epoch"] for point in record["curve"]] == list(range(ONE_NODE["epochs"]))
        assert len(record["resumed_from"]) == 2, "once after the cancelled run, once after its own stop"
        assert 0 < record["resumed_from"][0] < record["resumed_from"][1]
    # What SLURM and Nextflow say of it: the query was killed once for its memory and came back with more.
    here = [line for line in JOBS.read_text().splitlines()[earlier:] if str(tmp_path) in line]
    queries = [
        (line.split("JobState=")[1].split()[0], line.split("mem=")[1].split(",")[0])
        for line in here
        if "_QUERY_" in line
    ]
    assert queries == [("FAILED", "60M"), ("COMPLETED", "3G")]
    logs = [path.read_text() for path in (tmp_path / "run" / "work").glob("*/*/.command.log")]
    assert len([text for text in logs if "exceeded memory limit" in text]) == 1
