"""TRAIN's parts: folds, plans, where patches are placed, what a training rests on."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform, create_affine_matrix_3d
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from hypothesis import given
from hypothesis import strategies as st
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.labels import read_labels
from nnactive_nf.core.nnunet import FoldCheckpoint, build_network, load_fold, save_fold
from nnactive_nf.train.data import AnnotatedPatchLoader, place_window, write_training_folder
from nnactive_nf.train.folds import assign_folds
from nnactive_nf.train.plans import training_plans
from nnactive_nf.train.store import TrainingStore, training_digest
from nnactive_nf.train.trainer import ActiveTrainer, copied_to_cpu


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
    assert flat["patch_size"] == [32, 24]


@pytest.fixture(scope="module")
def folder(prepared: Path, labels_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    dataset = Dataset.open(prepared / "prepared")
    write_training_folder(folder, dataset, read_labels(labels_file), (16, 32, 32))
    return folder


def test_patches_hold_an_annotated_voxel_anywhere_in_them(prepared: Path, labels_file: Path, folder: Path) -> None:
    dataset = Dataset.open(prepared / "prepared")
    manager = PlansManager(dataset.plans).get_label_manager(dataset.nnunet_json)
    patch = [8, 12, 12]
    data = nnUNetDatasetBlosc2(str(folder), dataset.pool[:2])
    loader = AnnotatedPatchLoader(
        data, 2, patch, patch, manager, oversample_foreground_percent=0.33, transforms=ComposeTransforms([])
    )
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


WINDOWS = st.tuples(*[st.tuples(st.integers(4, 40), st.integers(3, 16), st.integers(0, 9))] * 3)


@given(sizes=WINDOWS, where=st.tuples(*[st.floats(0, 1, exclude_max=True)] * 3), seed=st.integers(0, 99))
def test_a_window_as_it_is_holds_the_voxel_in_its_middle(
    sizes: tuple[tuple[int, int, int], ...], where: tuple[float, ...], seed: int
) -> None:
    shape, patch, more = np.transpose(sizes)
    voxel = (np.array(where) * shape).astype(int)
    np.random.seed(seed)  # noqa: NPY002 (nnU-Net draws from it)
    corner, _ = place_window(voxel, shape, patch + more, patch, None)
    lower = corner + (patch + more) // 2 - patch // 2
    assert ((lower <= voxel) & (voxel < lower + patch)).all()
    large = shape >= patch
    assert ((lower >= 0) & (lower + patch <= shape))[large].all()
    assert (lower == (shape - patch) // 2)[~large].all()


@given(
    sizes=WINDOWS,
    where=st.tuples(*[st.floats(0, 1, exclude_max=True)] * 3),
    angles=st.tuples(*[st.floats(-np.pi, np.pi)] * 3),
    scale=st.floats(0.7, 1.4),
)
def test_a_turned_window_holds_the_voxel_too(
    sizes: tuple[tuple[int, int, int], ...], where: tuple[float, ...], angles: tuple[float, ...], scale: float
) -> None:
    shape, patch, more = np.transpose(sizes)
    window, voxel = patch + more, (np.array(where) * shape).astype(int)
    turn = create_affine_matrix_3d(angles, [scale] * 3)
    lower, rest = place_window(voxel, shape, window, patch, turn)
    assert ((lower <= voxel) & (voxel < lower + window)).all()
    assert (np.abs(rest) <= scale * np.sqrt(3)).all()
    in_patch = np.linalg.inv(turn) @ (voxel - lower - (window - 1) / 2 - rest) + (patch - 1) / 2
    np.testing.assert_allclose(in_patch, np.round(in_patch), atol=1e-9)
    assert ((np.round(in_patch) >= 0) & (np.round(in_patch) < patch)).all()


def test_each_place_in_the_patch_is_as_likely() -> None:
    shape, window, patch, voxel = (np.array([n] * 3) for n in (60, 14, 8, 30))
    turn = create_affine_matrix_3d([0.4, 0, 0], [1.2] * 3)
    for matrix in (None, turn):
        np.random.seed(0)  # noqa: NPY002 (nnU-Net draws from it)
        lower = np.array([place_window(voxel, shape, window, patch, matrix)[0] for _ in range(4000)])
        back = np.eye(3) if matrix is None else np.linalg.inv(matrix)
        in_patch = (voxel - lower - (window - 1) / 2) @ back.T / (patch - 1)  # from -0.5 to 0.5
        assert np.abs(in_patch.mean(axis=0)).max() < 0.02
        assert np.abs(in_patch.std(axis=0) - np.sqrt(1 / 12)).max() < 0.05
    # at the image's edge the patch ends there, so the voxel lies in its corner
    edge = [place_window(np.array([0, 59, 30]), shape, window, patch, None)[0] for _ in range(50)]
    assert {tuple(lower[:2]) for lower in edge} == {(-3, 60 - 8 - 3)}


@pytest.fixture(scope="module")
def sparse_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training folder of one image of 72x80x88, in it four labelled boxes of 1 to 4 voxels a side, all of class 1."""
    folder = tmp_path_factory.mktemp("sparse")
    seg = np.full((1, 72, 80, 88), 2, np.int16)
    for z, y, x, side in ((0, 0, 0, 4), (20, 30, 70, 2), (40, 72, 20, 3), (60, 40, 50, 1)):
        seg[:, z : z + side, y : y + side, x : x + side] = 1
    voxels = np.argwhere(seg == 1)
    nnUNetDatasetBlosc2.save_case(
        np.zeros(seg.shape, np.float32), seg, {"class_locations": {1: voxels, (-1, 0, 1): voxels}},
        str(folder / "case"),
        chunks=seg.shape, blocks=(1, 24, 24, 24), chunks_seg=seg.shape, blocks_seg=(1, 24, 24, 24),
    )  # fmt: skip
    return folder


