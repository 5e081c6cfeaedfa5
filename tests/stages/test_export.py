"""What is exported of a trained node, held against nnU-Net's own command and SimpleITK."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from click.testing import CliRunner
from conftest import ROOT, Command
from nnunet_command import by_nnunet

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.files import read_json, write_json
from nnactive_nf.core.labels import Labels, read_labels, write_labels
from nnactive_nf.core.raw import list_raw
from nnactive_nf.phantom.folder import write_phantom
from nnactive_nf.prepare.run import Settings as PrepareSettings
from nnactive_nf.prepare.run import prepare
from nnactive_nf.train.run import Settings as TrainSettings
from nnactive_nf.train.run import train

pytestmark = pytest.mark.slow

FOLDS = 2
VALUES = {0: 0, 2: 2, 5: 300}  # gaps, and more than a byte
NODE = "tilted-main-s1-c00"
STAGE = Callable[..., Command]
COMMANDS = ("evaluate", "export", "relabel")


@pytest.fixture(scope="module")
def stage() -> STAGE:
    """The commands in this process, which has loaded all that they import."""
    commands = {name: runpy.run_path(str(ROOT / "bin" / f"{name}.py"))["main"] for name in COMMANDS}

    def run(name: str, *words: object) -> Command:
        done = CliRunner().invoke(commands[name], [str(word) for word in words])
        return Command(done.exit_code, done.stdout, done.stderr)

    return run


@dataclass(frozen=True)
class Node:
    """A trained node: the raw data set, the stages' files, and the same as a results folder."""

    folder: Path

    @property
    def raw(self) -> Path:
        return self.folder / "raw"

    @property
    def dataset(self) -> Dataset:
        return Dataset.open(self.folder / "prepared")

    @property
    def folds(self) -> list[Path]:
        return [self.folder / f"fold_{fold}" for fold in range(FOLDS)]


def tilt(raw: Path) -> None:
    """Two channels as .nrrd on oblique and flipped grids with thick slices and air around; labels 0/2/300."""
    turned = np.array([[0.0, -0.8, 0.6], [1.0, 0.0, 0.0], [0.0, 0.6, 0.8]])
    for path in sorted([*raw.glob("imagesTr/*"), *raw.glob("labelsTr/*")]):
        number = int(path.name.split("_")[1].split(".")[0])
        values = np.pad(sitk.GetArrayFromImage(sitk.ReadImage(str(path))), ((1, 2), (0, 4), (3, 2)))
        if "labelsTr" in str(path):
            values = np.vectorize(VALUES.get, otypes=[np.uint16])(values)
        image = sitk.GetImageFromArray(values)
        image.SetSpacing((0.8 + 0.1 * (number % 3), 1.1, 2.0 + 0.5 * (number % 2)))
        image.SetOrigin((-12.5, 7.0, number))
        image.SetDirection((turned * [1, 1, -1] if number % 2 else turned).ravel())
        sitk.WriteImage(image, str(path).replace(".nii.gz", ".nrrd"))
        path.unlink()
    head = read_json(raw / "dataset.json")
    write_json(raw / "dataset.json", head | {
        "file_ending": ".nrrd", "labels": {name: VALUES[value] for name, value in head["labels"].items()}
    })  # fmt: skip


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    folder = tmp_path_factory.mktemp("export")
    node = Node(folder)
    write_phantom(node.raw, seed=4, cases=6, variant="two_channels")
    tilt(node.raw)
    prepare(
        node.raw, PrepareSettings("tilted", "3d_fullres", 0.25, 1, None, None, folds=FOLDS, start_size=8), 1,
        folder / "prepared", folder / "oracle.h5", folder / "reference.h5",
    )  # fmt: skip
    whole = read_labels(folder / "oracle.h5", "oracle")
    results = folder / "results"
    labels = results / "labels" / "tilted-main-s1" / "labels_c00.h5"
    write_labels(labels, Labels("tilted", NODE, 0, whole.classes, half_of(whole)))
    (results / "training" / NODE).mkdir(parents=True)
    for fold, out in enumerate(node.folds):
        settings = TrainSettings(1, 0, fold, FOLDS, 3, 8, (16, 32, 32), 4, 2, "adamw", None)
        train(folder / "prepared", labels, settings, NODE, "cpu", 1, folder / "checkpoints", "code", out)
        shutil.copy(out / "training.json", results / "training" / NODE / f"fold_{fold}.json")
    shutil.copy(folder / "prepared" / "cases.csv", results)
    write_json(
        results / "parameters.json", {"checkpoint_store": "checkpoints", "test_tile_step": 0.5, "mirroring": True}
    )
    return node


