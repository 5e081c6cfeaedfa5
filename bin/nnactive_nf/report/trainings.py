"""How the trainings went: curves of the folds for the page, and a table of those that stand out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from nnactive_nf.report.content import cell, make_table, number, plain
from nnactive_nf.report.look import COLOURS
from nnactive_nf.report.tables import Tables

# What the page carries of a study with thousands of trainings: curves, points of a curve, rows of the table.
DRAWN, POINTS, LISTED = 1000, 80, 200
SERIES = ("train_loss", "val_loss", "online_dice", "moving_dice")
STARTS = {
    "previous": "the cycle before",
    "shrink_perturb": "the cycle before, perturbed",
    "initial_weights": "given weights",
}
FULL = "full labels"


@dataclass(frozen=True)
class Place:
    """Where a node stands: its trajectory's setting and name, and its cycle; the start is of all strategies."""

    setting: str
    trajectory: str
    cycle: int

    @property
    def title(self) -> str:
        """As a small figure's title names it."""
        return self.trajectory if self.trajectory == FULL else f"{self.trajectory}, cycle {self.cycle}"


def trainings(tables: Tables) -> dict[str, Any] | None:
    """What the template shows of the trainings, and the page's own figures draw; None where no curve is known."""
    curves = tables["curves"]
    if curves.empty:
        return None
    of_node = {str(node): rows for node, rows in curves.groupby("node", sort=False)}
    facts = {(str(row.node), int(row.fold)): row for row in tables["runtimes"].itertuples()}
    drawn: dict[str, Any] = {}
    places = _places(tables, list(of_node))
    count = 0
    for node in _by_weight(tables, places):
        folds = of_node[node]["fold"].nunique()
        if count + folds <= DRAWN:
            count += folds
            drawn[node] = {
                "title": places[node].title,
                "folds": [
                    {"fold": int(fold), **_facts(facts.get((node, int(fold)))), **_thinned(rows)}
                    for fold, rows in of_node[node].groupby("fold")
                ],
            }
    total = len(curves[["node", "fold"]].drop_duplicates())
    return {
        "data": {"nodes": drawn, "views": _views(tables, places, drawn), "colours": COLOURS},
        "left_out": total - count,
        "thinned": bool((curves.groupby(["node", "fold"])["epoch"].size() > POINTS).any()),
        "points": POINTS,
        "early": any(one["plateau"] is not None for node in drawn.values() for one in node["folds"]),
        "warm": any(one["start"] for node in drawn.values() for one in node["folds"]),
        "table": _table(places, of_node, facts),
    }


def _places(tables: Tables, nodes: list[str]) -> dict[str, Place]:
    """Of all nodes with curves, in the plan's order; those on full labels last."""
    found: dict[str, Place] = {}
    known = set(nodes)
    for trajectory in tables.design.trajectories:
        setting = ", ".join(trajectory.setting)
        strategy = tables.design.strategy(trajectory.strategy)
        name = f"{strategy.label}{' ◆' if strategy.oracle_aware else ''}, seed {trajectory.seed}"
        for cycle, node in enumerate(trajectory.nodes):
            if node in known:
                found.setdefault(node, Place(setting, name if cycle else f"Start, seed {trajectory.seed}", cycle))
    return found | {node: Place(FULL, f"{FULL}, {node}", 0) for node in nodes if node not in found}


def _by_weight(tables: Tables, places: dict[str, Place]) -> Iterator[str]:
    """Nodes, those first that are drawn if not all can be: last cycles, full labels, starts, then the latest cycles."""
    last = [t.nodes[-1] for t in tables.design.trajectories if t.nodes and t.nodes[-1] in places]
    full = [node for node, place in places.items() if place.setting == FULL]
    starts = [node for node, place in places.items() if place.cycle == 0]
    others = sorted(places, key=lambda node: -places[node].cycle)
    yield from dict.fromkeys([*last, *full, *starts, *others])


def _views(tables: Tables, places: dict[str, Place], drawn: dict[str, Any]) -> list[dict[str, Any]]:
    """What can be looked at together: title, group, nodes, and how many more there are than the page carries."""
    found = []

    def add(group: str, title: str, nodes: list[str]) -> None:
        known = list(dict.fromkeys(node for node in nodes if node in places))
        shown = [node for node in known if node in drawn]
        if shown:
            found.append({"group": group, "title": title, "nodes": shown, "more": len(known) - len(shown)})

    for setting in tables.design.settings:
        group, members = ", ".join(setting), tables.design.of_setting(setting)
        add(group, "all trajectories, last cycle", [t.nodes[-1] for t in members if t.nodes])
        add(group, "all starts", [t.nodes[0] for t in members if t.nodes])
        for t in members:
            add(group, f"{tables.design.strategy(t.strategy).label}, seed {t.seed}, all cycles", list(t.nodes))
    add(FULL, "all trainings", [node for node, place in places.items() if place.setting == FULL])
    return found


