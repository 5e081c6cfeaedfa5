"""Patches that two people read: which are drawn, what the second one is given, and what becomes of two readings."""

from __future__ import annotations

import math
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import tiny
from geometries import Drawn, drawn, patch_in, prepare_drawn
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from test_receive import BOXES, IGNORE, Folder, query_of

from nnactive_nf.analyse.agreement import agreement_table, read_agreement
from nnactive_nf.annotate.run import annotate
from nnactive_nf.core.double_read import TABLE, DoubleRead, read_double_read
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.grid import CaseGrid
from nnactive_nf.core.labels import read_labels
from nnactive_nf.core.query_table import write_query
from nnactive_nf.hand_out.run import hand_out
from nnactive_nf.hand_out.second import drawn_patches, second_uncertainty
from nnactive_nf.receive.agreement import Read, agreement_rows, dice_of, kappa_of
from nnactive_nf.receive.answers import Received, write_agreement
from nnactive_nf.receive.masks import write_answers
from nnactive_nf.receive.rules import RULES, decide, majority
from nnactive_nf.receive.run import receive

CASES = {rank: case for rank, (case, _) in enumerate(BOXES, start=1)}
SHAPES = {"a": (8, 9, 10), "b": (8, 8, 8)}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Patch 2 of `BOXES` (case b, 64 voxels) is read by two; the models saw head in half of it."""
    dataset = tiny.prepared(tmp_path / "prepared", SHAPES)
    made = Folder(dataset, tmp_path / "labels")
    double(made, {2: True})
    return made


def double(folder: Folder, blind: dict[int, bool], with_start: bool = True) -> None:
    start = np.full(SHAPES["b"], IGNORE, np.uint8)
    start[BOXES[1][1].slices] = 0
    start[2:4, 2:6, 2:6] = 2
    starts = {"b": start} if with_start else {}
    DoubleRead(blind, starts).write(folder.folder.parent, CASES, "tiny", folder.dataset.classes)


def received(folder: Folder, rule: str | None = None, order: tuple[str, ...] = ()) -> Received:
    table = folder.folder.parent / TABLE
    return receive(
        folder.dataset.folder, folder.query, folder.folder, double_read=table, disagreement=rule, order=order
    )


def voxels(folder: Folder, *changes: tuple[int, int], number: int = 2) -> np.ndarray:
    """Labels of patch 2, of which the first voxels have other values: (how many, value), one behind the other."""
    values = folder.values("b", number)
    flat = values[BOXES[1][1].slices].ravel()
    place = 0
    for many, value in changes:
        flat[place : place + many] = value
        place += many
    values[BOXES[1][1].slices] = flat.reshape(4, 4, 4)
    return values


# ---- who reads what ---------------------------------------------------------------------------------------------


def twice_of(patches: int, share: float, blind: float, seed: int = 1, cycle: int = 1, strategy: str = "bald"):
    return drawn_patches(patches, share, blind, seed=seed, cycle=cycle, strategy=strategy)


def test_patches_are_drawn_by_seed_cycle_and_strategy_alone() -> None:
    twice = twice_of(40, 0.25, 0.5)
    assert len(twice) == 10 and sum(twice.values()) == 5 and set(twice) <= set(range(1, 41))
    assert twice_of(40, 0.25, 0.5) == twice
    others = [
        twice_of(40, 0.25, 0.5, seed=2),
        twice_of(40, 0.25, 0.5, cycle=2),
        twice_of(40, 0.25, 0.5, strategy="random"),
    ]
    assert all(other != twice for other in others)
    assert set(twice) < set(twice_of(40, 0.5, 0.5)), "a larger share leaves those that were drawn"
    assert {patch for seed in range(40) for patch in twice_of(8, 0.125, 0, seed=seed)} == set(range(1, 9))


def test_shares_are_rounded_and_one_at_least() -> None:
    assert [len(twice_of(8, share, 0)) for share in (0, 0.01, 0.1, 0.3, 0.3125, 1)] == [0, 1, 1, 2, 3, 8]
    assert [sum(twice_of(10, 1, blind).values()) for blind in (0, 0.01, 0.24, 0.25, 1)] == [0, 1, 2, 3, 10]
    assert twice_of(0, 0.5, 0.5) == {}


@pytest.fixture
def package(tmp_path: Path) -> Callable[..., Path]:
    """Hands out `BOXES` of which the models saw head everywhere; returns the package."""
    dataset = tiny.prepared(tmp_path / "prepared", SHAPES)
    raw = tmp_path / "raw"
    (raw / "imagesTr").mkdir(parents=True)
    for case, shape in SHAPES.items():
        image = sitk.GetImageFromArray(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))
        image.SetSpacing((1, 1, 2))
        sitk.WriteImage(image, str(raw / "imagesTr" / f"{case}_0000.nii.gz"))
    (raw / "dataset.json").write_text(
        '{"channel_names": {"0": "T1"}, "labels": {"background": 0, "head": 2, "tail": 7}, "file_ending": ".nii.gz"}'
    )
    rows = [[n, case, *box.start_zyx, *box.size_zyx, 1 / n, "all"] for n, (case, box) in enumerate(BOXES, start=1)]
    names = ["rank", "case", "z", "y", "x", "dz", "dy", "dx", "score", "component"]
    write_query(tmp_path / "query.csv", pd.DataFrame(rows, columns=names))

    def make(name: str = "cycle_01", with_model: bool = True, **options: float) -> Path:
        maps = []
        if with_model:
            maps = [tmp_path / "uncertainty.h5"]
            shown = {
                case: {"predictive_entropy": np.full(shape, 0.5, np.float32), "prediction": np.ones(shape, np.uint8)}
                for case, shape in SHAPES.items()
            }
            tiny.uncertainty(maps[0], dataset, shown)
        out = tmp_path / "tiny-main-bald-s1" / name
        hand_out(
            dataset.folder, raw, tmp_path / "query.csv", maps, strategy="predictive_entropy", cycle=1,
            delivery="there", out=out, seed=1, **options,
        )  # fmt: skip
        return out

    return make


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def values_of(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_without_double_reading_a_package_says_nothing_of_it(package: Callable[..., Path]) -> None:
    out = package()
    files = files_of(out)
    assert not any("second" in name or "double" in name for name in files)
    texts = [files[name].decode() for name in ("README.md", "index.html", "tasks.csv")]
    assert not any(word in text for text in texts for word in ("second reader", 'id="remark"', "readers", "$double"))
    assert "voxels are decided.\n\n## What is in the package" in texts[0]


def test_the_second_reader_starts_from_background_where_blind(package: Callable[..., Path]) -> None:
    plain, out = package("cycle_01"), package("cycle_02", double_read=1.0, blind=0.3)
    twice = read_double_read(out / TABLE, CASES, SHAPES)
    (blind,) = (patch for patch, is_blind in twice.blind.items() if is_blind)
    assert sorted(twice.blind) == [1, 2, 3]
    # What the first reader is given is as ever, but for a word on the others.
    before, now = files_of(plain), files_of(out)
    assert {name for name in before if before[name] != now[name]} == {"tasks.csv", "README.md", "index.html"}
    for number, (case, box) in enumerate(BOXES, start=1):
        first, second = (values_of(out / part / "start" / f"{case}.nii.gz") for part in (".", "second_reader"))
        assert (first[box.slices] == 2).all() and (twice.starts[case][box.slices] == 2).all()
        assert (second[box.slices] == (0 if number == blind else 2)).all()
        inside = np.zeros(SHAPES[case], dtype=bool)
        for other, place in BOXES:
            inside[place.slices] |= other == case
        assert ((second == IGNORE) == ~inside).all()
        shown = out / "second_reader" / "uncertainty" / f"{case}.nii.gz"
        if number == blind:
            assert not shown.exists() or (values_of(shown)[box.slices] == 0).all()
    tasks, second = (pd.read_csv(out / part / "tasks.csv") for part in (".", "second_reader"))
    assert list(tasks["readers"]) == [2, 2, 2] and list(tasks["patch"][tasks["blind"] == "yes"]) == [blind]
    assert int(second.set_index("patch")["foreground_voxels"][blind]) == 0
    assert "read by two people" in (out / "README.md").read_text() and 'id="remark"' in now["index.html"].decode()
    text = (out / "second_reader" / "README.md").read_text()
    assert f"Patch {blind} is **blind**" in text and "there/YOUR NAME/second_reader/" in text
    assert f"Patch {blind} is shown without" in now["second_reader/index.html"].decode()
    # The page's archive tells that it comes from the second reader.
    assert "second_reader" in now["second_reader/index.html"].decode().split("<title>")[1].split("</title>")[0]


def test_the_second_reader_is_given_the_patches_that_two_read(package: Callable[..., Path]) -> None:
    out = package(double_read=0.34, blind=0)
    (patch,) = read_double_read(out / TABLE, CASES, SHAPES).blind
    tasks, second = (pd.read_csv(out / part / "tasks.csv") for part in (".", "second_reader"))
    assert list(tasks["readers"]) == [2 if number == patch else 1 for number in (1, 2, 3)]
    assert list(second["patch"]) == [patch] and second["blind"].isna().all()
    case, box = BOXES[patch - 1]
    start = values_of(out / "second_reader" / "start" / f"{case}.nii.gz")
    assert (start[box.slices] == 2).all() and (start != IGNORE).sum() == box.voxels
    assert "**blind**" not in (out / "second_reader" / "README.md").read_text()


def test_where_the_models_are_unsure_is_hidden_in_and_round_blind_patches() -> None:
    shape = (40, 40, 40)
    grid = CaseGrid(shape, Box((0, 0, 0), shape), shape, (1.0, 1.0, 1.0))
    boxes = [Box((0, 0, 0), (8, 8, 8)), Box((20, 20, 20), (8, 8, 8))]
    shown = second_uncertainty(np.ones(shape, np.float32), grid, boxes, [False, True])
    assert shown is not None and (shown[boxes[0].slices] == 1).all()
    assert (shown[16:32, 16:32, 16:32] == 0).all() and shown.sum() == 40**3 - 16**3
    assert second_uncertainty(np.ones(shape, np.float32), grid, boxes, [True, True]) is None
    assert second_uncertainty(None, grid, boxes, [False, True]) is None


def test_without_a_model_nobody_is_blind(package: Callable[..., Path]) -> None:
    out = package(with_model=False, double_read=1.0, blind=1.0)
    twice = read_double_read(out / TABLE, CASES, SHAPES)
    assert set(twice.blind.values()) == {False} and twice.starts == {}
    assert not (out / "double_read.h5").exists()


def test_what_was_handed_out_for_another_query_is_refused(folder: Folder) -> None:
    table = folder.folder.parent / TABLE
    table.write_text("patch,case,blind\n2,a,0\n")
    with pytest.raises(UserError, match="this query has no patch 2 in case a"):
        received(folder)


# ---- two readings -----------------------------------------------------------------------------------------------


def put_both(*changes: tuple[int, int]) -> Callable[[Folder], object]:
    """The first reader gives head to all voxels; the second one has some otherwise."""

    def put(folder: Folder) -> None:
        folder.put("ann/b.nii.gz", voxels(folder))
        folder.put("ben/second_reader/b.nii.gz", voxels(folder, *changes))

    return put


def put_text(folder: Folder, name: str, text: str) -> None:
    path = folder.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def put_half(folder: Folder) -> None:
    folder.put("ann/b.nii.gz", voxels(folder))
    folder.put("ben/second_reader/b.nii.gz", voxels(folder)[:4])


def put_wrong(folder: Folder) -> None:
    folder.put("ann/b.nii.gz", voxels(folder))
    folder.put("ben/b.nii.gz", voxels(folder, (1, 9)))


def put_by_one(folder: Folder) -> None:
    """One person labels from both pages, saves without a folder, and the archives tell it."""
    for name in ("cycle_01.zip", "cycle_01_second_reader.zip"):
        path = folder.put("b.nii.gz", voxels(folder))
        with zipfile.ZipFile(folder.folder / name, "w") as archive:
            archive.write(path, "b.nii.gz")
            archive.writestr("tasks.csv", "patch,case,state,annotator\n2,b,done,ann\n")
        path.unlink()


def put_by_two(folder: Folder) -> None:
    put_by_one(folder)
    with zipfile.ZipFile(folder.folder / "cycle_01_second_reader.zip") as archive:
        labels = archive.read("b.nii.gz")
    with zipfile.ZipFile(folder.folder / "cycle_01_second_reader.zip", "w") as archive:
        archive.writestr("b.nii.gz", labels)
        archive.writestr("tasks.csv", "patch,case,state,annotator\n2,b,done,ben\n")


def put_refused(folder: Folder) -> None:
    folder.put("ann/b.nii.gz", voxels(folder))
    put_text(folder, "ben/second_reader/tasks.csv", "patch,case,state,reason\n2,b,refused,metal\n")


def put_later(folder: Folder) -> None:
    folder.put("ann/b.nii.gz", voxels(folder))
    put_text(folder, "ben/tasks.csv", "patch,case,state\n2,b,later\n")


def put_later_elsewhere(folder: Folder) -> None:
    """Ben is the first reader of other patches: his page of these says that patch 2 is for later."""
    put_both()(folder)
    put_text(folder, "ben/tasks.csv", "patch,case,state\n2,b,later\n")


def put_three(*changes: tuple[int, int]) -> Callable[[Folder], object]:
    def put(folder: Folder) -> None:
        put_both((4, 7))(folder)
        folder.put("cid/b.nii.gz", voxels(folder, *changes))

    return put


def put_corrected(folder: Folder) -> None:
    put_both((8, 7))(folder)
    folder.put("ben/second_reader/b.nrrd", voxels(folder))


# Brought for patch 2, which two people are to read: by which rule, what becomes of it, what is told, voxels of the
# classes background, head and tail that are taken.
TWICE: dict[str, tuple[Callable[[Folder], object], str | None, str, str, tuple[int, ...] | None]] = {
    "they agree": (put_both(), None, "done", "", (0, 64, 0)),
    "they differ": (put_both((4, 7)), None, "done", "differ in 4 of 64 voxels: 4 stay undecided", (0, 60, 0)),
    "they differ and are waited for": (put_both((4, 7)), "wait", "differs", "differ in 4 of 64 voxels", None),
    "they differ, two of two": (put_both((4, 7)), "majority", "done", "4 stay undecided", (0, 60, 0)),
    "the first has the word": (put_both((4, 7)), "rank:ann,ben", "done", "by rank as ann has it", (0, 64, 0)),
    "the second has the word": (put_both((4, 7)), "rank:eve,ben,ann", "done", "as ben has it", (0, 60, 4)),
    "one is not in the ranks": (put_both((4, 7)), "rank:ben", "done", "as ben has it", (0, 60, 4)),
    "none is in the ranks": (put_both((4, 7)), "rank:eve", "differs", "none of them stands in --annotators", None),
    "they agree, none in the ranks": (put_both(), "rank:eve", "done", "", (0, 64, 0)),
    "they differ in all": (put_both((64, 7)), None, "differs", "64 of which would stay undecided: do they mean", None),
    "they differ in half": (put_both((32, 7)), None, "done", "32 stay undecided", (0, 32, 0)),
    "they differ in more": (put_both((33, 7)), None, "differs", "33 of which", None),
    "all by rank": (put_both((64, 7)), "rank:ben", "done", "as ben has it", (0, 0, 64)),
    "by the first alone": (lambda f: f.put("ann/b.nii.gz", voxels(f)), None, "once", "read by ann, somebody", None),
    "by the second alone": (lambda f: f.put("second_reader/b.nrrd", voxels(f)), None, "once", "second_reader", None),
    "without a folder": (lambda f: f.put("b.nii.gz", voxels(f)), None, "once", "read by one, somebody else", None),
    "by one, twice": (put_by_one, None, "once", "read by ann, somebody else", None),
    "by two, in archives": (put_by_two, None, "done", "", (0, 64, 0)),
    "half by the second": (put_half, None, "undecided", "32 of 64 voxels are undecided", None),
    "wrong by the second": (put_wrong, None, "wrong", "holds values 9", None),
    "refused by the second": (put_refused, None, "refused", "metal", None),
    "later by the second": (put_later, None, "once", "read by ann", None),
    "later in another role": (put_later_elsewhere, None, "done", "", (0, 64, 0)),
    "three of whom two agree": (put_three((8, 0)), "majority", "done", "4 stay undecided", (0, 60, 0)),
    "three, one alone": (put_three(), "majority", "done", "0 stay undecided", (0, 64, 0)),
    "three who all differ": (put_three((4, 0)), None, "done", "4 stay undecided", (0, 60, 0)),
    "the second corrects himself": (put_corrected, None, "done", "changes 8 voxels", (0, 64, 0)),
}  # fmt: skip


@pytest.mark.parametrize("name", TWICE)
def test_what_becomes_of_a_patch_that_two_read(folder: Folder, tmp_path: Path, name: str) -> None:
    bring, given_rule, state, note, counts = TWICE[name]
    bring(folder)
    rule, _, order = (given_rule or "").partition(":")
    found = received(folder, rule or None, tuple(order.split(",")) if order else ())
    table = found.table()
    assert list(table["state"]) == ["missing", state, "missing"], table.to_string()
    assert note in table["note"][1], table.to_string()
    taken = [answer.patch for answer in found.answers if answer.values_zyx is not None]
    assert taken == ([2] if state == "done" else [])
    if counts is not None:
        write_answers(found, folder.dataset.folder, folder.query, tmp_path / "q.csv", tmp_path / "a.h5", "n-c00")
        labels = annotate(
            folder.dataset.folder, tmp_path / "a.h5", tmp_path / "q.csv", strategy="x", node="n-c00", cycle=0
        )
        mask = labels.masks["b"][BOXES[1][1].slices]
        assert tuple((mask == value).sum() for value in (0, 2, 7)) == counts
        assert (labels.masks["b"] != IGNORE).sum() == sum(counts), "outside of the patch nothing is taken"
        row = labels.patches.iloc[0]
        assert row["voxels"] == sum(counts) and row["foreground_voxels"] == counts[1] + counts[2]


def test_a_correction_replaces_ones_own_reading(folder: Folder) -> None:
    put_both((8, 7))(folder)
    folder.put("ben/second_reader/b.nrrd", voxels(folder))
    row = received(folder).table().iloc[1]
    assert row["state"] == "done" and row["annotator"] == "ann;ben"
    assert row["note"].endswith("b.nrrd changes 8 voxels of ben/second_reader/b.nii.gz")


def test_a_patch_that_one_reads_is_as_ever(folder: Folder) -> None:
    """Two who differ are waited for, unless a rule is named; the second reader's file says nothing of it."""
    folder.put("ann/a.nii.gz", folder.values("a"))
    folder.put("ben/second_reader/a.nii.gz", folder.values("a", 7))
    assert [answer.state for answer in received(folder).answers] == ["done", "missing", "done"]
    changed = folder.values("a")
    changed[0, 0, 0] = 0
    folder.put("eve/a.nii.gz", changed)
    assert [answer.state for answer in received(folder).answers] == ["differs", "missing", "done"]
    found = received(folder, "undecided")
    assert [answer.state for answer in found.answers] == ["done", "missing", "done"]
    assert {(row["a"], row["b"], row["start"]) for row in found.agreement} == {("ann", "eve", "no model")}


