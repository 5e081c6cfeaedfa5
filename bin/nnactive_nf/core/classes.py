"""The classes of a data set: names, values in label files, and the ignore value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.names import check_names

MOST_VALUE = 65534  # of 16 bits the highest is left for the ignore value


@dataclass(frozen=True)
class Classes:
    """Class names with the values that label files use, background (value 0) first, then by value.

    A class's *index* is its place in `names` (0 is background): networks and probability maps count by index. Its
    *value* is what stands in masks and label files; values need not be contiguous.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]

    @classmethod
    def of(cls, labels: Mapping[str, int], where: str = "dataset.json") -> Classes:
        """Classes from a mapping of name to value, checked; `where` is how messages name what it stands in."""
        ordered = sorted(labels.items(), key=lambda item: item[1])
        return cls.read([name for name, _ in ordered], [value for _, value in ordered], where)

    @classmethod
    def read(cls, names: Sequence[Any], values: Sequence[Any], where: str) -> Classes:
        """Classes as a file names them, background first.

        Raises:
            UserError: they are none; the line starts with `where`.
        """
        if len(names) != len(values) or not all(isinstance(value, int | np.integer) for value in values):
            raise UserError(f"{where}: class values must be whole numbers, one for each class")
        found = cls(tuple(names), tuple(int(value) for value in values))
        if not found.values or found.values[0] != 0:
            raise UserError(f"{where}: no class has the value 0 (background)")
        if len(found) < 2:
            raise UserError(f"{where}: no foreground class is declared")
        if len(set(found.values)) != len(found):
            raise UserError(f"{where}: two classes share one value")
        if list(found.values) != sorted(found.values) or not all(0 <= n <= MOST_VALUE for n in found.values):
            raise UserError(f"{where}: class values must lie between 0 and {MOST_VALUE}, and rise")
        check_names("class", found.names, where)
        if len(set(found.names)) != len(found):
            raise UserError(f"{where}: two classes share one name")
        if "background" in found.names[1:]:
            raise UserError(f"{where}: class 'background': nnU-Net wants this name for the value 0")
        return found

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
