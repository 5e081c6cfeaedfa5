"""Dice, IoU, normalised surface Dice and 95th percentile Hausdorff distance (MONAI's), and calibration."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

MEASURES = ("dice", "iou", "nsd", "hd95_mm")
CALIBRATION_BINS = 15
SIDES = {"reference": "reference", "prediction": "predicted"}


def class_measures(
    predicted_zyx: npt.NDArray[np.bool_],
    reference_zyx: npt.NDArray[np.bool_],
    spacing_mm: Sequence[float],
    nsd_tolerance_mm: float,
) -> dict[str, Any]:
    """Measures of one class in one case.

    Both empty: Dice, IoU and NSD are undefined (None), as is HD95. Only one empty: Dice, IoU and NSD are 0 and HD95 is
    undefined. `empty_reference` and `empty_prediction` say so; nothing is hidden in a mean.

    Args:
        predicted_zyx: the class's predicted voxels.
        reference_zyx: its true voxels, of the same shape.
        spacing_mm: voxel size (z, y, x).
        nsd_tolerance_mm: distance to the other surface that counts as hit.
    """
    reference_voxels, predicted_voxels = int(reference_zyx.sum()), int(predicted_zyx.sum())
    found: dict[str, Any] = {
        "reference_voxels": reference_voxels,
        "predicted_voxels": predicted_voxels,
        "empty_reference": reference_voxels == 0,
        "empty_prediction": predicted_voxels == 0,
    }
    if reference_voxels == 0 and predicted_voxels == 0:
        return found | dict.fromkeys(MEASURES)
    if reference_voxels == 0 or predicted_voxels == 0:
        return found | {"dice": 0.0, "iou": 0.0, "nsd": 0.0, "hd95_mm": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI warns of its own arguments
        return found | _surface_and_overlap(predicted_zyx, reference_zyx, spacing_mm, nsd_tolerance_mm)


def overlap_measures(predicted: npt.NDArray[np.bool_], reference: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """Measures of one class over any voxels, which need have no neighbours: as `class_measures`, without surfaces."""
    both, either = int((predicted & reference).sum()), int((predicted | reference).sum())
    voxels = {"reference_voxels": int(reference.sum()), "predicted_voxels": int(predicted.sum())}
    empty = {f"empty_{name}": voxels[f"{side}_voxels"] == 0 for name, side in SIDES.items()}
    overlap = {"dice": 2 * both / sum(voxels.values()), "iou": both / either} if either else {}
    return voxels | empty | dict.fromkeys(MEASURES) | overlap


def _surface_and_overlap(
    predicted_zyx: npt.NDArray[np.bool_],
    reference_zyx: npt.NDArray[np.bool_],
    spacing_mm: Sequence[float],
    nsd_tolerance_mm: float,
) -> dict[str, float]:
    # MONAI takes seconds to import, which only what has surfaces to measure pays.
    import torch
    from monai.metrics import compute_dice, compute_hausdorff_distance, compute_iou, compute_surface_dice

    box = _bounding_box(predicted_zyx | reference_zyx)
    a, b = (torch.from_numpy(mask[box].astype(np.float32))[None, None] for mask in (predicted_zyx, reference_zyx))
    spacing = [float(value) for value in spacing_mm]
    values = {
        "dice": compute_dice(a, b),
        "iou": compute_iou(a, b),
        "nsd": compute_surface_dice(
            a, b, [nsd_tolerance_mm], include_background=True, spacing=spacing, use_subvoxels=True
        ),
        "hd95_mm": compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=spacing),
    }
    return {name: float(value) for name, value in values.items()}


def _bounding_box(mask_zyx: npt.NDArray[np.bool_]) -> tuple[slice, ...]:
    """Box of the mask's voxels with one voxel around it, so that surfaces at its border stay surfaces."""
    box = []
    for axis in range(mask_zyx.ndim):
        hits = np.flatnonzero(mask_zyx.any(axis=tuple(a for a in range(mask_zyx.ndim) if a != axis)))
        box.append(slice(max(0, int(hits[0]) - 1), int(hits[-1]) + 2))
    return tuple(box)


def mean_measures(cases: Sequence[Mapping[str, Any]], classes: Sequence[str]) -> dict[str, Any]:
    """Means over the cases where a measure is defined, per class, and their mean over the foreground classes."""
    means: dict[str, Any] = {}
    for name in classes:
        rows = [case["classes"][name] for case in cases]
        means[name] = {measure: _mean([row[measure] for row in rows]) for measure in MEASURES} | {
            "cases": len(rows),
            "empty_reference": sum(row["empty_reference"] for row in rows),
            "empty_prediction": sum(row["empty_prediction"] for row in rows),
        }
    foreground = {measure: _mean([means[name][measure] for name in classes]) for measure in MEASURES}
    return {"classes": means, "foreground": foreground}


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else None


@dataclass
class Calibration:
    """Reliability of the ensemble's probability over all test voxels: bins of the predicted class's confidence.

    ECE is the mean over the bins, weighted by voxels, of |accuracy - confidence|; the Brier score the mean over voxels
    of sum_c (p_c - y_c)^2.
    """

    bins: int = CALIBRATION_BINS
    voxels: npt.NDArray[np.int64] = field(init=False)
    hits: npt.NDArray[np.float64] = field(init=False)
    confidence: npt.NDArray[np.float64] = field(init=False)
    squares: float = 0.0

    def __post_init__(self) -> None:
        self.voxels = np.zeros(self.bins, dtype=np.int64)
        self.hits = np.zeros(self.bins)
        self.confidence = np.zeros(self.bins)

    def add(self, probability: npt.NDArray[np.float32], reference: npt.NDArray[Any]) -> None:
        """Add one case: probabilities `[C, z, y, x]` that sum to 1, and class indices `[z, y, x]` (or bool for two)."""
        p = probability.reshape(len(probability), -1)
        truth = reference.ravel().astype(np.int64)
        best = p.argmax(axis=0)
        confidence = np.clip(p[best, np.arange(len(truth))].astype(np.float64), 0, 1)
        place = np.minimum((confidence * self.bins).astype(np.int64), self.bins - 1)
        self.voxels += np.bincount(place, minlength=self.bins)
        self.hits += np.bincount(place, weights=(best == truth).astype(np.float64), minlength=self.bins)
        self.confidence += np.bincount(place, weights=confidence, minlength=self.bins)
        of_truth = p[truth, np.arange(len(truth))].astype(np.float64)
        self.squares += sum(float(np.square(of_class, dtype=np.float64).sum()) for of_class in p)
        self.squares += float((1 - 2 * of_truth).sum())

    def result(self) -> dict[str, Any]:
        """ECE, Brier score and the bins, empty bins left out."""
        total = int(self.voxels.sum())
        used = np.flatnonzero(self.voxels)
        gaps = np.abs(self.hits[used] - self.confidence[used])
        return {
            "ece": float(gaps.sum() / total),
            "brier": self.squares / total,
            "bins": [
                {
                    "confidence": float(self.confidence[i] / self.voxels[i]),
                    "accuracy": float(self.hits[i] / self.voxels[i]),
                    "voxels": int(self.voxels[i]),
                }
                for i in used
            ],
        }
