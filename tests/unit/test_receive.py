"""RECEIVE: label files of any geometry and format, held against what the oracle would have said."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from nnactive_nf.receive.answers import Received
from nnactive_nf.receive.masks import write_answers
from nnactive_nf.receive.run import receive

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
        done = prepare_drawn(case, folder, noise=True)
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


@given(drawn())
@settings(max_examples=20)
def test_who_labels_no_more_than_the_box_is_taken_at_their_word(case: Drawn) -> None:
    """What lies round a patch, and is resampled with it, goes on as the patch ends."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fine_mm = tuple(0.35 * mm for mm in case.image.GetSpacing()[::-1])
        done = prepare_drawn(replace(case, target_mm=fine_mm), folder)
        box = patch_in(case, done.grid.shape_zyx)
        query_file = query_of(folder / "query.csv", [("a", box)])
        labels = np.full(done.grid.file_shape_zyx, IGNORE, np.uint8)
        labels[done.grid.file_box(box).slices] = 7
        image = sitk.GetImageFromArray(labels)
        image.CopyInformation(case.image)
        (folder / "labels").mkdir()
        sitk.WriteImage(image, str(folder / "labels" / "a.nii.gz"))
        received = receive(folder, query_file, folder / "labels")
        assert [answer.state for answer in received.answers] == ["done"]
        write_answers(received, folder, query_file, folder / "answered.csv", folder / "answers.h5", "n-c00")
        mask = read_labels(folder / "answers.h5", "oracle").masks["a"]
        assert (mask[box.slices] == 7).all()


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
        image = sitk.GetImageFromArray(values, isVector=False)
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
        "patch,case,state,reason,minutes,annotator\n1,a,later,,2,eve\n2,b,refused,metal,1.5,eve\n3,a,,,4,eve\n"
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
    assert list(answered["rank"]) == [1, 2] and list(answered["case"]) == ["a", "a"] and "minutes" not in answered
    tasks.write_text("patch,case,state,minutes\n2,b,refused,1.5\n3,a,,4\n")
    write_answers(
        folder.received(), folder.dataset.folder, folder.query, tmp_path / "q.csv", tmp_path / "a.h5", "n-c00"
    )
    np.testing.assert_equal(read_query(tmp_path / "q.csv")["minutes"].tolist(), [np.nan, 4])


@pytest.fixture
def ready(folder: Folder, tmp_path: Path) -> Path:
    """Two patches that stand ready, numbers 4 and 5."""
    return query_of(tmp_path / "reserve.csv", READY)


READY = [("b", Box((2, 2, 6), (4, 4, 2))), ("a", Box((0, 5, 0), (4, 4, 4)))]


def say(folder: Folder, *rows: str) -> None:
    (folder.folder / "tasks.csv").write_text("\n".join(["patch,case,state,reason", *rows]) + "\n")


