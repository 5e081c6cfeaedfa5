"""A test set that is given, by the names of its cases or as nnU-Net's `imagesTs`, instead of drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnactive_nf.core.budget import PoolSize
from nnactive_nf.core.raw import RawCase


def held_out_errors(names: Sequence[str], groups: Mapping[str, str], where: str) -> list[str]:
    """What is wrong with a given test set, one line each: names that nobody knows or twice, patients on both sides.

    Args:
        names: its cases.
        groups: patient of each case of the data set.
        where: what named them, as messages do.
    """
    held_out = set(names)
    unknown = [name for name in dict.fromkeys(names) if name not in groups]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    errors = []
    if unknown:
        errors.append(f"{where}: the data set has no case {unknown[0]} ({len(unknown)} such names)")
    if twice:
        errors.append(f"{where}: case {twice[0]} stands in it twice ({len(twice)} such cases)")
    test = {groups[name]: name for name in names if name in groups}
    pool = {group: case for case, group in groups.items() if case not in held_out}
    if both := sorted(test.keys() & pool.keys()):
        patient = both[0]
        errors.append(
            f"{where}: patient {patient} is on both sides, with case {test[patient]} in the test set and case "
            f"{pool[patient]} in the pool; name all cases of a patient or none ({len(both)} such patients)"
        )
    return errors


def unlabelled_errors(cases: Sequence[RawCase], held_out: Sequence[str], where: str) -> list[str]:
    """What is wrong with a test set on which nothing can be measured, in one line: cases without labels."""
    lacking = [case.name for case in cases if case.name in set(held_out) and not case.labelled]
    return [f"{where}: test case {lacking[0]} has no labels ({len(lacking)} such cases)"] if lacking else []


def pool_without(names: Sequence[str], groups: Mapping[str, str], where: str) -> PoolSize:
    """What such a test set leaves for the pool."""
    held_out = set(names)
    pool = [case for case in groups if case not in held_out]
    patients = {groups[case] for case in pool}
    return PoolSize(len(pool), len(groups), len(patients), len(set(groups.values())), where, exact=True)
