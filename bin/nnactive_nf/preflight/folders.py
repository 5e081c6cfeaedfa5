"""Folders: written and read where a task runs, seen by the launcher too, with room in them, and HDF5's locks work."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from nnactive_nf.preflight.findings import Finding, fault, ok, warning

GB = 1e9
LITTLE_GB = 1.0
FROM_LAUNCHER = ".nnactive-nf-preflight-launcher"
FROM_TASK = ".nnactive-nf-preflight-task"
NOT_SHARED = (
    "all nodes and the launcher must see one file system there: start the run in a folder on it, or name one "
    "with -work-dir"
)


def check_work_folder(folder: Path | None, from_launcher: Path, token: str) -> Finding:
    """The launcher's file is read here, and the launcher is left one to read; `folder` is None in a bucket."""
    problem = _token_problem(from_launcher, token)
    if problem:
        return fault(f"a file of the launcher is not seen here: {problem}", NOT_SHARED)
    if folder is None:
        return ok("files are handed over through a bucket")
    return _leave_a_file(folder, FROM_TASK, token, NOT_SHARED)


def check_store(store: Path, token: str) -> Finding:
    """The same for the checkpoint store, in which trainings leave their state."""
    remedy = "--checkpoint_store must name a folder that all nodes and the launcher see and that you may write to"
    problem = _token_problem(store / f"{FROM_LAUNCHER}-{token}", token)
    if problem:
        return fault(f"a file of the launcher is not seen here: {problem}", remedy)
    return _leave_a_file(store, f"{FROM_TASK}-{token}", token, remedy)


def check_temporary(folder: Path | None = None) -> Finding:
    """The folder for temporary files ($TMPDIR, /tmp) takes files and has room."""
    remedy = "let TMPDIR name a folder that can be written: by beforeScript in the site's file, or env.TMPDIR"
    try:
        return _room_in(folder or Path(tempfile.gettempdir()), remedy)
    except FileNotFoundError as error:  # Python found no folder at all
        return fault(f"{error.strerror or error}", remedy)


def check_scratch(folder: Path) -> Finding:
    """The folder on the node that the task runs in (the directive `scratch`) takes files and has room."""
    return _room_in(folder, "process.scratch in the site's file must name a disk on every node that you may write to")


def check_input(folders: tuple[Path, ...]) -> Finding:
    """A data set's dataset.json and one file of each of its folders are read."""
    remedy = "--input must lie on a file system that the nodes see, and be readable there for you"
    read = 0
    for folder in folders:
        try:
            files = [folder / "dataset.json"]
            for part in sorted(path for path in folder.iterdir() if path.is_dir()):
                files += sorted(path for path in part.iterdir() if path.is_file())[:1]
            for path in files:
                with path.open("rb") as file:
                    file.read(1 << 16)
            read += len(files)
        except OSError as error:
            return fault(f"{error.filename or folder}: {error.strerror}", remedy)
    return ok(f"read: {read} files of {', '.join(os.path.realpath(folder) for folder in folders)}")


def check_hdf5(folder: Path) -> Finding:
    """An HDF5 file is written and read as the tasks do it: with file locks, unless they are switched off."""
    import h5py  # where it is broken, the check of the packages says so

    path = folder / f".nnactive-nf-preflight-{os.getpid()}.h5"
    try:
        with h5py.File(path, "w") as file:
            file["numbers"] = range(10)
        with h5py.File(path, "r") as file:
            intact = bool((file["numbers"][:] == range(10)).all())
    except OSError as error:
        return fault(f"{folder}: {error}", "put env.HDF5_USE_FILE_LOCKING = 'FALSE' into the site's file")
    finally:
        with suppress(OSError):
            path.unlink()
    if not intact:
        return fault(f"{folder}: what was read is not what was written", "this file system cannot be used")
    off = os.environ.get("HDF5_USE_FILE_LOCKING", "").upper() in ("FALSE", "0")
    return ok(f"{folder}: written and read, {'without locks (HDF5_USE_FILE_LOCKING)' if off else 'with locks'}")


def _token_problem(path: Path, token: str) -> str:
    try:
        found = path.read_text(encoding="utf-8")
    except OSError as error:
        return f"{os.path.realpath(path)}: {error.strerror}"
    return "" if found == token else f"{os.path.realpath(path)}: it holds something else"


def _leave_a_file(folder: Path, name: str, token: str, remedy: str) -> Finding:
    path = folder / name
    try:
        path.write_text(token, encoding="utf-8")
        free = shutil.disk_usage(folder).free / GB
    except OSError as error:
        return fault(f"{folder} cannot be written: {error.strerror}", remedy)
    return ok(f"{folder}: read and written here, {free:.0f} GB free", wrote=str(path))


def _room_in(folder: Path, remedy: str) -> Finding:
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".nnactive-nf-") as file:
            file.write(b"0" * 4096)
        free = shutil.disk_usage(folder).free / GB
    except OSError as error:
        return fault(f"{folder} cannot be written: {error.strerror}", remedy)
    if free < LITTLE_GB:
        return warning(f"{folder}: {free:.2f} GB free", f"make room there; {remedy}")
    return ok(f"{folder}: can be written, {free:.0f} GB free")
