"""Folds that are given: both kinds of files, what is wrong with them, and what a training makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.given_folds import fold_errors, read_folds
from nnactive_nf.train import run

FOLDS = {"a_1": 0, "b_1": 0, "a_2": 1, "c_1": 2}
GROUPS = {case: case for case in (*FOLDS, "t_1")}


def splits(fold_of: dict[str, int], folds: int = 3) -> list[dict[str, list[str]]]:
    """nnU-Net's list."""
    return [
        {
            "train": [case for case, other in fold_of.items() if other != fold],
            "val": [case for case, other in fold_of.items() if other == fold],
        }
        for fold in range(folds)
    ]


def written(folder: Path, content: Any) -> Path:
    path = folder / "folds"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_both_kinds_of_files_say_the_same(tmp_path: Path) -> None:
    assert read_folds(written(tmp_path, splits(FOLDS)), 3) == FOLDS
    table = "\ufefffold,case,more\n" + "\n".join(f"{fold},{case},x" for case, fold in FOLDS.items())
    assert read_folds(written(tmp_path, table), 3) == FOLDS


WRONG: dict[str, tuple[Any, str]] = {
    "another number": (splits({"a_1": 0, "b_1": 1}, 2), "holds 2 folds, --folds wants 3"),
    "an empty fold": ("case,fold\na,0\nb,2\n", r"no case is in fold 1 \(folds are counted from 0\)"),
    "counted from 1": ("case,fold\na,1\nb,2\n", r"no case is in fold 0 \(folds are counted from 0\)"),
    "twice": ("case,fold\na,0\nb,1\nc,2\na,2\n", r"case a is in more than one fold \(1 such cases\)"),
    "twice in a fold": ("case,fold\na,0\nb,1\nc,2\na,0\n", r"case a is in more than one fold"),
    "no number": ("case,fold\na,0\nb,-1\n", "fold '-1' is no whole number counted from 0"),
    "other columns": ("case,group\na,0\n", r"columns \['fold'\] are missing"),
    "no list": ({"train": [], "val": []}, 'wants a list of {"train"'),
    "no cases": ([{"train": [1], "val": ["a"]}], 'wants a list of {"train"'),
    "no JSON": ("[{", "not a JSON file"),
    "part of the rest": (
        [{"train": ["b"], "val": ["a"]}, {"train": ["a", "c"], "val": ["b"]}, {"train": ["a", "b"], "val": ["c"]}],
        r"fold 0 does not train on all cases of the other folds, and on these alone \(case c\)",
    ),
    "no cases at all": ("case,fold\n", "holds 0 folds, --folds wants 3"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_file_is_one_line(name: str, tmp_path: Path) -> None:
    content, message = WRONG[name]
    path = written(tmp_path, content)
    with pytest.raises(UserError, match=message) as told:
        read_folds(path, 3)
    assert len(told.value.lines) == 1 and told.value.lines[0].startswith(f"{path}: ")


def test_what_is_wrong_with_folds_for_a_data_set() -> None:
    assert fold_errors(FOLDS, GROUPS, ["t_1"], "F") == []
    assert fold_errors(FOLDS, GROUPS, [], "F") == [
        "F: give the test set too (--test_cases), since folds are of the pool's cases, all of them"
    ]
    strange = {"a_1": 0, "nobody": 1, "t_1": 2, "c_1": 1}
    assert fold_errors(strange, GROUPS, ["t_1"], "F") == [
        "F: the data set has no case nobody (1 such cases)",
        "F: it names the test case t_1 (1 such cases)",
        "F: no fold is given for case a_2 (2 such cases)",
    ]
    patients = {case: case[0] for case in GROUPS}
    assert fold_errors(FOLDS, patients, ["t_1"], "F") == [
        "F: patient a is in folds 0 and 1; cases of a patient stay in one fold (1 such patients)"
    ]


def test_a_training_takes_the_folds_of_what_is_labelled(tmp_path: Path) -> None:
    path = written(tmp_path, splits(FOLDS))
    assert run._given_folds(path, 3, ["c_1", "b_1", "a_2"]) == {"a_2": 1, "b_1": 0, "c_1": 2}
    with pytest.raises(
        UserError, match="all labelled cases are in fold 0, whose training has none; raise --start_size"
    ):
        run._given_folds(path, 3, ["a_1", "b_1"])
    with pytest.raises(UserError, match=r"no fold is given for case z \(1 such cases\)"):
        run._given_folds(path, 3, ["a_1", "z"])


def test_a_fold_without_labels_trains_on_all_that_are() -> None:
    fold_of = {"a": 0, "b": 1, "c": 1}
    assert run.cases_of_fold(fold_of, 1) == (["a"], ["b", "c"])
    assert run.cases_of_fold(fold_of, 2) == (["a", "b", "c"], ["a", "b", "c"])
