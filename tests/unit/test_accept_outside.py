"""`--accept_outside`: labels outside of the patches, from the files of people to the masks and tables."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import tiny
from geometries import Drawn, drawn, patch_in, prepare_drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from study import known_winner, make_study
from test_receive import BOXES, IGNORE, Folder, query_of

from nnactive_nf.analyse.study import Study, read_study
from nnactive_nf.analyse.tables import class_counts_table, cost_table
from nnactive_nf.analyse.write import analyse
from nnactive_nf.annotate.run import annotate, write
from nnactive_nf.core.design import Design
from nnactive_nf.core.geometry import Box, bounding_box
from nnactive_nf.core.labels import OUTSIDE, Labels, in_part, is_asked_for, read_labels, write_labels
from nnactive_nf.receive.answers import Received
from nnactive_nf.receive.masks import write_answers
from nnactive_nf.receive.run import receive
from nnactive_nf.stop.run import progress_of


@pytest.fixture
def delivered(tmp_path: Path) -> Folder:
    return Folder(tiny.prepared(tmp_path / "prepared", {"a": (8, 9, 10), "b": (8, 8, 8)}), tmp_path / "labels")


def received_of(folder: Folder, accept_outside: bool = True, **more: Path) -> Received:
    return receive(folder.dataset.folder, folder.query, folder.folder, accept_outside=accept_outside, **more)


def masks_of(folder: Folder, received: Received) -> dict[str, np.ndarray]:
    out = folder.folder.parent
    write_answers(received, folder.dataset.folder, folder.query, out / "answered.csv", out / "answers.h5", "n-c00")
    return dict(read_labels(out / "answers.h5", "oracle").masks)


def told(received: Received) -> dict[str, str]:
    """What the table says of each case's outside."""
    rows = received.table()
    return {row["case"]: row["note"] for row in rows[rows["state"] == "outside"].to_dict("records")}


def both_cases(folder: Folder, extra: int = 2) -> np.ndarray:
    """Files of both cases, and in `a` a slab beside the patches: two planes with one voxel of background."""
    values = folder.values("a")
    slab = values[6:8, :4, :5]
    slab[:] = extra
    slab[0, 0, 0] = 0
    folder.put("a.nii.gz", values)
    folder.put("b.nii.gz", folder.values("b"))
    return values


def test_what_lies_outside_is_taken_where_the_user_says_so(delivered: Folder) -> None:
    values = both_cases(delivered)
    received = received_of(delivered)
    assert received.is_complete() and told(received) == {
        "a": "40 voxels outside of the patches are taken, 39 of them foreground"
    }
    masks = masks_of(delivered, received)
    np.testing.assert_array_equal(masks["a"], values)
    np.testing.assert_array_equal(masks["b"], delivered.values("b"))


def test_else_it_is_told_and_left(delivered: Folder) -> None:
    both_cases(delivered)
    received = received_of(delivered, accept_outside=False)
    note = "39 voxels outside of the patches are not taken; --accept_outside takes them"
    assert received.is_complete() and told(received) == {"a": note}
    np.testing.assert_array_equal(masks_of(delivered, received)["a"], delivered.values("a"))


def test_background_that_a_viewer_filled_in_is_not_worth_a_word(delivered: Folder) -> None:
    values = delivered.values("a")
    values[values == IGNORE] = 0
    delivered.put("a.nii.gz", values)
    assert told(received_of(delivered, accept_outside=False)) == {}


def test_of_segments_only_what_is_drawn_counts(delivered: Folder) -> None:
    values = delivered.values("a")
    values[values == IGNORE] = 0
    values[7, 0, :3] = 2
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((1.0, 1.0, 2.0))
    for key, text in {"ID": "s", "Name": delivered.dataset.classes.names[1], "LabelValue": "2", "Layer": "0"}.items():
        image.SetMetaData(f"Segment0_{key}", text)
    sitk.WriteImage(image, str(delivered.folder / "a.seg.nrrd"))
    delivered.put("b.nii.gz", delivered.values("b"))
    received = received_of(delivered)
    mask = masks_of(delivered, received)["a"]
    expected = delivered.values("a")
    expected[7, 0, :3] = 2
    np.testing.assert_array_equal(mask, expected)


def test_two_who_differ_outside_leave_it_open(delivered: Folder) -> None:
    mine, theirs = delivered.values("a"), np.full((8, 9, 10), IGNORE, np.uint8)
    mine[7, 0, :6] = 2
    theirs[7, 0, 3:9] = [2, 7, 7, 7, 7, 7]
    delivered.put("eve/a.nii.gz", mine)
    delivered.put("bob/a.nii.gz", theirs)
    delivered.put("eve/b.nii.gz", delivered.values("b"))
    received = received_of(delivered)
    mask = masks_of(delivered, received)["a"]
    assert [*mask[7, 0]] == [2, 2, 2, 2, IGNORE, IGNORE, 7, 7, 7, IGNORE]
    rows = received.table()
    assert rows.loc[rows["state"] == "outside", "annotator"].tolist() == ["bob;eve"]


