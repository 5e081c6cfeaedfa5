"""Files written whole or not at all, and HDF5 files that name their format."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from nnactive_nf import __version__
from nnactive_nf.core.errors import UserError

PROJECT = "nnactive-nf"

# What a pickle of numbers, texts, lists and arrays names; nothing of it does more than hold values.
PLAIN_NAMES = {
    "numpy": ("ndarray", "dtype"),
    **dict.fromkeys(("numpy._core.multiarray", "numpy.core.multiarray"), ("_reconstruct", "scalar")),
    **dict.fromkeys(("numpy._core.numeric", "numpy.core.numeric"), ("_frombuffer",)),
}

# What h5py raises where a part of a file is missing, of another kind than expected, or cannot be decompressed.
DAMAGE = (KeyError, OSError, ValueError, TypeError, AttributeError)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Temporary path in the same folder that takes the name `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON with sorted keys; NaN is refused, since it is not JSON."""
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    with whole_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON or say in one line why it cannot be read."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path}: not a JSON file ({error})") from None


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes in hexadecimal; `UserError` where it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


class _PlainUnpickler(pickle.Unpickler):
    """Reads values; a pickle that names anything else, which a plain one would call, is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """One of `PLAIN_NAMES`."""
        if name not in PLAIN_NAMES.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


def read_plain_pickle(path: Path) -> Any:
    """Numbers, texts, arrays, and lists, tuples and dictionaries of them; nothing that a file brings along is run."""
    try:
        with Path(path).open("rb") as file:
            return _PlainUnpickler(file).load()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # a damaged pickle raises whatever it stumbles over
        raise UserError(f"{path}: not a pickle of plain values ({type(error).__name__}: {error})") from None


@contextmanager
def create_hdf5(path: Path, kind: str, version: int, attributes: Mapping[str, Any]) -> Iterator[h5py.File]:
    """New HDF5 file of format `nnactive-nf/<kind>` with these root attributes, written whole or not at all."""
    with whole_file(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = f"{PROJECT}/{kind}"
        file.attrs["version"] = version
        file.attrs["created_by"] = f"{PROJECT} {__version__}"
        for name, value in attributes.items():
            file.attrs[name] = value
        yield file


@contextmanager
def open_hdf5(path: Path, kind: str, version: int) -> Iterator[h5py.File]:
    """Open an HDF5 file of format `nnactive-nf/<kind>` for reading.

    Raises `UserError` where the file is missing, truncated, of another format or of a version not known here.
    """
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        file = h5py.File(path, "r", locking="best-effort")
    except OSError as error:
        raise UserError(f"{path}: not a readable HDF5 file, it may be truncated ({error})") from None
    with file:
        expected = f"{PROJECT}/{kind}"
        found = file.attrs.get("format")
        if found != expected:
            raise UserError(f"{path}: format is {found!r}, expected {expected!r}")
        if file.attrs.get("version") != version:
            raise UserError(f"{path}: version {file.attrs.get('version')} of {expected}, this code reads {version}")
        yield file
