"""All stages in one process on the phantom, with networks of a few iterations: 3D and 2D, every map, every file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from tfevents import scalars_in

from nnactive_nf.annotate.run import annotate
from nnactive_nf.annotate.run import write as write_annotated
from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.ensemble import Ensemble
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json
from nnactive_nf.core.gpu_lease import Gpu, Lease
from nnactive_nf.core.labels import read_labels
from nnactive_nf.core.nnunet import resolve_device
from nnactive_nf.core.query_table import write_query
from nnactive_nf.core.uncertainty import MAPS, UncertaintyMaps
from nnactive_nf.evaluate.run import evaluate
from nnactive_nf.phantom.folder import write_phantom
from nnactive_nf.predict.run import predict
from nnactive_nf.prepare.run import Settings as PrepareSettings
from nnactive_nf.prepare.run import prepare
from nnactive_nf.query.run import Settings as QuerySettings
from nnactive_nf.query.run import as_table, query
from nnactive_nf.train.run import Settings as TrainSettings
from nnactive_nf.train.run import train
from nnactive_nf.train.store import TrainingStore

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Node:
    """Files of cycle 0 and of the query that follows it."""

    folder: Path
    patch_zyx: tuple[int, int, int]

    @property
    def dataset(self) -> Dataset:
        return Dataset.open(self.folder / "prepared")

    @property
    def checkpoints(self) -> list[Path]:
        return [self.folder / f"fold_{fold}" / "checkpoint.pth" for fold in range(2)]

    @property
    def shards(self) -> list[Path]:
        return [self.folder / f"uncertainty_{shard}.h5" for shard in range(2)]


def choose(node: Node, strategy: str, cycle: int, **changed: object) -> Path:
    settings = QuerySettings(
        strategy, seed=1, cycle=cycle, cycles=3, size=8, patch_zyx=node.patch_zyx, per_image=4,
        start=cycle == 0, class_guarantee=cycle == 0,
    )  # fmt: skip
    labels = node.folder / "labels_c00.h5" if cycle else None
    picks, *_ = query(
        node.folder / "prepared", settings, labels_file=labels, oracle_file=node.folder / "oracle.h5",
        uncertainty_files=node.shards if cycle else (), **changed,
    )  # fmt: skip
    out = node.folder / f"query_{strategy}_c{cycle:02d}.csv"
    write_query(out, as_table(picks))
    return out


NETWORKS = {
    "3d": ("3d_fullres", "ExperimentPlanner"),
    "2d": ("2d", "ExperimentPlanner"),
    "residual": ("3d_fullres", "nnUNetPlannerResEncM"),
}


@pytest.fixture(scope="module", params=NETWORKS)
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Node:
    configuration, planner = NETWORKS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    write_phantom(folder / "raw", seed=4, cases=8, variant="two_channels")
    node = Node(folder, (1, 24, 24) if configuration == "2d" else (8, 16, 16))
    settings = PrepareSettings(
        "phantom", configuration, 0.25, 1, None, None, folds=2, start_size=8, planner=planner
    )  # fmt: skip
    prepare(
        folder / "raw", settings, 1, folder / "prepared", folder / "oracle.h5", folder / "reference.h5"
    )  # fmt: skip
    chosen = choose(node, "random_fg33", 0)
    labels = annotate(
        folder / "prepared", folder / "oracle.h5", chosen, strategy="random_fg33", node="n-c00", cycle=0,
        free_background=True,
    )  # fmt: skip
    write_annotated(folder / "labels_c00.h5", labels)
    for fold in range(2):
        settings = TrainSettings(1, 0, fold, 2, 2, 4, (16, 32, 32), 4, 2, "adamw", None)
        train(
            folder / "prepared", folder / "labels_c00.h5", settings, "n-c00", "cpu", 1, folder / "store", "code",
            folder / f"fold_{fold}",
        )  # fmt: skip
    for shard in range(2):
        predict(
            folder / "prepared", node.checkpoints, list(MAPS), "n-c00", 0, shard, 2, 0.75, "cpu", 1, node.shards[shard]
        )
    return node


def test_maps_fit_the_images_and_each_other(node: Node) -> None:
    maps = UncertaintyMaps(node.shards, node.dataset.shapes)
    assert maps.cases == node.dataset.pool
    for case in maps.cases:
        predictive, expected = (maps.read(case, f"{kind}_entropy") for kind in ("predictive", "expected"))
        assert predictive.shape == node.dataset.shapes[case]
        assert (predictive - expected > -1e-5).all()
        assert predictive.max() <= np.log(3) + 1e-5
        folds = maps.read(case, "fold_probability").astype(np.float64)
        mean = maps.read(case, "mean_probability").astype(np.float64)
        np.testing.assert_allclose(folds.mean(axis=0), mean, atol=2e-3)
        cell = maps.feature_cell(case)
        features = maps.read(case, "fold_features")
        assert features.shape[1:] == tuple(-(-n // c) for n, c in zip(predictive.shape, cell, strict=True))


def test_windows_in_batches_equal_windows_one_by_one(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    image = node.dataset.network_image(node.dataset.pool[0])
    ensemble = Ensemble(node.checkpoints[:1], resolve_device("cpu", 1), 0.5, mirroring=True)
    batched = ensemble.probabilities(0, image).numpy()
    monkeypatch.setattr("nnactive_nf.core.ensemble.WINDOWS_AT_ONCE", 1)
    single = ensemble.probabilities(0, image).numpy()
    np.testing.assert_allclose(batched, single, atol=1e-5)
    np.testing.assert_allclose(batched.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize(
    "strategy", ["predictive_entropy", "bald", "clasp_pe", "kmeans_bald", "expected_dice", "coverage", "random_fg66"]
)
def test_strategies_choose_and_the_oracle_answers(node: Node, strategy: str) -> None:
    chosen = choose(node, strategy, 1)
    labels = annotate(
        node.folder / "prepared", node.folder / "oracle.h5", chosen, strategy=strategy, node="n-c01", cycle=1,
        labels_file=node.folder / "labels_c00.h5",
    )  # fmt: skip
    assert len(labels.patches) == 16
    oracle = read_labels(node.folder / "oracle.h5", "oracle")
    for case in labels.masks:
        for box in labels.boxes(case):
            np.testing.assert_array_equal(labels.masks[case][box.slices], oracle.masks[case][box.slices])


def test_free_voxels_are_background_in_labelled_cases(node: Node) -> None:
    labels = read_labels(node.folder / "labels_c00.h5")
    free = 0
    for case, mask in labels.masks.items():
        empty = node.dataset.empty_mask(case)
        assert (mask[empty] != labels.classes.ignore_value).all()
        free += int(empty.sum())
        outside = ~empty
        for box in labels.boxes(case):
            outside[box.slices] = False
        assert (mask[outside] == labels.classes.ignore_value).all()
    assert free > 0


def test_metrics_are_on_the_files_own_grid(node: Node) -> None:
    out = node.folder / "metrics.json"
    ids = {"node": "n-c00", "dataset": "phantom", "regime": "main", "seed": 1, "cycle": 0, "strategy": None}
    evaluate(
        node.folder / "prepared", node.folder / "reference.h5", node.checkpoints, ids, 0.5, False, 2.0, "cpu", 1, out
    )
    found = read_json(out)
    assert [case["case"] for case in found["cases"]] == node.dataset.test
    for case in found["cases"]:
        truth = sitk.GetArrayFromImage(sitk.ReadImage(str(node.folder / "raw" / "labelsTr" / f"{case['case']}.nii.gz")))
        assert case["classes"]["organ"]["reference_voxels"] == int((truth == 2).sum())
        assert case["classes"]["lesion"]["reference_voxels"] == int((truth == 5).sum())
    assert sum(row["voxels"] for row in found["calibration"]["bins"]) > 0


def test_a_finished_fold_returns_at_once_and_other_code_trains_anew(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = TrainSettings(1, 0, 0, 2, 2, 4, (16, 32, 32), 4, 2, "adamw", None)
    inputs = (node.folder / "prepared", node.folder / "labels_c00.h5", settings)
    labels = read_labels(node.folder / "labels_c00.h5")
    labels.node = "other-node"
    write_annotated(tmp_path / "labels.h5", labels)
    others = (node.folder / "prepared", tmp_path / "labels.h5", settings)
    board = tmp_path / "tensorboard"
    train(*others, "other-node", "cpu", 1, node.folder / "store", "code", tmp_path / "fold_0", tensorboard=board)
    assert "was trained before" in capsys.readouterr().out
    assert read_json(tmp_path / "fold_0" / "training.json")["node"] == "other-node"
    lease = Lease(Gpu("GPU-a", "0"), place=2, waited_s=3.14, handle=-1)
    monkeypatch.setattr("nnactive_nf.train.run.current_lease", lambda: lease)
    train(*inputs, "n-c00", "cpu", 1, node.folder / "store", "changed code", tmp_path / "again", tensorboard=board)
    assert "was trained before" not in capsys.readouterr().out
    first, second = (read_json(path / "training.json") for path in (tmp_path / "fold_0", tmp_path / "again"))
    assert first["digest"] != second["digest"]
    assert first["curve"] == second["curve"]  # the same seeds, to the bit
    assert second["gpu_lease"] == {"gpu_uuid": "GPU-a", "place": 2, "waited_seconds": 3.1} and "gpu_lease" not in first
    assert 0 < first["loader_percent"] < 100
    stored, watched = (scalars_in(board / name / "fold_0") for name in ("other-node", "n-c00"))
    for found, record in ((stored, first), (watched, second)):  # fetched, and written as it trained
        losses = [entry["train_loss"] for entry in record["curve"]]
        assert list(found["loss/train"].values()) == pytest.approx(losses) and len(losses) == 2
        assert list(found["time/seconds_per_epoch"].values()) == pytest.approx(
            [one["seconds"] for one in record["times"]]
        )
        assert all(0 < share < 1 for share in found["time/share_waiting_for_batches"].values())
        assert {"dice/organ", "dice/lesion"} & set(found) and "dice_mean/moving" in found


def test_given_folds_are_taken_and_train_anew(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same settings and code as those that are in the store; the training itself is not run."""
    settings = TrainSettings(1, 0, 0, 2, 2, 4, (16, 32, 32), 4, 2, "adamw", None)
    given = {case: place % 2 for place, case in enumerate(node.dataset.pool)}
    (tmp_path / "folds.csv").write_text("case,fold\n" + "".join(f"{case},{fold}\n" for case, fold in given.items()))
    seen: list[dict[str, int]] = []

    def stop(*arguments: Any) -> None:
        seen.append(arguments[4])
        raise KeyboardInterrupt

    monkeypatch.setattr("nnactive_nf.train.run._train_fold", stop)
    with pytest.raises(KeyboardInterrupt):
        train(
            node.folder / "prepared", node.folder / "labels_c00.h5", settings, "n-c00", "cpu", 1,
            node.folder / "store", "code", tmp_path / "fold_0", folds_file=tmp_path / "folds.csv",
        )  # fmt: skip
    labelled = read_labels(node.folder / "labels_c00.h5").masks
    assert seen == [{case: given[case] for case in sorted(labelled)}]
    assert "was trained before" not in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["no weights", "another network's optimiser", "NaN", "another epoch", "behind"])
