"""Labels that come along in part: nnU-Net's ignore label in the files of a pool that people label."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import annotator
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

from nnactive_nf.analyse.study import border_voxels
from nnactive_nf.annotate.run import annotate
from nnactive_nf.check.run import Settings as CheckSettings
from nnactive_nf.check.run import check
from nnactive_nf.core.classes import Classes
from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.label_grid import resampled_in_part
from nnactive_nf.core.labels import Labels, in_part, patch_counts, read_labels, write_labels
from nnactive_nf.core.query_table import write_query
from nnactive_nf.core.raw import list_raw
from nnactive_nf.evaluate.cross_validation import cross_validate
from nnactive_nf.hand_out.run import hand_out
from nnactive_nf.phantom.folder import write_phantom
from nnactive_nf.prepare.run import Settings, prepare
from nnactive_nf.query import run as query_run

IGNORE = 255
WHOLE, HALF, SCATTERED, NOTHING, TEST = (f"phantom_00{number}" for number in (1, 2, 3, 4, 8))


def with_ignore(folder: Path, value: int, case: str, ignored: Callable[[np.ndarray], Any]) -> None:
    """Take labels away from a case: the ignore value stands where `ignored` says of the indices [3, z, y, x]."""
    path = folder / "labelsTr" / f"{case}.nii.gz"
    image = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(image).astype(np.uint16)
    values[ignored(np.indices(values.shape))] = value
    changed = sitk.GetImageFromArray(values)
    changed.CopyInformation(image)
    sitk.WriteImage(changed, str(path), True)


def declare(folder: Path, value: Any) -> int:
    """Name the ignore value in dataset.json: None for the one above all others."""
    head = json.loads((folder / "dataset.json").read_text())
    found = [one for entry in head["labels"].values() for one in (entry if isinstance(entry, list) else [entry])]
    head["labels"]["ignore"] = max(found) + 1 if value is None else value
    (folder / "dataset.json").write_text(json.dumps(head))
    return max(found) + 1


ASKED = Settings("scans", "3d_fullres", 0.25, 1, None, None, folds=2, start_size=8, test_cases=(TEST,), people=True)


def made(folder: Path, variant: str) -> Path:
    """`truth` and `scans`, with a case of each kind, the others without label files; both prepared; read only."""
    write_phantom(folder / "truth", seed=1, cases=8, variant=variant)
    annotator.strip(folder / "truth", folder / "scans", [WHOLE, HALF, SCATTERED, NOTHING, TEST])
    value = declare(folder / "scans", None)
    with_ignore(folder / "scans", value, HALF, lambda index: index[1] >= 24)
    with_ignore(folder / "scans", value, SCATTERED, lambda index: (index[0] % 4 > 0) | (index[2] < 8))
    with_ignore(folder / "scans", value, NOTHING, lambda index: index[0] >= 0)
    prepare(folder / "scans", ASKED, 1, folder / "prepared", folder / "oracle.h5", folder / "reference.h5")
    prepare(folder / "truth", ASKED, 1, folder / "all", folder / "all.h5", folder / "all_reference.h5")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("part"), "mri")


def labels_of(folder: Path) -> Labels:
    return read_labels(folder / "prepared" / "given.h5")


@pytest.mark.parametrize("variant", ["mri", "regions"])
def test_what_is_labelled_counts_and_the_rest_is_open(
    folder: Path, tmp_path: Path, variant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = folder if variant == "mri" else made(tmp_path, variant)
    told = capsys.readouterr().out
    assert variant == "mri" or ("2 cases are labelled in part, " in told and "of 4 cases" in told)
    dataset, whole, truth = (
        Dataset.open(found / "prepared"),
        Dataset.open(found / "all"),
        read_labels(found / "all.h5", "oracle").masks,
    )
    assert "ignore" not in dataset.classes.named and dataset.classes == whole.classes
    for case in dataset.pool:
        np.testing.assert_array_equal(dataset.network_image(case), whole.network_image(case))
        np.testing.assert_array_equal(dataset.empty_mask(case), whole.empty_mask(case))
    labels = labels_of(found)
    assert sorted(labels.masks) == [WHOLE, HALF, SCATTERED]  # of NOTHING no voxel has a label
    assert sorted(read_labels(found / "oracle.h5", "oracle").masks) == [WHOLE]  # the others are no whole masks
    np.testing.assert_array_equal(labels.masks[WHOLE], truth[WHOLE])
    for case in (HALF, SCATTERED):
        known = labels.masks[case] != IGNORE
        assert 0.1 < known.mean() < 0.6
        np.testing.assert_array_equal(labels.masks[case][known], truth[case][known])
    rows = labels.patches.set_index("case")
    assert list(rows.index) == [WHOLE, HALF, SCATTERED] and set(rows["cycle"]) == {-1}
    for case, row in rows.iterrows():
        known = labels.masks[str(case)] != IGNORE
        box = tuple(slice(row[axis], row[axis] + row[f"d{axis}"]) for axis in "zyx")
        assert row["voxels"] == known.sum() == known[box].sum()
        assert row["foreground_voxels"] == (known & (labels.masks[str(case)] != 0)).sum()
        for name in dataset.classes.named:
            assert row[f"voxels_{name}"] == dataset.classes.mask_of(labels.masks[str(case)], name).sum()
    # Half a case is a box like a patch, labelled in all of its voxels; a scattered one is none.
    assert list(in_part(labels.patches)) == [False, False, True]
    assert [len(labels.boxes(case)) for case in (WHOLE, HALF, SCATTERED)] == [1, 1, 0]


def resampling(source: tuple[int, ...], target: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    """nnU-Net's resampling of labels."""
    spacing = [1.0, 1.0, 1.0]
    new = [a / b for a, b in zip(source, target, strict=True)]
    return lambda labels: resample_data_or_seg_to_shape(labels[None], target, spacing, new, True, 1, 0, False)[0]


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(3, 7)] * 3), st.sampled_from([0.0, 0.2, 0.7, 1.0]))
@settings(max_examples=60)
def test_a_label_stands_whatever_the_ignored_voxels_hold(seed: int, target: tuple[int, ...], share: float) -> None:
    rng = np.random.default_rng(seed)
    classes = Classes(("background", "a", "b"), (0, 2, 7))
    truth = rng.choice(np.array([0, 2, 7], np.uint8), (5, 6, 5))
    ignored = rng.random(truth.shape) < share
    on_grid = resampling(truth.shape, target)
    found = resampled_in_part(np.where(ignored, IGNORE, truth), classes, on_grid)
    known = found != IGNORE
    assert known.any() if share == 0 else known.mean() < 1
    for fill in ([0, 2, 7], [0], [2], [7]):
        filled = np.where(ignored, rng.choice(np.array(fill, np.uint8), truth.shape), truth)
        np.testing.assert_array_equal(found[known], classes.to_value(on_grid(classes.to_index(filled)))[known])


