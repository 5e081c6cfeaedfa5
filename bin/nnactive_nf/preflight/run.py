"""All checks by the names that the table gives them, and the run of those that a task is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from nnactive_nf.core.errors import UserError
from nnactive_nf.preflight import folders, gpu, machine, packages
from nnactive_nf.preflight.findings import CHECK_LINE, Finding, fault, finding_line

LONGEST_SECONDS = 60


@dataclass(frozen=True)
class Asked:
    """What the task was promised: its resources, and where things are."""

    token: str  # of this preflight, in the files that launcher and tasks leave for each other
    cores: int = 1
    memory: int = 0  # bytes
    device: str = "auto"
    gpus: int = 0
    executor: str = "local"
    engine: str = ""
    work: Path | None = None  # the task's work folder; None in a bucket
    marker: Path = Path(folders.FROM_LAUNCHER)
    store: Path = Path("checkpoints")
    lock: Path = Path("requirements.txt")
    inputs: tuple[Path, ...] = ()


CHECKS: dict[str, Callable[[Asked], Finding]] = {
    "Python packages": lambda asked: packages.check_packages(asked.lock),
    "cores and memory": lambda asked: machine.check_resources(asked.cores, asked.memory),
    "network": lambda _asked: machine.check_network(),
    "clock": lambda _asked: machine.check_clock(),
    "work folder": lambda asked: folders.check_work_folder(asked.work, asked.marker, asked.token),
    "HDF5 in the work folder": lambda asked: folders.check_hdf5(asked.work or Path.cwd()),
    "temporary folder": lambda _asked: folders.check_temporary(),
    "scratch folder": lambda _asked: folders.check_scratch(Path.cwd()),
    "input": lambda asked: folders.check_input(asked.inputs),
    "GPU": lambda asked: gpu.check_gpu(asked.device, asked.gpus, asked.engine),
    "CUDA_VISIBLE_DEVICES": lambda asked: gpu.check_visible_devices(
        asked.device, asked.gpus, asked.executor != "local", os.environ, gpu.visible_gpus
    ),
    "shared memory": lambda asked: gpu.check_shared_memory(asked.device),
    "checkpoint store": lambda asked: folders.check_store(asked.store, asked.token),
    "HDF5 in the store": lambda asked: folders.check_hdf5(asked.store),
}


def preflight(names: Sequence[str], asked: Asked) -> None:
    """Run the named checks and print what each finds; a check that fails in itself is a finding too."""
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        raise UserError(f"checks: unknown: {', '.join(unknown)}; there are {', '.join(CHECKS)}")
    for name in names:
        print(CHECK_LINE + name, flush=True)
        print(finding_line(name, run_check(CHECKS[name], asked)), flush=True)


def run_check(check: Callable[[Asked], Finding], asked: Asked, seconds: float = LONGEST_SECONDS) -> Finding:
    """One check's finding, which comes within a time."""
    try:
        with time_limit(seconds):
            return check(asked)
    except TimeoutError:
        return fault(f"no answer within {seconds:.0f} s", "the file system or the driver hangs: ask who runs the node")
    except Exception as error:  # what a broken node can raise is not known
        return fault(f"{type(error).__name__}: {error}", "the node is not as the workflow needs it")


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` in the block when it takes longer."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
