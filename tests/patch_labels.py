"""Labels of a first cycle, as they come of one patch in each case."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.geometry import box_around, patch_size_in
from nnactive_nf.core.labels import Labels, read_labels, write_labels

PATCH = (8, 16, 16)


def write_patch_labels(folder: Path, out: Path) -> Path:
    """Write a labels file: one patch of `PATCH` around a foreground voxel in each case of the pool.

    `folder` has PREPARE's outputs as `prepared` and `oracle.h5`.
    """
    dataset = Dataset.open(folder / "prepared")
    oracle = read_labels(folder / "oracle.h5", "oracle", dataset.shapes)
    rng = np.random.default_rng(3)
    masks = {}
    for case in dataset.pool:
        truth = oracle.masks[case]
        box = box_around(rng.choice(np.argwhere(truth > 0)), patch_size_in(PATCH, truth.shape), truth.shape)
        masks[case] = np.full_like(truth, oracle.classes.ignore_value)
        masks[case][box.slices] = truth[box.slices]
    write_labels(out, Labels(dataset.name, "node", 0, oracle.classes, masks))
    return out
