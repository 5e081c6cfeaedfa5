"""The stage as a whole: files that people made in, a row for each patch out, and the labels once all are there."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.double_read import SECOND, DoubleRead, read_double_read
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import whole_file
from nnactive_nf.core.geometry import Box, as_shape
from nnactive_nf.core.label_grid import labels_to_network_grid, resampled_in_part
from nnactive_nf.core.labels import MINUTES, Labels, Mask, write_labels
from nnactive_nf.core.query_table import read_query, with_reserve, write_query
from nnactive_nf.receive.agreement import COLUMNS as AGREEMENT_COLUMNS
from nnactive_nf.receive.agreement import Read, agreement_rows
from nnactive_nf.receive.delivered import case_of, read_delivered
from nnactive_nf.receive.places import check_places
from nnactive_nf.receive.rules import LEAST_DECIDED, RANK, VOID, WAIT, decide
from nnactive_nf.receive.tasks import Told, read_tasks

DONE, MISSING, UNDECIDED, WRONG = "done", "missing", "undecided", "wrong"
LATER, REFUSED, DIFFERS, ONCE = "later", "refused", "differs", "once"
RESERVE = "reserve"  # of a patch that stands ready: no refused one needs it
STATES = (DONE, REFUSED, LATER, MISSING, UNDECIDED, WRONG, DIFFERS, ONCE, RESERVE)

BESIDE = (".csv", ".json", ".md", ".txt")  # what lies beside label files: tables of tasks, and what is passed over

ARCHIVE = ".zip"

COLUMNS = ["patch", "case", "state", "annotator", "minutes", "file", "sha256", "delivered", "stands_for", "note"]


@dataclass(frozen=True)
class File:
    """A file that somebody delivered."""

    path: Path
    name: str  # below the folder of the cycle, as the user knows it
    annotator: str  # the folder that it lies in; '' where it lies in none, `SECOND` where in no other
    sha256: str
    delivered: str  # when it was last changed, in UTC
    second: bool = False  # it came as the second reader's

    @classmethod
    def at(cls, path: Path, name: str, modified: float) -> File:
        """A file that was last changed at this time."""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        second = SECOND in name
        folders = [part for part in Path(name).parts[:-1] if part != SECOND]
        annotator = folders[0] if folders else SECOND if second else ""
        delivered = datetime.fromtimestamp(modified, UTC).strftime("%Y-%m-%d %H:%M:%S")
        return cls(path, name, annotator, digest, delivered, second)


@dataclass(frozen=True)
class Reading:
    """What one annotator's files say of one case: values on the file grid, undecided where none says anything."""

    annotator: str
    values_zyx: Mask
    files: tuple[File, ...]
    notes: tuple[str, ...]
    second: bool = False  # they came as the second reader's


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
    """All that came of a query: a row for each patch, and one for each file that nobody could use."""

    answers: list[Answer]
    strangers: list[Answer]
    agreement: list[dict[str, object]] = field(default_factory=list)  # rows of `agreement.COLUMNS`

    def is_complete(self, partial: bool = False) -> bool:
        """Whether the loop may go on: each patch is done, refused or not needed, or with `partial`, one is done."""
        states = [answer.state for answer in self.answers]
        return DONE in states and (partial or all(state in (DONE, REFUSED, RESERVE) for state in states))

    def table(self) -> pd.DataFrame:
        """`COLUMNS`, patches first, by rank."""
        rows = pd.DataFrame([answer.row() for answer in [*self.answers, *self.strangers]], columns=COLUMNS)
        return rows.astype({"stands_for": "Int64"})


