"""The stage as a whole: a raw folder and the settings for it in, a file of sizes out; or all that is wrong, at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from nnactive_nf.check.grids import case_head
from nnactive_nf.check.memory import memory
from nnactive_nf.check.sizes import sizes
from nnactive_nf.core.budget import PoolSize, start_problems
from nnactive_nf.core.demands import Demands, all_strategy_errors
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import write_json
from nnactive_nf.core.given_folds import fold_errors, read_folds
from nnactive_nf.core.heads import Head
from nnactive_nf.core.held_out import held_out_errors, pool_without, unlabelled_errors
from nnactive_nf.core.initial_weights import load_initial
from nnactive_nf.core.own_plans import own_plans
from nnactive_nf.core.patients import case_groups
from nnactive_nf.core.query_table import read_query
from nnactive_nf.core.raw import RawDataset, list_with_problems
from nnactive_nf.core.trainer_file import trainer_errors

Out = TypeVar("Out")


@dataclass(frozen=True)
class Settings:
    """What CHECK is asked for; names as in `nextflow_schema.json`.

    Attributes:
        shown: the raw folder's path as the user knows it; a task sees it under another.
        shown_strategy_file: the same of the strategy file.
        shown_trainer_file: the same of the trainer file.
        rows: all (data set, regime) of this data set.
        test_cases: the test set, where it is given by names.
        test_folder: whether it is nnU-Net's imagesTs.
        shown_test_cases: what gave it, as the user knows it.
        people: whether people label, so that the pool may lack labels.
    """

    shown: str
    configuration: str
    test_fraction: float
    groups: Path | None
    group_pattern: str | None
    free_masks: Path | None
    strategy_file: Path | None
    shown_strategy_file: str
    rows: tuple[Demands, ...]
    trainer_file: Path | None = None
    shown_trainer_file: str | None = None
    test_cases: tuple[str, ...] = ()
    test_folder: bool = False
    shown_test_cases: str = ""
    people: bool = False


def check(folder: Path, settings: Settings, out: Path) -> dict[str, int]:
    """Check all that needs no voxels, and write the file of sizes and of memory.

    Args:
        folder: nnU-Net raw or Decathlon folder; it is only read.
        settings: see `Settings`.
        out: JSON file to make: the sizes, and as `memory` what `nnactive_nf.check.memory` makes of them.

    Returns:
        The sizes.

    Raises:
        UserError: whatever is wrong with data and settings, all of it at once.
    """
    errors = all_strategy_errors(settings.rows, settings.strategy_file, settings.shown_strategy_file)
    errors += trainer_errors(settings.trainer_file, settings.shown_trainer_file)
    errors += [line for row in settings.rows for line in row.stop_errors(settings.people)]
    found = _asked(
        errors, lambda: list_with_problems(folder, settings.free_masks, settings.test_folder, settings.people)
    )
    if found is None:
        raise UserError(*(_shown(line, folder, settings) for line in errors))
    raw, problems = found
    errors += problems
    if len(raw.cases) == 1:
        errors.append(f"{folder}: one case only; a pool and a test set need more")
    names = [case.name for case in raw.cases]
    groups = _asked(errors, lambda: case_groups(names, settings.groups, settings.group_pattern))
    held_out = raw.held_out or settings.test_cases
    if groups is not None and len(raw.cases) > 1:
        named = f"--test_cases {settings.shown_test_cases}" if held_out else "--input"
        wrong = held_out_errors(held_out, groups, named)
        wrong += unlabelled_errors(raw.cases, held_out, named) if settings.people else []
        patients = len(set(groups.values()))
        pool = pool_without(held_out, groups, named) if held_out or settings.people else (
            PoolSize.drawn(settings.test_fraction, len(groups), patients)
        )  # fmt: skip
        errors += wrong or _budget_errors(settings, raw, pool)
        for row in settings.rows:
            errors += row.told(_given_errors(row, groups, held_out))
    plans = _asked(errors, lambda: _own_plans(settings, raw))
    heads = _heads(errors, raw)
    if errors or groups is None:
        raise UserError(*(_shown(line, folder, settings) for line in errors))
    if settings.people:
        print(_labels_told(raw))
    told = sizes(raw, heads, groups, settings.configuration, settings.test_fraction, held_out, plans)
    write_json(out, {**told, "memory": memory(told)})
    return told


def _labels_told(raw: RawDataset) -> str:
    there = sum(case.labelled for case in raw.cases)
    parts = "" if raw.ignore is None else f"; voxels of {raw.ignore} in them have none ('ignore')"
    return f"{there} of {len(raw.cases)} cases have labels{parts}"


def _asked(errors: list[str], work: Callable[[], Out]) -> Out | None:
    """A result, or `None` and the errors noted."""
    try:
        return work()
    except UserError as error:
        errors += error.lines
        return None


def _shown(line: str, folder: Path, settings: Settings) -> str:
    """A message with the folder's path as the user knows it, behind the parameter that named it."""
    if line.startswith("--test_cases "):
        return settings.rows[0].told([line.replace(f"({folder}/", f"({settings.shown}/")])[0]
    if line.startswith((f"{folder}:", f"{folder}/")):
        return settings.rows[0].told([f"--input {settings.shown}{line.removeprefix(str(folder))}"])[0]
    return line.replace(f"({folder}/", f"({settings.shown}/")


