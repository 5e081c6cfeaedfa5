"""The stage as a whole: one data set of the Decathlon in the download folder, whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnactive_nf.core.errors import UserError
from nnactive_nf.download.archive import md5_of, unpack
from nnactive_nf.download.tasks import Task
from nnactive_nf.download.transfer import ATTEMPTS, PAUSE_S, TransferError, download


def fetch(task: Task, folder: Path, bucket: str, attempts: int = ATTEMPTS, pause_s: float = PAUSE_S) -> Path:
    """Download a task's archive, check its MD5 sum and unpack it; or find it there.

    All work is done in a hidden folder of this run's own, whose last step is a rename: several runs may fetch the same
    task at the same time, and one that is killed leaves nothing that passes for a data set.

    Args:
        task: what to fetch.
        folder: the download folder. An archive `<task>.tar` that somebody put there is taken instead of a download.
        bucket: address of the folder of archives.
        attempts: how often to try, see `transfer.download`.
        pause_s: seconds between tries.

    Returns:
        `folder / task.name`, a Decathlon folder.

    Raises:
        UserError: no network, a wrong MD5 sum, a damaged archive, or a folder that cannot be written.
    """
    folder = folder.resolve()
    target = folder / task.name
    if target.exists():  # asked first: what has its name is whole, while another run may rename between two looks
        if not is_there(target):
            raise UserError(f"{target}: there is something of that name without a dataset.json in it; move it away")
        print(f"{task.name}: is there already, in {target}")
        return target
    with _own_folder(folder, task.name) as own:
        archive = _archive(task, folder, own, f"{bucket}/{task.name}.tar", attempts, pause_s)
        unpacked = unpack(archive, task.name, own / "unpacked")
        if not is_there(unpacked):
            raise UserError(f"{archive.name}: no {task.name}/dataset.json in it")
        _keep(unpacked, target)
    print(f"{task.name}: in {target}")
    return target


def is_there(folder: Path) -> bool:
    """Whether a data set lies there. Folders get their names when they are whole, so a look at one file will do."""
    return (folder / "dataset.json").is_file()


def _archive(task: Task, folder: Path, own: Path, url: str, attempts: int, pause_s: float) -> Path:
    """The archive with the right MD5 sum: the one that somebody put into the folder, else downloaded."""
    by_hand = folder / f"{task.name}.tar"
    if by_hand.is_file():
        print(f"{task.name}: {by_hand} is there and not downloaded again", flush=True)
        _check(task, by_hand, f"is it cut off? Download it again from {url}")
        return by_hand
    print(f"{task.name}: downloading {url}", flush=True)
    archive = own / by_hand.name
    try:
        download(url, archive, attempts, pause_s)
    except TransferError as error:
        raise UserError(
            f"{task.name}: cannot be downloaded ({error}). Is there a network here? If not, download {url} elsewhere, "
            f"put it at {by_hand} and run again"
        ) from None
    _check(task, archive, f"it is not kept. Try again, or download {url} elsewhere and put it at {by_hand}")
    return archive


def _check(task: Task, archive: Path, advice: str) -> None:
    found = md5_of(archive)
    if found != task.md5:
        raise UserError(f"{archive.name}: its MD5 sum is {found}, published is {task.md5}; {advice}")
    print(f"{task.name}: the MD5 sum is right", flush=True)


@contextmanager
def _own_folder(folder: Path, name: str) -> Iterator[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        own = Path(tempfile.mkdtemp(dir=folder, prefix=f".{name}.", suffix=".part"))
    except OSError as error:
        raise UserError(f"download_dir {folder}: cannot be written ({error.strerror})") from None
    try:
        yield own
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _keep(unpacked: Path, target: Path) -> None:
    try:
        unpacked.rename(target)
    except OSError as error:
        if not is_there(target):
            raise UserError(f"{target}: cannot be written ({error.strerror})") from None
        print(f"{target.name}: another run was faster, its folder is taken")