def receive(
    prepared: Path,
    query_file: Path,
    folder: Path | None,
    reserve_file: Path | None = None,
    places: Path | None = None,
    double_read: Path | None = None,
    disagreement: str | None = None,
    order: Sequence[str] = (),
) -> Received:
    """Hold what lies in the folder of a cycle against the query.

    Args:
        prepared: folder of the prepared data set.
        query_file: the patches that were handed out.
        folder: label files `<case><ending>` and `tasks.csv`, in it or in a folder for each annotator; `None` where
            nobody has delivered anything.
        reserve_file: patches that were handed out with them, for those that are refused.
        places: where an earlier run's package says that they lie, in mm.
        double_read: HAND_OUT's table of the patches that two people read; `None` where there are none.
        disagreement: what decides where people differ, one of `rules.RULES`; see `Several`.
        order: annotators, first the one whose word counts.

    Raises:
        UserError: the patches no longer lie there, or a table is of another query.
    """
    dataset, query = Dataset.open(prepared), _handed_out(query_file, reserve_file)
    check_places(query, dataset.grids, places)
    double = None
    if double_read is not None:
        shapes = {case: dataset.grids[case].file_shape_zyx for case in set(query["case"])}
        double = read_double_read(double_read, dict(zip(query["rank"], query["case"], strict=True)), shapes)
    asked = Several(double, disagreement, tuple(order))
    with tempfile.TemporaryDirectory(prefix="unpacked-", dir=".") as unpacked:
        files = list(_unpacked(_files(folder), Path(unpacked))) if folder is not None else []
        return _received(dataset, query, files, asked)


def _received(dataset: Dataset, query: pd.DataFrame, files: Sequence[File], asked: Several) -> Received:
    answers = [Answer(int(row.rank), str(row.case)) for row in query.sort_values("rank").itertuples()]
    boxes = _boxes(query)
    told, strangers = _told(files, query)
    agreement: list[dict[str, object]] = []
    of_case: dict[str, list[File]] = {}
    for file in files:
        case = case_of(file.path)
        if case in set(query["case"]):
            of_case.setdefault(str(case), []).append(file)
        elif file.path.suffix.lower() not in BESIDE:
            strangers.append(_stranger(file, "is for no case of this query" if case else "is no label file"))
    for case in sorted(set(query["case"])):
        of_patches = [answer for answer in answers if answer.case == case]
        readings, wrong = _readings(of_case.get(case, []), dataset, case)
        for answer in of_patches:
            reads = _decide(answer, boxes[answer.patch], dataset, readings, wrong, told.get(answer.patch, []), asked)
            agreement += _agreement(answer, dataset, boxes[answer.patch], reads, asked)
        del readings
    _fill_in(answers, {int(rank) for rank in query.loc[query["reserve"], "rank"]})
    agreement.sort(key=lambda row: int(str(row["patch"])))
    return Received(answers, strangers, agreement)


def _agreement(
    answer: Answer, dataset: Dataset, box: Box, reads: Sequence[Read], asked: Several
) -> list[dict[str, object]]:
    """Rows of the table of agreement of a patch."""
    if len(reads) < 2 or not asked.is_asked:
        return []
    start, is_blind = None, False
    if asked.double is not None and asked.is_double(answer.patch):
        is_blind = asked.double.blind[answer.patch]
        whole = asked.double.starts.get(answer.case)
        start = None if whole is None else whole[dataset.grids[answer.case].file_box(box).slices]
    return agreement_rows(answer.patch, answer.case, reads, start, is_blind, dataset.classes)


def _handed_out(query_file: Path, reserve_file: Path | None) -> pd.DataFrame:
    return with_reserve(read_query(query_file), read_query(reserve_file) if reserve_file else None)


def _fill_in(answers: Sequence[Answer], reserve: Collection[int]) -> None:
    """Give each refused patch, in their order, the next of the reserve that is not refused itself; spare the others.

    Which one it is does not rest on what has been labelled, so that what is awaited changes with refusals alone.
    """
    refused = iter([answer for answer in answers if answer.patch not in reserve and answer.state == REFUSED])
    for answer in answers:
        if answer.patch not in reserve or answer.state == REFUSED:
            continue
        place = next(refused, None)
        if place is not None:
            answer.stands_for = place.patch
            place.note = "; ".join(filter(None, [place.note, f"patch {answer.patch} takes its place"]))
        else:
            told = "labelled, not taken: no refused patch needs it" if answer.state == DONE else answer.note
            answer.state, answer.values_zyx, answer.note = RESERVE, None, told


