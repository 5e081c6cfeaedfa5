"""What stands in the report: numbers for the figures, cells for the tables, sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from nnactive_nf.core.design import MEAN
from nnactive_nf.report.answer import VERDICTS
from nnactive_nf.report.curves import X_AXES, curves_of
from nnactive_nf.report.look import looks
from nnactive_nf.report.tables import Tables

UNKNOWN = "\u2013"  # stands where there is no number
MEASURES = {"dice": "Dice", "iou": "IoU", "nsd": "NSD", "hd95_mm": "HD95 (mm)"}
COSTS = {
    "foreground_voxels": "labelled foreground voxels",
    "border_voxels": "labelled border voxels",
    "voxels": "labelled voxels",
    "cases": "cases with labels",
    "foreground_free_share": "share of patches without foreground",
    "pool_foreground_share": "share of the pool's foreground",
    "minutes": "minutes of labelling",
}
MATRIX_COUNTS = ("wins", "budgets", "wins_with_start", "budgets_with_start")

Cell = dict[str, Any]


# ---- numbers for the page's figures -----------------------------------------------------------------------------


def figure_data(tables: Tables) -> dict[str, Any]:
    """All that the page's own figures draw, as plain JSON (no NaN)."""
    design = tables.design
    look = looks(design)
    strategies = [
        {
            "name": s.name,
            "label": s.label + (" ◆" if s.oracle_aware else ""),
            "random": s.is_random,
            "light": look[s.name].light,
            "dark": look[s.name].dark,
            "dash": look[s.name].dash,
            "symbol": look[s.name].symbol + ("-open" if look[s.name].is_open else ""),
        }
        for s in design.strategies
    ]
    settings = [
        {
            "title": f"{dataset}, {regime}",
            "dataset": dataset,
            "regime": regime,
            "classes": tables.classes(dataset),
            "full": tables.full_dice((dataset, regime)),
            "curves": _curve_data(tables, (dataset, regime)),
            "cost": _cost_data(tables, (dataset, regime)),
            "efficiency": _efficiency_data(tables, (dataset, regime)),
            "reliability": _reliability_data(tables, (dataset, regime)),
        }
        for dataset, regime in design.settings
    ]
    return {
        "strategies": strategies,
        "settings": settings,
        "measures": MEASURES,
        "axes": X_AXES,
        "costs": COSTS,
        "ppm": _matrix_data(tables),
        "ranks": _rank_data(tables),
    }


