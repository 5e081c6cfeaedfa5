"""People in the loop: a run hands out patches and ends, label files come back, and -resume goes on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import annotator
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from conftest import VERSIONS, Run, run_nextflow

from nnactive_nf.core.labels import read_labels
from nnactive_nf.phantom.folder import write_phantom
from nnactive_nf.prepare.run import Settings, prepare

pytestmark = pytest.mark.pipeline

START = Path("results/annotation/scans-main-s12345/cycle_00")
NEXT = Path("results/annotation/scans-main-bald-s12345/cycle_01")
CLASSES = [("organ", 1), ("Tail", 2), ("lesion", 3)]


def run(folder: Path, *args: object, profile: str = "test", **params: Any) -> Run:
    small: dict[str, Any] = {"strategies": "bald", "cycles": 2, "epochs": 1, "iterations": 4, "view_patches": 0}
    small |= {"training_start": "previous"}  # which waits for folds that do not come while people are awaited
    return run_nextflow(
        folder, "-profile", profile, *args, input="scans", oracle="people", **{**small, **params}, measured=False
    )


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A launch folder with a raw folder `truth`, and `scans`, in which one case of the pool and no other has labels."""
    write_phantom(tmp_path / "truth", seed=1, cases=8)
    annotator.strip(tmp_path / "truth", tmp_path / "scans", ["phantom_003"])
    return tmp_path


