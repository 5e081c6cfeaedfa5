"""PREPARE on the phantom: what it makes, and what it says of every broken input."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from decathlon import decathlon_head, write_decathlon_head

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.labels import read_labels
from nnactive_nf.core.raw import list_raw
from nnactive_nf.phantom.folder import write_phantom
from nnactive_nf.prepare.check import check_case
from nnactive_nf.prepare.run import Settings, prepare

SETTINGS = Settings("phantom", "3d_fullres", 0.25, 1, None, None, folds=2, start_size=8)


def run(folder: Path, out: Path, settings: Settings = SETTINGS) -> Dataset:
    prepare(folder, settings, 1, out / "prepared", out / "oracle.h5", out / "reference.h5")
    return Dataset.open(out / "prepared")


def copy_of(folder: Path, out: Path) -> Path:
    shutil.copytree(folder, out)
    return out


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def first_label(folder: Path) -> Path:
    return sorted((folder / "labelsTr").iterdir())[0]


def change_image(path: Path, change: Callable[[np.ndarray], None], spacing: float | None = None) -> None:
    image = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    change(values)
    changed = sitk.GetImageFromArray(values)
    changed.CopyInformation(image)
    if spacing is not None:
        changed.SetSpacing([spacing] * 3)
    sitk.WriteImage(changed, str(path))


def test_masks_and_images_lie_on_one_grid_and_the_input_is_left_alone(phantom: Path, tmp_path: Path) -> None:
    before = fingerprint(phantom)
    dataset = run(phantom, tmp_path)
    oracle = read_labels(tmp_path / "oracle.h5", "oracle", dataset.shapes)
    reference = read_labels(tmp_path / "reference.h5", "reference")
    assert sorted(oracle.masks) == dataset.pool
    assert sorted(reference.masks) == dataset.test
    for case in dataset.pool:
        image = dataset.image(case)
        assert image.shape == (1, *dataset.shapes[case]) == (1, *oracle.masks[case].shape)
        # the phantom's organ is brighter than what is around it, also after resampling
        assert image[0][oracle.masks[case] == 1].mean() > image[0][oracle.masks[case] == 0].mean()
    for case in dataset.test:
        original = sitk.GetArrayFromImage(sitk.ReadImage(str(phantom / "labelsTr" / f"{case}.nii.gz")))
        np.testing.assert_array_equal(reference.masks[case], original)
    assert fingerprint(phantom) == before


def test_the_table_of_cases_tells_where_the_image_grid_lies(prepared: Path, phantom: Path) -> None:
    dataset = Dataset.open(prepared / "prepared")
    for case, grid in dataset.grids.items():
        properties, image = dataset.properties(case), sitk.ReadImage(str(phantom / "imagesTr" / f"{case}_0000.nii.gz"))
        box = [properties["bbox_used_for_cropping"][axis] for axis in dataset.plans["transpose_backward"]]
        assert [[low, high] for low, high in zip(grid.crop.start_zyx, grid.crop.stop_zyx, strict=True)] == box
        assert grid.shape_zyx == dataset.shapes[case] and grid.file_shape_zyx == image.GetSize()[::-1]
        centre = [(n - 1) / 2 for n in grid.shape_zyx]
        wanted = image.TransformContinuousIndexToPhysicalPoint(grid.file_index(centre)[::-1].tolist())
        np.testing.assert_allclose(grid.place_mm(centre), wanted)


def test_a_test_set_by_name_and_by_nnunets_folder(phantom: Path, tmp_path: Path) -> None:
    names = sorted(path.name.removesuffix(".nii.gz") for path in (phantom / "labelsTr").iterdir())[1:4]
    raw = copy_of(phantom, tmp_path / "raw")
    for side in ("images", "labels"):
        (raw / f"{side}Ts").mkdir()
        for path in [path for path in (raw / f"{side}Tr").iterdir() if path.name.startswith(tuple(names))]:
            path.rename(raw / f"{side}Ts" / path.name)
    named = run(phantom, tmp_path / "named", replace(SETTINGS, test_cases=tuple(names)))
    folder = run(raw, tmp_path / "folder", replace(SETTINGS, test_folder=True))
    assert named.test == folder.test == names and len(named.pool) == len(folder.pool) == 5
    assert named.digest == folder.digest
    assert (tmp_path / "named/reference.h5").read_bytes() == (tmp_path / "folder/reference.h5").read_bytes()


def test_no_ground_truth_is_left_where_trainings_read(prepared: Path) -> None:
    dataset = Dataset.open(prepared / "prepared")
    assert not list((prepared / "prepared").rglob("*_seg*"))
    assert all("class_locations" not in dataset.properties(case) for case in dataset.pool)


def test_workers_do_not_change_the_result(phantom: Path, prepared: Path, tmp_path: Path) -> None:
    settings = Settings("phantom", "3d_fullres", 0.25, 1, phantom / "groups.csv", None, folds=2, start_size=8)
    prepare(phantom, settings, 2, tmp_path / "prepared", tmp_path / "oracle.h5", tmp_path / "reference.h5")
    assert Dataset.open(tmp_path / "prepared").digest == Dataset.open(prepared / "prepared").digest
    assert (tmp_path / "oracle.h5").read_bytes() == (prepared / "oracle.h5").read_bytes()


def test_several_channels_and_values_with_gaps(tmp_path: Path) -> None:
    write_phantom(tmp_path / "raw", seed=2, cases=8, variant="two_channels")
    dataset = run(tmp_path / "raw", tmp_path)
    assert dataset.classes.values == (0, 2, 5)
    assert dataset.channels == ("T1", "T2")
    assert dataset.image(dataset.pool[0]).shape[0] == 2
    oracle = read_labels(tmp_path / "oracle.h5", "oracle")
    assert set(np.unique(np.concatenate([mask.ravel() for mask in oracle.masks.values()]))) == {0, 2, 5}


def test_a_decathlon_folder_with_channels_in_one_file(tmp_path: Path) -> None:
    write_phantom(tmp_path / "raw", seed=2, cases=8, variant="two_channels")
    labels = sorted((tmp_path / "raw" / "labelsTr").iterdir())
    names = [path.name.removesuffix(".nii.gz") for path in labels]
    head = decathlon_head(names, {0: "background", 2: "organ", 5: "lesion"}, ("T1", "T2"))
    decathlon = write_decathlon_head(tmp_path / "Task99_Phantom", head)
    for path in labels:
        shutil.copy(path, decathlon / "labelsTr")
    for name in names:
        channels = [sitk.ReadImage(str(tmp_path / "raw" / "imagesTr" / f"{name}_000{i}.nii.gz")) for i in (0, 1)]
        sitk.WriteImage(sitk.JoinSeries(channels), str(decathlon / "imagesTr" / f"{name}.nii.gz"))
    one, other = run(decathlon, tmp_path / "a"), run(tmp_path / "raw", tmp_path / "b")
    assert one.classes == other.classes
    case = one.pool[0]
    np.testing.assert_allclose(one.image(case), other.image(case), atol=1e-5)


def test_an_anisotropic_last_axis_is_put_back(tmp_path: Path, phantom: Path) -> None:
    """nnU-Net trains with the coarsest axis first; patches and masks keep the file's axes."""
    folder = copy_of(phantom, tmp_path / "raw")
    for path in [*(folder / "imagesTr").iterdir(), *(folder / "labelsTr").iterdir()]:
        image = sitk.PermuteAxes(sitk.ReadImage(str(path)), (2, 1, 0))
        image.SetDirection(np.eye(3).ravel().tolist())
        sitk.WriteImage(image, str(path))
    dataset, straight = run(folder, tmp_path / "turned"), run(phantom, tmp_path / "straight")
    assert dataset.plans["transpose_forward"][0] == 2
    oracle = read_labels(tmp_path / "turned" / "oracle.h5", "oracle", dataset.shapes)
    other = read_labels(tmp_path / "straight" / "oracle.h5", "oracle", straight.shapes)
    for case in dataset.pool:
        np.testing.assert_array_equal(oracle.masks[case].transpose(2, 1, 0), other.masks[case])
        image = dataset.image(case)
        np.testing.assert_allclose(image[0].transpose(2, 1, 0), straight.image(case)[0], atol=1e-4)
        np.testing.assert_array_equal(dataset.to_image_grid(dataset.to_network_grid(image)), image)


