"""Cases of any geometry, prepared as PREPARE does it: for tests of what lies where."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import blosc2
import numpy as np
import pandas as pd
import SimpleITK as sitk
from hypothesis import strategies as st
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_file_ending
from scipy.spatial.transform import Rotation

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.dataset import FORMAT, VERSION
from nnactive_nf.core.geometry import Box, as_shape
from nnactive_nf.core.grid import CaseGrid, grid_of_head, grid_row, read_grids
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


def prepare_drawn(case: Drawn, folder: Path, noise: bool = False) -> Prepared:
    """Files whose voxels hold their own physical points, checked and preprocessed as PREPARE does it.

    `folder` is a prepared data set of the name `drawn` then, with the files beside. With `noise` the label is 7 in
    every other voxel or so, wherever it lies.
    """
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
    labelled = np.random.default_rng(0).random(shape_zyx) > 0.5 if noise else points[..., 0] > threshold
    label = write(np.where(inside & labelled, 7, 0).astype(np.uint8), "a")
    raw_case = RawCase("a", images, label)
    reader = determine_reader_writer_from_file_ending(case.ending, verbose=False)
    raw = RawDataset(folder, CLASSES, ("x", "y", "z"), case.ending, reader, (raw_case,))
    facts = check_case(raw, raw_case, 10)
    assert not facts.problems
    (folder / "network").mkdir()
    done = preprocess_case(raw, raw_case, plans_of(case), "3d_fullres", folder / "network")
    row = ["a", "a", "pool", *done.shape_zyx, *done.spacing_mm, *facts.head.shape_zyx, *facts.head.spacing_mm]
    table = pd.DataFrame(
        [[*row, *grid_row(grid_of_head(facts.head, facts.crop, done.shape_zyx))]],
        columns=[*CASE_COLUMNS, *GRID_COLUMNS],
    )
    table.to_csv(folder / "cases.csv", index=False)
    (folder / "plans.json").write_text(json.dumps(plans_of(case)))
    head = {
        "format": FORMAT, "version": VERSION, "name": "drawn", "digest": "0" * 64, "configuration": "3d_fullres",
        "class_names": CLASSES.names, "class_values": CLASSES.values, "channels": ["x", "y", "z"],
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(head))
    network = np.asarray(blosc2.open(urlpath=str(folder / "network" / "a.b2nd"), mode="r")[:])
    back = [1 + int(axis) for axis in np.argsort(case.transpose)]
    return Prepared(
        read_grids(folder / "cases.csv")["a"], network.transpose(0, *back) - FAR, unpack(done.mask), threshold
    )


def plans_of(case: Drawn) -> dict[str, object]:
    """Plans that resample linearly, which keeps coordinates exact, and do not normalise."""
    resampling = {"order": 1, "order_z": 0, "force_separate_z": False}
    keywords = {"n_stages": 1, "features_per_stage": [4], "strides": [[1, 1, 1]], "kernel_sizes": [[3, 3, 3]]}
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": keywords, "_kw_requires_import": [],
    }  # fmt: skip
    settings_ = {
        "data_identifier": "x", "architecture": architecture,
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
