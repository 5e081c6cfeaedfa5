"""A whole run with what other tools take, and nnU-Net's own command on it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import Run
from nnunet_command import by_nnunet

from nnactive_nf.core.labels import read_labels
from nnactive_nf.export.relabel import relabel

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_nnunet_predicts_from_the_product_what_the_run_has_measured(nextflow: Callable[..., Run]) -> None:
    """Two channels, labels 0/2/5: both segment alike to the voxel, and end with the values of the label files."""
    done = nextflow(
        "-profile", "test", input="phantom:two_channels", phantom_cases=8, strategies="random", cycles=1, epochs=2,
        iterations=5, publish_product="last", publish_predictions="test,pool", publish_labels="nifti,nnunet",
        timeout=2400,
    )  # fmt: skip
    assert done.returncode == 0, done.output
    assert done.tasks("COMPLETED")["EXPORT"] == 3 and done.tasks("COMPLETED")["SEGMENT"] == 1
    results, name = done.folder / "results", "phantom_two_channels-main-s12345"
    with (results / "cases.csv").open(newline="") as file:
        pool = sorted(row["case"] for row in csv.DictReader(file) if row["split"] == "pool")
    (images,) = done.folder.glob("work/*/*/phantom/imagesTr")
    segmented = {split: results / "predictions" / f"{name}-c00" / split for split in ("test", "pool")}
    assert sorted(path.name[:-7] for path in segmented["pool"].iterdir()) == pool
    test = sorted(path.name[:-7] for path in segmented["test"].iterdir())
    assert test and not set(test) & set(pool)

    model = results / "product" / name / "model"
    assert "--disable_tta" in (model / "predict.md").read_text()  # the profile does not mirror
    asked = [*test, pool[0]]
    theirs = by_nnunet(model, images, asked, done.folder / "nnunet")
    assert relabel(model / "labels.json", theirs, done.folder / "relabelled") == len(asked)
    for case in asked:
        ours = segmented["test" if case in test else "pool"] / f"{case}.nii.gz"
        np.testing.assert_array_equal(voxels(ours), voxels(done.folder / "relabelled" / f"{case}.nii.gz"))
        assert set(np.unique(voxels(ours)).tolist()) <= {0, 2, 5}

    labels = read_labels(results / "labels" / name / "labels_c00.h5")
    raw = results / "labels" / name / "nnunet_raw"
    for case in labels.masks:
        truth = voxels(images.parent / "labelsTr" / f"{case}.nii.gz")
        found = voxels(results / "labels" / name / "labels_c00" / f"{case}.nii.gz")
        looked = found != labels.classes.ignore_value
        assert looked.any() and set(np.unique(found[looked]).tolist()) <= {0, 2, 5}
        assert (found[looked] == truth[looked]).mean() > 0.9
        np.testing.assert_array_equal(voxels(raw / "labelsTr" / f"{case}.nii.gz") == 3, ~looked)
        assert (raw / "imagesTr" / f"{case}_0001.nii.gz").read_bytes() == (images / f"{case}_0001.nii.gz").read_bytes()
