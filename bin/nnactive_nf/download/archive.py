"""Archives as they come from outside: their checksum, and unpacking that writes nowhere else than it is told to."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath

from nnactive_nf.core.errors import UserError


def md5_of(path: Path) -> str:
    """MD5 sum of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def unpack(archive: Path, top: str, folder: Path) -> Path:
    """Unpack the folder `top` of a tar archive.

    Files and folders alone are taken, with their times and the user's own rights; hidden ones are left out (macOS puts
    a `._name` beside each file), and so is what lies beside `top`. `tarfile`'s own filters would not do: the Python of
    Debian 12 lacks them.

    Args:
        archive: tar file.
        top: name of the folder in it.
        folder: folder to make, which gets `top`.

    Returns:
        `folder / top`.

    Raises:
        UserError: it is no tar file, cut off, holds names that lead out of it, links or devices; or the disk is full.
    """
    times: dict[Path, float] = {}
    folder.mkdir(parents=True)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                parts = _parts(archive, member)
                if parts and parts[0] == top and not any(part.startswith(".") for part in parts):
                    path = folder.joinpath(*parts)
                    _write(archive, tar, member, path)
                    times[path] = member.mtime
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{archive.name}: not a whole tar archive ({str(error).splitlines()[0]})") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from None
    for path, time in times.items():
        os.utime(path, (time, time))  # so that the same archive makes the same folder
    return folder / top


def _parts(archive: Path, member: tarfile.TarInfo) -> tuple[str, ...]:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise UserError(f"{archive.name}: it holds '{member.name}', which leads out of the folder; nothing is kept")
    return name.parts


def _write(archive: Path, tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    content = tar.extractfile(member) if member.isfile() else None
    if content is None:
        raise UserError(f"{archive.name}: '{member.name}' is neither file nor folder; nothing is kept")
    path.parent.mkdir(parents=True, exist_ok=True)
    with content, path.open("wb") as file:
        shutil.copyfileobj(content, file)
