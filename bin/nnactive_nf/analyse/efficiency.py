"""Foreground efficiency: how fast Dice rises with the share of the pool's foreground that is labelled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from nnactive_nf.analyse.rows import Setting, number_or_nan
from nnactive_nf.analyse.statistics import fit_efficiency
from nnactive_nf.analyse.study import Study, table
from nnactive_nf.analyse.tables import pool_totals
from nnactive_nf.core.design import MEAN, Trajectory
from nnactive_nf.core.labels import class_column

Floats = npt.NDArray[np.float64]


def efficiency_table(study: Study) -> pd.DataFrame:
    """Foreground efficiency per strategy: beta, its standard error, and the curve's other parameters.

    Every trajectory starts from its own x0 and y0; their means over the strategy's seeds stand in the table. Per class,
    x is the share of that class's voxels. `reason` says why a beta is missing.
    """
    totals = pool_totals(study)
    rows: list[dict[str, Any]] = []
    for dataset, regime in study.design.settings:
        for name in study.class_names(dataset):
            c = full_dice(study, (dataset, regime), name)
            pool = totals.get((dataset, name))
            if c is None or not pool:
                continue
            values = study.values(name=name)
            for strategy in study.design.strategies:
                members = [t for t in study.design.of_setting((dataset, regime)) if t.strategy == strategy.name]
                if not members:
                    continue
                xs = [_labelled_voxels(study, t, name) / pool for t in members]
                ys = [study.curve(t, values) for t in members]
                starts = [np.array([[x[0]] * (len(x) - 1), [y[0]] * (len(y) - 1)]) for x, y in zip(xs, ys, strict=True)]
                x, y = (np.concatenate([array[1:] for array in arrays]) for arrays in (xs, ys))
                x0, y0 = np.concatenate(starts, axis=1)
                fit = fit_efficiency(x, y, x0, y0, c)
                rows.append(
                    {
                        "dataset": dataset,
                        "regime": regime,
                        "strategy": strategy.name,
                        "class": name,
                        "beta": number_or_nan(fit.beta),
                        "beta_se": number_or_nan(fit.error),
                        "x0": float(np.mean([x[0] for x in xs])),
                        "y0": float(np.mean([y[0] for y in ys])),
                        "c": c,
                        "points": fit.points,
                        "reason": fit.reason,
                    }
                )
    columns = ["dataset", "regime", "strategy", "class", "beta", "beta_se", "x0", "y0", "c", "points", "reason"]
    return table(columns, rows)


def _labelled_voxels(study: Study, trajectory: Trajectory, name: str) -> Floats:
    """Voxels of a class (`mean`: of all foreground) labelled by each cycle, NaN where the labels are missing."""
    patches = study.patches.get(trajectory.id)
    column = "foreground_voxels" if name == MEAN else class_column(name)
    counts = np.full(len(trajectory.nodes), math.nan)
    if patches is not None and column in patches:
        last = min(len(counts) - 1, int(patches["cycle"].max()))
        for cycle in range(last + 1):
            counts[cycle] = patches.loc[patches["cycle"] <= cycle, column].sum()
    return counts


def full_dice(study: Study, setting: Setting, name: str) -> float | None:
    """Dice of the training on full labels: the setting's own runs, else all runs of the data set."""
    part = study.full[(study.full["dataset"] == setting[0]) & (study.full["class"] == name)]
    own = part[part["regime"] == setting[1]]
    values = (own if len(own) else part)["dice"].dropna()
    return float(values.mean()) if len(values) else None