def test_a_patch_that_two_read_is_left_out_while_one_has(folder: Folder) -> None:
    folder.put("ann/a.nii.gz", folder.values("a"))
    folder.put("ann/b.nii.gz", voxels(folder))
    found = received(folder)
    assert [answer.state for answer in found.answers] == ["done", "once", "done"]
    assert not found.is_complete() and found.is_complete(partial=True)


@given(drawn(), st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_what_readers_left_open_is_made_up_on_no_grid(case: Drawn, seed: int) -> None:
    """A voxel of the image grid has a class only if it had it whatever the undecided voxels of the file were."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name)
        done = prepare_drawn(case, whole, noise=True)
        box = patch_in(case, done.grid.shape_zyx)
        query_file = query_of(whole / "query.csv", [("a", box)])
        truth = sitk.ReadImage(str(whole / f"a{case.ending}"))
        values = sitk.GetArrayFromImage(truth)
        differ = np.zeros(values.shape, dtype=bool)  # in the patch: of what lies round it nobody asked
        place = done.grid.file_box(box)
        differ[place.slices] = rng.random(place.size_zyx) < 0.25

        def mask_of(rule: str | None, **readers: np.ndarray) -> np.ndarray | None:
            folder = whole / f"labels_{'_'.join(readers)}"
            for reader, labels in readers.items():
                (folder / reader).mkdir(parents=True)
                image = sitk.GetImageFromArray(labels.astype(values.dtype))
                image.CopyInformation(truth)
                sitk.WriteImage(image, str(folder / reader / "a.nii.gz"))
            found = receive(whole, query_file, folder, disagreement=rule)
            if not found.is_complete():  # they differ in too much of so small a patch
                return None
            write_answers(found, whole, query_file, whole / "q.csv", whole / "a.h5", "n-c00")
            return read_labels(whole / "a.h5", "oracle").masks["a"][box.slices]

        open_mask = mask_of("undecided", ann=values, ben=np.where(differ, 7 - values, values))
        assume(open_mask is not None)
        assert open_mask is not None
        for fill, reader in ((0, "low"), (7, "high")):
            filled = mask_of(None, **{reader: np.where(differ, fill, values)})
            decided = open_mask != IGNORE
            other = open_mask == 7 - fill
            np.testing.assert_array_equal(filled[decided & other], open_mask[decided & other])


# ---- rules and agreement ----------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.sampled_from([0, 2, 7]), min_size=6, max_size=6), min_size=2, max_size=5))
@settings(max_examples=60)
def test_a_majority_is_what_more_say_than_anything_else(rows: list[list[int]]) -> None:
    found = majority([np.array(row, np.uint8) for row in rows], IGNORE)
    for place in range(6):
        said = [row[place] for row in rows]
        most = max(map(said.count, said))
        winners = {value for value in said if said.count(value) == most}
        assert found[place] == (winners.pop() if len(winners) == 1 else IGNORE)


def test_every_rule_has_its_answer() -> None:
    values = [np.array([2, 2], np.uint8), np.array([2, 7], np.uint8)]
    found = {rule: decide(rule, values, ["ann", "ben"], ["ben"], IGNORE) for rule in RULES}
    assert {rule: None if one is None else one.tolist() for rule, one in found.items()} == {
        "undecided": [2, IGNORE], "majority": [2, IGNORE], "rank": [2, 7], "wait": None,
    }  # fmt: skip


@given(st.integers(0, 2**12 - 1), st.integers(0, 2**12 - 1))
@settings(max_examples=80)
def test_kappa_and_dice_are_those_of_the_books(a: int, b: int) -> None:
    of_a, of_b = (np.array([n >> bit & 1 for bit in range(12)], bool) for n in (a, b))
    counts = int(of_a.sum()), int(of_b.sum()), int((of_a & of_b).sum())
    dice, kappa = dice_of(*counts), kappa_of(12, *counts)
    if of_a.any() or of_b.any():
        assert dice == pytest.approx(2 * np.logical_and(of_a, of_b).sum() / (of_a.sum() + of_b.sum()))
    else:
        assert math.isnan(dice)
    if len({*of_a.tolist(), *of_b.tolist()}) == 1:
        assert math.isnan(kappa)
    else:
        assert kappa == pytest.approx(cohen_kappa_score(of_a, of_b))


def test_who_is_held_against_whom_and_what_they_started_from() -> None:
    values = np.array([0, 2, 2, 7], np.uint8)

    def kinds(*second: bool, blind: bool = True, start: np.ndarray | None = values) -> list[tuple[object, ...]]:
        reads = [Read(f"r{number}", values, is_second) for number, is_second in enumerate(second)]
        rows = agreement_rows(1, "a", reads, start, blind, tiny.CLASSES)
        return [(row["a"], row["b"], row["start"]) for row in rows if row["class"] == "head"]

    models = "pre-segmentation"
    assert kinds(False, True) == [("r0", "r1", "blind"), ("r0", models, "seen"), ("r1", models, "blind")]
    assert kinds(False, True, blind=False)[0] == ("r0", "r1", "seen")
    assert kinds(False, False) == [("r0", "r1", "untold"), ("r0", models, "untold"), ("r1", models, "untold")]
    assert kinds(True, True)[0] == ("r0", "r1", "both blind")
    assert kinds(False, True, True)[:3] == [("r0", "r1", "blind"), ("r0", "r2", "blind"), ("r1", "r2", "both blind")]
    assert kinds(False, True, blind=False, start=None) == [("r0", "r1", "no model")]


def test_agreement_is_told_by_class_and_by_what_was_seen(folder: Folder, tmp_path: Path) -> None:
    # ann takes the pre-segmentation as it is (head in the first half), ben gives head to a quarter more.
    seen = voxels(folder, (64, 0))
    seen[2:4, 2:6, 2:6] = 2
    more = seen.copy()
    more[4:5, 2:6, 2:6] = 2
    folder.put("ann/b.nii.gz", seen)
    folder.put("ben/second_reader/b.nii.gz", more)
    put_text(folder, "ben/second_reader/tasks.csv", "patch,case,state,minutes\n2,b,done,6\n")
    put_text(folder, "ann/tasks.csv", "patch,case,state,minutes\n2,b,done,2\n")
    found = received(folder)
    (tmp_path / "agreement").mkdir()
    write_agreement(tmp_path / "agreement" / "n-c01.csv", found)
    rows = pd.read_csv(tmp_path / "agreement" / "n-c01.csv", keep_default_na=False)
    pair = rows[(rows["class"] == "head") & (rows["b"] == "ben")].iloc[0]
    assert list(pair[["voxels", "a_voxels", "b_voxels", "both_voxels"]]) == [64, 32, 48, 32]
    assert float(pair["dice"]) == 0.8 and float(pair["kappa"]) == 0.5
    assert [float(pair[f"{who}_minutes"]) for who in "ab"] == [2, 6]
    assert set(rows[rows["class"] == "tail"]["dice"]) == {""}

    table = agreement_table(read_agreement(tmp_path / "agreement")).set_index(["against", "reader", "start", "class"])
    assert table.loc[("reader", "all", "blind", "head"), "dice_mean"] == 0.8
    assert table.loc[("pre-segmentation", "ann", "seen", "head"), "dice_mean"] == 1
    assert table.loc[("pre-segmentation", "ben", "blind", "mean"), "dice_mean"] == 0.8
    assert table.loc[("lead", "all", "blind", "mean"), "dice_mean"] == pytest.approx(0.2)
    assert table.loc[("reader", "all", "blind", "tail"), "with_class"] == 0
    assert table.loc[("reader", "all", "blind", "head"), "minutes_mean"] == 4


def test_kappa_of_several_patches_is_that_of_their_voxels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = [[rng.choice([0, 2], 30).astype(np.uint8) for _ in range(2)] for _ in range(3)]
    rows = [
        row | {"node": "n"}
        for patch, (a, b) in enumerate(pairs, start=1)
        for row in agreement_rows(patch, "a", [Read("a", a), Read("b", b)], None, False, tiny.CLASSES)
    ]
    table = agreement_table(pd.DataFrame(rows))
    row = table[(table["class"] == "head") & (table["start"] == "no model")].iloc[0]
    a, b = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    assert row["kappa"] == pytest.approx(cohen_kappa_score(a, b)) and row["patches"] == 3
    assert row["dice_mean"] == pytest.approx(np.mean([dice_of(*(int(n) for n in counts(*pair))) for pair in pairs]))


def counts(a: np.ndarray, b: np.ndarray) -> tuple[int, int, int]:
    return int((a == 2).sum()), int((b == 2).sum()), int(((a == 2) & (b == 2)).sum())


def test_a_damaged_table_of_agreement_is_named(tmp_path: Path) -> None:
    (tmp_path / "n-c00.csv").write_text("patch,case\n1,a\n")
    with pytest.raises(UserError, match=r"n-c00.csv: not a table of agreement \(columns"):
        read_agreement(tmp_path)