def test_the_next_best_takes_the_place_of_a_refused_patch(folder: Folder, ready: Path, tmp_path: Path) -> None:
    def received() -> Received:
        return receive(folder.dataset.folder, folder.query, folder.folder, ready)

    def told() -> list[tuple[str, object]]:
        table = received().table()
        return [(row.state, None if pd.isna(row.stands_for) else row.stands_for) for row in table.itertuples()]

    # Nobody needs a patch of the reserve, even if it is labelled.
    folder.put("a.nii.gz", folder.values("a"))
    folder.put("b.nii.gz", folder.values("b", 7, [BOXES[1][1], READY[0][1]]))
    assert told() == [("done", None)] * 3 + [("reserve", None)] * 2 and received().is_complete()
    assert received().table()["note"][3] == "labelled, not taken: no refused patch needs it"
    write_answers(
        received(), folder.dataset.folder, folder.query, tmp_path / "q.csv", tmp_path / "a.h5", "n-c00", ready
    )
    pd.testing.assert_frame_equal(read_query(tmp_path / "q.csv"), read_query(folder.query))
    assert (read_labels(tmp_path / "a.h5", "oracle").masks["b"][READY[0][1].slices] == IGNORE).all()

    # Patch 3 is refused: 4 stands for it, which is labelled, and the query has its size.
    say(folder, "3,a,refused,metal", "1,a,,")
    assert told() == [("done", None), ("done", None), ("refused", None), ("done", 3), ("reserve", None)]
    assert received().table()["note"][2] == "metal; patch 4 takes its place" and received().is_complete()
    write_answers(
        received(), folder.dataset.folder, folder.query, tmp_path / "q.csv", tmp_path / "a.h5", "n-c00", ready
    )
    answered = read_query(tmp_path / "q.csv")
    assert list(answered["rank"]) == [1, 2, 3] and list(answered["case"]) == ["a", "b", "b"]
    assert list(answered["x"]) == [0, 2, 6]
    masks = read_labels(tmp_path / "a.h5", "oracle").masks
    assert (masks["b"][READY[0][1].slices] == 7).all() and (masks["a"][BOXES[2][1].slices] == IGNORE).all()

    # The reserve itself may be refused; the next one is waited for.
    say(folder, "3,a,refused,metal", "4,b,refused,metal too")
    assert told() == [("done", None), ("done", None), ("refused", None), ("refused", None), ("missing", 3)]
    assert not received().is_complete() and received().is_complete(partial=True)
    folder.put("more/a.nrrd", folder.values("a", 7, [READY[1][1]]))
    assert told()[4] == ("done", 3) and received().is_complete()

    # With more refused than stand ready, the cycle is complete without them.
    say(folder, "1,a,refused,", "3,a,refused,", "2,b,refused,")
    assert told() == [("refused", None)] * 3 + [("done", 1), ("done", 2)] and received().is_complete()


def test_a_case_of_the_reserve_alone_is_no_strangers(folder: Folder, tmp_path: Path) -> None:
    only_b = query_of(tmp_path / "own.csv", [BOXES[1]])
    of_a = query_of(tmp_path / "reserve.csv", [BOXES[0]])
    folder.put("a.nii.gz", folder.values("a"))
    received = receive(folder.dataset.folder, only_b, folder.folder, of_a)
    assert [answer.state for answer in received.answers] == ["missing", "reserve"] and not received.strangers
    none = query_of(tmp_path / "none.csv", [])
    assert [answer.state for answer in receive(folder.dataset.folder, only_b, folder.folder, none).answers] == [
        "missing"
    ]


def test_of_several_tables_the_last_word_counts(folder: Folder) -> None:
    """Each page that is saved tells of all patches, and of those that another has done that they are for later."""
    folder.put("a.nii.gz", folder.values("a"))
    (folder.folder / "one.csv").write_text("patch,case,state\n1,a,done\n3,a,later\n2,b,refused\n")
    (folder.folder / "two.csv").write_text("patch,case,state\n1,a,later\n3,a,done\n2,b,later\n")
    assert folder.states() == ["done", "refused", "done"]
    (folder.folder / "zzz.csv").write_text("patch,case,state\n1,a,refused\n2,b,done\n")
    assert folder.states() == ["refused", "missing", "done"]
    (folder.folder / "eve").mkdir()
    (folder.folder / "eve" / "tasks.csv").write_text("patch,case,state\n3,a,refused\n")
    assert folder.states() == ["refused", "missing", "done"]


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


def put_text(name: str, text: str | bytes) -> Callable[[Folder], object]:
    data = text if isinstance(text, bytes) else text.encode()
    return lambda folder: (folder.folder / name).write_bytes(data)


def put_changed(change: Callable[[np.ndarray], np.ndarray], name: str = "b.nii.gz", **geometry: Any):
    return lambda folder: folder.put(name, change(folder.values("b")), **geometry)


def with_voxel(value: float, kind: str = "uint8") -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        changed = values.astype(kind)
        changed[3, 3, 3] = value
        return changed

    return change


def put_image(change: Callable[[sitk.Image], sitk.Image], name: str = "b.nii.gz") -> Callable[[Folder], object]:
    def put(folder: Folder) -> None:
        image = sitk.GetImageFromArray(folder.values("b"))
        image.SetSpacing((1.0, 1.0, 2.0))
        sitk.WriteImage(change(image), str(folder.folder / name))

    return put


