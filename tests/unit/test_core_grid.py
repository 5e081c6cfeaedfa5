"""The way from the image grid to the file and to millimetres, held against SimpleITK and nnU-Net's resampling."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from geometries import Drawn, drawn, index_grid, patch_in, places_by_simpleitk, prepare_drawn
from hypothesis import assume, given, settings

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box, as_shape
from nnactive_nf.core.grid import GRID_COLUMNS, CaseGrid, grids_of_table, read_grids
from nnactive_nf.core.image_files import file_image
from nnactive_nf.core.places import write_places


def in_region(region: dict[str, object], points: np.ndarray, grown: float | np.ndarray) -> np.ndarray:
    """Whether points `[..., 3]` (LPS) lie in a region of a markups file whose faces are moved out by `grown` mm."""
    axes = np.reshape(region["orientation"], (3, 3))
    along = np.abs((points - region["center"]) @ axes)
    return (along < np.asarray(region["size"]) / 2 + grown).all(axis=-1)


@given(drawn())
@settings(max_examples=60)
def test_a_patch_its_region_its_map_and_the_mask_agree_with_simpleitk(case: Drawn) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        done = prepare_drawn(case, folder)
        grid = done.grid
        assert grid.file_shape_zyx == case.image.GetSize()[::-1]
        indices = index_grid(grid.shape_zyx)
        file_indices = grid.file_index(indices)
        points = places_by_simpleitk(case.image, file_indices)
        np.testing.assert_allclose(grid.place_mm(indices), points, atol=1e-4)
        np.testing.assert_allclose(grid.image_index(file_indices), indices, atol=1e-9)

        # What nnU-Net resampled is at the place that the grid says; behind the outer voxels' centres it repeats them.
        within = file_indices - grid.crop.start_zyx
        exact = ((within >= 0) & (within <= np.subtract(grid.crop.size_zyx, 1))).all(axis=-1)
        np.testing.assert_allclose(np.moveaxis(done.coordinates, 0, -1)[exact], points[exact], atol=2e-3)

        # The mask: voxels further from the label's face than a voxel of either grid is long.
        reach = np.linalg.norm(grid.spacing_mm) + np.linalg.norm(grid.file_spacing_mm)
        assert (done.mask[points[..., 0] > done.threshold + reach] == 7).all()
        assert (done.mask[points[..., 0] < done.threshold - reach] == 0).all()

        # The patch as corners, and as a region for 3D Slicer.
        box = patch_in(case, grid.shape_zyx)
        query = pd.DataFrame([[1, "a", *box.start_zyx, *box.size_zyx, 0.5, "all"]])
        query.columns = ["rank", "case", "z", "y", "x", "dz", "dy", "dx", "score", "component"]
        write_places(folder / "rois", folder / "mm.csv", query, {"a": grid}, "random c01")
        (region,) = json.loads((folder / "rois" / "a.mrk.json").read_text())["markups"]
        assert np.linalg.det(np.reshape(region["orientation"], (3, 3))) == pytest.approx(1)
        row = pd.read_csv(folder / "mm.csv").iloc[0]
        for number in range(8):
            high = [number >> 2 & 1, number >> 1 & 1, number & 1]
            index = [(b if h else a) - 0.5 for h, a, b in zip(high, box.start_zyx, box.stop_zyx, strict=True)]
            (wanted,) = places_by_simpleitk(case.image, grid.file_index([index]))
            found = [row[f"corner{number}_{axis}"] for axis in "xyz"]
            np.testing.assert_allclose(found, wanted, atol=1e-4)
            assert in_region(region, np.asarray(found), 1e-3) and not in_region(region, np.asarray(found), -1e-3)
        patch = np.zeros(grid.shape_zyx, dtype=np.float32)
        patch[box.slices] = 1
        np.testing.assert_array_equal(in_region(region, points, 0), patch == 1)

        # Its map as NIfTI lies where the file lies, and is 1 in the region and 0 outside, but for half a voxel around.
        nifti = folder / "map.nii.gz"
        sitk.WriteImage(file_image(grid.to_file_grid(patch, linear=True, outside=0), grid), str(nifti))
        read = sitk.ReadImage(str(nifti))
        for wanted, found in zip(geometry_of(case.image), geometry_of(read), strict=True):
            np.testing.assert_allclose(found, wanted, atol=1e-4)
        values = sitk.GetArrayFromImage(read)
        at = places_by_simpleitk(read, index_grid(values.shape))
        half = np.asarray(grid.spacing_mm[::-1]) / 2 + 1e-3
        cropped = np.zeros(values.shape, dtype=bool)
        cropped[grid.crop.slices] = True
        np.testing.assert_allclose(values[in_region(region, at, -half)], 1, atol=1e-5)
        np.testing.assert_allclose(values[~in_region(region, at, half)], 0, atol=1e-5)
        # As labels: exactly the file's voxels whose centre is in the region.
        labels = grid.to_file_grid(patch.astype(np.uint8), linear=False, outside=255)
        sure = cropped & (in_region(region, at, -1e-3) == in_region(region, at, 1e-3))
        np.testing.assert_array_equal(labels[sure] == 1, in_region(region, at, 0)[sure])
        assert (labels[~cropped] == 255).all()


def geometry_of(image: sitk.Image) -> tuple[tuple[float, ...], ...]:
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()


@given(drawn())
@settings(max_examples=30)
def test_maps_come_back_as_linear_functions(case: Drawn) -> None:
    """A map that is linear in the image grid's index is linear on the file's grid, between outer voxels' centres."""
    size = as_shape(n - low - high for (low, high), n in zip(case.margins, case.image.GetSize()[::-1], strict=True))
    shape = as_shape(max(2, round(n * f)) for n, f in zip(size, case.target_mm, strict=True))
    crop = Box(as_shape(low for low, _ in case.margins), size)
    grid = CaseGrid(shape, crop, as_shape(case.image.GetSize()[::-1]), (1.0, 1.0, 1.0))
    weights = np.array([1.0, -2.0, 0.5])
    found = grid.to_file_grid(index_grid(shape) @ weights, linear=True, outside=-99)
    at = grid.image_index(index_grid(grid.file_shape_zyx))
    inside = np.zeros(found.shape, dtype=bool)
    inside[crop.slices] = True
    exact = inside & ((at >= 0) & (at <= np.subtract(shape, 1))).all(axis=-1)
    assume(exact.any())
    np.testing.assert_allclose(found[exact], (at @ weights)[exact], atol=1e-9)
    assert (found[~inside] == -99).all()


