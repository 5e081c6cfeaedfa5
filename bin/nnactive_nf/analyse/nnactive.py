"""Results that the nnActive package wrote, read as a study.

An experiment there is a folder with `config.json` (its settings) and one `loop_XXX/summary.json` per cycle (nnU-Net's
evaluation of the test set). It knows patches as a number only: what they held stands in no file that is read here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnactive_nf.analyse.study import SCORE_COLUMNS, Study, find_gaps, table
from nnactive_nf.core.design import MEAN, Design
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json

# Their name of a strategy -> ours, and the name in the paper.
STRATEGIES = {
    "random": ("random", "Random"),
    "random-label2": ("random_fg33", "Random 33% FG"),
    "random-label": ("random_fg66", "Random 66% FG"),
    "pred_entropy": ("predictive_entropy", "Predictive Entropy"),
    "expected_entropy": ("expected_entropy", "Expected Entropy"),
    "mutual_information": ("bald", "BALD"),
    "power_bald": ("power_bald", "PowerBALD"),
    "power_pe": ("power_pe", "PowerPE"),
    "softrank_bald": ("softrank_bald", "SoftrankBALD"),
}
RANDOM = {"random", "random_fg33", "random_fg66"}
ORACLE_AWARE = {"random_fg33", "random_fg66"}


@dataclass(frozen=True)
class Experiment:
    """One trajectory of theirs: its settings and the evaluation of each loop, by number."""

    folder: Path
    config: dict[str, Any]
    summaries: dict[int, dict[str, Any]]

    @property
    def dataset(self) -> str:
        """The data set's name without nnU-Net's number."""
        return re.sub(r"^Dataset\d+_", "", str(self.config["dataset"]))

    @property
    def query_size(self) -> int:
        """Patches per query."""
        return int(self.config["query_size"])

    @property
    def start_size(self) -> int:
        """Patches of the start; their default is the query's size."""
        start = self.config.get("starting_budget_size")
        return self.query_size if start is None else int(start)

    @property
    def setting(self) -> tuple[Any, ...]:
        """What must be equal for two experiments to be compared."""
        names = ("patch_size", "trainer", "model_config", "starting_budget")
        rest = tuple(str(self.config.get(name)) for name in names)
        return (self.dataset, self.start_size, self.query_size, *rest)


def find_experiments(folder: Path) -> list[Experiment]:
    """All experiments at or below a folder; `UserError` where there is none."""
    found = []
    for path in sorted(folder.rglob("config.json")):
        loops = sorted(path.parent.glob("loop_*/summary.json"))
        if not loops:
            continue
        config = read_json(path)
        if not isinstance(config, dict):
            raise UserError(f"{path}: not the settings of an nnActive experiment")
        missing = [name for name in ("dataset", "uncertainty", "seed", "query_size") if name not in config]
        if missing:
            raise UserError(f"{path}: not the settings of an nnActive experiment, {', '.join(missing)} missing")
        for name in ("seed", "query_size", "starting_budget_size", "query_steps", "full_folds"):
            if not str(config.get(name) or 0).strip().isdecimal():
                raise UserError(f"{path}: {name} is {config[name]!r}, a whole number is wanted")
        summaries = {_loop_number(loop): read_json(loop) for loop in loops}
        found.append(Experiment(path.parent, config, summaries))
    if not found:
        raise UserError(f"{folder}: holds no nnActive results (config.json beside loop_XXX/summary.json)")
    return found


