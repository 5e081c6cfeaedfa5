"""Boxes on an image grid. Coordinates are array indices (z, y, x); a box is a start and a size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Shape = tuple[int, int, int]

# Voxels that are worked on at a time: temporaries stay in the processor's cache and small beside the volumes.
SLAB_VOXELS = 1 << 14


class Box(NamedTuple):
    """An axis-aligned box of voxels: `start_zyx` is the first voxel, `size_zyx` the number of voxels per axis."""

    start_zyx: Shape
    size_zyx: Shape

    @property
    def stop_zyx(self) -> Shape:
        """First voxel behind the box, per axis."""
        return as_shape(a + b for a, b in zip(self.start_zyx, self.size_zyx, strict=True))

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """Index of the box in an array `[..., z, y, x]` (put an ellipsis before it for leading axes)."""
        z, y, x = (slice(a, b) for a, b in zip(self.start_zyx, self.stop_zyx, strict=True))
        return z, y, x

    @property
    def voxels(self) -> int:
        """Number of voxels in the box."""
        return int(np.prod(self.size_zyx))

    def inside(self, shape_zyx: Sequence[int]) -> bool:
        """Whether the box lies wholly in an image of this shape."""
        return all(
            start >= 0 and size > 0 and start + size <= length
            for start, size, length in zip(self.start_zyx, self.size_zyx, shape_zyx, strict=True)
        )


def as_shape(values: Iterable[int]) -> Shape:
    """Three ints from anything that holds three."""
    z, y, x = (int(v) for v in values)
    return z, y, x


def intersects(a: Box, b: Box) -> bool:
    """Whether two boxes share a voxel. Boxes that touch do not."""
    return all(
        sa < sb + nb and sb < sa + na
        for sa, na, sb, nb in zip(a.start_zyx, a.size_zyx, b.start_zyx, b.size_zyx, strict=True)
    )


def bounding_box(mask_zyx: npt.NDArray[np.bool_]) -> Box:
    """The smallest box that holds all voxels of a mask, which has some."""
    hits = [np.flatnonzero(mask_zyx.any(axis=(1, 2))), np.flatnonzero(mask_zyx.any(axis=(0, 2)))]
    hits.append(np.flatnonzero(mask_zyx.any(axis=(0, 1))))
    return Box(as_shape(hit[0] for hit in hits), as_shape(hit[-1] - hit[0] + 1 for hit in hits))


def patch_size_in(patch_zyx: Sequence[int], shape_zyx: Sequence[int]) -> Shape:
    """Patch size per axis in an image: min(patch, image)."""
    return as_shape(min(p, s) for p, s in zip(patch_zyx, shape_zyx, strict=True))


def grid_starts(length: int, size: int, stride: int) -> npt.NDArray[np.int64]:
    """Start positions of a window along one axis: every `stride` voxels, the last position always included."""
    last = length - size
    if last < 0:
        raise ValueError(f"window of {size} does not fit into {length} voxels")
    starts = np.arange(0, last + 1, stride, dtype=np.int64)
    return starts if starts[-1] == last else np.append(starts, last)


def box_around(centre_zyx: Sequence[int], size_zyx: Sequence[int], shape_zyx: Sequence[int]) -> Box:
    """Box of this size around a voxel (its index size // 2), moved inside the image where it would stick out."""
    start = (min(max(c - n // 2, 0), s - n) for c, n, s in zip(centre_zyx, size_zyx, shape_zyx, strict=True))
    return Box(as_shape(start), as_shape(size_zyx))


def slabs(shape: Sequence[int], voxels: int) -> Iterator[tuple[slice, ...]]:
    """Parts of an array of this shape, in its order, of at most `voxels` elements each: indices that make views."""
    inner = math.prod(shape[1:])
    if len(shape) > 1 and inner > voxels:
        for index in range(shape[0]):
            for rest in slabs(shape[1:], voxels):
                yield slice(index, index + 1), *rest
    else:
        step = max(1, voxels // max(1, inner))
        for start in range(0, shape[0], step):
            yield (slice(start, start + step),)
