"""The presets in conf/studies: valid study tables with the numbers of the papers (section 6 of the design)."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from schemas import STUDY_SCHEMA, study_errors, typed_row

STUDIES = ROOT / "conf" / "studies"
NAMES = sorted(path.stem for path in STUDIES.iterdir())

# Data set: patch (z, y, x), stride, start and query size in the regimes low, medium, high.
SETTINGS = {
    "ACDC": ("4,40,40", "1,8,8", (30, 60, 90)),
    "AMOS": ("32,74,74", "8", (40, 200, 500)),
    "Hippocampus": ("20,20,20", "1", (20, 40, 60)),
    "KiTS": ("64,64,64", "8", (40, 200, 500)),
}
HALF_PATCHES = {"ACDC": "2,20,20", "AMOS": "16,37,37", "Hippocampus": "10,10,10", "KiTS": "32,32,32"}
ROLL_OUT = {
    "WORD": ("29,74,87", 800),
    "LiTS": ("28,44,39", 150),
    "MAMA-MIA": ("16,48,57", 100),
    "ToothFairy2": ("33,34,35", 2100),
}
REGIMES = ("low", "medium", "high")
PAPER_NAMES = {
    "Random", "Random 33% FG", "Random 66% FG", "Predictive Entropy", "BALD", "PowerBALD", "SoftrankBALD", "PowerPE",
}  # fmt: skip
SAME = {
    "cycles": 5, "patches_per_image": 20, "seeds": "12345,12346,12347,12348", "start_strategy": "random_fg33",
    "start_guarantee": True, "folds": 5, "epochs": 200, "iterations": 250, "test_fraction": 0.25,
}  # fmt: skip


def rows(name: str) -> list[dict[str, Any]]:
    """The rows of a preset as their schema's types, empty cells left out."""
    with (STUDIES / f"{name}.csv").open(newline="") as file:
        return [typed_row(row) for row in csv.DictReader(file)]


def paper_names(strategies: str) -> set[str]:
    registry = json.loads((ROOT / "bin/nnactive_nf/core/strategies.json").read_text())
    names = {entry["name"]: entry["paper_name"] for entry in registry}
    assert len(set(strategies.split(","))) == len(strategies.split(","))
    return {names[strategy] for strategy in strategies.split(",")}


def differs(row: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if other.get(key) != value}


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_a_study_table(name: str) -> None:
    found = rows(name)
    assert study_errors(found) == []
    groups = [(row["dataset"], row["regime"]) for row in found]
    assert len(set(groups)) == len(groups)


def test_there_is_one_for_each_data_set_with_its_ablations_and_one_for_each_paper() -> None:
    single = [name.lower() for name in SETTINGS]
    assert sorted([*single, *(f"{name}_ablations" for name in single), "paper", "rollout"]) == NAMES


@pytest.mark.parametrize("dataset", SETTINGS)
def test_the_numbers_of_a_data_set(dataset: str) -> None:
    patch, stride, sizes = SETTINGS[dataset]
    for row, regime, size in zip(rows(dataset.lower()), REGIMES, sizes, strict=True):
        assert paper_names(row.pop("strategies")) == PAPER_NAMES
        assert row.pop("group_pattern", None) == (r"^(patient\d+)" if dataset == "ACDC" else None)
        own = {"start_size": size, "query_size": str(size), "patch_size": patch, "stride": stride}
        assert row == {"dataset": dataset, "regime": regime, **own, **SAME}


def test_the_paper_is_all_four_with_a_folder_each() -> None:
    single = [row for dataset in SETTINGS for row in rows(dataset.lower())]
    assert rows("paper") == [{"input": row["dataset"], **row} for row in single]


@pytest.mark.parametrize("dataset", SETTINGS)
def test_an_ablation_changes_one_thing(dataset: str) -> None:
    main = {row["regime"]: row for row in rows(dataset.lower())}
    ablations = {row.pop("regime"): row for row in rows(f"{dataset.lower()}_ablations")}
    betas = ",".join(f"power_bald:beta={beta}" for beta in (5, 10, 20, 40))
    assert len(ablations) == 5 * len(REGIMES)
    for regime, size in zip(REGIMES, SETTINGS[dataset][2], strict=True):
        changes = {
            "half_patch": {"patch_size": HALF_PATCHES[dataset]},
            "half_query": {"query_size": str(size // 2), "cycles": 9},
            "double_query": {"query_size": str(size * 2), "cycles": 3},
            "500_epochs": {"epochs": 500},
            "betas": {"strategies": betas},
        }
        for name, change in changes.items():
            row = ablations[f"{regime}_{name}"]
            assert differs(row, main[regime]) == change
            # The last budget is that of the study, so that areas under the curves compare.
            assert row["start_size"] + (row["cycles"] - 1) * int(row["query_size"]) == 5 * size


def test_the_roll_out() -> None:
    found = rows("rollout")
    assert [row["dataset"] for row in found] == list(ROLL_OUT)
    for row in found:
        patch, size = ROLL_OUT[row["dataset"]]
        assert (row["input"], row["patch_size"], row["start_size"], row["query_size"]) == (
            row["dataset"],
            patch,
            size,
            str(size),
        )
        assert {"clasp_pe", "random", "random_fg33", "random_fg66"} < set(row["strategies"].split(","))
        assert differs(SAME, row) == {}
        eighths = [int(side) / 8 for side in patch.split(",")]
        assert [int(step) for step in row["stride"].split(",")] == [round(side) for side in eighths]


def test_the_documentation_names_every_preset_column_and_patch() -> None:
    text = (ROOT / "docs" / "studies.md").read_text()
    for name in (*(f"{name}.csv" for name in NAMES), *STUDY_SCHEMA["items"]["properties"]):
        assert f"`{name}`" in text, name
    patches = {name: patch for name, (patch, *_) in {**SETTINGS, **ROLL_OUT}.items()}
    for name, patch in patches.items():
        assert f"| {name} | {patch.replace(',', ', ')} |" in text, name


def test_the_documentation_counts_the_trainings() -> None:
    def trainings(name: str) -> int:
        return sum(
            len(row["seeds"].split(",")) * (1 + len(row["strategies"].split(",")) * (row["cycles"] - 1)) * row["folds"]
            for row in rows(name)
        )

    text = (ROOT / "docs" / "studies.md").read_text().replace("\n", " ")
    told = re.search(
        r"So a data set is (\d+), `paper.csv` (\d+), the ablations of a data set (\d+), and `rollout.csv` (\d+)", text
    )
    assert told is not None
    counted = [trainings(name) for name in ("acdc", "paper", "kits_ablations", "rollout")]
    assert [int(number) for number in told.groups()] == counted


def test_the_start_is_the_same_for_any_number_of_cycles(prepared: Path) -> None:
    """So `half_query`, `double_query` and `betas` find the trainings of their cycle 0 in the checkpoint store."""
    from nnactive_nf.query.run import Settings, query

    def start(**other: Any) -> list[tuple[Any, ...]]:
        settings = {"seed": 12345, "size": 10, "patch_zyx": (4, 8, 8), "cycles": 5, "stride_zyx": (8, 8, 8), **other}
        picks, _, _ = query(
            prepared / "prepared",
            Settings("random_fg33", cycle=0, start=True, class_guarantee=True, **settings),
            oracle_file=prepared / "oracle.h5",
        )
        return [(pick.case, pick.box.start_zyx) for pick in picks]

    assert start(cycles=9) == start(cycles=3) == start()
    assert start(patch_zyx=(2, 4, 4)) != start()
    assert start(seed=12346) != start()
