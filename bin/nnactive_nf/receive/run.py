"""The stage as a whole: files that people made in, a row for each patch out, and the labels once all are there."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.double_read import read_double_read
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box
from nnactive_nf.receive.agreement import Read, agreement_rows
from nnactive_nf.receive.answers import DONE, REFUSED, RESERVE, WRONG, Answer, Received
from nnactive_nf.receive.delivered import case_of
from nnactive_nf.receive.files import File, delivered_files, unpacked
from nnactive_nf.receive.masks import handed_out, on_image_grid, query_boxes
from nnactive_nf.receive.outside import (
    agreed_labels,
    not_taken,
    outside_masks,
    outside_row,
    taken_note,
)
from nnactive_nf.receive.places import check_places
from nnactive_nf.receive.readings import readings_of
from nnactive_nf.receive.settle import Several, settle
from nnactive_nf.receive.tasks import Told, read_tasks

BESIDE = (".csv", ".json", ".md", ".txt")  # what lies beside label files: tables of tasks, and what is passed over


def receive(
    prepared: Path,
    query_file: Path,
    folder: Path | None,
    reserve_file: Path | None = None,
    places: Path | None = None,
    double_read: Path | None = None,
    disagreement: str | None = None,
    order: Sequence[str] = (),
    accept_outside: bool = False,
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
        accept_outside: take labels outside of the patches as well.

    Raises:
        UserError: the patches no longer lie there, or a table is of another query.
    """
    dataset, query = Dataset.open(prepared), handed_out(query_file, reserve_file)
    check_places(query, dataset.grids, places)
    double = None
    if double_read is not None:
        shapes = {case: dataset.grids[case].file_shape_zyx for case in set(query["case"])}
        double = read_double_read(double_read, dict(zip(query["rank"], query["case"], strict=True)), shapes)
    asked = Several(double, disagreement, tuple(order))
    with tempfile.TemporaryDirectory(prefix="unpacked-", dir=".") as place:
        files = list(unpacked(delivered_files(folder), Path(place))) if folder is not None else []
        return _received(dataset, query, files, asked, accept_outside)


def _received(
    dataset: Dataset, query: pd.DataFrame, files: Sequence[File], asked: Several, accept_outside: bool
) -> Received:
    answers = [Answer(int(row.rank), str(row.case)) for row in query.sort_values("rank").itertuples()]
    boxes = query_boxes(query)
    told, strangers = _told(files, query)
    agreement: list[dict[str, object]] = []
    beside, agreed = {}, {}
    of_case: dict[str, list[File]] = {}
    for file in files:
        case = case_of(file.path)
        if case in set(query["case"]):
            of_case.setdefault(str(case), []).append(file)
        elif file.path.suffix.lower() not in BESIDE:
            strangers.append(_stranger(file, "is for no case of this query" if case else "is no label file"))
    for case in sorted(set(query["case"])):
        of_patches = [answer for answer in answers if answer.case == case]
        readings, wrong = readings_of(of_case.get(case, []), dataset, case)
        for answer in of_patches:
            reads = settle(answer, boxes[answer.patch], dataset, readings, wrong, told.get(answer.patch, []), asked)
            agreement += _agreement(answer, dataset, boxes[answer.patch], reads, asked)
        said_zyx = agreed_labels(readings, dataset.classes)
        if said_zyx is not None and accept_outside:
            agreed[case], beside[case] = (
                on_image_grid(said_zyx, dataset, case, in_part=True),
                outside_row(case, readings),
            )
        elif said_zyx is not None and (
            lost := not_taken(said_zyx, [boxes[answer.patch] for answer in of_patches], dataset, case)
        ):
            note = f"{lost} voxels outside of the patches are not taken; --accept_outside takes them"
            beside[case] = outside_row(case, readings, note)
        del readings
    _fill_in(answers, {int(rank) for rank in query.loc[query["reserve"], "rank"]}, accept_outside)
    agreement.sort(key=lambda row: int(str(row["patch"])))
    outside = outside_masks(agreed, answers, boxes, dataset)
    for case, mask_zyx in outside.items():
        beside[case].note = taken_note(mask_zyx, dataset.classes)
    rows = [row for _, row in sorted(beside.items()) if row.note]
    return Received(answers, strangers, agreement, rows, outside)


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


def _fill_in(answers: Sequence[Answer], reserve: Collection[int], accept_outside: bool) -> None:
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
            if answer.state == DONE:
                taken = "taken as what lies outside" if accept_outside else "not taken"
                answer.note = f"labelled, {taken}: no refused patch needs it"
            answer.state, answer.values_zyx = RESERVE, None


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
