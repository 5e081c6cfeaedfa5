"""--preflight names each capability of a set-up that holds, and the fault and its remedy of one that does not."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run, run_nextflow
from preflight_table import of, table

from nnactive_nf.core.files import read_json
from nnactive_nf.core.measured import read_measured

pytestmark = pytest.mark.pipeline

NODE = os.uname().nodename
EVERYWHERE = {
    "task starts", "cores and memory", "work folder", "HDF5 in the work folder", "temporary folder", "clock",
}  # fmt: skip


def path_without(folder: Path, command: str) -> str:
    """PATH on which a command is not found: links to all others."""
    folder.mkdir()
    for place in os.environ["PATH"].split(":"):
        for program in Path(place).iterdir() if Path(place).is_dir() else []:
            if program.name != command and not os.path.lexists(folder / program.name):  # a link may lead nowhere
                (folder / program.name).symlink_to(program)
    assert shutil.which(command, path=str(folder)) is None
    return str(folder)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, phantom: Path) -> Iterator[Run]:
    """A preflight on this machine, in a folder that an earlier run has left results in."""
    folder = tmp_path_factory.mktemp("preflight")
    (folder / "results" / "pipeline_info").mkdir(parents=True)
    for name in ("trace.txt", "report.html", "timeline.html", "dag.html"):
        (folder / "results" / "pipeline_info" / name).write_text("of an earlier run")
    network = {"train_patch_size": "8,16,16", "features": 4, "batch_size": 2, "optimiser": "adamw"}
    small = {"device": "cpu", "epochs": 7, "iterations": 3, "start_size": 8, "folds": 2}
    yield run_nextflow(folder, "--preflight", input=phantom, **network, **small)


def test_a_set_up_that_holds(good: Run) -> None:
    assert good.returncode == 0, good.output
    lines = table(good)
    assert {line.state for line in lines} <= {"ok", "warning"}, good.stdout
    assert {line.where.split(" ")[0] for line in lines} == {NODE}
    by_label = {
        label: {line.check for line in lines if line.where.endswith(f"({label})")}
        for label in ("launcher", "cpu_low", "cpu", "gpu")
    }
    assert by_label["launcher"] == {"work folder", "results folder", "checkpoint store", "input"}
    assert by_label["cpu_low"] == {"task starts", "Python packages", "cores and memory", "network"}
    assert by_label["cpu"] == EVERYWHERE | {"input"}
    assert by_label["gpu"] == EVERYWHERE | {
        "GPU", "CUDA_VISIBLE_DEVICES", "shared memory", "checkpoint store", "HDF5 in the store", "training",
    }  # fmt: skip
    assert re.search(r"\n\d+ ok, \d warnings?, 0 faults\. The set-up holds\.\n", good.stdout)
    assert good.tasks("COMPLETED") == {"PREFLIGHT_PYTHON": 1, "PREFLIGHT_FOLDERS": 1, "PREFLIGHT_GPU": 1} | {
        "CHECK": 1, "PREFLIGHT_MEASURE": 1,
    }  # fmt: skip


def test_it_times_the_planned_training(good: Run) -> None:
    told = of(table(good), "training", "gpu")
    assert re.search(
        r"^phantom: [\d.e-]+ s an iteration \(\d+, after \d+ to warm up\) on .+ GB of memory at most", told.what
    )
    assert re.search(r"; a training of 7 x 3 iterations takes [\d.e+]+ min$", told.what)
    path = good.folder / "results" / "pipeline_info" / "preflight.json"
    (training,) = read_measured(path, "it").trainings
    assert (training.dataset, training.device, training.labels) == ("phantom", "cpu", "given")
    assert dict(training.settings) == {
        "configuration": "3d_fullres", "planner": "ExperimentPlanner", "train_patch_size": "8,16,16", "features": 4,
        "batch_size": 2, "optimiser": "adamw", "trainer_file": None,
    }  # fmt: skip
    assert read_json(path)["trainings"][0]["iterations"] == training.iterations == 20


def test_it_leaves_results_and_folders_as_they_were(good: Run) -> None:
    results = [path for path in (good.folder / "results").rglob("*") if path.is_file()]
    assert len(results) == 5
    results.remove(good.folder / "results" / "pipeline_info" / "preflight.json")
    assert {path.read_text() for path in results} == {"of an earlier run"}
    assert not list((good.folder / "checkpoints").iterdir())
    assert not list((good.folder / "work").glob("preflight-*"))


def test_scratch_that_cannot_be_written_and_a_gpu_where_none_is(tmp_path: Path) -> None:
    if Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    (tmp_path / "file").write_text("")
    site = tmp_path / "site.config"
    site.write_text(f"process {{ withLabel: 'cpu_low|cpu' {{ scratch = '{tmp_path}/file/scratch' }} }}\n")
    run = run_nextflow(tmp_path, "--preflight", "-profile", "gpu", "-c", site)
    assert run.returncode == 1
    lines = table(run)
    for label in ("cpu_low", "cpu"):
        start = of(lines, "task starts", label)
        assert (start.state, start.where) == ("FAULT", f"{NODE} ({label})")
        assert f"the scratch folder {tmp_path}/file/scratch cannot be written" in start.what
        assert of(lines, "not tried", label).state == "-"
    assert "process.scratch" in of(lines, "task starts", "cpu_low").remedy
    gpu = of(lines, "GPU", "gpu")
    assert gpu.state == "FAULT"
    assert gpu.what.startswith("asked for, but torch")
    assert "-profile cpu" in gpu.remedy
    assert sum(line.state == "FAULT" for line in lines) == 3
    assert "3 faults. Mend the faults" in run.stdout


def test_no_container_engine_and_no_folder_for_results(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    env = {"PATH": path_without(tmp_path / "programs", "podman")}
    run = run_nextflow(tmp_path, "--preflight", "-profile", "podman", env=env, outdir="file/results")
    assert run.returncode == 1
    lines = table(run)
    assert of(lines, "results folder", "launcher").state == "FAULT"
    for label in ("cpu_low", "cpu", "gpu"):
        start = of(lines, "task starts", label)
        assert (start.state, start.what) == ("FAULT", "the container engine podman is not found")
    assert "install podman" in of(lines, "task starts", "cpu_low").remedy


def test_no_scheduler(tmp_path: Path) -> None:
    """Nextflow ends the run at once: the table tells even so."""
    env = {"PATH": path_without(tmp_path / "programs", "sbatch")}
    run = run_nextflow(tmp_path, "--preflight", "-profile", "slurm", env=env, timeout=900)
    assert run.returncode == 1
    faults = [line for line in table(run) if line.state == "FAULT"]
    assert [line.check for line in faults] == ["task starts"]
    assert "the scheduler's command sbatch is not found" in faults[0].what
    assert faults[0].where.startswith(NODE)
    assert "submits jobs" in faults[0].remedy
