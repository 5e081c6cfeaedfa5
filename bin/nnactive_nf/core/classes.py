"""The classes of a data set: names, values in label files, the ignore value, and regions where classes overlap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.names import check_names

MOST_VALUE = 65534  # of 16 bits the highest is left for the ignore value


class Region(NamedTuple):
    """A foreground class of several label values, or of one beside such; regions may overlap.

    `painted` is the value that a voxel takes in a segmentation for lying in the region, if no later region has it:
    its entry in nnU-Net's `regions_class_order`.
    """

    name: str
    values: tuple[int, ...]
    painted: int


@dataclass(frozen=True)
class Classes:
    """The labels of a data set and the values that label files use, background (value 0) first, then by value.

    A label's *index* is its place in `names` (0 is background): networks' label maps count by index. Its *value* is
    what stands in masks and label files; values need not be contiguous. No voxel has two labels.

    Without `regions` each foreground label is a class that a network finds, and its output has a channel for each
    label. With regions (nnU-Net's `labels` that are lists) they are the classes: they are asked for, counted and
    measured by their names, overlap, and have a channel each, in this order and without background. A label is then
    named after the region that is this label alone, or `label <value>`.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    regions: tuple[Region, ...] = ()

    @classmethod
    def of(cls, labels: Mapping[str, int | Sequence[int]], where: str = "dataset.json", order: Any = None) -> Classes:
        """Classes from nnU-Net's `labels`, checked.

        Args:
            labels: name to value, or to a list of values for a region. A list of one is that value, as for nnU-Net.
            where: how messages name what it stands in.
            order: nnU-Net's `regions_class_order`; of no meaning where there are no regions.
        """
        sets = {name: _value_set(name, value, where) for name, value in labels.items()}
        if all(len(values) == 1 for values in sets.values()):
            ordered = sorted(sets.items(), key=lambda item: item[1])
            return cls.read([name for name, _ in ordered], [value for _, (value,) in ordered], where)
        background = [name for name, values in sets.items() if values == (0,)]
        if len(background) > 1:
            raise UserError(f"{where}: two classes share one value")
        found = [(name, values) for name, values in sets.items() if values != (0,)]
        if not isinstance(order, list) or len(order) != len(found):
            raise UserError(
                f"{where}: 'regions_class_order' wants a label value for each of the {len(found)} regions, in the "
                "order of 'labels'; nnU-Net paints them one over the other with these"
            )
        values = sorted({value for _, values in found for value in values})
        names = [*background, *(_label_name(value, found) for value in values)]
        regions = [(*region, painted) for region, painted in zip(found, order, strict=True)]
        return cls.read(names, [*([0] * len(background)), *values], where, regions)

    @classmethod
    def read(cls, names: Sequence[Any], values: Sequence[Any], where: str, regions: Sequence[Any] = ()) -> Classes:
        """Classes as a file names them, background first; of regions name, values, and the value painted.

        Raises:
            UserError: they are none; the line starts with `where`.
        """
        if len(names) != len(values) or not all(isinstance(value, int | np.integer) for value in values):
            raise UserError(f"{where}: class values must be whole numbers, one for each class")
        found = cls(tuple(names), tuple(int(value) for value in values), _regions_of(regions, where))
        if not found.values or found.values[0] != 0:
            raise UserError(f"{where}: no class has the value 0 (background)")
        if len(found) < 2:
            raise UserError(f"{where}: no foreground class is declared")
        if len(set(found.values)) != len(found):
            raise UserError(f"{where}: two classes share one value")
        if list(found.values) != sorted(found.values) or not all(0 <= n <= MOST_VALUE for n in found.values):
            raise UserError(f"{where}: class values must lie between 0 and {MOST_VALUE}, and rise")
        asked_for = [*found.names[:1], *(region.name for region in found.regions)] if regions else found.names
        check_names("class", asked_for, where)
        if len(set(asked_for)) != len(asked_for):
            raise UserError(f"{where}: two classes share one name")
        if "background" in asked_for[1:]:
            raise UserError(f"{where}: class 'background': nnU-Net wants this name for the value 0")
        if regions:
            found._check_regions(where)
        return found

    def _check_regions(self, where: str) -> None:
        """Whether regions are made of the labels, differ, and can be told from what is painted of them."""
        parts = [region[:2] for region in self.regions]
        labels = [(_label_name(value, parts), value) for value in sorted({v for _, values in parts for v in values})]
        if labels != list(zip(self.names[1:], self.values[1:], strict=True)):
            raise UserError(f"{where}: the labels are not those of which the regions are made")
        for place, (name, values) in enumerate(parts):
            if twins := [other for other, others in parts[:place] if others == values]:
                raise UserError(f"{where}: regions '{twins[0]}' and '{name}' are of the same values")
        for name, values, painted in self.regions:
            if painted not in values:
                raise UserError(f"{where}: 'regions_class_order' paints region '{name}' with {painted}, not in it")
        for value in self.values[1:]:
            painted = next(region.painted for region in reversed(self.regions) if value in region.values)
            if lost := [r.name for r in self.regions if (value in r.values) != (painted in r.values)]:
                raise UserError(
                    f"{where}: 'regions_class_order' paints voxels of {value} with {painted} in the end, by which "
                    f"region '{lost[0]}' is wrong; list a region before those inside it, and paint each with a value "
                    "that the later ones leave to it"
                )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def foreground(self) -> range:
        """Indices of the foreground labels."""
        return range(1, len(self.names))

    @cached_property
    def named(self) -> dict[str, tuple[int, ...]]:
        """Whatever is asked for by name, with its values: background, then the foreground classes, or the regions."""
        parts: Sequence[tuple[str, tuple[int, ...]]] = [region[:2] for region in self.regions] or [
            (name, (value,)) for name, value in zip(self.names[1:], self.values[1:], strict=True)
        ]
        return {self.names[0]: (0,), **dict(parts)}

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the foreground classes, or of the regions: what a network is to find, and is measured by."""
        return tuple(self.named)[1:]

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of a network's outputs, in their order: all classes, whose softmax it is, or the regions' sigmoids."""
        return self.targets if self.regions else self.names

    def mask_of(self, values_zyx: npt.NDArray[Any], name: str) -> npt.NDArray[np.bool_]:
        """Voxels of one of `named` in a mask of values."""
        first, *others = self.named[name]
        mask: npt.NDArray[np.bool_] = values_zyx == first
        for value in others:
            mask |= values_zyx == value
        return mask

    def counts(self, values_zyx: npt.NDArray[Any]) -> dict[str, int]:
        """Voxels of each of `named` in a mask of values; regions overlap, so their sum means nothing."""
        of_value = {value: int(np.count_nonzero(values_zyx == value)) for value in self.values}
        return {name: sum(of_value[value] for value in values) for name, values in self.named.items()}

    def held(self, values_zyx: npt.NDArray[Any]) -> list[int]:
        """Places in `named` of what a mask of values holds."""
        present = set(np.unique(values_zyx).tolist())
        return [place for place, values in enumerate(self.named.values()) if not present.isdisjoint(values)]

    def described(self, index: int) -> str:
        """A label's name for readers, with the other regions that its voxels lie in."""
        value, name = self.values[index], self.names[index]
        others = [region.name for region in self.regions if value in region.values and region.name != name]
        return f"{name} (in {', '.join(others)})" if others else name

    def for_nnunet(self, ignore: bool) -> dict[str, Any]:
        """`labels` of nnU-Net's `dataset.json`, by index and in the order of the channels, and `regions_class_order`.

        Args:
            ignore: with the ignore label, which nnU-Net wants to be the highest.
        """
        index = {value: place for place, value in enumerate(self.values)}
        labels: dict[str, Any] = {"background": 0}  # whatever the data set calls it
        for name, values in list(self.named.items())[1:]:
            labels[name] = index[values[0]] if len(values) == 1 else [index[value] for value in values]
        if ignore:
            labels["ignore"] = self.ignore_index
        order = {"regions_class_order": [index[region.painted] for region in self.regions]} if self.regions else {}
        return {"labels": labels, **order}

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
        """Mask of values to mask of label indices; the ignore value becomes `ignore_index`."""
        table = np.full(int(np.iinfo(self.dtype).max) + 1, -1, dtype=np.int16)
        table[list(self.values)] = np.arange(len(self), dtype=np.int16)
        table[self.ignore_value] = self.ignore_index
        return table[mask_zyx]

    def to_value(self, index_zyx: npt.NDArray[np.integer]) -> npt.NDArray[np.unsignedinteger]:
        """Mask of label indices to mask of values; `ignore_index` becomes the ignore value."""
        table = np.array([*self.values, self.ignore_value], dtype=self.dtype)
        return table[index_zyx]


def _value_set(name: str, value: int | Sequence[int], where: str) -> tuple[int, ...]:
    """The values of an entry of `labels`, rising."""
    values: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    if not values:
        raise UserError(f"{where}: class '{name}' is an empty list; a region is a list of label values")
    if wrong := [one for one in values if isinstance(one, bool) or not isinstance(one, int)]:
        raise UserError(f"{where}: class '{name}' holds {wrong[0]!r}, not a whole number")
    if len(set(values)) != len(values):
        raise UserError(f"{where}: class '{name}' holds a value twice")
    if isinstance(value, list | tuple) and 0 in values:
        raise UserError(
            f"{where}: class '{name}' holds 0 in a list; background lies in no region, and is 0 itself, no list"
        )
    return tuple(sorted(values))


def _label_name(value: int, regions: Sequence[tuple[str, tuple[int, ...]]]) -> str:
    """The region that is this value alone, else its number."""
    return next((name for name, values in regions if values == (value,)), f"label {value}")


def _regions_of(regions: Sequence[Any], where: str) -> tuple[Region, ...]:
    """Regions as a file has them."""
    try:
        found = [Region(name, _value_set(name, [*values], where), painted) for name, values, painted in regions]
        if not all(isinstance(region.name, str) for region in found):
            raise TypeError("a name is text")
    except (TypeError, ValueError):
        raise UserError(
            f"{where}: a region is a name, its label values and the value that it is painted with"
        ) from None
    if any(type(region.painted) is not int for region in found):
        raise UserError(f"{where}: 'regions_class_order' wants whole numbers, the label values that are painted")
    return tuple(found)
