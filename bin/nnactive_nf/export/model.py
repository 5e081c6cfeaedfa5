"""A trained ensemble as nnU-Net's own model folder, from which `nnUNetv2_predict_from_modelfolder` predicts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from string import Template

import torch

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import whole_file, write_json
from nnactive_nf.core.label_values import write_label_values
from nnactive_nf.core.nnunet import FoldCheckpoint, load_fold
from nnactive_nf.core.plans import label_order
from nnactive_nf.core.trainer_file import given_trainer

# Any trainer of nnU-Net's builds the network that the plans describe; this one has no other say in a prediction.
TRAINER = "nnUNetTrainer"
# A copy of a trainer that has; a name that Python can import, whatever the user's file is called.
OWN_TRAINER = "trainer.py"

OWN_ENVIRONMENT = "nnUNet_extTrainer=trainer PYTHONPATH=PROJECT/bin "
OWN_NETWORK = """
The network is built by `trainer/trainer.py`, a copy of the run's `--trainer_file`, which nnU-Net finds by the variable
before the command. It is a program: read it before you run it. `PROJECT` is the folder of nnactive-nf, whose trainer it
extends.
"""


def write_model(
    folder: Path,
    checkpoints: Sequence[Path],
    classes: Classes,
    name: str,
    tile_step: float,
    mirroring: bool,
    trainer_file: Path | None = None,
) -> None:
    """Make nnU-Net's model folder of an ensemble.

    Args:
        folder: folder to make: `plans.json`, `dataset.json`, `fold_<number>/checkpoint_final.pth`, and beside what
            nnU-Net wants `labels.json` (label values) and `predict.md` (how to predict).
        checkpoints: one checkpoint file per fold, in the order of the folds.
        classes: the data set's classes.
        name: what the ensemble is called.
        tile_step: step of the sliding window with which it was evaluated.
        mirroring: whether mirrored copies were averaged then.
        trainer_file: the user's trainer, with which the folds were trained. Where it has built their network, a copy of
            it is there, too: `trainer/trainer.py`, where nnU-Net finds it by `nnUNet_extTrainer`.

    Raises:
        UserError: a checkpoint is damaged, or of other classes or plans than the first.
    """
    trainer = given_trainer(trainer_file)
    folds = [load_fold(path, trainer) for path in checkpoints]
    for path, fold in zip(checkpoints, folds, strict=True):
        _check(path, fold, folds[0], classes)
    first = folds[0]
    own = trainer if first.network_by else None
    for number, fold in enumerate(folds):
        with whole_file(folder / f"fold_{number}" / "checkpoint_final.pth") as temporary:
            torch.save(_checkpoint(fold, own.trainer.__name__ if own else TRAINER), temporary)
    ending = str(first.nnunet_json["file_ending"])
    write_json(folder / "plans.json", first.plans)
    write_json(folder / "dataset.json", first.nnunet_json, sort_keys=False)
    write_label_values(folder / "labels.json", classes, ending)
    if own is not None:
        with whole_file(folder / "trainer" / OWN_TRAINER) as temporary:
            shutil.copyfile(own.path, temporary)
    with whole_file(folder / "predict.md") as temporary:
        temporary.write_text(_how_to_predict(first, len(folds), classes, name, tile_step, mirroring), encoding="utf-8")


def _check(path: Path, fold: FoldCheckpoint, first: FoldCheckpoint, classes: Classes) -> None:
    if fold.trained_with != first.trained_with:
        raise UserError(f"{path}: was trained with other plans or classes than the first fold")
    wanted = classes.for_nnunet(ignore=True)
    if fold.nnunet_json["labels"] != wanted["labels"] or label_order(fold.nnunet_json) != label_order(wanted):
        names = [name for name in fold.nnunet_json["labels"] if name != "ignore"]
        raise UserError(f"{path}: was trained on the classes {names}, not {list(classes.named)}")


def _checkpoint(fold: FoldCheckpoint, trainer_name: str) -> dict[str, object]:
    return {
        "network_weights": fold.weights,
        "trainer_name": trainer_name,
        "init_args": {"configuration": fold.configuration},
        "inference_allowed_mirroring_axes": fold.mirror_axes or None,
    }


def _how_to_predict(
    fold: FoldCheckpoint, folds: int, classes: Classes, name: str, tile_step: float, mirroring: bool
) -> str:
    ending, channels = fold.nnunet_json["file_ending"], fold.nnunet_json["channel_names"]
    same = classes.values == tuple(range(len(classes)))
    labels = [(classes.described(index), index, value) for index, value in enumerate(classes.values)]
    return Template(Path(__file__).with_name("predict.md").read_text(encoding="utf-8")).substitute(
        name=name,
        configuration=fold.configuration,
        folds=" ".join(map(str, range(folds))),
        files=", ".join(f"`CASE_{int(number):04d}{ending}` ({channel})" for number, channel in channels.items()),
        tile_step=f"{tile_step:g}",
        tta="" if mirroring else " --disable_tta",
        environment=OWN_ENVIRONMENT if fold.network_by else "",
        network=OWN_NETWORK if fold.network_by else "",
        rows="\n".join(f"| {label} | {index} | {value} |" for label, index, value in labels),
        remark="Here the values are the same." if same else "Here the values differ.",
    )
