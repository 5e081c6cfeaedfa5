"""The results of a study in memory, whatever they were read from, and the reading of the workflow's own files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd

from nnactive_nf.analyse.rows import number_or_nan, whole_numbers
from nnactive_nf.core.design import MEAN, Design, Trajectory
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json
from nnactive_nf.core.geometry import Box, as_shape
from nnactive_nf.core.hdf5 import open_hdf5
from nnactive_nf.core.labels import (
    MINUTES,
    OUTSIDE,
    Labels,
    class_column,
    each_mask,
    is_asked_for,
    patch_boxes,
    read_patches,
)
from nnactive_nf.core.labels import VERSION as LABELS_VERSION
from nnactive_nf.core.names import check_names
from nnactive_nf.core.online_dice import mean_dice, moving_dice
from nnactive_nf.core.query_table import read_query
from nnactive_nf.core.result_tables import COLUMNS
from nnactive_nf.core.tables import read_table

MEASURES = ["dice", "iou", "nsd", "hd95_mm"]
SCORE_COLUMNS = ["node", "class", *MEASURES, "cases", "empty_reference", "empty_prediction"]
PATCH_COLUMNS = [
    "cycle", "rank", "case", "z", "y", "x", "dz", "dy", "dx", "score", "strategy", "component",
    "voxels", "foreground_voxels", "border_voxels", MINUTES,
]  # fmt: skip
STOP_COLUMNS = ["trajectory", "cycle", "rule", "value", "why"]

CROSS_VALIDATION = (
    "there is no test set. Dice is that of each fold's network on the labelled patches of cases that it was not "
    "trained on; these were chosen to be hard and change from cycle to cycle, so it tells how training goes, not how "
    "well the ensemble segments a new case."
)


def table(columns: Sequence[str], rows: Iterable[dict[str, Any]] = ()) -> pd.DataFrame:
    """Data frame with these columns in this order, also where there are no rows."""
    return pd.DataFrame(list(rows), columns=list(columns))


@dataclass
class Study:
    """All results of a study.

    Attributes:
        design: the plan.
        scores: `SCORE_COLUMNS`, one row per node and class, `mean` being the mean over foreground classes.
        patches: per trajectory id the labelled patches, `PATCH_COLUMNS` and one `voxels_<class>` each (background
            too), by cycle and rank; no entry where the label masks are missing.
        classes: foreground class names per data set.
        calibration: node, ece, brier.
        bins: node, bin, confidence, accuracy, voxels.
        runtimes: `COLUMNS["runtimes"]`, one row per node and fold.
        curves: `COLUMNS["curves"]`, one row per node, fold and epoch.
        pool: dataset, class, voxels, cases: what the pool holds, `mean` being the total of all foreground classes.
        full: dataset, regime, seed, class, dice: the training on all labels of the pool.
        stopped: trajectory, cycle (the last that was trained), rule, value, why: trajectories that a rule has stopped.
        asked: trajectory, cycle, patches: how many patches the query asked for, where the queries are known.
        lacking: trajectory, cycle, node, what: results that the plan promises and that are not there.
        agreement: rows of RECEIVE's tables of patches that several people have read, with the node that they are for.
        notes: topic, dataset, regime, text: what can't be said, or must be known before the numbers are read.
    """

    design: Design
    scores: pd.DataFrame = field(default_factory=lambda: table(SCORE_COLUMNS))
    patches: dict[str, pd.DataFrame] = field(default_factory=dict)
    classes: dict[str, list[str]] = field(default_factory=dict)
    calibration: pd.DataFrame = field(default_factory=lambda: table(["node", "ece", "brier"]))
    bins: pd.DataFrame = field(default_factory=lambda: table(COLUMNS["calibration_bins"]))
    runtimes: pd.DataFrame = field(default_factory=lambda: table(COLUMNS["runtimes"]))
    curves: pd.DataFrame = field(default_factory=lambda: table(COLUMNS["curves"]))
    pool: pd.DataFrame = field(default_factory=lambda: table(COLUMNS["pool"]))
    full: pd.DataFrame = field(default_factory=lambda: table(COLUMNS["full_reference"]))
    asked: pd.DataFrame = field(default_factory=lambda: table(["trajectory", "cycle", "patches"]))
    stopped: pd.DataFrame = field(default_factory=lambda: table(STOP_COLUMNS))
    lacking: pd.DataFrame = field(default_factory=lambda: table(COLUMNS["missing"]))
    agreement: pd.DataFrame = field(default_factory=lambda: table([]))
    notes: list[dict[str, str]] = field(default_factory=list)

    def note(self, topic: str, text: str, setting: tuple[str, str] = ("", "")) -> None:
        """Keep a sentence for the reader."""
        self.notes.append({"topic": topic, "dataset": setting[0], "regime": setting[1], "text": text})

    def stopped_early(self, trajectory: Trajectory) -> bool:
        """Whether a rule has stopped it at fewer cycles than another of its data set and regime has come to."""
        longest = max(len(other.nodes) for other in self.design.of_setting(trajectory.setting))
        return trajectory.id in set(self.stopped["trajectory"]) and len(trajectory.nodes) < longest

    def class_names(self, dataset: str) -> list[str]:
        """`mean` and the foreground classes of a data set."""
        return [MEAN, *self.classes.get(dataset, [])]

    def values(self, measure: str = "dice", name: str = MEAN) -> dict[str, float]:
        """A measure of one class (or `mean`) by node; nodes without a number are left out."""
        rows = self.scores.loc[(self.scores["class"] == name) & self.scores[measure].notna(), ["node", measure]]
        return dict(zip(rows["node"], rows[measure].astype(float), strict=True))

    def curve(self, trajectory: Trajectory, values: dict[str, float]) -> npt.NDArray[np.float64]:
        """A trajectory's values `[cycles]` in cycle order, NaN where a node has none."""
        return np.array([values.get(node, math.nan) for node in trajectory.nodes], dtype=float)


