"""A data set with regions through all stages, with real trainings, and its product in nnU-Net's own command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from nnunet_command import by_nnunet

from nnactive_nf.annotate.run import annotate
from nnactive_nf.annotate.run import write as write_annotated
from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.files import read_json
from nnactive_nf.core.labels import read_labels
from nnactive_nf.core.query_table import write_query
from nnactive_nf.core.uncertainty import MAPS, UncertaintyMaps
from nnactive_nf.evaluate.run import evaluate
from nnactive_nf.export.labels import write_raw_folder
from nnactive_nf.export.model import write_model
from nnactive_nf.export.relabel import relabel
from nnactive_nf.phantom.folder import write_phantom
from nnactive_nf.predict.run import predict
from nnactive_nf.prepare.run import Settings as PrepareSettings
from nnactive_nf.prepare.run import prepare
from nnactive_nf.query.run import Settings as QuerySettings
from nnactive_nf.query.run import as_table, query
from nnactive_nf.train.run import Settings as TrainSettings
from nnactive_nf.train.run import train

pytestmark = pytest.mark.slow

NODE = "regions-main-s1-c00"
FOLDS = 2


def checkpoints(node: Path) -> list[Path]:
    return [node / f"fold_{fold}" / "checkpoint.pth" for fold in range(FOLDS)]


def chosen(node: Path, strategy: str, cycle: int) -> Path:
    settings = QuerySettings(
        strategy, seed=1, cycle=cycle, cycles=3, size=10, patch_zyx=(8, 16, 16), per_image=4,
        start=cycle == 0, class_guarantee=cycle == 0,
    )  # fmt: skip
    picks, *_ = query(
        node / "prepared", settings, labels_file=node / "labels_c00.h5" if cycle else None,
        oracle_file=node / "oracle.h5", uncertainty_files=[node / "uncertainty_0.h5"] if cycle else (),
    )  # fmt: skip
    out = node / f"query_{strategy}_c{cycle:02d}.csv"
    write_query(out, as_table(picks))
    return out


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of cycle 0: a start chosen by region, two trained folds, all maps of the pool."""
    node = tmp_path_factory.mktemp("regions")
    write_phantom(node / "raw", seed=4, cases=8, variant="regions")
    settings = PrepareSettings("regions", "3d_fullres", 0.25, 1, None, None, folds=FOLDS, start_size=8)
    prepare(node / "raw", settings, 1, node / "prepared", node / "oracle.h5", node / "reference.h5")
    labels = annotate(
        node / "prepared", node / "oracle.h5", chosen(node, "random_fg66", 0), strategy="random_fg66", node=NODE,
        cycle=0, free_background=True,
    )  # fmt: skip
    write_annotated(node / "labels_c00.h5", labels)
    for fold in range(FOLDS):
        settings = TrainSettings(1, 0, fold, FOLDS, 5, 30, (16, 32, 32), 4, 2, "adamw", None)
        train(
            node / "prepared", node / "labels_c00.h5", settings, NODE, "cpu", 1, node / "store", "code",
            node / f"fold_{fold}",
        )  # fmt: skip
    predict(
        node / "prepared", checkpoints(node), list(MAPS), NODE, 0, 0, 1, 0.75, "cpu", 1, node / "uncertainty_0.h5"
    )  # fmt: skip
    return node


def test_the_start_is_chosen_and_counted_by_region(node: Path) -> None:
    patches = read_labels(node / "labels_c00.h5").patches
    assert set(patches["component"]) <= {"background", "whole", "lesion", "all"}
    for name in ("background", "whole", "lesion"):
        of_region = patches[patches["component"] == name]
        assert len(of_region) >= 2 and (of_region[f"voxels_{name}"] > 0).all()
    # The lesion is a part of the whole: neither the foreground nor all voxels are a sum over regions.
    assert (patches["voxels_lesion"] > 0).any()
    assert patches["foreground_voxels"].equals(patches["voxels_whole"])
    assert (patches["voxels_background"] + patches["voxels_whole"] == patches["voxels"]).all()


