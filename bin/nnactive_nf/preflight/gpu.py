"""What a GPU task finds: the GPU, the variable that says which one is meant, and memory that processes share."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nnactive_nf.preflight.findings import Finding, fault, ok, warning

GB = 1e9
SHARED_GB = 1.0
VARIABLE = "CUDA_VISIBLE_DEVICES"

# The option by which a container engine hands a GPU on (conf/containers.config).
HANDED_ON = {
    "apptainer": "--nv",
    "singularity": "--nv",
    "docker": "--gpus all",
    "podman": "--device nvidia.com/gpu=all",
}


def check_gpu(device: str, asked: int, engine: str, torch: Any = None) -> Finding:
    """A GPU is seen by torch and computes, where one is asked for.

    Args:
        device: `--device`: auto, cuda or cpu.
        asked: GPUs that the task asked its executor for.
        engine: container engine, empty where the task runs in none.
        torch: stands for the package in tests.
    """
    if device == "cpu" and asked:
        return warning(f"not asked for by --device cpu, yet each task has {asked} reserved", "add the profile cpu")
    if device == "cpu":
        return ok("not asked for (--device cpu)")
    torch = torch or importlib.import_module("torch")
    problem = _problem(torch)
    if not problem:
        return ok(_describe(torch))
    if device == "cuda" or asked > 0:
        return fault(f"asked for, but {problem}", _remedy(torch, asked, engine))
    return warning(
        f"not asked for, and {problem}",
        "trainings would run on the CPU; -profile gpu asks for a GPU, -profile cpu says that none is meant",
    )


def check_visible_devices(
    device: str, asked: int, on_scheduler: bool, environment: Mapping[str, str], seen: Callable[[], int]
) -> Finding:
    """The variable by which a scheduler says which GPU is meant has reached the task.

    Args:
        device: `--device`.
        asked: GPUs that the task asked its executor for.
        on_scheduler: whether a scheduler runs the task, so that other jobs may be on its node.
        environment: the task's variables.
        seen: gives the number of GPUs that torch sees.
    """
    value = environment.get(VARIABLE)
    told = "not set" if value is None else f"'{value}'"
    if device == "cpu":
        return ok(f"{told}; not needed (--device cpu)")
    if value is not None and value.strip() in ("", "-1", "NoDevFiles"):
        hidden = f"{told} hides all GPUs"
        needed = asked > 0 or device == "cuda"
        return fault(hidden, f"unset {VARIABLE}, or ask the scheduler for a GPU") if needed else ok(hidden)
    if on_scheduler and asked and (count := seen()) > asked:
        return warning(
            f"{told}: {count} GPUs are seen, {asked} asked for",
            "jobs on one node will share a GPU: the scheduler must set the variable or shut the other GPUs off",
        )
    return ok(f"{told}: all GPUs of the node are meant" if value is None else told)


def check_shared_memory(device: str, folder: Path = Path("/dev/shm")) -> Finding:
    """Data loaders hand batches over in shared memory, of which containers often have little."""
    try:
        free = shutil.disk_usage(folder).free / GB if os.access(folder, os.W_OK) else 0.0
    except OSError:
        free = 0.0
    what = f"{folder}: {free:.1f} GB free"
    if device == "cpu":
        return ok(f"{what}; not needed (--device cpu)")
    if free < SHARED_GB:
        return fault(
            f"{what}; data loaders want {SHARED_GB:.0f} GB or more",
            "docker and podman: --shm-size 8g in containerOptions of the label gpu; else make room on the node",
        )
    return ok(what)


def visible_gpus() -> int:
    """Number of GPUs that torch sees."""
    return importlib.import_module("torch").cuda.device_count()


def _problem(torch: Any) -> str:
    """Why torch cannot compute on a GPU; empty where it can."""
    if not torch.version.cuda:
        return f"torch {torch.__version__} is built without CUDA"
    try:
        ones = torch.ones(64, 64, device="cuda")
        right = float((ones @ ones).sum()) == 64.0**3
    except Exception as error:  # torch raises RuntimeError, AssertionError and others here
        return f"torch says: {' '.join(str(error).split()).split('. ')[0]}"
    return "" if right else "it computes wrongly"


def _describe(torch: Any) -> str:
    first = torch.cuda.get_device_properties(0)
    count, memory = torch.cuda.device_count(), first.total_memory / GB
    return f"{count} x {first.name}, {memory:.0f} GB, computes; CUDA {torch.version.cuda}"


def _remedy(torch: Any, asked: int, engine: str, devices: Path = Path("/dev")) -> str:
    """What to do, by what the node shows of a GPU."""
    if not torch.version.cuda:
        return "make the environment or the image anew from the lock file, whose torch has CUDA"
    if any(devices.glob("nvidia[0-9]*")):
        return f"a GPU is there: its driver may be too old for CUDA {torch.version.cuda}, or {VARIABLE} hides it"
    scheduler = "" if asked else "-profile gpu, or accelerator in the site's file, asks for one; "
    container = f"{engine} must hand it on ({HANDED_ON[engine]}); " if engine in HANDED_ON else ""
    return f"{scheduler}{container}the node must have an NVIDIA GPU and driver (queue, gres); -profile cpu does without"
