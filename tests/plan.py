"""plan.json as `functions/forecast.nf` writes it, from plain loops over rows; and the tables of what is told."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

UNITS = {"min": 1.0, "h": 60.0, "days": 1440.0, "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
REGISTRY = Path(__file__).parents[1] / "bin" / "nnactive_nf" / "core" / "strategies.json"

# A row before anything is said of it: the values of nextflow.config that FORECAST reads.
ROW: dict[str, Any] = {
    "dataset": "one",
    "regime": "main",
    "input": "one",
    "source": "folder",
    "folder": "/data/one",
    "whole_pool": False,
    "seeds": [1],
    "cycles": 5,
    "start_size": 20,
    "query_size": 20,
    "patch_size": "20,20,20",
    "view_patches": 6,
    "configuration": "3d_fullres",
    "planner": "ExperimentPlanner",
    "plans": None,
    "test_fraction": 0.25,
    "test_cases": None,
    "held_out": [],
    "test_folder": False,
    "oracle": "labels",
    "phantom_cases": 20,
    "folds": 5,
    "epochs": 200,
    "iterations": 250,
    "train_patch_size": None,
    "features": None,
    "batch_size": None,
    "optimiser": "sgd",
    "device": "auto",
    "trainer_file": None,
    "shards": 1,
    "exports": 0,
    "segments": 0,
    "where": "",
    "start_strategy": "random_fg33",
    "patches_per_image": 20,
    "groups": None,
    "group_pattern": None,
}


def make_row(strategies: str, **values: Any) -> dict[str, Any]:
    """A row with these strategies of the registry, separated by commas; '' for a reference on the whole pool."""
    maps = {entry["name"]: entry["maps"] for entry in json.loads(REGISTRY.read_text())}
    names = [name for name in strategies.split(",") if name]
    known = [{"name": name, "maps": ",".join(sorted(maps[name]))} for name in names]
    return {**ROW, "whole_pool": not names, **values, "strategies": known}


def make_plan(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """plan.json of rows as `make_row` makes them."""
    nodes = []
    for number, row in enumerate(rows):
        for seed in row["seeds"]:
            stem = f"{row['dataset']}-{row['regime']}"
            for cycle in range(row["cycles"]):
                following = row["strategies"] if cycle + 1 < row["cycles"] else []
                for own in row["strategies"] if cycle else [{"name": ""}]:
                    name = own["name"]
                    after = [s for s in following if name in ("", s["name"])]
                    next_id = {s["name"]: f"{stem}-{s['name']}-s{seed}-c{cycle + 1:02d}" for s in after}
                    nodes.append(
                        {
                            "id": f"{stem}-{name}-s{seed}-c{cycle:02d}" if name else f"{stem}-s{seed}-c00",
                            "row": number,
                            "seed": seed,
                            "cycle": cycle,
                            "strategy": name,
                            "free": [next_id[s["name"]] for s in after if not s["maps"]],
                            "asked": {
                                maps: [next_id[s["name"]] for s in after if s["maps"] == maps]
                                for maps in dict.fromkeys(s["maps"] for s in after if s["maps"])
                            },
                        }
                    )
    return {"rows": list(rows), "nodes": nodes}


def write_plan(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.write_text(json.dumps(make_plan(rows)))
    return path


class Told:
    """The tables of what is told, by their titles: row name -> column -> cell."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tables: dict[str, dict[str, dict[str, str]]] = {}
        for block in re.split(r"\n\s*\n", text):
            lines = [re.split(r" {2,}", line.strip()) for line in block.splitlines()]
            title, *columns = lines[0]
            rows = [line for line in lines[1:] if len(line) == len(columns) + 1]
            self.tables[title] = {name: dict(zip(columns, cells, strict=True)) for name, *cells in rows}

    def count(self, row: str, column: str) -> int:
        return int(self.tables["Tasks"][row][column].replace(",", ""))

    def tasks(self) -> Counter[str]:
        """Tasks of every stage, those that run once included."""
        rows = self.tables["Tasks"]
        total = "in all" if "in all" in rows else next(iter(rows))
        line = next(line for line in self.text.splitlines() if line.endswith("tasks in all."))
        once = {name: int(number) for name, number in re.findall(r"([A-Z]+) (\d+)", line)}
        by_row = {name: self.count(total, name) for name in rows[total] if name.isupper()}
        found = Counter({name: number for name, number in (once | by_row).items() if number})
        assert f"{found.total():,} tasks in all." in line
        return found

    def amount(self, table: str, row: str, column: str) -> float:
        """A cell with a unit (and a mark), in minutes or bytes; 0 for '-'."""
        number, _, unit = self.tables[table][row][column].partition(" ")
        return 0.0 if number == "-" else float(number.replace(",", "")) * UNITS[unit.rstrip("*")]
