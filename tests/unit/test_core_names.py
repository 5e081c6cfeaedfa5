"""One rule for names, and every door that it stands at."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import study
import tiny
from commands import invoke, lines_of

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.design import Design
from nnactive_nf.core.errors import UserError, shown
from nnactive_nf.core.labels import Labels, read_labels, write_labels
from nnactive_nf.core.names import check_names, name_errors
from nnactive_nf.core.patients import case_groups
from nnactive_nf.core.raw import list_raw
from nnactive_nf.query.run import Settings, query

GOOD = ["case_001", "0", "NA", "null", "left kidney", "edema (peritumoral)", "Grad IV", "Fallzahl ä", "病例1", "_x",
        "a,b", 'a"b', "x=1", "power_bald:beta=10", "random@mine", "a.b", "n" * 120]  # fmt: skip
BAD = {
    "": "must not be empty",
    ".": "must begin with a letter or a digit",
    "..": "must begin with a letter or a digit",
    "../x": "must not hold a slash",
    "/etc/passwd": "must not hold a slash",
    "a\\b": "must not hold a slash",
    "-rf": "must begin with a letter or a digit",
    "=1+1": "must begin with a letter or a digit",
    "@x": "must begin with a letter or a digit",
    " a": "must begin with a letter or a digit",
    "a ": "must not end with a blank",
    "a\nERROR: b": "must not hold characters that cannot be shown",
    "a\0": "must not hold characters that cannot be shown",
    "a\u202eb": "must not hold characters that cannot be shown",
    "a\udcff": "must be UTF-8",
    "n" * 121: "must not be longer than 120 bytes",
    "ä" * 61: "must not be longer than 120 bytes",
}


@pytest.mark.parametrize("name", GOOD)
def test_names_that_people_give(name: str) -> None:
    assert name_errors("case", [name]) == []


@pytest.mark.parametrize("name", BAD)
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(UserError) as told:
        check_names("case", ["good", name], "cases.csv")
    (line,) = told.value.lines
    assert line.startswith("cases.csv: case '") and BAD[name] in line and line.isprintable()


@pytest.mark.parametrize(
    "pair", [("p0", "P0"), ("é", "e\u0301"), ("a b", "a  b"), ("ﬁn", "fin"), ("STRASSE", "straße")]
)
def test_two_names_that_are_one_to_people_or_file_systems(pair: tuple[str, str]) -> None:
    (line,) = name_errors("patient", ["x", *pair])
    assert line.startswith(f"patient '{pair[0]}' and '{pair[1]}': they differ in capitals")


@pytest.mark.parametrize("name", ["mean", "Mean", "all", "ignore"])
def test_names_that_tables_mean_something_by(name: str) -> None:
    (line,) = name_errors("class", [name])
    assert "this name is taken, it stands for" in line
    assert name_errors("case", [name]) == []
    assert bool(name_errors("regime", [name])) == (name == "all")


def test_a_line_stays_one_line_whatever_a_file_is_called() -> None:
    assert shown("a\nERROR: b\0\x1b[31m\udcff ä 病") == r"a\nERROR: b\x00\x1b[31m\udcff ä 病"
    assert UserError("a\nb").lines == (r"a\nb",) and str(UserError("a\nb", "c")) == "a\\nb\nc"


CURVES = {("phantom", "main"): {"random": {1: [0.5, 0.6]}, "bald": {1: [0.5, 0.7]}}}


def raw_with(folder: Path, phantom: Path, **head: Any) -> Path:
    raw = folder / "raw"
    shutil.copytree(phantom, raw)
    content = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps(content | head))
    return raw


def test_a_class_called_mean_would_replace_the_headline_result(phantom: Path, tmp_path: Path) -> None:
    raw = raw_with(tmp_path, phantom, labels={"background": 0, "mean": 1, "tail": 2, "lesion": 3})
    with pytest.raises(
        UserError, match="class 'mean': this name is taken, it stands for the mean over classes; choose another"
    ):
        list_raw(raw)


def test_classes_of_other_names_for_background_are_taken(phantom: Path, tmp_path: Path) -> None:
    """nnU-Net knows no other name for it."""
    raw = list_raw(raw_with(tmp_path, phantom, labels={"air": 0, "organ": 1, "tail": 2, "lesion": 3}))
    assert raw.classes.names[0] == "air" and raw.nnunet_json["labels"]["background"] == 0
    with pytest.raises(UserError, match="class 'background': nnU-Net wants this name for the value 0"):
        Classes.of({"air": 0, "background": 1})


@pytest.mark.parametrize("name", ["..", "-x", "a\nERROR: b", "a "])
def test_cases_are_refused_by_their_files_names(name: str, phantom: Path, tmp_path: Path) -> None:
    raw = raw_with(tmp_path, phantom)
    first = sorted((raw / "labelsTr").iterdir())[0].name.removesuffix(".nii.gz")
    (raw / "labelsTr" / f"{first}.nii.gz").rename(raw / "labelsTr" / f"{name}.nii.gz")
    (raw / "imagesTr" / f"{first}_0000.nii.gz").rename(raw / "imagesTr" / f"{name}_0000.nii.gz")
    if name == "..":
        # hidden files are passed over, so a list names it
        files = {"images": [f"imagesTr/{name}_0000.nii.gz"], "label": f"labelsTr/{name}.nii.gz"}
        raw = raw_with(tmp_path / "listed", raw, dataset={f"../{name}": files})
    with pytest.raises(UserError) as told:
        list_raw(raw)
    assert all(line.isprintable() and line.startswith(str(raw)) for line in told.value.lines)
    assert "a name must" in told.value.lines[0]


def test_patients_called_na_are_patients_and_blanks_are_told(tmp_path: Path) -> None:
    table = tmp_path / "groups.csv"
    table.write_text("case,group\na,NA\nNA,null\n")
    assert case_groups(["a", "NA"], table, None) == {"a": "NA", "NA": "null"}
    table.write_text("case,group\na,p0\nb,p0 \n")
    with pytest.raises(UserError, match=r"groups\.csv: patient 'p0 ': a name must not end with a blank"):
        case_groups(["a", "b"], table, None)
    with pytest.raises(UserError, match=r"group_pattern '\(x\?\)': patient '': a name must not be empty"):
        case_groups(["a", "x"], None, "(x?)")
    with pytest.raises(UserError, match="patient 'P1' and 'p1': they differ in capitals"):
        case_groups(["P1_a", "p1_b"], None, "([Pp]1)")


def test_a_case_called_na_goes_through_a_query(tmp_path: Path) -> None:
    dataset = tiny.prepared(
        tmp_path / "prepared", {"NA": (6, 6, 6), "null": (6, 6, 6)}, groups={"NA": "nan", "null": ""}
    )
    assert dataset.pool == ["NA", "null"] and dataset.groups == {"NA": "nan", "null": ""}
    settings = Settings("random", seed=1, cycle=0, cycles=2, size=2, patch_zyx=(6, 6, 6), start=True)
    picks, _, _ = query(tmp_path / "prepared", settings)
    assert sorted(pick.case for pick in picks) == ["NA", "null"]


def test_prepared_folders_and_labels_hold_names_against_the_rule(tmp_path: Path) -> None:
    tiny.prepared(tmp_path / "prepared", {"a": (4, 4, 4), "b": (4, 4, 4)})
    cases = tmp_path / "prepared" / "cases.csv"
    cases.write_text(cases.read_text().replace("\nb,b,", "\n../b,b,"))
    with pytest.raises(UserError, match=r"cases.csv: case '\.\./b': a name must not hold a slash"):
        Dataset.open(tmp_path / "prepared")
    labels = Labels("x", "n", 0, Classes(("background", "mean"), (0, 1)), {"a": np.zeros((2, 2, 2), np.uint8)})
    write_labels(tmp_path / "labels.h5", labels)
    with pytest.raises(UserError, match=r"labels\.h5: class 'mean': this name is taken"):
        read_labels(tmp_path / "labels.h5")


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("data set", {"groups": [{"dataset": "../x"}]}),
        ("regime", {"groups": [{"regime": "all"}]}),
        ("trajectory", {"trajectories": [{"id": "/x"}]}),
        ("node", {"trajectories": [{"nodes": ["a/b"]}]}),
        ("strategy", {"strategies": [{"name": "-x"}]}),
    ],
)
def test_a_plan_from_elsewhere_holds_names_against_the_rule(kind: str, changes: dict[str, Any]) -> None:
    content = study.make_design(CURVES)
    for part, (change, *_) in changes.items():
        content[part] = [content[part][0] | change, *content[part][1:]]
    with pytest.raises(UserError, match=f"design.json: {kind} '"):
        Design.of(content)


@pytest.mark.parametrize(
    ("command", "option"),
    [
        *((name, "--node") for name in ("annotate", "train", "predict", "query", "evaluate")),
        *((name, "--name") for name in ("check", "prepare")),
        *(("evaluate", option) for option in ("--dataset", "--regime")),
    ],
)
@pytest.mark.parametrize("name", ["../x", "-x", "a\nb", ""])
def test_commands_refuse_names_that_would_lead_elsewhere(command: str, option: str, name: str) -> None:
    result = invoke(command, f"{option}={name}")
    assert result.exit_code == 2
    (line,) = lines_of(result)
    assert option in line and "a name must" in line, line
