"""What a training reads: the folder that is written for nnU-Net's loader, and where patches are placed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import blosc2
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
from nnactive_nf.core.labels import Labels, read_labels
from nnactive_nf.train.data import AnnotatedPatchLoader, place_window, write_training_folder
from nnactive_nf.train.trainer import ActiveTrainer


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


@pytest.mark.parametrize("voxel", [(5, 0, 0), (5, 0, 19), (5, 19, 0), (5, 19, 19)])
def test_a_window_lies_as_little_outside_as_can_be(monkeypatch: pytest.MonkeyPatch, voxel: tuple[int, ...]) -> None:
    """A square turned by 45 degrees reaches an image's corner from outside only; here all places are tried."""
    monkeypatch.setattr("nnactive_nf.train.data.TRIES", 5000)
    shape, window, patch = np.array([20, 20, 20]), np.array([1, 12, 12]), np.array([1, 6, 6])
    turn = create_affine_matrix_3d([np.pi / 4, 0, 0], [1] * 3)
    np.random.seed(0)  # noqa: NPY002 (nnU-Net draws from it)
    corner, _ = place_window(np.array(voxel), shape, window, patch, turn)
    corners = np.array([(5, y, x) for y in range(-9, 20) for x in range(-9, 20)])
    in_patch = (np.array(voxel) - corners - (window - 1) / 2) @ np.linalg.inv(turn).T

    def beyond(corners: np.ndarray) -> np.ndarray:
        """By how many voxels the unturned patch, the middle of the window, reaches beyond the image in y and x."""
        lower = (corners + 3)[..., 1:]
        return (np.maximum(-lower, 0) + np.maximum(lower + 6 - 20, 0)).sum(axis=-1)

    least = beyond(corners[(np.abs(in_patch) <= patch / 2).all(axis=1)]).min()
    assert beyond(corner) == least > 0


def test_a_voxel_of_the_patch_is_read_at_the_voxel_however_small_the_patch() -> None:
    """One voxel in a window of two: the voxel is half of one off the middle, which at half the scale is a whole one."""
    shape, window, patch = (np.array([n] * 3) for n in (20, 2, 1))
    for at in (4, 5):
        voxel = np.array([at] * 3)
        corner, rest = place_window(voxel, shape, window, patch, np.eye(3) / 2)
        assert (voxel - corner - (window - 1) / 2 - rest).tolist() == [0] * 3
        assert np.abs(rest).tolist() == [0.5] * 3


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


def test_training_folder_marks_unlabelled_voxels_to_ignore(prepared: Path, labels_file: Path, folder: Path) -> None:
    dataset, labels = Dataset.open(prepared / "prepared"), read_labels(labels_file)
    for case, mask in labels.masks.items():
        seg = np.asarray(blosc2.open(str(folder / f"{case}_seg.b2nd"))[:])[0]
        index = dataset.to_image_grid(seg)
        np.testing.assert_array_equal(index == dataset.classes.ignore_index, mask == labels.classes.ignore_value)
        np.testing.assert_array_equal(dataset.classes.to_value(index), mask)


