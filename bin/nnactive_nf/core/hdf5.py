"""HDF5 files that name their format: written whole or not at all, and looked through before they are read.

The HDF5 library trusts what it reads. A file may point at any other file of the user's, claim more than any memory
holds, or be so damaged that the library never comes back or takes the process along. So a process of its own looks
through a file first, for a limited time. What is refused:

- links to other files, links by name, external and virtual storage;
- values that are neither numbers nor text, filters other than gzip, shuffle and checksum;
- a data set that claims more than what is stored can hold;
- more objects than any file of the workflow has;
- whatever the library stumbles over, or does not come back from.
"""

from __future__ import annotations

import faulthandler
import io
import os
import select
import signal
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import h5py
from h5py._objects import phil

from nnactive_nf import __version__
from nnactive_nf.core.errors import UserError, one_line
from nnactive_nf.core.files import check_regular, whole_file

PROJECT = "nnactive-nf"

# What h5py raises where a part of a file is missing, of another kind than expected, or cannot be decompressed.
DAMAGE = (KeyError, OSError, ValueError, TypeError, AttributeError, RuntimeError, MemoryError, OverflowError)

LOOK_SECONDS = 60.0
MOST_OBJECTS = 2_000_000
# gzip makes 1,032 bytes of one at most.
MOST_BYTES_OF_ONE = 1100
SMALL_BYTES = 1 << 16
FILTERS = (h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
LARGEST_ANSWER = 4096  # of the process that looks, in bytes

_looked_at: set[tuple[int, int, int, int]] = set()


class _Disk:
    """The file that HDF5 writes to. It never tells HDF5 that the disk is full, which would take the process along."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.error: OSError | None = None
        self.seek, self.tell, self.read, self.readinto = file.seek, file.tell, file.read, file.readinto

    def write(self, data: bytes) -> int:
        """Write all of it, or note why not; nothing is written after that."""
        rest = memoryview(data).cast("B")
        while len(rest) and self.error is None:
            try:
                rest = rest[self._file.write(rest) or 0 :]
            except OSError as error:
                self.error = error
        if self.error is not None:
            self._file.seek(len(rest), os.SEEK_CUR)
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Cut or lengthen it, as long as it can be written."""
        return self._file.truncate(size) if self.error is None else size or 0

    def flush(self) -> None:
        """Raw files keep nothing back."""


_disks: weakref.WeakValueDictionary[int, _Disk] = weakref.WeakValueDictionary()


@contextmanager
def create_hdf5(path: Path, kind: str, version: int, attributes: Mapping[str, Any]) -> Iterator[h5py.File]:
    """New HDF5 file of format `nnactive-nf/<kind>` with these root attributes, written whole or not at all.

    Raises:
        UserError: the disk is full.
    """
    with whole_file(path) as temporary, temporary.open("r+b", buffering=0) as raw:
        disk = _Disk(raw)
        try:
            with h5py.File(disk, "w") as file:
                _disks[file.id.id] = disk
                file.attrs["format"] = f"{PROJECT}/{kind}"
                file.attrs["version"] = version
                file.attrs["created_by"] = f"{PROJECT} {__version__}"
                for name, value in attributes.items():
                    file.attrs[name] = value
                yield file
        finally:
            if disk.error is not None:  # whatever HDF5 makes of it
                raise disk.error


def check_space(item: h5py.Group) -> None:
    """End a long writing as soon as the disk is full; the error is the disk's own."""
    file = item.file
    file.flush()
    disk = _disks.get(file.id.id)
    if disk is not None and disk.error is not None:
        raise disk.error


@contextmanager
def open_hdf5(path: Path, kind: str, version: int) -> Iterator[h5py.File]:
    """Open an HDF5 file of format `nnactive-nf/<kind>` for reading.

    Raises:
        UserError: the file is missing, truncated, of another format or of a version not known here, holds what is
            refused here, or what the block reads of it cannot be read.
    """
    path = Path(path)
    check_regular(path)
    _look_through(path)
    try:
        file = h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        raise UserError(f"{path}: not a readable HDF5 file, it may be truncated ({one_line(error)})") from None
    with file:
        try:
            _check_format(path, file, kind, version)
            yield file
        except DAMAGE as error:
            raise UserError(f"{path}: damaged {kind} file ({one_line(error)})") from error


def _check_format(path: Path, file: h5py.File, kind: str, version: int) -> None:
    expected, found = f"{PROJECT}/{kind}", file.attrs.get("format")
    if not isinstance(found, str) or found != expected:
        raise UserError(f"{path}: format is {found!r}, expected {expected!r}")
    its = file.attrs.get("version")
    if getattr(its, "shape", ()) != () or its != version:
        raise UserError(f"{path}: version {its} of {expected}, this code reads {version}")


def _look_through(path: Path) -> None:
    """Look through a file that this process has not looked through before."""
    state = path.stat()
    seen = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
    if seen in _looked_at:
        return
    problem = in_own_process(lambda: file_problem(path), LOOK_SECONDS)
    if problem:
        raise UserError(f"{path}: {problem}")
    _looked_at.add(seen)


def in_own_process(look: Callable[[], str], seconds: float) -> str:
    """What a function says in a process of its own; also where it crashes, or does not come back within a time."""
    ends, starts = os.pipe()
    with phil:  # so that no other thread is inside the library when it is doubled
        child = os.fork()
    if child == 0:
        _answer(look, starts)
    os.close(starts)
    try:
        return _heard(ends, child, seconds)
    finally:
        os.close(ends)


def _answer(look: Callable[[], str], pipe: int) -> NoReturn:
    """The child: nothing of the parent's is written, closed or tidied up."""
    faulthandler.disable()
    with suppress(BaseException):
        os.write(pipe, b"." + look().encode(errors="replace")[:LARGEST_ANSWER])
    os._exit(0)


def _heard(pipe: int, child: int, seconds: float) -> str:
    ends_at, text = time.monotonic() + seconds, b""
    while select.select([pipe], [], [], max(0.0, ends_at - time.monotonic()))[0]:
        part = os.read(pipe, LARGEST_ANSWER)
        text += part
        if not part:
            break
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return f"damaged HDF5 file, reading it did not come to an end within {seconds:g} s"
    os.waitpid(child, 0)
    if not text:
        return "damaged HDF5 file, the HDF5 library broke down over it"
    return text[1:].decode(errors="replace")


def file_problem(path: Path) -> str:
    """What is refused of a file, in one line; '' where nothing is."""
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            return next(_problems(file), "")
    except DAMAGE as error:
        return f"not a readable HDF5 file, it may be truncated ({one_line(error)})"


def _problems(file: h5py.File) -> Iterator[str]:
    """Walk through all objects, each once."""
    seen: set[int] = set()
    rest: list[tuple[str, h5py.Group | h5py.Dataset]] = [("/", file["/"])]
    while rest:
        name, item = rest.pop()
        place = h5py.h5o.get_info(item.id).addr
        if place in seen:
            continue
        seen.add(place)
        if len(seen) > MOST_OBJECTS:
            yield f"it holds more than {MOST_OBJECTS} objects"
            return
        for attribute in item.attrs:
            if not _plain_type(item.attrs.get_id(attribute).dtype):
                yield f"attribute '{attribute}' of {name} is neither number nor text"
            else:
                _ = item.attrs[attribute]
        if isinstance(item, h5py.Dataset):
            yield from (f"{name}: {problem}" for problem in _storage_problems(item))
            continue
        if not isinstance(item, h5py.Group):
            yield f"{name} is neither group nor data set"
            return
        for key in item:
            if not isinstance(item.get(key, getlink=True), h5py.HardLink):
                yield f"{name.rstrip('/')}/{key} is a link, maybe to another file; links are not followed"
            else:
                rest.append((f"{name.rstrip('/')}/{key}", item[key]))


def _plain_type(dtype: Any) -> bool:
    return dtype.kind in "iufbS" or h5py.check_string_dtype(dtype) is not None


def _storage_problems(item: h5py.Dataset) -> Iterator[str]:
    if not _plain_type(item.dtype):
        yield f"it holds {item.dtype}, neither numbers nor text"
        return
    if item.is_virtual or item.external:
        yield "its values lie in another file, which is not read"
        return
    layout = item.id.get_create_plist()
    if any(layout.get_filter(place)[0] not in FILTERS for place in range(layout.get_nfilters())):
        yield "it is packed by a filter that is not used here"
        return
    claimed = item.dtype.itemsize
    for length in item.shape or (0,):
        claimed *= int(length)
    stored = item.id.get_storage_size()
    if claimed > MOST_BYTES_OF_ONE * stored + SMALL_BYTES:
        yield f"it claims {claimed} bytes where {stored} are stored"
