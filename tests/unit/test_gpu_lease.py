"""GPUs that tasks lease, with pretended ones: real processes take places in one folder, and some are killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nnactive_nf.core import gpu_lease
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.gpu_lease import TASKS_PER_GPU, VISIBLE, Gpu, lease_gpu, machine_folder, usable_gpus
from nnactive_nf.core.nnunet import resolve_device

BIN = Path(gpu_lease.__file__).parents[2]
PATIENCE_S = 60

# A task: leases one of so many pretended GPUs with so many places, says which, and works until its standard input ends.
# If it is to, it makes a child first, which lives on when it is killed, as processes that make batches may.
TASK = """
import multiprocessing, sys, time
from pathlib import Path
from nnactive_nf.core.gpu_lease import Gpu, wait_for_place
folder, gpus, places, children = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
lease = wait_for_place(folder, [Gpu(f"GPU-{n}", str(n)) for n in range(gpus)], places, spacing_s=0.01)
if children:
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    print("child", child.pid, flush=True)
print("has", lease.gpu.uuid, lease.place, flush=True)
sys.stdin.read()
"""


class Task:
    """A process that runs `TASK`."""

    def __init__(self, folder: Path, gpus: int, places: int, children: int = 0, ignore: bool = False) -> None:
        command = [sys.executable, "-c", TASK, str(folder), str(gpus), str(places), str(children)]
        if ignore:  # as in TRAIN's shell
            command = ["bash", "-c", 'trap "" TERM USR2; exec "$@"', "bash", *command]
        self.out = folder.parent / f"out_{len(list(folder.parent.glob('out_*')))}"
        with self.out.open("w") as out:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=out, stderr=out, env=os.environ | {"PYTHONPATH": str(BIN)}
            )

    def said(self, word: str) -> str:
        """The first line with this word, or ''."""
        return next((line for line in self.out.read_text().splitlines() if word in line), "")

    def wait(self, word: str) -> str:
        """The line, once it is said."""
        until(lambda: bool(self.said(word)), f"'{word}': {self.out.read_text()}")
        return self.said(word)

    def place(self) -> str:
        """The GPU and the place that it has, or ''."""
        return self.said("has GPU-").removeprefix("has ")

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE_S)


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.01)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Task]]:
    folder = tmp_path / "locks"
    folder.mkdir()
    tasks: list[Task] = []

    def made(*how: int, **more: Any) -> Task:
        tasks.append(Task(folder, *how, **more))
        return tasks[-1]

    yield made
    for task in tasks:
        task.process.kill()
        task.process.wait()


def places(tasks: list[Task]) -> list[str]:
    return sorted(place for task in tasks if task.process.poll() is None and (place := task.place()))


def test_as_many_at_once_as_there_are_places_and_none_is_left_while_one_waits(start: Callable[..., Task]) -> None:
    tasks = [start(2, 2) for _ in range(7)]
    every = [f"GPU-{gpu} {place}" for gpu in (0, 1) for place in (1, 2)]
    until(lambda: places(tasks) == every, "four have places")
    waiting = [task for task in tasks if not task.place()]
    assert [task.wait("waits") for task in waiting] == [
        "2 GPUs with 2 places each taken by other tasks; waits for one"
    ] * 3
    assert places(tasks) == every
    for left in (2, 1, 0):  # whoever ends, by itself or killed, makes room for one that waits
        holder = next(task for task in tasks if task.process.poll() is None and task.place())
        if left == 1:
            holder.end()
        else:
            holder.process.kill()
            holder.process.wait()
        until(lambda: places(tasks) == every, "its place is taken")
        assert len([task for task in tasks if task.process.poll() is None and not task.place()]) == left
    assert any(", after " in task.said("leased") for task in waiting)


def test_gpus_fill_evenly(start: Callable[..., Task]) -> None:
    tasks = []
    for number in range(1, 5):
        tasks.append(start(2, 3))
        tasks[-1].wait("has GPU")
        loads = [sum(task.place().startswith(f"GPU-{gpu}") for task in tasks) for gpu in (0, 1)]
        assert sorted(loads) == [number // 2, number - number // 2]
    for task in [task for task in tasks if task.place().startswith("GPU-1")]:
        task.end()
    assert start(2, 3).wait("has GPU") == "has GPU-1 1"


def test_a_child_that_outlives_its_killed_parent_holds_nothing(start: Callable[..., Task]) -> None:
    first = start(1, 1, children=1)
    first.wait("has GPU")
    child = int(first.wait("child").split()[1])
    first.process.kill()
    first.process.wait()
    try:
        os.kill(child, 0)
        assert start(1, 1).wait("has GPU") == "has GPU-0 1"
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_task_that_waits_ends_when_it_is_told_to(start: Callable[..., Task], number: signal.Signals) -> None:
    start(1, 1).wait("has GPU")
    second = start(1, 1, ignore=True)
    second.wait("waits")
    second.process.send_signal(number)
    assert second.process.wait(PATIENCE_S) == 128 + number
    assert second.said("told to end") == f"told to end by signal {number} while it waited for a GPU"


class Driver(SimpleNamespace):
    """NVML with two GPUs, of which the second is cut into two parts with a gap between them."""

    class NVMLError(Exception):
        """As in pynvml."""

    def __init__(self, cut: bool = False) -> None:
        super().__init__(cut=cut)

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"GPU-{'ab'[index]}"

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:
        if not self.cut:
            raise self.NVMLError
        return [int(handle == "GPU-b"), 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:
        return 3

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: str, index: int) -> str:
        if index == 1:
            raise self.NVMLError
        return f"MIG-{handle}-{index}"


@pytest.fixture
def nothing_held() -> Iterator[None]:
    gpu_lease.give_back()
    yield
    gpu_lease.give_back()


def test_gpus_and_parts_of_gpus() -> None:
    assert gpu_lease.machine_gpus(Driver()) == ["GPU-a", "GPU-b"]
    assert gpu_lease.machine_gpus(Driver(cut=True)) == ["GPU-a", "MIG-GPU-b-0", "MIG-GPU-b-2"]
    assert gpu_lease.machine_gpus(SimpleNamespace()) == []


@pytest.mark.parametrize(
    "visible, found",
    [
        (None, ["GPU-a1", "GPU-a2", "GPU-b1"]),
        ("2,0", ["2", "0"]),
        ("GPU-b, GPU-a2", ["GPU-b", "GPU-a2"]),
        ("2,GPU-a,0", ["2"]),  # two begin so
        ("1,7,0", ["1"]),
        ("1,-1,0", ["1"]),
        ("1,1", ["1"]),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_gpus_that_the_variable_leaves(visible: str | None, found: list[str]) -> None:
    assert [gpu.visible_as for gpu in usable_gpus(["GPU-a1", "GPU-a2", "GPU-b1"], visible)] == found


def test_numbers_and_uuids_name_the_same_places() -> None:
    uuids = ["GPU-a", "GPU-b"]
    assert (
        [gpu.uuid for gpu in usable_gpus(uuids, "1")] == [gpu.uuid for gpu in usable_gpus(uuids, "GPU-b")] == ["GPU-b"]
    )


@pytest.mark.parametrize(
    "before, after",
    [
        pytest.param(None, "GPU-a", id="not set"),
        pytest.param("1,0", "1", id="several are there"),
        pytest.param("1", "1", id="one is there"),
        pytest.param("GPU-b", "GPU-b", id="one is there by its UUID"),
    ],
)
def test_the_variable_names_the_leased_gpu(
    nothing_held: None, tmp_path: Path, before: str | None, after: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = {TASKS_PER_GPU: "2"} | ({} if before is None else {VISIBLE: before})
    lease = lease_gpu(environment, Driver(), tmp_path)
    assert lease is not None and lease.gpu.visible_as == environment[VISIBLE] == after
    uuid = "GPU-a" if before is None else "GPU-b"
    assert lease.record() == {"gpu_uuid": uuid, "place": 1, "waited_seconds": 0.0}
    assert capsys.readouterr().out == f"leased GPU {uuid}, place 1 of 2\n"
    assert lease_gpu({}, Driver(), tmp_path) is lease  # a process has one
    assert sorted(path.name for path in tmp_path.iterdir())[-1] == "door"


def test_where_a_scheduler_or_nobody_gives_gpus_nothing_is_leased(nothing_held: None, tmp_path: Path) -> None:
    for environment in ({}, {VISIBLE: "1"}, {TASKS_PER_GPU: "1", VISIBLE: "-1"}):
        before = dict(environment)
        assert lease_gpu(environment, Driver(), tmp_path) is None
        assert environment == before
    assert lease_gpu({TASKS_PER_GPU: "1"}, SimpleNamespace(), tmp_path) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["auto", "cuda", "cpu"])
def test_a_device_is_leased_before_cuda_is_asked(
    nothing_held: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str
) -> None:
    asked: list[str | None] = []

    def is_available() -> bool:
        asked.append(os.environ.get(VISIBLE))
        return True

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(gpu_lease, "MACHINE_FOLDERS", (tmp_path,))
    monkeypatch.setattr(gpu_lease, "machine_folder", lambda: machine_folder((tmp_path,)))
    monkeypatch.setitem(sys.modules, "pynvml", Driver())
    monkeypatch.setenv(TASKS_PER_GPU, "1")
    monkeypatch.setenv(VISIBLE, "0")  # so that it is put back
    monkeypatch.delenv(VISIBLE)
    assert resolve_device(device, 1).type == ("cpu" if device == "cpu" else "cuda")
    assert asked == [None if device == "cpu" else "GPU-a"]
    assert (gpu_lease.current_lease() is None) == (device == "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto", 1).type == "cpu"
    assert gpu_lease.current_lease() is None  # it cannot use one


def test_no_stage_asks_cuda_before_it_has_its_device() -> None:
    """Else `CUDA_VISIBLE_DEVICES` would have been read before a lease writes it."""
    code = (
        "import torch\n"
        "def asked(*_):\n    raise SystemExit('CUDA is asked')\n"
        "for name in ('_cuda_getDeviceCount', '_cuda_init'):\n    setattr(torch._C, name, asked)\n"
        "torch.cuda.is_available = torch.cuda.device_count = asked\n"
        "import nnactive_nf.train.run, nnactive_nf.predict.run\n"
        "import nnactive_nf.export.model, nnactive_nf.export.predictions, monai.metrics\n"
        "import nnactive_nf.evaluate.run, nnactive_nf.evaluate.cross_validation\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(BIN)}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_folder_is_for_all_who_work_on_the_machine(tmp_path: Path) -> None:
    umask = os.umask(0o077)
    try:
        folder = machine_folder((tmp_path / "not there", tmp_path))
        gpu_lease.wait_for_place(folder, [Gpu("GPU-a", "0")], 1)
    finally:
        os.umask(umask)
    assert folder == machine_folder((tmp_path,)) == tmp_path / "nnactive-nf-gpus"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o666}
    assert not gpu_lease.MACHINE_FOLDERS[0].exists() or gpu_lease.MACHINE_FOLDERS[0].is_dir()


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "nnactive-nf-gpus").write_text("")
    with pytest.raises(UserError, match="no lock for a GPU can be kept there"):
        gpu_lease.wait_for_place(machine_folder((tmp_path,)), [Gpu("GPU-a", "0")], 1)
    (tmp_path / "locks").mkdir()
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / "locks" / "GPU-a.1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"GPU-a\.1: no lock for a GPU can be kept there"):
        gpu_lease.wait_for_place(tmp_path / "locks", [Gpu("GPU-a", "0")], 1)
