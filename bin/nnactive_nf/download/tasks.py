"""The Decathlon's tasks: where each archive lies and its MD5 sum.

`tasks.json` is the one list of them, which the workflow's check of `--input msd:...` reads too. The bucket and the sums
are those that MONAI publishes with its `DecathlonDataset` (Project-MONAI/MONAI, monai/apps/datasets.py).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json

TABLE = Path(__file__).with_name("tasks.json")


@dataclass(frozen=True)
class Task:
    """One data set of the Decathlon, e.g. `Task04_Hippocampus`, and the MD5 sum of its archive in hexadecimal."""

    name: str
    md5: str


def tasks() -> tuple[Task, ...]:
    """All tasks, by their number."""
    return tuple(Task(**entry) for entry in read_json(TABLE)["tasks"])


def bucket() -> str:
    """Address of the folder that holds `<task>.tar` for each task, without a slash at its end."""
    return str(read_json(TABLE)["bucket"])


def task_named(name: str) -> Task:
    """The task of that name, with its number in front (`Task04_Hippocampus`) or without (`Hippocampus`).

    Raises:
        UserError: there is none; the line names the most like it.
    """
    by_name = {task.name: task for task in tasks()}
    short = {task.name.partition("_")[2]: task for task in tasks()}
    found = by_name.get(name) or short.get(name)
    if found is None:
        near = difflib.get_close_matches(name, [*by_name, *short], n=1, cutoff=0)[0]
        raise UserError(f"task {name}: the Decathlon has none of that name; did you mean {near}?")
    return found
