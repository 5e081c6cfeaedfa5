"""A label file that somebody made in a viewer, on the grid of the case that it is for.

Viewers write what they like: other formats, axes in another order or turned round, a part of the image alone. The
values are the data set's own; `Classes.ignore_value` says that a voxel is undecided.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError, one_line
from nnactive_nf.core.files import check_regular
from nnactive_nf.core.grid import CaseGrid
from nnactive_nf.core.images import check_stream
from nnactive_nf.core.labels import Mask

# Longest first, since `.nrrd` ends `.seg.nrrd` too.
ENDINGS = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")

SAME_VOXELS = 0.01  # a voxel may lie this far off, in voxels, before somebody is told
NEAR_VOXELS = 0.5  # and this far before the file is resampled
COARSEST = 1.5  # times the image's voxel size that a file's may have

UNDECIDED = "undecided"  # name of a segment, beside the classes'


@dataclass(frozen=True)
class Delivered:
    """Label values `[z, y, x]` on the file grid of a case, undecided where the file says nothing; and what to tell.

    Where `is_drawn`, the file is made of segments, and background is all that nobody drew.
    """

    values_zyx: Mask
    note: str = ""
    is_drawn: bool = False


def case_of(path: Path) -> str | None:
    """The case that a file is for, by its name; None where it is no label file."""
    ending = next((ending for ending in ENDINGS if path.name.endswith(ending)), None)
    return path.name.removesuffix(ending) if ending else None


def read_delivered(path: Path, grid: CaseGrid, classes: Classes) -> Delivered:
    """Read a label file and lay it on the grid of its case.

    Args:
        path: the file, in a format of `ENDINGS`.
        grid: of the case.
        classes: of the data set; 3D Slicer's segments are known by the classes' names, whatever values they have.

    Raises:
        UserError: it is damaged, holds other values, or lies elsewhere; the line does not name the file.
    """
    image = _read(path)
    segments = _segments(image)
    if segments:
        values_zyx, outside = _of_segments(image, segments, classes), classes.values[0]
    else:
        values_zyx, outside = _whole_values(image), classes.ignore_value
    _refuse_unknown(values_zyx, classes)
    return replace(_on_grid(values_zyx.astype(classes.dtype), image, grid, outside), is_drawn=bool(segments))


def _read(path: Path) -> SimpleITK.Image:
    try:
        check_regular(path)
        check_stream(path)
        image = SimpleITK.ReadImage(str(path))
    except UserError as error:
        raise UserError(*(line.removeprefix(f"{path}: ") for line in error.lines)) from None
    except Exception as error:  # gzip, zlib, nibabel and SimpleITK raise their own kinds
        raise UserError(f"cannot be read, it may be truncated ({one_line(error)})") from None
    if image.GetDimension() == 4 and image.GetSize()[3] == 1:
        image = image[..., 0]
    if image.GetDimension() != 3:
        raise UserError(f"has {image.GetDimension()} axes, a volume of 3 is wanted")
    return image


@dataclass(frozen=True)
class _Segment:
    """One segment of 3D Slicer's: its name, and by which value in which layer it is stored."""

    name: str
    value: int
    layer: int


def _segments(image: SimpleITK.Image) -> list[_Segment]:
    """The segments that the head of a `.seg.nrrd` names; none in any other file."""
    head: Mapping[str, str] = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    numbers = sorted(int(found[1]) for key in head if (found := re.fullmatch(r"Segment(\d+)_ID", key)))
    return [
        _Segment(
            head.get(f"Segment{number}_Name", ""),
            int(head.get(f"Segment{number}_LabelValue", 1)),
            int(head.get(f"Segment{number}_Layer", 0)),
        )
        for number in numbers
    ]


def _of_segments(image: SimpleITK.Image, segments: list[_Segment], classes: Classes) -> npt.NDArray[Any]:
    by_name = {name.lower(): value for name, value in zip(classes.names, classes.values, strict=True)}
    by_name[UNDECIDED] = classes.ignore_value
    unknown = [segment.name for segment in segments if segment.name.strip().lower() not in by_name]
    if unknown:
        raise UserError(f"segment '{unknown[0]}' is no class; name it as one of {', '.join(by_name)}")
    stored = SimpleITK.GetArrayFromImage(image)
    layers = stored if stored.ndim == 4 else stored[..., None]
    values_zyx = np.full(layers.shape[:3], classes.values[0], dtype=np.int64)
    taken = np.zeros(layers.shape[:3], dtype=bool)
    for segment in segments:
        if not 0 <= segment.layer < layers.shape[3]:
            raise UserError(f"segment '{segment.name}' is in layer {segment.layer}, the file has {layers.shape[3]}")
        mask = layers[..., segment.layer] == segment.value
        if twice := int((mask & taken).sum()):
            raise UserError(f"segment '{segment.name}' overlaps another in {twice} voxels; each voxel has one class")
        taken |= mask
        values_zyx[mask] = by_name[segment.name.strip().lower()]
    return values_zyx


