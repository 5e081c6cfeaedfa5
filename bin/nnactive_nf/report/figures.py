"""The report's figures as PNG and SVG files, for papers and slides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnactive_nf.core.design import MEAN
from nnactive_nf.core.files import whole_file
from nnactive_nf.report.curves import X_AXES, Curve, curves_of
from nnactive_nf.report.gallery import Query, sheet
from nnactive_nf.report.look import MATPLOTLIB_DASHES, MATPLOTLIB_SYMBOLS, Look, looks
from nnactive_nf.report.tables import Tables

STYLE: dict[Any, Any] = {
    "svg.hashsalt": "nnactive-nf",  # the same ids in every run
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
}


def write_figures(tables: Tables, queries: Sequence[Query], folder: Path) -> list[str]:
    """Write all figures; the names of the files."""
    names: list[str] = []
    with mpl.rc_context(STYLE):
        for setting in tables.design.settings:
            stem = file_name(*setting)
            for x in X_AXES:
                curves = curves_of(tables, setting, x)
                if any(curve.mean is not None and np.isfinite(curve.x).any() for curve in curves):
                    figure = learning_curves(tables, setting, curves, x)
                    names += _save(figure, folder / f"learning_curves_{stem}_{x}")
            for measure in ("aubc", "final_dice"):
                ranks = rank_plot(tables, setting, measure)
                if ranks is not None:
                    names += _save(ranks, folder / f"ranks_{stem}_{measure}")
        for (dataset, regime), correction in _matrices(tables):
            figure = penalty_matrix(tables, dataset, regime, correction)
            names += _save(figure, folder / f"ppm_{file_name(dataset, regime)}_{correction}")
    for query in _shown(tables, queries):
        path = folder / f"queries_{file_name(query.key)}.png"
        with whole_file(path) as temporary:
            sheet(query).save(temporary, format="png", optimize=True)
        names.append(path.name)
    return names


def file_name(*words: str) -> str:
    """Words as a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "_".join(words))


def _save(figure: Figure, stem: Path) -> list[str]:
    names = []
    for kind in ("png", "svg"):
        path = stem.with_name(f"{stem.name}.{kind}")
        with whole_file(path) as temporary:
            metadata = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(temporary, format=kind, dpi=200, metadata=metadata)
        names.append(path.name)
    return names


def learning_curves(tables: Tables, setting: tuple[str, str], curves: Sequence[Curve], x: str) -> Figure:
    """Mean test Dice of each strategy with one standard deviation over seeds."""
    look = looks(tables.design)
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for curve in curves:
        mean, at, spread = curve.mean, curve.mean_x, curve.spread
        if mean is None or at is None or not np.isfinite(at).all():
            continue
        strategy = tables.design.strategy(curve.strategy)
        name = strategy.label + (" (uses the oracle)" if strategy.oracle_aware else "")
        _line(axes, at, mean, look[curve.strategy], name)
        if spread is not None:
            axes.fill_between(at, mean - spread, mean + spread, color=look[curve.strategy].light, alpha=0.12, lw=0)
    full = tables.full_dice(setting)
    if MEAN in full:
        axes.axhline(full[MEAN], color="#333333", lw=1, ls=(0, (1, 2)), label="full labels")
    axes.set(xlabel=X_AXES[x], ylabel="mean test Dice", title=f"{setting[0]}, {setting[1]}")
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, look: Look, name: str) -> None:
    axes.plot(
        x,
        y,
        color=look.light,
        ls=MATPLOTLIB_DASHES[look.dash],
        marker=MATPLOTLIB_SYMBOLS[look.symbol],
        ms=5,
        mfc="white" if look.is_open else look.light,
        label=name,
    )


def _matrices(tables: Tables) -> list[tuple[tuple[str, str], str]]:
    rows = tables["ppm"]
    rows = rows[(rows["class"] == "mean") & (rows["budgets"] > 0)]
    if len(tables.design.settings) < 2:
        rows = rows[rows["dataset"] != "all"]
    keys = rows[["dataset", "regime", "correction"]].drop_duplicates().itertuples(index=False, name=None)
    return [((dataset, regime), correction) for dataset, regime, correction in keys]


