"""Files that people delivered: where they lie, whose they are, and what archives hold."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from nnactive_nf.core.double_read import SECOND
from nnactive_nf.core.files import whole_file

ARCHIVE = ".zip"


@dataclass(frozen=True)
class File:
    """A file that somebody delivered."""

    path: Path
    name: str  # below the folder of the cycle, as the user knows it
    annotator: str  # the folder that it lies in; '' where it lies in none, `SECOND` where in no other
    sha256: str
    delivered: str  # when it was last changed, in UTC
    second: bool = False  # it came as the second reader's

    @classmethod
    def at(cls, path: Path, name: str, modified: float) -> File:
        """A file that was last changed at this time."""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        second = SECOND in name
        folders = [part for part in Path(name).parts[:-1] if part != SECOND]
        annotator = folders[0] if folders else SECOND if second else ""
        delivered = datetime.fromtimestamp(modified, UTC).strftime("%Y-%m-%d %H:%M:%S")
        return cls(path, name, annotator, digest, delivered, second)


def delivered_files(folder: Path) -> Iterator[File]:
    """All files below a folder but hidden ones, by name."""
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in place.parts):
            yield File.at(path, str(place), path.stat().st_mtime)


def unpacked(files: Iterable[File], folder: Path) -> Iterator[File]:
    """The same with what archives hold in their place, unpacked below `folder`; damaged ones stay."""
    for number, file in enumerate(files):
        if file.path.suffix.lower() != ARCHIVE:
            yield file
            continue
        try:
            with zipfile.ZipFile(file.path) as archive:
                found = [entry for entry in archive.infolist() if not entry.is_dir()]
                for entry in found:  # by its name alone, so that none leads out of the folder
                    path = folder / str(number) / Path(entry.filename).name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(entry) as source, path.open("wb") as target:
                        shutil.copyfileobj(source, target)
                    inside = File.at(path, f"{file.name}/{path.name}", file.path.stat().st_mtime)
                    yield replace(inside, annotator=file.annotator, second=file.second)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            yield file


def keep_files(folder: Path, deliveries: Path) -> None:
    """Copy all that was delivered, so that nothing of it is lost when somebody replaces a file."""
    for file in delivered_files(deliveries):
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / f"{file.sha256[:12]}-{file.path.name}") as temporary:
            shutil.copyfile(file.path, temporary)
