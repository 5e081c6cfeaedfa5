"""People in the loop, in parts: a pool without labels, the package, and measuring without a test set."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import annotator
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import tiny
from geometries import Drawn, drawn, patch_in, prepare_drawn
from hypothesis import given, settings

from nnactive_nf.annotate.run import annotate
from nnactive_nf.check.run import Settings as CheckSettings
from nnactive_nf.check.run import check
from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.demands import Demands
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.label_values import read_label_values
from nnactive_nf.core.labels import Labels, read_labels, write_labels
from nnactive_nf.core.query_table import QUERY_TYPES, write_query
from nnactive_nf.evaluate.cross_validation import cross_validate
from nnactive_nf.evaluate.measures import class_measures, overlap_measures
from nnactive_nf.hand_out.run import hand_out
from nnactive_nf.prepare.check import body_of
from nnactive_nf.prepare.run import Settings, prepare
from nnactive_nf.query import run as query_run

IGNORE = 255


@pytest.fixture(scope="module")
def folder(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`scans`, of whose 8 cases three have labels, and `prepared` with one of them as the test set; read only."""
    folder = tmp_path_factory.mktemp("people")
    annotator.strip(phantom, folder / "scans", ["phantom_001", "phantom_002", "phantom_008"])
    asked = Settings(
        "scans", "3d_fullres", 0.25, 1, None, None, folds=2, start_size=8, test_cases=("phantom_008",), people=True
    )
    prepare(folder / "scans", asked, 1, folder / "prepared", folder / "oracle.h5", folder / "reference.h5")
    return folder


def test_images_are_prepared_alike_with_and_without_labels(folder: Path, phantom: Path, tmp_path: Path) -> None:
    asked = Settings("scans", "3d_fullres", 0.25, 1, None, None, folds=2, start_size=8, test_cases=("phantom_008",))
    prepare(phantom, asked, 1, tmp_path / "prepared", tmp_path / "oracle.h5", tmp_path / "reference.h5")
    ours, theirs = Dataset.open(folder / "prepared"), Dataset.open(tmp_path / "prepared")
    pd.testing.assert_frame_equal(ours.cases, theirs.cases)
    for case in ours.pool:
        np.testing.assert_array_equal(ours.network_image(case), theirs.network_image(case))
        np.testing.assert_array_equal(ours.empty_mask(case), theirs.empty_mask(case))
    known = read_labels(folder / "oracle.h5", "oracle").masks
    whole = read_labels(tmp_path / "oracle.h5", "oracle").masks
    assert sorted(known) == ["phantom_001", "phantom_002"] and sorted(whole) == ours.pool
    for case, mask in known.items():
        np.testing.assert_array_equal(mask, whole[case])
    assert theirs.given_labels is None
    np.testing.assert_array_equal(
        read_labels(folder / "reference.h5", "reference").masks["phantom_008"],
        read_labels(tmp_path / "reference.h5", "reference").masks["phantom_008"],
    )


