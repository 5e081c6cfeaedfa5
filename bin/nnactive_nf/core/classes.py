"""The classes of a data set: names, values in label files, and the ignore value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nnactive_nf.core.errors import UserError


@dataclass(frozen=True)
class Classes:
    """Class names with the values that label files use, background (value 0) first, then by value.

    A class's *index* is its place in `names` (0 is background): networks and probability maps count by index. Its
    *value* is what stands in masks and label files; values need not be contiguous.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]

    @classmethod
    def of(cls, labels: Mapping[str, int]) -> Classes:
        """Classes from a mapping of name to value."""
        ordered = sorted(labels.items(), key=lambda item: item[1])
        if not ordered or ordered[0][1] != 0:
            raise UserError("dataset.json: no class has the value 0 (background)")
        if len(ordered) < 2:
            raise UserError("dataset.json: no foreground class is declared")
        if len({value for _, value in ordered}) != len(ordered):
            raise UserError("dataset.json: two classes share one value")
        return cls(tuple(name for name, _ in ordered), tuple(value for _, value in ordered))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def foreground(self) -> range:
        """Indices of the foreground classes."""
        return range(1, len(self.names))

    @property
    def ignore_value(self) -> int:
        """Value of voxels that nobody has looked at: the highest that the masks' type holds."""
        return int(np.iinfo(self.dtype).max)

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """Smallest type for masks that leaves its highest value free for the ignore value."""
        return np.dtype(np.uint8 if max(self.values) < 255 else np.uint16)

    @property
    def ignore_index(self) -> int:
        """Index that stands for the ignore value in networks' label maps (nnU-Net wants the one after the last)."""
        return len(self.names)

    def to_index(self, mask_zyx: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.int16]:
        """Mask of values to mask of class indices; the ignore value becomes `ignore_index`."""
        table = np.full(int(np.iinfo(self.dtype).max) + 1, -1, dtype=np.int16)
        table[list(self.values)] = np.arange(len(self), dtype=np.int16)
        table[self.ignore_value] = self.ignore_index
        return table[mask_zyx]

    def to_value(self, index_zyx: npt.NDArray[np.integer]) -> npt.NDArray[np.unsignedinteger]:
        """Mask of class indices to mask of values; `ignore_index` becomes the ignore value."""
        table = np.array([*self.values, self.ignore_value], dtype=self.dtype)
        return table[index_zyx]