def test_a_pool_is_labelled_by_people(scans: Path) -> None:
    first = run(scans, double_read=0.2)
    assert first.returncode == 0, first.output
    assert "12 of 12 patches of cycle 0 are to be labelled" in first.stdout
    assert f"put the files in {scans / START}/labels" in first.stdout
    tasks = pd.read_csv(scans / START / "tasks.csv")
    assert list(tasks["reserve"].fillna("")) == [""] * 12 + ["reserve"] * 3
    assert "phantom_003" not in set(tasks["case"])
    asked = scans / "results/queries/scans-main-s12345/query_c00.csv"
    assert not asked.exists()
    assert first.tasks()["HAND_OUT"] == 1 and not first.tasks()["TRAIN"]

    annotator.label(scans / "truth", scans / START, classes=CLASSES)
    (scans / START / "labels" / "notes.nii.gz").write_text("no image")
    twice = pd.read_csv(scans / START / "double_read.csv")
    assert list(twice["patch"]) == list(tasks["patch"][tasks["readers"] == 2]) and len(twice) == 2
    second = scans / START / "labels" / "ben" / "second_reader"
    annotator.label(scans / "truth", scans / START / "second_reader", second)
    refused = next(patch for patch in tasks["patch"] if patch not in set(twice["patch"]))
    (scans / START / "labels" / "tasks.csv").write_text(
        f"patch,case,state,reason\n{refused},{tasks['case'][refused - 1]},refused,motion\n"
    )
    trained = run(scans, "-resume", double_read=0.2)
    assert "8 of 8 patches of cycle 1 are to be labelled" in trained.stdout, trained.output
    assert (scans / "results" / "report.html").exists()
    told = pd.read_csv(scans / START / "deliveries.csv")
    states = ["refused" if patch == refused else "done" for patch in range(1, 14)]
    assert list(told["state"]) == [*states, "reserve", "reserve", "wrong"]
    assert told["stands_for"][12] == refused and told["stands_for"].count() == 1
    assert told.iloc[-1]["file"] == "notes.nii.gz" and told.iloc[-1]["note"] == "is for no case of this query"
    assert list(told["annotator"][twice["patch"] - 1]) == ["ben"] * 2  # the first has no name
    agreement = pd.read_csv(scans / START / "agreement.csv", keep_default_na=False)
    assert set(agreement["patch"]) == set(twice["patch"]) and set(agreement["dice"]) <= {"1", ""}
    assert "Two of them agree with a Dice of 1.000" in (scans / "results" / "report.html").read_text()
    handed_out = (scans / NEXT / "query.csv").read_bytes()
    start = read_labels(scans / "results/labels/scans-main-s12345/labels_c00.h5")
    check_truth(scans, start, 12)
    labelled = start.patches.loc[start.patches["cycle"] == 0, ["case", "z", "y", "x"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_csv(asked)[["case", "z", "y", "x"]], labelled, check_dtype=False)

    # A correction: what is handed out stays, and what rests on the first labels is made anew.
    apart = set(tasks["case"][twice["patch"] - 1])
    case = next(name for name in sorted(set(labelled["case"]) - apart) if 1 in start.masks[name])
    (file,) = (scans / START / "labels").glob(f"{case}.*")
    image = sitk.ReadImage(str(file))
    sitk.WriteImage(sitk.ChangeLabel(image, {1: 3}), str(file), True)
    annotator.label(scans / "truth", scans / NEXT, classes=CLASSES)
    annotator.label(scans / "truth", scans / NEXT / "second_reader", scans / NEXT / "labels" / "ben" / "second_reader")
    done = run(scans, "-resume", double_read=0.2)
    assert done.returncode == 0 and "Done." in done.stdout, done.output
    assert (scans / NEXT / "query.csv").read_bytes() == handed_out
    assert done.tasks("COMPLETED")["TRAIN"] == 4
    corrected = read_labels(scans / "results/labels/scans-main-bald-s12345/labels_c01.h5")
    assert len(pd.read_csv(scans / "results/tables/queries.csv")) == 1 + 12 + 8
    assert list(pd.read_csv(scans / "results/tables/cost.csv")["patches_asked"]) == [12, 8]
    assert not any(1 in corrected.masks[case][box.slices] for box in start.boxes(case))
    assert len(list((scans / START / "received").glob(f"*-{file.name}"))) == 2


def check_truth(scans: Path, labels: Any, patches: int) -> None:
    """Labels in all patches are those that PREPARE makes of the whole label files."""
    settings = Settings("scans", "3d_fullres", 0.25, 1, None, None, folds=2, start_size=8, people=True)
    prepare(scans / "truth", settings, 1, scans / "p", scans / "oracle.h5", scans / "reference.h5")
    truth = read_labels(scans / "oracle.h5", "oracle").masks
    rows = labels.patches[labels.patches["cycle"] == 0]
    assert len(rows) == patches and set(labels.patches["case"]) - set(rows["case"]) == {"phantom_003"}
    for case in set(labels.patches["case"]) & set(truth):
        for box in labels.boxes(case):
            np.testing.assert_array_equal(labels.masks[case][box.slices], truth[case][box.slices])


def test_the_newest_nextflow_waits_and_goes_on_with_new_scans(scans: Path) -> None:
    several = {"double_read": 0.2, "blind": 0.5, "disagreement": "rank", "annotators": "ann,ben"}
    first = run(scans, "-stub-run", profile="test,stub", version=VERSIONS[1], **several)
    assert first.returncode == 0, first.output
    assert "patches of cycle 0 are to be labelled" in first.stdout
    (scans / START / "labels").mkdir()
    more = run(scans, "-stub-run", "-resume", profile="test,stub", version=VERSIONS[1], **several)
    assert (scans / START / "agreement.csv").exists() and (scans / START / "double_read.csv").exists()
    assert more.returncode == 0 and "patches of cycle 1 are to be labelled" in more.stdout, more.output
    package = {path: path.read_bytes() for path in (scans / START).glob("*.csv")}
    plans = (scans / "results/annotation/plans_scans.json").read_text()
    images = scans / "scans" / "imagesTr"
    shutil.copy(images / "phantom_001_0000.nii.gz", images / "phantom_009_0000.nii.gz")
    joined = run(scans, "-stub-run", "-resume", profile="test,stub", version=VERSIONS[1], **several)
    assert joined.returncode == 0 and joined.tasks("COMPLETED")["PREPARE"] == 1, joined.output
    assert not joined.tasks()["QUERY"] and not joined.tasks()["HAND_OUT"]
    assert {path: path.read_bytes() for path in (scans / START).glob("*.csv")} == package
    assert [path.read_text() for path in (scans / "work").glob("*/*/before/plans.json")] == [plans]
