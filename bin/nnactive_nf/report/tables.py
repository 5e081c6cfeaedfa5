"""The tables that ANALYSE wrote, read back with the types that they had."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnactive_nf.core.design import MEAN, Design
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json
from nnactive_nf.core.tables import read_table

HEAD = ["dataset", "regime", "strategy"]

# The tables, and columns that are looked for in each.
COLUMNS = {
    "metrics": ["trajectory", *HEAD, "seed", "cycle", "node", "patches", "class", "dice", "iou", "nsd", "hd95_mm"],
    "queries": ["trajectory", *HEAD, "cycle", "rank", "case", "chosen_by"],
    "trajectories": [
        "trajectory",
        *HEAD,
        "seed",
        "class",
        "cycles_planned",
        "cycles",
        "aubc",
        "start_dice",
        "final_dice",
    ],
    "summary": [*HEAD, "class", "seeds", "seeds_planned", "aubc_mean", "final_dice_mean"],
    "versus_random": [*HEAD, "measure", "baseline", "difference", "low", "high", "verdict"],
    "tests": ["dataset", "regime", "class", "a", "b", "better"],
    "ppm": ["dataset", "regime", "class", "correction", "winner", "loser", "wins", "budgets"],
    "ranks": [*HEAD, "measure", "rank", "low", "high", "seeds"],
    "efficiency": [*HEAD, "class", "beta", "beta_se"],
    "cost": ["trajectory", *HEAD, "cycle", "patches", "voxels", "cases"],
    "class_counts": ["trajectory", *HEAD, "cycle", "class", "voxels"],
    "calibration": ["trajectory", *HEAD, "cycle", "node", "ece", "brier"],
    "calibration_bins": ["node", "bin", "confidence", "accuracy", "voxels"],
    "noise": ["dataset", "regime", "class", "seeds", "dice_mean"],
    "full_reference": ["dataset", "regime", "seed", "class", "dice"],
    "runtimes": ["node", "device", "seconds"],
    "missing": ["trajectory", "cycle", "node", "what"],
    "notes": ["topic", "dataset", "regime", "text"],
}

TEXT = [
    "trajectory", "dataset", "regime", "strategy", "label", "node", "class", "case", "chosen_by", "component",
    "measure", "baseline", "verdict", "a", "b", "better", "better_holm", "correction", "winner", "loser", "reason",
    "reason_published", "device", "what", "topic", "text",
]  # fmt: skip


@dataclass(frozen=True)
class Tables:
    """The plan, the tables by name, and the settings of the statistics."""

    design: Design
    frames: dict[str, pd.DataFrame]
    statistics: dict[str, Any]

    @classmethod
    def read(cls, design: Design, folder: Path) -> Tables:
        """Read a folder of tables; `UserError` where one is missing."""
        frames = {}
        for name, wanted in COLUMNS.items():
            frames[name] = read_table(folder / f"{name}.csv", TEXT, wanted, missing="")
        statistics = read_json(folder / "statistics.json")
        if not isinstance(statistics, dict) or not {"alpha", "bootstrap_draws"} <= set(statistics):
            raise UserError(f"{folder}/statistics.json: not the settings of the statistics")
        return cls(design, frames, statistics)

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self.frames[name]

    def of(self, name: str, setting: tuple[str, str], class_name: str | None = MEAN) -> pd.DataFrame:
        """Rows of a table that belong to a (data set, regime), and to a class where the table has classes."""
        frame = self.frames[name]
        chosen = (frame["dataset"] == setting[0]) & (frame["regime"] == setting[1])
        if class_name is not None and "class" in frame:
            chosen &= frame["class"] == class_name
        return frame[chosen]

    def full_dice(self, setting: tuple[str, str]) -> dict[str, float]:
        """Mean Dice of the trainings on full labels by class: the setting's own, else all of its data set."""
        full = self.frames["full_reference"]
        rows = full[full["dataset"] == setting[0]]
        own = rows[rows["regime"] == setting[1]]
        means = (own if len(own) else rows).groupby("class")["dice"].mean().dropna()
        return {str(name): float(value) for name, value in means.items()}

    def classes(self, dataset: str) -> list[str]:
        """`mean` and the foreground classes of a data set, as far as there are results."""
        found = self.frames["metrics"].loc[self.frames["metrics"]["dataset"] == dataset, "class"]
        return list(dict.fromkeys([MEAN, *found]))