def test_what_is_labelled_costs_nobody_time_again(folder: Path) -> None:
    asked = query_run.Settings(
        "random", seed=1, cycle=0, cycles=None, size=24, patch_zyx=(8, 16, 16), per_image=6, start=True
    )
    picks, pool, _ = query_run.query(folder / "prepared", asked)
    known = {case: mask != IGNORE for case, mask in labels_of(folder).masks.items()}
    open_patches = [pick for pick in picks if pick.case == SCATTERED]
    assert open_patches and not any(pick.case == WHOLE for pick in picks)
    for pick in picks:
        if pick.case in known:
            share = known[pick.case][pick.box.slices].mean()
            assert share <= 0.4 if pick.case == SCATTERED else share == 0
    free = pool.image(SCATTERED).free
    assert free is not None
    np.testing.assert_array_equal(free, pool.dataset.empty_mask(SCATTERED) | known[SCATTERED])


def answered(folder: Path, out: Path, box: Box, free_background: bool = False) -> Labels:
    dataset = Dataset.open(folder / "prepared")
    pick = query_run.Candidate(SCATTERED, box, 1.0)
    write_query(out / "query.csv", query_run.as_table([pick]))
    truth = {SCATTERED: np.full(dataset.shapes[SCATTERED], 2, np.uint8)}
    write_labels(out / "answers.h5", Labels("scans", "n", -1, dataset.classes, truth), "oracle")
    return annotate(
        dataset.folder, out / "answers.h5", out / "query.csv", strategy="random", node="n", cycle=0,
        free_background=free_background,
    )  # fmt: skip


def test_patches_are_added_to_what_came_along(folder: Path, tmp_path: Path) -> None:
    box, before = Box((4, 8, 8), (8, 16, 16)), labels_of(folder).masks[SCATTERED]
    labels = answered(folder, tmp_path, box)
    mask = labels.masks[SCATTERED].copy()
    assert (mask[box.slices] == 2).all() and labels.boxes(SCATTERED) == [box]
    mask[box.slices] = before[box.slices]
    np.testing.assert_array_equal(mask, before)
    write_labels(tmp_path / "labels.h5", labels)
    asked = query_run.Settings("random", seed=1, cycle=1, cycles=None, size=20, patch_zyx=(8, 16, 16), per_image=6)
    picks, _, _ = query_run.query(folder / "prepared", asked, labels_file=tmp_path / "labels.h5")
    assert not any((labels.masks[SCATTERED][p.box.slices] == 2).all() for p in picks if p.case == SCATTERED)
    empty = Dataset.open(folder / "prepared").empty_mask(SCATTERED)
    free = answered(folder, tmp_path, box, free_background=True).masks[SCATTERED]
    assert (free[empty & (before == IGNORE)] == 0).all() or not empty.any()
    np.testing.assert_array_equal(free[~empty], labels.masks[SCATTERED][~empty])