def _curve_data(tables: Tables, setting: tuple[str, str]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for x in X_AXES:
        for curve in curves_of(tables, setting, x):
            own = data.setdefault(curve.strategy, {"x": {}, "seeds": {}, "y": {}})
            own["x"][x] = plain(curve.mean_x)
            for seed, amounts, values in zip(curve.seeds, curve.x, curve.values, strict=True):
                line = own["seeds"].setdefault(str(seed), {"x": {}, "y": {}})
                line["x"][x] = plain(amounts)
                line["y"] = plain(values)
    for name in tables.classes(setting[0]):
        for measure in MEASURES:
            for curve in curves_of(tables, setting, "patches", measure, name):
                content = {"mean": plain(curve.mean), "sd": plain(curve.spread), "n": int(curve.whole.sum())}
                data[curve.strategy]["y"].setdefault(name, {})[measure] = content
    return data


def _cost_data(tables: Tables, setting: tuple[str, str]) -> dict[str, Any]:
    return {
        kind: {
            curve.strategy: {"x": plain(curve.mean_x), "y": plain(curve.mean)}
            for curve in _costs(tables, setting, kind)
        }
        for kind in COSTS
    }


def _costs(tables: Tables, setting: tuple[str, str], kind: str) -> list[Any]:
    swapped = Tables(tables.design, {**tables.frames, "metrics": tables["cost"].assign(**{"class": MEAN})}, {})
    return curves_of(swapped, setting, "patches", kind)


def _efficiency_data(tables: Tables, setting: tuple[str, str]) -> dict[str, Any]:
    rows = tables.of("efficiency", setting)
    rows = rows[rows["beta"].notna()]
    return {
        str(row.strategy): {name: float(getattr(row, name)) for name in ("beta", "beta_se", "x0", "y0", "c")}
        for row in rows.itertuples()
    }


def _reliability_data(tables: Tables, setting: tuple[str, str]) -> dict[str, Any]:
    """Confidence and accuracy per bin of each strategy's last nodes, voxels of all seeds together."""
    bins = tables["calibration_bins"]
    data = {}
    for strategy in tables.design.strategies:
        nodes = [t.nodes[-1] for t in tables.design.of_setting(setting) if t.strategy == strategy.name and t.nodes]
        own = bins[bins["node"].isin(nodes) & (bins["voxels"] > 0)].dropna(subset=["confidence", "accuracy"])
        if own.empty:
            continue
        weighted = own.assign(c=own["confidence"] * own["voxels"], a=own["accuracy"] * own["voxels"])
        sums = weighted.groupby("bin")[["c", "a", "voxels"]].sum()
        data[strategy.name] = {
            "x": plain((sums["c"] / sums["voxels"]).to_numpy()),
            "y": plain((sums["a"] / sums["voxels"]).to_numpy()),
            "voxels": [int(n) for n in sums["voxels"]],
        }
    return data


def _matrix_data(tables: Tables) -> list[dict[str, Any]]:
    rows = tables["ppm"]
    if len(tables.design.settings) < 2:
        rows = rows[rows["dataset"] != "all"]
    found = []
    for (dataset, regime, name, correction), part in rows.groupby(
        ["dataset", "regime", "class", "correction"], sort=False
    ):
        if not (part["budgets"] > 0).any():
            continue
        names = [s.name for s in tables.design.strategies if s.name in set(part["winner"])]
        place = {strategy: number for number, strategy in enumerate(names)}
        counts: dict[str, list[list[int | None]]] = {
            kind: [[None] * len(names) for _ in names] for kind in MATRIX_COUNTS
        }
        for row in part.itertuples():
            for kind, cells in counts.items():
                cells[place[row.winner]][place[row.loser]] = int(getattr(row, kind))
        where = "over all settings" if dataset == "all" else dataset if regime == "all" else f"{dataset}, {regime}"
        head = {"where": where, "class": name, "correction": correction, "strategies": names}
        found.append({**head, **counts})
    over_all = [matrix for matrix in found if matrix["where"] == "over all settings"]
    return over_all + [matrix for matrix in found if matrix["where"] != "over all settings"]


def _rank_data(tables: Tables) -> list[dict[str, Any]]:
    found = []
    for (dataset, regime, measure), part in tables["ranks"].groupby(["dataset", "regime", "measure"], sort=False):
        where = "over all settings" if dataset == "all" else f"{dataset}, {regime}"
        ordered = part.sort_values("rank", kind="stable")
        found.append(
            {
                "where": where,
                "measure": measure,
                "strategies": list(ordered["strategy"]),
                "rank": plain(ordered["rank"].to_numpy()),
                "low": plain(ordered["low"].to_numpy()),
                "high": plain(ordered["high"].to_numpy()),
                "seeds": int(part["seeds"].iloc[0]),
            }
        )
    over_all = [ranks for ranks in found if ranks["where"] == "over all settings"]
    return over_all + [ranks for ranks in found if ranks["where"] != "over all settings"]


def plain(values: Iterable[float] | None) -> list[float | None] | None:
    """Numbers for JSON: five digits behind the point, None for what isn't finite."""
    if values is None:
        return None
    return [round(float(value), 6) if math.isfinite(value) else None for value in values]


# ---- tables -----------------------------------------------------------------------------------------------------


def cell(text: str, value: float | str | None = None, kind: str = "") -> Cell:
    """A table cell: what is shown, what it is sorted by, its class."""
    return {"text": text, "value": text if value is None else value, "kind": kind}


def number(value: Any, digits: int = 3) -> Cell:
    """A number, or the mark that there is none."""
    if value is None or pd.isna(value):
        return cell(UNKNOWN, "", "num none")
    return cell(f"{float(value):.{digits}f}", float(value), "num")


def count(value: Any) -> Cell:
    """A whole number with thin spaces between thousands, or the mark that there is none."""
    if value is None or pd.isna(value):
        return cell(UNKNOWN, "", "num none")
    return cell(f"{round(float(value)):,}".replace(",", "\u202f"), float(value), "num")


def percent(value: Any) -> Cell:
    """A share as per cent."""
    if value is None or pd.isna(value):
        return cell(UNKNOWN, "", "num none")
    return cell(f"{100 * float(value):.1f}%", float(value), "num")


def with_spread(mean: Any, sd: Any, digits: int = 3) -> Cell:
    """Mean ± standard deviation; the mean alone where there is no spread."""
    found = number(mean, digits)
    if found["text"] != UNKNOWN and not pd.isna(sd):
        found["text"] += f" ± {float(sd):.{digits}f}"
    return found


def make_table(name: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> dict[str, Any]:
    """A table for the template. A column is numeric where its first cell is."""
    numeric = [bool(rows) and "num" in rows[0][place]["kind"] for place in range(len(columns))]
    return {
        "id": name,
        "caption": caption,
        "columns": list(zip(columns, numeric, strict=True)),
        "rows": [list(row) for row in rows],
    }


def strategy_cell(tables: Tables, name: str) -> Cell:
    """The strategy's label, marked where it looks at the oracle."""
    strategy = tables.design.strategy(name)
    order = [s.name for s in tables.design.strategies].index(name)
    return cell(strategy.label + (" ◆" if strategy.oracle_aware else ""), order, "strategy")


def _where(tables: Tables, setting: tuple[str, str]) -> list[Cell]:
    """Data set and regime, where there is more than one of them."""
    settings = tables.design.settings
    place = settings.index(setting) if setting in settings else len(settings)  # behind them: trainings on full labels
    return [] if len(settings) == 1 else [cell(f"{setting[0]}, {setting[1]}", place, "setting")]


def _where_names(tables: Tables, *more: str) -> list[str]:
    return [*([] if len(tables.design.settings) == 1 else ["Setting"]), *more]


def verdict_table(tables: Tables) -> dict[str, Any]:
    """Strategy against baselines by AUBC: verdict, difference and interval."""
    baselines = [s for s in tables.design.strategies if s.is_random]
    versus = tables["versus_random"]
    versus = versus[versus["measure"] == "aubc"]
    found = {(row.dataset, row.regime, row.strategy, row.baseline): row for row in versus.itertuples()}
    rows = []
    for setting in tables.design.settings:
        for strategy in tables.design.strategies:
            cells = [_verdict_cell(found.get((*setting, strategy.name, b.name)), strategy is b) for b in baselines]
            if any(c["kind"] != "none" for c in cells):
                rows.append([*_where(tables, setting), strategy_cell(tables, strategy.name), *cells])
    caption = (
        "Difference of AUBC to each random baseline, with its 95% confidence interval over seeds (not corrected for "
        "the number of comparisons; the verdict is). "
        "▲\u00a0better, ▼\u00a0worse, =\u00a0no difference shown, ?\u00a0cannot be tested."
    )
    return make_table(
        "verdicts", caption, [*_where_names(tables, "Strategy"), *(f"against {b.label}" for b in baselines)], rows
    )


def _verdict_cell(row: Any, itself: bool) -> Cell:
    if itself or row is None:
        return cell("" if itself else UNKNOWN, "", "none")
    sign, words = VERDICTS[row.verdict]
    if pd.isna(row.difference):
        return cell(f"{sign} {words}", "", "verdict untested")
    interval = "" if pd.isna(row.low) else f" [{row.low:+.3f}, {row.high:+.3f}]"
    kind = {"better": "better", "worse": "worse"}.get(row.verdict, "same")
    return {
        **cell(
            f"{sign} {row.difference:+.3f}{interval}".replace("-", "\u2212"), float(row.difference), f"verdict {kind}"
        ),
        "title": words,
    }


def result_table(tables: Tables) -> dict[str, Any]:
    """AUBC and final Dice per strategy."""
    rows = []
    for setting in tables.design.settings:
        for row in tables.of("summary", setting).itertuples():
            seeds = f"{row.seeds}" if row.seeds == row.seeds_planned else f"{row.seeds} of {row.seeds_planned}"
            numbers = [
                with_spread(row.aubc_mean, row.aubc_sd),
                with_spread(row.final_dice_mean, row.final_dice_sd),
                number(row.start_dice_mean),
            ]
            head = [*_where(tables, setting), strategy_cell(tables, row.strategy)]
            rows.append([*head, *numbers, cell(seeds, int(row.seeds), "num")])
    caption = "Mean ± standard deviation over complete seeds of the mean test Dice. ◆ uses the oracle to choose."
    return make_table(
        "results",
        caption,
        [*_where_names(tables, "Strategy"), "AUBC", "Final Dice", "Dice at the start", "Seeds"],
        rows,
    )


def trajectory_table(tables: Tables) -> dict[str, Any]:
    """Every trajectory's own numbers."""
    part = tables["trajectories"]
    part = part[part["class"] == MEAN]
    rows = []
    for row in part.itertuples():
        whole = row.cycles == row.cycles_planned
        cycles = str(row.cycles) if whole else f"{row.cycles} of {row.cycles_planned}"
        head = [cell(row.trajectory), strategy_cell(tables, row.strategy), cell(str(row.seed), int(row.seed), "num")]
        numbers = [number(value, 4) for value in (row.aubc, row.start_dice, row.final_dice)]
        rows.append([*head, *numbers, cell(cycles, int(row.cycles), "num")])
    columns = ["Trajectory", "Strategy", "Seed", "AUBC", "Dice at the start", "Final Dice", "Cycles"]
    return make_table("trajectories", "Every trajectory by itself.", columns, rows)


def stop_table(tables: Tables) -> dict[str, Any] | None:
    """When and why trajectories were stopped; None where none was."""
    rows = [
        [
            cell(row.trajectory),
            strategy_cell(tables, row.strategy),
            cell(str(row.seed), int(row.seed), "num"),
            cell(str(row.cycle), int(row.cycle), "num"),
            cell(row.why),
        ]
        for row in tables["stopped"].itertuples()
    ]
    columns = ["Trajectory", "Strategy", "Seed", "Last cycle", "Why"]
    return make_table("stopped", "Stopped by a rule before the plan's end.", columns, rows) if rows else None


def class_tables(tables: Tables) -> list[dict[str, Any]]:
    """Final Dice per class, a table per data set."""
    found = []
    for place, dataset in enumerate(dict.fromkeys(dataset for dataset, _ in tables.design.settings)):
        classes = tables.classes(dataset)
        rows = []
        for setting in (s for s in tables.design.settings if s[0] == dataset):
            summary = tables.of("summary", setting, None).set_index(["strategy", "class"])
            for strategy in tables.design.strategies:
                if (strategy.name, MEAN) not in summary.index:
                    continue
                cells = [
                    with_spread(*summary.loc[(strategy.name, name), ["final_dice_mean", "final_dice_sd"]])
                    if (strategy.name, name) in summary.index
                    else number(None)
                    for name in classes
                ]
                rows.append([cell(setting[1]), strategy_cell(tables, strategy.name), *cells])
        found.append(
            make_table(
                f"classes{place}",
                f"{dataset}: final Dice per class.",
                ["Regime", "Strategy", "mean of classes", *classes[1:]],
                rows,
            )
        )
    return found


def efficiency_table(tables: Tables) -> dict[str, Any] | None:
    """Foreground efficiency per strategy; None where there is none at all."""
    part = tables["efficiency"]
    part = part[(part["class"] == MEAN)]
    if part["beta"].notna().sum() == 0:
        return None
    rows = [
        [
            *_where(tables, (row.dataset, row.regime)),
            strategy_cell(tables, row.strategy),
            with_spread(row.beta, row.beta_se, 2),
            with_spread(row.beta_published, row.beta_se_published, 2),
            count(row.points),
        ]
        for row in part.itertuples()
    ]
    caption = (
        "How fast Dice rises with the share of the foreground that is labelled, ± standard error, over all seeds. "
        "Higher is better. Only the published form may be held against the papers' numbers: it fits all strategies and "
        "seeds from the smallest start, and takes the starts as points."
    )
    names = ["FG-Eff (β), own starts", "FG-Eff (β), one start, as published", "Points after the start"]
    return make_table("efficiency", caption, [*_where_names(tables, "Strategy"), *names], rows)


def cost_table(tables: Tables) -> dict[str, Any]:
    """What was annotated by the last cycle, mean over seeds."""
    names = ["patches", "voxels", "foreground_voxels", "border_voxels", "cases"]
    shares = ["pool_foreground_share", "foreground_free_share"]
    rows = []
    for setting in tables.design.settings:
        cost = tables.of("cost", setting)
        last = cost[cost["cycle"] == cost.groupby("trajectory")["cycle"].transform("max")]
        means = last.groupby("strategy")[names + shares].mean()
        for strategy in tables.design.strategies:
            if strategy.name in means.index:
                row = means.loc[strategy.name]
                cells = [*(count(row[name]) for name in names), *(percent(row[name]) for name in shares)]
                rows.append([*_where(tables, setting), strategy_cell(tables, strategy.name), *cells])
    columns = [
        "Patches",
        "Voxels",
        "Foreground voxels",
        "Border voxels",
        "Cases",
        "Of the pool's foreground",
        "Empty patches",
    ]
    caption = (
        "Labelled by each trajectory's last cycle, start included, mean over seeds. Border voxels: foreground voxels "
        "next to another class in the patch. Empty patches: without any foreground."
    )
    return make_table("cost", caption, [*_where_names(tables, "Strategy"), *columns], rows)


def class_count_table(tables: Tables) -> dict[str, Any]:
    """Labelled voxels, patches and cases per class by the last cycle, mean over seeds."""
    counts = tables["class_counts"]
    rows = []
    if len(counts):
        last = counts[counts["cycle"] == counts.groupby("trajectory")["cycle"].transform("max")]
        means = last.groupby(["dataset", "regime", "strategy", "class"], sort=False)[
            ["voxels", "patches", "cases", "pool_share"]
        ].mean()
        for (dataset, regime, strategy, name), row in means.iterrows():
            counted = [
                count(row["voxels"]),
                number(row["patches"], 1),
                number(row["cases"], 1),
                percent(row["pool_share"]),
            ]
            rows.append([*_where(tables, (dataset, regime)), strategy_cell(tables, strategy), cell(name), *counted])
    columns = [*_where_names(tables, "Strategy"), "Class", "Voxels", "Patches", "Cases", "Of the pool's voxels"]
    return make_table("counts", "What was labelled of each class by the last cycle, mean over seeds.", columns, rows)


def calibration_table(tables: Tables) -> dict[str, Any] | None:
    """ECE and Brier score of the last cycle; None where calibration was not measured."""
    part = tables["calibration"]
    if part.empty:
        return None
    rows = []
    for setting in tables.design.settings:
        own = tables.of("calibration", setting)
        last = own[own["cycle"] == own.groupby("trajectory")["cycle"].transform("max")]
        for strategy in tables.design.strategies:
            values = last[last["strategy"] == strategy.name]
            if len(values):
                cells = [with_spread(values[name].mean(), values[name].std(ddof=1), 4) for name in ("ece", "brier")]
                rows.append([*_where(tables, setting), strategy_cell(tables, strategy.name), *cells])
    caption = "Calibration of the ensemble on the test set after the last cycle, mean ± standard deviation over seeds."
    return make_table("calibration", caption, [*_where_names(tables, "Strategy"), "ECE", "Brier score"], rows)


def noise_table(tables: Tables) -> dict[str, Any]:
    """Spread of the start's nodes between seeds."""
    rows = [
        [
            *_where(tables, (row["dataset"], row["regime"])),
            cell("mean of classes" if row["class"] == MEAN else row["class"]),
            *(number(row[name], 4) for name in ("dice_mean", "dice_sd", "dice_min", "dice_max")),
            count(row["seeds"]),
        ]
        for row in tables["noise"].to_dict("records")
    ]
    columns = [*_where_names(tables, "Class"), "Mean Dice", "Standard deviation", "Lowest", "Highest", "Seeds"]
    caption = "Noise floor: Dice of the starts, which differ by their seed alone. Smaller differences mean little."
    return make_table("noise", caption, columns, rows)


def _trained_together(tables: Tables) -> list[tuple[list[Cell], Cell, set[str]]]:
    """Nodes whose run times stand in one row: where, what, and their names."""
    found = []
    for setting in tables.design.settings:
        where, members = _where(tables, setting), tables.design.of_setting(setting)
        found.append((where, cell("the start, shared by all", -1), {t.nodes[0] for t in members if t.nodes}))
        for place, strategy in enumerate(tables.design.strategies):
            nodes = {node for t in members if t.strategy == strategy.name for node in t.nodes[1:]}
            found.append((where, cell(strategy.label, place), nodes))
    # One training on full labels serves all regimes that train alike.
    for dataset, regime in dict.fromkeys((group.dataset, group.reference) for group in tables.design.groups):
        nodes = {node for node in tables["runtimes"]["node"] if regime and node.startswith(f"{dataset}-{regime}-s")}
        found.append((_where(tables, (dataset, regime)), cell("full labels", len(tables.design.strategies)), nodes))
    return found


def runtime_table(tables: Tables) -> dict[str, Any] | None:
    """Trainings and their time per setting and strategy; None where no records were given."""
    runtimes = tables["runtimes"]
    if runtimes.empty:
        return None
    # Left out where no training tells it: on a CPU there is no GPU, and earlier versions did not measure.
    used = {
        "CPU hours": lambda own: number(own["cpu_seconds"].sum(min_count=1) / 3600, 2),
        "Peak memory, GiB": lambda own: number(own["peak_host_mib"].max() / 1024, 1),
        "Peak GPU memory, GiB": lambda own: number(own["peak_gpu_mib"].max() / 1024, 1),
        "GPU busy, %": lambda own: number(own["gpu_percent_mean"].mean(), 0),
        "Waits for batches, %": lambda own: number(own["loader_percent"].mean(), 0),
    }
    used = {name: show for name, show in used.items() if show(runtimes)["text"] != UNKNOWN}
    rows = []
    for where, what, nodes in _trained_together(tables):
        own = runtimes[runtimes["node"].isin(nodes)]
        if len(own):
            devices = ", ".join(sorted(set(own["device"])))
            seconds = own["seconds"]
            rows.append(
                [
                    *where,
                    what,
                    count(len(own)),
                    number(seconds.mean() / 60, 1),
                    number(seconds.sum() / 3600, 2),
                    count(own["resumed"].sum()),
                    cell(devices),
                    *(show(own) for show in used.values()),
                ]
            )
    columns = [
        *_where_names(tables, "Strategy"),
        "Trainings",
        "Minutes each",
        "Hours together",
        "Times resumed",
        "Device",
        *used,
    ]
    return make_table("runtimes", "Run times of the trainings (one per node and fold).", columns, rows)


def key_values(name: str, caption: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """A table of two columns."""
    rows = [[cell(str(key)), cell(_word(value))] for key, value in sorted(values.items())]
    return make_table(name, caption, ["Name", "Value"], rows)


def _word(value: Any) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_word(item)}" for key, item in value.items())
    return ", ".join(_word(item) for item in value) if isinstance(value, list) else str(value)
