"""RECEIVE: label files of any geometry and format, held against what the oracle would have said."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import tiny
from geometries import Drawn, drawn, patch_in, prepare_drawn
from hypothesis import given, settings
from hypothesis import strategies as st

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.labels import read_labels
from nnactive_nf.core.query_table import QUERY_TYPES, read_query, write_query
from nnactive_nf.receive.run import Received, receive, write_answers

IGNORE = 255


def query_of(path: Path, boxes: Sequence[tuple[str, Box]]) -> Path:
    rows = [
        [rank, case, *box.start_zyx, *box.size_zyx, 1 / rank, "all"] for rank, (case, box) in enumerate(boxes, start=1)
    ]
    write_query(path, pd.DataFrame(rows, columns=list(QUERY_TYPES)))
    return path


def turned(image: sitk.Image, order: Sequence[int], flips: Sequence[bool]) -> sitk.Image:
    """The same voxels in the same places, with the axes in another order and direction."""
    return sitk.Flip(sitk.PermuteAxes(image, list(order)), list(flips), False)


@given(
    drawn(),
    st.permutations(range(3)),
    st.tuples(*[st.booleans()] * 3),
    st.sampled_from([".nii.gz", ".nii", ".nrrd", ".mha", ".seg.nrrd"]),
    st.booleans(),
)
@settings(max_examples=60)
def test_labels_cut_from_the_truth_come_back_as_the_oracles(
    case: Drawn, order: list[int], flips: tuple[bool, ...], ending: str, cut: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        done = prepare_drawn(case, folder)
        box = patch_in(case, done.grid.shape_zyx)
        query_file = query_of(folder / "query.csv", [("a", box)])
        truth = sitk.ReadImage(str(folder / f"a{case.ending}"))
        values = sitk.GetArrayFromImage(truth)
        place = done.grid.label_box(box)
        labels = np.full_like(values, 0 if ending == ".seg.nrrd" else IGNORE)
        labels[place.slices] = values[place.slices]
        image = sitk.GetImageFromArray(labels)
        image.CopyInformation(truth)
        if cut:
            image = sitk.RegionOfInterest(image, place.size_zyx[::-1], place.start_zyx[::-1])
        image = turned(image, order, flips)
        if ending == ".seg.nrrd":
            for key, text in {"ID": "s", "Name": "Tumour", "LabelValue": "7", "Layer": "0"}.items():
                image.SetMetaData(f"Segment0_{key}", text)
        (folder / "labels").mkdir()
        sitk.WriteImage(image, str(folder / "labels" / f"a{ending}"))

        received = receive(folder, query_file, folder / "labels")
        assert [(answer.state, answer.note) for answer in received.answers] == [("done", "")]
        write_answers(received, folder, query_file, folder / "answered.csv", folder / "answers.h5", "n-c00")
        mask = read_labels(folder / "answers.h5", "oracle", {"a": done.grid.shape_zyx}).masks["a"]
        np.testing.assert_array_equal(mask[box.slices], done.mask[box.slices])
        outside = np.ones(mask.shape, dtype=bool)
        outside[box.slices] = False
        assert (mask[outside] == IGNORE).all()


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return tiny.prepared(tmp_path / "prepared", {"a": (8, 9, 10), "b": (8, 8, 8)})


BOXES = [("a", Box((0, 0, 0), (4, 4, 4))), ("b", Box((2, 2, 2), (4, 4, 4))), ("a", Box((4, 5, 5), (4, 4, 4)))]


class Folder:
    """A cycle's folder of deliveries for `BOXES`."""

    def __init__(self, dataset: Dataset, folder: Path) -> None:
        self.dataset, self.folder = dataset, folder
        self.query = query_of(folder.with_name("query.csv"), BOXES)
        folder.mkdir()

    def values(self, case: str, number: int = 2, boxes: Sequence[Box] | None = None) -> np.ndarray:
        """Undecided values with some patches of the case filled."""
        values = np.full(self.dataset.shapes[case], IGNORE, dtype=np.uint8)
        for box in [box for name, box in BOXES if name == case] if boxes is None else boxes:
            values[box.slices] = number
        return values

    def put(self, name: str, values: np.ndarray, spacing: Sequence[float] = (1, 1, 2)) -> Path:
        image = sitk.GetImageFromArray(values)
        image.SetSpacing(tuple(map(float, spacing)))
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(path))
        return path

    def received(self) -> Received:
        return receive(self.dataset.folder, self.query, self.folder)

    def states(self) -> list[str]:
        return [answer.state for answer in self.received().answers]


