"""The tables of what was measured and spent: one function each, from a `Study` to a data frame."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from nnactive_nf.analyse.rows import HEAD, head, number_or_nan, whole_numbers
from nnactive_nf.analyse.statistics import area_under_budget_curve
from nnactive_nf.analyse.study import PATCH_COLUMNS, Study, table
from nnactive_nf.core.design import MEAN
from nnactive_nf.core.labels import class_column, is_asked_for
from nnactive_nf.core.result_tables import COLUMNS


def metrics_table(study: Study) -> pd.DataFrame:
    """One row per trajectory, cycle and class (`mean` included) with its measures and what was labelled by then."""
    spent = cost_table(study).set_index(["trajectory", "cycle"])
    by_node = {str(node): rows for node, rows in study.scores.groupby("node", sort=False)}
    rows: list[dict[str, Any]] = []
    for trajectory in study.design.trajectories:
        for cycle, node in enumerate(trajectory.nodes):
            if node not in by_node:
                continue
            key = (trajectory.id, cycle)
            labelled = {name: spent.loc[key, name] for name in ("patches", "voxels", "foreground_voxels")}
            where = {**head(trajectory), "cycle": cycle, "node": node, **labelled}
            rows.extend({**where, **row} for row in by_node[node].to_dict("records"))
    counts = ["cases", "empty_reference", "empty_prediction"]
    return whole_numbers(table(COLUMNS["metrics"], rows), ["patches", "voxels", "foreground_voxels", *counts])


def queries_table(study: Study) -> pd.DataFrame:
    """Every labelled patch of every trajectory, the start's included."""
    parts = []
    for trajectory in study.design.trajectories:
        if trajectory.id in study.patches:
            patches = study.patches[trajectory.id].rename(columns={"strategy": "chosen_by"})
            parts.append(pd.DataFrame(head(trajectory), index=patches.index).join(patches))
    names = ["chosen_by" if name == "strategy" else name for name in PATCH_COLUMNS]
    counts = list(dict.fromkeys(name for part in parts for name in part if name.startswith("voxels_")))
    if not parts:
        return table([*HEAD, *names])
    whole = pd.concat(parts, ignore_index=True)[[*HEAD, *names, *counts]]
    return whole_numbers(whole, counts)


def cost_table(study: Study) -> pd.DataFrame:
    """What was annotated by each cycle of each trajectory, summed from the start on."""
    totals = pool_totals(study)
    asked = study.asked.set_index(["trajectory", "cycle"])["patches"].to_dict()
    rows: list[dict[str, Any]] = []
    for trajectory in study.design.trajectories:
        patches = study.patches.get(trajectory.id)
        pool = totals.get((trajectory.dataset, MEAN))
        for cycle, budget in enumerate(trajectory.budgets):
            row: dict[str, Any] = {**head(trajectory), "cycle": cycle, "patches": budget}
            row["patches_asked"] = asked.get((trajectory.id, cycle), math.nan)
            if patches is not None and cycle <= patches["cycle"].max():
                until = patches[patches["cycle"] <= cycle]
                asked_for = until[is_asked_for(until)]
                foreground = int(until["foreground_voxels"].sum())
                row |= {
                    "patches": len(asked_for),
                    "voxels": int(until["voxels"].sum()),
                    "foreground_voxels": foreground,
                    "border_voxels": until["border_voxels"].sum(min_count=1),
                    "cases": until["case"].nunique(),
                    "foreground_free_share": float((asked_for["foreground_voxels"] == 0).mean()),
                    "pool_foreground_share": foreground / pool if pool else math.nan,
                    "minutes": until["minutes"].sum(min_count=1),
                }
            rows.append(row)
    counts = ["voxels", "foreground_voxels", "border_voxels", "cases"]
    return whole_numbers(table(COLUMNS["cost"], rows), ["patches_asked", "patches", *counts])


def class_counts_table(study: Study) -> pd.DataFrame:
    """Per trajectory, cycle and class: labelled voxels, patches and cases that hold the class, share of the pool's."""
    totals = pool_totals(study)
    rows: list[dict[str, Any]] = []
    for trajectory in study.design.trajectories:
        patches = study.patches.get(trajectory.id)
        if patches is None:
            continue
        for cycle in range(min(len(trajectory.nodes), int(patches["cycle"].max()) + 1)):
            until = patches[patches["cycle"] <= cycle]
            for name in study.classes.get(trajectory.dataset, []):
                if class_column(name) not in until:
                    continue
                holds = until[class_column(name)] > 0
                voxels = int(until[class_column(name)].sum())
                pool = totals.get((trajectory.dataset, name))
                rows.append(
                    {
                        **head(trajectory),
                        "cycle": cycle,
                        "class": name,
                        "voxels": voxels,
                        "patches": int((holds & is_asked_for(until)).sum()),
                        "cases": until.loc[holds, "case"].nunique(),
                        "pool_share": voxels / pool if pool else math.nan,
                    }
                )
    return table(COLUMNS["class_counts"], rows)


