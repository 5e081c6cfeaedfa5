"""Learning curves: mean and spread over the complete trajectories of a strategy, and each seed's own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from nnactive_nf.core.design import MEAN
from nnactive_nf.report.tables import Tables

Floats = npt.NDArray[np.float64]
X_AXES = {
    "patches": "labelled patches",
    "foreground_voxels": "labelled foreground voxels",
    "pool_foreground_share": "share of the pool's foreground that is labelled",
    "hours": "hours of labelling",
}


@dataclass(frozen=True)
class Curve:
    """One strategy in one setting.

    `values` and `x` are `[seeds, cycles]`, NaN where a result is missing; `whole` says which seeds are complete. Mean
    and spread are over those alone, so that all cycles of a curve rest on the same seeds. They end with cycle `common`,
    the last that all seeds have where a rule has stopped some.
    """

    strategy: str
    seeds: list[int]
    x: Floats
    values: Floats
    common: int

    @property
    def whole(self) -> npt.NDArray[np.bool_]:
        """Which seeds have a value at every cycle that all come to `[seeds]`."""
        return np.asarray(np.isfinite(self.values[:, : self.common]).all(axis=1))

    @property
    def mean(self) -> Floats | None:
        """Mean over the complete seeds `[cycles]`; None where no seed is complete."""
        return self.values[self.whole, : self.common].mean(axis=0) if self.whole.any() else None

    @property
    def mean_x(self) -> Floats | None:
        """Mean amount of labels over the complete seeds `[cycles]`."""
        return self.x[self.whole, : self.common].mean(axis=0) if self.whole.any() else None

    @property
    def spread(self) -> Floats | None:
        """Standard deviation over the complete seeds `[cycles]`; None with fewer than two."""
        return self.values[self.whole, : self.common].std(axis=0, ddof=1) if self.whole.sum() > 1 else None


def curves_of(
    tables: Tables, setting: tuple[str, str], x: str = "patches", measure: str = "dice", class_name: str = MEAN
) -> list[Curve]:
    """Curves of all strategies of a setting, in the plan's order."""
    metrics = tables.of("metrics", setting, class_name)
    cost = tables.of("cost", setting)
    cost = cost.assign(hours=cost["minutes"] / 60)
    stopped = set(tables["stopped"]["trajectory"])
    value_of = _lookup(metrics, measure)
    x_of = _lookup(cost, x)
    found = []
    for strategy in tables.design.strategies:
        members = [t for t in tables.design.of_setting(setting) if t.strategy == strategy.name]
        if not members:
            continue
        cycles = max(len(t.nodes) for t in members)
        common = min((len(t.nodes) for t in members if t.id in stopped), default=cycles)
        amounts, values = (
            np.array([[of.get((t.id, cycle), math.nan) for cycle in range(cycles)] for t in members], dtype=float)
            for of in (x_of, value_of)
        )
        found.append(Curve(strategy.name, [t.seed for t in members], amounts, values, common))
    return found


def _lookup(frame: pd.DataFrame, column: str) -> dict[tuple[str, int], float]:
    rows = frame[["trajectory", "cycle", column]].itertuples(index=False, name=None)
    return {(trajectory, int(cycle)): float(value) for trajectory, cycle, value in rows}
