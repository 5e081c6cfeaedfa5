"""Results folders read back as studies, and several studies as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from nnactive_nf.analyse.nnactive import read_nnactive
from nnactive_nf.analyse.study import PATCH_COLUMNS, SCORE_COLUMNS, STOP_COLUMNS, Study, table
from nnactive_nf.core.design import MEAN, Design, Strategy, Trajectory
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.result_tables import COLUMNS, read_table, table_file


def read_any(folder: Path) -> Study:
    """Read a results folder of this workflow, or a folder of the nnActive package's results."""
    tables = folder / "tables" if (folder / "tables").is_dir() else folder
    if (tables / "design.json").is_file():
        return read_tables(tables)
    if any(folder.rglob("loop_*/summary.json")):
        return read_nnactive(folder)
    raise UserError(
        f"{folder}: neither a results folder (tables/design.json) nor results of nnActive (loop_XXX/summary.json)"
    )


def read_tables(folder: Path) -> Study:
    """The study whose tables lie in a folder."""
    design = Design.read(folder / "design.json")
    metrics = read_table(folder, "metrics")
    study = Study(design, metrics[SCORE_COLUMNS].drop_duplicates(["node", "class"]).reset_index(drop=True))
    for dataset, rows in metrics[metrics["class"] != MEAN].groupby("dataset", sort=False):
        study.classes[str(dataset)] = list(dict.fromkeys(rows["class"]))
    queries = read_table(folder, "queries").rename(columns={"chosen_by": "strategy_of_query"})
    for name, rows in queries.groupby("trajectory", sort=False):
        own = rows.drop(columns=["strategy"]).rename(columns={"strategy_of_query": "strategy"})
        counts = [column for column in own if column.startswith("voxels_") and own[column].notna().any()]
        study.patches[str(name)] = own[[*PATCH_COLUMNS, *counts]].reset_index(drop=True)
    study.calibration = read_table(folder, "calibration")[["node", "ece", "brier"]].drop_duplicates("node")
    study.bins = read_table(folder, "calibration_bins")
    study.runtimes = read_table(folder, "runtimes", ["node", "fold"]).reindex(columns=COLUMNS["runtimes"])
    if (folder / table_file("curves")).exists():  # which earlier versions did not write
        study.curves = read_table(folder, "curves")
    study.pool = read_table(folder, "pool")
    study.full = read_table(folder, "full_reference")
    study.lacking = read_table(folder, "missing")
    study.stopped = read_table(folder, "stopped")[STOP_COLUMNS]
    return study


def merge(studies: Sequence[Study], names: Sequence[str]) -> Study:
    """Several studies as one.

    A strategy that two studies ran in the same data set, regime and seed is told apart by the study's name behind an
    `@`; everything else is put side by side. Nodes carry their study's name, since the same id may be another model.
    """
    if len(studies) == 1:
        return studies[0]
    clashing = _clashing(studies)
    renamed = [_rename(study, name, clashing) for study, name in zip(studies, names, strict=True)]
    strategies: dict[str, Strategy] = {}
    groups: dict[tuple[str, str], Any] = {}
    for study in renamed:
        for strategy in study.design.strategies:
            strategies.setdefault(strategy.name, strategy)
        for group in study.design.groups:
            known = groups.setdefault((group.dataset, group.regime), group)
            if known != dataclasses.replace(group, reference=known.reference):
                text = f"{group.dataset}, {group.regime}: the studies differ in their settings"
                renamed[0].note(
                    "settings", f"{text} ({_sizes(known)} and {_sizes(group)}).", (group.dataset, group.regime)
                )
    design = Design(
        cycles=max(study.design.cycles for study in renamed),
        folds=max(study.design.folds for study in renamed),
        strategies=tuple(strategies.values()),
        groups=tuple(groups.values()),
        trajectories=tuple(trajectory for study in renamed for trajectory in study.design.trajectories),
    )
    whole = Study(Design.of(design.as_json()))
    for study in renamed:
        whole.patches |= study.patches
        for dataset, classes in study.classes.items():
            known_classes = whole.classes.setdefault(dataset, [])
            known_classes.extend(name for name in classes if name not in known_classes)
        whole.notes += study.notes
    for name in ("scores", "calibration", "bins", "runtimes", "curves", "full", "lacking", "asked", "stopped"):
        setattr(whole, name, _stacked([getattr(study, name) for study in renamed]))
    whole.pool = _stacked([study.pool for study in renamed]).drop_duplicates(["dataset", "class"])
    return whole


def _sizes(group: Any) -> str:
    size = "x".join(str(number) for number in group.patch_size) or "unknown size"
    query = group.query_size if isinstance(group.query_size, int) else ",".join(map(str, group.query_size))
    return f"start {group.start_size}, query {query}, patch {size}"


def _clashing(studies: Sequence[Study]) -> set[str]:
    """Names of strategies of which two studies hold the same trajectory."""
    seen: set[tuple[Any, ...]] = set()
    clashing = set()
    for study in studies:
        own = {(t.setting, t.strategy, t.seed) for t in study.design.trajectories}
        clashing |= {strategy for _, strategy, _ in own & seen}
        seen |= own
    return clashing


def _rename(study: Study, name: str, clashing: set[str]) -> Study:
    def strategy_name(strategy: str) -> str:
        return f"{strategy}@{name}" if strategy in clashing else strategy

    def trajectory_name(trajectory: Trajectory) -> str:
        return f"{trajectory.id}@{name}" if trajectory.strategy in clashing else trajectory.id

    def node_name(node: str) -> str:
        return f"{node}@{name}"

    ids = {t.id: trajectory_name(t) for t in study.design.trajectories}
    design = dataclasses.replace(
        study.design,
        strategies=tuple(
            dataclasses.replace(s, name=strategy_name(s.name), label=f"{s.label} ({name})") if s.name in clashing else s
            for s in study.design.strategies
        ),
        trajectories=tuple(
            dataclasses.replace(
                t, id=ids[t.id], strategy=strategy_name(t.strategy), nodes=tuple(node_name(node) for node in t.nodes)
            )
            for t in study.design.trajectories
        ),
    )
    renamed = dataclasses.replace(
        study, design=design, patches={ids[key]: value for key, value in study.patches.items()}
    )
    for attribute in ("scores", "calibration", "bins", "runtimes", "curves", "lacking"):
        frame = getattr(study, attribute)
        setattr(renamed, attribute, frame.assign(node=frame["node"].map(node_name)))
    for attribute in ("lacking", "asked", "stopped"):
        frame = getattr(renamed, attribute)
        setattr(renamed, attribute, frame.assign(trajectory=frame["trajectory"].map(ids)))
    return renamed


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else table(list(frames[0].columns))
