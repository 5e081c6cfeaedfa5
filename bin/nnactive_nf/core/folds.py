"""Folds over the labelled cases: every training split holds every class, patients stay together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nnactive_nf.core.errors import UserError

# Dealings that are tried after the first. Each problem of tests/unit/test_core_folds.py that has a solution was solved
# by the 4th; all are made only where a class must yield.
TRIES = 100


def assign_folds(
    classes_in: Mapping[str, Sequence[int]],
    groups: Mapping[str, str],
    folds: int,
    rng: np.random.Generator,
    kept: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Validation fold of each labelled case (design, section 5).

    The rarest class first sends 2 of its patients into 2 different folds, so that whichever fold is left out, the rest
    holds the class. Then the other patients go, in random order, to the fold with the fewest cases. Where a class finds
    its patients in one fold already, all is dealt anew in another random order; where that never ends well (3 classes,
    each in 2 of 3 patients, cannot be in 2 folds each), the dealing counts that parts the most classes. A class of one
    patient is in one fold whatever is done.

    Args:
        classes_in: class indices with labelled voxels, per labelled case.
        groups: patient of each case.
        folds: number of folds, 2 or more.
        rng: the stream of this (seed, cycle).
        kept: fold of each case that stays in its fold, and with it all cases of its patient; the others are dealt round
            them. A network that goes on from another's weights must not validate on what that one was trained on.

    Returns:
        Fold of each case; no fold is empty.

    Raises:
        UserError: fewer patients with labels than folds.
    """
    members: dict[str, list[str]] = {}
    for case in sorted(classes_in):
        members.setdefault(groups[case], []).append(case)
    if len(members) < folds:
        raise UserError(f"{folds} folds: only {len(members)} patients have labels; lower --folds or raise --start_size")
    sizes = {group: len(cases) for group, cases in members.items()}
    holders = _holders(classes_in, groups)
    shared = {index: patients for index, patients in holders.items() if len(patients) >= 2}
    stay = {groups[case]: fold for case, fold in (kept or {}).items() if groups[case] in members}

    def in_one_fold(fold_of: Mapping[str, int]) -> int:
        return len(_only_folds(shared, fold_of))

    best = _deal(sizes, shared, folds, rng, stay)
    for _ in range(TRIES):
        if in_one_fold(best) == 0:
            break
        best = min(best, _deal(sizes, shared, folds, rng, stay), key=in_one_fold)
    return {case: best[group] for group, cases in sorted(members.items()) for case in cases}


def classes_in_one_fold(classes_in: Mapping[str, Sequence[int]], fold_of: Mapping[str, int]) -> dict[int, int]:
    """The fold of each class that one fold alone holds: the training without that fold does not see the class.

    Args:
        classes_in: class indices with labelled voxels, per labelled case.
        fold_of: fold of each case.
    """
    return _only_folds(_holders(classes_in, {case: case for case in classes_in}), fold_of)


def _holders(classes_in: Mapping[str, Sequence[int]], groups: Mapping[str, str]) -> dict[int, set[str]]:
    """The patients that hold each class."""
    holders: dict[int, set[str]] = {}
    for case, found in classes_in.items():
        for index in found:
            holders.setdefault(index, set()).add(groups[case])
    return holders


def _only_folds(holders: Mapping[int, set[str]], fold_of: Mapping[str, int]) -> dict[int, int]:
    folds = {index: {fold_of[holder] for holder in members} for index, members in sorted(holders.items())}
    return {index: found.pop() for index, found in folds.items() if len(found) == 1}


def _deal(
    sizes: Mapping[str, int],
    holders: Mapping[int, set[str]],
    folds: int,
    rng: np.random.Generator,
    stay: Mapping[str, int],
) -> dict[str, int]:
    """Fold of each patient, from the patients' numbers of cases, those that hold each class, and those that stay.

    Equally rare classes take their turns in random order. No fold stays empty: a class withholds one fold at most, in
    which a patient of its is, so a patient goes to an empty fold as long as there is one, and there are enough.
    """
    order = list(sizes)
    rng.shuffle(order)
    fold_of = dict(stay)
    size = [sum(sizes[group] for group, fold in stay.items() if fold == number) for number in range(folds)]

    def put(group: str, among: Sequence[int]) -> None:
        fold = min(among, key=lambda f: (size[f], f))
        fold_of[group] = fold
        size[fold] += sizes[group]

    turns = rng.permutation(sorted(holders)).tolist()
    for index in sorted(turns, key=lambda i: len(holders[i])):
        taken = {fold_of[group] for group in holders[index] if group in fold_of}
        for group in order:
            if len(taken) >= 2:
                break
            if group in holders[index] and group not in fold_of:
                put(group, [fold for fold in range(folds) if fold not in taken])
                taken.add(fold_of[group])
    left = [group for group in order if group not in fold_of]
    # Large patients first fill the folds most evenly; the sort is stable, so equal ones keep their random order.
    for group in sorted(left, key=lambda g: -sizes[g]):
        put(group, range(folds))
    return fold_of
