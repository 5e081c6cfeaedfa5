"""A GPU of this machine for a task, where no scheduler gives GPUs out: leased by locks that end with their holder.

Each GPU has so many places, each place a file in one folder for the whole machine, whoever runs there. A task holds a
place as long as it holds the file's lock (`fcntl.lockf`), which the kernel takes back when the process ends, however it
ends. That lock is the process's own: children, such as the processes that make batches, do not hold it, so one that
outlives its training keeps no GPU.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from nnactive_nf.core.errors import UserError

# Tasks that may share a GPU; a task's script sets it on the local executor (functions/tasks.nf). No digest has it.
TASKS_PER_GPU = "NNACTIVE_TASKS_PER_GPU"
VISIBLE = "CUDA_VISIBLE_DEVICES"
# The machine's own folder for temporary files, in a container under another name (conf/containers.config). Not $TMPDIR,
# which may differ between runs, nor the work folder or the store, which other runs and users do not share.
MACHINE_FOLDERS = (Path("/machine_tmp"), Path("/tmp"))
FOLDER = "nnactive-nf-gpus"
DOOR = "door"
SPACING_S = 1.0
WAITING_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)


@dataclass(frozen=True)
class Gpu:
    """A GPU: its UUID, by which its places are named, and what `CUDA_VISIBLE_DEVICES` calls it."""

    uuid: str
    visible_as: str


@dataclass(frozen=True)
class Lease:
    """A place on a GPU. `handle` is the open file whose lock is the lease: it is held until the process ends."""

    gpu: Gpu
    place: int  # from 1
    waited_s: float
    handle: int

    def record(self) -> dict[str, Any]:
        """What stands in `training.json`."""
        return {"gpu_uuid": self.gpu.uuid, "place": self.place, "waited_seconds": round(self.waited_s, 1)}


_held: Lease | None = None


def current_lease() -> Lease | None:
    """The lease of this process, if it has one."""
    return _held


def lease_gpu(environment: Any = os.environ, driver: Any = None, folder: Path | None = None) -> Lease | None:
    """Lease a GPU for this process, wait for one where all are taken, and let `CUDA_VISIBLE_DEVICES` name it.

    To be called before CUDA is asked anything. Where the variable is set, its GPUs alone are leased; if it names one,
    it stays as it is.

    Args:
        environment: the process's variables. Without `NNACTIVE_TASKS_PER_GPU` nothing is leased.
        driver: stands for the package `pynvml` in tests.
        folder: for the locks; the machine's own by default.

    Returns:
        The lease, also in a later call; None where nothing is leased, or no GPU is there.

    Raises:
        UserError: the folder for the locks cannot be used.
    """
    global _held
    if _held is not None or TASKS_PER_GPU not in environment:
        return _held
    gpus = usable_gpus(machine_gpus(driver), environment.get(VISIBLE))
    if not gpus:
        return None
    per_gpu = int(environment[TASKS_PER_GPU])
    _held = wait_for_place(folder or machine_folder(), gpus, per_gpu)
    environment[VISIBLE] = _held.gpu.visible_as
    return _held


def give_back() -> None:
    """End this process's lease, where it turns out that it cannot use the GPU."""
    global _held
    if _held is not None:
        os.close(_held.handle)
    _held = None


def machine_gpus(driver: Any = None) -> list[str]:
    """UUIDs of the GPUs that NVML shows here, in its order (that of the bus); of one cut up (MIG) its parts'."""
    try:
        nvml = driver or importlib.import_module("pynvml")
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return [_text(nvml.nvmlDeviceGetUUID(part)) for handle in handles for part in _parts(nvml, handle)]
    except Exception:  # no driver, no library, another vendor's GPU
        return []


def _parts(nvml: Any, handle: Any) -> list[Any]:
    """The parts of a GPU that is cut up, or itself."""
    try:
        if not nvml.nvmlDeviceGetMigMode(handle)[0]:
            return [handle]
        number = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except nvml.NVMLError:  # it cannot be cut up
        return [handle]
    parts = []
    for index in range(number):
        try:
            parts.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))
        except nvml.NVMLError:  # no part has this number
            continue
    return parts


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def usable_gpus(uuids: Sequence[str], visible: str | None) -> list[Gpu]:
    """The GPUs that `CUDA_VISIBLE_DEVICES` leaves, under its own words for them.

    It names numbers, UUIDs or beginnings of UUIDs; as in CUDA, what follows a word that names no GPU, or one again, is
    not seen. CUDA numbers GPUs of different kinds otherwise than NVML does, so CUDA is given the word that it was.
    """
    if visible is None:
        return [Gpu(uuid, uuid) for uuid in uuids]
    found: list[Gpu] = []
    for word in (part.strip() for part in visible.split(",")):
        named = [uuids[int(word)]] if word.isdecimal() and int(word) < len(uuids) else []
        if word.startswith(("GPU-", "MIG-")):
            named = [uuid for uuid in uuids if uuid.startswith(word)]
        if len(named) != 1 or named[0] in [gpu.uuid for gpu in found]:
            break
        found.append(Gpu(named[0], word))
    return found


