"""What one reading of a case tells, and what is wrong with its voxels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.raw import RawCase, RawDataset
from nnactive_nf.prepare.check import CaseFacts, check_case

SHAPE = (4, 5, 6)
LABEL = np.zeros(SHAPE, np.uint8)
LABEL[2, 2:4, 3] = 7
INSIDE = Box((1, 1, 2), (3, 3, 4))


def bright(value: float = 1) -> np.ndarray:
    """A channel that is not 0 in a box, brighter by one from voxel to voxel."""
    image = np.zeros(SHAPE, np.float32)
    image[INSIDE.slices] = value + np.arange(INSIDE.voxels).reshape(INSIDE.size_zyx)
    return image


def facts(folder: Path, channels: Sequence[np.ndarray], label: np.ndarray = LABEL, samples: int = 50) -> CaseFacts:
    paths = [folder / f"a_{i:04d}.nii.gz" for i in range(len(channels))]
    for path, values in zip([*paths, folder / "a.nii.gz"], [*channels, label], strict=True):
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((1, 2, 3))
        sitk.WriteImage(image, str(path))
    case = RawCase("a", tuple(paths), folder / "a.nii.gz")
    classes = Classes(("background", "organ"), (0, 7))
    raw = RawDataset(folder, classes, tuple(path.name for path in paths), ".nii.gz", SimpleITKIO, (case,))
    return check_case(raw, case, samples)


def test_a_case_that_is_whole(tmp_path: Path) -> None:
    found = facts(tmp_path, [bright(), bright(100)])
    assert found.problems == []
    assert (found.head.shape_zyx, found.head.spacing_mm) == (SHAPE, (3, 2, 1))
    assert found.class_voxels == (118, 2)
    assert found.crop == INSIDE
    assert found.relative_size_after_crop == 36 / 120
    for values, channel in zip(found.foreground_intensities, (bright(), bright(100)), strict=True):
        assert len(values) == 50 and set(values) == set(channel[LABEL == 7])


def test_a_channel_may_be_flat_but_not_all(tmp_path: Path) -> None:
    flat, nothing = np.full(SHAPE, 3, np.float32), np.zeros(SHAPE, np.float32)
    assert facts(tmp_path, [flat, bright()]).problems == []
    assert facts(tmp_path, [nothing, flat]).problems == ["case a: image has one value everywhere (0)"]
    assert facts(tmp_path, [flat]).problems == ["case a: image has one value everywhere (3)"]
    assert facts(tmp_path, [nothing, nothing]).problems == ["case a: image is zero everywhere"]


@pytest.mark.parametrize(("count", "shown"), [(1, "1"), (5, "1, 2, 3, 4, 5"), (6, "1, 2, 3, 4, 5, ...")])
def test_undeclared_values_are_shown_as_far_as_five(count: int, shown: str, tmp_path: Path) -> None:
    label = LABEL.copy()
    label[0, 0, :count] = range(1, count + 1)
    assert facts(tmp_path, [bright()], label).problems == [
        f"case a: label holds undeclared values {shown}; dataset.json declares [0, 7]"
    ]
