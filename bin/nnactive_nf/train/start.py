"""Where a training's weights come from, where they are not drawn: a user's checkpoint, or the node before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import file_digest, read_json
from nnactive_nf.core.initial_weights import HEADS, InitialWeights, load_initial, shapes_of
from nnactive_nf.core.nnunet import load_fold
from nnactive_nf.core.trainer_file import TrainerFile
from nnactive_nf.train.store import Given
from nnactive_nf.train.trainer import ActiveTrainer


@dataclass(frozen=True)
class Start:
    """Weights that a training starts from.

    Attributes:
        weights: the user's, which hold all of a network but its heads; or of the same fold of the node before.
        shrink: whether they are shrunk and perturbed.
        digest: SHA-256 of the file that they come from.
        fold_of: fold of each case that was labelled for the node before; none where the weights are the user's.
    """

    weights: InitialWeights | Mapping[str, torch.Tensor]
    shrink: bool
    digest: str
    fold_of: Mapping[str, int] = field(default_factory=dict)

    def give(self, trainer: ActiveTrainer) -> None:
        """Put them in place of the weights that a trainer has drawn.

        Raises:
            UserError: the user's do not fit its network.
        """
        if isinstance(self.weights, InitialWeights):
            trainer.start_from(self.weights.for_network(shapes_of(trainer.network)))
        else:
            trainer.start_from(self.weights, self.shrink)

    @property
    def kind(self) -> str:
        """The parameter's word for them, for the record."""
        if isinstance(self.weights, InitialWeights):
            return "initial_weights"
        return "shrink_perturb" if self.shrink else "previous"

    @property
    def told(self) -> str:
        """What the training's log says of them."""
        if isinstance(self.weights, InitialWeights):
            heads = sum(HEADS in name for name in self.weights.weights)
            return f"starts from the weights of {self.weights.path.name}, but for its heads ({heads} weights)"
        how = "shrunk and perturbed, " if self.shrink else ""
        return f"goes on from this fold of the node before, {how}with the folds of {len(self.fold_of)} cases kept"


def users_start(path: Path) -> Start:
    """The start from a user's checkpoint; `UserError` as `load_initial`."""
    weights = load_initial(path)
    return Start(weights, False, weights.digest)


def previous_start(folder: Path, fold: int, shrink: bool, asked: Given, trainer: TrainerFile | None) -> Start:
    """The start from TRAIN's folder of the same fold of the node before.

    Raises:
        UserError: it is damaged, another fold's, or of other plans or classes; or its record does not tell the folds.
    """
    path, record = folder / "checkpoint.pth", read_json(folder / "training.json")
    before = load_fold(path, trainer)
    digest = file_digest(path)
    known = isinstance(record, dict) and record.get("checkpoint_sha256") == digest and record.get("fold") == fold
    if not known or before.trained_with != asked.trained_with:
        raise UserError(f"{path}: not fold {fold} of the same network, from which this training is to go on")
    return Start(before.weights, shrink, digest, _folds_of(record, fold, folder))


def _folds_of(record: Mapping[str, Any], fold: int, folder: Path) -> dict[str, int]:
    """Fold of each case as a record tells them; the cases that it did not train on must be those of its fold."""
    fold_of = record.get("fold_of")
    if isinstance(fold_of, dict) and fold_of and all(type(number) is int for number in fold_of.values()):
        left_out = [case for case, number in fold_of.items() if number == fold]
        if set(record.get("train_cases", ())) == fold_of.keys() - set(left_out):
            return dict(fold_of)
    raise UserError(f"{folder / 'training.json'}: does not tell the folds that its network was trained with")