def _facts(row: Any) -> dict[str, Any]:
    """What a training's record says beside its curve."""
    if row is None:
        return {"start": "", "plateau": None}
    plateau = None if pd.isna(row.plateau) else int(row.plateau)
    return {"start": "" if pd.isna(row.start) else STARTS.get(row.start, row.start), "plateau": plateau}


def _thinned(rows: pd.DataFrame) -> dict[str, Any]:
    """A curve's epochs, counted from 1, and series; means over neighbours where it has more points than are drawn."""
    parts = np.array_split(np.arange(len(rows)), min(POINTS, len(rows)))
    starts = [int(part[0]) for part in parts]
    found: dict[str, Any] = {"epochs": [round(float(part.mean()) + 1, 1) for part in parts]}
    for name in SERIES:
        values = rows[name].to_numpy(dtype=float)
        known = np.add.reduceat(np.isfinite(values).astype(float), starts)
        sums = np.add.reduceat(np.nan_to_num(values), starts)
        means = np.divide(sums, known, out=np.full(len(starts), np.nan), where=known > 0)
        found[name] = plain(np.round(means, 4))
    return found


def _table(places: dict[str, Place], of_node: dict[str, pd.DataFrame], facts: dict[tuple[str, int], Any]) -> Any:
    """Each training by its end; of many, those whose Dice lies apart or whose validation loss has risen most."""
    found = []
    for node, place in places.items():
        ends = {int(fold): end_of(rows) for fold, rows in of_node[node].groupby("fold")}
        median = float(np.median([end["moving_dice"] for end in ends.values()]))
        for fold, end in ends.items():
            found.append((place, node, fold, end, end["moving_dice"] - median if len(ends) > 2 else np.nan))
    apart = sorted(range(len(found)), key=lambda i: -abs(np.nan_to_num(found[i][4])))
    risen = sorted(range(len(found)), key=lambda i: -np.nan_to_num(found[i][3]["risen"]))
    kept = set(range(len(found))) if len(found) <= LISTED else {*apart[: LISTED // 2], *risen[: LISTED // 2]}
    rows = []
    for i in sorted(kept, key=apart.index) if len(found) > LISTED else range(len(found)):
        place, node, fold, end, distance = found[i]
        told = _facts(facts.get((node, fold)))
        early = "" if told["plateau"] is None else f", no longer better at {told['plateau']}"
        rows.append(
            [
                cell(place.title, kind="strategy") | {"title": node},
                cell(str(fold), fold, "num"),
                cell(f"{end['epochs']}{early}", end["epochs"], "num"),
                cell(told["start"] or "drawn"),
                *(number(end[name]) for name in ("train_loss", "val_loss", "risen", "moving_dice")),
                number(distance),
            ]
        )
    caption = (
        "Each training at its end: means over the last tenth of its epochs. Risen: validation loss above the lowest "
        "such mean before. Apart: moving online Dice less the median of the node's folds."
    )
    if len(found) > LISTED:
        caption += f" Of {len(found)} trainings the {len(rows)} in which one of the two is largest."
    columns = [
        "Training", "Fold", "Epochs", "Weights from", "Train loss", "Validation loss", "Risen", "Online Dice", "Apart",
    ]  # fmt: skip
    return make_table("trainings", caption, columns, rows)


def end_of(rows: pd.DataFrame) -> dict[str, Any]:
    """The end of a training's curve: means over its last tenth, and how far validation has risen above its lowest."""
    window = max(1, len(rows) // 10)
    losses = rows["val_loss"].to_numpy(dtype=float)
    means: npt.NDArray[np.float64] = np.convolve(losses, np.full(window, 1 / window), mode="valid")
    return {
        "epochs": len(rows),
        "train_loss": float(rows["train_loss"].to_numpy(dtype=float)[-window:].mean()),
        "val_loss": float(means[-1]),
        "risen": float(means[-1] - means.min()),
        "moving_dice": float(rows["moving_dice"].to_numpy(dtype=float)[-1]),
    }
