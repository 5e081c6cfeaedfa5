"""Python and its packages: they can be imported, and are those of the lock file."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from nnactive_nf.preflight.findings import Finding, fault, ok, warning

NEEDED = ("torch", "nnunetv2", "SimpleITK", "h5py")
REMEDY = "'make setup' makes the project's own Python, 'make image' and 'make sif' the image; make the one in use anew"


def check_packages(lock: Path, needed: tuple[str, ...] = NEEDED) -> Finding:
    """Import the needed packages, and compare all versions with those of the lock file."""
    broken = [f"{name}: {problem}" for name in needed if (problem := _import_problem(name))]
    if broken:
        return fault(f"Python {platform.python_version()}; {'; '.join(broken)}", REMEDY)
    missing, other = compare_with_lock(lock.read_text(encoding="utf-8"), metadata.version)
    if missing:
        return fault(f"not installed: {_some(missing)}", REMEDY)
    if other:
        return warning(f"other versions than those of the lock file: {_some(other)}", REMEDY)
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in needed)
    return ok(f"Python {platform.python_version()}; {versions}; all as in the lock file")


def compare_with_lock(lock: str, version_of: Callable[[str], str]) -> tuple[list[str], list[str]]:
    """What of a lock file's `name==version` lines is missing, and what is there in another version.

    A build's own mark behind a plus (`2.15.0+cpu`) makes no other version.
    """
    missing, other = [], []
    for line in lock.splitlines():
        name, _, locked = line.split(";")[0].rstrip("\\ ").strip().partition("==")
        if not locked or name.startswith("#"):
            continue
        try:
            found = version_of(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if found.partition("+")[0] != locked.partition("+")[0]:
            other.append(f"{name} {found} instead of {locked}")
    return missing, other


def _import_problem(name: str) -> str:
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken installation raises whatever it likes
        return f"{type(error).__name__}: {error}"
    return ""


def _some(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
