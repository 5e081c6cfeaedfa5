"""What a training uses: load of its GPU, waits for batches, peaks of memory, CPU time. The trace knows no GPUs."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable, Mapping

import torch

SPACING_S = 1.0
# Share of the time from which on a GPU's waits for batches are worth a line.
MUCH_PERCENT = 15


class Usage:
    """Measures while its block runs; a training that goes on adds to what its earlier attempts used.

    Nothing here ends a training: what cannot be measured is None in the record.

    Args:
        device: where the training runs.
        before: `totals()` of the attempts before.
        spacing_s: seconds between two looks at the GPU.
    """

    def __init__(
        self, device: torch.device, before: Mapping[str, float] | None = None, spacing_s: float = SPACING_S
    ) -> None:
        self._device, self._spacing_s = device, spacing_s
        self._before = {
            "looks": 0, "percent_sum": 0, "percent_max": 0, "cpu_seconds": 0, "host_bytes": 0, "gpu_bytes": 0,
            "loader_seconds": 0, "loop_seconds": 0,
        } | dict(before or {})  # fmt: skip
        self.loader_seconds = self.loop_seconds = 0.0  # of this attempt, as its trainer counts them
        self._looks: list[int] = []
        self._cpu_at = _cpu_seconds()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Usage:
        percent = _gpu_percent(self._device)
        if percent is not None:
            self._thread = threading.Thread(target=self._watch, args=(percent,), daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _watch(self, percent: Callable[[], int]) -> None:
        while not self._end.wait(self._spacing_s):
            try:
                self._looks.append(percent())
            except Exception:  # the driver no longer answers: no more looks, but the training goes on
                return

    def totals(self) -> dict[str, float]:
        """Plain numbers for a checkpoint, from which another attempt goes on."""
        looks, before = list(self._looks), self._before
        gpu_bytes = torch.cuda.max_memory_allocated(self._device) if self._device.type == "cuda" else 0
        return {
            "looks": before["looks"] + len(looks),
            "percent_sum": before["percent_sum"] + sum(looks),
            "percent_max": max([before["percent_max"], *looks]),
            "cpu_seconds": before["cpu_seconds"] + _cpu_seconds() - self._cpu_at,
            "host_bytes": max(before["host_bytes"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024),
            "gpu_bytes": max(before["gpu_bytes"], gpu_bytes),
            "loader_seconds": before["loader_seconds"] + self.loader_seconds,
            "loop_seconds": before["loop_seconds"] + self.loop_seconds,
        }

    def record(self) -> dict[str, float | None]:
        """What stands in `training.json`.

        `gpu_percent_*`: share of time in which the GPU, whoever used it, was busy. `peak_gpu_memory_bytes`: what torch
        had allocated at most. `peak_host_memory_bytes`: the training's own process, without those that make batches.
        `cpu_seconds`: user and system time of all its processes. `loader_percent`: share of the epochs' time in which
        the training waited for a batch; on a CPU, where it makes them itself, in which it made them.
        """
        totals = self.totals()
        looked = totals["looks"] > 0
        return {
            "gpu_percent_mean": round(totals["percent_sum"] / totals["looks"], 1) if looked else None,
            "gpu_percent_max": totals["percent_max"] if looked else None,
            "peak_gpu_memory_bytes": totals["gpu_bytes"] if self._device.type == "cuda" else None,
            "peak_host_memory_bytes": totals["host_bytes"],
            "cpu_seconds": round(totals["cpu_seconds"], 1),
            "loader_percent": _loader_percent(totals),
        }

    def advice(self) -> str:
        """A line where a GPU waits much for its batches, which processes beside it make; else ''."""
        percent = _loader_percent(self.totals())
        if self._device.type != "cuda" or percent is None or percent < MUCH_PERCENT:
            return ""
        return (
            f"the GPU waited for batches in {percent:.0f}% of the time; more `cpus` for the label gpu make them faster"
        )


def _loader_percent(totals: Mapping[str, float]) -> float | None:
    if totals["loop_seconds"] <= 0:
        return None
    return round(100 * totals["loader_seconds"] / totals["loop_seconds"], 1)


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _gpu_percent(device: torch.device) -> Callable[[], int] | None:
    """How to ask NVML for the load of torch's device; None where it does not answer.

    Torch counts the devices that `CUDA_VISIBLE_DEVICES` leaves, NVML counts all, so the device is named by its UUID.
    """
    if device.type != "cuda":
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(_uuid(device))

        def percent() -> int:
            return int(pynvml.nvmlDeviceGetUtilizationRates(handle).gpu)

        percent()  # a part of a GPU (MIG) has no load of its own
    except Exception:  # no driver, no library, another vendor's GPU, no right to ask
        return None
    return percent


def _uuid(device: torch.device) -> str:
    """NVML's name of torch's device."""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"
