"""`tasks.csv`: what is to be labelled, as people are given it; and what they say of it, as it comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.tables import read_table

SAID = ("done", "later", "refused")


@dataclass(frozen=True)
class Told:
    """What somebody says of a patch; `state` is one of `SAID` or '', `folder` is the annotator's that it lies in.

    `second` is whether it came as the second reader's.
    """

    patch: int
    state: str
    reason: str
    minutes: float | None
    annotator: str
    folder: str = ""
    second: bool = False


def read_tasks(path: Path, cases: Mapping[int, str]) -> list[Told]:
    """Rows of a `tasks.csv` that came back.

    Args:
        path: the file; columns `patch`, `case` and any of `state`, `reason`, `minutes`, `annotator`.
        cases: case of each patch of the query.

    Raises:
        UserError: it is no such table, or tells of other patches; the lines do not name the file.
    """
    texts = ("case", "state", "reason", "minutes", "annotator")
    try:
        table = read_table(path, texts, ("patch", "case"), cut_off=False, what="a table of tasks")
    except UserError as error:
        raise UserError(*(line.removeprefix(f"{path}: ") for line in error.lines)) from None
    rows, wrong = [], []
    for number, row in enumerate(table.to_dict("records"), start=1):
        cells = {name: _text(row.get(name)) for name in texts}
        where = f"row {number}"
        try:
            patch, minutes = int(row["patch"]), float(cells["minutes"].replace(",", ".")) if cells["minutes"] else None
        except (TypeError, ValueError):
            wrong.append(f"{where}: patch {row['patch']}, minutes {cells['minutes']}: numbers are wanted")
            continue
        state = cells["state"].lower()
        if cases.get(patch) != cells["case"]:
            wrong.append(f"{where}: this query has no patch {patch} in case {cells['case']}")
        elif state and state not in SAID:
            wrong.append(f"{where}: state is '{state}', one of {', '.join(SAID)} is wanted, or nothing")
        elif minutes is not None and not (np.isfinite(minutes) and minutes >= 0):
            wrong.append(f"{where}: minutes are {minutes}")
        else:
            rows.append(Told(patch, state, cells["reason"], minutes, cells["annotator"]))
    if wrong:
        raise UserError(*wrong)
    return rows


def _text(value: object) -> str:
    return "" if value is None or value != value else str(value).strip()
