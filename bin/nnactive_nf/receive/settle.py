"""What becomes of one patch, from what all people say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.double_read import SECOND, DoubleRead
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.labels import Mask
from nnactive_nf.receive.agreement import Read
from nnactive_nf.receive.answers import DIFFERS, DONE, LATER, ONCE, REFUSED, UNDECIDED, WRONG, Answer
from nnactive_nf.receive.files import File
from nnactive_nf.receive.readings import Reading
from nnactive_nf.receive.rules import LEAST_DECIDED, RANK, VOID, WAIT, decide
from nnactive_nf.receive.tasks import Told


@dataclass(frozen=True)
class Several:
    """What is to be done where several people label a patch.

    Attributes:
        double: the patches that two people must have read; `None` where there are none.
        disagreement: one of `rules.RULES`; `None` leaves open what two readers of such a patch differ in, and waits
            where people differ in any other.
        order: annotators, first the one whose word counts, for the rule `rank`.
    """

    double: DoubleRead | None = None
    disagreement: str | None = None
    order: tuple[str, ...] = ()

    @property
    def is_asked(self) -> bool:
        """Whether anything was asked for."""
        return self.double is not None or self.disagreement is not None

    def is_double(self, patch: int) -> bool:
        """Whether two people must have read this patch."""
        return self.double is not None and patch in self.double.blind

    def rule(self, patch: int) -> str:
        """What decides where readers of this patch differ."""
        return self.disagreement or (VOID if self.is_double(patch) else WAIT)


def settle(
    answer: Answer,
    box: Box,
    dataset: Dataset,
    readings: Sequence[Reading],
    wrong: Sequence[tuple[File, str]],
    rows: Sequence[Told],
    asked: Several,
) -> list[Read]:
    """Fill a row: what has become of this patch. Returns what its readers say who have labelled all of it."""
    minutes = [row.minutes for row in rows if row.minutes is not None]
    answer.minutes = sum(minutes) if minutes else float("nan")
    ignore = dataset.classes.ignore_value
    grid = dataset.grids[answer.case]
    exact = grid.file_box(box)
    is_double = asked.is_double(answer.patch)
    readers = 2 if is_double else 1
    found = []
    for reading in readings:
        if reading.second and not is_double:
            continue  # a second reader's file says nothing of other patches, whatever stands there
        left = int((reading.values_zyx[exact.slices] == ignore).sum())
        if left < exact.voxels and last_word(rows, reading.annotator, reading.second) not in (LATER, REFUSED):
            found.append((reading, left))
    whole = [reading for reading, left in found if left == 0]
    names = (
        [reading.annotator for reading in whole] if len(whole) > 1 else [one.annotator or _named(rows) for one in whole]
    )
    if asked.is_asked:
        whole, names = _persons(whole, rows)
    said = [
        row for row in rows if row.state == last_word(rows, row.folder, row.second) and row.state in (LATER, REFUSED)
    ]
    partial = [(reading, left) for reading, left in found if left]
    if len(whole) >= readers:
        answer.annotator = ";".join(name for name in names if name)
        answer.files = tuple(file for reading in whole for file in reading.files)
        answer.note = "; ".join(dict.fromkeys(note for reading in whole for note in reading.notes))
        _fill_labels(answer, whole, names, exact, grid.label_box(box), ignore, asked)
    elif wrong:
        file, line = wrong[0]
        answer.state, answer.annotator, answer.files, answer.note = WRONG, file.annotator, (file,), line
    elif partial:
        reading, left = min(partial, key=lambda pair: pair[1])
        answer.state, answer.annotator, answer.files = UNDECIDED, reading.annotator, reading.files
        answer.note = f"{left} of {exact.voxels} voxels are undecided"
    elif whole and not any(row.state == REFUSED for row in said):
        answer.state, answer.annotator, answer.files = ONCE, names[0], whole[0].files
        answer.note = f"read by {names[0] or 'one'}, somebody else is to read it too"
    elif said:
        first = next((row for row in said if row.state == REFUSED), said[0]) if is_double else said[0]
        answer.state, answer.annotator, answer.note = first.state, _named([first] if is_double else said), first.reason
    return [
        Read(name, reading.values_zyx[exact.slices], reading.second, _minutes_of(rows, reading))
        for reading, name in zip(whole, names, strict=True)
    ]


def _fill_labels(
    answer: Answer,
    whole: Sequence[Reading],
    names: Sequence[str],
    exact: Box,
    wide: Box,
    ignore: int,
    asked: Several,
) -> None:
    """Fill in the labels of a patch that has all its readers, or that they differ."""
    first, *others = (reading.values_zyx[exact.slices] for reading in whole)
    apart = max((int((first != other).sum()) for other in others), default=0)
    if not apart:
        answer.state, answer.values_zyx = DONE, _with_margin(whole[0].values_zyx, exact, wide, ignore)
        return
    rule = asked.rule(answer.patch)
    note = f"annotators differ in {apart} of {exact.voxels} voxels"
    answer.state = DIFFERS
    chosen = decide(rule, [first, *others], names, asked.order, ignore)
    if chosen is None:
        answer.note = note + (", and none of them stands in --annotators" if rule == RANK else "")
        return
    left = int((chosen == ignore).sum())
    if left > (1 - LEAST_DECIDED) * exact.voxels:
        answer.note = f"{note}, {left} of which would stay undecided: do they mean the same?"
        return
    with_margins = [_with_margin(reading.values_zyx, exact, wide, ignore) for reading in whole]
    answer.state, answer.values_zyx = DONE, decide(rule, with_margins, names, asked.order, ignore)
    told = (
        f"{note}: {f'{left} stay undecided' if rule != RANK else f'by rank as {_first_of(names, asked.order)} has it'}"
    )
    answer.note = "; ".join([*([answer.note] if answer.note else []), told])


def _first_of(names: Sequence[str], order: Sequence[str]) -> str:
    return next(name for name in order if name in names)


def _persons(readings: Sequence[Reading], rows: Sequence[Told]) -> tuple[list[Reading], list[str]]:
    """Readings of different people and their names: the folder's where it is a person's, else by their table."""
    found: dict[str, Reading] = {}
    for reading in readings:
        name = reading.annotator
        if name in ("", SECOND):
            own = [row.annotator for row in rows if (row.folder, row.second) == (name, reading.second)]
            name = next((text for text in own if text), name)
        found.setdefault(name, reading)
    return list(found.values()), list(found)


def _minutes_of(rows: Sequence[Told], reading: Reading) -> float:
    """Minutes that a reader tells of a patch; NaN where there are none."""
    own = [row for row in rows if (row.folder, row.second) == (reading.annotator, reading.second)]
    minutes = [row.minutes for row in own if row.minutes is not None]
    return sum(minutes) if minutes else float("nan")


def last_word(rows: Sequence[Told], folder: str, second: bool = False) -> str:
    """The state of a patch by the tables in one annotator's folder; '' where they tell none.

    The last table decides, but `later` says no more than that this table does not bring it. What somebody brings as
    the second reader is told apart from what he brings else.
    """
    states = [row.state for row in rows if (row.folder, row.second) == (folder, second) and row.state]
    return next((state for state in reversed(states) if state != LATER), states[-1] if states else "")


def _named(rows: Sequence[Told]) -> str:
    return next((row.folder or row.annotator for row in rows if row.folder or row.annotator), "")


def _with_margin(values_zyx: Mask, exact: Box, wide: Box, ignore: int) -> Mask:
    """A patch's labels with the voxels round it, which repeat the patch's where nobody has decided them."""
    around = [
        (a - b, d - c)
        for a, b, c, d in zip(exact.start_zyx, wide.start_zyx, exact.stop_zyx, wide.stop_zyx, strict=True)
    ]
    repeated = np.pad(values_zyx[exact.slices], around, mode="edge")
    given = values_zyx[wide.slices]
    return np.where(given == ignore, repeated, given)