def _whole_values(image: SimpleITK.Image) -> npt.NDArray[Any]:
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise UserError(f"has {image.GetNumberOfComponentsPerPixel()} values for each voxel, one label is wanted")
    values = SimpleITK.GetArrayFromImage(image)
    if not np.isfinite(values).all() or (values != np.round(values)).any():
        raise UserError("holds values that are no whole numbers; labels are wanted, not an image")
    return values


def _refuse_unknown(values_zyx: npt.NDArray[Any], classes: Classes) -> None:
    known = [*classes.values, classes.ignore_value]
    unknown = sorted({int(value) for value in np.unique(values_zyx)} - set(known))
    if unknown:
        shown = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        named = ", ".join(f"{value} {name}" for name, value in zip(classes.names, classes.values, strict=True))
        raise UserError(f"holds values {shown}; known are {named}, {classes.ignore_value} {UNDECIDED}")


def _on_grid(values_zyx: Mask, image: SimpleITK.Image, grid: CaseGrid, outside: int) -> Delivered:
    """Values of a file's own grid on the grid of its case."""
    matrix, offset = _index_map(image, grid)
    steps = np.linalg.norm(matrix, axis=0)
    if (steps * COARSEST < 1).any():
        ours, theirs = grid.file_spacing_mm[::-1], image.GetSpacing()
        raise UserError(f"its voxels {_shown(theirs)} mm are too coarse for the image's {_shown(ours)} (x, y, z)")
    corners = np.array(np.meshgrid(*([0, n - 1] for n in grid.file_shape_zyx[::-1]))).reshape(3, -1)
    reach = matrix @ corners + offset[:, None]
    if (reach.max(axis=1) < 0).any() or (reach.min(axis=1) > np.subtract(image.GetSize(), 1)).any():
        raise UserError(f"lies elsewhere than the image: its first voxel is at {_shown(image.GetOrigin())} mm (LPS)")
    exact, shift = np.round(matrix), np.round(offset)
    off = float(np.abs((matrix - exact) @ corners + (offset - shift)[:, None]).max())
    is_turned = (np.abs(exact).sum(axis=0) == 1).all() and (np.abs(exact).sum(axis=1) == 1).all()
    if not is_turned or off >= NEAR_VOXELS:
        found = Delivered(_resampled(values_zyx, image, grid, outside), "lies on another grid, resampled")
    else:
        turned = _turned(values_zyx, exact.astype(int), shift.astype(int), grid, outside)
        note = f"lies up to {off:.2f} voxels off, taken as the image's grid" if off > SAME_VOXELS else ""
        found = Delivered(turned, note)
    return found


def _index_map(image: SimpleITK.Image, grid: CaseGrid) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Matrix and offset that make of a voxel (x, y, z) of the case's file the voxel of this image in its place."""
    axes = np.reshape(image.GetDirection(), (3, 3))
    to_index = np.linalg.inv(axes * np.asarray(image.GetSpacing()))
    steps_mm = grid.axes * np.asarray(grid.file_spacing_mm[::-1])
    return to_index @ steps_mm, to_index @ np.subtract(grid.origin_mm, image.GetOrigin())


def _turned(
    values_zyx: Mask, matrix: npt.NDArray[np.int_], offset: npt.NDArray[np.int_], grid: CaseGrid, outside: int
) -> Mask:
    """Values with their axes put in the grid's order and direction; `outside` where they do not reach."""
    own = values_zyx.transpose(2, 1, 0)
    source = [int(np.flatnonzero(matrix[:, axis])[0]) for axis in range(3)]  # which of its axes the grid's axis is
    places = [
        matrix[source[axis], axis] * np.arange(length) + offset[source[axis]]
        for axis, length in enumerate(grid.file_shape_zyx[::-1])
    ]
    own = own.transpose(source)
    inside = [(place >= 0) & (place < own.shape[axis]) for axis, place in enumerate(places)]
    whole = np.full(grid.file_shape_zyx[::-1], outside, dtype=values_zyx.dtype)
    whole[np.ix_(*inside)] = own[np.ix_(*(place[within] for place, within in zip(places, inside, strict=True)))]
    return np.ascontiguousarray(whole.transpose(2, 1, 0))


def _resampled(values_zyx: Mask, image: SimpleITK.Image, grid: CaseGrid, outside: int) -> Mask:
    moving = SimpleITK.GetImageFromArray(values_zyx)
    moving.CopyInformation(image)
    size, spacing = grid.file_shape_zyx[::-1], grid.file_spacing_mm[::-1]
    return SimpleITK.GetArrayFromImage(  # type: ignore[no-any-return]
        SimpleITK.Resample(
            moving,
            size,
            SimpleITK.Transform(),
            SimpleITK.sitkNearestNeighbor,
            grid.origin_mm,
            spacing,
            grid.direction,
            outside,
        )
    )


def _shown(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
