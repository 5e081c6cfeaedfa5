"""EVALUATE predicts what nnU-Net predicts from a model folder made of our checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.ensemble import BatchedPredictor, Ensemble
from nnactive_nf.core.files import read_json, write_json
from nnactive_nf.core.labels import Labels, read_labels, write_labels
from nnactive_nf.core.nnunet import load_fold, nnunet_folders, resolve_device
from nnactive_nf.evaluate.measures import Calibration, class_measures
from nnactive_nf.evaluate.run import crop_box, evaluate
from nnactive_nf.phantom.folder import write_phantom
from nnactive_nf.prepare.run import Settings as PrepareSettings
from nnactive_nf.prepare.run import prepare
from nnactive_nf.train.run import Settings as TrainSettings
from nnactive_nf.train.run import train

pytestmark = pytest.mark.slow

FOLDS = 2
HANDFUL = 5  # voxels in which two classes are as probable up to float error


@dataclass(frozen=True)
class Theirs:
    """What nnU-Net makes of a case's raw images: logits on its own grid, and what it writes."""

    logits: np.ndarray  # [C, z, y, x]
    segmentation: np.ndarray  # class indices [z, y, x]
    probability: np.ndarray  # [C, z, y, x]


@dataclass(frozen=True)
class Node:
    """A trained ensemble, the raw data that it was made from, and the same ensemble as a model folder of nnU-Net.

    What several tests look at is predicted once, by test case.
    """

    folder: Path

    @property
    def dataset(self) -> Dataset:
        return Dataset.open(self.folder / "prepared")

    @property
    def checkpoints(self) -> list[Path]:
        return [self.folder / f"fold_{fold}" / "checkpoint.pth" for fold in range(FOLDS)]

    def ensemble(self) -> Ensemble:
        return Ensemble(self.checkpoints, resolve_device("cpu", 1), 0.5, mirroring=True)

    @cached_property
    def theirs(self) -> dict[str, Theirs]:
        """What `nnUNetv2_predict` predicts."""
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(self.folder / "model"), tuple(range(FOLDS)))
        return {case: predict_by_nnunet(predictor, self.folder, case) for case in self.dataset.test}

    @cached_property
    def half_logits(self) -> dict[str, torch.Tensor]:
        """The mean logits that EVALUATE takes."""
        ensemble = self.ensemble()
        return {case: ensemble.mean_logits(self.dataset.network_image(case)) for case in self.dataset.test}

    @cached_property
    def single_logits(self) -> dict[str, torch.Tensor]:
        """The mean logits that PREDICT takes."""
        predict = self.ensemble()._predictor.predict_logits_from_preprocessed_data
        return {case: predict(torch.from_numpy(self.dataset.network_image(case))) for case in self.dataset.test}


def lay_slices_along_x(raw: Path) -> None:
    """Thick slices along the last axis, voxels of other sizes than planned, air around: all of it must be undone."""
    for path in sorted([*raw.glob("imagesTr/*"), *raw.glob("labelsTr/*")]):
        number = int(path.name.split("_")[1].split(".")[0])
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).transpose(1, 2, 0)
        image = sitk.GetImageFromArray(np.pad(values, ((3, 2), (0, 4), (1, 2))))
        image.SetSpacing((3.6 + 0.3 * (number % 4), 0.8 + 0.1 * (number % 3), 1.0))
        sitk.WriteImage(image, str(path))


def write_model_folder(folder: Path, checkpoints: Sequence[Path]) -> None:
    """What nnU-Net's training leaves, made of our checkpoints."""
    for number, path in enumerate(checkpoints):
        fold = load_fold(path)
        (folder / f"fold_{number}").mkdir(parents=True)
        content = {
            "network_weights": fold.weights, "trainer_name": "nnUNetTrainer",
            "init_args": {"configuration": fold.configuration}, "inference_allowed_mirroring_axes": fold.mirror_axes,
        }  # fmt: skip
        torch.save(content, folder / f"fold_{number}" / "checkpoint_final.pth")
        write_json(folder / "plans.json", fold.plans)
        write_json(folder / "dataset.json", fold.nnunet_json)


@pytest.fixture(scope="module", params=["3d_fullres", "2d", "slices along x"])
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Node:
    folder = tmp_path_factory.mktemp("node")
    write_phantom(folder / "raw", seed=4, cases=8, variant="two_channels")
    configuration = request.param
    if configuration == "slices along x":
        configuration = "3d_fullres"
        lay_slices_along_x(folder / "raw")
    node = Node(folder)
    prepare(
        folder / "raw", PrepareSettings("phantom", configuration, 0.25, 1, None, None, folds=FOLDS, start_size=8), 1,
        folder / "prepared", folder / "oracle.h5", folder / "reference.h5",
    )  # fmt: skip
    whole = read_labels(folder / "oracle.h5", "oracle")
    write_labels(folder / "labels.h5", Labels("phantom", "n-c00", 0, whole.classes, whole.masks))
    for fold, checkpoint in enumerate(node.checkpoints):
        settings = TrainSettings(1, 0, fold, FOLDS, 2, 8, (16, 32, 32), 4, 2, "adamw", None)
        train(
            folder / "prepared", folder / "labels.h5", settings, "n-c00", "cpu", 1, folder / "store", "code",
            checkpoint.parent,
        )  # fmt: skip
    write_model_folder(folder / "model", node.checkpoints)
    return node