def machine_folder(parents: Sequence[Path] = MACHINE_FOLDERS) -> Path:
    """The folder for the machine's locks, made where it is not there, for all who work on the machine.

    Raises:
        UserError: it can be neither made nor written to.
    """
    folder = next((parent for parent in parents if parent.is_dir()), parents[-1]) / FOLDER
    with _for_all():
        try:
            folder.mkdir(mode=0o1777)
        except FileExistsError:
            pass
        except OSError as error:
            raise UserError(_unusable(folder, error)) from None
    return folder


def _unusable(path: Path, error: OSError) -> str:
    return (
        f"{path}: no lock for a GPU can be kept there ({error.strerror}); see to it that all may write there, or set "
        f"{VISIBLE} for the run and maxForks = 1 for the label gpu"
    )


@contextmanager
def _for_all() -> Iterator[None]:
    """What is made in this block may be used by other users, whatever the umask."""
    umask = os.umask(0)
    try:
        yield
    finally:
        os.umask(umask)


def wait_for_place(
    folder: Path,
    gpus: Sequence[Gpu],
    per_gpu: int,
    *,
    spacing_s: float = SPACING_S,
    say: Callable[[str], None] = lambda line: print(line, flush=True),
) -> Lease:
    """Lease a place on the GPU with the most free ones, the first of these; wait where there is none.

    Args:
        folder: where the locks are.
        gpus: those that may be used.
        per_gpu: places on each.
        spacing_s: seconds between two looks.
        say: told what is waited for, and what is leased.

    Raises:
        UserError: the locks cannot be used.
        SystemExit: a signal to end came while it waited.
    """
    shown = f"{len(gpus)} {'GPU' if len(gpus) == 1 else 'GPUs'} with {per_gpu} {'place' if per_gpu == 1 else 'places'}"
    begin = time.monotonic()
    told = False
    with _ended_by_signals():
        while (found := _free_place(folder, gpus, per_gpu)) is None:
            if not told:
                say(f"{shown} {'each ' if len(gpus) > 1 else ''}taken by other tasks; waits for one")
            told = True
            time.sleep(spacing_s)
    gpu, place, handle = found
    waited = time.monotonic() - begin if told else 0.0
    say(f"leased GPU {gpu.uuid}, place {place} of {per_gpu}" + (f", after {waited:.0f} s" if told else ""))
    return Lease(gpu, place, waited, handle)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A task's shell ignores signals for its training's sake, and so would this process (modules/train.nf)."""

    def end(number: int, _frame: FrameType | None) -> None:
        print(f"told to end by signal {number} while it waited for a GPU", file=sys.stderr, flush=True)
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in WAITING_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free_place(folder: Path, gpus: Sequence[Gpu], per_gpu: int) -> tuple[Gpu, int, int] | None:
    """A place on the GPU with the most free ones, with its lock; None where all are taken.

    To know how many are free, all locks are tried and but one given back: behind a door, so that no two look at once.
    """
    door = _open(folder / DOOR)
    free: dict[str, list[tuple[int, int]]] = {gpu.uuid: [] for gpu in gpus}
    kept: int | None = None
    try:
        fcntl.lockf(door, fcntl.LOCK_EX)
        for gpu in gpus:
            for place in range(1, per_gpu + 1):
                handle = _open(folder / f"{gpu.uuid}.{place}")
                try:
                    fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(handle)
                else:
                    free[gpu.uuid].append((place, handle))
        best = max(gpus, key=lambda gpu: len(free[gpu.uuid]))
        if not free[best.uuid]:
            return None
        place, kept = free[best.uuid][0]
        return best, place, kept
    except OSError as error:
        raise UserError(_unusable(folder, error)) from None
    finally:
        for handle in [handle for places in free.values() for _, handle in places if handle != kept] + [door]:
            os.close(handle)


def _open(path: Path) -> int:
    """A file to lock, which may be another user's: made only where it is not there (Linux's `fs.protected_regular`).

    Raises:
        UserError: it cannot be opened.
    """
    try:
        while True:
            try:
                return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            except FileNotFoundError:
                pass
            with _for_all():
                try:
                    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
                except FileExistsError:
                    pass
    except OSError as error:
        raise UserError(_unusable(path, error)) from None