def calibration_table(study: Study) -> pd.DataFrame:
    """ECE and Brier score of the ensemble on the test set, per trajectory and cycle."""
    found = study.calibration.set_index("node")
    rows = [
        {**head(trajectory), "cycle": cycle, "node": node, **found.loc[node].to_dict()}
        for trajectory in study.design.trajectories
        for cycle, node in enumerate(trajectory.nodes)
        if node in found.index
    ]
    return table(COLUMNS["calibration"], rows)


def trajectories_table(study: Study) -> pd.DataFrame:
    """AUBC, first and final Dice of each trajectory and class; empty where a cycle is missing.

    The final Dice of a trajectory that was stopped is that of its last cycle. It has no AUBC where others of its data
    set and regime went further: the area over fewer budgets is another quantity.
    """
    rows: list[dict[str, Any]] = []
    early = {trajectory.id for trajectory in study.design.trajectories if study.stopped_early(trajectory)}
    for setting in study.design.settings:
        for name in study.class_names(setting[0]):
            values = study.values(name=name)
            for trajectory in study.design.of_setting(setting):
                curve = study.curve(trajectory, values)
                area = None if trajectory.id in early else area_under_budget_curve(curve, trajectory.budgets)
                rows.append(
                    {
                        **head(trajectory),
                        "class": name,
                        "cycles_planned": len(curve),
                        "cycles": int(np.isfinite(curve).sum()),
                        "aubc": number_or_nan(area),
                        "start_dice": curve[0],
                        "final_dice": curve[-1],
                    }
                )
    return table(COLUMNS["trajectories"], rows)


def summary_table(study: Study, trajectories: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation over seeds of AUBC and final Dice, per strategy and class.

    `seeds` counts the complete trajectories, which the numbers rest on, `seeds_planned` the planned ones. A mean AUBC
    is empty where one of these has none, since it was stopped: those that were not are no fair choice of all.
    """
    rows: list[dict[str, Any]] = []
    groups = dict(iter(trajectories.groupby(["dataset", "regime", "strategy", "class"])))
    for dataset, regime in study.design.settings:
        for strategy in study.design.strategies:
            for name in study.class_names(dataset):
                group = groups.get((dataset, regime, strategy.name, name))
                if group is None:
                    continue
                whole = group[group["cycles"] == group["cycles_planned"]]
                rows.append(
                    {
                        "dataset": dataset,
                        "regime": regime,
                        "strategy": strategy.name,
                        "label": strategy.label,
                        "oracle_aware": strategy.oracle_aware,
                        "class": name,
                        "seeds_planned": len(group),
                        "seeds": len(whole),
                        "aubc_mean": whole["aubc"].mean(skipna=False),
                        "aubc_sd": whole["aubc"].std(ddof=1, skipna=False),
                        "final_dice_mean": whole["final_dice"].mean(),
                        "final_dice_sd": whole["final_dice"].std(ddof=1),
                        "start_dice_mean": whole["start_dice"].mean(),
                    }
                )
    return table(COLUMNS["summary"], rows)


def stopped_table(study: Study) -> pd.DataFrame:
    """When and why trajectories were stopped before the plan's end, in the plan's order."""
    of_trajectory = {row["trajectory"]: row for row in study.stopped.to_dict("records")}
    rows = [{**head(t), **of_trajectory[t.id]} for t in study.design.trajectories if t.id in of_trajectory]
    return table(COLUMNS["stopped"], rows)


def noise_table(study: Study) -> pd.DataFrame:
    """The noise floor: the spread between seeds of the start's nodes, which all strategies share."""
    rows: list[dict[str, Any]] = []
    for dataset, regime in study.design.settings:
        for name in study.class_names(dataset):
            values = study.values(name=name)
            by_seed: dict[int, dict[str, float]] = {}
            for trajectory in study.design.of_setting((dataset, regime)):
                if trajectory.nodes and trajectory.nodes[0] in values:
                    by_seed.setdefault(trajectory.seed, {})[trajectory.nodes[0]] = values[trajectory.nodes[0]]
            starts = pd.Series(
                [float(np.mean(list(nodes.values()))) for _, nodes in sorted(by_seed.items())], dtype=float
            )
            rows.append(
                {
                    "dataset": dataset,
                    "regime": regime,
                    "class": name,
                    "seeds": len(starts),
                    "dice_mean": starts.mean(),
                    "dice_sd": starts.std(ddof=1),
                    "dice_min": starts.min(),
                    "dice_max": starts.max(),
                }
            )
    return table(COLUMNS["noise"], rows)


def pool_totals(study: Study) -> dict[tuple[str, str], int]:
    """Voxels in the pool by (data set, class); `mean` is all foreground."""
    rows = study.pool[["dataset", "class", "voxels"]].itertuples(index=False, name=None)
    return {(str(dataset), str(name)): int(voxels) for dataset, name, voxels in rows}
