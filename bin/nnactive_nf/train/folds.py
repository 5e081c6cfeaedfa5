"""Folds over the labelled cases: every training split holds every class, patients stay together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nnactive_nf.core.errors import UserError


def assign_folds(
    classes_in: Mapping[str, Sequence[int]], groups: Mapping[str, str], folds: int, rng: np.random.Generator
) -> dict[str, int]:
    """Validation fold of each labelled case (design, section 5).

    The rarest class first sends 2 of its patients into 2 different folds, so that whichever fold is left out, the rest
    holds the class. Then the other patients go, in random order, to the fold with the fewest cases.

    Args:
        classes_in: class indices with labelled voxels, per labelled case.
        groups: patient of each case.
        folds: number of folds, 2 or more.
        rng: the stream of this (seed, cycle).

    Raises:
        UserError: fewer patients with labels than folds.
    """
    members: dict[str, list[str]] = {}
    for case in sorted(classes_in):
        members.setdefault(groups[case], []).append(case)
    if len(members) < folds:
        raise UserError(f"{folds} folds: only {len(members)} patients have labels; lower --folds or raise --start_size")
    order = sorted(members)
    rng.shuffle(order)
    fold_of: dict[str, int] = {}
    size = [0] * folds

    def put(group: str, among: Sequence[int]) -> None:
        fold = min(among, key=lambda f: (size[f], f))
        fold_of[group] = fold
        size[fold] += len(members[group])

    holders = {
        index: [group for group in order if any(index in classes_in[case] for case in members[group])]
        for index in sorted({index for found in classes_in.values() for index in found})
    }
    for index in sorted(holders, key=lambda i: (len(holders[i]), i)):
        taken = {fold_of[group] for group in holders[index] if group in fold_of}
        for group in holders[index]:
            if len(taken) >= 2:
                break
            free = [fold for fold in range(folds) if fold not in taken]
            if group not in fold_of and free:
                put(group, free)
                taken.add(fold_of[group])
    left = [group for group in order if group not in fold_of]
    # Large patients first fill the folds most evenly; the sort is stable, so equal ones keep their random order.
    for group in sorted(left, key=lambda g: -len(members[g])):
        put(group, range(folds))
    _fill_empty_folds(fold_of, members, classes_in, folds)
    return {case: fold_of[group] for group, cases in sorted(members.items()) for case in cases}


def _fill_empty_folds(
    fold_of: dict[str, int], members: Mapping[str, Sequence[str]], classes_in: Mapping[str, Sequence[int]], folds: int
) -> None:
    """Move a patient from the fullest fold into each empty one (many rare classes can leave one empty)."""
    for fold in range(folds):
        if fold in fold_of.values():
            continue
        counts = [sum(f == other for f in fold_of.values()) for other in range(folds)]
        fullest = max(range(folds), key=lambda f: (counts[f], -f))
        moved = max(
            (group for group, f in fold_of.items() if f == fullest),
            key=lambda g: (-len({i for case in members[g] for i in classes_in[case]}), g),
        )
        fold_of[moved] = fold
