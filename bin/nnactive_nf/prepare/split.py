"""Patients (groups) of the cases, and the split of the cases into pool and test set."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.seeds import stream

# The start budget wants each class in 2 cases of the pool, and the folds want them in 2 patients (design, section 5).
CASES_PER_CLASS = 2


def case_groups(cases: Sequence[str], table: Path | None, pattern: str | None) -> dict[str, str]:
    """Patient of each case: from a table with columns `case` and `group`, or by a pattern, else the case itself.

    Args:
        cases: names of the cases.
        table: CSV file.
        pattern: regular expression with one group, matched at the start of the case's name.

    Raises:
        UserError: a case is not in the table, or the pattern does not match it.
    """
    if table is not None:
        return _from_table(cases, table)
    if pattern is None:
        return {case: case for case in cases}
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"group_pattern '{pattern}': not a regular expression ({error})") from None
    if expression.groups != 1:
        raise UserError(f"group_pattern '{pattern}': wants one group in parentheses, it has {expression.groups}")
    found = {case: expression.match(case) for case in cases}
    misses = [case for case, match in found.items() if match is None]
    if misses:
        raise UserError(f"group_pattern '{pattern}': does not match case {misses[0]} ({len(misses)} such cases)")
    return {case: match.group(1) for case, match in found.items() if match is not None}


def _from_table(cases: Sequence[str], table: Path) -> dict[str, str]:
    try:
        rows = pd.read_csv(table, dtype=str)
    except (OSError, ValueError) as error:
        raise UserError(f"{table}: cannot be read as CSV ({error})") from None
    if not {"case", "group"} <= set(rows.columns):
        raise UserError(f"{table}: wants the columns 'case' and 'group', it has {list(rows.columns)}")
    rows = rows[["case", "group"]].dropna().drop_duplicates()
    twice = rows["case"][rows["case"].duplicated()].tolist()
    if twice:
        raise UserError(f"{table}: case {twice[0]} is in two groups; a case is of one patient")
    groups = dict(zip(rows["case"], rows["group"], strict=True))
    misses = [case for case in cases if case not in groups]
    if misses:
        raise UserError(f"{table}: case {misses[0]} is not in it with a group ({len(misses)} such cases)")
    return {case: groups[case] for case in cases}


def wanted_test_cases(cases: int, test_fraction: float) -> int:
    """How many of so many cases are asked for as a test set."""
    return max(1, round(test_fraction * cases))


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
        class_voxels: voxels per class index of each case.
        class_names: names of the classes, by index.
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
    wanted = wanted_test_cases(len(groups), test_fraction)
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
    if start_size < max(folds, CASES_PER_CLASS * class_count):
        problems.append(
            f"start_size {start_size}: {folds} folds and {class_count} classes (background included) need at least "
            f"{max(folds, CASES_PER_CLASS * class_count)} patches"
        )
    if problems:
        raise UserError(*problems)


def class_table(class_voxels: Mapping[str, Sequence[int]], class_names: Sequence[str]) -> str:
    """One line per class for the log: in how many cases it is, and its share of all voxels."""
    counts = np.array([class_voxels[case] for case in sorted(class_voxels)], dtype=np.int64)
    lines = [
        f"  {name}: in {int((counts[:, i] > 0).sum())} of {len(counts)} cases, {counts[:, i].sum() / counts.sum():.2%}"
        for i, name in enumerate(class_names)
    ]
    return "\n".join(lines)
