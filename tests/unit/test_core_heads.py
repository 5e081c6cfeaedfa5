"""Heads of image files: what nnU-Net's reader would tell of the whole file; plans from heads alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_file_ending

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import as_shape
from nnactive_nf.core.heads import Head, read_head
from nnactive_nf.core.planning import fingerprint_of_heads, planned_shape, planned_spacing, run_planner
from nnactive_nf.core.raw import list_raw

TURNED = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0)


def image(shape: tuple[int, ...] = (4, 5, 6), pixels: type = np.int16) -> sitk.Image:
    made = sitk.GetImageFromArray(np.arange(np.prod(shape), dtype=pixels).reshape(shape))
    if len(shape) == 3:
        made.SetDirection(TURNED)
    made.SetSpacing((0.5, 0.75, 3.0)[: len(shape)])
    made.SetOrigin((1.0, -2.0, 7.5)[: len(shape)])
    return made


def as_read(path: Path, ending: str) -> tuple[Head, dict]:
    reader = determine_reader_writer_from_file_ending(ending, verbose=False)
    values, properties = reader().read_images([str(path)])
    head = read_head(path, reader)
    assert head.channels == values.shape[0]
    assert head.shape_zyx == values.shape[1:]
    np.testing.assert_allclose(head.spacing_mm, properties["spacing"], rtol=1e-6)
    return head, properties


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".gipl"])
def test_a_head_says_what_the_reader_says(ending: str, tmp_path: Path) -> None:
    sitk.WriteImage(image(), str(tmp_path / f"a{ending}"))
    head, _ = as_read(tmp_path / f"a{ending}", ending)
    assert head.voxels == 120
    if ending != ".gipl":  # it keeps no direction
        np.testing.assert_allclose(head.direction, TURNED, atol=1e-6)
        np.testing.assert_allclose(head.origin_xyz, (1.0, -2.0, 7.5), atol=1e-5)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_all_channels_in_one_file_and_flat_images(ending: str, tmp_path: Path) -> None:
    sitk.WriteImage(sitk.JoinSeries([image(), image()]), str(tmp_path / f"a{ending}"))
    head, _ = as_read(tmp_path / f"a{ending}", ending)
    assert head.channels == 2
    np.testing.assert_allclose(head.direction, TURNED, atol=1e-6)
    sitk.WriteImage(image((5, 6)), str(tmp_path / f"b{ending}"))
    as_read(tmp_path / f"b{ending}", ending)


@pytest.mark.parametrize("ending", [".png", ".tiff"])
def test_formats_of_other_readers_are_read_whole(ending: str, tmp_path: Path) -> None:
    sitk.WriteImage(image((5, 6) if ending == ".png" else (4, 5, 6), np.uint8), str(tmp_path / f"a_0000{ending}"))
    head, _ = as_read(tmp_path / f"a_0000{ending}", ending)
    assert head.origin_xyz is None and head.direction is None


def test_what_is_no_image_is_told_in_one_line(tmp_path: Path) -> None:
    for ending in (".nii.gz", ".nii", ".mha", ".png"):
        (tmp_path / f"a{ending}").write_bytes(b"no image")
        with pytest.raises(UserError, match=f"^a{ending} cannot be read, it may be truncated \\(.+\\)$"):
            read_head(tmp_path / f"a{ending}", determine_reader_writer_from_file_ending(ending, verbose=False))
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4, 2)), np.eye(4)), tmp_path / "b.nii")
    with pytest.raises(UserError, match="it has 4 axes, 3 are wanted"):
        read_head(tmp_path / "b.nii", determine_reader_writer_from_file_ending(".nii", verbose=False))


def test_plans_from_heads_are_those_of_prepare_where_nothing_is_cropped(phantom: Path, prepared: Path) -> None:
    dataset, raw = Dataset.open(prepared / "prepared"), list_raw(phantom)
    heads = {case.name: read_head(case.images[0], raw.reader) for case in raw.cases}
    cropped = {
        case: replace(head, shape_zyx=as_shape(dataset.properties(case)["shape_after_cropping_and_before_resampling"]))
        for case, head in heads.items()
    }
    whole = run_planner(raw.nnunet_json, fingerprint_of_heads([heads[case] for case in dataset.pool]), "phantom")
    plans = run_planner(raw.nnunet_json, fingerprint_of_heads([cropped[case] for case in dataset.pool]), "phantom")
    real = dataset.plans["configurations"]["3d_fullres"]
    for key in ("spacing", "patch_size", "batch_size", "architecture", "median_image_size_in_voxels"):
        assert plans["configurations"]["3d_fullres"][key] == real[key], key
    assert whole["configurations"]["3d_fullres"]["spacing"] == real["spacing"]
    for case, head in heads.items():
        assert planned_shape(plans, "3d_fullres", cropped[case]) == dataset.shapes[case]
        assert planned_shape(whole, "3d_fullres", head) >= dataset.shapes[case]
        assert planned_spacing(plans, "3d_fullres", head.spacing_mm) == pytest.approx(dataset.spacings_mm[case])
        assert planned_spacing(plans, "2d", head.spacing_mm)[0] == head.spacing_mm[0]