def read_study(
    design: Design,
    metrics: Path,
    labels: Path | None = None,
    queries: Path | None = None,
    oracle: Path | None = None,
    full_reference: Path | None = None,
    training: Path | None = None,
    stopped: Path | None = None,
) -> Study:
    """Read what the workflow wrote.

    Args:
        design: the plan of the study.
        metrics: folder with the nodes' `metrics.json`, under any names and in any sub-folders.
        labels: folder with `labels_cNN.h5` files, likewise.
        queries: folder with query tables, `<trajectory>/query_cNN.csv` or `<node>.csv`.
        oracle: folder with the oracles' files, for the pool's foreground totals.
        full_reference: folder with `metrics.json` of trainings on all labels of the pool.
        training: folder with the folds' `training.json`.
        stopped: folder with tables of why trajectories have stopped.
    """
    study = Study(design)
    _read_metrics(study, metrics)
    if labels is not None:
        _read_labels(study, labels)
    if queries is not None:
        _read_queries(study, queries)
    if oracle is not None:
        _read_pool(study, oracle)
    if full_reference is not None:
        _read_full_reference(study, full_reference)
    if training is not None:
        _read_training(study, training)
    if stopped is not None:
        _read_stopped(study, stopped)
    find_gaps(study, with_labels=labels is not None)
    return study


def score_rows(metrics: dict[str, Any], node: str) -> list[dict[str, Any]]:
    """Rows of `Study.scores` from the content of a `metrics.json`: the mean first, then the classes."""
    mean = metrics["mean"]
    check_names("class", metrics["classes"], f"metrics of {node}")
    per_class = {name: mean["classes"][name] for name in metrics["classes"]}
    total = {key: sum(int(row[key]) for row in per_class.values()) for key in ("empty_reference", "empty_prediction")}
    rows = [{"node": node, "class": MEAN, **_measures(mean["foreground"]), "cases": len(metrics["cases"]), **total}]
    for name, row in per_class.items():
        counts = {key: int(row[key]) for key in ("cases", "empty_reference", "empty_prediction")}
        rows.append({"node": node, "class": name, **_measures(row), **counts})
    return rows