def test_a_second_readers_file_says_nothing_there(delivered: Folder) -> None:
    both_cases(delivered, extra=IGNORE)
    values = np.full((8, 9, 10), IGNORE, np.uint8)
    values[7] = 2
    delivered.put("bob/second_reader/a.nii.gz", values)
    assert [*told(received_of(delivered))] == ["a"]  # the one voxel of background that the first has decided
    assert (masks_of(delivered, received_of(delivered))["a"][7, :5] == IGNORE).all()


def test_patches_that_wait_are_not_outside(delivered: Folder) -> None:
    """A patch half done is no label outside of the others."""
    values = delivered.values("a", boxes=[BOXES[0][1]])
    box = BOXES[2][1]
    values[box.slices][:2] = 7
    values[7, 0, 0] = 2
    delivered.put("a.nii.gz", values)
    delivered.put("b.nii.gz", delivered.values("b"))
    received = received_of(delivered)
    assert [answer.state for answer in received.answers] == ["done", "done", "undecided"]
    assert (received.outside["a"] != IGNORE).sum() == 1 and not received.is_complete()


def test_a_reserve_that_nobody_needs_is_outside(delivered: Folder, tmp_path: Path) -> None:
    reserve = query_of(tmp_path / "reserve.csv", [("b", Box((0, 6, 0), (2, 2, 2)))])
    delivered.put("a.nii.gz", delivered.values("a"))
    values = delivered.values("b")
    values[:2, 6:, :2] = 7
    delivered.put("b.nii.gz", values)
    received = received_of(delivered, reserve_file=reserve)
    assert [answer.state for answer in received.answers] == ["done", "done", "done", "reserve"]
    assert (received.outside["b"] == 7).sum() == 8
    assert "taken as what lies outside" in received.answers[3].note


