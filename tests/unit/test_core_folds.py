"""Folds of the labelled cases: every class in every training split, wherever any dealing can do that."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations_with_replacement, pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.folds import assign_folds, classes_in_one_fold

# The classes of each patient.
Problem = tuple[frozenset[int], ...]


def deal(problem: Problem, folds: int, seed: int = 0) -> list[int]:
    """Fold of each patient, each of one case."""
    classes_in = {f"case_{i}": sorted(found) for i, found in enumerate(problem)}
    fold_of = assign_folds(classes_in, {case: case for case in classes_in}, folds, np.random.default_rng(seed))
    return [fold_of[case] for case in classes_in]


def in_one_fold(problem: Problem, fold_of: tuple[int, ...] | list[int]) -> int:
    """How many classes of 2 patients or more are missing from one of the training splits."""
    count = 0
    for index in frozenset().union(*problem):
        held_in = [fold for found, fold in zip(problem, fold_of, strict=True) if index in found]
        count += len(held_in) >= 2 and len(set(held_in)) == 1
    return count


@cache
def dealings(patients: int, folds: int) -> list[tuple[int, ...]]:
    """All that leave no fold empty; folds are as good as each other, so the first patient is in fold 0."""
    return [(0, *rest) for rest in product(range(folds), repeat=patients - 1) if len({0, *rest}) == folds]


def fewest_in_one_fold(problem: Problem, folds: int) -> int:
    """The same, for the best of all dealings, by trying them all."""
    best = len(problem) * 10
    for fold_of in dealings(len(problem), folds):
        best = min(best, in_one_fold(problem, fold_of))
        if best == 0:
            break
    return best


def small_problems() -> Iterator[tuple[Problem, int]]:
    """All of up to 5 patients with 3 classes, and up to 4 patients with 4; into 2 folds up to as many as patients."""
    for classes, most in ((3, 5), (4, 4)):
        kinds = [frozenset(i for i in range(classes) if bits >> i & 1) for bits in range(2**classes)]
        for patients in range(2, most + 1):
            for problem in combinations_with_replacement(kinds, patients):
                for folds in range(2, patients + 1):
                    yield problem, folds


def test_of_all_small_problems_each_is_dealt_as_well_as_any_dealing_can() -> None:
    solvable = 0
    for problem, folds in small_problems():
        fold_of = deal(problem, folds)
        assert set(fold_of) == set(range(folds)), (problem, folds)
        found = in_one_fold(problem, fold_of)
        if found:
            assert found == fewest_in_one_fold(problem, folds), (problem, folds, fold_of)
        solvable += not found
    assert solvable > 10_000


@pytest.mark.parametrize(
    ("problem", "folds"),
    [
        pytest.param([{0}, {0, 1}, {1, 2}], 2, id="a class of one patient must not take the first turn"),
        pytest.param([{0, 2}, {1, 2}, {1, 3}, {0, 3}, {0}], 3, id="patients that hold many classes"),
        pytest.param([{1}, {0, 2}, {0, 1, 3}, {2, 3}], 3, id="equally rare classes in another order"),
    ],
)
def test_small_problems_that_one_dealing_gets_wrong(problem: list[set[int]], folds: int) -> None:
    patients = tuple(frozenset(found) for found in problem)
    for seed in range(20):
        assert in_one_fold(patients, deal(patients, folds, seed)) == 0


def test_the_rarest_class_takes_the_first_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one dealing only: the others' turns would put both patients of class 0 into one fold now and then."""
    monkeypatch.setattr("nnactive_nf.core.folds.TRIES", 0)
    problem = tuple(map(frozenset, ([0, 1], [0, 2], [1, 2], [1, 2])))
    for seed in range(40):
        fold_of = deal(problem, 2, seed)
        assert fold_of[0] != fold_of[1]


def test_a_class_in_one_fold_alone_is_named_with_its_fold() -> None:
    classes_in = {"a": [0, 1], "b": [0, 2, 3], "c": [0, 2], "d": [1]}
    assert classes_in_one_fold(classes_in, {"a": 0, "b": 1, "c": 1, "d": 2}) == {2: 1, 3: 1}


def test_the_order_in_which_cases_and_classes_come_does_not_matter() -> None:
    problem = [{0, 2}, {1, 2}, {1, 3}, {0, 3}, {4}, {4, 5}, {5, 6}, {6, 0}]
    classes_in = {f"case_{i}": sorted(found) for i, found in enumerate(problem)}
    groups = {case: case for case in classes_in}
    other = {case: found[::-1] for case, found in reversed(classes_in.items())}
    for seed in range(20):
        one, again = (assign_folds(these, groups, 3, np.random.default_rng(seed)) for these in (classes_in, other))
        assert list(one.items()) == list(again.items())


