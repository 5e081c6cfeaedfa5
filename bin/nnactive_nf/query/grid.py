"""Start positions of patches in an image, scores at all of them by running sums, and picks by masked argmax.

Maps are summed in fixed point: a voxel's value is rounded to the nearest multiple of 2^-32 and the integers are added
in int64. Such sums are exact and do not depend on the order of adding, so equal patches have equal scores wherever
they lie, and a running sum equals a plain loop to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box, Shape, as_shape, grid_starts, patch_size_in

Planes = Callable[[int], npt.NDArray[Any]]  # z -> values [y, x]; asked for once or twice per z, in ascending order
Planar = npt.NDArray[np.int64]

ONE = 1 << 32  # 1.0 in fixed point

# Stands for a score of -inf in arrays where -inf itself stands for a barred position.
_MINUS_INFINITY = float(np.finfo(np.float64).min)


@dataclass(frozen=True)
class Grid:
    """The start positions of a patch in one image.

    Attributes:
        shape_zyx: the image's shape.
        size_zyx: the patch's size in this image.
        starts: start positions along z, y and x, ascending; the last one of each axis is always among them.
    """

    shape_zyx: Shape
    size_zyx: Shape
    starts: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]

    @classmethod
    def of(cls, shape_zyx: Sequence[int], patch_zyx: Sequence[int], stride_zyx: Sequence[int] = (1, 1, 1)) -> Grid:
        """Grid of a patch in an image; where the image is smaller than the patch, the patch is cut to it."""
        size = patch_size_in(patch_zyx, shape_zyx)
        z, y, x = (grid_starts(n, p, s) for n, p, s in zip(shape_zyx, size, stride_zyx, strict=True))
        return cls(as_shape(shape_zyx), size, (z, y, x))

    @property
    def counts(self) -> Shape:
        """Number of start positions along z, y and x: the shape of an array of scores."""
        return as_shape(len(s) for s in self.starts)

    @property
    def voxels(self) -> int:
        """Voxels of one patch."""
        return int(np.prod(self.size_zyx))

    def box(self, index: Sequence[int]) -> Box:
        """The patch at an index into an array of scores."""
        return Box(as_shape(s[i] for s, i in zip(self.starts, index, strict=True)), self.size_zyx)

    def box_at(self, flat: int) -> Box:
        """The patch at an index into the flattened array of scores."""
        return self.box(np.unravel_index(flat, self.counts))  # type: ignore[arg-type]

    def intersecting(self, box: Box) -> tuple[slice, slice, slice]:
        """Part of an array of scores whose patches share a voxel with the box (a grid makes it one block)."""
        z, y, x = (
            slice(int(np.searchsorted(s, start - size + 1)), int(np.searchsorted(s, stop)))
            for s, size, start, stop in zip(self.starts, self.size_zyx, box.start_zyx, box.stop_zyx, strict=True)
        )
        return z, y, x


def planes_of(values_zyx: npt.NDArray[Any]) -> Planes:
    """The planes of an array `[z, y, x]`."""
    return lambda z: values_zyx[z]


def window_sums(planes: Planes, grid: Grid) -> Iterator[Planar]:
    """Sums over the patch at all start positions, one array `[y, x]` of int64 per start position along z.

    Whole numbers and truth values are added as they are, real numbers in fixed point (`ONE` is 1.0).

    Memory: a few planes. The running sum along z needs each plane twice, once to add and once to take away.

    Raises:
        UserError: values are not finite or too large for fixed point (their mean must stay under 2^31 / voxels).
    """
    _, height, width = grid.shape_zyx
    size_z, size_y, size_x = grid.size_zyx
    starts_y, starts_x = (_as_index(s) for s in grid.starts[1:])
    stops_y, stops_x = (_as_index(s, size) for s, size in zip(grid.starts[1:], (size_y, size_x), strict=True))
    to_fixed = _ToFixed((height, width), grid.voxels)
    column = np.zeros((height, width), dtype=np.int64)
    along_y = np.zeros((height + 1, width), dtype=np.int64)
    along_x = np.zeros((grid.counts[1], width + 1), dtype=np.int64)
    wanted = iter(grid.starts[0].tolist())
    start = next(wanted)
    for z in range(grid.shape_zyx[0]):
        column += to_fixed(planes(z))
        if z >= size_z:
            column -= to_fixed(planes(z - size_z))
        if z == start + size_z - 1:
            np.cumsum(column, axis=0, out=along_y[1:])
            np.cumsum(along_y[stops_y] - along_y[starts_y], axis=1, out=along_x[:, 1:])
            yield along_x[:, stops_x] - along_x[:, starts_x]
            start = next(wanted, -1)


def _as_index(starts: npt.NDArray[np.int64], offset: int = 0) -> slice | npt.NDArray[np.int64]:
    if len(starts) == starts[-1] + 1:  # stride 1
        return slice(offset, int(starts[-1]) + 1 + offset)
    return starts + offset


class _ToFixed:
    """Planes of real numbers as int64 multiples of 2^-32, in the same memory at each call."""

    def __init__(self, shape_yx: tuple[int, int], voxels: int) -> None:
        self._limit = (1 << 63) / voxels
        self._scaled = np.empty(shape_yx, dtype=np.float64)
        self._whole = np.empty(shape_yx, dtype=np.int64)

    def __call__(self, plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The plane in fixed point; whole numbers and truth values as they are."""
        if not np.issubdtype(plane.dtype, np.floating):
            return plane
        np.multiply(plane, float(ONE), out=self._scaled, dtype=np.float64)
        np.rint(self._scaled, out=self._scaled)
        if not max(float(self._scaled.max()), -float(self._scaled.min())) < self._limit:  # also where it is NaN
            raise UserError("a map holds values that are not finite or too large to be summed over a patch")
        np.copyto(self._whole, self._scaled, casting="unsafe")
        return self._whole


