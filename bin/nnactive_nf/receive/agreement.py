"""How well two label maps of a patch agree: of two readers, or of a reader and of what the models saw."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.labels import Mask

COLUMNS = [
    "patch", "case", "class", "a", "b", "start", "voxels", "a_voxels", "b_voxels", "both_voxels", "dice", "kappa",
    "a_minutes", "b_minutes",
]  # fmt: skip

MODELS = "pre-segmentation"  # stands for a reader in column b
# Column `start`: what the readers of a row started from.
NONE, SEEN, BLIND, BOTH_BLIND, UNTOLD = "no model", "seen", "blind", "both blind", "untold"


@dataclass(frozen=True)
class Read:
    """What one reader says of a patch.

    Attributes:
        name: of the reader.
        values_zyx: label values of the patch's voxels on the file grid, none undecided.
        second: the labels came as the second reader's.
        minutes: that it took, as told; NaN where nobody says.
    """

    name: str
    values_zyx: Mask
    second: bool = False
    minutes: float = math.nan


def dice_of(a_voxels: int, b_voxels: int, both_voxels: int) -> float:
    """Dice (Dice, Ecology 26:297, 1945; Zijdenbos et al., IEEE TMI 13:716, 1994): 2 |A and B| / (|A| + |B|).

    NaN where neither holds the class: such a patch says nothing of it.
    """
    return 2 * both_voxels / (a_voxels + b_voxels) if a_voxels + b_voxels else math.nan


def kappa_of(voxels: int, a_voxels: int, b_voxels: int, both_voxels: int) -> float:
    """Kappa (Cohen, Educ. Psychol. Meas. 20:37, 1960) of a class against all else, over the voxels: (p - e) / (1 - e).

    p is the share of voxels in which both say the same, e the share to be expected of two who each draw voxels at
    random, as many as they have given the class. NaN where e is 1: both gave all voxels, or none, to the class.
    """
    neither = voxels - a_voxels - b_voxels + both_voxels
    expected = a_voxels * b_voxels + (voxels - a_voxels) * (voxels - b_voxels)  # times voxels squared
    left = voxels**2 - expected
    return (voxels * (both_voxels + neither) - expected) / left if left else math.nan


def agreement_rows(
    patch: int,
    case: str,
    reads: Sequence[Read],
    start_zyx: Mask | None,
    is_blind: bool,
    classes: Classes,
) -> list[dict[str, object]]:
    """Rows of `COLUMNS` of a patch that several people have read: each pair of them, and each with the models.

    Args:
        patch: its number.
        case: its case.
        reads: what the readers say, at least two.
        start_zyx: the pre-segmentation in the patch; `None` where there was no model.
        is_blind: the second reader was given no pre-segmentation.
        classes: of the data set; there is a row for each foreground class, or region.
    """
    return [
        {"patch": patch, "case": case, "class": name, "a": a.name, "b": b.name, "start": start}
        | _compared(a, b, name, classes)
        | {"a_minutes": a.minutes, "b_minutes": b.minutes}
        for a, b, start in _pairs(reads, start_zyx, is_blind)
        for name in classes.targets
    ]


def _pairs(reads: Sequence[Read], start_zyx: Mask | None, is_blind: bool) -> Iterator[tuple[Read, Read, str]]:
    """Who is held against whom, and what they started from. Of a blind patch it is told by who came as the second."""
    told = any(read.second for read in reads)
    kinds: Mapping[int, str] = {0: SEEN if told or not is_blind else UNTOLD, 1: BLIND, 2: BOTH_BLIND}
    for a, b in itertools.combinations(reads, 2):
        yield a, b, NONE if start_zyx is None else kinds[(a.second + b.second) * is_blind]
    if start_zyx is not None:
        models = Read(MODELS, start_zyx)
        yield from ((read, models, kinds[read.second * is_blind]) for read in reads)


def _compared(a: Read, b: Read, name: str, classes: Classes) -> dict[str, object]:
    of_a, of_b = (classes.mask_of(read.values_zyx, name) for read in (a, b))
    counts = tuple(int(np.count_nonzero(mask)) for mask in (of_a, of_b, of_a & of_b))
    found: dict[str, object] = {"voxels": of_a.size}
    found |= dict(zip(("a_voxels", "b_voxels", "both_voxels"), counts, strict=True))
    return found | {"dice": dice_of(*counts), "kappa": kappa_of(of_a.size, *counts)}