def _boxes(query: pd.DataFrame) -> dict[int, Box]:
    """Box of each patch on the image grid, by its number."""
    return {
        int(row["rank"]): Box(as_shape(row[axis] for axis in "zyx"), as_shape(row[f"d{axis}"] for axis in "zyx"))
        for row in query.to_dict("records")
    }


def _files(folder: Path) -> Iterable[File]:
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in place.parts):
            yield File.at(path, str(place), path.stat().st_mtime)


def _unpacked(files: Iterable[File], folder: Path) -> Iterator[File]:
    """The same with what archives hold in their place, unpacked below `folder`; damaged ones stay."""
    for number, file in enumerate(files):
        if file.path.suffix.lower() != ARCHIVE:
            yield file
            continue
        try:
            with zipfile.ZipFile(file.path) as archive:
                found = [entry for entry in archive.infolist() if not entry.is_dir()]
                for entry in found:  # by its name alone, so that none leads out of the folder
                    path = folder / str(number) / Path(entry.filename).name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(entry) as source, path.open("wb") as target:
                        shutil.copyfileobj(source, target)
                    inside = File.at(path, f"{file.name}/{path.name}", file.path.stat().st_mtime)
                    yield replace(inside, annotator=file.annotator, second=file.second)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
            yield file


def _told(files: Sequence[File], query: pd.DataFrame) -> tuple[dict[int, list[Told]], list[Answer]]:
    """What tables of tasks say of patches, and rows for those that say nothing."""
    told: dict[int, list[Told]] = {}
    strangers = []
    cases = dict(zip(query["rank"], query["case"], strict=True))
    for file in files:
        if file.path.suffix.lower() != ".csv":
            continue
        try:
            for row in read_tasks(file.path, cases):
                told.setdefault(row.patch, []).append(replace(row, folder=file.annotator, second=file.second))
        except UserError as error:
            strangers += [_stranger(file, line) for line in error.lines]
    return told, strangers


def _stranger(file: File, note: str) -> Answer:
    return Answer(0, "", WRONG, file.annotator, files=(file,), note=note)


def _readings(files: Sequence[File], dataset: Dataset, case: str) -> tuple[list[Reading], list[tuple[File, str]]]:
    """What each annotator says of a case, by name; and the files that cannot be used, with what is wrong."""
    readings: dict[tuple[str, bool], Reading] = {}
    wrong = []
    for file in files:
        try:
            found = read_delivered(file.path, dataset.grids[case], dataset.classes)
        except UserError as error:
            wrong += [(file, line) for line in error.lines]
            continue
        notes = (found.note,) if found.note else ()
        key = (file.annotator, file.second)
        before = readings.get(key)
        if before is None:
            readings[key] = Reading(file.annotator, found.values_zyx, (file,), notes, file.second)
            continue
        decided = found.values_zyx != dataset.classes.ignore_value
        known = before.values_zyx != dataset.classes.ignore_value
        changed = int((decided & known & (before.values_zyx != found.values_zyx)).sum())
        changes = (f"{file.name} changes {changed} voxels of {before.files[-1].name}",) if changed else ()
        readings[key] = Reading(
            file.annotator,
            np.where(decided, found.values_zyx, before.values_zyx),
            (*before.files, file),
            (*before.notes, *notes, *changes),
            file.second,
        )
    return [readings[key] for key in sorted(readings)], wrong


