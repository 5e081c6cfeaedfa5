"""The kinds of phantom: which channels, which labels, and how bright each tissue is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from nnactive_nf.core.errors import UserError

# What a voxel can consist of; `AIR` is outside the body, where images are exactly 0.
TISSUES = ("air", "body", "muscle", "organ", "tail", "lesion")
AIR, BODY, MUSCLE, ORGAN, TAIL, LESION = range(len(TISSUES))


@dataclass(frozen=True)
class Variant:
    """One kind of phantom.

    Attributes:
        channels: names of the channels, as `dataset.json` gives them.
        labels: class names with their values in the label files; a region has several.
        regions_class_order: nnU-Net's, where there are regions: with which values it paints them.
        label_of: the value for each of `TISSUES`.
        means: for each channel the mean intensity of each of `TISSUES`; `muscle` comes near the organ on purpose.
        noise: standard deviation of the noise, per channel.
    """

    channels: tuple[str, ...]
    labels: Mapping[str, int | list[int]]
    label_of: tuple[int, ...]
    means: tuple[tuple[float, ...], ...]
    noise: tuple[float, ...]
    regions_class_order: tuple[int, ...] = ()


# Values with gaps and a second channel: the lesion shows in the second, the organ in the first.
_TWO_CHANNELS = Variant(
    channels=("T1", "T2"),
    labels={"background": 0, "organ": 2, "lesion": 5},
    label_of=(0, 0, 0, 2, 2, 5),
    means=((0.0, 120.0, 95.0, 80.0, 70.0, 84.0), (0.0, 90.0, 100.0, 105.0, 110.0, 165.0)),
    noise=(12.0, 18.0),
)

VARIANTS = {
    "mri": Variant(
        channels=("MRI",),
        labels={"background": 0, "organ": 1, "tail": 2, "lesion": 3},
        label_of=(0, 0, 0, 1, 2, 3),
        means=((0.0, 100.0, 138.0, 150.0, 205.0, 300.0),),
        noise=(14.0,),
    ),
    "two_channels": _TWO_CHANNELS,
    # The same volumes, with the lesion as a part of what it lies in.
    "regions": replace(
        _TWO_CHANNELS, labels={"background": 0, "whole": [2, 5], "lesion": 5}, regions_class_order=(2, 5)
    ),
}
DEFAULT_VARIANT = "mri"


def variant_named(name: str) -> Variant:
    """The variant of this name; `UserError` where there is none."""
    if name not in VARIANTS:
        raise UserError(f"phantom: no variant '{name}', there are {', '.join(VARIANTS)}")
    return VARIANTS[name]
