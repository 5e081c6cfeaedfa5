"""The phantom: a valid nnU-Net raw folder, the same from the same seed, and hard in the ways it is meant to be."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

from nnactive_nf.core.errors import UserError
from nnactive_nf.phantom.folder import write_phantom
from nnactive_nf.phantom.variants import VARIANTS, variant_named
from nnactive_nf.phantom.volumes import draw_case


def read(path: Path):
    image = sitk.ReadImage(str(path))
    return sitk.GetArrayFromImage(image), image.GetSpacing()[::-1]


@pytest.fixture(scope="module")
def two_channels(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "two_channels"
    write_phantom(folder, seed=3, cases=4, variant="two_channels")
    return folder


def test_nnunet_accepts_the_folder(phantom, tmp_path):
    named = tmp_path / "Dataset001_Phantom"
    named.symlink_to(phantom)
    verify_dataset_integrity(str(named), num_processes=1)


def test_groups_name_every_case_and_pair_the_visits_of_a_patient(phantom):
    with (phantom / "groups.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == sorted(p.name[: -len(".nii.gz")] for p in (phantom / "labelsTr").iterdir())
    assert [row["group"] for row in rows[:4]] == ["patient_001", "patient_001", "patient_002", "patient_002"]


def test_spacing_is_anisotropic_and_differs_between_patients(phantom):
    spacings = {path.name: read(path)[1] for path in sorted((phantom / "labelsTr").iterdir())}
    assert all(spacing[0] > 2 * spacing[1] for spacing in spacings.values())
    assert len(set(spacings.values())) == len(spacings) // 2


def test_labels_are_declared_and_of_different_rarity(phantom):
    declared = json.loads((phantom / "dataset.json").read_text())["labels"]
    counts = np.zeros(len(declared), dtype=int)
    holders = np.zeros(len(declared), dtype=int)
    for path in (phantom / "labelsTr").iterdir():
        mask, _ = read(path)
        assert set(np.unique(mask)) <= set(declared.values())
        found = np.bincount(mask.ravel(), minlength=len(declared))
        counts += found
        holders += found > 0
    assert holders[declared["organ"]] == holders[declared["tail"]] == 8
    assert 0 < holders[declared["lesion"]] < 8
    assert counts[declared["organ"]] > 5 * counts[declared["tail"]] > 5 * counts[declared["lesion"]]


def test_second_variant_has_gaps_between_values_and_two_channels(two_channels):
    values = {int(v) for path in (two_channels / "labelsTr").iterdir() for v in np.unique(read(path)[0])}
    assert values == {0, 2, 5}
    assert len(list((two_channels / "imagesTr").glob("*_0001.nii.gz"))) == 4


def test_images_are_finite_and_zero_outside_the_body_alone(phantom):
    for path in (phantom / "imagesTr").iterdir():
        image, _ = read(path)
        assert np.isfinite(image).all()
        assert image[0, 0, 0] == 0
        assert (image > 0).mean() > 0.5


def test_same_seed_same_bytes_and_cases_do_not_depend_on_their_number(tmp_path):
    write_phantom(tmp_path / "few", seed=5, cases=2)
    write_phantom(tmp_path / "more", seed=5, cases=3)
    few = sorted((tmp_path / "few" / "imagesTr").iterdir())
    assert len(few) == 2
    for path in few:
        assert path.read_bytes() == (tmp_path / "more" / "imagesTr" / path.name).read_bytes()


def test_seeds_patients_and_visits_differ():
    kind = variant_named("mri")
    first = draw_case(1, kind, 0, 0)
    assert not np.array_equal(first.mask_zyx, draw_case(1, kind, 0, 1).mask_zyx)
    assert first.spacing_mm_zyx == draw_case(1, kind, 0, 1).spacing_mm_zyx
    assert first.spacing_mm_zyx != draw_case(1, kind, 1, 0).spacing_mm_zyx
    assert first.spacing_mm_zyx != draw_case(2, kind, 0, 0).spacing_mm_zyx


def test_organ_stands_out_of_the_body_but_overlaps_with_it():
    case = draw_case(1, VARIANTS["mri"], 0, 0)
    image = case.image[0]
    organ, body = image[case.mask_zyx == 1], image[(case.mask_zyx == 0) & (image > 0)]
    assert np.median(organ) > np.percentile(body, 75)
    assert np.percentile(organ, 5) < np.percentile(body, 95)


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept.txt").write_text("kept")
    with pytest.raises(UserError, match="is there already"):
        write_phantom(tmp_path / "mine", seed=1, cases=2)
    assert [p.name for p in tmp_path.rglob("*.txt")] == ["kept.txt"]


def test_nothing_is_left_of_a_broken_off_write(tmp_path, monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("disk full")

    monkeypatch.setattr("nnactive_nf.phantom.folder.draw_case", fail)
    with pytest.raises(RuntimeError):
        write_phantom(tmp_path / "new", seed=1, cases=2)
    assert list(tmp_path.iterdir()) == []


def test_unknown_variant_is_named_with_the_known_ones(stage, tmp_path):
    done = stage("phantom", "--variant", "ct", "--out", tmp_path / "x")
    assert done.returncode == 2
    assert done.stderr == "ERROR: phantom: no variant 'ct', there are mri, two_channels, regions\n"