def test_free_voxels_are_labelled_but_no_patch_goes_there_for_their_sake(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One case: a row of free background, a row of background that was paid for, and a row of the first class."""
    dataset = Dataset.open(prepared / "prepared")
    case, nothing = dataset.pool[0], dataset.classes.ignore_value
    mask, free = np.full(dataset.shapes[case], nothing, np.uint8), np.zeros(dataset.shapes[case], bool)
    rows = {"free": (1, 2), "paid": (3, 4), "organ": (5, 6)}
    mask[rows["free"]] = mask[rows["paid"]] = 0
    mask[rows["organ"]] = dataset.classes.values[1]
    free[rows["free"]] = True
    monkeypatch.setattr(Dataset, "empty_mask", lambda self, name: free if name == case else None)
    found = write_training_folder(
        tmp_path, dataset, Labels("phantom", "n", 0, dataset.classes, {case: mask}), (16,) * 3
    )

    seg = np.asarray(blosc2.open(str(tmp_path / f"{case}_seg.b2nd"))[:])[0]
    assert (dataset.to_image_grid(seg)[rows["free"]] == 0).all()  # in the loss
    locations = nnUNetDatasetBlosc2(str(tmp_path), [case]).load_case(case)[3]["class_locations"]

    def rows_of(key: object) -> set[tuple[int, ...]]:
        at = np.zeros(seg.shape, bool)
        at[tuple(locations[key][:, 1:].T)] = True
        return {tuple(zy) for zy in np.argwhere(dataset.to_image_grid(at))[:, :2].tolist()}

    anywhere = (-1, *range(len(dataset.classes)))
    assert set(locations) == {*dataset.classes.foreground, anywhere}
    assert rows_of(anywhere) == {rows["paid"], rows["organ"]}
    assert rows_of(1) == {rows["organ"]}
    assert len(locations[2]) == 0
    assert found == {case: [0, 1]}


def test_classes_are_told_by_case_without_what_is_not_labelled(prepared: Path, tmp_path: Path) -> None:
    dataset = Dataset.open(prepared / "prepared")
    values, masks = dataset.classes.values, {}
    wanted = dict(zip(dataset.pool, ([0], [1, 2], [2]), strict=False))
    for case, found in wanted.items():
        masks[case] = np.full(dataset.shapes[case], dataset.classes.ignore_value, np.uint8)
        for i, index in enumerate(found):
            masks[case][2, i, 3] = values[index]
    labels = Labels("phantom", "n", 0, dataset.classes, masks)
    assert write_training_folder(tmp_path, dataset, labels, (16, 32, 32)) == wanted
    assert len(wanted) == 3
    assert sorted(path.name for path in tmp_path.glob("*.b2nd")) == sorted(
        f"{case}{kind}.b2nd" for case in wanted for kind in ("", "_seg")
    )


@pytest.mark.parametrize(
    ("shape", "window", "patch", "lowest", "highest"),
    [
        pytest.param(20, 8, 8, 0, 12, id="the patch reaches both ends of the image"),
        pytest.param(20, 14, 8, -3, 9, id="so it does in a larger window"),
        pytest.param(20, 13, 8, -2, 10, id="a window that is odd"),
        pytest.param(20, 14, 7, -4, 9, id="a patch that is odd"),
        pytest.param(8, 8, 8, 0, 0, id="just as large as the image"),
        pytest.param(9, 8, 8, 0, 1, id="one voxel to spare"),
        pytest.param(7, 8, 8, -1, -1, id="an image that is smaller by 1"),
        pytest.param(5, 8, 8, -2, -2, id="by 3: 2 before it, 1 behind"),
        pytest.param(4, 10, 8, -3, -3, id="by 4, in a larger window"),
    ],
)
def test_starts_go_from_the_lowest_to_the_highest(
    shape: int, window: int, patch: int, lowest: int, highest: int
) -> None:
    np.random.seed(0)  # noqa: NPY002 (nnU-Net draws from it)
    sizes = [np.array([n] * 3) for n in (shape, window, patch)]
    # Where only one of them is odd, the turned patch lies between the voxels and sees those at the ends half.
    for turn in (None, np.eye(3)) if (window - patch) % 2 == 0 else (None,):
        found = set()
        for at in range(shape):
            for _ in range(30):
                corner, rest = place_window(np.array([at] * 3), *sizes, turn)
                found.update(corner.tolist())
                lower = corner + sizes[1] // 2 - sizes[2] // 2
                if turn is None:
                    assert ((lower <= at) & (at < lower + patch)).all()
                    assert not rest.any()
        assert found == set(range(lowest, highest + 1))


def test_an_image_smaller_than_the_patch_is_padded_on_both_sides(sparse_folder: Path) -> None:
    labels = LabelManager({"background": 0, "a": 1, "ignore": 2}, None)
    data = nnUNetDatasetBlosc2(str(sparse_folder))
    patch = (96, 83, 32)  # the image is of 72x80x88
    loader = AnnotatedPatchLoader(data, 1, patch, patch, labels, 0, transforms=ComposeTransforms([]))
    np.random.seed(0)  # noqa: NPY002 (nnU-Net draws from it)
    for _ in range(5):
        low, high = loader.get_bbox((72, 80, 88), False, data.load_case("case")[3]["class_locations"])
        assert (low[:2], high[:2]) == ([-12, -2], [84, 81])
        assert low[2] >= 0 and high[2] <= 88
        target = loader.generate_train_batch()["target"]
        assert target.shape == (1, 1, *patch) and (target == 1).any()


def test_where_nothing_but_free_voxels_is_labelled_patches_go_anywhere(sparse_folder: Path) -> None:
    labels = LabelManager({"background": 0, "a": 1, "ignore": 2}, None)
    data = nnUNetDatasetBlosc2(str(sparse_folder))
    loader = AnnotatedPatchLoader(data, 1, (8,) * 3, (8,) * 3, labels, 0, transforms=ComposeTransforms([]))
    np.random.seed(0)  # noqa: NPY002 (nnU-Net draws from it)
    with pytest.warns(UserWarning, match="No annotated pixels"):
        lower = [loader.get_bbox((72, 80, 88), False, {(-1, 0, 1): np.empty((0, 4))})[0] for _ in range(200)]
    assert (np.ptp(lower, axis=0) > 50).all()