def half_of(whole: Labels) -> dict[str, np.ndarray]:
    """Masks of which the upper half of the slices is labelled."""
    masks = {}
    for case, mask in whole.masks.items():
        masks[case] = np.full_like(mask, whole.classes.ignore_value)
        masks[case][: len(mask) // 2] = mask[: len(mask) // 2]
    return masks


def export(stage: STAGE, node: Node, what: str, out: Path, *more: object) -> Path:
    done = stage("export", "--what", what, "--results", node.folder / "results", "--node", NODE, "--out", out, *more)
    assert done.returncode == 0, done.output
    return out


def evaluated(stage: STAGE, node: Node, out: Path, *more: object) -> Path:
    """Segmentations that EVALUATE measured, as files."""
    done = stage(
        "evaluate", "--prepared", node.folder / "prepared", "--reference", node.folder / "reference.h5", "--node", NODE,
        "--dataset", "tilted", "--regime", "main", "--seed", 1, "--cycle", 0, "--device", "cpu",
        "--predictions", out / "test", "--out", out / "metrics.json", *more, *node.folds,
    )  # fmt: skip
    assert done.returncode == 0, done.output
    return out / "test"


def read(path: Path) -> sitk.Image:
    return sitk.ReadImage(str(path))


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(read(path))


def same_place(path: Path, image: Path, within: float = 0) -> None:
    for ask in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        found, wanted = getattr(read(path), ask)(), getattr(read(image), ask)()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=within, err_msg=ask)


def test_nnunets_command_predicts_what_the_workflow_measured(stage: STAGE, node: Node, tmp_path: Path) -> None:
    model = export(stage, node, "model", tmp_path / "model")
    test = node.dataset.test
    ours = evaluated(stage, node, tmp_path, "--probabilities")
    theirs = by_nnunet(model, node.raw / "imagesTr", test, tmp_path / "nnunet")
    done = stage("relabel", "--labels", model / "labels.json", theirs, tmp_path / "relabelled")
    assert done.returncode == 0, done.output
    found = set()
    for case in test:
        name = f"{case}.nrrd"
        np.testing.assert_array_equal(voxels(ours / name), voxels(tmp_path / "relabelled" / name))
        for path in (ours / name, tmp_path / "relabelled" / name):
            same_place(path, node.raw / "labelsTr" / name)
        found |= set(np.unique(voxels(ours / name)).tolist())
        probability = np.load(ours / f"{case}.npz")["probabilities"]
        assert probability.shape == (3, *voxels(ours / name).shape)
        index = node.dataset.classes.to_index(voxels(ours / name).astype(np.uint16))
        assert (probability.argmax(0) == index).mean() > 0.999  # float16 makes some equal
    assert found == {0, 2, 300}
    metrics = read_json(tmp_path / "metrics.json")
    for row in metrics["cases"]:
        counted = (voxels(ours / f"{row['case']}.nrrd") == 2).sum()
        assert row["classes"]["organ"]["predicted_voxels"] == counted