def test_labels_that_came_along_count_and_are_not_asked_for(folder: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(folder / "prepared")
    asked = query_run.Settings("coverage", seed=1, cycle=0, cycles=None, size=8, patch_zyx=(8, 16, 16), start=True)
    picks, _, _ = query_run.query(folder / "prepared", asked)
    assert {pick.case for pick in picks} <= set(dataset.pool) - {"phantom_001", "phantom_002"}
    write_query(tmp_path / "query.csv", query_run.as_table(picks))
    answers = {case: np.zeros(dataset.shapes[case], np.uint8) for case in {pick.case for pick in picks}}
    truth = Labels("scans", "n", -1, dataset.classes, answers)
    write_labels(tmp_path / "answers.h5", truth, "oracle")
    labels = annotate(
        dataset.folder, tmp_path / "answers.h5", tmp_path / "query.csv", strategy="coverage", node="n", cycle=0
    )
    known = read_labels(folder / "oracle.h5", "oracle").masks
    for case in ("phantom_001", "phantom_002"):
        np.testing.assert_array_equal(labels.masks[case], known[case])
    assert list(labels.patches["cycle"]) == [-1, -1] + [0] * 8
    assert list(labels.patches["strategy"][:2]) == ["given", "given"]


def demands() -> Demands:
    return Demands.of({
        "folds": 2, "start_size": 8, "query_size": 8, "patch_size": "8,16,16", "patches_per_image": 4,
        "start_strategy": "coverage", "strategies": ["bald"],
    })  # fmt: skip


def checked(folder: Path, out: Path, *, people: bool = True, held_out: tuple[str, ...] = ()) -> dict[str, int]:
    asked = CheckSettings(
        "scans", "3d_fullres", 0.25, None, None, None, None, "", (demands(),), test_cases=held_out,
        shown_test_cases="test.txt", people=people,
    )  # fmt: skip
    return check(folder / "scans", asked, out)


def test_a_pool_without_labels_passes_where_people_label(folder: Path, tmp_path: Path) -> None:
    assert checked(folder, tmp_path / "sizes.json")["cases"] == 8
    assert checked(folder, tmp_path / "sizes.json", held_out=("phantom_008",))["cases"] == 8
    with pytest.raises(UserError, match="labels are missing for 5 of 8 cases"):
        checked(folder, tmp_path / "sizes.json", people=False)
    with pytest.raises(UserError, match=r"--test_cases test.txt: test case phantom_007 has no labels \(1 such cases\)"):
        checked(folder, tmp_path / "sizes.json", held_out=("phantom_007", "phantom_008"))


def test_the_body_stands_for_the_foreground() -> None:
    image = np.array([[[[-1000, -400, -200, 0, 1000]]]], dtype=np.float32)
    assert body_of(image, ["CT"]).ravel().tolist() == [0, 0, 1, 1, 1]
    assert body_of(image, ["T1"]).ravel().tolist() == [1, 1, 1, 0, 1]
    both = body_of(np.concatenate([image, image * 0]), ["ct", "PET"])
    assert both.shape == (1, 1, 1, 5) and both.ravel().tolist() == [0, 0, 1, 1, 1]


@given(drawn())
@settings(max_examples=25)
def test_all_of_a_package_lies_where_the_patch_lies(case: Drawn) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        done = prepare_drawn(case, folder)
        (folder / "raw" / "imagesTr").mkdir(parents=True)
        for channel in range(3):
            shutil.copy(folder / f"a_{channel:04d}{case.ending}", folder / "raw" / "imagesTr")
        head = {"channel_names": {"0": "x", "1": "y", "2": "z"}, "labels": {"background": 0, "tumour": 7}}
        (folder / "raw" / "dataset.json").write_text(json.dumps(head | {"file_ending": case.ending}))
        box = patch_in(case, done.grid.shape_zyx)
        rows = [[1, "a", *box.start_zyx, *box.size_zyx, 0.5, "all"]]
        write_query(folder / "query.csv", pd.DataFrame(rows, columns=list(QUERY_TYPES)))
        write_query(folder / "reserve.csv", pd.DataFrame(rows, columns=list(QUERY_TYPES)))
        out = folder / "scans-main-s1" / "cycle_00"
        tasks = hand_out(
            folder, folder / "raw", folder / "query.csv", [], strategy="coverage", cycle=0, delivery="x", out=out,
            reserve_file=folder / "reserve.csv",
        )  # fmt: skip
        place = done.grid.label_box(box)
        assert list(tasks["patch"]) == [1, 2] and list(tasks["reserve"]) == ["", "reserve"]
        assert "1 patches in 1 images" in (out / "README.md").read_text()
        assert "takes its place: patch 2 of `tasks.csv`" in (out / "README.md").read_text()
        row = tasks.iloc[0]
        assert [row[f"first_{axis}"] for axis in "zyx"] == list(place.start_zyx)
        assert [row[f"last_{axis}"] + 1 for axis in "zyx"] == list(place.stop_zyx)
        inside = np.zeros(done.grid.file_shape_zyx, dtype=bool)
        inside[place.slices] = True
        start, frame = (sitk.ReadImage(str(out / kind / "a.nii.gz")) for kind in ("start", "outlines"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(start), np.where(inside, 0, IGNORE))
        frames = sitk.GetArrayFromImage(frame)
        core = inside.copy()
        core[tuple(slice(a + 1, b - 1) for a, b in zip(place.start_zyx, place.stop_zyx, strict=True))] = False
        np.testing.assert_array_equal(frames, np.where(core, 2, 0))
        for image in (start, frame, sitk.ReadImage(str(out / "images" / f"a_0002{case.ending}"))):
            np.testing.assert_allclose(image.GetOrigin(), case.image.GetOrigin(), atol=1e-4)
            np.testing.assert_allclose(image.GetDirection(), case.image.GetDirection(), atol=1e-5)
        region, _ = json.loads((out / "rois" / "a.mrk.json").read_text())["markups"]
        np.testing.assert_allclose(region["center"], [row[f"centre_{axis}_mm"] for axis in "xyz"], atol=1e-3)
        assert read_label_values(out / "labels.json")[0].values == (0, 7)
        assert "index.html" in (out / "README.md").read_text() and (out / "index.html").exists()


def test_folds_are_measured_on_what_they_were_not_trained_on(tmp_path: Path) -> None:
    shapes = {"a": (8, 16, 16), "b": (8, 16, 16), "c": (8, 16, 16)}
    dataset = tiny.prepared(tmp_path / "prepared", shapes)
    rng = np.random.default_rng(0)
    boxes = {"a": Box((0, 0, 0), (8, 8, 8)), "b": Box((0, 8, 8), (8, 8, 8)), "c": Box((0, 0, 8), (8, 8, 8))}
    masks = {case: np.full(shape, IGNORE, np.uint8) for case, shape in shapes.items()}
    rows = []
    for case, box in boxes.items():
        masks[case][box.slices] = rng.choice([0, 2, 7], box.size_zyx)
        masks[case][box.start_zyx] = IGNORE  # people differ in it
        masks[case][0, 15, 0] = 2  # free background's like: labelled, and in no patch
        rows.append([0, case, *box.start_zyx, *box.size_zyx, 1.0, "x", "all", box.voxels, 1, 1, 1, 1])
    columns = Labels("tiny", "n", 0, dataset.classes).patches.columns
    patches = pd.DataFrame(rows, columns=columns)
    write_labels(tmp_path / "labels.h5", Labels("tiny", "n", 0, dataset.classes, masks, patches))
    folds = [tmp_path / "fold_0", tmp_path / "fold_1"]
    for fold, path in zip(folds, tiny.checkpoints(tmp_path, dataset, 2, patch=(8, 16, 16), features=4), strict=True):
        fold.mkdir()
        path.rename(fold / "checkpoint.pth")
    for fold, (train, val) in zip(folds, [(["b", "c"], ["a"]), (["a"], ["b", "c"])], strict=True):
        (fold / "training.json").write_text(json.dumps({"train_cases": train, "val_cases": val}))
    ids = {"node": "n", "dataset": "tiny", "regime": "main", "seed": 1, "cycle": 0, "strategy": None}
    cross_validate(dataset.folder, tmp_path / "labels.h5", folds, ids, 0.5, False, "cpu", 1, tmp_path / "metrics.json")
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert found["measured_by"] == "cross-validation"
    assert [(row["case"], row["fold"]) for row in found["cases"]] == [("a", 0), ("b", 1), ("c", 1)]
    for row in found["cases"]:
        for name, value in (("head", 2), ("tail", 7)):
            wanted = int((masks[row["case"]][boxes[row["case"]].slices] == value).sum())
            assert row["classes"][name]["reference_voxels"] == wanted
            assert row["classes"][name]["nsd"] is None
        predicted = sum(row["classes"][name]["predicted_voxels"] for name in ("head", "tail"))
        assert predicted <= 8**3 - 1
    assert found["calibration"]["ece"] is not None
    assert sum(row["voxels"] for row in found["calibration"]["bins"]) == 3 * (8**3 - 1)

    # A fold that had to see all that is labelled has nothing to be measured on.
    (folds[1] / "training.json").write_text(json.dumps({"train_cases": ["a", "b"], "val_cases": ["a", "b"]}))
    cross_validate(dataset.folder, tmp_path / "labels.h5", folds, ids, 0.5, False, "cpu", 1, tmp_path / "metrics.json")
    assert [row["case"] for row in json.loads((tmp_path / "metrics.json").read_text())["cases"]] == ["a"]


def test_overlap_is_measured_as_in_whole_images() -> None:
    rng = np.random.default_rng(1)
    for predicted, reference in [(0.5, 0.5), (0.0, 0.5), (0.5, 0.0), (0.0, 0.0)]:
        a, b = (rng.random((4, 5, 6)) < share for share in (predicted, reference))
        whole, found = class_measures(a, b, (1, 1, 1), 1), overlap_measures(a.ravel(), b.ravel())
        assert found["nsd"] is found["hd95_mm"] is None
        for name in whole.keys() - {"nsd", "hd95_mm"}:
            assert found[name] == pytest.approx(whole[name]) if whole[name] is not None else found[name] is None