def test_a_2d_configuration_keeps_the_slices(phantom: Path, tmp_path: Path) -> None:
    settings = Settings("phantom", "2d", 0.25, 1, None, None, folds=2, start_size=8)
    dataset = run(phantom, tmp_path, settings)
    assert (dataset.cases["spacing_z"] == dataset.cases["original_spacing_z"]).all()


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "undeclared value": (
        lambda f: change_image(first_label(f), lambda v: v.__setitem__((0, 0, 0), 9)),
        "undeclared values 9",
    ),
    "NaN voxels": (
        lambda f: change_image(sorted((f / "imagesTr").iterdir())[0], lambda v: v.__setitem__((1, 1, 1), np.nan)),
        "1 voxels that are NaN or infinite",
    ),
    "empty image": (
        lambda f: change_image(sorted((f / "imagesTr").iterdir())[0], lambda v: v.fill(0)),
        "zero everywhere",
    ),
    "truncated file": (
        lambda f: (p := sorted((f / "imagesTr").iterdir())[0]).write_bytes(p.read_bytes()[:2000]) and None,
        "cannot be read, it may be truncated",
    ),
    "class in no case": (
        lambda f: (
            (f / "dataset.json").write_text(
                json.dumps((h := json.loads((f / "dataset.json").read_text())) | {"labels": h["labels"] | {"ghost": 7}})
            )
            and None
        ),
        "class 'ghost' is in 0 cases",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_input_is_told_and_leaves_nothing_behind(name: str, phantom: Path, tmp_path: Path) -> None:
    folder = copy_of(phantom, tmp_path / "raw")
    breaks, message = BROKEN[name]
    breaks(folder)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=message):
        run(folder, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_all_that_is_wrong_is_said_at_once_by_case(phantom: Path, tmp_path: Path, stage) -> None:
    folder = copy_of(phantom, tmp_path / "raw")
    images = sorted((folder / "imagesTr").iterdir())
    change_image(images[0], lambda v: v.__setitem__((1, 1, 1), np.inf))
    content = images[1].read_bytes()
    images[1].write_bytes(content[: len(content) // 2])
    third = images[2].name.removesuffix("_0000.nii.gz")
    change_image(folder / "labelsTr" / f"{third}.nii.gz", lambda v: v.__setitem__((0, 0, 0), 9))
    done = stage(
        "prepare", "--input", folder, "--name", "x", "--folds", 2, "--start-size", 8, "--out", "prepared",
        "--oracle", "oracle.h5", "--reference", "reference.h5", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.output
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    assert len(errors) == 3, done.stderr
    for image, line in zip(images, errors, strict=False):
        assert line.startswith(f"ERROR: case {image.name.removesuffix('_0000.nii.gz')}: ")


def test_one_case_and_too_few_patients(phantom: Path, tmp_path: Path) -> None:
    folder = copy_of(phantom, tmp_path / "raw")
    for path in [*sorted((folder / "imagesTr").iterdir())[1:], *sorted((folder / "labelsTr").iterdir())[1:]]:
        path.unlink()
    with pytest.raises(UserError, match="only 1 case"):
        run(folder, tmp_path)
    groups = phantom / "groups.csv"
    with pytest.raises(UserError, match="folds 4: the pool has 3 patients"):
        run(phantom, tmp_path, Settings("phantom", "3d_fullres", 0.25, 1, groups, None, folds=4, start_size=8))
    with pytest.raises(UserError, match="start_size 3"):
        run(phantom, tmp_path, Settings("phantom", "3d_fullres", 0.25, 1, None, None, folds=2, start_size=3))
    with pytest.raises(UserError, match="configuration 3d_lowres"):
        run(phantom, tmp_path, Settings("phantom", "3d_lowres", 0.25, 1, None, None, folds=2, start_size=8))


@pytest.mark.parametrize("ending", [".nii.gz", ".mha"])
def test_damaged_free_masks_are_told(phantom: Path, tmp_path: Path, ending: str) -> None:
    raw = list_raw(phantom)
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(np.random.default_rng(1).integers(0, 9, (30, 30, 30), np.uint8)), str(path))
    path.write_bytes(path.read_bytes()[:2000])
    facts = check_case(raw, replace(raw.cases[0], free=path), 10)
    (problem,) = facts.problems
    assert problem.startswith(f"case {raw.cases[0].name}: free mask a{ending} cannot be read, it may be truncated (")


def test_folds_that_must_lose_a_class_are_told_before_anything_is_planned(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def planned(*_: object) -> None:
        raise UserError("planned")

    monkeypatch.setattr("nnactive_nf.prepare.run.classes_in_one_fold", lambda *_: {3: 0})
    monkeypatch.setattr("nnactive_nf.prepare.run.plan", planned)
    with pytest.raises(UserError, match="planned"):
        run(phantom, tmp_path, replace(SETTINGS, groups=phantom / "groups.csv"))
    assert "one training of an ensemble does not see class 'lesion'" in capsys.readouterr().out
