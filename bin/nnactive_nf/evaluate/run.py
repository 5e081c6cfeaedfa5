"""The stage as a whole: predict every test case on its own grid and measure it against the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.ensemble import Ensemble
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import write_json
from nnactive_nf.core.labels import read_labels
from nnactive_nf.core.nnunet import resolve_device
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

    Raises:
        UserError: a file is damaged, or a test case has no reference.
    """
    dataset = Dataset.open(prepared)
    truth = read_labels(reference, "reference")
    missing = [case for case in dataset.test if case not in truth.masks]
    if missing:
        raise UserError(f"{reference}: test case {missing[0]} is not in it ({len(missing)} such cases)")
    ensemble = Ensemble(checkpoints, resolve_device(device, threads), tile_step, mirroring)
    names = [dataset.classes.names[index] for index in dataset.classes.foreground]
    calibration = Calibration()
    cases = []
    for case in dataset.test:
        probability, box = mean_probability(ensemble, dataset, case)
        index_zyx = dataset.classes.to_index(truth.masks[case])
        calibration.add(probability, index_zyx[box])
        predicted_zyx = np.zeros(index_zyx.shape, dtype=np.int16)
        predicted_zyx[box] = probability.argmax(axis=0)
        measures = {
            name: class_measures(predicted_zyx == index, index_zyx == index, truth.spacings_mm[case], nsd_tolerance_mm)
            for index, name in zip(dataset.classes.foreground, names, strict=True)
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


def mean_probability(
    ensemble: Ensemble, dataset: Dataset, case: str
) -> tuple[npt.NDArray[np.float32], tuple[slice, ...]]:
    """The ensemble's mean probability on the file's own grid, and the box of that grid that it covers.

    Folds are summed as they come, so memory holds the sum and one fold. Outside the box nothing was imaged, which
    nnU-Net and we count as background.

    Returns:
        Probabilities float32 `[C, z, y, x]` of the box, and the box's slices (z, y, x).
    """
    total = None
    for probability in ensemble.fold_probabilities(dataset.network_image(case)):
        total = probability if total is None else total.add_(probability)
        del probability
    assert total is not None
    mean = (total / len(ensemble)).cpu().numpy()
    properties = dataset.properties(case)
    forward, back = dataset.plans["transpose_forward"], dataset.plans["transpose_backward"]
    spacing = [properties["spacing"][axis] for axis in forward]
    planned = list(ensemble.configuration.spacing)
    mean = np.asarray(
        ensemble.configuration.resampling_fn_probabilities(
            mean,
            properties["shape_after_cropping_and_before_resampling"],
            planned if len(planned) == 3 else [spacing[0], *planned],
            spacing,
        ),
        dtype=np.float32,
    )
    mean /= mean.sum(axis=0, keepdims=True)  # interpolation may leave the simplex a little
    bounds = [properties["bbox_used_for_cropping"][axis] for axis in back]
    return dataset.to_image_grid(mean), tuple(slice(int(low), int(high)) for low, high in bounds)


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
