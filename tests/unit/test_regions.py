"""Regions, from `dataset.json` to tables: the order of channels, and all that must not sum over what overlaps."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import problems
import pytest
import SimpleITK as sitk
import tiny
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from plan import make_row, write_plan

from nnactive_nf.analyse.study import Study, _read_pool
from nnactive_nf.annotate.run import annotate
from nnactive_nf.check.sizes import sizes
from nnactive_nf.core.classes import Classes
from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.design import Design
from nnactive_nf.core.ensemble import Ensemble, probability_in_place
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.grid import CaseGrid
from nnactive_nf.core.heads import read_head
from nnactive_nf.core.labels import Labels, read_labels, write_labels
from nnactive_nf.core.nnunet import load_fold
from nnactive_nf.core.plans import check_nnunet_json, heads_of
from nnactive_nf.core.query_table import write_query
from nnactive_nf.core.raw import RawDataset, list_raw
from nnactive_nf.evaluate.measures import Calibration
from nnactive_nf.evaluate.run import add_calibration
from nnactive_nf.export.maps import write_maps
from nnactive_nf.export.model import write_model
from nnactive_nf.forecast.images import Images, images_of
from nnactive_nf.forecast.plan import read_plan
from nnactive_nf.phantom.folder import write_phantom
from nnactive_nf.predict.entropy import EnsembleAccumulator, predictive_entropy
from nnactive_nf.prepare.run import Settings as PrepareSettings
from nnactive_nf.prepare.run import _write_dataset
from nnactive_nf.prepare.split import class_table
from nnactive_nf.query.randomly import guaranteed
from nnactive_nf.report.gallery import Query, label_names
from nnactive_nf.train.data import write_training_folder
from nnactive_nf.train.store import Given, TrainingStore

CLASSES = problems.REGIONS  # whole [2, 5, 7], core [5, 7], active 7
SHAPES = {"a": (6, 8, 9), "b": (7, 7, 7), "t": (5, 5, 5)}
# The same regions with other channels. As mappings their labels are equal, and so is what is painted.
PARTS = {"middle": 2, "end": 5, "start": 7}
STRAIGHT = Classes.of({"background": 0, "lower": [2, 5], "upper": [2, 7], **PARTS}, order=[2, 2, 2, 5, 7])
SWAPPED = Classes.of({"background": 0, "upper": [2, 7], "lower": [2, 5], **PARTS}, order=[2, 2, 2, 5, 7])


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return tiny.prepared(tmp_path / "prepared", SHAPES, test=["t"], classes=CLASSES)


def truth_of(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).choice(CLASSES.values, p=[0.7, 0.1, 0.1, 0.1], size=shape).astype(np.uint8)


# ---- what is read --------------------------------------------------------------------------------------------------


def raw_folder(folder: Path, **head: Any) -> Path:
    for name in ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    whole = {"channel_names": {"0": "MRI"}, "file_ending": ".nii.gz", **head}
    (folder / "dataset.json").write_text(json.dumps(whole))
    return folder


def test_regions_are_read_in_the_order_of_the_file(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [7, 2, 5], "core": [5, 7], "active": "7"}
    raw = list_raw(raw_folder(tmp_path, labels=labels, regions_class_order=[2, 5, 7]))
    assert raw.classes == CLASSES
    told = raw.nnunet_json
    assert [*told["labels"].items()] == [("background", 0), ("whole", [1, 2, 3]), ("core", [2, 3]), ("active", 3)]
    assert told["regions_class_order"] == [1, 2, 3]


def test_a_list_of_one_is_no_region(tmp_path: Path) -> None:
    raw = list_raw(raw_folder(tmp_path, labels={"background": 0, "b": [5], "a": [2]}))
    assert raw.classes == Classes(("background", "a", "b"), (0, 2, 5))
    assert "regions_class_order" not in raw.nnunet_json


@pytest.mark.parametrize(
    ("core", "order", "message"),
    [
        ([], [2, 7], "class 'core' is an empty list"),
        ([5, "7"], [2, 5], "class 'core' holds '7', not a whole number"),
        ([0, 5], [2, 5], "class 'core' holds 0 in a list"),
        ([5, 7], None, "'regions_class_order' wants a label value for each of the 2 regions"),
        ([5, 7], [5, 2], "'regions_class_order' paints region 'core' with 2, not in it"),
        ([5, 7], [5, 7], "'regions_class_order' paints voxels of 2 with 5 in the end, by which region 'core' is wrong"),
    ],
)
def test_what_is_no_region_is_told_in_one_line(core: list[Any], order: Any, message: str, tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [2, 5, 7], "core": core}
    with pytest.raises(UserError) as caught:
        list_raw(raw_folder(tmp_path, labels=labels, regions_class_order=order))
    assert caught.value.lines[0].startswith(f"{tmp_path}/dataset.json: {message}") and len(caught.value.lines) == 1


def test_sizes_count_a_networks_outputs_and_the_start_counts_regions(tmp_path: Path) -> None:
    write_phantom(tmp_path / "raw", seed=1, cases=4, variant="regions")
    raw = list_raw(tmp_path / "raw")
    heads = {case.name: read_head(case.images[0], raw.reader) for case in raw.cases}
    told = sizes(raw, heads, {case.name: case.name for case in raw.cases}, "3d_fullres", 0.25)
    assert (told["channels"], told["classes"]) == (2, 2)
    row = read_plan(write_plan(tmp_path / "plan.json", [make_row("random", source="phantom", phantom_cases=4)]))[0].row
    images = images_of(row, tmp_path / "raw")
    assert isinstance(images, Images) and (images.classes, images.targets) == (2, 2)
    labels = {"background": 0, "organ": 2, "lesion": 5}
    (tmp_path / "raw" / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "T1", "1": "T2"}, "labels": labels, "file_ending": ".nii.gz"})
    )
    images = images_of(row, tmp_path / "raw")
    assert isinstance(images, Images) and (images.classes, images.targets) == (3, 2)


# ---- files between the stages --------------------------------------------------------------------------------------


def test_label_masks_know_their_regions(tmp_path: Path) -> None:
    labels = Labels("tiny", "n", 0, CLASSES, {"a": truth_of(SHAPES["a"])})
    write_labels(tmp_path / "l.h5", labels)
    assert read_labels(tmp_path / "l.h5").classes == CLASSES
    assert [name for name in labels.patches if name.startswith("voxels_")] == [
        "voxels_background", "voxels_whole", "voxels_core", "voxels_active",
    ]  # fmt: skip


def test_digests_count_the_order_of_regions_and_are_the_old_ones_without_them() -> None:
    digests = {replace(Labels("x", "n", 0, CLASSES), classes=one).digest() for one in (CLASSES, STRAIGHT, SWAPPED)}
    assert len(digests) == 3
    plain = Labels("x", "n", 0, tiny.CLASSES).digest()
    assert plain == hashlib.sha256(b'[["background", "head", "tail"], [0, 2, 7]]').hexdigest()


def test_a_prepared_data_set_says_its_regions_and_counts_their_order(tmp_path: Path) -> None:
    found = {}
    for name, classes in (("straight", STRAIGHT), ("swapped", SWAPPED), ("plain", tiny.CLASSES)):
        raw = RawDataset(Path(), classes, ("MRI",), ".nii.gz", SimpleITKIO, ())
        settings = PrepareSettings("x", "3d_fullres", 0.25, 1, None, None, folds=2, start_size=8)
        (tmp_path / name).mkdir()
        _write_dataset(tmp_path / name, raw, settings, {}, [])
        found[name] = json.loads((tmp_path / name / "dataset.json").read_text())
        told = json.loads((tmp_path / name / "nnunet_dataset.json").read_text())
        assert [*told["labels"].items()] == [*classes.for_nnunet(ignore=True)["labels"].items()]
        again = Classes.read(
            found[name]["class_names"], found[name]["class_values"], "", found[name].get("regions", [])
        )
        assert again == classes
    assert found["straight"]["digest"] != found["swapped"]["digest"]
    # Without regions it is the digest of plans, nnU-Net's file and images, as it was before there were any.
    content = {"plans": {}, "nnunet": told, "images": {}}
    assert found["plain"]["digest"] == hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    assert "regions" not in found["plain"]


def nnunet_json(**changes: Any) -> dict[str, Any]:
    return {"channel_names": {"0": "image"}, **CLASSES.for_nnunet(ignore=True), **changes}


def test_a_checked_dataset_json_tells_the_heads() -> None:
    check_nnunet_json(nnunet_json(), "file")
    assert heads_of(nnunet_json()) == 3
    assert heads_of({"labels": tiny.CLASSES.for_nnunet(ignore=True)["labels"]}) == 3


LABELS = nnunet_json()["labels"]


@pytest.mark.parametrize(
    "changes",
    [
        {"regions_class_order": None}, {"regions_class_order": [1, 2]}, {"regions_class_order": [3, 2, 1]},
        {"regions_class_order": [1, 2, "3"]},
        {"labels": {**LABELS, "core": [3, 2]}}, {"labels": {**LABELS, "core": [2, 4]}},
        {"labels": {**LABELS, "core": [2]}}, {"labels": {**LABELS, "core": [[2], 3]}},
        {"labels": {**LABELS, "core": []}}, {"labels": {**LABELS, "core": [2, 2.0]}},
        {"labels": {**LABELS, "active": [3]}}, {"labels": {**LABELS, "ignore": 5}},
        {"labels": {**LABELS, "ignore": 4.0}}, {"labels": {**LABELS, "ignore": [4]}},
        {"labels": {**LABELS, "background": [0]}}, {"labels": {**LABELS, "background": False}},
        {"labels": {name: value for name, value in LABELS.items() if name != "ignore"}},
        {"labels": dict(reversed(LABELS.items()))},
        {"labels": {"background": 0, "a": [1], "ignore": 2}, "regions_class_order": None},
        {"labels": {"background": 0, "a": 1, "ignore": 2}},
    ],
)  # fmt: skip
def test_what_is_no_dataset_json_with_regions_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        check_nnunet_json(nnunet_json(**changes), "file")
    assert str(caught.value).startswith("file: ") and len(caught.value.lines) == 1


def test_folds_of_other_channels_are_no_folds_of_this_data_set(tmp_path: Path) -> None:
    sets = {
        name: tiny.prepared(tmp_path / name, SHAPES, test=["t"], classes=classes)
        for name, classes in (("straight", STRAIGHT), ("swapped", SWAPPED))
    }
    ours, theirs = (
        tiny.checkpoints(tmp_path / f"folds {name}", one, 2, patch=(4, 4, 4), features=2) for name, one in sets.items()
    )
    assert sets["straight"].nnunet_json == sets["swapped"].nnunet_json
    cpu = torch.device("cpu")
    Ensemble(ours, cpu, 0.5, False).check_fits(sets["straight"])
    with pytest.raises(UserError, match="other labels, or in another order"):
        Ensemble(theirs, cpu, 0.5, False).check_fits(sets["straight"])
    with pytest.raises(UserError, match=r"was trained on the classes \['background', 'upper', 'lower', .*\], not"):
        write_model(tmp_path / "model", theirs, STRAIGHT, "x", 0.5, True)
    with pytest.raises(UserError, match="other plans or classes than"):
        Ensemble([ours[0], theirs[1]], cpu, 0.5, False)
    with pytest.raises(UserError, match="other plans or classes than the first fold"):
        write_model(tmp_path / "model", [ours[0], theirs[1]], STRAIGHT, "x", 0.5, True)
    fold = replace(load_fold(theirs[0]), digest="abc")
    place = TrainingStore(tmp_path / "store", "abc")
    for asked, known in ((ours, False), (theirs, True)):
        place.finish(fold, {})
        assert place.finished(Given(fold.plans, fold.configuration, load_fold(asked[0]).nnunet_json)) == known


def test_a_product_has_the_channels_in_their_order(dataset: Dataset, tmp_path: Path) -> None:
    folds = tiny.checkpoints(tmp_path / "folds", dataset, 1, patch=(4, 4, 4), features=2)
    write_model(tmp_path / "model", folds, CLASSES, "x", 0.5, True)
    told = json.loads((tmp_path / "model" / "dataset.json").read_text())
    assert [*told["labels"]] == ["background", "whole", "core", "active", "ignore"]
    assert "| label 5 (in whole, core) | 2 | 5 |" in (tmp_path / "model" / "predict.md").read_text()


# ---- trainings and maps --------------------------------------------------------------------------------------------


def test_trainings_look_for_patches_by_region(dataset: Dataset, tmp_path: Path) -> None:
    mask = np.full(SHAPES["a"], CLASSES.ignore_value, np.uint8)
    mask[:2], mask[0, 0, :3] = 0, (2, 5, 7)
    empty = np.zeros(SHAPES["b"], np.uint8)
    labels = Labels("tiny", "n", 0, CLASSES, {"a": mask, "b": empty})
    assert write_training_folder(tmp_path, dataset, labels, (4, 4, 4)) == {"a": [0, 1, 2, 3], "b": [0]}
    *_, properties = nnUNetDatasetBlosc2(str(tmp_path), ["a", "b"]).load_case("a")
    voxels = {key: sorted(int(v[3]) for v in found) for key, found in properties["class_locations"].items()}
    assert [*voxels] == [(1, 2, 3), (2, 3), 3, (-1, 0, 1, 2, 3)]
    assert (voxels[1, 2, 3], voxels[2, 3], voxels[3]) == ([0, 1, 2], [1, 2], [2])
    assert len(voxels[-1, 0, 1, 2, 3]) == (mask != CLASSES.ignore_value).sum()


def test_probabilities_of_regions_are_each_ones_own(dataset: Dataset, tmp_path: Path) -> None:
    logits = torch.linspace(-9, 9, 3 * 2 * 3 * 4).reshape(3, 2, 3, 4)
    found = logits.clone()
    probability_in_place(found, regions=True)
    torch.testing.assert_close(found, 1 / (1 + torch.exp(-logits)))
    folds = tiny.checkpoints(tmp_path / "folds", dataset, 1, patch=(4, 4, 4), features=2)
    ensemble = Ensemble(folds, torch.device("cpu"), 0.5, False)
    assert ensemble.regions and ensemble.channels == 3
    of_image = ensemble.probabilities(0, dataset.network_image("a"))
    assert of_image.shape == (3, *SHAPES["a"]) and (of_image.sum(dim=0) - 1).abs().max() > 0.1


def test_entropies_of_regions_equal_the_plain_loops() -> None:
    folds = tiny.probabilities(np.random.default_rng(1), 3, 4, (2, 3, 5), regions=True).astype(np.float32)
    folds[:, :, 0], folds[:, 0, 1] = 0.0, 1.0  # certain: 0 log 0 must be 0
    accumulator = EnsembleAccumulator(slab_voxels=7, regions=True)
    for fold in folds:
        accumulator.add(torch.from_numpy(fold))
    mean, expected = accumulator.finish()
    predictive = predictive_entropy(mean, 7, regions=True).numpy()

    def plain(p: np.ndarray) -> float:
        return sum(-q * np.log(q) for r in p for q in (float(r), 1 - float(r)) if q > 0) / len(p)

    for voxel in np.ndindex(2, 3, 5):
        of_folds = [plain(folds[(m, slice(None), *voxel)]) for m in range(3)]
        assert expected.numpy()[voxel] == pytest.approx(sum(of_folds) / 3, abs=1e-5)
        assert predictive[voxel] == pytest.approx(plain(folds[(slice(None), slice(None), *voxel)].mean(0)), abs=1e-5)
    assert (predictive >= expected.numpy() - 1e-6).all() and predictive.max() <= np.log(2) + 1e-6
    assert predictive[0].max() == 0


def test_maps_of_regions_as_files(dataset: Dataset, tmp_path: Path) -> None:
    shape = (4, 5, 6)
    grid = CaseGrid(shape, Box((1, 0, 2), (4, 5, 6)), (6, 5, 9), (1.0, 1.0, 1.0))
    maps = tiny.maps_of(np.random.default_rng(1), 2, 3, shape, regions=True)
    maps["mean_probability"][:] = 0.75
    path = tiny.uncertainty(
        tmp_path / "u.h5", dataset, {"a": {name: maps[name] for name in ("mean_probability", "prediction")}}
    )
    assert write_maps(tmp_path / "maps", [path], {"a": grid}, CLASSES) == 4
    for place in range(3):
        file = tmp_path / "maps" / f"a_mean_probability_{place}.nii.gz"
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        assert found[grid.crop.slices].min() == 0.75
        assert found.sum() == 0.75 * 4 * 5 * 6  # outside, no region is there
    with pytest.raises(UserError, match="is of 3 classes, the data set has 4"):
        write_maps(tmp_path / "other", [path], {"a": grid}, tiny.classes(4))


# ---- what is chosen, counted and measured --------------------------------------------------------------------------


def test_the_start_holds_each_region_twice(tmp_path: Path) -> None:
    made = problems.problem(3, "flat", "", longest=6, size=9, patch=(1, 1, 1), per_image=9, **problems.OF_REGIONS)
    for case in made.cases.values():
        case.shape, case.boxes, case.free = (4, 4, 4), [], None
        case.truth = np.zeros((4, 4, 4), np.uint8)
        case.truth[0, 0, :3] = 2, 5, 7
    pool, _ = problems.pool_of(made, "random_fg33", tmp_path)
    picks = guaranteed(pool, 8)
    assert sorted(pick.component for pick in picks) == sorted(2 * ["background", "whole", "core", "active"])
    for pick in picks:
        assert made.cases[pick.case].truth[pick.box.slices].item() in CLASSES.named[pick.component]
    with pytest.raises(UserError, match="cannot hold 2 of each of the 4 classes"):
        guaranteed(pool, 7)


def test_no_count_is_a_sum_over_regions(dataset: Dataset, tmp_path: Path) -> None:
    masks = {case: truth_of(SHAPES[case]) for case in dataset.pool}
    tiny.oracle(tmp_path / "oracle" / "oracle.h5", dataset, masks)
    box = Box((1, 2, 3), (4, 4, 4))
    row = {"rank": 1, "case": "a", **dict(zip("zyx", box.start_zyx, strict=True)), "dz": 4, "dy": 4, "dx": 4}
    write_query(tmp_path / "q.csv", pd.DataFrame([{**row, "score": 1.0, "component": "core"}]))
    labels = annotate(
        tmp_path / "prepared", tmp_path / "oracle" / "oracle.h5", tmp_path / "q.csv", strategy="s", node="n", cycle=0
    )
    (patch,) = labels.patches.to_dict("records")
    truth = masks["a"][box.slices]
    assert patch["foreground_voxels"] == (truth > 0).sum() < patch["voxels_whole"] + patch["voxels_core"]
    assert [patch[f"voxels_{name}"] for name in CLASSES.named] == [
        np.isin(truth, values).sum() for values in CLASSES.named.values()
    ]
    study = Study(Design.__new__(Design))
    _read_pool(study, tmp_path / "oracle")
    voxels = dict(zip(study.pool["class"], study.pool["voxels"], strict=True))
    every = np.concatenate([mask.ravel() for mask in masks.values()])
    assert voxels == {"mean": (every > 0).sum()} | {
        name: np.isin(every, values).sum() for name, values in CLASSES.named.items() if name != "background"
    }
    counts = {case: tuple(CLASSES.counts(mask).values()) for case, mask in masks.items()}
    table = class_table(counts, [*CLASSES.named], every.size)
    assert f"  core: in 2 of 2 cases, {np.isin(every, [5, 7]).mean():.2%}" in table.splitlines()


def test_calibration_asks_of_each_region_whether_a_voxel_is_in_it() -> None:
    rng = np.random.default_rng(2)
    probability, truth = rng.random((3, 4, 5, 6)).astype(np.float32), truth_of((4, 5, 6))
    calibration = Calibration(bins=5)
    add_calibration(calibration, probability, truth, CLASSES)
    sure, right, squares = [], [], []
    for values, p in zip([*CLASSES.named.values()][1:], probability, strict=True):
        for q, value in zip(p.ravel().tolist(), truth.ravel().tolist(), strict=True):
            sure.append(max(q, 1 - q))
            right.append((q > 0.5) == (value in values))
            squares.append(2 * (q - (value in values)) ** 2)
    place = np.minimum((np.array(sure) * 5).astype(int), 4)
    gaps = [
        abs(np.mean(np.array(right)[place == b]) - np.mean(np.array(sure)[place == b])) * (place == b).mean()
        for b in set(place)
    ]
    found = calibration.result()
    assert found["ece"] == pytest.approx(sum(gaps), abs=1e-6) and found["brier"] == pytest.approx(np.mean(squares))
    assert sum(row["voxels"] for row in found["bins"]) == 3 * truth.size


def test_pictures_are_explained_by_labels_not_by_what_is_measured(tmp_path: Path) -> None:
    write_labels(tmp_path / "l.h5", Labels("tiny", "n", 0, CLASSES, {"a": truth_of(SHAPES["a"])}))
    design = type("Plan", (), {"trajectories": [type("Trajectory", (), {"id": "tiny-s1", "dataset": "tiny"})]})
    query = Query("n", 0, ("tiny-s1",), tmp_path, tmp_path / "l.h5", "random", "", ())
    names = ["background", "label 2 (in whole)", "label 5 (in whole, core)", "active (in whole, core)"]
    assert label_names(design, [replace(query, labels=None), query]) == {"tiny": names}
