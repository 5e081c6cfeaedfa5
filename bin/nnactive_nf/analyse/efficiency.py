"""Foreground efficiency: how fast Dice rises with the share of the pool's foreground that is labelled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from nnactive_nf.analyse.rows import Setting, number_or_nan
from nnactive_nf.analyse.statistics import Efficiency, fit_efficiency
from nnactive_nf.analyse.study import Study, table
from nnactive_nf.analyse.tables import pool_totals
from nnactive_nf.core.design import MEAN, Trajectory
from nnactive_nf.core.labels import class_column

Floats = npt.NDArray[np.float64]


FITTED = ["beta", "beta_se", "x0", "y0", "points", "reason"]
COLUMNS = ["dataset", "regime", "strategy", "class", *FITTED, *(f"{name}_published" for name in FITTED), "c"]


@dataclass(frozen=True)
class Curves:
    """Per seed of a strategy, by cycle: the share of the pool's foreground that is labelled, and Dice."""

    shares: list[Floats]
    dice: list[Floats]


def efficiency_table(study: Study) -> pd.DataFrame:
    """Foreground efficiency per strategy: beta, its standard error, and the curve's other parameters, in two forms.

    `beta`: every trajectory starts from its own x0 and y0; their means over the strategy's seeds stand in the table.
    `beta_published`: the form behind the published numbers, see `_published`. Per class, x is the share of that class's
    voxels. `reason` and `reason_published` say why a beta is missing.
    """
    totals = pool_totals(study)
    rows: list[dict[str, Any]] = []
    for dataset, regime in study.design.settings:
        for name in study.class_names(dataset):
            c = full_dice(study, (dataset, regime), name)
            pool = totals.get((dataset, name))
            if c is None or not pool:
                continue
            curves = _curves_of(study, (dataset, regime), name, pool)
            start = _smallest_start(list(curves.values()))
            for strategy, own in curves.items():
                head = {"dataset": dataset, "regime": regime, "strategy": strategy, "class": name, "c": c}
                published = {f"{key}_published": value for key, value in _published(own, start, c).items()}
                rows.append({**head, **_from_own_starts(own, c), **published})
    return table(COLUMNS, rows)


def _curves_of(study: Study, setting: Setting, name: str, pool: int) -> dict[str, Curves]:
    values = study.values(name=name)
    curves = {}
    for strategy in study.design.strategies:
        members = [t for t in study.design.of_setting(setting) if t.strategy == strategy.name]
        if members:
            shares = [_labelled_voxels(study, t, name) / pool for t in members]
            curves[strategy.name] = Curves(shares, [study.curve(t, values) for t in members])
    return curves


def _from_own_starts(curves: Curves, c: float) -> dict[str, Any]:
    starts = [np.array([x[0], y[0]]) for x, y in zip(curves.shares, curves.dice, strict=True)]
    x, y = (np.concatenate([array[1:] for array in arrays]) for arrays in (curves.shares, curves.dice))
    later = [len(x) - 1 for x in curves.shares]
    x0, y0 = np.repeat(np.array(starts), later, axis=0).T
    return _row(fit_efficiency(x, y, x0, y0, c), *np.mean(starts, axis=0))


def _published(curves: Curves, start: tuple[float, float], c: float) -> dict[str, Any]:
    """The fit behind the published numbers: one x0 and y0 for all strategies and seeds, starts among the points.

    nnActive, `DatasetBeta`: x0 is the smallest share in the setting, y0 the mean Dice there.
    """
    x, y = np.concatenate(curves.shares), np.concatenate(curves.dice)
    return _row(fit_efficiency(x, y, np.full(len(x), start[0]), np.full(len(y), start[1]), c), *start)


def _smallest_start(curves: Sequence[Curves]) -> tuple[float, float]:
    """The smallest share of all points of a setting, and the mean Dice of the points that have it."""
    x = np.concatenate([share for own in curves for share in own.shares])
    y = np.concatenate([dice for own in curves for dice in own.dice])
    known = np.isfinite(x) & np.isfinite(y)
    if not known.any():
        return math.nan, math.nan
    smallest = x[known].min()
    return float(smallest), float(y[known & (x == smallest)].mean())


def _row(fit: Efficiency, x0: float, y0: float) -> dict[str, Any]:
    values = (number_or_nan(fit.beta), number_or_nan(fit.error), float(x0), float(y0), fit.points, fit.reason)
    return dict(zip(FITTED, values, strict=True))


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
