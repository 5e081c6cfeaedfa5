"""Masks of voxels that cost nobody time, given by the user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.prepare.run import Settings, prepare


def run(phantom: Path, masks: Path, out: Path) -> Dataset:
    settings = Settings(
        "phantom", "3d_fullres", 0.25, 1, phantom / "groups.csv", None, folds=2, start_size=8, free_masks=masks
    )
    prepare(phantom, settings, 1, out / "prepared", out / "oracle.h5", out / "reference.h5")
    return Dataset.open(out / "prepared")


def mask_like(path: Path, values: np.ndarray) -> sitk.Image:
    label = sitk.ReadImage(str(path))
    mask = sitk.GetImageFromArray(values)
    mask.CopyInformation(label)
    return mask


def test_free_masks_join_the_empty_voxels(phantom: Path, prepared: Path, tmp_path: Path) -> None:
    label = sorted((phantom / "labelsTr").iterdir())[0]
    case = label.name.removesuffix(".nii.gz")
    shape = sitk.GetArrayFromImage(sitk.ReadImage(str(label))).shape
    values = np.zeros(shape, dtype=np.uint8)
    values[:, : shape[1] // 2] = 1
    masks = tmp_path / "masks"
    masks.mkdir()
    sitk.WriteImage(mask_like(label, values), str(masks / label.name))
    dataset, without = run(phantom, masks, tmp_path), Dataset.open(prepared / "prepared")
    free, plain = dataset.empty_mask(case), without.empty_mask(case)
    assert (free & plain == plain).all()
    assert 0.3 < free.mean() < 0.9
    assert free.mean() > plain.mean() + 0.1
    half = free.shape[1] // 2
    assert free[:, : half - 2].all()
    other = next(name for name in dataset.pool if name != case)
    np.testing.assert_array_equal(dataset.empty_mask(other), without.empty_mask(other))
    assert dataset.digest != without.digest


def test_masks_of_no_case_are_told(phantom: Path, tmp_path: Path) -> None:
    label = sorted((phantom / "labelsTr").iterdir())[0]
    masks = tmp_path / "masks"
    with pytest.raises(UserError, match="no such folder"):
        run(phantom, masks, tmp_path)
    masks.mkdir()
    with pytest.raises(UserError, match="no file"):
        run(phantom, masks, tmp_path)
    sitk.WriteImage(sitk.Image([4, 4, 4], sitk.sitkUInt8), str(masks / label.name))
    (masks / label.name).rename(masks / "stranger.nii.gz")
    with pytest.raises(UserError, match=r"stranger\.nii\.gz belongs to no case"):
        run(phantom, masks, tmp_path)