def test_what_cannot_be_is_dealt_with_the_fewest_classes_missing() -> None:
    """Three classes, each in two of three patients, have each their own pair; into 2 folds one pair stays together."""
    ring = tuple(frozenset(pair) for pair in ({0, 1}, {1, 2}, {2, 0}))
    for seed in range(5):
        assert in_one_fold(ring, deal(ring, 2, seed)) == fewest_in_one_fold(ring, 2) == 1
        assert in_one_fold(ring, deal(ring, 3, seed)) == 0
    # Here a dealing may leave two classes in one fold each
    web = tuple(map(frozenset, ([], [2, 3], [0, 1, 2, 5], [1, 3, 4], [0, 4])))
    for seed in range(10):
        assert in_one_fold(web, deal(web, 2, seed)) == fewest_in_one_fold(web, 2) == 1


@given(
    classes=st.lists(st.sets(st.integers(1, 4)), min_size=2, max_size=24),
    patients=st.integers(2, 24),
    folds=st.integers(2, 5),
    seed=st.integers(0, 3),
)
def test_patients_of_several_cases_stay_together_and_part_their_classes(
    classes: list[set[int]], patients: int, folds: int, seed: int
) -> None:
    classes_in = {f"case_{i:02d}": sorted(found | {0}) for i, found in enumerate(classes)}
    groups = {case: f"p{i % patients}" for i, case in enumerate(classes_in)}
    distinct = sorted(set(groups.values()))
    if len(distinct) < folds:
        with pytest.raises(UserError, match="patients have labels"):
            assign_folds(classes_in, groups, folds, np.random.default_rng(seed))
        return
    fold_of = assign_folds(classes_in, groups, folds, np.random.default_rng(seed))
    assert list(fold_of) == sorted(fold_of, key=lambda case: (groups[case], case))
    assert set(fold_of) == set(classes_in)
    assert set(fold_of.values()) == set(range(folds))
    held_by = {group: [case for case in groups if groups[case] == group] for group in distinct}
    assert all(len({fold_of[case] for case in cases}) == 1 for cases in held_by.values())
    problem = tuple(frozenset(i for case in cases for i in classes_in[case]) for cases in held_by.values())
    found = in_one_fold(problem, [fold_of[cases[0]] for cases in held_by.values()])
    if len(distinct) <= (9 if folds == 2 else 6):
        assert found == fewest_in_one_fold(problem, folds)
    elif folds > 2:  # 5 classes have too few pairs of patients for one that must stay together in 3 folds
        assert found == 0
    again = assign_folds(dict(reversed(classes_in.items())), groups, folds, np.random.default_rng(seed))
    assert list(again.items()) == list(fold_of.items())


def test_folds_are_even_and_depend_on_the_seed() -> None:
    classes_in = {f"case_{i:02d}": [0, 1] for i in range(20)}
    groups = {case: case for case in classes_in}
    found = [assign_folds(classes_in, groups, 5, np.random.default_rng(seed)) for seed in range(4)]
    for fold_of in found:
        assert sorted(np.bincount(list(fold_of.values()))) == [4] * 5
    assert all(one != other for one, other in pairwise(found))


def test_large_patients_go_first() -> None:
    """Patients of 6, 3, 2 and 1 cases, and no class to part: 6 and 6; the smallest first would leave 4 and 8."""
    groups = {f"case_{size}{i}": f"p{size}" for size in (1, 2, 3, 6) for i in range(size)}
    for seed in range(10):
        fold_of = assign_folds({case: [] for case in groups}, groups, 2, np.random.default_rng(seed))
        assert np.bincount(list(fold_of.values())).tolist() == [6, 6]


@given(seed=st.integers(0, 99), folds=st.integers(2, 4), before=st.integers(4, 8), more=st.integers(0, 8))
def test_cases_that_stay_keep_their_fold_and_bring_their_patients_along(
    seed: int, folds: int, before: int, more: int
) -> None:
    """What one network has trained on, the one that goes on from it never validates on."""
    rng = np.random.default_rng(seed)
    cases = [f"case_{i:02}" for i in range(before + more)]
    groups = {case: f"patient_{i if i < folds else rng.integers(before + more)}" for i, case in enumerate(cases)}
    classes_in = {case: sorted({*rng.integers(0, 3, 2).tolist()}) for case in cases}
    first = {case: classes_in[case] for case in cases[:before]}
    kept = assign_folds(first, groups, folds, np.random.default_rng(seed))
    found = assign_folds(classes_in, groups, folds, np.random.default_rng(seed + 1), kept)
    assert found.keys() == classes_in.keys()
    assert {case: found[case] for case in kept} == kept
    of_patient: dict[str, set[int]] = {}
    for case, fold in found.items():
        of_patient.setdefault(groups[case], set()).add(fold)
    assert all(len(of) == 1 for of in of_patient.values())
    assert set(found.values()) == set(range(folds))
    if more == 0:
        assert found == kept


def test_a_class_that_one_fold_alone_holds_goes_to_another_with_the_next_patient() -> None:
    classes_in = {"a": [0], "b": [1], "c": [0], "d": [1], "e": [1], "f": [0]}
    groups = {case: case for case in classes_in}
    for seed in range(20):
        kept = {"a": 0, "b": 1, "c": 0}
        found = assign_folds(classes_in, groups, 2, np.random.default_rng(seed), kept)
        assert {found["d"], found["e"]} >= {0} and found["f"] == 1
        assert sorted(found.values()).count(0) == 3
