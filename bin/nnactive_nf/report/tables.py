"""The tables that ANALYSE wrote, read back with the types that they had."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnactive_nf.core.design import MEAN, Design
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json
from nnactive_nf.core.result_tables import COLUMNS, read_table


@dataclass(frozen=True)
class Tables:
    """The plan, the tables by name, and the settings of the statistics."""

    design: Design
    frames: dict[str, pd.DataFrame]
    statistics: dict[str, Any]

    @classmethod
    def read(cls, design: Design, folder: Path) -> Tables:
        """Read a folder of tables; `UserError` where one is missing, or a column of it."""
        frames = {name: read_table(folder, name) for name in COLUMNS}
        if (folder / "agreement.csv").exists():
            frames["agreement"] = read_table(folder, "agreement")
        path = folder / "statistics.json"
        statistics = read_json(path)
        for name in ("alpha", "bootstrap_draws"):
            if not isinstance(statistics, dict) or name not in statistics:
                raise UserError(f"{path}: {name} is missing; is {folder} a folder of tables?")
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