@pytest.mark.parametrize(
    ("patch", "turned"),
    [
        pytest.param((32, 32, 32), False, id="as it is"),
        pytest.param((32, 32, 32), True, id="turned and scaled"),
        pytest.param((8, 32, 32), True, id="turned in its plane"),
        pytest.param((32, 32), True, id="2D"),
    ],
)
def test_what_the_network_sees_holds_a_labelled_voxel(
    sparse_folder: Path, patch: tuple[int, ...], turned: bool
) -> None:
    labels = LabelManager({"background": 0, "a": 1, "ignore": 2}, None)
    trainer = SimpleNamespace(
        configuration_manager=SimpleNamespace(patch_size=patch), print_to_log_file=lambda *_: None
    )
    rotation, dummy_2d, window, axes = ActiveTrainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size(trainer)
    transforms = ActiveTrainer.get_training_transforms(patch, rotation, None, axes, dummy_2d, ignore_label=2)
    transforms.transforms = [step for step in transforms.transforms if not isinstance(step, RandomTransform)]
    spatial = next(step for step in transforms.transforms if isinstance(step, SpatialTransform))
    spatial.p_rotation, spatial.p_scaling = (0.6, 0.6) if turned else (0, 0)  # more often than nnU-Net
    data = nnUNetDatasetBlosc2(str(sparse_folder))
    loader = AnnotatedPatchLoader(data, 20, window, patch, labels, 0, transforms=transforms)
    np.random.seed(0)  # noqa: NPY002 (nnU-Net draws from it)
    torch.manual_seed(0)
    batches = [loader.generate_train_batch()["target"] for _ in range(20)]
    missing = torch.stack([(seg != 1).flatten(1).all(1) for seg in batches])
    assert batches[0].shape == (20, 1, *patch)
    assert missing.sum() == 0


def test_dice_loss_has_no_smoothing_term_and_ignores_unlabelled_voxels() -> None:
    trainer = SimpleNamespace(
        label_manager=LabelManager({"background": 0, "a": 1, "b": 2, "ignore": 3}, None),
        configuration_manager=SimpleNamespace(batch_dice=False),
        is_ddp=False, enable_deep_supervision=False, _do_i_compile=lambda: False,
    )  # fmt: skip
    loss = ActiveTrainer._build_loss(trainer)
    target = torch.full((1, 1, 4, 4, 4), 3)
    target[0, 0, 0, 0, :2] = torch.tensor([0, 1])  # two labelled voxels, none of class b
    sure = torch.full((1, 3, 4, 4, 4), -30.0)
    sure[:, 0] = 30  # background everywhere: class a is missed, class b is rightly not there, so 0 / 0
    sure[0, 1, 1:] = 60  # what is predicted where nothing is labelled counts for nothing

    def value(logits: torch.Tensor) -> float:
        p = logits.softmax(1)[:, :, 0, 0, :2].double()
        truth = torch.tensor([[1.0, 0], [0, 1], [0, 0]]).double()
        entropy = -(truth * logits.log_softmax(1)[0, :, 0, 0, :2].double()).sum() / 2
        overlap, size = 2 * (p[0] * truth).sum(1), (p[0] + truth).sum(1).clamp_min(1e-8)
        return float(entropy - (overlap / size)[1:].mean())

    for logits in (sure, torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(1)) * 1e-3 + sure / 20):
        logits.requires_grad_()
        found = loss(logits, target)
        found.backward()
        assert found.item() == pytest.approx(value(logits.detach()), abs=1e-7)
        assert logits.grad is not None and torch.isfinite(logits.grad).all()
        assert not logits.grad[0, :, 1:].any()
    # A probability of 1e-6 for a class that is not there: 1e-5 of smoothing would make it a Dice of 0.83.
    faint = torch.zeros(1, 3, 4, 4, 4)
    faint[:, 2] = float(np.log(1e-6))
    assert float(loss(faint, target)) == pytest.approx(value(faint), abs=1e-5)
    nothing = loss(sure, torch.full_like(target, 3))
    assert nothing.item() == 0


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