@given(drawn(), st.booleans())
@settings(max_examples=50)
def test_a_label_file_of_a_case_comes_in_as_prepare_takes_it(case: Drawn, whole: bool) -> None:
    """The truth for one patch, whole or of one half: all of the mask, but where no label holds half of a voxel."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        done = prepare_drawn(case, folder, noise=True)
        box = patch_in(case, done.grid.shape_zyx)
        query_file = query_of(folder / "query.csv", [("a", box)])
        (folder / "labels").mkdir()
        truth = sitk.ReadImage(str(folder / f"a{case.ending}"))
        values = sitk.GetArrayFromImage(truth)
        if not whole:
            place = done.grid.label_box(box).slices
            inside = values[place].copy()
            values[:, :, values.shape[2] // 2 :] = IGNORE
            values[place] = inside
        image = sitk.GetImageFromArray(values)
        image.CopyInformation(truth)
        sitk.WriteImage(image, str(folder / "labels" / "a.nii.gz"))
        received = receive(folder, query_file, folder / "labels", accept_outside=True)
        write_answers(received, folder, query_file, folder / "answered.csv", folder / "answers.h5", "n-c00")
        mask = read_labels(folder / "answers.h5", "oracle", {"a": done.grid.shape_zyx}).masks["a"]
        known = mask != IGNORE
        np.testing.assert_array_equal(mask[known], done.mask[known])
        np.testing.assert_array_equal(mask[box.slices], done.mask[box.slices])
        assert known.all() or done.grid.is_resampled or not whole
        assert known[..., : known.shape[2] // 3].all() or done.grid.is_resampled


def annotated(folder: Folder, received: Received, accept_outside: bool = True, before: Path | None = None) -> Labels:
    masks_of(folder, received)
    out = folder.folder.parent
    return annotate(
        folder.dataset.folder, out / "answers.h5", out / "answered.csv", strategy="random", node="n-c00",
        cycle=0 if before is None else 1, labels_file=before, accept_outside=accept_outside,
    )  # fmt: skip


def test_annotate_lays_it_in_and_counts_it_apart(delivered: Folder) -> None:
    values = both_cases(delivered)
    labels = annotated(delivered, received_of(delivered))
    np.testing.assert_array_equal(labels.masks["a"], values)
    patches = labels.patches
    assert [*patches["strategy"]] == ["random"] * 3 + [OUTSIDE] and is_asked_for(patches).sum() == 3
    row = patches.iloc[3]
    assert (row["case"], row["cycle"], row["voxels"], row["foreground_voxels"]) == ("a", 0, 40, 39)
    assert [row[axis] for axis in ("z", "y", "x", "dz", "dy", "dx")] == [6, 0, 0, 2, 4, 5]
    assert len(labels.boxes("a")) == 3  # the slab is labelled throughout, so no patch may lie on it
    assert len(annotated(delivered, received_of(delivered), accept_outside=False).patches) == 3


def test_scattered_labels_bar_no_patch(delivered: Folder) -> None:
    values = both_cases(delivered, extra=IGNORE)
    values[7, 8, 9] = 7
    delivered.put("a.nii.gz", values)
    labels = annotated(delivered, received_of(delivered))
    assert [*in_part(labels.patches)] == [False] * 3 + [True]
    assert len(labels.boxes("a")) == 2


def test_labels_that_are_there_stay(delivered: Folder, tmp_path: Path) -> None:
    """In the next cycle somebody paints over an earlier patch outside of what was asked: that is no correction."""
    both_cases(delivered)
    before = tmp_path / "before.h5"
    write(before, annotated(delivered, received_of(delivered)))
    delivered.query = query_of(tmp_path / "next.csv", [("b", Box((0, 6, 0), (2, 2, 2)))])
    values = np.full((8, 8, 8), 7, np.uint8)
    delivered.put("b.nii.gz", values)
    (delivered.folder / "a.nii.gz").unlink()
    labels = annotated(delivered, received_of(delivered), before=before)
    earlier = BOXES[1][1]
    assert (labels.masks["b"][earlier.slices] == 2).all() and (labels.masks["b"] == 7).sum() == 512 - 64
    assert labels.patches.iloc[-1][["voxels", "strategy"]].tolist() == [512 - 64 - 8, OUTSIDE]


def test_a_case_without_a_finished_patch_gives_its_outside_too(delivered: Folder) -> None:
    """With --accept_partial: nothing of the patch in b is done, and what lies beside it is."""
    delivered.put("a.nii.gz", delivered.values("a"))
    values = np.full((8, 8, 8), IGNORE, np.uint8)
    values[0] = 2
    delivered.put("b.nii.gz", values)
    labels = annotated(delivered, received_of(delivered))
    assert (labels.masks["b"][0] == 2).all() and (labels.masks["b"][1:] == IGNORE).all()


def frames(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    return cost_table(study), class_counts_table(study)


def test_tables_count_its_voxels_and_no_patch(tmp_path: Path) -> None:
    made = make_study(tmp_path, known_winner(seeds=(1,)))
    design = Design.read(made.folder / "design.json")
    trajectory = design.trajectories[0]
    plain = read_study(design, tmp_path / "metrics", tmp_path / "labels")
    for path in (tmp_path / "labels").rglob("*.h5"):
        labels = read_labels(path)
        first = labels.patches.query("cycle == 0 and foreground_voxels > 0").iloc[0]
        labels.patches = pd.concat(
            [labels.patches, pd.DataFrame([first.to_dict() | {"strategy": OUTSIDE, "score": float("nan")}])]
        ).astype(labels.patches.dtypes.to_dict())
        write_labels(path, labels)
    study = read_study(design, tmp_path / "metrics", tmp_path / "labels")
    before, after = (
        [frame[frame["trajectory"] == trajectory.id].reset_index(drop=True) for frame in frames(one)]
        for one in (plain, study)
    )
    first = plain.patches[trajectory.id].query("cycle == 0 and foreground_voxels > 0").iloc[0]
    for name in ("patches", "cases", "foreground_free_share"):
        assert [*after[0][name]] == [*before[0][name]]
    for name in ("voxels", "foreground_voxels"):
        assert [*after[0][name]] == [*(before[0][name] + first[name])]
    assert [*after[1]["patches"]] == [*before[1]["patches"]] and after[1]["voxels"].sum() > before[1]["voxels"].sum()
    row = study.patches[trajectory.id].query("strategy == @OUTSIDE")
    assert row["border_voxels"].tolist() == [0]  # all of its box is in a patch
    analyse(study, tmp_path / "tables", draws=10)
    assert not [note for note in study.notes if "were asked for" in note["text"]]


def test_a_budget_of_patches_does_not_count_it(delivered: Folder, tmp_path: Path) -> None:
    both_cases(delivered)
    labels_file = tmp_path / "labels.h5"
    write(labels_file, annotated(delivered, received_of(delivered)))
    (tmp_path / "n.json").write_text(json.dumps({"cycle": 0, "mean": {"foreground": {"dice": 0.5}}}))
    progress = progress_of(labels_file, delivered.query, [tmp_path / "n.json"])
    assert progress.patches == 3 and progress.voxels == 3 * 64 + 39


def test_bounding_box() -> None:
    mask = np.zeros((5, 6, 7), bool)
    mask[1, 2, 3] = mask[3, 2, 6] = True
    assert bounding_box(mask) == Box((1, 2, 3), (3, 1, 4))
