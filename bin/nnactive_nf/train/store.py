"""The checkpoint store: trainings by the digest of what they rest on, outside any run's work folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json, whole_file, write_json
from nnactive_nf.core.nnunet import FoldCheckpoint, load_fold, load_torch, save_fold


def training_digest(rests_on: Mapping[str, Any]) -> str:
    """SHA-256 of everything that a training's result rests on."""
    return hashlib.sha256(json.dumps(rests_on, sort_keys=True).encode()).hexdigest()


class TrainingStore:
    """One training's place in the store.

    `latest.pth` is the state at the end of an epoch, from which a training goes on; `checkpoint.pth` and
    `training.json` are the finished fold. All are written whole or not at all, so a killed task leaves the last good
    state behind.
    """

    def __init__(self, store: Path, digest: str) -> None:
        self.digest = digest
        self.folder = store / digest[:2] / digest
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"checkpoint_store {store}: cannot be written ({error.strerror})") from None

    @property
    def finished(self) -> bool:
        """Whether this training was done before, here or in another run."""
        return (self.folder / "checkpoint.pth").is_file() and (self.folder / "training.json").is_file()

    def load_latest(self) -> dict[str, Any] | None:
        """State to go on from; None where there is none or it cannot be read."""
        path = self.folder / "latest.pth"
        if not path.is_file():
            return None
        try:
            return load_torch(path)
        except UserError as error:
            print(f"{error}; training starts anew")
            return None

    def save_latest(self, state: Mapping[str, Any]) -> None:
        """Write the state at the end of an epoch."""
        with whole_file(self.folder / "latest.pth") as temporary:
            torch.save(dict(state), temporary)

    def finish(self, checkpoint: FoldCheckpoint, record: Mapping[str, Any]) -> None:
        """Write the finished fold; the record last, so that a fold that has one is whole."""
        save_fold(self.folder / "checkpoint.pth", checkpoint)
        write_json(self.folder / "training.json", record)

    def deliver(self, out: Path, ids: Mapping[str, Any]) -> None:
        """Put the finished fold into a task's output folder, its record under the ids of this task.

        The state to go on from goes only now, since a task may be killed when it has just finished the fold.

        On one file system the checkpoint is there under a second name, so that it takes its room once. Neither is ever
        written to: the store replaces its files, and --cleanup_work leaves checkpoints alone.

        Raises:
            UserError: the fold or its record is damaged.
        """
        try:
            load_fold(self.folder / "checkpoint.pth")  # a damaged store must not pass for a training
            record = read_json(self.folder / "training.json")
        except UserError as error:
            raise UserError(f"{error}; delete {self.folder}, and the fold is trained anew") from None
        temporary = out.with_name(f".{out.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _link_or_copy(self.folder / "checkpoint.pth", temporary / "checkpoint.pth")
        write_json(temporary / "training.json", record | dict(ids))
        temporary.rename(out)
        with suppress(OSError):  # there is none, or the store is someone else's
            (self.folder / "latest.pth").unlink()


def _link_or_copy(source: Path, target: Path) -> None:
    """A hard link, or a copy where there can be none: another file system or mount, or a file of someone else's."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)