def predict_by_nnunet(predictor: nnUNetPredictor, folder: Path, case: str) -> Theirs:
    """Let nnU-Net predict a case from its raw images, note the logits on their way, and read what it writes."""
    noted: list[np.ndarray] = []
    predict = nnUNetPredictor.predict_logits_from_preprocessed_data

    def noting(data: torch.Tensor) -> torch.Tensor:
        logits = predict(predictor, data)
        noted.append(logits.numpy().copy())
        return logits

    predictor.predict_logits_from_preprocessed_data = noting
    images, out = sorted(map(str, (folder / "raw" / "imagesTr").glob(f"{case}_*"))), folder / "nnunet" / case
    out.parent.mkdir(exist_ok=True)
    with nnunet_folders():
        predictor.predict_from_files_sequential([images], [str(out)], save_probabilities=True)
    segmentation = sitk.GetArrayFromImage(sitk.ReadImage(f"{out}.nii.gz"))
    return Theirs(*noted, segmentation, np.load(f"{out}.npz")["probabilities"])


def test_logits_are_nnunets(node: Node) -> None:
    for case in node.dataset.test:
        wanted, found = node.theirs[case].logits, node.half_logits[case].numpy()
        assert found.dtype == wanted.dtype == np.float16
        assert np.abs(wanted).max() > 0.1
        # The network's last digits differ by the number of windows at once, which now and then rounds a half otherwise,
        # and once in a while one of the larger sums that a voxel's logit comes from.
        assert (found != wanted).mean() < 0.01
        assert np.isclose(found, wanted, rtol=2e-3, atol=1e-3).mean() > 1 - 1e-4
        np.testing.assert_allclose(found, wanted, rtol=1e-2, atol=1e-2)


def test_metrics_are_those_of_what_nnunet_writes(node: Node, tmp_path: Path) -> None:
    ids = {"node": "n-c00", "dataset": "phantom", "regime": "main", "seed": 1, "cycle": 0, "strategy": None}
    evaluate(
        node.folder / "prepared", node.folder / "reference.h5", node.checkpoints, ids, 0.5, True, 2.0, "cpu", 1,
        tmp_path / "metrics.json",
    )  # fmt: skip
    metrics = read_json(tmp_path / "metrics.json")
    classes = node.dataset.classes
    calibration = Calibration()
    for row in metrics["cases"]:
        segmentation, probability = node.theirs[row["case"]].segmentation, node.theirs[row["case"]].probability
        values = sitk.GetArrayFromImage(sitk.ReadImage(str(node.folder / "raw" / "labelsTr" / f"{row['case']}.nii.gz")))
        truth = classes.to_index(values)
        imaged = crop_box(node.dataset, row["case"])
        calibration.add(probability[(slice(None), *imaged)], truth[imaged])
        for index in classes.foreground:
            found = row["classes"][classes.names[index]]
            wanted = class_measures(segmentation == index, truth == index, node.dataset.spacings_mm[row["case"]], 2.0)
            assert abs(found["predicted_voxels"] - wanted["predicted_voxels"]) <= HANDFUL
            assert found["dice"] == pytest.approx(wanted["dice"], abs=1e-3)
    wanted = calibration.result()
    assert metrics["calibration"]["ece"] == pytest.approx(wanted["ece"], abs=1e-4)
    assert metrics["calibration"]["brier"] == pytest.approx(wanted["brier"], abs=1e-4)


def test_segmentations_are_nnunets_to_the_voxel(node: Node) -> None:
    ensemble, differing = node.ensemble(), 0
    for case, theirs in node.theirs.items():
        found, ours = ensemble.segment(node.dataset.network_image(case), node.dataset.properties(case))
        np.testing.assert_array_equal(found, theirs.segmentation)
        differing += int((np.abs(ours - theirs.probability).max(axis=0) > 1e-3).sum())
    assert differing <= HANDFUL


def test_sums_in_float32_differ_in_a_voxel_in_a_thousand(node: Node) -> None:
    """What PREDICT sums in float32, nnU-Net sums in half: it rounds the small weights of a window's corners."""
    for case in node.dataset.test:
        half, single = node.half_logits[case], node.single_logits[case]
        assert (half.dtype, single.dtype) == (torch.half, torch.float32)
        assert (half.float() - single).abs().max() > 0
        assert (half.argmax(0) != single.argmax(0)).float().mean() < 0.002


def test_logits_too_large_for_half_are_summed_in_float32(
    node: Node, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ensemble = node.ensemble()
    case = node.dataset.test[0]
    image, wanted = node.dataset.network_image(case), node.single_logits[case]
    small = BatchedPredictor._internal_maybe_mirror_and_predict
    monkeypatch.setattr(
        BatchedPredictor, "_internal_maybe_mirror_and_predict", lambda self, windows: 1e6 * small(self, windows)
    )
    found = ensemble.mean_logits(image)
    torch.testing.assert_close(found, 1e6 * wanted, rtol=1e-4, atol=1)
    assert "nnU-Net would refuse" in capsys.readouterr().out