def _measures(row: dict[str, Any]) -> dict[str, float]:
    return {name: number_or_nan(row.get(name)) for name in MEASURES}


def _read_metrics(study: Study, folder: Path) -> None:
    wanted = {node: (t, cycle) for t in study.design.trajectories for cycle, node in enumerate(t.nodes)}
    scores: list[dict[str, Any]] = []
    calibration: list[dict[str, Any]] = []
    bins: list[dict[str, Any]] = []
    seen: dict[str, Path] = {}
    crossed: set[tuple[str, str]] = set()
    for path in sorted(folder.rglob("*.json")):
        content = read_json(path)
        try:
            node = str(content["node"])
            if node not in wanted:
                continue
            if node in seen:
                raise UserError(f"{path}: node {node} also stands in {seen[node]}")
            seen[node] = path
            trajectory, cycle = wanted[node]
            planned = (trajectory.dataset, trajectory.regime, trajectory.seed, cycle)
            own = tuple(content[name] for name in ("dataset", "regime", "seed", "cycle"))
            if own != planned:
                raise UserError(f"{path}: metrics of {own} by their own words, of {planned} by the plan")
            scores.extend(score_rows(content, node))
            study.classes.setdefault(str(content["dataset"]), [str(name) for name in content["classes"]])
            if content.get("measured_by") == "cross-validation":
                crossed.add((trajectory.dataset, trajectory.regime))
            found = content.get("calibration") or {}
            if found.get("ece") is not None:
                calibration.append({"node": node, "ece": float(found["ece"]), "brier": float(found["brier"])})
                bins.extend({"node": node, "bin": place, **row} for place, row in enumerate(found.get("bins", [])))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: not the metrics of a node ({error!r})") from None
    for setting in sorted(crossed):
        study.note("cross_validation", f"{setting[0]}, {setting[1]}: {CROSS_VALIDATION}", setting)
    study.scores = table(SCORE_COLUMNS, scores)
    study.calibration = table(["node", "ece", "brier"], calibration)
    study.bins = table(COLUMNS["calibration_bins"], bins)


def _read_labels(study: Study, folder: Path) -> None:
    """Patches of every trajectory, from its latest label masks that are there."""
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.h5")):
        with open_hdf5(path, "labels", LABELS_VERSION) as file:
            files.setdefault(str(file.attrs["node"]), path)
    done: dict[str, pd.DataFrame] = {}
    for trajectory in study.design.trajectories:
        present = [node for node in trajectory.nodes if node in files]
        if not present:
            continue
        node = present[-1]
        if node not in done:
            labels = read_patches(files[node])
            study.classes.setdefault(labels.dataset, [*labels.classes.targets])
            done[node] = _patch_table(files[node], labels)
        study.patches[trajectory.id] = done[node]


def _patch_table(path: Path, labels: Labels) -> pd.DataFrame:
    patches = labels.patches.sort_values("cycle", kind="stable").reset_index(drop=True)
    patches["rank"] = patches.groupby("cycle").cumcount() + 1
    with open_hdf5(path, "labels", LABELS_VERSION) as file:
        cases = file["cases"]
        patches = patches.assign(**{MINUTES: patches.get(MINUTES, math.nan)})
        patches["border_voxels"] = [_border_of(cases, row, labels, patches) for row in patches.to_dict("records")]
    counts = [class_column(name) for name in labels.classes.named]
    return patches[[*PATCH_COLUMNS, *counts]]


