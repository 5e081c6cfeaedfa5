"""Settings against the data: what a pool of so many cases can give, before anything is known of its voxels."""

from __future__ import annotations

from dataclasses import dataclass

# The start budget wants each class in 2 cases of the pool, and the folds want them in 2 patients (design, section 5).
CASES_PER_CLASS = 2


@dataclass(frozen=True)
class Budget:
    """What a (data set, regime) asks of its pool; names as in `nextflow_schema.json`."""

    folds: int
    start_size: int
    query_size: int
    patch_size: str
    patches_per_image: int


def test_cases(test_fraction: float, cases: int) -> int:
    """Cases that are to be held out."""
    return max(1, round(test_fraction * cases))


def budget_errors(budget: Budget, *, test_fraction: float, cases: int, patients: int | None) -> list[str]:
    """What the pool cannot give, one line each.

    Where patients have several cases, or nobody knows how many there are (None), the pool may be larger than
    `test_fraction` leaves it, as one patient can be all of the test set.
    """
    pool = cases - (1 if patients is None or patients < cases else test_cases(test_fraction, cases))
    if pool < 1:
        return [f"--test_fraction {test_fraction}: it leaves none of {cases} cases for the pool"]
    whole = budget.patch_size == "whole_image"
    each = 1 if whole else budget.patches_per_image
    errors = []
    if budget.folds > pool:
        errors.append(f"--folds {budget.folds}: more folds than cases; the pool has {pool} of {cases} cases")
    elif patients is not None and budget.folds > patients - 1:
        most = f"the pool has at most {patients - 1} of {patients} patients"
        errors.append(f"--folds {budget.folds}: more folds than patients; {most}")
    for name, size in (("start_size", budget.start_size), ("query_size", budget.query_size)):
        if size > pool * each:
            limit = "--patch_size whole_image" if whole else "--patches_per_image"
            errors.append(
                f"--{name} {size}: the pool can give {pool * each} patches at most, {each} of each of {pool} cases "
                f"({limit})"
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
