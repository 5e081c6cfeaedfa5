"""Sizes of a data set, by which all later stages ask for memory (`nnactive_nf.check.memory`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnactive_nf.core.budget import test_cases
from nnactive_nf.core.heads import Head
from nnactive_nf.core.planning import fingerprint_of_heads, planned_shape, planned_spacing, run_planner
from nnactive_nf.core.raw import RawDataset


def sizes(
    raw: RawDataset,
    heads: Mapping[str, Head],
    groups: Mapping[str, str],
    configuration: str,
    test_fraction: float,
    held_out: Sequence[str] = (),
    plans: Mapping[str, Any] | None = None,
) -> dict[str, int]:
    """Sizes of images, in voxels of one channel; upper bounds, as nothing is cropped yet and no case has its side.

    Args:
        raw: the listed data set.
        heads: head of each case's image.
        groups: patient of each case.
        configuration: nnU-Net configuration; where the planner plans none of that name, its finest stands for it.
        test_fraction: share of the cases to hold out.
        held_out: the test set, where it is given.
        plans: the user's, where they are given.

    Returns:
        `cases`, `channels`, `classes` (outputs of a network: background included, or regions); `largest_file`, the
        largest image as it is; `largest`, the largest at the planned spacing; `largest_resampled`, the largest there of
        those that are resampled (0 where none is); `pool_voxels`, the sum of all images at the planned spacing;
        `test_voxels`, the most that all test cases have as they are.
    """
    plans = plans or run_planner(raw.nnunet_json, fingerprint_of_heads(list(heads.values())), "check")
    if configuration not in plans["configurations"]:
        configuration = "3d_fullres" if "3d_fullres" in plans["configurations"] else "2d"
    planned = {
        case: int(np.prod(planned_shape(plans, configuration, head), dtype=np.int64)) for case, head in heads.items()
    }
    resampled = [
        planned[case]
        for case, head in heads.items()
        if not np.allclose(head.spacing_mm, planned_spacing(plans, configuration, head.spacing_mm), rtol=0.01)
    ]
    voxels = {case: head.voxels for case, head in heads.items()}
    return {
        "cases": len(heads),
        "channels": len(raw.channels),
        "classes": len(raw.classes.channels),
        "largest_file": max(voxels.values()),
        "largest": max(planned.values()),
        "largest_resampled": max(resampled, default=0),
        "pool_voxels": sum(planned.values()),
        "test_voxels": sum(voxels[case] for case in held_out)
        or _most_in_test(voxels, groups, test_cases(test_fraction, len(voxels))),
    }


def _most_in_test(voxels: Mapping[str, int], groups: Mapping[str, str], wanted: int) -> int:
    """The test set is `wanted` cases at most, or one patient who has more."""
    of_patient: dict[str, int] = {}
    for case, number in voxels.items():
        of_patient[groups[case]] = of_patient.get(groups[case], 0) + number
    return max(sum(sorted(voxels.values())[-wanted:]), *of_patient.values())
