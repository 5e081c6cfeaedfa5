"""TRAIN's parts: folds, plans, where patches are placed, what a training rests on."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.labels import read_labels
from nnactive_nf.core.nnunet import FoldCheckpoint, build_network, load_fold, save_fold
from nnactive_nf.core.training_plans import training_plans
from nnactive_nf.train.data import AnnotatedPatchLoader, write_training_folder
from nnactive_nf.train.folds import assign_folds
from nnactive_nf.train.store import TrainingStore, training_digest
from nnactive_nf.train.trainer import copied_to_cpu


@given(
    classes=st.lists(st.sets(st.integers(0, 4)), min_size=4, max_size=30),
    patients=st.integers(4, 30),
    folds=st.integers(2, 5),
    seed=st.integers(0, 3),
)
def test_every_training_split_holds_every_class(classes: list[set[int]], patients: int, folds: int, seed: int) -> None:
    classes_in = {f"case_{i:02d}": sorted(found | {0}) for i, found in enumerate(classes)}
    groups = {case: f"p{i % patients}" for i, case in enumerate(classes_in)}
    distinct = set(groups.values())
    if len(distinct) < folds:
        with pytest.raises(UserError, match="patients have labels"):
            assign_folds(classes_in, groups, folds, np.random.default_rng(seed))
        return
    fold_of = assign_folds(classes_in, groups, folds, np.random.default_rng(seed))
    assert set(fold_of) == set(classes_in)
    assert set(fold_of.values()) == set(range(folds))
    for group in distinct:
        assert len({fold_of[case] for case in groups if groups[case] == group}) == 1
    again = assign_folds(dict(reversed(classes_in.items())), groups, folds, np.random.default_rng(seed))
    assert again == fold_of
    if len(distinct) >= 5 * folds:  # room for all classes; with fewer patients than that a class may have to yield
        for index in range(5):
            holders = [case for case in classes_in if index in classes_in[case]]
            if len({groups[case] for case in holders}) >= 2:
                assert len({fold_of[case] for case in holders}) >= 2


def test_folds_are_even_and_depend_on_the_seed() -> None:
    classes_in = {f"case_{i:02d}": [0, 1] for i in range(20)}
    groups = {case: case for case in classes_in}
    found = [assign_folds(classes_in, groups, 5, np.random.default_rng(seed)) for seed in range(4)]
    for fold_of in found:
        assert sorted(np.bincount(list(fold_of.values()))) == [4] * 5
    assert len({tuple(fold_of.items()) for fold_of in found}) > 1


def test_plans_follow_the_asked_for_patch_and_width(prepared: Path) -> None:
    plans = Dataset.open(prepared / "prepared").plans
    before = deepcopy(plans)
    changed = training_plans(plans, "3d_fullres", (16, 32, 32), 8, 3)["configurations"]["3d_fullres"]
    architecture = changed["architecture"]["arch_kwargs"]
    assert changed["patch_size"] == [16, 32, 32]
    assert changed["batch_size"] == 3
    assert architecture["features_per_stage"][:2] == [8, 16]
    stages = architecture["n_stages"]
    strides = np.prod(architecture["strides"], axis=0)
    assert (np.array(changed["patch_size"]) % strides == 0).all()
    assert [len(architecture[key]) for key in ("strides", "kernel_sizes", "features_per_stage")] == [stages] * 3
    assert plans == before
    same = training_plans(plans, "3d_fullres", None, None, None)["configurations"]["3d_fullres"]
    assert same == plans["configurations"]["3d_fullres"]
    flat = training_plans(plans, "2d", (1, 32, 24), 4, None)["configurations"]["2d"]
    assert flat["patch_size"] == [32, 24] or flat["patch_size"] == [32, 32]


@pytest.fixture(scope="module")
def folder(prepared: Path, labels_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    dataset = Dataset.open(prepared / "prepared")
    write_training_folder(folder, dataset, read_labels(labels_file), (16, 32, 32))
    return folder


def test_patches_hold_an_annotated_voxel_anywhere_in_them(prepared: Path, labels_file: Path, folder: Path) -> None:
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    dataset = Dataset.open(prepared / "prepared")
    manager = PlansManager(dataset.plans).get_label_manager(dataset.nnunet_json)
    patch = [8, 12, 12]
    data = nnUNetDatasetBlosc2(str(folder), dataset.pool[:2])
    loader = AnnotatedPatchLoader(data, 2, patch, patch, manager, oversample_foreground_percent=0.33)
    np.random.seed(0)  # noqa: NPY002 (nnU-Net draws from it)
    offsets = []
    for case in dataset.pool[:2]:
        image, seg, _, properties = data.load_case(case)
        annotated = np.asarray(seg[:])[0] < dataset.classes.ignore_index
        voxels = np.argwhere(annotated)
        for _ in range(200):
            low, high = loader.get_bbox(image.shape[1:], False, properties["class_locations"])
            assert [b - a for a, b in zip(low, high, strict=True)] == patch
            inside = ((voxels >= low) & (voxels < high)).all(axis=1)
            assert inside.any()
            assert all(a >= 0 and b <= n for a, b, n in zip(low, high, image.shape[1:], strict=True))
            offsets.append(np.asarray(low) - voxels.mean(axis=0))
    # nnU-Net would keep an annotated voxel at the centre; here starts reach further out than the annotated box
    assert np.std(offsets, axis=0).min() > 2


def test_training_folder_marks_unlabelled_voxels_to_ignore(prepared: Path, labels_file: Path, folder: Path) -> None:
    import blosc2

    dataset, labels = Dataset.open(prepared / "prepared"), read_labels(labels_file)
    for case, mask in labels.masks.items():
        seg = np.asarray(blosc2.open(str(folder / f"{case}_seg.b2nd"))[:])[0]
        index = dataset.to_image_grid(seg)
        np.testing.assert_array_equal(index == dataset.classes.ignore_index, mask == labels.classes.ignore_value)
        np.testing.assert_array_equal(dataset.classes.to_value(index), mask)


def test_digest_follows_what_a_training_rests_on() -> None:
    base = {"labels": "a", "seed": 1, "plans": {"x": [1, 2]}}
    assert training_digest(base) == training_digest(dict(reversed(base.items())))
    for other in ({"labels": "b"}, {"seed": 2}, {"plans": {"x": [2, 1]}}):
        assert training_digest(base | other) != training_digest(base)


def test_store_goes_on_from_good_states_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = TrainingStore(tmp_path, "abc")
    assert not place.finished
    assert place.load_latest() is None
    place.save_latest({"epoch": 3, "weights": {"w": torch.ones(2)}})
    latest = place.load_latest()
    assert latest is not None
    assert latest["epoch"] == 3
    path = place.folder / "latest.pth"
    path.write_bytes(path.read_bytes()[:100])
    assert place.load_latest() is None
    assert "training starts anew" in capsys.readouterr().out


def test_a_finished_fold_takes_its_room_once_where_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = TrainingStore(tmp_path / "store", "abc")
    fold = FoldCheckpoint({"w": torch.arange(3.0)}, {"a": 1}, "3d_fullres", {"labels": {}}, (0, 1, 2), "digest")
    place.finish(fold, {"node": "", "seconds": 1.0})
    place.deliver(tmp_path / "linked", {"node": "n"})

    def refuse(*_: object) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    place.deliver(tmp_path / "copied", {"node": "n"})
    stored, linked, copied = (
        folder / "checkpoint.pth" for folder in (place.folder, tmp_path / "linked", tmp_path / "copied")
    )
    assert linked.samefile(stored) and not copied.samefile(stored)
    assert load_fold(copied).weights["w"].tolist() == load_fold(linked).weights["w"].tolist() == [0, 1, 2]


def test_weights_under_several_names_are_written_once(prepared: Path, tmp_path: Path) -> None:
    """nnU-Net's networks name the encoder's convolutions four times in their state."""
    dataset = Dataset.open(prepared / "prepared")
    plans = training_plans(dataset.plans, "3d_fullres", (16, 32, 32), 8, None)
    network = build_network(PlansManager(plans).get_configuration("3d_fullres"), 1, 3, deep_supervision=True)
    state = copied_to_cpu(network.state_dict())
    bytes_of_parameters = sum(value.numel() * value.element_size() for value in network.parameters())
    assert sum(value.numel() * value.element_size() for value in state.values()) > 2 * bytes_of_parameters
    save_fold(tmp_path / "fold.pth", FoldCheckpoint(state, plans, "3d_fullres", {}, (0, 1, 2), "digest"))
    assert bytes_of_parameters < (tmp_path / "fold.pth").stat().st_size < bytes_of_parameters + 100_000
    back = load_fold(tmp_path / "fold.pth").weights
    assert list(back) == list(state) and all(torch.equal(back[name], state[name]) for name in state)
    network.load_state_dict(back)

    # A copy, and one that goes along with nothing that comes after
    first = next(iter(state))
    with torch.no_grad():
        network.state_dict()[first].add_(1)
    assert not torch.equal(network.state_dict()[first], state[first])


def test_checkpoints_come_back_and_damaged_ones_are_told(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    fold = FoldCheckpoint({"w": torch.arange(3.0)}, {"a": 1}, "3d_fullres", {"labels": {}}, (0, 1, 2), "digest")
    save_fold(path, fold)
    back = load_fold(path)
    assert torch.equal(back.weights["w"], fold.weights["w"])
    assert (back.plans, back.configuration, back.mirror_axes, back.digest) == (
        {"a": 1},
        "3d_fullres",
        (0, 1, 2),
        "digest",
    )
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match="may be truncated"):
        load_fold(path)
    torch.save({"format": "other"}, path)
    with pytest.raises(UserError, match="not a checkpoint of format"):
        load_fold(path)
    with pytest.raises(UserError, match="no such file"):
        load_fold(tmp_path / "nothing.pth")