def moved(*origin: float) -> Callable[[sitk.Image], sitk.Image]:
    def change(image: sitk.Image) -> sitk.Image:
        image.SetOrigin(origin)
        return image

    return change


def resampled_to(*spacing: float) -> Callable[[sitk.Image], sitk.Image]:
    def change(image: sitk.Image) -> sitk.Image:
        size = [max(1, round(n * a / b)) for n, a, b in zip(image.GetSize(), image.GetSpacing(), spacing, strict=True)]
        origin = [(b - a) / 2 for a, b in zip(image.GetSpacing(), spacing, strict=True)]
        near = sitk.sitkNearestNeighbor
        return sitk.Resample(image, size, sitk.Transform(), near, origin, spacing, image.GetDirection(), IGNORE)

    return change


def put_segments(*segments: tuple[str, int, int], layers: int = 1) -> Callable[[Folder], object]:
    def put(folder: Folder) -> None:
        values = (folder.values("b") == 2).astype(np.uint8)
        image = sitk.GetImageFromArray(values if layers == 1 else np.stack([values] * layers, axis=-1), layers > 1)
        image.SetSpacing((1.0, 1.0, 2.0))
        for place, (name, value, layer) in enumerate(segments):
            for key, text in {"ID": f"S{place}", "Name": name, "LabelValue": value, "Layer": layer}.items():
                image.SetMetaData(f"Segment{place}_{key}", str(text))
        sitk.WriteImage(image, str(folder.folder / "b.seg.nrrd"))

    return put


def put_two(folder: Folder) -> None:
    folder.put("eve/b.nii.gz", folder.values("b"))
    folder.put("bob/b.nii.gz", folder.values("b", 7))


def put_archive(folder: Folder) -> None:
    path = folder.put("b.nii.gz", folder.values("b"))
    with zipfile.ZipFile(folder.folder / "work.zip", "w") as archive:
        archive.write(path, "../../b.nii.gz")
    path.unlink()


def put_cut_off(folder: Folder) -> None:
    path = folder.put("b.nii.gz", np.random.default_rng(0).choice([0, 2], (8, 8, 8)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:-30])