def test_a_state_of_another_training_is_put_aside_and_the_fold_trained_anew(
    damage: str, node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """States that stand under the right digest all the same: the store takes what its checksums allow."""
    settings = TrainSettings(1, 0, 0, 2, 2, 4, (16, 32, 32), 4, 2, "adamw", None)
    save = TrainingStore.save_latest

    def damaged(place: TrainingStore, state: dict) -> None:
        if damage == "no weights":
            state = state | {"weights": {}}
        elif damage == "NaN":
            state = state | {"weights": {name: value * np.nan for name, value in state["weights"].items()}}
        elif damage == "another network's optimiser":
            other = {key: torch.zeros(2) for key in ("exp_avg", "exp_avg_sq")} | {"step": torch.ones(())}
            states = dict.fromkeys(state["optimizer"]["state"], other)
            state = state | {"optimizer": state["optimizer"] | {"state": states}}
        else:
            state = state | {"epoch": 7 if damage == "behind" else 2}
        save(place, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingStore, "save_latest", damaged)
    arguments = (node.folder / "prepared", node.folder / "labels_c00.h5", settings, "n-c00", "cpu", 1, tmp_path, damage)
    with pytest.raises(KeyboardInterrupt):
        train(*arguments, tmp_path / "out")
    monkeypatch.undo()
    capsys.readouterr()
    train(*arguments, tmp_path / "out")
    assert re.search(r"latest.pth: not a state of this training .*; put aside", capsys.readouterr().out)
    again, first = (read_json(path / "training.json") for path in (tmp_path / "out", node.folder / "fold_0"))
    assert again["curve"] == first["curve"] and again["resumed_from"] == []


def test_damaged_and_foreign_files_are_told(node: Node, tmp_path: Path) -> None:
    shard = node.shards[0].read_bytes()
    cut = tmp_path / "uncertainty_0.h5"
    cut.write_bytes(shard[: len(shard) // 2])
    with pytest.raises(UserError, match="truncated"):
        UncertaintyMaps([cut], node.dataset.shapes)
    settings = TrainSettings(1, 0, 0, 2, 2, 4, None, 4, 2, "adamw", None)
    with pytest.raises(UserError, match="format is 'nnactive-nf/oracle', expected 'nnactive-nf/labels'"):
        train(
            node.folder / "prepared", node.folder / "oracle.h5", settings, "n", "cpu", 1, tmp_path, "c", tmp_path / "f"
        )
    with pytest.raises(UserError, match="sees no GPU"):
        resolve_device("cuda", 1)
