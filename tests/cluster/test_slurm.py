"""The workflow on a real SLURM, its tasks in a real container: what is submitted, and what survives stops and kills."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Run, nextflow_command, run_nextflow

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

GPU = ("TRAIN", "PREDICT", "EVALUATE")
SMALL = {"cycles": 2, "epochs": 2, "iterations": 10, "phantom_cases": 12, "strategies": "random,bald"}
# One node of two folds, long enough to be stopped in the middle.
ONE_NODE = {"cycles": 1, "epochs": 10, "iterations": 40, "phantom_cases": 12, "strategies": "random"}


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
    assert on_slurm.tasks("COMPLETED")["TRAIN"] == 2 * 3
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

    def jobs(self, name: str = "") -> dict[str, str]:
        """Running jobs by their names."""
        listed = self._tell("squeue", "-h", "-t", "R", "-o", "%i %j").splitlines()
        return {job: number for number, job in (line.split(" ", 1) for line in listed) if name in job}

    def cancel(self, *args: str) -> None:
        self._tell("scancel", *args)

    def _tell(self, *command: str) -> str:
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=False).stdout

    def wait_for(self, what: Callable[[], bool], timeout: float = 600) -> None:
        end = time.monotonic() + timeout
        while not what():
            assert time.monotonic() < end, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.5)


def test_stopped_killed_and_starved_jobs_come_back(slurm, apptainer_image, here_config, tmp_path):
    """Everything is cancelled and the run resumed; then one training is told to end, as a time limit does, the other is
    killed, and a task exceeds its memory."""
    starved = tmp_path / "starved.config"
    starved.write_text(
        here_config.read_text() + "process.withName:'QUERY'.memory = { task.attempt == 1 ? 60.MB : 3.GB }\n"
    )
    arguments = ("-profile", "slurm,apptainer,test", "-c", starved)
    store = tmp_path / "run" / "checkpoints"

    first = Started(tmp_path / "run", slurm, *arguments, **ONE_NODE)
    first.wait_for(lambda: len(list(store.rglob("latest.pth"))) == 2)
    first.process.kill()
    first.process.wait()
    first.cancel("--full", *first.jobs().values())

    second = Started(tmp_path / "run", slurm, *arguments, "-resume", **ONE_NODE)
    second.wait_for(lambda: len(second.jobs("TRAIN")) == 2)
    stopped, killed = sorted(second.jobs("TRAIN").values(), key=int)
    time.sleep(15)  # both have gone on from their checkpoints
    second.cancel("--batch", "--signal=USR2", stopped)
    second.cancel("--full", "--signal=KILL", killed)
    assert second.process.wait(timeout=900) == 0, second.log.read_text()

    results = tmp_path / "run" / "results"
    assert (results / "report.html").exists()
    records = [json.loads(path.read_text()) for path in sorted((results / "training").rglob("*.json"))]
    assert [record["fold"] for record in records] == [0, 1]
    for record in records:
        assert [point["epoch"] for point in record["curve"]] == list(range(ONE_NODE["epochs"]))
        assert len(record["resumed_from"]) >= 1
        assert record["resumed_from"] == sorted(record["resumed_from"])
    log = second.log.read_text() + (tmp_path / "run" / "output.txt").read_text()
    assert "re-submitted" in log.lower() or "Execution is retried" in log
