"""New scans join a pool that people label: what was handed out, and has come back, keeps its meaning."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import annotator
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json
from nnactive_nf.core.labels import read_labels
from nnactive_nf.core.query_table import read_query, write_query
from nnactive_nf.hand_out.run import hand_out
from nnactive_nf.phantom.folder import write_phantom
from nnactive_nf.prepare.plan import keep_plans
from nnactive_nf.prepare.run import Settings, prepare
from nnactive_nf.query import run as query_run
from nnactive_nf.receive.answers import Received
from nnactive_nf.receive.masks import write_answers
from nnactive_nf.receive.places import check_places
from nnactive_nf.receive.run import receive

ASKED = Settings("scans", "3d_fullres", 0.25, 1, None, None, folds=2, start_size=8, people=True)


def prepared(scans: Path, out: Path, plans: Path | None = None) -> Dataset:
    out.mkdir()
    prepare(scans, replace(ASKED, plans_before=plans), 1, out / "prepared", out / "oracle.h5", out / "reference.h5")
    return Dataset.open(out / "prepared")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`few`, 4 scans whose start was handed out and labelled; `more`, with others of finer voxels; read only."""
    folder = tmp_path_factory.mktemp("later")
    write_phantom(folder / "truth", seed=1, cases=9)
    annotator.strip(folder / "truth", folder / "more", ["phantom_001"])
    shutil.copytree(folder / "more", folder / "few")
    for number in range(5, 10):
        (folder / "few" / "imagesTr" / f"phantom_{number:03d}_0000.nii.gz").unlink()
        path = folder / "more" / "imagesTr" / f"phantom_{number:03d}_0000.nii.gz"
        image = sitk.ReadImage(str(path))
        image.SetSpacing([0.7 * mm for mm in image.GetSpacing()])
        sitk.WriteImage(image, str(path), True)
    dataset = prepared(folder / "few", folder / "first")
    keep_plans(folder / "plans.json", dataset.plans, "state")
    asked = query_run.Settings("coverage", seed=1, cycle=0, cycles=None, size=10, patch_zyx=(8, 12, 12), start=True)
    picks, _, _ = query_run.query(dataset.folder, asked)
    write_query(folder / "query.csv", query_run.as_table(picks[:8]))
    write_query(folder / "reserve.csv", query_run.as_table(picks[8:]))
    hand_out(
        dataset.folder, folder / "few", folder / "query.csv", [], strategy="coverage", cycle=0, delivery="x",
        out=folder / "package", reserve_file=folder / "reserve.csv",
    )  # fmt: skip
    annotator.label(folder / "truth", folder / "package", folder / "labels")
    prepared(folder / "more", folder / "kept", folder / "plans.json")
    return folder


def received(folder: Path, dataset: Path) -> Received:
    return receive(
        dataset, folder / "query.csv", folder / "labels", folder / "reserve.csv", folder / "package" / "patches_mm.csv"
    )


def test_patches_and_labels_keep_their_meaning(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answers = []
    for name in ("first", "kept"):
        dataset = folder / name / "prepared"
        found = received(folder, dataset)
        assert [answer.state for answer in found.answers] == ["done"] * 8 + ["reserve"] * 2 and found.is_complete()
        write_answers(
            found, dataset, folder / "query.csv", tmp_path / "q.csv", tmp_path / "a.h5", "n-c00", folder / "reserve.csv"
        )
        answers.append((read_query(tmp_path / "q.csv"), read_labels(tmp_path / "a.h5", "oracle").masks))
    (query, masks), (query_later, masks_later) = answers
    pd.testing.assert_frame_equal(query, query_later)
    assert sorted(masks) == sorted(masks_later)
    for case, mask in masks.items():
        np.testing.assert_array_equal(mask, masks_later[case])


def test_what_is_trained_on_does_not_change(folder: Path) -> None:
    before, after = (Dataset.open(folder / name / "prepared") for name in ("first", "kept"))
    assert len(before.pool) == 4 and len(after.pool) == 9
    assert before.plans == after.plans and before.nnunet_json == after.nnunet_json
    for case in before.pool:
        np.testing.assert_array_equal(before.network_image(case), after.network_image(case))
        assert before.grids[case] == after.grids[case]
    # So a training on them is found in the store, and one that a new scan is in is another.
    assert before.digest != after.digest
    assert before.digest_of(before.pool) == after.digest_of(before.pool) != after.digest_of(after.pool)
    asked = query_run.Settings("random", seed=1, cycle=0, cycles=None, size=20, patch_zyx=(8, 12, 12), start=True)
    picks, _, _ = query_run.query(after.folder, asked)
    assert {pick.case for pick in picks} - set(before.pool)


def test_patches_that_lie_elsewhere_are_told(folder: Path, tmp_path: Path) -> None:
    """Planned anew, the spacing is another; without the plans of then patches would be read in the wrong place."""
    anew = prepared(folder / "more", tmp_path / "anew")
    assert (
        anew.grids["phantom_002"].spacing_mm != Dataset.open(folder / "kept/prepared").grids["phantom_002"].spacing_mm
    )
    with pytest.raises(
        UserError, match=r"patch \d+ of case phantom_00\d lies elsewhere than when it was handed out .10 such"
    ) as error:
        received(folder, anew.folder)
    assert len(error.value.lines) == 1
    query = read_query(folder / "query.csv")
    with pytest.raises(UserError, match=r"case phantom_00[2-4] was handed out and is no longer in the data set"):
        check_places(query, {}, None)
    check_places(query, anew.grids, None)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"planner": "nnUNetPlannerResEncM"}, "planner nnUNetPlannerResEncM: patches were handed out by plans for Exp"),
        ({"configuration": "3d_lowres"}, "configuration 3d_lowres: patches were handed out by plans for others"),
    ],
)
def test_a_plan_is_kept_to(folder: Path, tmp_path: Path, change: dict[str, str], line: str) -> None:
    asked = replace(ASKED, plans_before=folder / "plans.json", **change)
    with pytest.raises(UserError, match=line):
        prepare(folder / "few", asked, 1, tmp_path / "p", tmp_path / "o.h5", tmp_path / "r.h5")
    (tmp_path / "plans.json").write_text(json.dumps({"state": "x"}))
    with pytest.raises(UserError, match="not plans"):
        prepare(
            folder / "few",
            replace(ASKED, plans_before=tmp_path / "plans.json"),
            1,
            tmp_path / "p",
            tmp_path / "o.h5",
            tmp_path / "r.h5",
        )
    assert read_json(folder / "plans.json")["state"] == "state"
