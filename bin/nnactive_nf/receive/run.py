"""The stage as a whole: files that people made in, a row for each patch out, and the labels once all are there."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import whole_file
from nnactive_nf.core.geometry import Box, as_shape
from nnactive_nf.core.label_grid import labels_to_network_grid
from nnactive_nf.core.labels import MINUTES, Labels, Mask, write_labels
from nnactive_nf.core.query_table import read_query, write_query
from nnactive_nf.receive.delivered import case_of, read_delivered
from nnactive_nf.receive.tasks import Told, read_tasks

DONE, MISSING, UNDECIDED, WRONG = "done", "missing", "undecided", "wrong"
LATER, REFUSED, DIFFERS = "later", "refused", "differs"
STATES = (DONE, REFUSED, LATER, MISSING, UNDECIDED, WRONG, DIFFERS)

BESIDE = (".csv", ".json", ".md", ".txt")  # what lies beside label files: tables of tasks, and what is passed over

COLUMNS = ["patch", "case", "state", "annotator", "minutes", "file", "sha256", "delivered", "note"]


@dataclass(frozen=True)
class File:
    """A file that somebody delivered."""

    path: Path
    name: str  # below the folder of the cycle, as the user knows it
    annotator: str  # the folder that it lies in; '' where it lies in none
    sha256: str
    delivered: str  # when it was last changed, in UTC

    @classmethod
    def at(cls, path: Path, name: str, annotator: str, modified: float) -> File:
        """A file that was last changed at this time."""
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return cls(path, name, annotator, digest, datetime.fromtimestamp(modified, UTC).strftime("%Y-%m-%d %H:%M:%S"))


@dataclass(frozen=True)
class Reading:
    """What one annotator's files say of one case: values on the file grid, undecided where none says anything."""

    annotator: str
    values_zyx: Mask
    files: tuple[File, ...]
    notes: tuple[str, ...]


@dataclass
class Answer:
    """A row of the table: one patch and what has become of it."""

    patch: int
    case: str
    state: str = MISSING
    annotator: str = ""
    minutes: float = float("nan")
    files: tuple[File, ...] = ()
    note: str = ""
    values_zyx: Mask | None = field(default=None, repr=False)  # of the patch with its margin, on the file grid

    def row(self) -> dict[str, object]:
        """Cells of `COLUMNS`."""
        names, digests = (";".join(getattr(file, key) for file in self.files) for key in ("name", "sha256"))
        delivered = max((file.delivered for file in self.files), default="")
        cells = (self.patch, self.case, self.state, self.annotator, self.minutes, names, digests, delivered, self.note)
        return dict(zip(COLUMNS, cells, strict=True))


@dataclass(frozen=True)
class Received:
    """All that came of a query: a row for each patch, and one for each file that nobody could use."""

    answers: list[Answer]
    strangers: list[Answer]

    def is_complete(self, partial: bool = False) -> bool:
        """Whether the loop may go on: each patch is done or refused, or with `partial`, one is done."""
        states = [answer.state for answer in self.answers]
        return DONE in states and (partial or all(state in (DONE, REFUSED) for state in states))

    def table(self) -> pd.DataFrame:
        """`COLUMNS`, patches first, by rank."""
        return pd.DataFrame([answer.row() for answer in [*self.answers, *self.strangers]], columns=COLUMNS)


def receive(prepared: Path, query_file: Path, folder: Path | None) -> Received:
    """Hold what lies in the folder of a cycle against the query.

    Args:
        prepared: folder of the prepared data set.
        query_file: the patches that were handed out.
        folder: label files `<case><ending>` and `tasks.csv`, in it or in a folder for each annotator; `None` where
            nobody has delivered anything.
    """
    dataset, query = Dataset.open(prepared), read_query(query_file)
    with tempfile.TemporaryDirectory(prefix="unpacked-", dir=".") as unpacked:
        files = list(_unpacked(_files(folder), Path(unpacked))) if folder is not None else []
        return _received(dataset, query, files)


def _received(dataset: Dataset, query: pd.DataFrame, files: Sequence[File]) -> Received:
    answers = [Answer(int(row.rank), str(row.case)) for row in query.sort_values("rank").itertuples()]
    boxes = _boxes(query)
    told, strangers = _told(files, query)
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
            _decide(answer, boxes[answer.patch], dataset, readings, wrong, told)
        del readings
    return Received(answers, strangers)


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
            annotator = place.parts[0] if len(place.parts) > 1 else ""
            yield File.at(path, str(place), annotator, path.stat().st_mtime)


def _unpacked(files: Iterable[File], folder: Path) -> Iterator[File]:
    """The same with what archives hold in their place, unpacked below `folder`; damaged ones stay."""
    for number, file in enumerate(files):
        if file.path.suffix.lower() != ".zip":
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
                    yield File.at(path, f"{file.name}/{path.name}", file.annotator, file.path.stat().st_mtime)
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
                told.setdefault(row.patch, []).append(replace(row, folder=file.annotator))
        except UserError as error:
            strangers += [_stranger(file, line) for line in error.lines]
    return told, strangers


