"""What the tables share: names of columns, numbers that may be missing."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from nnactive_nf.core.design import Trajectory

ALL = "all"  # stands for "over all" in the columns dataset and regime
Setting = tuple[str, str]  # data set, regime
HEAD = ["trajectory", "dataset", "regime", "strategy", "seed"]


def head(trajectory: Trajectory) -> dict[str, Any]:
    """The columns `HEAD` of a trajectory's rows."""
    return {
        "trajectory": trajectory.id,
        "dataset": trajectory.dataset,
        "regime": trajectory.regime,
        "strategy": trajectory.strategy,
        "seed": trajectory.seed,
    }


def number_or_nan(value: float | None) -> float:
    """A number that may be missing as a table cell."""
    return math.nan if value is None else float(value)


def whole_numbers(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Counts as whole numbers also where some are missing."""
    return frame.astype(dict.fromkeys(names, "Int64"))