def _decide(
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
        _settle(answer, whole, names, exact, grid.label_box(box), ignore, asked)
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


def _settle(
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


def write_answers(
    received: Received,
    prepared: Path,
    query_file: Path,
    query_out: Path,
    out: Path,
    node: str,
    reserve_file: Path | None = None,
) -> None:
    """Write the patches that are done as a query of their own, and their labels as masks of the image grid.

    Args:
        received: what `receive` found.
        prepared: folder of the prepared data set.
        query_file: the patches that were handed out.
        query_out: query table to make: the patches that are done, ranked anew.
        out: file of masks to make, as ANNOTATE reads the oracle's.
        node: the node that they are for.
        reserve_file: patches that were handed out with them, for those that are refused.
    """
    dataset, query = Dataset.open(prepared), _handed_out(query_file, reserve_file)
    done = {answer.patch for answer in received.answers if answer.state == DONE}
    kept = query[query["rank"].isin(done)].sort_values("rank").reset_index(drop=True)
    boxes = _boxes(query)
    masks = {}
    for case in sorted(set(kept["case"])):
        masks[case] = np.full(dataset.shapes[case], dataset.classes.ignore_value, dataset.classes.dtype)
        for answer in received.answers:
            if answer.case == case and answer.patch in done:
                box = boxes[answer.patch]
                masks[case][box.slices] = _on_image_grid(dataset, answer, box)
    minutes = kept["rank"].map({answer.patch: answer.minutes for answer in received.answers})
    told = {MINUTES: minutes} if minutes.notna().any() else {}
    write_query(query_out, kept.assign(rank=range(1, len(kept) + 1), **told))
    labels = Labels(
        dataset.name, node, -1, dataset.classes, masks, spacings_mm={case: dataset.spacings_mm[case] for case in masks}
    )
    write_labels(out, labels, "oracle")


def _on_image_grid(dataset: Dataset, answer: Answer, box: Box) -> Mask:
    """A patch's labels on the image grid, on the way that PREPARE takes whole label files."""
    assert answer.values_zyx is not None
    classes, grid = dataset.classes, dataset.grids[answer.case]
    wide = grid.label_box(box)
    if not grid.is_resampled:
        return answer.values_zyx
    values_zyx = np.full(grid.file_shape_zyx, classes.ignore_value, dtype=classes.dtype)
    values_zyx[wide.slices] = answer.values_zyx
    manager = PlansManager(dataset.plans)
    shape = tuple(np.take(dataset.shapes[answer.case], manager.transpose_forward))
    settings = manager.get_configuration(dataset.configuration)

    def on_grid(labels_zyx: npt.NDArray[np.signedinteger]) -> npt.NDArray[np.int16]:
        found = labels_to_network_grid(labels_zyx, dataset.properties(answer.case), manager, settings, shape)
        return dataset.to_image_grid(found[0].astype(np.int16))

    if (answer.values_zyx == classes.ignore_value).any():
        return resampled_in_part(values_zyx, classes, on_grid)[box.slices]
    return classes.to_value(on_grid(classes.to_index(values_zyx)))[box.slices]


def write_table(path: Path, received: Received) -> None:
    """Write the table of deliveries."""
    with whole_file(path) as temporary:
        received.table().to_csv(temporary, index=False)


def write_agreement(path: Path, received: Received) -> None:
    """Write the table of agreement, a row for each pair and class of each patch that several people have read."""
    with whole_file(path) as temporary:
        pd.DataFrame(received.agreement, columns=AGREEMENT_COLUMNS).to_csv(temporary, index=False, float_format="%.6g")


def keep_files(folder: Path, deliveries: Path) -> None:
    """Copy all that was delivered, so that nothing of it is lost when somebody replaces a file."""
    for file in _files(deliveries):
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / f"{file.sha256[:12]}-{file.path.name}") as temporary:
            shutil.copyfile(file.path, temporary)


def summary(received: Received) -> str:
    """The states of a query's patches in words, for the log."""
    states = [answer.state for answer in received.answers]
    counts = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
    more = f"; {len(received.strangers)} files are of no use" if received.strangers else ""
    return f"{len(states)} patches: {counts}{more}"
