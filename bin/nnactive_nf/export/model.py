"""A trained ensemble as nnU-Net's own model folder, from which `nnUNetv2_predict_from_modelfolder` predicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template

import torch

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import whole_file, write_json
from nnactive_nf.core.label_values import write_label_values
from nnactive_nf.core.nnunet import FoldCheckpoint, load_fold

# Any trainer of nnU-Net's builds the network that the plans describe; this one has no other say in a prediction.
TRAINER = "nnUNetTrainer"


def write_model(
    folder: Path, checkpoints: Sequence[Path], classes: Classes, name: str, tile_step: float, mirroring: bool
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

    Raises:
        UserError: a checkpoint is damaged, or of other classes or plans than the first.
    """
    folds = [load_fold(path) for path in checkpoints]
    for path, fold in zip(checkpoints, folds, strict=True):
        _check(path, fold, folds[0], classes)
    first = folds[0]
    for number, fold in enumerate(folds):
        with whole_file(folder / f"fold_{number}" / "checkpoint_final.pth") as temporary:
            torch.save(_checkpoint(fold), temporary)
    ending = str(first.nnunet_json["file_ending"])
    write_json(folder / "plans.json", first.plans)
    write_json(folder / "dataset.json", first.nnunet_json)
    write_label_values(folder / "labels.json", classes, ending)
    with whole_file(folder / "predict.md") as temporary:
        temporary.write_text(_how_to_predict(first, len(folds), classes, name, tile_step, mirroring), encoding="utf-8")


def _check(path: Path, fold: FoldCheckpoint, first: FoldCheckpoint, classes: Classes) -> None:
    if (fold.plans, fold.configuration, fold.nnunet_json) != (first.plans, first.configuration, first.nnunet_json):
        raise UserError(f"{path}: was trained with other plans or classes than the first fold")
    names = sorted((index, name) for name, index in fold.nnunet_json["labels"].items() if name != "ignore")
    if tuple(name for _, name in names) != classes.names:
        raise UserError(f"{path}: was trained on the classes {[name for _, name in names]}, not {list(classes.names)}")


def _checkpoint(fold: FoldCheckpoint) -> dict[str, object]:
    return {
        "network_weights": fold.weights,
        "trainer_name": TRAINER,
        "init_args": {"configuration": fold.configuration},
        "inference_allowed_mirroring_axes": fold.mirror_axes or None,
    }


def _how_to_predict(
    fold: FoldCheckpoint, folds: int, classes: Classes, name: str, tile_step: float, mirroring: bool
) -> str:
    ending, channels = fold.nnunet_json["file_ending"], fold.nnunet_json["channel_names"]
    same = classes.values == tuple(range(len(classes)))
    values = zip(classes.names, classes.values, strict=True)
    return Template(Path(__file__).with_name("predict.md").read_text(encoding="utf-8")).substitute(
        name=name,
        configuration=fold.configuration,
        folds=" ".join(map(str, range(folds))),
        files=", ".join(f"`CASE_{int(number):04d}{ending}` ({channel})" for number, channel in channels.items()),
        tile_step=f"{tile_step:g}",
        tta="" if mirroring else " --disable_tta",
        rows="\n".join(f"| {label} | {index} | {value} |" for index, (label, value) in enumerate(values)),
        remark="Here the values are the same." if same else "Here the values differ.",
    )
