"""The stage as a whole: predict every test case on its own grid and measure it against the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.ensemble import Ensemble
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import write_json
from nnactive_nf.core.labels import Mask, read_labels
from nnactive_nf.core.nnunet import resolve_device
from nnactive_nf.core.segmentations import write_case
from nnactive_nf.evaluate.measures import Calibration, class_measures, mean_measures


def evaluate(
    prepared: Path,
    reference: Path,
    checkpoints: Sequence[Path],
    ids: Mapping[str, Any],
    tile_step: float,
    mirroring: bool,
    nsd_tolerance_mm: float,
    device: str,
    threads: int,
    out: Path,
    predictions: Path | None = None,
    probabilities: bool = False,
    trainer_file: Path | None = None,
) -> None:
    """Measure the ensemble of a node on the test set and write `metrics.json`.

    Args:
        prepared: PREPARE's folder.
        reference: PREPARE's masks of the test set on the files' own grids.
        checkpoints: one checkpoint file per fold, in the order of the folds.
        ids: node, dataset, regime, seed, cycle, strategy; they go into the file.
        tile_step: step of the sliding window as a share of the network's patch.
        mirroring: average over mirrored copies of each window.
        nsd_tolerance_mm: tolerance of the surface Dice.
        device: `auto`, `cuda` or `cpu`.
        threads: CPU threads.
        out: file to make.
        predictions: folder to make, with the segmentations that were measured as label files of the user's format.
        probabilities: beside them, the classes' probabilities.
        trainer_file: the user's trainer, with which the folds were trained.

    Raises:
        UserError: a file is damaged, or a test case has no reference.
    """
    dataset = Dataset.open(prepared)
    if ids["dataset"] != dataset.name:
        raise UserError(f"--dataset {ids['dataset']}: {prepared} is the data set {dataset.name}")
    truth = read_labels(reference, "reference", dataset.original_shapes)
    dataset.check_owner(reference, truth.dataset, truth.classes)
    missing = [case for case in dataset.test if case not in truth.masks]
    if missing:
        raise UserError(f"{reference}: test case {missing[0]} is not in it ({len(missing)} such cases)")
    unmeasured = [case for case in dataset.test if case not in truth.spacings_mm]
    if unmeasured:
        raise UserError(f"{reference}: test case {unmeasured[0]} has no voxel size")
    ensemble = Ensemble(checkpoints, resolve_device(device, threads), tile_step, mirroring, trainer_file)
    ensemble.check_fits(dataset)
    names = [*dataset.classes.targets]
    calibration = Calibration()
    cases = []
    for case in dataset.test:
        predicted_zyx, probability = ensemble.segment(dataset.network_image(case), dataset.properties(case))
        box = crop_box(dataset, case)
        if predictions is not None:
            kept = probability if probabilities else None
            write_case(predictions, case, predicted_zyx, kept, ensemble, dataset.classes, dataset.properties(case))
        add_calibration(calibration, probability[(slice(None), *box)], truth.masks[case][box], dataset.classes)
        del probability  # surfaces want the memory
        found_zyx, truth_zyx, mask_of = (
            dataset.classes.to_value(predicted_zyx),
            truth.masks[case],
            dataset.classes.mask_of,
        )
        measures = {
            name: class_measures(
                mask_of(found_zyx, name), mask_of(truth_zyx, name), truth.spacings_mm[case], nsd_tolerance_mm
            )
            for name in names
        }
        cases.append({"case": case, "classes": measures})
    mean = mean_measures(cases, names)
    write_json(
        out,
        dict(ids)
        | {
            "nsd_tolerance_mm": nsd_tolerance_mm, "classes": names, "cases": cases, "mean": mean,
            "calibration": calibration.result(),
        },
    )  # fmt: skip
    shown = ", ".join(f"{name} {_text(mean['classes'][name]['dice'])}" for name in names)
    print(f"{ids['node']}: mean Dice {_text(mean['foreground']['dice'])} ({shown}) over {len(cases)} test cases")


def add_calibration(
    calibration: Calibration, probability: npt.NDArray[np.float32], mask_zyx: Mask, classes: Classes
) -> None:
    """Add a case's probabilities `[C, z, y, x]`; of regions each voxel once for each, in it or not."""
    if not classes.regions:
        calibration.add(probability, classes.to_index(mask_zyx))
        return
    for inside, name in zip(probability, classes.channels, strict=True):
        calibration.add(np.stack([1 - inside, inside]), classes.mask_of(mask_zyx, name))


def crop_box(dataset: Dataset, case: str) -> tuple[slice, ...]:
    """The box (z, y, x) of a case's own grid outside of which nothing was imaged."""
    bounds = dataset.properties(case)["bbox_used_for_cropping"]
    return tuple(slice(int(bounds[axis][0]), int(bounds[axis][1])) for axis in dataset.plans["transpose_backward"])


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
