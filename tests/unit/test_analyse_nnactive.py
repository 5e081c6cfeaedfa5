"""Results of the nnActive package: files of its layout, written here."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from nnactive_nf.analyse.nnactive import read_nnactive
from nnactive_nf.analyse.write import all_tables
from nnactive_nf.core.errors import UserError


def summary(dice: list[float]) -> dict[str, Any]:
    """An evaluation as nnU-Net writes it: classes by label value, counts beside the measures."""

    def part(value: float) -> dict[str, float]:
        counts = {"FN": 10.0, "FP": 12.0, "TN": 900.0, "TP": 80.0, "n_pred": 92.0, "n_ref": 90.0}
        return {"Dice": value, "IoU": value / (2 - value), **counts}

    return {
        "foreground_mean": part(sum(dice) / len(dice)),
        "mean": {str(place): part(value) for place, value in enumerate(dice, start=1)},
        "metric_per_case": [{"metrics": {}, "prediction_file": "p", "reference_file": "r"}] * 4,
    }


def write_experiment(folder: Path, strategy: str, seed: int, curves: list[list[float]], **config: Any) -> Path:
    """One experiment: its settings and a summary per loop."""
    settings = {
        "patch_size": [20, 20, 20],
        "base_id": 4,
        "starting_budget": "random-label2-all-classes",
        "starting_budget_size": 40,
        "trainer": "nnActiveTrainer_200epochs",
        "model_config": "3d_fullres",
        "uncertainty": strategy,
        "query_size": 20,
        "query_steps": len(curves),
        "seed": seed,
        "full_folds": 5,
        "dataset": "Dataset004_Hippocampus",
        **config,
    }
    name = f"Dataset{500 + seed}_Hippocampus__sbs-{settings['starting_budget_size']}__unc-{strategy}__seed-{seed}"
    experiment = folder / "Dataset004_Hippocampus" / "nnActive_results" / name
    experiment.mkdir(parents=True)
    (experiment / "config.json").write_text(json.dumps(settings))
    for loop, dice in enumerate(curves):
        (experiment / f"loop_{loop:03d}").mkdir()
        (experiment / f"loop_{loop:03d}" / "summary.json").write_text(json.dumps(summary(dice)))
    return experiment


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for seed in (12345, 12346, 12347):
        shift = (seed - 12346) / 1000
        for strategy, gain in (("random", 0.01), ("random-label2", 0.02), ("mutual_information", 0.04)):
            curves = [[0.8 + gain * loop + shift + loop * loop * shift / 9, 0.7 + gain * loop] for loop in range(3)]
            write_experiment(tmp_path, strategy, seed, curves)
    return tmp_path


def test_layout_is_read(results: Path):
    study = read_nnactive(results)
    assert [s.name for s in study.design.strategies] == ["random", "random_fg33", "bald"]
    assert study.design.strategy("random_fg33").oracle_aware
    assert study.design.settings == [("Hippocampus", "start40-query20")]
    assert study.design.groups[0].patch_size == (20, 20, 20)
    assert len(study.design.trajectories) == 9
    assert study.design.trajectories[0].budgets == (40, 60, 80)
    assert study.classes == {"Hippocampus": ["1", "2"]}
    tables = all_tables(study, draws=50)
    rows = tables["trajectories"].set_index(["trajectory", "class"])
    name = "Hippocampus-start40-query20-bald-s12346"
    assert rows.loc[(name, "mean"), "aubc"] == pytest.approx(0.79)
    assert rows.loc[(name, "1"), "final_dice"] == pytest.approx(0.88)
    assert set(tables["metrics"]["cases"]) == {4}
    versus = tables["versus_random"].query("measure == 'aubc'").set_index(["strategy", "baseline"])
    assert versus.loc[("bald", "random"), "verdict"] == "better"
    assert "results of the nnActive package" in " ".join(tables["notes"]["text"])


def test_settings_that_differ_are_other_regimes(results: Path):
    write_experiment(results, "random", 1, [[0.5, 0.5]], trainer="nnActiveTrainer_500epochs")
    write_experiment(results, "random", 2, [[0.5, 0.5]], starting_budget_size=None, query_size=60)
    regimes = {regime for _, regime in read_nnactive(results).design.settings}
    assert regimes == {
        "start40-query20-nnActiveTrainer_200epochs",
        "start40-query20-nnActiveTrainer_500epochs",
        "start60-query60",
    }


def test_missing_loops_are_named(results: Path):
    experiment = write_experiment(results, "power_bald", 12345, [[0.8, 0.7], [0.8, 0.75], [0.85, 0.8]])
    (experiment / "loop_002" / "summary.json").unlink()
    tables = all_tables(read_nnactive(results), draws=50)
    assert "power_bald-s12345: no results of cycle 2" in " ".join(tables["notes"]["text"])


def test_class_that_is_nowhere(results: Path):
    """nnU-Net writes NaN where a class is in no reference and no prediction."""
    experiment = write_experiment(results, "power_pe", 12345, [[0.8, 0.7]])
    path = experiment / "loop_000" / "summary.json"
    content = json.loads(path.read_text())
    content["mean"]["2"]["Dice"] = math.nan
    path.write_text(json.dumps(content))
    tables = all_tables(read_nnactive(results), draws=50)
    rows = tables["metrics"].query("strategy == 'power_pe'").set_index("class")
    assert math.isnan(rows.loc["2", "dice"])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{}", "config.json: not the settings of an nnActive experiment"),
        ("loop_001/summary.json", "{}", "loop_001/summary.json: not nnU-Net's evaluation"),
        ("loop_001/summary.json", "{", "not a JSON file"),
    ],
)
def test_broken_files_are_named(results: Path, file: str, content: str, message: str):
    experiment = next(iter(sorted(results.rglob("config.json")))).parent
    (experiment / file).write_text(content)
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        read_nnactive(results)


def test_twins_are_refused(results: Path):
    source = next(iter(sorted(results.rglob("config.json")))).parent
    twin = source.with_name(source.name + "_again")
    twin.mkdir()
    (twin / "config.json").write_bytes((source / "config.json").read_bytes())
    (twin / "loop_000").mkdir()
    (twin / "loop_000" / "summary.json").write_bytes((source / "loop_000" / "summary.json").read_bytes())
    with pytest.raises(UserError, match="the same settings, strategy and seed"):
        read_nnactive(results)


def test_empty_folder(tmp_path: Path):
    with pytest.raises(UserError, match="holds no nnActive results"):
        read_nnactive(tmp_path)