class Scores:
    """Scores at all start positions of one image, from which the best are taken one by one.

    Args:
        values: int64 sums in fixed point or float64 scores, shape `grid.counts`; the array is changed in place.
        grid: the start positions.

    A score of -inf is allowed: it ranks last but can be taken. NaN is not.
    """

    def __init__(self, values: npt.NDArray[np.int64] | npt.NDArray[np.float64], grid: Grid) -> None:
        if values.shape != grid.counts:
            raise ValueError(f"scores of shape {values.shape} for {grid.counts} start positions")
        self.grid = grid
        self.values: npt.NDArray[Any] = values
        self._whole = np.issubdtype(values.dtype, np.integer)
        self._barred: Any = np.iinfo(np.int64).min if self._whole else -np.inf
        if not self._whole:
            if np.isnan(values).any():
                raise UserError("a score is not a number (NaN)")
            np.maximum(values, _MINUS_INFINITY, out=values)

    @classmethod
    def of_means(cls, planes: Planes, grid: Grid) -> Scores:
        """Scores that are the mean of a map of real numbers over the patch, exact in fixed point."""
        sums = np.empty(grid.counts, dtype=np.int64)
        for plane, target in zip(window_sums(planes, grid), sums, strict=True):
            target[...] = plane
        return cls(sums, grid)

    @property
    def holds_sums(self) -> bool:
        """Whether the scores are means of a map, kept as exact sums."""
        return bool(self._whole)

    def bar(self, box: Box) -> None:
        """Take away all positions whose patch shares a voxel with the box."""
        self.values[self.grid.intersecting(box)] = self._barred

    def bar_free(self, free_planes: Planes, free_overlap: float) -> None:
        """Take away positions of which more than a share `free_overlap` lies on free voxels."""
        most = int(np.floor(free_overlap * self.grid.voxels + 1e-9))
        for counts, target in zip(window_sums(free_planes, self.grid), self.values, strict=True):
            target[counts > most] = self._barred

    def allowed(self) -> npt.NDArray[np.bool_]:
        """Which positions can still be taken."""
        return self.values != self._barred  # type: ignore[no-any-return]

    def best(self) -> tuple[Box, float] | None:
        """Best position that is left and its score; equal scores by z, then y, then x. `None` where none is left."""
        flat = int(self.values.argmax())
        value = self.values.flat[flat]
        if value == self._barred:
            return None
        return self.grid.box_at(flat), self._score(value)

    def at(self, box: Box) -> float:
        """Score of the position where this patch starts, also where -inf; not for barred positions."""
        index = tuple(int(np.searchsorted(s, v)) for s, v in zip(self.grid.starts, box.start_zyx, strict=True))
        return self._score(self.values[index])

    def _score(self, value: Any) -> float:
        if self._whole:
            return int(value) / (self.grid.voxels * ONE)  # Python divides whole numbers with one rounding
        return -np.inf if value == _MINUS_INFINITY else float(value)

    def take(self, count: int) -> list[tuple[Box, float]]:
        """The best `count` positions, best first, none of which intersect; fewer where there are no more."""
        taken: list[tuple[Box, float]] = []
        while len(taken) < count and (found := self.best()) is not None:
            self.bar(found[0])
            taken.append(found)
        return taken

    def to_real(self, change: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]) -> Scores:
        """Turn sums into `change(means)`, in the same memory, plane by plane in order; barred positions stay barred.

        `change` gets the means `[y, x]` of one plane. This object must not be used afterwards.
        """
        if not self._whole:
            raise ValueError("these scores are real numbers already")
        real = self.values.view(np.float64)
        unit = float(self.grid.voxels * ONE)
        for plane, target in zip(self.values, real, strict=True):
            barred = plane == self._barred
            changed = np.maximum(change(np.where(barred, 0, plane) / unit), _MINUS_INFINITY)
            target[...] = np.where(barred, -np.inf, changed)
        scores = object.__new__(Scores)
        scores.grid, scores.values, scores._whole, scores._barred = self.grid, real, False, -np.inf
        return scores
