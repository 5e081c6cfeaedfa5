"""Patients of the cases, and the split into pool and test set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnactive_nf.core import budget
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.patients import case_groups
from nnactive_nf.prepare.run import Settings, _tell_folds, _tell_sizes
from nnactive_nf.prepare.split import check_start, class_table, given_split, split_pool_test

NAMES = ["background", "rare"]


def split(
    patients: Sequence[object], rare: Sequence[int] | None, fraction: float, seed: int = 0
) -> dict[str, list[int]]:
    """Numbers of the cases on each side; case i is of patients[i] and has rare[i] voxels of the rare class (1)."""
    groups = {f"case_{i:02d}": f"p{patient}" for i, patient in enumerate(patients)}
    voxels = {case: (9, 1 if rare is None else rare[i]) for i, case in enumerate(groups)}
    sides = split_pool_test(groups, voxels, NAMES, test_fraction=fraction, seed=seed)
    again = split_pool_test(dict(reversed(groups.items())), voxels, NAMES, test_fraction=fraction, seed=seed)
    assert list(sides) == sorted(groups) and again == sides
    return {side: [i for i, case in enumerate(groups) if sides[case] == side] for side in ("pool", "test")}


def test_patients_by_table_and_by_pattern(tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("case,group\na_1,p\na_2,p\nb_1,q\n")
    assert case_groups(["a_1", "a_2", "b_1"], table, None) == {"a_1": "p", "a_2": "p", "b_1": "q"}
    assert case_groups(["a_1", "a_2", "b_1"], None, r"(\w)_") == {"a_1": "a", "a_2": "a", "b_1": "b"}
    with pytest.raises(UserError, match="case c is not in it"):
        case_groups(["a_1", "c"], table, None)
    table.write_text("case,group\na_1,p\na_2,\na_1,p\n")
    assert case_groups(["a_1"], table, None) == {"a_1": "p"}
    with pytest.raises(UserError, match=r"case a_2 is not in it with a group \(1 such"):
        case_groups(["a_1", "a_2"], table, None)
    table.write_text("case,group\na_1,p\na_1,q\n")
    with pytest.raises(UserError, match="case a_1 is in two groups"):
        case_groups(["a_1"], table, None)
    table.write_text("case,patient\na_1,p\n")
    with pytest.raises(UserError, match="wants the columns 'case' and 'group', it has"):
        case_groups(["a_1"], table, None)
    with pytest.raises(UserError, match="no such file"):
        case_groups(["a_1"], tmp_path / "nothing.csv", None)
    assert case_groups(["a_1", "b_1"], None, None) == {"a_1": "a_1", "b_1": "b_1"}
    for pattern, message in {
        "(": "not a regular expression",
        r"\w": "wants one group",
        "(z)": r"does not match case a_1 \(2 such cases\)",
    }.items():
        with pytest.raises(UserError, match=message):
            case_groups(["a_1", "a_2", "z_1"], None, pattern)


@given(
    patients=st.lists(st.integers(0, 12), min_size=3, max_size=40),
    fraction=st.floats(0.1, 0.6),
    seed=st.integers(0, 5),
    every=st.integers(1, 6),
)
def test_split_keeps_patients_together_and_classes_in_the_pool(
    patients: list[int], fraction: float, seed: int, every: int
) -> None:
    rare = [int(i % every == 0) for i in range(len(patients))]
    wanted = budget.test_cases(fraction, len(patients))

    def holders(cases: Sequence[int]) -> set[int]:
        return {patients[i] for i in cases if rare[i]}

    def may_go(patient: int, pool: Sequence[int]) -> bool:
        rest = [i for i in pool if patients[i] != patient]
        return len(holders(rest)) >= 2 and len({patients[i] for i in rest}) >= 2

    everyone = range(len(patients))
    spare = [patient for patient in set(patients) if may_go(patient, everyone)]
    if not spare:
        with pytest.raises(UserError, match=r"patients cannot be split|class '\w+' is in"):
            split(patients, rare, fraction, seed)
        return
    sides = split(patients, rare, fraction, seed)
    pool, test = sides["pool"], sides["test"]
    tested = {patients[i] for i in test}
    assert test and not tested & {patients[i] for i in pool}
    assert len(holders(pool)) >= 2
    if len(test) > wanted:
        assert len(tested) == 1
        assert len(test) == min(map(patients.count, spare)) > wanted
    for patient in {patients[i] for i in pool}:  # whoever stays in the pool is one too many, or cannot be spared
        assert len(test) + patients.count(patient) > wanted or not may_go(patient, pool)


def test_a_test_set_of_the_asked_for_size() -> None:
    assert [budget.test_cases(0.25, n) for n in (1, 5, 7, 8, 100)] == [1, 1, 2, 2, 25]
    for seed in range(5):
        assert len(split(range(12), None, 0.25, seed)["test"]) == 3
    assert len({tuple(split(range(12), None, 0.25, seed)["test"]) for seed in range(5)}) > 1


def test_a_class_in_two_cases_of_one_patient_is_not_enough() -> None:
    with pytest.raises(UserError, match="class 'rare' is in 2 cases of 1 patients; the start and the folds need it"):
        split("aabcd", [1, 1, 0, 0, 0], 0.2)
    # A pool with both cases of a, and none of b, would hold the class in two cases, too
    for seed in range(20):
        test = split("aabcde", [1, 1, 1, 0, 0, 0], 0.5, seed)["test"]
        assert not {0, 1, 2} & set(test) and len(test) == 3


def test_a_test_set_is_smaller_than_asked_where_patients_or_classes_want_it() -> None:
    for seed in range(20):
        assert split("aaabbbcccddd", None, 0.4, seed)["test"] in ([0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11])
        assert len(split("abcde", None, 0.8, seed)["pool"]) == 2


def test_a_test_set_is_larger_than_asked_only_where_no_patient_is_that_small() -> None:
    for seed in range(20):
        assert split("aaaabbbbc", None, 0.1, seed)["test"] == [8]
        assert split("aaaabbbcccc", None, 0.1, seed)["test"] == [4, 5, 6]
        assert len(split("aaaabbbbccc", [1] * 8 + [0] * 3, 0.1, seed)["test"]) == 3


def test_too_few_cases_or_patients_for_two_sides() -> None:
    for patients in ("a", "ab"):
        with pytest.raises(UserError, match=f"only {len(patients)} case.* need at least 3"):
            split(patients, None, 0.5)
    with pytest.raises(UserError, match="4 cases of 2 patients cannot be split"):
        split("aabb", None, 0.5)
    assert len(split("abc", None, 0.5)["test"]) == 1


def given(patients: str, rare: Sequence[int], test: Sequence[int]) -> dict[str, str]:
    groups = {f"case_{i:02d}": patient for i, patient in enumerate(patients)}
    voxels = {case: (9, rare[i]) for i, case in enumerate(groups)}
    return given_split(groups, voxels, NAMES, [f"case_{i:02d}" for i in test])


def test_a_given_test_set_stays_as_it_is_and_cases_that_come_later_join_the_pool() -> None:
    before = given("aabcd", [1, 0, 1, 0, 0], [3, 4])
    assert before == {"case_00": "pool", "case_01": "pool", "case_02": "pool", "case_03": "test", "case_04": "test"}
    after = given("aabcdaef", [1, 0, 1, 0, 0, 1, 1, 0], [3, 4])
    assert after == before | dict.fromkeys(("case_05", "case_06", "case_07"), "pool")


def test_a_given_test_set_may_not_take_what_the_pool_needs() -> None:
    with pytest.raises(UserError, match="patient a is on both sides, with case case_00 in the test set"):
        given("aabcd", [1, 1, 1, 1, 1], [0])
    with pytest.raises(UserError, match="the pool that test_cases leaves: class 'rare' is in 1 cases of 1 patients"):
        given("abcd", [1, 1, 0, 0], [1])


def test_the_start_fills_the_folds_with_as_many_patients_as_folds() -> None:
    groups = {f"case_{i}": f"p{i // 2}" for i in range(8)}
    pool = sorted(groups)
    check_start(pool, groups, start_size=6, folds=4, class_count=3)
    with pytest.raises(UserError, match="folds 5: the pool has 4 patients, each fold needs one"):
        check_start(pool, groups, start_size=6, folds=5, class_count=3)
    with pytest.raises(UserError, match=r"start_size 5: 4 folds and 3 classes .* at least 6 patches"):
        check_start(pool, groups, start_size=5, folds=4, class_count=3)
    check_start(pool, groups, start_size=4, folds=4, class_count=1)
    with pytest.raises(UserError, match=r"start_size 3: 4 folds and 1 classes .* at least 4 patches") as told:
        check_start(pool[:4], groups, start_size=3, folds=4, class_count=1)
    assert [line.split(":")[0] for line in str(told.value).splitlines()] == ["folds 4", "start_size 3"]


def test_the_log_tells_sizes_and_classes(capsys: pytest.CaptureFixture[str]) -> None:
    _tell_sizes(6, 2, 2)
    _tell_sizes(6, 2, 3)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "6 cases in the pool, 2 in the test set"
    assert second.startswith(f"{first}; 3 were asked for, but patients stay together")
    table = class_table({"a": [3, 1], "b": [4, 0]}, NAMES, 8)
    assert table.splitlines() == ["  background: in 2 of 2 cases, 87.50%", "  rare: in 1 of 2 cases, 12.50%"]


def test_the_log_tells_of_folds_that_must_lose_a_class(capsys: pytest.CaptureFixture[str]) -> None:
    """Three classes, each in two of three patients of their own: into 2 folds one pair stays together, into 3 none."""
    voxels = {"a": [9, 1, 1, 0], "b": [9, 0, 1, 1], "c": [9, 1, 0, 1]}
    settings = Settings("d", "3d_fullres", 0.25, 1, None, None, folds=2, start_size=8)
    names = ("background", "organ", "tail", "lesion")
    _tell_folds(voxels, {case: case for case in voxels}, names, settings)
    (line,) = capsys.readouterr().out.splitlines()
    told = r"folds 2: whatever is labelled, one training of an ensemble does not see class '(organ|tail|lesion)' "
    assert re.match(told, line)
    _tell_folds(voxels, {case: case for case in voxels}, names, replace(settings, folds=3))
    assert capsys.readouterr().out == ""