def read_nnactive(folder: Path) -> Study:
    """Read a folder of nnActive's results as a study; its start nodes are each experiment's own."""
    experiments = find_experiments(folder)
    regimes = _regimes(experiments)
    trajectories: dict[str, dict[str, Any]] = {}
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    strategies: dict[str, dict[str, Any]] = {}
    scores: list[dict[str, Any]] = []
    classes: dict[str, list[str]] = {}
    for experiment in experiments:
        config, regime = experiment.config, regimes[experiment.setting]
        entry = _strategy(str(config["uncertainty"]))
        strategies[entry["name"]] = entry
        name = f"{experiment.dataset}-{regime}-{entry['name']}-s{config['seed']}"
        if name in trajectories:
            raise UserError(f"{experiment.folder}: the same settings, strategy and seed as another experiment ({name})")
        planned = int(config.get("query_steps") or 0) or max(experiment.summaries) + 1
        cycles = max(planned, max(experiment.summaries) + 1)
        trajectories[name] = {
            "id": name,
            "dataset": experiment.dataset,
            "regime": regime,
            "strategy": entry["name"],
            "seed": int(config["seed"]),
            "nodes": [f"{name}-c{cycle:02d}" for cycle in range(cycles)],
            "budgets": [experiment.start_size + experiment.query_size * cycle for cycle in range(cycles)],
        }
        groups[experiment.dataset, regime] = {
            "dataset": experiment.dataset,
            "regime": regime,
            "start_size": experiment.start_size,
            "query_size": experiment.query_size,
            "patch_size": _patch_size(config.get("patch_size")),
            "start_strategy": str(config.get("starting_budget", "")),
        }
        for cycle, summary in experiment.summaries.items():
            rows = _scores(experiment.folder, cycle, summary, f"{name}-c{cycle:02d}")
            scores.extend(rows)
            known = classes.setdefault(experiment.dataset, [])
            known.extend(row["class"] for row in rows if row["class"] not in (MEAN, *known))
    design = {
        "cycles": max(len(item["nodes"]) for item in trajectories.values()),
        "folds": max(int(experiment.config.get("full_folds") or 0) for experiment in experiments),
        "strategies": sorted(
            strategies.values(), key=lambda item: (not item["base"].startswith("random"), item["name"])
        ),
        "groups": [groups[key] for key in sorted(groups)],
        "trajectories": list(trajectories.values()),
    }
    study = Study(Design.of(design, str(folder)), table(SCORE_COLUMNS, scores), classes=classes)
    text = "results of the nnActive package; what the patches held, NSD, HD95 and calibration are not known."
    study.note("source", f"{folder.name}: {text}")
    find_gaps(study, with_labels=False)
    return study


def _loop_number(summary: Path) -> int:
    number = re.fullmatch(r"loop_(\d+)", summary.parent.name)
    if number is None:
        raise UserError(f"{summary}: its folder is not called loop_XXX")
    return int(number[1])


def _scores(folder: Path, cycle: int, summary: dict[str, Any], node: str) -> list[dict[str, Any]]:
    """nnU-Net's summary as rows of `Study.scores`; its classes are label values."""
    try:
        cases = len(summary.get("metric_per_case") or []) or math.nan
        blank = {"nsd": math.nan, "hd95_mm": math.nan, "cases": cases, "empty_reference": 0, "empty_prediction": 0}
        parts = [(MEAN, summary["foreground_mean"]), *sorted(summary["mean"].items(), key=lambda item: _order(item[0]))]
        return [
            {"node": node, "class": str(name), "dice": float(part["Dice"]), "iou": float(part["IoU"]), **blank}
            for name, part in parts
        ]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{folder}/loop_{cycle:03d}/summary.json: not nnU-Net's evaluation ({error!r})") from None


def _order(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdigit() else (10**9, name)


def _strategy(theirs: str) -> dict[str, Any]:
    name, paper = STRATEGIES.get(theirs, (theirs, theirs))
    return {
        "name": name,
        "base": name.split(":")[0],
        "label": paper,
        "paper_name": paper,
        "oracle_aware": name in ORACLE_AWARE,
        "needs_model": name not in RANDOM,
    }


def _patch_size(value: Any) -> list[int]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [int(number) for number in value]
    numbers = re.findall(r"\d+", str(value))
    return [int(number) for number in numbers] if len(numbers) == 3 else []


def _regimes(experiments: Sequence[Experiment]) -> dict[tuple[Any, ...], str]:
    """A short name for each setting: start and query size, and what else tells it from others of the data set."""
    names: dict[tuple[Any, ...], str] = {}
    for setting in sorted({experiment.setting for experiment in experiments}, key=str):
        _, start, query, *rest = setting
        short = f"start{start}-query{query}"
        twins = [other for other in {e.setting for e in experiments} if other[:3] == setting[:3] and other != setting]
        differs = [value for place, value in enumerate(rest) if any(other[3 + place] != value for other in twins)]
        names[setting] = "-".join([short, *(re.sub(r"[^A-Za-z0-9._]+", "_", value).strip("_") for value in differs)])
    return names
