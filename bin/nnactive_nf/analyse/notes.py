"""Sentences for the reader: what is missing, and what can't be said with what is there."""

from __future__ import annotations

import pandas as pd

from nnactive_nf.analyse.efficiency import full_dice
from nnactive_nf.analyse.rows import Setting
from nnactive_nf.analyse.study import Study
from nnactive_nf.analyse.tables import pool_totals
from nnactive_nf.core.design import MEAN, Trajectory
from nnactive_nf.core.labels import is_asked_for


def add_notes(study: Study, tables: dict[str, pd.DataFrame]) -> None:
    """Say in sentences what is missing, and what can't be said with what is there."""
    _note_gaps(study)
    for setting in study.design.settings:
        members = study.design.of_setting(setting)
        where = f"{setting[0]}, {setting[1]}"
        seeds = {t.seed for t in members}
        if len(seeds) == 1:
            text = "one seed only, so no spread, no test and no interval: no strategy can be said to beat another."
            study.note("seeds", f"{where}: {text}", setting)
        for strategy in study.design.strategies:
            own = {t.seed for t in members if t.strategy == strategy.name}
            if own and len(own) < len(seeds):
                have = f"{len(own)} of {len(seeds)} seeds"
                more = "it is compared on these alone" if len(own) > 1 else "it can't be tested against the others"
                study.note("seeds", f"{where}: {strategy.label} has {have}; {more}.", setting)
        _note_stops(study, members, setting, where)
        _note_minutes(study, members, setting)
        if all(len(t.nodes) < 2 for t in members):
            text = "one cycle only: no area under the budget curve, and the strategies have not chosen anything yet."
            study.note("cycles", f"{where}: {text}", setting)
        _note_equal(study, tables["tests"], setting, where)
        _note_efficiency(study, tables["efficiency"], setting, where)
        if len(members) and not any(study.design.strategy(t.strategy).is_random for t in members):
            study.note("baseline", f"{where}: no random strategy was run, so there is no baseline.", setting)
        if members and len({t.strategy for t in members}) == 1:
            study.note("baseline", f"{where}: one strategy only, so there is nothing to compare it with.", setting)
    unequal = study.asked.merge(tables["cost"], on=["trajectory", "cycle"])
    for row in unequal.itertuples():
        labelled = study.patches.get(row.trajectory)
        if labelled is not None and row.cycle <= labelled["cycle"].max():
            number = int((is_asked_for(labelled) & (labelled["cycle"] == row.cycle)).sum())
            if number != row.patches_x:
                text = (
                    f"{row.trajectory}, cycle {row.cycle}: {row.patches_x} patches were asked for, {number} labelled."
                )
                study.note("missing", text)


def _note_stops(study: Study, members: list[Trajectory], setting: Setting, where: str) -> None:
    """What stopped trajectories do to the measures."""
    stopped = [t for t in members if t.id in set(study.stopped["trajectory"])]
    if not stopped:
        return
    count = f"{len(stopped)} of {len(members)} trajectories"
    text = f"{where}: {count} were stopped by a rule; their last cycle is their final one."
    study.note("stopped", text, setting)
    early = {t.strategy for t in stopped if study.stopped_early(t)}
    if early:
        labels = ", ".join(s.label for s in study.design.strategies if s.name in early)
        text = (
            f"{where}: no AUBC of {labels}, of which trajectories were stopped while others went on. Tests of later "
            "cycles have the seeds that went on alone, and final Dice stands for different numbers of labels."
        )
        study.note("stopped", text, setting)


def _note_minutes(study: Study, members: list[Trajectory], setting: Setting) -> None:
    """Hours are a lower bound where some patches have no minutes."""
    for trajectory in members:
        patches = study.patches.get(trajectory.id)
        if patches is None:
            continue
        own = patches["minutes"][is_asked_for(patches) & (patches["cycle"] >= 0)]
        if own.notna().any() and own.isna().any():
            text = (
                f"{trajectory.id}: {own.notna().sum()} of {len(own)} patches have minutes, so hours are a lower bound."
            )
            study.note("minutes", text, setting)


def _note_gaps(study: Study) -> None:
    by_trajectory = {t.id: t for t in study.design.trajectories}
    for (name, what), rows in study.lacking.groupby(["trajectory", "what"], sort=False):
        trajectory = by_trajectory[str(name)]
        cycles = ", ".join(str(cycle) for cycle in rows["cycle"])
        missing_all = len(rows) == len(trajectory.nodes)
        kind = "results" if what == "metrics" else "label masks"
        which = f"no {kind} at all" if missing_all else f"no {kind} of cycle{'s' * (len(rows) > 1)} {cycles}"
        more = " It is left out of AUBC and of every mean over whole trajectories." if what == "metrics" else ""
        study.note("missing", f"{name}: {which}.{more}", trajectory.setting)


def _note_equal(study: Study, tests: pd.DataFrame, setting: Setting, where: str) -> None:
    part = tests[(tests["dataset"] == setting[0]) & (tests["regime"] == setting[1]) & (tests["class"] == MEAN)]
    if len(part) and (part["difference"].abs() < 1e-12).all():
        study.note(
            "equal", f"{where}: all strategies have the same Dice everywhere; nothing tells them apart.", setting
        )


def _note_efficiency(study: Study, efficiency: pd.DataFrame, setting: Setting, where: str) -> None:
    if full_dice(study, setting, MEAN) is None:
        text = f"{where}: no training on full labels was given, so foreground efficiency is left out."
        study.note("efficiency", text, setting)
        return
    if not pool_totals(study).get((setting[0], MEAN)):
        text = (
            f"{where}: the pool's foreground is not known (no oracle was given), so foreground efficiency is left out."
        )
        study.note("efficiency", text, setting)
        return
    part = efficiency[(efficiency["dataset"] == setting[0]) & (efficiency["regime"] == setting[1])]
    part = part[part["class"] == MEAN]
    forms = (("", "", part), ("_published", " in the published form", part[part["beta"].notna()]))
    for suffix, form, rated in forms:
        for reason, rows in rated[rated[f"beta{suffix}"].isna()].groupby(f"reason{suffix}", sort=False):
            labels = ", ".join(study.design.strategy(name).label for name in rows["strategy"])
            of = "" if len(rows) == len(part) else f" of {labels}"
            study.note("efficiency", f"{where}: no foreground efficiency{form}{of}: {reason}.", setting)
