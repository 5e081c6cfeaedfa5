"""Foreground efficiency: how fast Dice rises with the share of the pool's foreground that is labelled."""

from __future__ import annotations

import math

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

    x0 and y0 are the means over the starts of all seeds of the setting, the same for all strategies. Per class, x is
    the share of that class's voxels. `reason` says why a beta is missing.
    """
    totals = pool_totals(study)
    rows = []
    for dataset, regime in study.design.settings:
        for name in study.class_names(dataset):
            c = full_dice(study, (dataset, regime), name)
            pool = totals.get((dataset, name))
            if c is None or not pool:
                continue
            values = study.values(name=name)
            members = study.design.of_setting((dataset, regime))
            curves = {t.id: (_labelled_voxels(study, t, name) / pool, study.curve(t, values)) for t in members}
            starts = {t.nodes[0]: (curves[t.id][0][0], curves[t.id][1][0]) for t in members if t.nodes}
            known = np.array([pair for pair in starts.values() if np.isfinite(pair).all()]).reshape(-1, 2)
            for strategy in study.design.strategies:
                own = [curves[t.id] for t in members if t.strategy == strategy.name]
                if not own:
                    continue
                where = {"dataset": dataset, "regime": regime, "strategy": strategy.name, "class": name, "c": c}
                if not len(known):
                    rows.append({**where, "points": 0, "reason": "the start's Dice or foreground is missing"})
                    continue
                x0, y0 = (float(number) for number in known.mean(axis=0))
                x, y = (np.concatenate([pair[place] for pair in own]) for place in (0, 1))
                fit = fit_efficiency(x, y, x0, y0, c)
                beta, error = number_or_nan(fit.beta), number_or_nan(fit.error)
                where |= {"x0": x0, "y0": y0, "points": fit.points, "reason": fit.reason}
                rows.append({**where, "beta": beta, "beta_se": error})
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