def _border_of(cases: h5py.Group, patch: dict[str, Any], labels: Labels, patches: pd.DataFrame) -> int:
    box = Box(as_shape(patch[axis] for axis in "zyx"), as_shape(patch[f"d{axis}"] for axis in "zyx"))
    stored = cases[patch["case"]]["mask"]
    mask = stored[box.slices]
    if patch["strategy"] == OUTSIDE:  # its box has patches in it, which have a border of their own
        whole = stored[()]
        for other in patch_boxes(patches[is_asked_for(patches)], patch["case"]):
            whole[other.slices] = labels.classes.ignore_value
        mask = whole[box.slices]
    return border_voxels(mask, labels.classes.values[1:], labels.classes.ignore_value)


def border_voxels(mask_zyx: npt.NDArray[Any], foreground_values: Sequence[int], ignore: int = -1) -> int:
    """Foreground voxels of a patch that have one of their 6 neighbours in the same patch in another class.

    That is the contour that someone has to draw. The patch's own faces do not count, nor where labels end (`ignore`
    beyond): nothing is drawn there.
    """
    border = np.zeros(mask_zyx.shape, dtype=bool)
    for axis in range(mask_zyx.ndim):
        lower = [slice(None)] * mask_zyx.ndim
        upper = [slice(None)] * mask_zyx.ndim
        lower[axis], upper[axis] = slice(None, -1), slice(1, None)
        one, other = mask_zyx[tuple(lower)], mask_zyx[tuple(upper)]
        differs = (one != other) & (one != ignore) & (other != ignore)
        border[tuple(lower)] |= differs
        border[tuple(upper)] |= differs
    return int(np.count_nonzero(border & np.isin(mask_zyx, list(foreground_values))))


def _read_queries(study: Study, folder: Path) -> None:
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("*.csv")):
        place = path.relative_to(folder)
        number = re.search(r"c(\d+)$", path.stem)
        if number is None:
            continue
        cycle = int(number[1])
        names = {path.stem, *place.parts[:-1]}
        owners = [
            trajectory.id
            for trajectory in study.design.trajectories
            if trajectory.id in names or trajectory.nodes[cycle : cycle + 1] == (path.stem,)
        ]
        if owners:
            query = read_query(path)
            rows.extend({"trajectory": owner, "cycle": cycle, "patches": len(query)} for owner in owners)
    study.asked = table(["trajectory", "cycle", "patches"], rows).drop_duplicates(["trajectory", "cycle"])


def _read_pool(study: Study, folder: Path) -> None:
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("*.h5")):
        labels = read_patches(path, "oracle")
        counts = {name: [0, 0] for name in labels.classes.targets}
        masked = foreground = 0
        for _, mask in each_mask(path, labels.classes, "oracle"):
            masked += 1
            foreground += int(np.count_nonzero(mask))  # not the classes' sum: regions overlap
            found = labels.classes.counts(mask)
            for name, of_class in counts.items():
                of_class[0] += found[name]
                of_class[1] += found[name] > 0
        total = {"voxels": foreground, "cases": masked}
        rows.append({"dataset": labels.dataset, "class": MEAN, **total})
        rows.extend(
            {"dataset": labels.dataset, "class": name, "voxels": number, "cases": cases}
            for name, (number, cases) in counts.items()
        )
    study.pool = table(COLUMNS["pool"], rows)