def test_the_same_from_a_results_folder_and_from_a_task(stage: STAGE, node: Node, tmp_path: Path) -> None:
    """Segmentations of the pool, from raw images and from prepared ones; models from the store and from the folds."""
    pool = export(
        stage, node, "predictions", tmp_path / "pool", "--cases", "pool", "--input", node.raw, "--device", "cpu"
    )
    task = ["export", "--prepared", node.folder / "prepared", "--node", NODE]
    done = stage(*task, "--what", "predictions", "--device", "cpu", "--out", tmp_path / "task", *node.folds)
    assert done.returncode == 0, done.output
    assert sorted(path.stem for path in pool.iterdir()) == node.dataset.pool
    for case in node.dataset.pool:
        np.testing.assert_array_equal(voxels(pool / f"{case}.nrrd"), voxels(tmp_path / "task" / f"{case}.nrrd"))
        same_place(pool / f"{case}.nrrd", node.raw / "labelsTr" / f"{case}.nrrd")
    test = export(stage, node, "predictions", tmp_path / "test", "--input", node.raw, "--device", "cpu")
    ours = evaluated(stage, node, tmp_path / "evaluated")
    for case in node.dataset.test:
        np.testing.assert_array_equal(voxels(test / f"{case}.nrrd"), voxels(ours / f"{case}.nrrd"))
    assert not list(ours.glob("*.npz"))
    done = stage(*task, "--what", "model", "--no-mirroring", "--tile-step", 0.75, "--out", tmp_path / "m", *node.folds)
    assert done.returncode == 0, done.output
    assert "-f 0 1 -step_size 0.75 --disable_tta\n" in (tmp_path / "m" / "predict.md").read_text()


def test_labels_lie_where_the_images_lie(stage: STAGE, node: Node, tmp_path: Path) -> None:
    maps = export(stage, node, "labels", tmp_path / "labels")
    raw = export(stage, node, "nnunet_raw", tmp_path / "raw", "--input", node.raw)
    assert sorted(path.name[:-7] for path in maps.glob("*.nii.gz")) == node.dataset.pool
    listed = read_json(raw / "dataset.json")
    assert listed["labels"] == {"background": 0, "organ": 1, "lesion": 2, "ignore": 3}
    assert list_raw(node.raw).channels == tuple(listed["channel_names"].values())
    for case in node.dataset.pool:
        truth, found = voxels(node.raw / "labelsTr" / f"{case}.nrrd"), voxels(maps / f"{case}.nii.gz")
        same_place(maps / f"{case}.nii.gz", node.raw / "labelsTr" / f"{case}.nrrd", 1e-4)
        ignored = found == 65535
        assert 0.2 < 1 - ignored.mean() < 0.6
        assert (found[~ignored] == truth[~ignored]).mean() > 0.97  # but for what resampling moves along borders
        index = voxels(raw / "labelsTr" / f"{case}.nrrd")
        np.testing.assert_array_equal(index == 3, ignored)
        np.testing.assert_array_equal(index == 2, found == 300)
        for channel in range(2):
            name = f"{case}_{channel:04d}.nrrd"
            assert (raw / "imagesTr" / name).read_bytes() == (node.raw / "imagesTr" / name).read_bytes()
    assert json.loads((raw / "labels.json").read_text())["file_ending"] == ".nrrd"


def test_what_is_missing_is_told_in_one_line(stage: STAGE, node: Node, tmp_path: Path) -> None:
    def said(*words: object) -> str:
        done = stage("export", "--results", node.folder / "results", "--out", tmp_path / "out", *words)
        assert done.returncode == 2 and done.output.count("\n") == 1, done.output
        assert not (tmp_path / "out").exists()
        return done.stderr

    assert "knows no node or trajectory 'tilted-s2'; it has " + NODE in said("--what", "model", "--node", "tilted-s2")
    assert "give the run's data set with --input" in said("--what", "predictions", "--node", NODE)
    assert "the run wanted --publish_uncertainty hdf5" in said("--what", "uncertainty", "--node", NODE)
    away = said("--what", "model", "--node", NODE, "--checkpoint-store", tmp_path / "other")
    assert "checkpoint.pth: no such file; give the run's --checkpoint-store" in away