def _budget_errors(settings: Settings, raw: RawDataset, pool: PoolSize) -> list[str]:
    errors = []
    for row in settings.rows:
        errors += row.budget_errors(pool)
        start = start_problems(
            start_size=row.budget.start_size, folds=row.budget.folds, class_count=len(raw.classes.named)
        )
        errors += row.told([f"--{line}" for line in start])
    return errors


def _given_errors(row: Demands, groups: Mapping[str, str], held_out: Sequence[str]) -> list[str]:
    """What is wrong with the files that a row gives first patches, folds and weights by."""
    errors = []
    for name, (shown, path) in row.given.items():
        where = f"--{name} {shown}"
        if name == "plans":  # all rows' alike, see `_own_plans`
            continue
        try:
            if name == "start_queries":
                errors += _start_errors(read_query(path), row.budget.start_size, groups, held_out, where)
            elif name == "initial_weights":
                load_initial(path)
            else:
                errors += fold_errors(read_folds(path, row.budget.folds), groups, held_out, where)
        except UserError as error:
            errors += [line.replace(str(path), where, 1) for line in error.lines]
    return errors


def _own_plans(settings: Settings, raw: RawDataset) -> dict[str, Any] | None:
    """The user's plans, which all rows of a data set share; `UserError` where they do not fit it."""
    row = next((row for row in settings.rows if "plans" in row.given), None)
    if row is None:
        return None
    shown, path = row.given["plans"]
    try:
        return own_plans(path, f"--plans {shown}", settings.configuration, raw, "check")
    except UserError as error:
        raise UserError(*row.told(error.lines)) from None


def _start_errors(
    query: pd.DataFrame, size: int, groups: Mapping[str, str], held_out: Sequence[str], where: str
) -> list[str]:
    if len(query) < size:
        return [f"{where}: holds {len(query)} patches, --start_size wants {size}"]
    cases = dict.fromkeys(query.sort_values("rank").head(size)["case"])
    unknown = [case for case in cases if case not in groups]
    of_test = [case for case in cases if case in held_out]
    found = {"the data set has no case": unknown, "its patches lie in test case": of_test}
    return [f"{where}: {text} {names[0]} ({len(names)} such cases)" for text, names in found.items() if names]


def _heads(errors: list[str], raw: RawDataset) -> dict[str, Head]:
    heads = {}
    for case in raw.cases:
        if not all(path.is_file() for path in case.images):  # what is missing has been told
            continue
        head, problems = case_head(raw, case)
        errors += problems
        if head is not None:
            heads[case.name] = head
    return heads
