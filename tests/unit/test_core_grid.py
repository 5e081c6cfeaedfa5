"""The way from the image grid to the file and to millimetres, held against SimpleITK and nnU-Net's resampling."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import blosc2
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_file_ending
from scipy.spatial.transform import Rotation

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box, as_shape
from nnactive_nf.core.grid import CaseGrid, file_image, grid_of_head, grid_row, grids_of_table, read_grids
from nnactive_nf.core.places import write_places
from nnactive_nf.core.raw import RawCase, RawDataset
from nnactive_nf.prepare.check import check_case
from nnactive_nf.prepare.preprocess import preprocess_case, unpack
from nnactive_nf.prepare.run import CASE_COLUMNS, GRID_COLUMNS

CLASSES = Classes(("background", "tumour"), (0, 7))
FAR = 1000.0  # makes every coordinate in a file differ from the 0 that is cropped away


@dataclass(frozen=True)
class Drawn:
    """A file of any geometry, how it is prepared, and a patch as shares of the image grid."""

    image: sitk.Image
    margins: tuple[tuple[int, int], ...]
    target_mm: tuple[float, ...]
    transpose: tuple[int, ...]
    ending: str
    patch: tuple[tuple[float, float], ...]


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    """Oblique, flipped, permuted, left-handed grids with air around, coarser or finer than the image grid."""
    order = draw(st.permutations(range(3)))
    flips = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    angles = draw(st.sampled_from([(0.0, 0.0, 0.0), (10.0, -25.0, 40.0), (0.0, 0.0, 33.0)]))
    direction = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.eye(3)[order] * flips
    image = sitk.Image([draw(st.integers(6, 11)) for _ in range(3)], sitk.sitkFloat64)
    image.SetSpacing([draw(st.sampled_from([0.5, 0.7, 1.0, 2.5])) for _ in range(3)])
    image.SetOrigin([draw(st.sampled_from([-120.5, 0.0, 33.25])) for _ in range(3)])
    image.SetDirection(direction.ravel())
    factors = [draw(st.sampled_from([0.6, 1.0, 1.3, 1.7])) for _ in range(3)]
    ends = st.tuples(st.floats(0, 0.99), st.floats(0.01, 1))
    return Drawn(
        image,
        tuple(draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in range(3)),
        tuple(float(f * s) for f, s in zip(factors, image.GetSpacing()[::-1], strict=True)),
        tuple(draw(st.permutations(range(3)))),
        draw(st.sampled_from([".nii.gz", ".nrrd", ".mha"])),
        tuple(draw(ends) for _ in range(3)),
    )


def index_grid(shape_zyx: tuple[int, ...]) -> np.ndarray:
    """Indices `[z, y, x, 3]` of all voxels."""
    return np.moveaxis(np.indices(shape_zyx), 0, -1)


def places_by_simpleitk(image: sitk.Image, index_zyx: np.ndarray) -> np.ndarray:
    """Physical points of continuous indices `[..., 3]` (z, y, x)."""
    flat = np.asarray(index_zyx, dtype=float).reshape(-1, 3)[:, ::-1]
    points = [image.TransformContinuousIndexToPhysicalPoint(index.tolist()) for index in flat]
    return np.reshape(points, np.shape(index_zyx))


@dataclass(frozen=True)
class Prepared:
    """A drawn case after PREPARE's own functions: its grid by way of a table, and what lies on the image grid."""

    grid: CaseGrid
    coordinates: np.ndarray  # [3, z, y, x]: x, y, z in mm, resampled by nnU-Net
    mask: np.ndarray  # values [z, y, x]
    threshold: float  # the label is 7 where x is larger


def prepare_drawn(case: Drawn, folder: Path) -> Prepared:
    """Files whose voxels hold their own physical points, checked and preprocessed as PREPARE does it."""
    shape_zyx = case.image.GetSize()[::-1]
    points = places_by_simpleitk(case.image, index_grid(shape_zyx))
    inside = np.zeros(shape_zyx, dtype=bool)
    inside[tuple(slice(low, n - high) for (low, high), n in zip(case.margins, shape_zyx, strict=True))] = True
    threshold = float(np.median(points[inside][:, 0]))

    def write(values: np.ndarray, name: str) -> Path:
        image = sitk.GetImageFromArray(values)
        image.CopyInformation(case.image)
        sitk.WriteImage(image, str(folder / f"{name}{case.ending}"))
        return folder / f"{name}{case.ending}"

    images = tuple(write(np.where(inside, points[..., a] + FAR, 0.0), f"a_{a:04d}") for a in range(3))
    label = write(np.where(inside & (points[..., 0] > threshold), 7, 0).astype(np.uint8), "a")
    raw_case = RawCase("a", images, label)
    reader = determine_reader_writer_from_file_ending(case.ending, verbose=False)
    raw = RawDataset(folder, CLASSES, ("x", "y", "z"), case.ending, reader, (raw_case,))
    facts = check_case(raw, raw_case, 10)
    assert not facts.problems
    done = preprocess_case(raw, raw_case, plans_of(case), "3d_fullres", folder)
    row = ["a", "a", "pool", *done.shape_zyx, *done.spacing_mm, *facts.head.shape_zyx, *facts.head.spacing_mm]
    table = pd.DataFrame(
        [[*row, *grid_row(grid_of_head(facts.head, facts.crop, done.shape_zyx))]],
        columns=[*CASE_COLUMNS, *GRID_COLUMNS],
    )
    table.to_csv(folder / "cases.csv", index=False)
    network = np.asarray(blosc2.open(urlpath=str(folder / "a.b2nd"), mode="r")[:])
    back = [1 + int(axis) for axis in np.argsort(case.transpose)]
    return Prepared(
        read_grids(folder / "cases.csv")["a"], network.transpose(0, *back) - FAR, unpack(done.mask), threshold
    )


def plans_of(case: Drawn) -> dict[str, object]:
    """Plans that resample linearly, which keeps coordinates exact, and do not normalise."""
    resampling = {"order": 1, "order_z": 0, "force_separate_z": False}
    settings_ = {
        "data_identifier": "x", "architecture": {},
        "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": [4, 4, 4],
        "spacing": [case.target_mm[axis] for axis in case.transpose],
        "normalization_schemes": ["NoNormalization"] * 3, "use_mask_for_norm": [False] * 3,
        "resampling_fn_data": "resample_data_or_seg_to_shape", "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False} | resampling,
        "resampling_fn_seg_kwargs": {"is_seg": True} | resampling,
    }  # fmt: skip
    return {
        "dataset_name": "Dataset001_a", "plans_name": "plans", "image_reader_writer": "SimpleITKIO",
        "transpose_forward": list(case.transpose), "transpose_backward": np.argsort(case.transpose).tolist(),
        "configurations": {"3d_fullres": settings_}, "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(channel): {} for channel in range(3)},
    }  # fmt: skip


def patch_in(case: Drawn, shape_zyx: tuple[int, ...]) -> Box:
    """The drawn patch on an image grid: at least a voxel, inside."""
    start = [min(int(low * n), n - 1) for (low, _), n in zip(case.patch, shape_zyx, strict=True)]
    size = [max(1, int(share * (n - low))) for (_, share), n, low in zip(case.patch, shape_zyx, start, strict=True)]
    return Box(as_shape(start), as_shape(size))


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
