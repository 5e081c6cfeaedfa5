"""Settings against the data: what a pool of so many cases can give, before anything is known of its voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# The start budget wants each class in 2 cases of the pool, and the folds want them in 2 patients (design, section 5).
CASES_PER_CLASS = 2


@dataclass(frozen=True)
class Budget:
    """What a (data set, regime) asks of its pool; names as in `nextflow_schema.json`, of queries the largest."""

    folds: int
    start_size: int
    query_size: int
    patch_size: str
    patches_per_image: int


def query_size_of(query_size: int | Sequence[int], cycle: int) -> int:
    """Patches of the query that labels a cycle (1 is the first) of a run with one size, or one for each query."""
    return query_size if isinstance(query_size, int) else query_size[cycle - 1]


def labelled_patches(start_size: int, query_size: int | Sequence[int], cycle: int) -> int:
    """Patches that are labelled when a cycle is trained."""
    return start_size + sum(query_size_of(query_size, later) for later in range(1, cycle + 1))


def test_cases(test_fraction: float, cases: int) -> int:
    """Cases that are to be held out."""
    return max(1, round(test_fraction * cases))


@dataclass(frozen=True)
class PoolSize:
    """How many cases and patients the pool can have, before PREPARE has split the data set.

    Attributes:
        cases: at most.
        of_cases: in all.
        patients: at most; None where nobody knows.
        of_patients: in all; None where nobody knows.
        left_by: the parameter that leaves so many, as messages name it.
        exact: whether these numbers are the pool's own.
    """

    cases: int
    of_cases: int
    patients: int | None
    of_patients: int | None
    left_by: str
    exact: bool

    @classmethod
    def drawn(cls, test_fraction: float, cases: int, patients: int | None) -> PoolSize:
        """Of a test set that is drawn.

        Where patients have several cases, or nobody knows how many there are (None), the pool may be larger than
        `test_fraction` leaves it, as one patient can be all of the test set.
        """
        held_out = 1 if patients is None or patients < cases else test_cases(test_fraction, cases)
        most = None if patients is None else patients - 1
        return cls(cases - held_out, cases, most, patients, f"--test_fraction {test_fraction}", exact=False)


def budget_errors(budget: Budget, pool: PoolSize) -> list[str]:
    """What the pool cannot give, one line each."""
    if pool.cases < 1:
        return [f"{pool.left_by}: it leaves none of {pool.of_cases} cases for the pool"]
    whole = budget.patch_size == "whole_image"
    each = 1 if whole else budget.patches_per_image
    errors = []
    if budget.folds > pool.cases:
        has = f"the pool has {pool.cases} of {pool.of_cases} cases"
        errors.append(f"--folds {budget.folds}: more folds than cases; {has}")
    elif pool.patients is not None and budget.folds > pool.patients:
        has = f"the pool has {'' if pool.exact else 'at most '}{pool.patients} of {pool.of_patients} patients"
        errors.append(f"--folds {budget.folds}: more folds than patients; {has}")
    for name, size in (("start_size", budget.start_size), ("query_size", budget.query_size)):
        if size > pool.cases * each:
            limit = "--patch_size whole_image" if whole else "--patches_per_image"
            errors.append(
                f"--{name} {size}: the pool can give {pool.cases * each} patches at most, {each} of each of "
                f"{pool.cases} cases ({limit})"
            )
    return errors


def start_problems(*, start_size: int, folds: int, class_count: int) -> list[str]:
    """Whether the start has a patch for each fold, and patches for two cases of each class."""
    least = max(folds, CASES_PER_CLASS * class_count)
    if start_size >= least:
        return []
    return [
        f"start_size {start_size}: {folds} folds and {class_count} classes (background included) need at least "
        f"{least} patches"
    ]