def penalty_matrix(tables: Tables, dataset: str, regime: str, correction: str) -> Figure:
    """Share of budgets at which the row's strategy beats the column's; below it, if another, that with the start."""
    rows = tables["ppm"]
    rows = rows[(rows["dataset"] == dataset) & (rows["regime"] == regime)]
    rows = rows[(rows["class"] == "mean") & (rows["correction"] == correction)]
    names = [s.name for s in tables.design.strategies if s.name in set(rows["winner"])]
    place = {name: number for number, name in enumerate(names)}
    share, with_start = np.full((2, len(names), len(names)), np.nan)
    for row in rows.itertuples():
        cell = place[row.winner], place[row.loser]
        share[cell], with_start[cell] = row.share, row.share_with_start
    labels = [tables.design.strategy(name).label for name in names]
    size = 1.6 + 0.62 * len(names)
    figure = Figure(figsize=(size + 1.6, size + 0.4), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(False)
    axes.imshow(np.ma.masked_invalid(share), cmap="Blues", vmin=0, vmax=1)
    for (i, j), value in np.ndenumerate(share):
        if np.isfinite(value):
            colour, second = "white" if value > 0.55 else "black", f"({with_start[i, j]:.2f})"
            both = second != f"({value:.2f})"
            axes.text(j, i - 0.12 * both, f"{value:.2f}", ha="center", va="center", color=colour)
            if both:
                axes.text(j, i + 0.22, second, ha="center", va="center", color=colour, fontsize="x-small")
    axes.set_xticks(range(len(names)), labels, rotation=35, ha="right")
    axes.set_yticks(range(len(names)), labels)
    where = "over all settings" if dataset == "all" else dataset if regime == "all" else f"{dataset}, {regime}"
    kind = "Holm-corrected" if correction == "holm" else "not corrected"
    axes.set(xlabel="… is beaten", ylabel="beats …", title=f"{where} ({kind})")
    if (np.round(share, 2) != np.round(with_start, 2))[np.isfinite(share)].any():
        figure.supxlabel("in brackets: the start counted as a budget, as published", fontsize="x-small")
    return figure


def rank_plot(tables: Tables, setting: tuple[str, str], measure: str) -> Figure | None:
    """Ranks with their bootstrap intervals; None where nothing was ranked."""
    rows = tables.of("ranks", setting)
    rows = rows[rows["measure"] == measure].sort_values("rank", kind="stable", ascending=False)
    if rows.empty:
        return None
    look = looks(tables.design)
    figure = Figure(figsize=(5.0, 0.9 + 0.34 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(rows.itertuples()):
        style = look[row.strategy]
        if np.isfinite(row.low):
            axes.plot([row.low, row.high], [place, place], color=style.light, lw=2)
        face = "white" if style.is_open else style.light
        axes.plot(row.rank, place, MATPLOTLIB_SYMBOLS[style.symbol], color=style.light, mfc=face)
    axes.set_yticks(range(len(rows)), [tables.design.strategy(name).label for name in rows["strategy"]])
    kind = "AUBC" if measure == "aubc" else "final Dice"
    axes.set(xlabel=f"rank by {kind} (1 is best)", title=f"{setting[0]}, {setting[1]}", xlim=(0.5, len(rows) + 0.5))
    return figure


def _shown(tables: Tables, queries: Sequence[Query]) -> list[Query]:
    """Of each strategy and setting the last query of the first seed that has pictures."""
    by_key = {query.key: query for query in queries}
    found: dict[tuple[str, str, str], Query] = {}
    for trajectory in tables.design.trajectories:
        own = [by_key[node] for node in trajectory.nodes if node in by_key]
        if own and len(own[-1].ranks):
            found.setdefault((*trajectory.setting, trajectory.strategy), own[-1])
    return list(dict.fromkeys(found.values()))
