"""Folds that are given: nnU-Net's `splits_final.json`, or a CSV table with the columns `case` and `fold`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import check_regular, read_json
from nnactive_nf.core.tables import read_table


def read_folds(path: Path, folds: int) -> dict[str, int]:
    """Fold of each case of such a file.

    Args:
        path: the file; JSON where its text begins with a bracket.
        folds: how many folds are wanted.

    Raises:
        UserError: it is neither, has another number of folds, or a case is in no fold or in two; one line per finding.
    """
    check_regular(path)
    try:
        is_json = path.read_text(encoding="utf-8-sig").lstrip().startswith(("[", "{"))
    except UnicodeDecodeError:
        raise UserError(f"{path}: not text in UTF-8") from None
    val = _of_json(path) if is_json else _of_table(path)
    if len(val) != folds:
        raise UserError(f"{path}: holds {len(val)} folds, --folds wants {folds}")
    if empty := [fold for fold, cases in enumerate(val) if not cases]:
        raise UserError(f"{path}: no case is in fold {empty[0]} (folds are counted from 0)")
    times = Counter(case for cases in val for case in cases)
    if twice := sorted(case for case, number in times.items() if number > 1):
        raise UserError(f"{path}: case {twice[0]} is in more than one fold ({len(twice)} such cases)")
    return {case: fold for fold, cases in enumerate(val) for case in cases}


def _of_json(path: Path) -> list[list[str]]:
    """Validation cases of each fold; what it trains on must be all others."""
    content = read_json(path)
    if not isinstance(content, list) or not all(_is_split(entry) for entry in content):
        raise UserError(f'{path}: wants a list of {{"train": [cases], "val": [cases]}}, one for each fold')
    everyone = {case for entry in content for case in entry["val"]}
    for fold, entry in enumerate(content):
        if set(entry["train"]) != everyone - set(entry["val"]):
            strange = sorted(set(entry["train"]) ^ (everyone - set(entry["val"])))
            raise UserError(
                f"{path}: fold {fold} does not train on all cases of the other folds, and on these alone (case "
                f"{strange[0]}); an ensemble's folds leave out a part of the pool each"
            )
    return [entry["val"] for entry in content]


def _is_split(entry: Any) -> bool:
    return isinstance(entry, dict) and all(
        isinstance(entry.get(side), list) and all(isinstance(case, str) for case in entry[side])
        for side in ("train", "val")
    )


def _of_table(path: Path) -> list[list[str]]:
    table = read_table(path, ("case", "fold"), ("case", "fold"), cut_off=False, what="a table with case and fold")
    wrong = [text for text in table["fold"] if not (text.isascii() and text.isdecimal() and len(text) < 4)]
    if wrong:
        raise UserError(f"{path}: fold '{wrong[0]}' is no whole number counted from 0")
    val: list[list[str]] = [[] for _ in range(max(map(int, table["fold"]), default=-1) + 1)]
    for case, fold in zip(table["case"], table["fold"], strict=True):
        val[int(fold)].append(case)
    return val


def fold_errors(
    fold_of: Mapping[str, int], groups: Mapping[str, str], held_out: Collection[str], where: str
) -> list[str]:
    """What is wrong with given folds for a data set, one line each.

    Args:
        fold_of: fold of each case that the file names.
        groups: patient of each case of the data set.
        held_out: the test set, which must be given too.
        where: what named them, as messages do.
    """
    if not held_out:
        return [f"{where}: give the test set too (--test_cases), since folds are of the pool's cases, all of them"]
    errors = []
    pool = {case for case in groups if case not in held_out}
    for text, found in {
        "the data set has no case": fold_of.keys() - groups.keys(),
        "it names the test case": fold_of.keys() & set(held_out),
        "no fold is given for case": pool - fold_of.keys(),
    }.items():
        if found:
            errors.append(f"{where}: {text} {min(found)} ({len(found)} such cases)")
    folds_of: dict[str, set[int]] = {}
    for case in pool & fold_of.keys():
        folds_of.setdefault(groups[case], set()).add(fold_of[case])
    if parted := sorted(patient for patient, found in folds_of.items() if len(found) > 1):
        two = " and ".join(map(str, sorted(folds_of[parted[0]])[:2]))
        errors.append(
            f"{where}: patient {parted[0]} is in folds {two}; cases of a patient stay in one fold "
            f"({len(parted)} such patients)"
        )
    return errors
