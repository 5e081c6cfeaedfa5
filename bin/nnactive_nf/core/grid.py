"""The way from the image grid to a file's own grid and to millimetres, and back.

Three steps lie between a file and what patches, masks and maps are counted in (docs/outputs.md has them as formulas):
nnU-Net crops the file's grid to its box of non-zero voxels, resamples the box to the planned spacing, and the plan may
reorder its axes for the network (`core/dataset.py`, network grid), which the image grid undoes.

Indices are continuous, (z, y, x), and count voxels' centres, as SimpleITK's do: voxel 0 reaches from -0.5 to 0.5.
Millimetres are (x, y, z) to the left, back and top (LPS), as SimpleITK, ITK and DICOM have them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box, Shape, as_shape

if TYPE_CHECKING:
    from nnactive_nf.core.heads import Head, Vector

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

# Columns of cases.csv that tell the place of the image grid, beside `z, y, x` and `original_*`. `direction_ab` is the
# part along the patient's axis a of a step of length 1 along the file's axis b, row by row as SimpleITK gives it.
GRID_COLUMNS = [
    "crop_z", "crop_y", "crop_x", "crop_dz", "crop_dy", "crop_dx", "origin_x", "origin_y", "origin_z",
    *(f"direction_{a}{b}" for a in "xyz" for b in "xyz"),
]  # fmt: skip


@dataclass(frozen=True)
class CaseGrid:
    """Where the image grid of a case lies in its file, and in the world.

    Attributes:
        shape_zyx: voxels of the image grid.
        crop: the box of the file's grid that was resampled to the image grid.
        file_shape_zyx: voxels of the file.
        file_spacing_mm: voxel size (z, y, x) of the file.
        origin_mm: place (x, y, z) of the file's first voxel in mm.
        direction: 3 x 3 direction cosines of the file, row by row; column b is the direction of the file's axis b.
    """

    shape_zyx: Shape
    crop: Box
    file_shape_zyx: Shape
    file_spacing_mm: Vector
    origin_mm: Vector = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = IDENTITY

    @property
    def scale_zyx(self) -> npt.NDArray[np.float64]:
        """Voxels of the file's grid that one of the image grid is long, per axis."""
        return np.divide(self.crop.size_zyx, self.shape_zyx)

    @property
    def spacing_mm(self) -> Vector:
        """Voxel size (z, y, x) of the image grid in mm: of whole voxels, so not to the digit what was planned."""
        z, y, x = (float(n) for n in self.scale_zyx * self.file_spacing_mm)
        return z, y, x

    def file_index(self, index_zyx: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Indices `[..., 3]` on the image grid as indices on the file's grid.

        nnU-Net resamples between the outer faces of the box, not between the centres of its outer voxels, so half a
        voxel of either grid comes in.
        """
        return (np.asarray(index_zyx) + 0.5) * self.scale_zyx - 0.5 + self.crop.start_zyx

    def image_index(self, index_zyx: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Indices `[..., 3]` on the file's grid as indices on the image grid."""
        return (np.asarray(index_zyx) - self.crop.start_zyx + 0.5) / self.scale_zyx - 0.5

    @property
    def axes(self) -> npt.NDArray[np.float64]:
        """Directions of the file's axes as columns (x, y, z), of length 1."""
        return np.reshape(self.direction, (3, 3)).astype(float)

    def place_mm(self, index_zyx: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Places `[..., 3]` (x, y, z) in mm of indices `[..., 3]` on the image grid."""
        steps_xyz = (self.file_index(index_zyx) * self.file_spacing_mm)[..., ::-1]
        return steps_xyz @ self.axes.T + self.origin_mm

    def corners_mm(self, box: Box) -> npt.NDArray[np.float64]:
        """The eight corners `[8, 3]` (x, y, z) in mm of a box of the image grid, z slowest, the low end first.

        They are the outer corners of its outer voxels, so the box holds the patch's voxels wholly.
        """
        ends = zip(np.subtract(box.start_zyx, 0.5), np.subtract(box.stop_zyx, 0.5), strict=True)
        return self.place_mm(list(itertools.product(*ends)))

    def centre_mm(self, box: Box) -> npt.NDArray[np.float64]:
        """Centre (x, y, z) in mm of a box of the image grid."""
        return self.place_mm(np.add(box.start_zyx, np.subtract(box.size_zyx, 1) / 2))

    def size_mm(self, box: Box) -> npt.NDArray[np.float64]:
        """Lengths (x, y, z) in mm of a box of the image grid, along the file's axes."""
        return (np.asarray(box.size_zyx) * self.spacing_mm)[::-1]

    def file_box(self, box: Box, margin: int = 0) -> Box:
        """The voxels of the file in which a box of the image grid lies wholly.

        Args:
            box: a box of the image grid.
            margin: voxels of the file that are added on each side, within the crop box.
        """
        ends = [self.file_index(np.subtract(end, 0.5)) + 0.5 for end in (box.start_zyx, box.stop_zyx)]
        low = np.floor(np.round(ends[0], 6)).astype(int) - margin
        high = np.ceil(np.round(ends[1], 6)).astype(int) + margin
        low, high = np.maximum(low, self.crop.start_zyx), np.minimum(high, self.crop.stop_zyx)
        return Box(as_shape(low), as_shape(high - low))

    def label_box(self, box: Box) -> Box:
        """The voxels of the file whose labels a box of the image grid is made from."""
        return self.file_box(box, margin=1 if self.is_resampled else 0)

    @property
    def is_resampled(self) -> bool:
        """Whether the image grid has other voxels than the file."""
        return self.shape_zyx != self.crop.size_zyx

    def to_file_grid(self, values_zyx: npt.NDArray[Any], *, linear: bool, outside: float) -> npt.NDArray[Any]:
        """Values `[z, y, x]` of the image grid on the file's grid.

        Args:
            values_zyx: what is brought there.
            linear: between voxels' centres, for maps; or each voxel's nearest, for labels, which keep their values.
            outside: the value outside the crop box, of which the image grid knows nothing.

        Returns:
            `[z, y, x]` of the file's shape and the values' type.
        """
        if values_zyx.shape != self.shape_zyx:
            raise ValueError(f"values of shape {values_zyx.shape} on an image grid of shape {self.shape_zyx}")
        whole = np.full(self.file_shape_zyx, outside, dtype=values_zyx.dtype)
        if not self.is_resampled:
            whole[self.crop.slices] = values_zyx
        elif linear:
            from scipy import ndimage  # most who know of grids resample nothing

            step = 1 / self.scale_zyx
            whole[self.crop.slices] = ndimage.affine_transform(
                values_zyx, step, step / 2 - 0.5, self.crop.size_zyx, order=1, mode="nearest"
            )
        else:
            whole[self.crop.slices] = values_zyx[np.ix_(*self._nearest())]
        return whole

    def _nearest(self) -> list[npt.NDArray[np.int64]]:
        """Per axis the voxel of the image grid in which each voxel of the crop box has its centre.

        Whole numbers, so that a centre on the face between two voxels falls to the upper one on any machine.
        """
        lengths = zip(self.crop.size_zyx, self.shape_zyx, strict=True)
        return [(2 * np.arange(size) + 1) * length // (2 * size) for size, length in lengths]


def grid_of_head(head: Head, crop: Box, shape_zyx: Sequence[int]) -> CaseGrid:
    """The grid of a case whose file has this head.

    Where the format knows no place (PNG, TIFF), the first voxel is at 0 and the axes are the patient's.
    """
    return CaseGrid(
        as_shape(shape_zyx), crop, head.shape_zyx, head.spacing_mm, head.origin_xyz or (0.0, 0.0, 0.0),
        head.direction or IDENTITY,
    )  # fmt: skip


def grid_row(grid: CaseGrid) -> tuple[float, ...]:
    """Values of `GRID_COLUMNS`."""
    return (*grid.crop.start_zyx, *grid.crop.size_zyx, *grid.origin_mm, *grid.direction)


def read_grids(cases_file: Path) -> dict[str, CaseGrid]:
    """Grids of all cases of a `cases.csv`, which PREPARE wrote and a run publishes.

    Raises:
        UserError: there is no such file, or it is no table of cases or of an older version.
    """
    try:
        table = pd.read_csv(cases_file, dtype={"case": str})
    except FileNotFoundError:
        raise UserError(f"{cases_file}: no such file") from None
    except ValueError as error:  # of pandas' parser and of text that is not UTF-8
        raise UserError(f"{cases_file}: not a table of cases ({error})") from None
    return grids_of_table(table, cases_file)


def grids_of_table(cases: pd.DataFrame, cases_file: Path) -> dict[str, CaseGrid]:
    """The same of a table in memory; `cases_file` is for the message."""
    missing = [name for name in ["case", *GRID_COLUMNS] if name not in cases]
    if missing:
        raise UserError(
            f"{cases_file}: columns {missing} are missing, without which nothing has a place; run again with -resume"
        )
    return {str(row["case"]): _grid_of_row(row) for row in cases.to_dict("records")}


def _grid_of_row(row: Mapping[Any, Any]) -> CaseGrid:
    z, y, x = (float(row[f"original_spacing_{a}"]) for a in "zyx")
    origin_x, origin_y, origin_z = (float(row[f"origin_{a}"]) for a in "xyz")
    return CaseGrid(
        as_shape(row[a] for a in "zyx"),
        Box(as_shape(row[f"crop_{a}"] for a in "zyx"), as_shape(row[f"crop_d{a}"] for a in "zyx")),
        as_shape(row[f"original_{a}"] for a in "zyx"),
        (z, y, x),
        (origin_x, origin_y, origin_z),
        tuple(float(row[f"direction_{a}{b}"]) for a in "xyz" for b in "xyz"),
    )
