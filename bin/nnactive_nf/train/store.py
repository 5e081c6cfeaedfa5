"""The checkpoint store: trainings by the digest of what they rest on, outside any run's work folder."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import file_digest, read_json, write_json
from nnactive_nf.core.nnunet import FoldCheckpoint, alike_in, load_fold, load_torch, save_fold, save_torch, stored_fold
from nnactive_nf.core.trainer_file import TrainerFile


def training_digest(rests_on: Mapping[str, Any]) -> str:
    """SHA-256 of everything that a training's result rests on."""
    return hashlib.sha256(json.dumps(rests_on, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Given:
    """What a training was given and a finished fold must hold: plans, configuration, nnU-Net's `dataset.json`.

    And the trainer file whose own network it is (`network_by`, see `FoldCheckpoint`).
    """

    plans: Mapping[str, Any]
    configuration: str
    nnunet_json: Mapping[str, Any]
    network_by: str = ""

    @property
    def trained_with(self) -> tuple[Any, ...]:
        """The same as it comes back from a file (`FoldCheckpoint.trained_with`)."""
        plans, nnunet_json = (json.loads(json.dumps(part)) for part in (self.plans, self.nnunet_json))
        return alike_in(plans, self.configuration, nnunet_json, self.network_by)


class TrainingStore:
    """One training's place in the store.

    `latest.pth` is the state at the end of an epoch, from which a training goes on; the folder `finished` holds
    `checkpoint.pth` and `training.json` of the finished fold. Both come whole or not at all, so a killed task leaves
    the last good state behind, and two runs that train the same fold do not mix their files.

    Whoever shares the store may have put anything into it. So a fold is held against what this training rests on before
    it is taken; one that is damaged or another's is put aside, and the fold is trained anew.
    """

    def __init__(self, store: Path, digest: str) -> None:
        self.digest = digest
        self._finished = stored_fold(store, digest)
        self.folder = self._finished.parent
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"checkpoint_store {store}: cannot be written ({error.strerror})") from None

    def finished(self, given: Given, trainer: TrainerFile | None = None) -> bool:
        """Whether this training was done before, here or in another run; what cannot be trusted is put aside.

        Args:
            given: what the fold must hold.
            trainer: the user's trainer, where there is one.
        """
        if not self._finished.exists():
            return False
        try:
            self._check(given, trainer)
        except UserError as error:
            self._put_aside(self._finished, error)
            return False
        return True

    def _check(self, given: Given, trainer: TrainerFile | None) -> None:
        """Hold the finished fold against what it is to be.

        Raises:
            UserError: it is damaged, or another training's.
        """
        path = self._finished / "checkpoint.pth"
        record = read_json(self._finished / "training.json")
        if not isinstance(record, dict) or record.get("digest") != self.digest:
            raise UserError(f"{self._finished}/training.json: the record of another training")
        if record.get("checkpoint_sha256") != file_digest(path):
            raise UserError(f"{path}: not the file that its training wrote")
        fold = load_fold(path, trainer)
        if fold.digest != self.digest:
            raise UserError(f"{path}: the checkpoint of another training ({fold.digest[:12]})")
        if fold.trained_with != given.trained_with:
            raise UserError(f"{path}: was trained with other plans or classes, or another network")

    def _put_aside(self, path: Path, why: UserError) -> None:
        """Give what cannot be trusted another name, beside its own."""
        aside = path.with_name(f"{path.name}.refused-{secrets.token_hex(4)}")
        try:
            path.rename(aside)
        except FileNotFoundError:
            return  # another run has done so
        except OSError as error:
            raise UserError(f"{why.lines[0]}; it cannot be put aside ({error.strerror}): see to it by hand") from None
        print(f"{why.lines[0]}; put aside as {aside.name}, the fold is trained anew", flush=True)

    def load_latest(self) -> dict[str, Any] | None:
        """State to go on from; None where there is none, or it was put aside."""
        path = self.folder / "latest.pth"
        if not path.exists():
            return None
        try:
            state = load_torch(path)
            if state.get("digest") != self.digest:
                raise UserError(f"{path}: the state of another training")
        except UserError as error:
            self._put_aside(path, error)
            return None
        return state

    def refuse_latest(self, why: str) -> None:
        """Put the state aside, which fits its training in no way that `load_latest` could know."""
        path = self.folder / "latest.pth"
        self._put_aside(path, UserError(f"{path}: {why}"))

    def save_latest(self, state: Mapping[str, Any]) -> None:
        """Write the state at the end of an epoch."""
        save_torch(self.folder / "latest.pth", dict(state) | {"digest": self.digest})

    def finish(self, checkpoint: FoldCheckpoint, record: Mapping[str, Any]) -> None:
        """Keep the finished fold. Where another run was faster, its fold stays."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".finished.", suffix=".part") as name:
            part = Path(name) / "finished"
            save_fold(part / "checkpoint.pth", checkpoint)
            ids = {"digest": self.digest, "checkpoint_sha256": file_digest(part / "checkpoint.pth")}
            write_json(part / "training.json", dict(record) | ids)
            try:
                part.rename(self._finished)
            except OSError:
                if not self._finished.exists():
                    raise

    def deliver(self, out: Path, ids: Mapping[str, Any]) -> None:
        """Put the finished fold into a task's output folder, its record under the ids of this task.

        The state to go on from goes only now, since a task may be killed when it has just finished the fold.

        On one file system the checkpoint is there under a second name, so that it takes its room once. Neither is ever
        written to: the store replaces its files, and --cleanup_work leaves checkpoints alone.
        """
        record = read_json(self._finished / "training.json")
        temporary = out.with_name(f".{out.name}.part")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        _link_or_copy(self._finished / "checkpoint.pth", temporary / "checkpoint.pth")
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
