"""Several people's labels of a patch as one (`--disagreement`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.unsignedinteger]  # core.labels has it, too, with more to import than a command's options may

WAIT, VOID, MAJORITY, RANK = "wait", "undecided", "majority", "rank"
RULES = (VOID, MAJORITY, RANK, WAIT)

LEAST_DECIDED = 0.5  # share of a patch's voxels that must have a label, or the readers did not mean the same


def decide(rule: str, values: Sequence[Mask], names: Sequence[str], order: Sequence[str], ignore: int) -> Mask | None:
    """One label map of several readers' of the same voxels; `None` where the rule has no answer.

    Args:
        rule: one of `RULES`: `undecided` leaves voxels open on which they differ; `majority` gives the value that more
            of them have than any other, ties stay open; `rank` takes the labels of the one who comes first in `order`;
            `wait` has no answer, for readers who differ.
        values: label values, one array for each reader.
        names: of the readers.
        order: names of readers, first the one whose word counts.
        ignore: value of an undecided voxel.
    """
    if rule == RANK:
        ranked = [values[names.index(name)] for name in order if name in names]
        return ranked[0] if ranked else None
    if rule == MAJORITY:
        return majority(values, ignore)
    if rule == VOID:
        same = np.logical_and.reduce([values[0] == other for other in values])
        return np.where(same, values[0], ignore).astype(values[0].dtype)
    return None


def majority(values: Sequence[Mask], ignore: int) -> Mask:
    """At each voxel the value that more arrays have than any other; `ignore` where two values have as many."""
    stacked = np.stack(values)
    best = np.full(stacked.shape[1:], ignore, stacked.dtype)
    votes = np.zeros(best.shape, np.int16)
    for value in np.unique(stacked):
        count = (stacked == value).sum(axis=0)
        best = np.where(count > votes, value, np.where(count == votes, ignore, best)).astype(stacked.dtype)
        votes = np.maximum(votes, count)
    return best