def test_a_table_without_a_place_is_told(tmp_path: Path) -> None:
    path = tmp_path / "cases.csv"
    with pytest.raises(UserError, match=r"cases\.csv: no such file"):
        read_grids(path)
    path.write_text("")
    with pytest.raises(UserError, match="not a table of cases"):
        read_grids(path)
    path.write_text("case,z,y,x\na,1,2,3\n")
    with pytest.raises(UserError, match=r"columns \['crop_z', .*run again with -resume"):
        read_grids(path)


def test_a_query_of_a_case_without_a_place_is_told(tmp_path: Path) -> None:
    query = pd.DataFrame({"rank": [1], "case": ["b"]})
    with pytest.raises(UserError, match="case b is not in the table of cases"):
        write_places(tmp_path / "rois", tmp_path / "mm.csv", query, {}, "x")
    assert not list(tmp_path.iterdir())


def test_values_of_another_grid_are_no_mistake_of_the_user() -> None:
    grid = CaseGrid((2, 2, 2), Box((0, 0, 0), (4, 4, 4)), (4, 4, 4), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="on an image grid of shape"):
        grid.to_file_grid(np.zeros((4, 4, 4)), linear=True, outside=0)
    assert grids_of_table(pd.DataFrame(columns=["case", *GRID_COLUMNS]), Path("cases.csv")) == {}