def _read_full_reference(study: Study, folder: Path) -> None:
    rows: list[dict[str, Any]] = []
    for path in sorted(folder.rglob("*.json")):
        content = read_json(path)
        try:
            dataset, regime, seed = content["dataset"], content["regime"], int(content["seed"])
            meant = [g.regime for g in study.design.groups if (g.dataset, g.reference) == (dataset, regime)]
            rows.extend(
                {"dataset": dataset, "regime": name, "seed": seed, "class": row["class"], "dice": row["dice"]}
                for name in meant or [regime]
                for row in score_rows(content, content["node"])
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: not the metrics of a node ({error!r})") from None
    study.full = table(COLUMNS["full_reference"], rows)


def _read_training(study: Study, folder: Path) -> None:
    rows: list[dict[str, Any]] = []
    curves: list[pd.DataFrame] = []
    for path in sorted(folder.rglob("*.json")):
        content = read_json(path)
        try:
            curves.append(curve_table(content))
            rows.append(
                {
                    "node": content["node"],
                    "fold": int(content["fold"]),
                    "device": str(content["device"]),
                    "epochs": int(content["epochs"]),
                    "train_cases": _count(content["train_cases"]),
                    "val_cases": _count(content["val_cases"]),
                    "seconds": float(content["seconds"]),
                    "resumed": len(content["resumed_from"]),
                    # Null where it could not be measured, not there where an earlier version did not.
                    "gpu_percent_mean": number_or_nan(content.get("gpu_percent_mean")),
                    "gpu_percent_max": number_or_nan(content.get("gpu_percent_max")),
                    "peak_gpu_mib": round(number_or_nan(content.get("peak_gpu_memory_bytes")) / 2**20, 1),
                    "peak_host_mib": round(number_or_nan(content.get("peak_host_memory_bytes")) / 2**20, 1),
                    "cpu_seconds": number_or_nan(content.get("cpu_seconds")),
                    "loader_percent": number_or_nan(content.get("loader_percent")),
                    "start": content.get("start", ""),
                    "plateau": number_or_nan(content.get("plateau")),
                }
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: not the record of a training ({error!r})") from None
    runtimes = table(COLUMNS["runtimes"], rows).sort_values(["node", "fold"]).reset_index(drop=True)
    study.runtimes = whole_numbers(runtimes, ["plateau"])
    curves = [curve for curve in curves if len(curve)]
    if curves:
        study.curves = pd.concat(curves).sort_values(["node", "fold", "epoch"], kind="stable").reset_index(drop=True)


def curve_table(record: dict[str, Any]) -> pd.DataFrame:
    """A training's curve from its record, epoch by epoch; five digits behind the point are kept of its numbers.

    Raises:
        KeyError, TypeError, ValueError: it is no record of a training.
    """
    curve = record["curve"]
    numbers = {
        "train_loss": [entry["train_loss"] for entry in curve],
        "val_loss": [entry["val_loss"] for entry in curve],
        "online_dice": [number_or_nan(mean_dice(entry["pseudo_dice"])) for entry in curve],
        "moving_dice": [number_or_nan(dice) for dice in moving_dice(curve)],
    }
    where = {"node": record["node"], "fold": int(record["fold"]), "epoch": [int(entry["epoch"]) for entry in curve]}
    rounded = {name: np.round(np.asarray(values, dtype=float), 5) for name, values in numbers.items()}
    rates = [number_or_nan(entry.get("learning_rate")) for entry in curve]
    return pd.DataFrame(where | rounded | {"learning_rate": rates}, columns=list(COLUMNS["curves"]))


def _read_stopped(study: Study, folder: Path) -> None:
    parts = [
        read_table(path, ("trajectory", "rule", "why"), STOP_COLUMNS, what="a table of stops")
        for path in sorted(folder.rglob("*.csv"))
    ]
    known = {trajectory.id for trajectory in study.design.trajectories}
    rows = [row for part in parts for row in part.to_dict("records") if row["trajectory"] in known]
    study.stopped = table(STOP_COLUMNS, rows)


def _count(value: Any) -> int:
    return len(value) if isinstance(value, list) else int(value)


def find_gaps(study: Study, with_labels: bool) -> None:
    """Fill `study.lacking`: what the plan promises and what is not there."""
    scored = set(study.values())
    rows: list[dict[str, Any]] = []
    for trajectory in study.design.trajectories:
        last = study.patches[trajectory.id]["cycle"].max() if trajectory.id in study.patches else -1
        for cycle, node in enumerate(trajectory.nodes):
            where = {"trajectory": trajectory.id, "cycle": cycle, "node": node}
            if node not in scored:
                rows.append({**where, "what": "metrics"})
            if with_labels and cycle > last:
                rows.append({**where, "what": "labels"})
    study.lacking = table(COLUMNS["missing"], rows)