@pytest.fixture
def folder(dataset: Dataset, tmp_path: Path) -> Folder:
    return Folder(dataset, tmp_path / "labels")


def test_nothing_delivered_is_waited_for(folder: Folder) -> None:
    assert folder.states() == ["missing"] * 3
    received = receive(folder.dataset.folder, folder.query, None)
    assert not received.is_complete() and not received.is_complete(partial=True)


def test_a_cycle_is_delivered_in_parts(folder: Folder, tmp_path: Path) -> None:
    folder.put("a.nii.gz", folder.values("a", boxes=[BOXES[0][1]]))
    assert folder.states() == ["done", "missing", "missing"]
    assert folder.received().is_complete(partial=True) and not folder.received().is_complete()
    folder.put("later/a.nrrd", folder.values("a", 7, boxes=[BOXES[2][1]]))
    folder.put("b.mha", folder.values("b"))
    received = folder.received()
    assert [answer.state for answer in received.answers] == ["done"] * 3 and received.is_complete()
    write_answers(received, folder.dataset.folder, folder.query, tmp_path / "q.csv", tmp_path / "a.h5", "n-c00")
    pd.testing.assert_frame_equal(read_query(tmp_path / "q.csv"), read_query(folder.query))
    masks = read_labels(tmp_path / "a.h5", "oracle", folder.dataset.shapes).masks
    assert (masks["a"][BOXES[0][1].slices] == 2).all() and (masks["a"][BOXES[2][1].slices] == 7).all()
    assert (masks["a"] == IGNORE).sum() == 720 - 128


def test_refused_patches_are_left_out_and_later_ones_waited_for(folder: Folder, tmp_path: Path) -> None:
    folder.put("a.nii.gz", folder.values("a"))
    tasks = folder.folder / "tasks.csv"
    tasks.write_text(
        "patch,case,state,reason,minutes,annotator\n1,a,later,,2,\n2,b,refused,metal,1.5,eve\n3,a,,,4,eve\n"
    )
    received = folder.received()
    assert [answer.state for answer in received.answers] == ["later", "refused", "done"]
    assert [answer.minutes for answer in received.answers] == [2, 1.5, 4] and received.answers[1].note == "metal"
    assert not received.is_complete()
    tasks.write_text("patch,case,state,reason\n2,b,refused,metal")
    received = folder.received()
    assert received.is_complete()
    write_answers(received, folder.dataset.folder, folder.query, tmp_path / "q.csv", tmp_path / "a.h5", "n-c00")
    answered = read_query(tmp_path / "q.csv")
    assert list(answered["rank"]) == [1, 2] and list(answered["case"]) == ["a", "a"]


def test_a_correction_is_taken_and_told(folder: Folder) -> None:
    folder.put("a.nii.gz", folder.values("a"))
    folder.put("b.nii.gz", folder.values("b"))
    corrected = folder.values("a")
    corrected[0, 0, :2] = 0
    folder.put("corrected/../a.nrrd", corrected)
    received = folder.received()
    assert received.is_complete()
    assert received.answers[0].note == "a.nrrd changes 2 voxels of a.nii.gz"
    assert received.answers[0].values_zyx is not None and (received.answers[0].values_zyx == 0).sum() == 2
    row = received.table().iloc[0]
    assert row["file"] == "a.nii.gz;a.nrrd" and len(row["sha256"]) == 129 and row["delivered"] > "2020"


def test_two_annotators_must_agree(folder: Folder) -> None:
    folder.put("eve/b.nii.gz", folder.values("b"))
    folder.put("bob/b.nii.gz", folder.values("b"))
    folder.put("eve/a.nii.gz", folder.values("a"))
    received = folder.received()
    assert received.is_complete()
    assert [answer.annotator for answer in received.answers] == ["eve", "bob;eve", "eve"]
    other = folder.values("b")
    other[3, 3, 3] = 0
    folder.put("bob/b.nii.gz", other)
    assert folder.states() == ["done", "differs", "done"]
    assert folder.received().answers[1].note == "annotators differ in 1 of 64 voxels"