def _stranger(file: File, note: str) -> Answer:
    return Answer(0, "", WRONG, file.annotator, files=(file,), note=note)


def _readings(files: Sequence[File], dataset: Dataset, case: str) -> tuple[list[Reading], list[tuple[File, str]]]:
    """What each annotator says of a case, by name; and the files that cannot be used, with what is wrong."""
    readings: dict[str, Reading] = {}
    wrong = []
    for file in files:
        try:
            found = read_delivered(file.path, dataset.grids[case], dataset.classes)
        except UserError as error:
            wrong += [(file, line) for line in error.lines]
            continue
        notes = (found.note,) if found.note else ()
        before = readings.get(file.annotator)
        if before is None:
            readings[file.annotator] = Reading(file.annotator, found.values_zyx, (file,), notes)
            continue
        decided = found.values_zyx != dataset.classes.ignore_value
        known = before.values_zyx != dataset.classes.ignore_value
        changed = int((decided & known & (before.values_zyx != found.values_zyx)).sum())
        changes = (f"{file.name} changes {changed} voxels of {before.files[-1].name}",) if changed else ()
        readings[file.annotator] = Reading(
            file.annotator,
            np.where(decided, found.values_zyx, before.values_zyx),
            (*before.files, file),
            (*before.notes, *notes, *changes),
        )
    return [readings[name] for name in sorted(readings)], wrong


def _decide(
    answer: Answer,
    box: Box,
    dataset: Dataset,
    readings: Sequence[Reading],
    wrong: Sequence[tuple[File, str]],
    told: Mapping[int, Sequence[Told]],
) -> None:
    """Fill a row: what has become of this patch."""
    rows = told.get(answer.patch, [])
    minutes = [row.minutes for row in rows if row.minutes is not None]
    answer.minutes = sum(minutes) if minutes else float("nan")
    ignore = dataset.classes.ignore_value
    grid = dataset.grids[answer.case]
    exact = grid.file_box(box)
    found = []
    for reading in readings:
        left = int((reading.values_zyx[exact.slices] == ignore).sum())
        if left < exact.voxels and last_word(rows, reading.annotator) not in (LATER, REFUSED):
            found.append((reading, left))
    whole = [reading for reading, left in found if left == 0]
    said = [row for row in rows if row.state == last_word(rows, row.folder) and row.state in (LATER, REFUSED)]
    if whole:
        named = [reading.annotator for reading in whole] if len(whole) > 1 else [whole[0].annotator or _named(rows)]
        answer.annotator = ";".join(name for name in named if name)
        answer.files = tuple(file for reading in whole for file in reading.files)
        answer.note = "; ".join(dict.fromkeys(note for reading in whole for note in reading.notes))
        first, *others = (reading.values_zyx[exact.slices] for reading in whole)
        apart = max((int((first != other).sum()) for other in others), default=0)
        if apart:
            answer.state, answer.note = DIFFERS, f"annotators differ in {apart} of {exact.voxels} voxels"
        else:
            answer.state = DONE
            answer.values_zyx = _with_margin(whole[0].values_zyx, exact, grid.label_box(box), ignore)
    elif wrong:
        file, line = wrong[0]
        answer.state, answer.annotator, answer.files, answer.note = WRONG, file.annotator, (file,), line
    elif found:
        reading, left = min(found, key=lambda pair: pair[1])
        answer.state, answer.annotator, answer.files = UNDECIDED, reading.annotator, reading.files
        answer.note = f"{left} of {exact.voxels} voxels are undecided"
    elif said:
        answer.state, answer.annotator, answer.note = said[0].state, _named(said), said[0].reason


def last_word(rows: Sequence[Told], folder: str) -> str:
    """The state of a patch by the tables in one annotator's folder; '' where they tell none.

    The last table decides, but `later` says no more than that this table does not bring it.
    """
    states = [row.state for row in rows if row.folder == folder and row.state]
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


def write_answers(received: Received, prepared: Path, query_file: Path, query_out: Path, out: Path, node: str) -> None:
    """Write the patches that are done as a query of their own, and their labels as masks of the image grid.

    Args:
        received: what `receive` found.
        prepared: folder of the prepared data set.
        query_file: the patches that were handed out.
        query_out: query table to make: the patches that are done, ranked anew.
        out: file of masks to make, as ANNOTATE reads the oracle's.
        node: the node that they are for.
    """
    dataset, query = Dataset.open(prepared), read_query(query_file)
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
    index_zyx = np.full(grid.file_shape_zyx, classes.ignore_index, dtype=np.int16)
    index_zyx[wide.slices] = classes.to_index(answer.values_zyx)
    manager = PlansManager(dataset.plans)
    shape = tuple(np.take(dataset.shapes[answer.case], manager.transpose_forward))
    resampled = labels_to_network_grid(
        index_zyx, dataset.properties(answer.case), manager, manager.get_configuration(dataset.configuration), shape
    )
    return classes.to_value(dataset.to_image_grid(resampled[0].astype(np.int16))[box.slices])


def write_table(path: Path, received: Received) -> None:
    """Write the table of deliveries."""
    with whole_file(path) as temporary:
        received.table().to_csv(temporary, index=False)


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
