"""What an image file's head tells: its grid and how many channels it holds, without its voxels."""

from __future__ import annotations

import gzip
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnactive_nf.core.errors import UserError, one_line
from nnactive_nf.core.files import check_regular
from nnactive_nf.core.geometry import Shape, as_shape

# nnU-Net gives the missing axis of a 2D image a spacing that no network ever pools over.
FLAT_SPACING = 999.0

TINY = 1e-12
SKEW = 0.05  # by how much the volume that three axes of length 1 span may differ from 1
MOST_VOXELS_OF_A_BYTE = 8 * 1100  # bits, packed by gzip as far as it goes

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Head:
    """The grid of an image file, as nnU-Net's reader understands it.

    Attributes:
        channels: channels that the file holds; more than one where all stand in one file.
        shape_zyx: voxels per axis.
        spacing_mm: voxel size (z, y, x).
        origin_xyz: place of the first voxel in mm, to the left, back and top; `None` where the format has none.
        direction: 3 x 3 direction cosines, row by row; `None` where the format has none.
    """

    channels: int
    shape_zyx: Shape
    spacing_mm: Vector
    origin_xyz: Vector | None = None
    direction: tuple[float, ...] | None = None

    @property
    def voxels(self) -> int:
        """Voxels of one channel."""
        return int(np.prod(self.shape_zyx, dtype=np.int64))


def read_head(path: Path, reader: type[BaseReaderWriter], label: bool = False) -> Head:
    """Head of one image or label file.

    Args:
        path: the file.
        reader: nnU-Net's reader for it; what it is based on (SimpleITK, nibabel) reads the head. Formats of other
            readers (tif, png) are read whole.
        label: whether it is a label file, which those other readers read another way.

    Raises:
        UserError: the file cannot be read as an image.
    """
    check_regular(path)
    try:
        problem = _nifti_problem(path, reader) if path.name.endswith((".nii", ".nii.gz")) else None
        if problem is None:
            head = _read(path, reader, label)
            problem = _problem(path, head)
    except Exception as error:  # each library raises kinds of its own
        raise UserError(f"{path.name} cannot be read, it may be truncated ({one_line(error)})") from None
    if problem:
        raise UserError(f"{path.name} {problem}")
    return head


def _read(path: Path, reader: type[BaseReaderWriter], label: bool) -> Head:
    if issubclass(reader, SimpleITKIO):
        return _by_simpleitk(path)
    if issubclass(reader, NibabelIO):
        return _by_nibabel(path)
    return _by_reader(path, reader(), label)


def _nifti_problem(path: Path, reader: type[BaseReaderWriter]) -> str | None:
    """What the libraries make something else of: they take a size of 0 for 1, leave a scale of infinity out."""
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        start = file.read(nibabel.Nifti2Header.sizeof_hdr)
    of_version_2 = nibabel.Nifti2Header.sizeof_hdr in (int.from_bytes(start[:4], order) for order in ("little", "big"))
    if of_version_2 and not issubclass(reader, NibabelIO):
        return "is a NIfTI-2, which this reader does not know; save it as NIfTI-1"
    kind = nibabel.Nifti2Header if of_version_2 else nibabel.Nifti1Header
    header: Any = kind(start[: kind.sizeof_hdr], check=False)
    voxel = header.get_data_dtype()
    if voxel.kind not in "iuf":
        return f"holds voxels of {voxel}, colours or complex numbers; one number for each voxel is wanted"
    axes = min(3, int(header["dim"][0]))
    lengths = [int(length) for length in header["dim"][1 : 1 + int(header["dim"][0])]]
    if axes < 1 or min(lengths, default=0) < 1:
        return f"has shape {lengths} (x, y, z)"
    sizes = [float(size) for size in header["pixdim"][1 : 1 + axes]]
    if not all(math.isfinite(size) and size != 0 for size in sizes):
        return f"has spacing {sizes} mm (x, y, z); numbers above 0 are wanted"
    if any(math.isinf(float(header[name])) for name in ("scl_slope", "scl_inter")):
        return f"scales its voxels by {float(header['scl_slope'])} and {float(header['scl_inter'])}"
    affine = header.get_best_affine()
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < TINY:
        return "has axes that lie in one plane, or are no numbers"
    if abs(abs(np.linalg.det(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))) - 1) > SKEW:
        return "has axes that are not at right angles"
    return None


