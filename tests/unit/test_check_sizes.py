"""Sizes of a data set by its images' heads, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnactive_nf.check.sizes import sizes
from nnactive_nf.core.classes import Classes
from nnactive_nf.core.heads import Head
from nnactive_nf.core.raw import RawCase, RawDataset

# Images of 30 x 30 x n voxels of 1 mm, but the last two: their slices are 0.8% and 1.5% thicker.
DEPTHS = {"a": 20, "b": 25, "c": 31, "d": 22, "e": 23, "f": 41, "g": 60}
HEADS = {
    case: Head(1, (depth, 30, 30), ({"f": 1.008, "g": 1.015}.get(case, 1.0), 1.0, 1.0))
    for case, depth in DEPTHS.items()
}
RAW = RawDataset(
    Path(), Classes(("background", "organ"), (0, 1)), ("CT", "MR"), ".nii.gz", SimpleITKIO,
    tuple(RawCase(case, (), Path()) for case in HEADS),
)  # fmt: skip
ALONE = {case: case for case in HEADS}


def test_images_a_hundredth_off_the_planned_spacing_are_not_resampled() -> None:
    found = sizes(RAW, HEADS, ALONE, "3d_fullres", 0.25)
    area, thicker = 30 * 30, round(60 * 1.015)
    assert found == {
        "cases": 7, "channels": 2, "classes": 2,
        "largest_file": 60 * area, "largest": thicker * area, "largest_resampled": thicker * area,
        "pool_voxels": (20 + 25 + 31 + 22 + 23 + 41 + thicker) * area, "test_voxels": (41 + 60) * area,
    }  # fmt: skip


def test_the_largest_image_need_not_be_one_that_is_resampled() -> None:
    heads = HEADS | {"c": Head(1, (90, 30, 30), (1.0, 1.0, 1.0))}
    found = sizes(RAW, heads, ALONE, "3d_fullres", 0.25)
    assert (found["largest"], found["largest_resampled"]) == (90 * 900, round(60 * 1.015) * 900)
    assert sizes(RAW, dict(reversed(heads.items())), ALONE, "3d_fullres", 0.25) == found


def test_the_test_set_is_the_largest_cases_or_one_patient_who_has_more() -> None:
    voxels = np.array(sorted(DEPTHS.values())) * 900
    for fraction, wanted in ((0.1, 1), (0.3, 2), (0.5, 4)):
        assert sizes(RAW, HEADS, ALONE, "3d_fullres", fraction)["test_voxels"] == voxels[-wanted:].sum()
    patients = ALONE | dict.fromkeys("abcd", "p")
    assert sizes(RAW, HEADS, patients, "3d_fullres", 0.1)["test_voxels"] == (20 + 25 + 31 + 22) * 900
