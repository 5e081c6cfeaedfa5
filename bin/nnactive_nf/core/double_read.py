"""Patches that two people read, as HAND_OUT tells RECEIVE: which, which of them blind, what the models saw there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import whole_file
from nnactive_nf.core.labels import Labels, Mask, read_labels, write_labels
from nnactive_nf.core.tables import read_table, typed

SECOND = "second_reader"  # folder of what the second reader is given, and a word in the path of all that he brings
TABLE = "double_read.csv"
START = "double_read.h5"
TYPES = {"patch": "int64", "case": "str", "blind": "int64"}


@dataclass(frozen=True)
class DoubleRead:
    """The patches of a query that two people read.

    Attributes:
        blind: by the patches' numbers, whether the second reader is shown no pre-segmentation.
        starts: per case the label values `[z, y, x]` on the file grid that the first reader starts from, the ignore
            value outside of these patches; none where no model has seen the patches.
    """

    blind: Mapping[int, bool]
    starts: Mapping[str, Mask] = field(default_factory=dict)

    def write(self, folder: Path, cases: Mapping[int, str], dataset: str, classes: Classes) -> None:
        """Write `TABLE`, and `START` where there was a model.

        Args:
            folder: the package.
            cases: case of each patch of the query.
            dataset: name of the data set.
            classes: of the data set.
        """
        rows = [(patch, cases[patch], int(blind)) for patch, blind in sorted(self.blind.items())]
        with whole_file(folder / TABLE) as temporary:
            pd.DataFrame(rows, columns=list(TYPES)).to_csv(temporary, index=False)
        if self.starts:
            write_labels(folder / START, Labels(dataset, "", -1, classes, self.starts), "start")


def read_double_read(table: Path, cases: Mapping[int, str], shapes: Mapping[str, tuple[int, ...]]) -> DoubleRead:
    """Read what HAND_OUT has written.

    Args:
        table: `TABLE`; `START` is looked for beside it.
        cases: case of each patch of the query.
        shapes: shape (z, y, x) of each case's file.

    Raises:
        UserError: a file is damaged, or is of another query.
    """
    what = "a table of patches that two people read"
    rows = typed(table, read_table(table, ("case",), TYPES, what=what), TYPES, what)
    foreign = [row for row in rows.to_dict("records") if cases.get(int(row["patch"])) != row["case"]]
    if foreign:
        raise UserError(f"{table}: this query has no patch {foreign[0]['patch']} in case {foreign[0]['case']}")
    start = table.with_name(START)
    masks = read_labels(start, "start", shapes).masks if start.exists() else {}
    return DoubleRead({int(row["patch"]): bool(row["blind"]) for row in rows.to_dict("records")}, masks)
