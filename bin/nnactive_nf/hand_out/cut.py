"""A case for the page on which people label: images cut to what lies round the patches, so that the page is light."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK

from nnactive_nf.core.geometry import Box, Shape, as_shape
from nnactive_nf.core.grid import CaseGrid
from nnactive_nf.core.image_files import file_image
from nnactive_nf.core.labels import Mask
from nnactive_nf.hand_out.page import PageCase, PagePatch

MOST_MARGIN = 32  # voxels round a patch that are shown; half of the patch's size where that is less
LEAST_MARGIN = 4


def page_case(
    name: str,
    grid: CaseGrid,
    images: Sequence[tuple[str, npt.NDArray[Any]]],
    start_zyx: Mask,
    uncertainty_zyx: npt.NDArray[np.float32] | None,
    patches: Sequence[tuple[int, Box, bool]],
) -> PageCase:
    """A case as the page takes it.

    What is far from all patches but between them takes room in no file: it has one value.

    Args:
        name: the case.
        grid: of the case.
        images: name and voxels `[z, y, x]` of each channel, as all that follows on the file grid.
        start_zyx: what labelling starts from.
        uncertainty_zyx: where the models are unsure; `None` for nothing.
        patches: number and box of each patch, on the file grid, and whether it is a reserve.
    """
    shown = [surroundings(box, grid.file_shape_zyx) for _, box, _ in patches]
    low = as_shape(np.min([box.start_zyx for box in shown], axis=0))
    whole = Box(low, as_shape(np.max([box.stop_zyx for box in shown], axis=0) - low))
    far = np.ones(grid.file_shape_zyx, dtype=bool)
    for box in shown:
        far[box.slices] = False
    uncertainty = None
    if uncertainty_zyx is not None:
        rounded = uncertainty_zyx.astype(np.float16).astype(np.float32)  # half of the bytes once they are packed
        uncertainty = nifti(np.where(far, np.float32(0), rounded), grid, whole)
    channels = [
        (channel, nifti(smallest_type(np.where(far, values.min(), values)), grid, whole)) for channel, values in images
    ]
    boxes = [
        PagePatch(number, _ijk(np.subtract(box.start_zyx, low)), _ijk(np.subtract(box.stop_zyx, low)), reserve)
        for number, box, reserve in patches
    ]
    return PageCase(name, channels, nifti(start_zyx, grid, whole), uncertainty, boxes)


def surroundings(box: Box, shape_zyx: Shape) -> Box:
    """A patch with the voxels round it that the page shows, within the image."""
    margins = [min(MOST_MARGIN, max(LEAST_MARGIN, size // 2)) for size in box.size_zyx]
    low = as_shape(max(0, start - margin) for start, margin in zip(box.start_zyx, margins, strict=True))
    high = (min(n, stop + margin) for n, stop, margin in zip(shape_zyx, box.stop_zyx, margins, strict=True))
    return Box(low, as_shape(np.subtract(list(high), low)))


def smallest_type(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Whole numbers of 16 bits as such (CT), all others as float32."""
    rounded = np.rint(values)
    is_whole = bool((rounded == values).all()) and bool((np.abs(rounded) < 2**15).all())
    return rounded.astype(np.int16) if is_whole else values.astype(np.float32)


def nifti(values_zyx: npt.NDArray[Any], grid: CaseGrid, box: Box) -> bytes:
    """A box of values on the file grid as the bytes of a .nii.gz that lies where the box lies."""
    image = SimpleITK.RegionOfInterest(file_image(values_zyx, grid), box.size_zyx[::-1], box.start_zyx[::-1])
    with TemporaryDirectory() as folder:
        path = Path(folder) / "cut.nii.gz"
        SimpleITK.WriteImage(image, str(path), True)
        return path.read_bytes()


def _ijk(index_zyx: npt.NDArray[np.int_]) -> tuple[int, int, int]:
    z, y, x = (int(n) for n in index_zyx)
    return x, y, z
