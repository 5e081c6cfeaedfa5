"""Files written whole or not at all; JSON, pickles and digests of files."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import platform
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnactive_nf.core.errors import FULL, UserError, one_line

# What a pickle of numbers, texts, lists and arrays names; nothing of it does more than hold values.
PLAIN_NAMES = {
    "numpy": ("ndarray", "dtype"),
    **dict.fromkeys(("numpy._core.multiarray", "numpy.core.multiarray"), ("_reconstruct", "scalar")),
    **dict.fromkeys(("numpy._core.numeric", "numpy.core.numeric"), ("_frombuffer",)),
}


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Temporary path in the same folder that takes the name `path` when the block ends without an error."""
    path = Path(path)
    temporary: Path | None = None
    try:
        with tells_full_disk(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".part")
            os.close(handle)
            temporary = Path(name)
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())  # some file systems tell only now that they are full
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def tells_full_disk(folder: Path) -> Iterator[None]:
    """What a full disk or a quota is behind becomes a `UserError` that names the folder; other errors stay."""
    try:
        yield
    except Exception as error:
        if (line := _full_disk(folder, error)) is None:
            raise
        raise UserError(line) from None


def _full_disk(folder: Path, error: BaseException | None) -> str | None:
    """The line for an error that a full disk or a quota is behind; None for another error."""
    while error is not None:
        number = getattr(error, "errno", None)
        if number in FULL:
            place = f"{folder.resolve()} on {platform.node()}"
            return f"{place}: {os.strerror(number)}; make room there, then run the same command with -resume"
        error = error.__context__
    return None


def write_json(path: Path, content: Any, *, sort_keys: bool = True) -> None:
    """Write JSON; NaN is refused, since it is not JSON.

    Args:
        path: file to make.
        content: what it is to hold.
        sort_keys: off for nnU-Net's `dataset.json`, of whose `labels` the order says which region has which channel.
    """
    text = json.dumps(content, indent=1, sort_keys=sort_keys, allow_nan=False)
    with whole_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read JSON or say in one line why it cannot be read; a key that stands twice in an object is refused."""
    check_regular(path)
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"), object_pairs_hook=_without_twins)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # of which the decoders' errors are kinds
        raise UserError(f"{path}: not a JSON file ({one_line(error)})") from None


def read_object(path: Path) -> dict[str, Any]:
    """Read JSON whose content is an object."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: a JSON object is wanted")
    return content


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key '{twice}' stands in it twice")
    return found


def check_regular(path: Path) -> None:
    """Refuse what is no file: reading a pipe or a device waits for ever, or goes on for ever.

    So is a path that is not UTF-8 (or in a locale that has no such letters): SimpleITK would end the process.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise UserError(f"{path}: a path must be UTF-8; rename it, or set the locale to one with UTF-8") from None
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        raise UserError(f"{path}: {'no such file' if missing else f'cannot be read ({one_line(error)})'}") from None
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: {'a folder' if stat.S_ISDIR(mode) else 'a pipe or a device'}, a file is wanted")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes in hexadecimal; `UserError` where it cannot be read."""
    check_regular(path)
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
    check_regular(path)
    try:
        with Path(path).open("rb") as file:
            return _PlainUnpickler(file).load()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # a damaged pickle raises whatever it stumbles over
        raise UserError(f"{path}: not a pickle of plain values ({type(error).__name__}: {error})") from None
