"""The node: what of cores and memory a task really gets, its clock, and whether it has a network."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from nnactive_nf.preflight.findings import Finding, ok, warning

GB = 2**30  # as Nextflow and schedulers count
OUTSIDE = ("github.com", 443)


def check_resources(cores_asked: int, memory_asked: int) -> Finding:
    """Cores that this process may use and memory (bytes) that it may take, against what the task asked for."""
    cores, memory = usable_cores(), usable_memory()
    what = (
        f"cores: {cores_asked} asked for, {cores} there; "
        f"memory: {memory_asked / GB:.1f} GB asked for, {memory / GB:.1f} GB there"
    )
    if cores < cores_asked or memory < 0.95 * memory_asked:
        return warning(what, "tasks may be slow or killed: see what the scheduler gives a job, or ask for less of it")
    return ok(what)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def usable_memory() -> int:
    """The node's memory in bytes, or less where a control group has a limit."""
    total = int(Path("/proc/meminfo").read_text().split("MemTotal:")[1].split()[0]) * 1024
    return min([total, *_group_limits(Path("/proc/self/cgroup").read_text(), Path("/sys/fs/cgroup"))])


def _group_limits(groups: str, root: Path) -> Iterator[int]:
    """Memory limits (bytes) of the control groups that hold this process, of version 1 and 2."""
    for line in groups.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            base, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = base / path.lstrip("/")
        for place in (folder, *folder.parents):
            if place == base.parent:
                break
            try:
                yield int((place / name).read_text())
            except (OSError, ValueError):  # no such group seen from here, or 'max'
                continue


def check_clock() -> Finding:
    """The time here, for the launcher to compare with its own."""
    return ok("", time=time.time())


def check_network(outside: tuple[str, int] = OUTSIDE, seconds: float = 3.0) -> Finding:
    """Whether the outside is reached; tasks do not need it."""
    try:
        socket.create_connection(outside, seconds).close()
    except OSError:
        return ok("none; not needed")
    return ok("there; not needed")
