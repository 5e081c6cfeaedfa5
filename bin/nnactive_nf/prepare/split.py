"""The split of the cases into pool and test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nnactive_nf.core.budget import CASES_PER_CLASS, start_problems, test_cases
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.held_out import held_out_errors
from nnactive_nf.core.seeds import stream


def split_pool_test(
    groups: Mapping[str, str],
    class_voxels: Mapping[str, Sequence[int]],
    class_names: Sequence[str],
    *,
    test_fraction: float,
    seed: int,
) -> dict[str, str]:
    """Split cases into `pool` and `test`, patients together.

    Patients are shuffled by the seed and go to the test set as long as it holds no more than `test_fraction` of the
    cases; a patient stays in the pool where the pool would else be left with a class in fewer than 2 patients. So the
    test set may be smaller than asked for; it is larger only where every patient that can be spared has more cases than
    all of it, and is the first of the smallest of them.

    Args:
        groups: patient of each case.
        class_voxels: voxels per class (or region, with background) of each case.
        class_names: their names, in the same order.
        test_fraction: share of the cases to hold out, in (0, 1).
        seed: the split's seed.

    Raises:
        UserError: a class is in too few cases, or no patient is left for one side; one line per finding.
    """
    _check_classes(groups, class_voxels, class_names)
    members: dict[str, list[str]] = {}
    for case, group in groups.items():
        members.setdefault(group, []).append(case)
    order = sorted(members)
    stream(seed, 0, "prepare", "split").shuffle(order)
    wanted = test_cases(test_fraction, len(groups))
    test: set[str] = set()
    pool = set(groups)

    def can_spare(group: str) -> bool:
        return not _problems(pool - set(members[group]), groups, class_voxels, class_names)

    for group in order:
        if len(test) + len(members[group]) <= wanted and can_spare(group):
            test |= set(members[group])
            pool -= set(members[group])
    if not test:
        smallest = min(filter(can_spare, order), key=lambda group: len(members[group]), default=None)
        test = set() if smallest is None else set(members[smallest])
    if not test:
        raise UserError(
            f"{len(groups)} cases of {len(members)} patients cannot be split: the pool needs each class in "
            f"{CASES_PER_CLASS} patients, and nothing is left for a test set; add cases"
        )
    return {case: "test" if case in test else "pool" for case in sorted(groups)}


def given_split(
    groups: Mapping[str, str],
    class_voxels: Mapping[str, Sequence[int]],
    class_names: Sequence[str],
    held_out: Sequence[str],
    people: bool = False,
) -> dict[str, str]:
    """The split into `pool` and `test` where the test set is given; whoever is not in it is in the pool.

    Args:
        groups: patient of each case.
        class_voxels: voxels per class (or region, with background) of each case.
        class_names: their names, in the same order.
        held_out: the test set.
        people: people label, so nobody knows yet which classes the pool holds.

    Raises:
        UserError: names that nobody knows, patients on both sides, or a pool that lacks a class; one line per finding.
    """
    if errors := held_out_errors(held_out, groups, "test_cases"):
        raise UserError(*errors)
    test = set(held_out)
    problems = [] if people else _problems(set(groups) - test, groups, class_voxels, class_names)
    if problems:
        raise UserError(*(f"the pool that test_cases leaves: {line}" for line in problems))
    return {case: "test" if case in test else "pool" for case in sorted(groups)}


def _check_classes(
    groups: Mapping[str, str], class_voxels: Mapping[str, Sequence[int]], class_names: Sequence[str]
) -> None:
    if len(groups) <= CASES_PER_CLASS:
        raise UserError(f"only {len(groups)} case(s): a pool and a test set need at least {CASES_PER_CLASS + 1}")
    problems = _problems(set(groups), groups, class_voxels, class_names)
    if problems:
        raise UserError(*problems)


def _problems(
    cases: set[str], groups: Mapping[str, str], class_voxels: Mapping[str, Sequence[int]], class_names: Sequence[str]
) -> list[str]:
    problems = []
    for index, name in enumerate(class_names):
        holders = [case for case in cases if class_voxels[case][index] > 0]
        patients = {groups[case] for case in holders}
        if len(patients) < CASES_PER_CLASS:
            problems.append(
                f"class '{name}' is in {len(holders)} cases of {len(patients)} patients; the start and the folds need "
                f"it in {CASES_PER_CLASS} cases of {CASES_PER_CLASS} patients"
            )
    return problems


def check_start(
    pool: Sequence[str], groups: Mapping[str, str], *, start_size: int, folds: int, class_count: int
) -> None:
    """Whether the start can fill the folds: patients, and patches for two cases of each class.

    Raises:
        UserError: one line per finding.
    """
    patients = len({groups[case] for case in pool})
    problems = []
    if patients < folds:
        problems.append(f"folds {folds}: the pool has {patients} patients, each fold needs one")
    problems += start_problems(start_size=start_size, folds=folds, class_count=class_count)
    if problems:
        raise UserError(*problems)


def class_table(class_voxels: Mapping[str, Sequence[int]], class_names: Sequence[str], voxels: int) -> str:
    """One line per class for the log: in how many cases it is, and its share of all `voxels`; regions overlap."""
    counts = np.array([class_voxels[case] for case in sorted(class_voxels)], dtype=np.int64)
    lines = [
        f"  {name}: in {int((counts[:, i] > 0).sum())} of {len(counts)} cases, {counts[:, i].sum() / voxels:.2%}"
        for i, name in enumerate(class_names)
    ]
    return "\n".join(lines)
