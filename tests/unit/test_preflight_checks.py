"""What each check of the preflight says on a good and on a broken node, and which reasons of failed tasks are known."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nnactive_nf.core.errors import UserError
from nnactive_nf.measure import run as measure
from nnactive_nf.preflight import folders, gpu, machine, packages
from nnactive_nf.preflight.findings import CHECK_LINE, FINDING_LINE, fault, finding_line, ok
from nnactive_nf.preflight.run import CHECKS, Asked, preflight, run_check

ROOT = Path(__file__).resolve().parents[2]
LEFT, RIGHT = "\u2018", "\u2019"  # the quotes of GNU programs
CAUSES = json.loads((ROOT / "bin/nnactive_nf/preflight/causes.json").read_text())


# Packages


def test_a_lock_file_with_hashes_is_compared_by_its_versions():
    lock = (
        "click==8.5.1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:11\n    # via -r requirements.in\ntorch==2.0 ; x\n"
    )
    versions = {"click": "8.5.1", "torch": "2.1+cu"}
    assert packages.compare_with_lock(lock, versions.__getitem__) == ([], ["torch 2.1+cu instead of 2.0"])


def test_the_environment_of_the_tests_is_that_of_the_lock_file():
    finding = packages.check_packages(ROOT / "containers/requirements.txt", needed=("h5py", "SimpleITK"))
    assert finding.state == "ok", finding
    assert f"h5py {metadata.version('h5py')}" in finding.what


def test_a_package_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken_package.py").write_text("raise OSError('libfoo.so: cannot open shared object file')\n")
    monkeypatch.syspath_prepend(tmp_path)
    finding = packages.check_packages(tmp_path / "lock.txt", needed=("broken_package", "h5py"))
    assert finding.state == "fault"
    assert "broken_package: OSError: libfoo.so" in finding.what
    assert "make sif" in finding.remedy


def test_versions_are_compared_with_the_lock_file(tmp_path):
    installed = {"torch": "2.15.0+cpu", "h5py": "3.0.0"}

    def version_of(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    lock = "# made by uv\ntorch==2.15.0\n    # via nnunetv2\nh5py==3.16.0 ; python_version > '3'\nblosc2==4.14.1\n"
    assert packages.compare_with_lock(lock, version_of) == (["blosc2"], ["h5py 3.0.0 instead of 3.16.0"])

    path = tmp_path / "lock.txt"
    path.write_text("h5py==0.0.1\n")
    assert packages.check_packages(path, needed=("h5py",)).state == "warning"
    path.write_text("no-such-package==1\n")
    finding = packages.check_packages(path, needed=("h5py",))
    assert (finding.state, finding.what) == ("fault", "not installed: no-such-package")


# Folders


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    """A folder in which nobody can write, root included: it would lie under a file."""
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "folder"


def test_the_work_folder_is_seen_both_ways(tmp_path, nowhere):
    marker = tmp_path / "marker"
    marker.write_text("token")
    finding = folders.check_work_folder(tmp_path, marker, "token")
    assert finding.state == "ok"
    assert Path(finding.wrote).read_text() == "token"
    assert folders.check_work_folder(None, marker, "token").state == "ok"  # in a bucket

    unseen = folders.check_work_folder(tmp_path, tmp_path / "other", "token")
    assert unseen.state == "fault"
    assert str(tmp_path / "other") in unseen.what
    assert "-work-dir" in unseen.remedy
    assert folders.check_work_folder(tmp_path, marker, "another").state == "fault"
    assert folders.check_work_folder(nowhere, marker, "token").state == "fault"


def test_the_store_is_seen_both_ways(tmp_path, nowhere):
    (tmp_path / f"{folders.FROM_LAUNCHER}-token").write_text("token")
    finding = folders.check_store(tmp_path, "token")
    assert finding.state == "ok"
    assert Path(finding.wrote).read_text() == "token"
    for finding in (folders.check_store(tmp_path, "another"), folders.check_store(nowhere, "token")):
        assert finding.state == "fault"
        assert "--checkpoint_store" in finding.remedy


def test_folders_for_temporary_files(tmp_path, nowhere, monkeypatch):
    assert folders.check_temporary(tmp_path).state == "ok"
    assert folders.check_scratch(tmp_path).state == "ok"
    assert not list(tmp_path.glob(".nnactive*"))
    for finding in (folders.check_temporary(nowhere), folders.check_scratch(nowhere)):
        assert finding.state == "fault"
        assert str(nowhere) in finding.what
    assert "process.scratch" in folders.check_scratch(nowhere).remedy
    monkeypatch.setattr(folders, "LITTLE_GB", 1e9)
    assert folders.check_scratch(tmp_path).state == "warning"


def test_an_input_is_read(phantom, tmp_path):
    assert folders.check_input((phantom,)).state == "ok"
    finding = folders.check_input((phantom, tmp_path))
    assert finding.state == "fault"
    assert f"{tmp_path}/dataset.json" in finding.what


def test_hdf5_files_with_locks_and_without(tmp_path, nowhere, monkeypatch):
    finding = folders.check_hdf5(tmp_path)
    assert finding.state == "ok"
    assert "with locks" in finding.what
    assert not list(tmp_path.glob(".nnactive*")), "the file is taken away"
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")
    assert "without locks" in folders.check_hdf5(tmp_path).what
    assert folders.check_hdf5(tmp_path / "missing").state == "fault"
    assert folders.check_hdf5(nowhere).state == "fault"


def test_a_file_system_without_locks_is_told_with_the_remedy(tmp_path, monkeypatch):
    import h5py

    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOLCK, "Unable to synchronously create file (unable to lock file, errno = 37)")

    monkeypatch.setattr(h5py, "File", refuse)
    finding = folders.check_hdf5(tmp_path)
    assert finding.state == "fault"
    assert "unable to lock file" in finding.what
    assert "HDF5_USE_FILE_LOCKING = 'FALSE'" in finding.remedy


# The machine


def test_cores_and_memory_against_what_was_asked_for():
    assert machine.check_resources(1, 1 << 20).state == "ok"
    assert machine.check_resources(10_000, 1 << 20).state == "warning"
    finding = machine.check_resources(1, 1 << 60)
    assert finding.state == "warning"
    assert finding.remedy


def test_memory_limits_of_control_groups(tmp_path):
    (tmp_path / "slurm" / "job_7").mkdir(parents=True)
    (tmp_path / "slurm" / "memory.max").write_text("5000\n")
    (tmp_path / "slurm" / "job_7" / "memory.max").write_text("max\n")
    assert list(machine._group_limits("0::/slurm/job_7\n", tmp_path)) == [5000]
    (tmp_path / "memory" / "job_8").mkdir(parents=True)
    (tmp_path / "memory" / "job_8" / "memory.limit_in_bytes").write_text("7000\n")
    assert list(machine._group_limits("9:cpu,cpuacct:/job_8\n3:memory:/job_8\n", tmp_path)) == [7000]
    assert list(machine._group_limits("0::/../elsewhere\n", tmp_path)) == []


def test_the_network_is_never_a_fault():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert machine.check_network(server.getsockname()).what.startswith("there")
        closed = server.getsockname()
    assert machine.check_network(closed) == ok("none; not needed")


def test_the_clock_is_for_the_launcher_to_compare():
    assert abs(machine.check_clock().time - time.time()) < 60


# The GPU


class FakeTorch(SimpleNamespace):
    """A torch of a machine with GPUs, or with a driver that says no."""

    def __init__(self, gpus: int = 1, cuda: str | None = "13.2", says: str = "", product: float = 64.0**3) -> None:
        properties = SimpleNamespace(name="NVIDIA A100", total_memory=80e9)
        super().__init__(
            __version__="2.15.0",
            version=SimpleNamespace(cuda=cuda),
            cuda=SimpleNamespace(device_count=lambda: gpus, get_device_properties=lambda _index: properties),
        )
        self.says, self.product = says, product

    def ones(self, *_shape: int, device: str) -> Any:
        assert device == "cuda"
        if self.says:
            raise RuntimeError(self.says)
        return Ones(self.product)


class Ones:
    def __init__(self, product: float) -> None:
        self.product = product

    def __matmul__(self, _other: Ones) -> Ones:
        return self

    def sum(self) -> float:
        return self.product


NO_DRIVER = "Found no NVIDIA driver on your system. Please check\nthat you have one."


def test_a_gpu_that_computes():
    for device, asked in (("cuda", 0), ("cuda", 1), ("auto", 1), ("auto", 0)):
        finding = gpu.check_gpu(device, asked, "", FakeTorch(gpus=2))
        assert finding == ok("2 x NVIDIA A100, 80 GB, computes; CUDA 13.2")


@pytest.mark.parametrize(("device", "asked"), [("cuda", 0), ("cuda", 1), ("auto", 1)])
def test_a_gpu_is_asked_for_where_none_is(device, asked):
    finding = gpu.check_gpu(device, asked, "apptainer", FakeTorch(says=NO_DRIVER))
    assert finding.state == "fault"
    assert finding.what == "asked for, but torch says: Found no NVIDIA driver on your system"
    assert "apptainer must hand it on (--nv)" in finding.remedy
    assert ("accelerator" in finding.remedy) == (asked == 0)
    assert "must hand it on" not in gpu.check_gpu(device, asked, "", FakeTorch(says=NO_DRIVER)).remedy


def test_a_gpu_that_cannot_be_used(tmp_path):
    no_cuda = gpu.check_gpu("cuda", 1, "", FakeTorch(cuda=None))
    assert "built without CUDA" in no_cuda.what
    assert "lock file" in no_cuda.remedy
    assert "computes wrongly" in gpu.check_gpu("cuda", 1, "", FakeTorch(product=1.0)).what
    (tmp_path / "nvidia0").write_text("")
    assert "too old for CUDA 13.2" in gpu._remedy(FakeTorch(), 1, "docker", tmp_path)


def test_no_gpu_is_asked_for():
    assert gpu.check_gpu("cpu", 0, "", None) == ok("not asked for (--device cpu)")
    wasted = gpu.check_gpu("cpu", 1, "", None)
    assert (wasted.state, "not asked for" in wasted.what) == ("warning", True)
    finding = gpu.check_gpu("auto", 0, "", FakeTorch(says=NO_DRIVER))
    assert finding.state == "warning"
    assert "-profile gpu" in finding.remedy


@pytest.mark.parametrize(
    ("device", "asked", "on_scheduler", "value", "seen", "state"),
    [
        ("cuda", 1, True, "0", 1, "ok"),
        ("cuda", 1, True, "GPU-1234", 1, "ok"),
        ("cuda", 1, False, None, 4, "ok"),  # on one's own machine all GPUs are meant
        ("cuda", 1, True, None, 1, "ok"),  # the scheduler shuts the others off
        ("cuda", 1, True, None, 4, "warning"),
        ("cuda", 1, True, "0,1,2,3", 4, "warning"),
        ("cuda", 0, False, "", 0, "fault"),
        ("auto", 1, True, "NoDevFiles", 0, "fault"),
        ("auto", 0, True, "-1", 0, "ok"),
        ("cpu", 1, True, None, 0, "ok"),
    ],
)
def test_which_gpu_is_meant(device, asked, on_scheduler, value, seen, state):
    environment = {} if value is None else {gpu.VARIABLE: value}
    assert gpu.check_visible_devices(device, asked, on_scheduler, environment, lambda: seen).state == state


def test_shared_memory(tmp_path, monkeypatch):
    assert gpu.check_shared_memory("cuda", tmp_path).state == "ok"
    monkeypatch.setattr(gpu, "SHARED_GB", 1e9)
    finding = gpu.check_shared_memory("auto", tmp_path)
    assert finding.state == "fault"
    assert "--shm-size" in finding.remedy
    assert gpu.check_shared_memory("cuda", tmp_path / "missing").state == "fault"
    assert gpu.check_shared_memory("cpu", tmp_path / "missing").state == "ok"


# The run


def test_a_finding_is_one_line_of_json():
    line = finding_line("GPU", fault("a\nb  c", "do\nthis"))
    assert line.startswith(FINDING_LINE)
    assert "\n" not in line
    assert json.loads(line.removeprefix(FINDING_LINE)) == {
        "check": "GPU", "state": "fault", "what": "a b c", "remedy": "do this", "wrote": "", "time": 0.0,
    }  # fmt: skip


def test_a_check_that_fails_or_hangs_is_a_finding():
    def fails(_asked: Asked) -> Any:
        raise ZeroDivisionError("what now")

    def hangs(_asked: Asked) -> Any:
        time.sleep(60)

    assert run_check(fails, Asked("token")).what == "ZeroDivisionError: what now"
    assert "no answer" in run_check(hangs, Asked("token"), seconds=0.2).what


def test_checks_are_announced_before_they_run(capsys):
    preflight(["clock", "temporary folder"], Asked("token"))
    starts = [re.split("[:{]", line)[0] for line in capsys.readouterr().out.splitlines()]
    assert starts == ["preflight check", "preflight finding"] * 2
    assert CHECK_LINE.startswith(starts[0])
    assert FINDING_LINE.startswith(starts[1])
    with pytest.raises(UserError, match="unknown: nothing"):
        preflight(["nothing"], Asked("token"))


def test_the_table_asks_for_the_checks_that_there_are():
    text = (ROOT / "functions/preflight_table.nf").read_text()
    listed = text[text.index("def task_checks") : text.index("def task_labels")]
    assert set(re.findall(r"'([^']+)'", listed)) == {*CHECKS, measure.CHECK}


def test_the_command(tmp_path):
    marker = tmp_path / "marker"
    marker.write_text("token")
    command = [
        sys.executable,
        ROOT / "bin/preflight.py",
        "--checks",
        "work folder,cores and memory",
        "--token",
        "token",
    ]
    done = subprocess.run(
        [*command, "--work", tmp_path, "--marker", marker, "--memory", "1000"],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    found = [json.loads(line.removeprefix(FINDING_LINE)) for line in done.stdout.splitlines()[1::2]]
    assert [(finding["check"], finding["state"]) for finding in found] == [
        ("work folder", "ok"),
        ("cores and memory", "ok"),
    ]


# Reasons of tasks that failed: what engines, schedulers and Nextflow really print


@pytest.mark.parametrize(
    ("text", "what", "remedy"),
    [
        (".command.run: line 101: docker: command not found", "docker is not found", "install docker"),
        (f"env: {LEFT}apptainer{RIGHT}: No such file or directory", "apptainer is not found", "beforeScript"),
        (".command.run: line 98: ch-run: command not found", "ch-run is not found", "profile"),
        (
            "FATAL:   While checking container encryption: could not open image /nowhere/image.sif: "
            "failed to retrieve path for /nowhere/image.sif: lstat /nowhere: no such file or directory",
            "image /nowhere/image.sif is not there", "make sif",
        ),
        (
            "Failed to pull singularity image\n    command: apptainer pull x\n    status : 127\n    message:\n"
            "      bash: line 1: apptainer: command not found\n",
            "apptainer is not found where", "make sif",
        ),
        (
            "Failed to pull singularity image\n    status : 255\n    message:\n      FATAL: no descriptor found\n",
            "cannot be pulled: FATAL: no descriptor", "process.container",
        ),
        ("FATAL:   container creation failed: mount error", "does not start: container creation", "runOptions"),
        (
            "Error: initializing source docker://localhost/nnactive-nf:0.1.0: pinging container registry localhost",
            "image is not on this node", "make image",
        ),
        ("Unable to find image 'nnactive-nf:0.1.0' locally", "image is not on this node", "make image"),
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "service does not answer", "podman"),
        (
            'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].',
            "cannot hand a GPU on", "container toolkit",
        ),
        (
            "Error: setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=all",
            "cannot hand a GPU on", "CDI",
        ),
        (
            f"mkdir: cannot create directory {LEFT}/scratch{RIGHT}: Permission denied\n"
            f"mktemp: failed to create directory via template {LEFT}/scratch/me/nxf.XXXXXXXXXX{RIGHT}: No such file",
            "scratch folder /scratch/me cannot be written: No such file", "process.scratch",
        ),
        ("cp: error writing 'x': No space left on device", "No space left on device", "make room"),
        (
            'java.io.IOException: Cannot run program "sbatch" (in directory "/w"): error=2, No such file or directory',
            "command sbatch is not found", "submits jobs",
        ),
        ("sbatch: error: invalid partition specified: foo", "queue: invalid partition specified: foo", "queue"),
        ("foo: No such queue. Job not submitted.", "queue: No such queue", "queue"),
        ("qsub: Unknown queue", "queue: Unknown queue", "queue"),
        (
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified",
            "account: Invalid account", "ext.cluster_options",
        ),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", "Invalid qos", "--qos"),
        (
            "sbatch: error: Batch job submission failed: Invalid generic resource (gres) specification",
            "GPU that is asked for: Invalid generic resource", "accelerator",
        ),
        (
            "sbatch: error: Memory specification can not be satisfied",
            "no node may give what the task asks for", "resourceLimits",
        ),
        (
            "sbatch: error: Batch job submission failed: Requested node configuration is not available",
            "Requested node configuration", "accelerator",
        ),
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            "scheduler does not answer", "sinfo",
        ),
        ("Task 'X' could not be submitted within specified 'maxAwait' time: 30m", "within 30m", "squeue"),
        (
            "Process requirement exceeds available memory -- req: 800 GB; avail: 23.5 GB",
            "(memory): 23.5 GB of 800 GB", "resourceLimits",
        ),
        ("Process requirement exceeds available CPUs -- req: 99; avail: 2", "(CPUs): 2 of 99", "resourceLimits"),
        (".command.sh: line 3: python: command not found", "no Python", "make setup"),
        (f"env: {LEFT}python{RIGHT}: No such file or directory", "no Python", "make setup"),
        ("Traceback\nModuleNotFoundError: No module named 'click'", "no package click", "make sif"),
        (".command.sh: line 3: preflight.py: command not found", "preflight.py in the workflow's folder", "bin"),
        (
            "Command 'ps' required by nextflow to collect task metrics cannot be found",
            "no command ps", "procps",
        ),
        ("/var/spool/job: line 20: module: command not found", "module of beforeScript", "/etc/profile"),
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-24 DUE TO TIME LIMIT ***", "ten minutes", "hanging"),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch.", "for its memory", "memory"),
        ("bash: /w/.command.sh: Permission denied", "Permission denied", "work folder"),
        (
            "Process `X` terminated for an unknown reason -- Likely it has been terminated by the external system",
            "never seen here", "-work-dir",
        ),
        ("what the task said\nexit status 137", "was killed", "more memory"),
        ("what the task said\nexit status 140", "exit status 140): a time limit", "records"),
        ("line 1: 7 Bus error (core dumped)\nexit status 135", "shared memory", "--shm-size"),
    ],
)  # fmt: skip
def test_usual_reasons_are_known(text, what, remedy):
    cause = next(cause for cause in CAUSES if re.search(cause["pattern"], text))
    found = re.search(cause["pattern"], text)
    assert found is not None
    told = [cause["what"], cause["remedy"]]
    for place, group in enumerate([found[0], *found.groups()]):
        told = [part.replace(f"{{{place}}}", group or "") for part in told]
    assert what in told[0]
    assert remedy in told[1]
    assert not re.search(r"\{\d\}", "".join(told)), "a place that the pattern does not fill"


def test_every_reason_is_whole():
    for cause in CAUSES:
        assert set(cause) == {"pattern", "what", "remedy"}
        assert cause["what"] and cause["remedy"]
        re.compile(cause["pattern"])
