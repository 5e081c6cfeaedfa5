"""Without a test set: each fold's network on the labelled patches of the cases that it was not trained on.

The patches were chosen to be hard, they are few, and each network is measured alone, so this tells how training goes
from cycle to cycle, not how well the ensemble segments a new case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.ensemble import Ensemble
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json, write_json
from nnactive_nf.core.labels import patch_boxes, read_labels
from nnactive_nf.core.nnunet import resolve_device
from nnactive_nf.evaluate.measures import Calibration, mean_measures, overlap_measures
from nnactive_nf.evaluate.run import add_calibration

KIND = "cross-validation"


def cross_validate(
    prepared: Path,
    labels_file: Path,
    folds: Sequence[Path],
    ids: Mapping[str, Any],
    tile_step: float,
    mirroring: bool,
    device: str,
    threads: int,
    out: Path,
    trainer_file: Path | None = None,
) -> None:
    """Measure each fold on its own validation cases and write `metrics.json`, whose `measured_by` says how.

    Args:
        prepared: PREPARE's folder.
        labels_file: the node's label masks.
        folds: TRAIN's folder of each fold, in their order.
        ids: node, dataset, regime, seed, cycle, strategy; they go into the file.
        tile_step: step of the sliding window as a share of the network's patch.
        mirroring: average over mirrored copies of each window.
        device: `auto`, `cuda` or `cpu`.
        threads: CPU threads.
        out: file to make. Distances between surfaces are not measured: patches cut them off.
        trainer_file: the user's trainer, with which the folds were trained.

    Raises:
        UserError: a file is damaged.
    """
    dataset = Dataset.open(prepared)
    labels = read_labels(labels_file, shapes=dataset.shapes)
    dataset.check_owner(labels_file, labels.dataset, labels.classes)
    ensemble = Ensemble(
        [fold / "checkpoint.pth" for fold in folds], resolve_device(device, threads), tile_step, mirroring, trainer_file
    )
    ensemble.check_fits(dataset)
    names, mask_of = [*dataset.classes.targets], dataset.classes.mask_of
    calibration = Calibration()
    cases: list[dict[str, Any]] = []
    for number, fold in enumerate(folds):
        for case in validation_cases(fold / "training.json"):
            patches = np.zeros(dataset.shapes[case], dtype=bool)
            for box in patch_boxes(labels.patches, case):
                patches[box.slices] = labels.masks[case][box.slices] != dataset.classes.ignore_value
            probability = ensemble.probabilities(number, dataset.network_image(case))
            found = dataset.classes.to_value(dataset.to_image_grid(ensemble.label_indices(probability).cpu().numpy()))
            truth = labels.masks[case][patches]
            on_image_grid = dataset.to_image_grid(probability.cpu().numpy())
            add_calibration(calibration, on_image_grid[:, patches], truth, dataset.classes)
            measures = {name: overlap_measures(mask_of(found[patches], name), mask_of(truth, name)) for name in names}
            cases.append({"case": case, "fold": number, "classes": measures})
    cases.sort(key=lambda row: row["case"])
    mean = mean_measures(cases, names)
    write_json(
        out,
        dict(ids)
        | {
            "measured_by": KIND, "nsd_tolerance_mm": None, "classes": names, "cases": cases, "mean": mean,
            "calibration": calibration.result(),
        },
    )  # fmt: skip
    dice = mean["foreground"]["dice"]
    shown = "undefined" if dice is None else f"{dice:.3f}"
    print(f"{ids['node']}: mean Dice {shown} over the labelled patches of {len(cases)} cases, by cross-validation")


def validation_cases(training_file: Path) -> list[str]:
    """Cases that a fold was not trained on; none where it had to see all that are labelled."""
    record = read_json(training_file)
    try:
        trained, validated = ([str(case) for case in record[f"{side}_cases"]] for side in ("train", "val"))
    except (KeyError, TypeError):
        raise UserError(f"{training_file}: not the record of a training") from None
    return sorted(set(validated) - set(trained))
