"""What has become of the patches of a query: a row for each, and tables of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from nnactive_nf.core.files import whole_file
from nnactive_nf.core.labels import Mask
from nnactive_nf.receive.agreement import COLUMNS as AGREEMENT_COLUMNS
from nnactive_nf.receive.files import File

DONE, MISSING, UNDECIDED, WRONG = "done", "missing", "undecided", "wrong"
LATER, REFUSED, DIFFERS, ONCE = "later", "refused", "differs", "once"
RESERVE = "reserve"  # of a patch that stands ready: no refused one needs it
OUTSIDE = "outside"  # no patch: what somebody has labelled outside of those of a case
STATES = (DONE, REFUSED, LATER, MISSING, UNDECIDED, WRONG, DIFFERS, ONCE, RESERVE, OUTSIDE)

COLUMNS = ["patch", "case", "state", "annotator", "minutes", "file", "sha256", "delivered", "stands_for", "note"]


@dataclass
class Answer:
    """A row of the table: one patch and what has become of it."""

    patch: int
    case: str
    state: str = MISSING
    annotator: str = ""
    minutes: float = float("nan")
    files: tuple[File, ...] = ()
    stands_for: int | None = None  # the refused patch whose place it takes
    note: str = ""
    values_zyx: Mask | None = field(default=None, repr=False)  # of the patch with its margin, on the file grid

    def row(self) -> dict[str, object]:
        """Cells of `COLUMNS`."""
        names, digests = (";".join(getattr(file, key) for file in self.files) for key in ("name", "sha256"))
        delivered = max((file.delivered for file in self.files), default="")
        cells = (
            self.patch, self.case, self.state, self.annotator, self.minutes, names, digests, delivered,
            self.stands_for, self.note,
        )  # fmt: skip
        return dict(zip(COLUMNS, cells, strict=True))


@dataclass(frozen=True)
class Received:
    """All that came of a query.

    Attributes:
        answers: a row for each patch.
        strangers: one for each file that nobody could use.
        agreement: rows of `agreement.COLUMNS`.
        beside: a row for each case with labels outside of its patches.
        outside: by case, the labels of these that are taken, on the image grid.
    """

    answers: list[Answer]
    strangers: list[Answer]
    agreement: list[dict[str, object]] = field(default_factory=list)
    beside: list[Answer] = field(default_factory=list)
    outside: dict[str, Mask] = field(default_factory=dict, repr=False)

    def is_complete(self, partial: bool = False) -> bool:
        """Whether the loop may go on: each patch is done, refused or not needed, or with `partial`, one is done."""
        states = [answer.state for answer in self.answers]
        return DONE in states and (partial or all(state in (DONE, REFUSED, RESERVE) for state in states))

    def table(self) -> pd.DataFrame:
        """`COLUMNS`, patches first, by rank."""
        rows = pd.DataFrame(
            [answer.row() for answer in [*self.answers, *self.beside, *self.strangers]], columns=COLUMNS
        )
        return rows.astype({"stands_for": "Int64"})


def write_table(path: Path, received: Received) -> None:
    """Write the table of deliveries."""
    with whole_file(path) as temporary:
        received.table().to_csv(temporary, index=False)


def write_agreement(path: Path, received: Received) -> None:
    """Write the table of agreement, a row for each pair and class of each patch that several people have read."""
    with whole_file(path) as temporary:
        pd.DataFrame(received.agreement, columns=AGREEMENT_COLUMNS).to_csv(temporary, index=False, float_format="%.6g")


def summary(received: Received) -> str:
    """The states of a query's patches in words, for the log."""
    states = [answer.state for answer in received.answers]
    counts = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
    more = f"; {len(received.strangers)} files are of no use" if received.strangers else ""
    return f"{len(states)} patches: {counts}{more}"