def _problem(path: Path, head: Head) -> str | None:
    """What is refused of a head: what no image has, and what the file cannot hold."""
    if min(head.shape_zyx) < 1 or head.channels < 1:
        return f"has shape {head.shape_zyx} (z, y, x) and {head.channels} channels"
    if not all(math.isfinite(mm) and mm > 0 for mm in head.spacing_mm):
        return f"has spacing {head.spacing_mm} mm (z, y, x); numbers above 0 are wanted"
    if head.origin_xyz is not None and not all(math.isfinite(mm) for mm in head.origin_xyz):
        return f"has origin {head.origin_xyz}; numbers are wanted"
    if head.direction is not None:
        area = abs(float(np.linalg.det(np.reshape(head.direction, (3, 3)))))
        if not abs(area - 1) < SKEW:
            return "has a direction whose axes are not at right angles"
    size = path.stat().st_size
    if head.voxels * head.channels > MOST_VOXELS_OF_A_BYTE * size:
        return f"claims {head.voxels * head.channels} voxels, which a file of {size} bytes cannot hold"
    return None


def _by_simpleitk(path: Path) -> Head:
    file = SimpleITK.ImageFileReader()
    file.SetFileName(str(path))
    file.ReadImageInformation()
    spacing = [abs(value) for value in reversed(file.GetSpacing())]
    parts = file.GetNumberOfComponents()
    if parts > 1 or "complex" in SimpleITK.GetPixelIDValueAsString(file.GetPixelID()):
        raise ValueError(f"it holds {parts} numbers for each voxel, or complex ones; a file for each channel is wanted")
    lengths = [*reversed(file.GetSize())]  # axes of the array that nnU-Net gets
    origin, direction = file.GetOrigin(), np.asarray(file.GetDirection(), dtype=float)
    if len(lengths) == 2:
        return Head(1, as_shape([1, *lengths]), (max(spacing) * FLAT_SPACING, spacing[0], spacing[1]))
    if len(lengths) not in (3, 4):
        raise ValueError(f"it has {len(lengths)} axes; 2 or 3, or 3 and the channels, are wanted")
    channels = lengths[0] if len(lengths) == 4 else 1
    size = len(origin)  # a 4D file has a fourth number in its origin and a 4 x 4 direction
    cosines = direction.reshape(size, size)[:3, :3].ravel()
    if size < 3:
        return Head(channels, as_shape(lengths[-3:]), (max(spacing) * FLAT_SPACING, spacing[0], spacing[1]))
    return Head(channels, as_shape(lengths[-3:]), _vector(spacing[-3:]), _vector(origin[:3]), tuple(cosines.tolist()))


def _by_nibabel(path: Path) -> Head:
    image: Any = nibabel.load(path)  # type: ignore[attr-defined]
    if len(image.shape) != 3:
        raise ValueError(f"it has {len(image.shape)} axes, 3 are wanted")
    x, y, z = (float(value) for value in image.header.get_zooms())
    # nibabel's world points to the right and the front, SimpleITK's to the left and the back.
    world = np.diag([-1.0, -1.0, 1.0, 1.0]) @ np.asarray(image.affine, dtype=float)
    lengths = np.linalg.norm(world[:3, :3], axis=0)
    cosines = world[:3, :3] / np.where(lengths > 0, lengths, 1)
    return Head(1, as_shape(image.shape[::-1]), (z, y, x), _vector(world[:3, 3]), tuple(cosines.ravel().tolist()))


def _by_reader(path: Path, reader: BaseReaderWriter, label: bool) -> Head:
    values, properties = reader.read_seg(str(path)) if label else reader.read_images([str(path)])
    return Head(int(values.shape[0]), as_shape(values.shape[1:]), _vector(properties["spacing"]))


def _vector(values: Any) -> Vector:
    a, b, c = (float(value) for value in values)
    return a, b, c