def test_people_start_from_what_is_labelled(folder: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(folder / "prepared")
    box = Box((4, 8, 8), (8, 16, 16))
    write_query(tmp_path / "query.csv", query_run.as_table([query_run.Candidate(SCATTERED, box, 1.0)]))
    out = tmp_path / "package" / "cycle_00"
    hand_out(
        dataset.folder, folder / "scans", tmp_path / "query.csv", [], strategy="random", cycle=0, delivery="x", out=out
    )
    start = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "start" / f"{SCATTERED}.nii.gz")))
    given_values = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "scans/labelsTr" / f"{SCATTERED}.nii.gz")))
    place = dataset.grids[SCATTERED].label_box(box).slices
    ours, theirs = start[place], given_values[place]
    assert 0 < (theirs == 4).mean() < 1 and (theirs == 1).any()
    np.testing.assert_array_equal(ours, np.where(theirs == 4, 0, theirs))
    start[place] = IGNORE
    assert (start == IGNORE).all()


def test_folds_are_measured_on_labelled_voxels_alone(tmp_path: Path) -> None:
    dataset = tiny.prepared(tmp_path / "prepared", {"a": (8, 16, 16), "b": (8, 16, 16)})
    rng = np.random.default_rng(0)
    masks = {case: rng.choice(np.array([0, 2, 7], np.uint8), shape) for case, shape in dataset.shapes.items()}
    masks["a"][::2] = IGNORE
    rows = []
    for case, mask in masks.items():
        box = Box((1, 0, 0), (7, 16, 16)) if case == "a" else Box((0, 0, 0), (8, 16, 16))
        told = {"cycle": -1, "case": case, "score": 0.0, "strategy": "given", "component": "all"}
        rows.append(patch_counts(mask[box.slices], box, dataset.classes) | told)
    assert rows[0]["voxels"] == 4 * 16 * 16
    labels = Labels(
        "tiny", "n", 0, dataset.classes, masks, pd.DataFrame(rows)[list(Labels("t", "n", 0, dataset.classes).patches)]
    )
    write_labels(tmp_path / "labels.h5", labels)
    folds = [tmp_path / "fold_0", tmp_path / "fold_1"]
    for fold, path in zip(folds, tiny.checkpoints(tmp_path, dataset, 2, patch=(8, 16, 16), features=4), strict=True):
        fold.mkdir()
        path.rename(fold / "checkpoint.pth")
    for fold, (train, val) in zip(folds, [("b", "a"), ("a", "b")], strict=True):
        (fold / "training.json").write_text(json.dumps({"train_cases": [train], "val_cases": [val]}))
    ids = {"node": "n", "dataset": "tiny", "regime": "main", "seed": 1, "cycle": 0, "strategy": None}
    cross_validate(dataset.folder, tmp_path / "labels.h5", folds, ids, 0.5, False, "cpu", 1, tmp_path / "metrics.json")
    case = json.loads((tmp_path / "metrics.json").read_text())["cases"][0]
    assert case["classes"]["head"]["reference_voxels"] == (masks["a"][1:] == 2).sum()
    seen = sum(case["classes"][name]["predicted_voxels"] for name in ("head", "tail"))
    assert seen <= rows[0]["voxels"]


def test_a_contour_is_no_place_where_labels_end() -> None:
    mask = np.array([[[1, 1, IGNORE, 1, 0, IGNORE]]], np.uint8)
    assert border_voxels(mask, [1], IGNORE) == 1 and border_voxels(mask, [1]) == 2


@pytest.mark.parametrize(
    ("value", "line"),
    [
        (2, "'ignore' is 2; one value above all classes' (3 is their highest) is wanted"),
        ([4], r"'ignore' is [4]; one value above all classes'"),
        ("x", "value of class 'ignore' is 'x', not a whole number"),
    ],
)
def test_the_ignore_value_is_the_highest(phantom: Path, tmp_path: Path, value: Any, line: str) -> None:
    annotator.strip(phantom, tmp_path / "scans", [WHOLE])
    declare(tmp_path / "scans", value)
    with pytest.raises(UserError) as error:
        list_raw(tmp_path / "scans", people=True)
    assert error.value.lines == [f"{tmp_path}/scans/dataset.json: {line}"] or line in str(error.value)


def test_a_study_and_a_test_set_want_whole_labels(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="for --oracle people; a study wants whole labels"):
        list_raw(folder / "scans", people=False)
    assert list_raw(folder / "scans", people=True).ignore == 4
    asked = Settings(
        "scans", "3d_fullres", 0.25, 1, None, None, folds=2, start_size=8, test_cases=(HALF, NOTHING), people=True
    )
    with pytest.raises(UserError, match=f"test case {HALF} holds voxels without a label .2 such cases.;"):
        prepare(folder / "scans", asked, 1, tmp_path / "p", tmp_path / "o.h5", tmp_path / "r.h5")


def test_check_counts_label_files(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = CheckSettings("scans", "3d_fullres", 0.25, None, None, None, None, "", (), people=True)
    check(folder / "scans", asked, tmp_path / "sizes.json")
    assert "5 of 8 cases have labels; voxels of 4 in them have none ('ignore')" in capsys.readouterr().out