def test_nnunets_command_predicts_what_the_workflow_measured(node: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(node / "prepared")
    ids = {"node": NODE, "dataset": "regions", "regime": "main", "seed": 1, "cycle": 0, "strategy": ""}
    evaluate(
        node / "prepared", node / "reference.h5", checkpoints(node), ids, 0.5, True, 2.0, "cpu", 1,
        tmp_path / "metrics.json", tmp_path / "ours", probabilities=True,
    )  # fmt: skip
    write_model(tmp_path / "model", checkpoints(node), dataset.classes, NODE, 0.5, True)
    theirs = by_nnunet(tmp_path / "model", node / "raw" / "imagesTr", dataset.test, tmp_path / "nnunet")
    relabel(tmp_path / "model" / "labels.json", theirs, tmp_path / "theirs")
    assert (
        "| label 2 (in whole) | 1 | 2 |\n| lesion (in whole) | 2 | 5 |\n"
        in (tmp_path / "model" / "predict.md").read_text()
    )
    metrics = read_json(tmp_path / "metrics.json")
    assert metrics["classes"] == ["whole", "lesion"]
    rows = {row["case"]: row["classes"] for row in metrics["cases"]}
    found = set()
    for case in dataset.test:
        ours, again, truth = (
            sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{case}.nii.gz")))
            for folder in (tmp_path / "ours", tmp_path / "theirs", node / "raw" / "labelsTr")
        )
        np.testing.assert_array_equal(ours, again)
        found |= set(np.unique(ours).tolist())
        for name, values in (("whole", [2, 5]), ("lesion", [5])):
            a, b = np.isin(ours, values), np.isin(truth, values)
            assert (rows[case][name]["predicted_voxels"], rows[case][name]["reference_voxels"]) == (a.sum(), b.sum())
            assert rows[case][name]["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
        whole, lesion = np.load(tmp_path / "ours" / f"{case}.npz")["probabilities"].astype(np.float32)
        sure = (abs(whole - 0.5) > 1e-3) & (abs(lesion - 0.5) > 1e-3)  # of float16
        painted = np.where(lesion > 0.5, 5, np.where(whole > 0.5, 2, 0))
        np.testing.assert_array_equal(painted[sure], ours[sure])
    assert found == {0, 2, 5}
    assert metrics["mean"]["classes"]["whole"]["dice"] > 0.5
    assert sum(row["voxels"] for row in metrics["calibration"]["bins"]) % 2 == 0  # each voxel once for each region


def test_maps_are_those_of_the_folds_sigmoids(node: Path) -> None:
    dataset = Dataset.open(node / "prepared")
    maps = UncertaintyMaps([node / "uncertainty_0.h5"], dataset.shapes)
    maps.check_owner("regions", 2, 0, NODE)
    case = dataset.pool[0]
    folds = maps.read(case, "fold_probability").astype(np.float64)
    mean = folds.mean(axis=0)
    np.testing.assert_allclose(maps.read(case, "mean_probability"), mean, atol=1e-3)

    def entropy(p: np.ndarray) -> np.ndarray:
        p = np.clip(p, 1e-12, 1 - 1e-12)
        return (-p * np.log(p) - (1 - p) * np.log(1 - p)).mean(axis=-4)

    np.testing.assert_allclose(maps.read(case, "predictive_entropy"), entropy(mean), atol=3e-3)
    np.testing.assert_allclose(maps.read(case, "expected_entropy"), entropy(folds).mean(axis=0), atol=3e-3)
    sure = (abs(mean - 0.5) > 1e-3).all(axis=0)
    painted = np.where(mean[1] > 0.5, 2, np.where(mean[0] > 0.5, 1, 0))
    np.testing.assert_array_equal(maps.read(case, "prediction")[sure], painted[sure])
    picks = pd.read_csv(chosen(node, "clasp_pe", 1))
    assert set(picks["component"]) == {"whole", "lesion", "all"}


def test_the_order_of_regions_reaches_every_file_that_nnunet_reads(node: Path, tmp_path: Path) -> None:
    """Alphabetically the lesion would have the first channel."""
    dataset = Dataset.open(node / "prepared")
    write_raw_folder(tmp_path / "raw", node / "labels_c00.h5", dataset.grids, node / "raw")
    write_model(tmp_path / "model", checkpoints(node), dataset.classes, NODE, 0.5, True)
    for path in (node / "prepared" / "nnunet_dataset.json", *tmp_path.glob("*/dataset.json")):
        told = read_json(path)
        assert [*told["labels"].items()] == [("background", 0), ("whole", [1, 2]), ("lesion", 2), ("ignore", 3)], path
        assert told["regions_class_order"] == [1, 2]
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(next((tmp_path / "raw" / "labelsTr").iterdir()))))
    assert set(np.unique(values)) <= {0, 1, 2, 3}