# What is brought for patch 2 (case b), what becomes of that patch, and what stands in its row or in a file's own.
DELIVERIES: dict[str, tuple[Callable[[Folder], object], str, str]] = {
    "cut off": (put_cut_off, "wrong", "cannot be read, it may be truncated"),
    "empty": (put_text("b.nii.gz", b""), "wrong", "cannot be read"),
    "text": (put_text("b.nrrd", "labels\n"), "wrong", "cannot be read"),
    "a picture": (put_text("b.png", b"\x89PNG"), "missing", "is no label file"),
    "of another case": (lambda folder: folder.put("c.nii.gz", folder.values("b")), "missing", "is for no case"),
    "of a case without patches": (put_changed(lambda v: v, "ab.mha"), "missing", "is for no case of this query"),
    "a value of no class": (put_changed(with_voxel(9)), "wrong", "holds values 9; known are 0 background, 2 head"),
    "indices for values": (put_changed(lambda v: np.where(v == 2, 1, 0).astype(np.uint8)), "wrong", "holds values 1;"),
    "a negative value": (put_changed(with_voxel(-1, "int16")), "wrong", "holds values -1;"),
    "a value of 16 bits": (put_changed(with_voxel(300, "uint16")), "wrong", "holds values 300;"),
    "parts of a number": (put_changed(with_voxel(0.5, "float32")), "wrong", "no whole numbers"),
    "no number": (put_changed(with_voxel(np.nan, "float32"), "b.mha"), "wrong", "no whole numbers"),
    "whole numbers as floats": (put_changed(lambda v: v.astype("float64"), "b.mha"), "done", ""),
    "numbers of 16 bits": (put_changed(lambda v: v.astype("uint16")), "done", ""),
    "one voxel undecided": (put_changed(with_voxel(IGNORE)), "undecided", "1 of 64 voxels are undecided"),
    "nothing decided": (put_changed(lambda v: np.full_like(v, IGNORE)), "missing", ""),
    "half of the patch": (put_changed(lambda v: v[:4]), "undecided", "32 of 64"),
    "all background": (put_changed(lambda v: np.zeros_like(v)), "done", ""),
    "several volumes": (put_changed(lambda v: np.stack([v, v]), "b.nii.gz", spacing=(1, 1, 2, 1)), "wrong", "4 axes"),
    "one volume of four axes": (put_changed(lambda v: v[None], "b.nii.gz", spacing=(1, 1, 2, 1)), "done", ""),
    "one slice": (put_image(lambda image: image[:, :, 3]), "wrong", "has 2 axes"),
    "colours": (put_image(lambda image: sitk.Compose(image, image, image)), "wrong", "3 values for each voxel"),
    "elsewhere": (put_image(moved(100, 0, 0)), "wrong", "lies elsewhere than the image: its first voxel is at (100"),
    "a bit off": (put_image(moved(0.2, 0, 0)), "done", "lies up to 0.20 voxels off"),
    "half a voxel off": (put_image(moved(0.7, 0, 0)), "undecided", ""),
    "finer": (put_image(resampled_to(0.5, 0.5, 1)), "done", "lies on another grid, resampled"),
    "too coarse": (put_image(resampled_to(2, 2, 2)), "wrong", "too coarse for the image's (1, 1, 2)"),
    "segments": (put_segments(("Head", 1, 0)), "done", ""),
    "a segment of no class": (put_segments(("Segment_1", 1, 0)), "wrong", "segment 'Segment_1' is no class; name it"),
    "a segment in no layer": (put_segments(("head", 1, 3)), "wrong", "is in layer 3, the file has 1"),
    "segments that overlap": (put_segments(("head", 1, 0), ("tail", 1, 1), layers=2), "wrong", "overlaps another"),
    "two who differ": (put_two, "differs", "annotators differ in 64 of 64 voxels"),
    "an archive": (put_archive, "done", ""),
    "a damaged archive": (put_text("b.zip", b"PK\x03\x04no more"), "missing", "is no label file"),
    "an archive of macOS's files": (put_text("._b.nii.gz", b"\0\5"), "missing", ""),
    "tasks of another table": (put_text("tasks.csv", "a,b\n1,2\n"), "missing", "columns ['patch', 'case'] are missing"),
    "tasks with semicolons": (put_text("tasks.csv", "patch;case\n2;b\n"), "missing", "columns ['patch', 'case']"),
    "a task of another case": (put_text("tasks.csv", "patch,case,state\n2,a,refused\n"), "missing", "no patch 2 in"),
    "an unknown task": (put_text("tasks.csv", "patch,case,state\n9,b,refused\n"), "missing", "no patch 9 in case b"),
    "an unknown state": (put_text("tasks.csv", "patch,case,state\n2,b,maybe\n"), "missing", "state is 'maybe', one of"),
    "minutes in words": (put_text("tasks.csv", "patch,case,minutes\n2,b,ten\n"), "missing", "numbers are wanted"),
    "minutes below none": (put_text("tasks.csv", "patch,case,minutes\n2,b,-3\n"), "missing", "minutes are -3"),
    "minutes with a comma": (put_text("tasks.csv", 'patch,case,state,minutes\n2,b,refused,"1,5"\n'), "refused", ""),
    "tasks that are no text": (put_text("tasks.csv", b"\xff\xfe\0"), "missing", "not a table of tasks"),
}  # fmt: skip


@pytest.mark.parametrize("name", DELIVERIES)
def test_what_comes_is_told_apart_and_nothing_is_taken_by_mistake(folder: Folder, name: str) -> None:
    bring, state, note = DELIVERIES[name]
    bring(folder)
    received = folder.received()
    table = received.table()
    assert list(table["state"][:3]) == ["missing", state, "missing"], table.to_string()
    assert any(note in text for text in table["note"]), table.to_string()
    if note and state in ("missing", "done", "undecided", "differs"):
        assert len(table) == 3 + (state == "missing")
    taken = [answer.patch for answer in received.answers if answer.values_zyx is not None]
    assert taken == ([2] if state == "done" else [])
