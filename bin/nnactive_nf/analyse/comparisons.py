"""What beats what: tests between strategies, penalty matrices, verdicts against the random baselines, ranks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from nnactive_nf.analyse.rows import ALL, Setting, number_or_nan
from nnactive_nf.analyse.statistics import bootstrap_ranks, holm, paired_test, ranks_of
from nnactive_nf.analyse.study import Study, table
from nnactive_nf.core.design import MEAN
from nnactive_nf.core.result_tables import COLUMNS
from nnactive_nf.core.seeds import stream

Floats = npt.NDArray[np.float64]


def tests_table(study: Study, alpha: float) -> pd.DataFrame:
    """Paired t-tests by seed of all pairs of strategies at every budget after the start.

    At the start all strategies have the same model, so there is nothing to compare. `p_holm` is corrected over all
    tests of the class in the data set and regime.
    """
    rows = []
    cycles = max((len(t.nodes) for t in study.design.trajectories), default=0)
    for setting in study.design.settings:
        for name in study.class_names(setting[0]):
            part = list(_pairs_of(study, setting, name, range(1, cycles)))
            tested = [row for row in part if math.isfinite(row["p"])]
            for row, corrected in zip(tested, holm([row["p"] for row in tested]), strict=True):
                row["p_holm"] = float(corrected)
            rows.extend(part)
    frame = table(TEST_COLUMNS, rows)
    for kind in ("p", "p_holm"):
        frame[f"better_{kind}"] = [
            (row.a if row.difference > 0 else row.b) if getattr(row, kind) < alpha and row.difference != 0 else ""
            for row in frame.itertuples()
        ]
    return frame.rename(columns={"better_p": "better", "better_p_holm": "better_holm"})


# Who is better follows from the p values, which are corrected over whole families.
TEST_COLUMNS = [name for name in COLUMNS["tests"] if not name.startswith("better")]


def _pairs_of(study: Study, setting: Setting, name: str, cycles: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Rows of `TEST_COLUMNS` of all pairs of strategies at these cycles; `p_holm` is left to the caller."""
    values = study.values(name=name)
    curves = _curves(study, setting, values)
    for cycle in cycles:
        for a, b in itertools.combinations(curves, 2):
            if cycle >= min(curves[a].shape[1], curves[b].shape[1]):
                continue
            result = paired_test(curves[a][:, cycle], curves[b][:, cycle])
            if result.pairs == 0:
                continue
            yield {
                "dataset": setting[0],
                "regime": setting[1],
                "class": name,
                "cycle": cycle,
                "a": a,
                "b": b,
                "pairs": result.pairs,
                "difference": number_or_nan(result.difference),
                "low": number_or_nan(result.low),
                "high": number_or_nan(result.high),
                "t": number_or_nan(result.t),
                "p": number_or_nan(result.p),
                "p_holm": math.nan,
            }


def penalty_table(study: Study, tests: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Pairwise penalty matrices, long: the share of budgets at which `winner` beats `loser`.

    One matrix per data set and regime, one per data set over its regimes where there are several, one over all. In a
    Holm-corrected matrix the family is all tests that this matrix rests on.

    `share` leaves the start out, since no strategy has chosen anything there. `share_with_start` counts it as one more
    budget, as the published matrices do (nnActive, `PairwisePenaltyMatrix`): only this one may be held against theirs.
    """
    rows: list[dict[str, Any]] = []
    settings = study.design.settings
    scopes: list[tuple[str, str]] = list(settings)
    datasets = list(dict.fromkeys(dataset for dataset, _ in settings))
    scopes += [(dataset, ALL) for dataset in datasets if sum(name == dataset for name, _ in settings) > 1]
    scopes.append((ALL, ALL))
    with_start = pd.concat([tests, _start_tests(study)], ignore_index=True)
    for dataset, regime in scopes:
        for name in [MEAN] if dataset == ALL else study.class_names(dataset):
            own, published = (_tested(frame, dataset, regime, name) for frame in (tests, with_start))
            for correction in ("plain", "holm"):
                head = {"dataset": dataset, "regime": regime, "class": name, "correction": correction}
                matrix, full = (_wins(part, _p_values(part, correction), alpha) for part in (own, published))
                names = [s.name for s in study.design.strategies if any(s.name in pair for pair in full)]
                for pair in itertools.permutations(names, 2):
                    cells = zip(SHARE_COLUMNS, (*_share(matrix, pair), *_share(full, pair)), strict=True)
                    rows.append({**head, "winner": pair[0], "loser": pair[1], **dict(cells)})
    return table(COLUMNS["ppm"], rows)


SHARE_COLUMNS = ["wins", "budgets", "share", "wins_with_start", "budgets_with_start", "share_with_start"]


def _start_tests(study: Study) -> pd.DataFrame:
    """The tests at the start; where two strategies share its model the difference is 0, and nobody wins."""
    rows = [
        row
        for setting in study.design.settings
        for name in study.class_names(setting[0])
        for row in _pairs_of(study, setting, name, [0])
    ]
    return table(TEST_COLUMNS, rows)


def _tested(tests: pd.DataFrame, dataset: str, regime: str, name: str) -> pd.DataFrame:
    chosen = (tests["class"] == name) & tests["p"].notna()
    if dataset != ALL:
        chosen &= tests["dataset"] == dataset
    if regime != ALL:
        chosen &= tests["regime"] == regime
    return tests[chosen]


def _p_values(tests: pd.DataFrame, correction: str) -> Floats:
    """P values of a matrix; a start that both strategies share does not count among the tests to correct for."""
    p_values = tests["p"].to_numpy(dtype=float, copy=True)
    if correction == "holm":
        family = ((tests["cycle"] > 0) | (tests["difference"] != 0)).to_numpy(dtype=bool)
        p_values[family] = holm(p_values[family].tolist())
    return p_values


def _wins(tests: pd.DataFrame, p_values: Floats, alpha: float) -> dict[tuple[str, str], tuple[int, int]]:
    """Per ordered pair of strategies: budgets at which the first beats the second, and budgets at which they met."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for (a, b, difference), p in zip(
        tests[["a", "b", "difference"]].itertuples(index=False, name=None), p_values, strict=True
    ):
        for pair, lead in (((a, b), difference), ((b, a), -difference)):
            wins, budgets = found.get(pair, (0, 0))
            found[pair] = (wins + (p < alpha and lead > 0), budgets + 1)
    return found


def _share(matrix: dict[tuple[str, str], tuple[int, int]], pair: tuple[str, str]) -> tuple[int, int, float]:
    wins, budgets = matrix.get(pair, (0, 0))
    return wins, budgets, wins / budgets if budgets else math.nan


def versus_random_table(study: Study, trajectories: pd.DataFrame, tests: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Every strategy against every random baseline, by AUBC and by final Dice: the answer to the study's question.

    `verdict` rests on the Holm-corrected p over all comparisons of the data set, regime and measure: `better`,
    `worse`, `no difference shown`, or `cannot be tested` (fewer than two common seeds).
    """
    baselines = [strategy.name for strategy in study.design.strategies if strategy.is_random]
    rows: list[dict[str, Any]] = []
    for (dataset, regime), measure in itertools.product(study.design.settings, ("aubc", "final_dice")):
        by_seed = _by_seed(study, trajectories, (dataset, regime), measure)
        pairs = [
            (strategy.name, baseline)
            for strategy in study.design.strategies
            for baseline in baselines
            if strategy.name != baseline and strategy.name in by_seed and baseline in by_seed
        ]
        results = [paired_test(by_seed[a].to_numpy(float), by_seed[b].to_numpy(float)) for a, b in pairs]
        corrected = iter(holm([result.p for result in results if result.p is not None]))
        for (strategy_name, baseline), result in zip(pairs, results, strict=True):
            p_holm = math.nan if result.p is None else float(next(corrected))
            rows.append(
                {
                    "dataset": dataset,
                    "regime": regime,
                    "measure": measure,
                    "strategy": strategy_name,
                    "baseline": baseline,
                    "pairs": result.pairs,
                    "difference": number_or_nan(result.difference),
                    "low": number_or_nan(result.low),
                    "high": number_or_nan(result.high),
                    "p": number_or_nan(result.p),
                    "p_holm": p_holm,
                    **_budgets_won(tests, (dataset, regime), strategy_name, baseline),
                    "verdict": _verdict(result.difference, p_holm, alpha),
                }
            )
    return table(COLUMNS["versus_random"], rows)


def _budgets_won(tests: pd.DataFrame, setting: Setting, strategy: str, baseline: str) -> dict[str, int]:
    part = tests[(tests["dataset"] == setting[0]) & (tests["regime"] == setting[1]) & (tests["class"] == MEAN)]
    both = part["a"].isin([strategy, baseline]) & part["b"].isin([strategy, baseline]) & part["p"].notna()
    better = part.loc[both, "better"]
    return {
        "budgets_won": int((better == strategy).sum()),
        "budgets_lost": int((better == baseline).sum()),
        "budgets": int(both.sum()),
    }


def _verdict(difference: float | None, p: float, alpha: float) -> str:
    if math.isnan(p) or difference is None:
        return "cannot be tested"
    if p >= alpha or difference == 0:
        return "no difference shown"
    return "better" if difference > 0 else "worse"


def ranks_table(study: Study, trajectories: pd.DataFrame, draws: int) -> pd.DataFrame:
    """Ranks by AUBC and by final Dice (1 is best) with 95% bootstrap intervals over seeds.

    All strategies are ranked on the same seeds; one that lacks a seed which others have is left out and named in the
    notes. Over all settings: the mean rank over settings, drawn setting by setting, of strategies ranked in each.
    """
    rows: list[dict[str, Any]] = []
    for measure in ("aubc", "final_dice"):
        points: dict[Setting, pd.Series] = {}
        samples: dict[Setting, pd.DataFrame] = {}
        for dataset, regime in study.design.settings:
            by_seed = _by_seed(study, trajectories, (dataset, regime), measure)
            kept = _on_common_seeds(study, (dataset, regime), measure, by_seed)
            if kept.empty:
                continue
            values = kept.to_numpy(dtype=float)
            generator = stream(0, 0, "analyse", "ranks", dataset, regime, measure)
            drawn = pd.DataFrame(bootstrap_ranks(values, draws, generator), columns=kept.columns)
            point = pd.Series(ranks_of(np.round(values.mean(axis=0), 12)), index=kept.columns)
            points[dataset, regime], samples[dataset, regime] = point, drawn
            rows.extend(_rank_rows((dataset, regime), measure, point, drawn, len(kept)))
        if len(points) > 1:
            shared = [s.name for s in study.design.strategies if all(s.name in point for point in points.values())]
            if shared:
                point = pd.concat([ranks[shared] for ranks in points.values()], axis=1).mean(axis=1)
                total = sum(drawn[shared].to_numpy() for drawn in samples.values())
                drawn = pd.DataFrame(total / len(samples), columns=shared)
                seeds = min(len({t.seed for t in study.design.of_setting(setting)}) for setting in points)
                rows.extend(_rank_rows((ALL, ALL), measure, point, drawn, seeds))
    return table(COLUMNS["ranks"], rows)


def _on_common_seeds(study: Study, setting: Setting, measure: str, by_seed: pd.DataFrame) -> pd.DataFrame:
    """Strategies with all seeds that any has; where those are fewer than two, the seeds that all strategies have."""
    known = by_seed.dropna(how="all").dropna(axis=1, how="all")
    kept = known.loc[:, known.notna().all()]
    if kept.shape[1] < 2:
        kept = known.dropna()
    if kept.shape[1] < 2 or kept.empty:
        return kept.iloc[:0, :0]
    by = "AUBC" if measure == "aubc" else "final Dice"
    where = f"{setting[0]}, {setting[1]}"
    left_out = [study.design.strategy(name).label for name in by_seed if name not in kept]
    if left_out:
        text = f"not ranked by {by}, for want of seeds that the others have: {', '.join(left_out)}."
        study.note("ranks", f"{where}: {text}", setting)
    if len(kept) < len(known):
        text = f"ranked by {by} on the seeds that all strategies have, {len(kept)} of {len(known)}."
        study.note("ranks", f"{where}: {text}", setting)
    return kept


def _rank_rows(
    setting: Setting, measure: str, point: pd.Series, drawn: pd.DataFrame, seeds: int
) -> Iterator[dict[str, Any]]:
    best = drawn.eq(drawn.min(axis=1), axis=0)
    shares = best.div(best.sum(axis=1), axis=0).mean()
    for name in drawn.columns:
        low, high = np.percentile(drawn[name], [2.5, 97.5]) if seeds > 1 else (math.nan, math.nan)
        yield {
            "dataset": setting[0],
            "regime": setting[1],
            "measure": measure,
            "strategy": name,
            "rank": float(point[name]),
            "low": float(low),
            "high": float(high),
            "best_share": float(shares[name]) if seeds > 1 else math.nan,
            "seeds": seeds,
            "draws": len(drawn) if seeds > 1 else 0,
        }


def _curves(study: Study, setting: Setting, values: dict[str, float]) -> dict[str, Floats]:
    """Per strategy an array `[seeds, cycles]`, seeds in rising order, NaN where a result is missing."""
    members = study.design.of_setting(setting)
    seeds = sorted({t.seed for t in members})
    curves = {}
    for strategy in study.design.strategies:
        own = {t.seed: study.curve(t, values) for t in members if t.strategy == strategy.name}
        if own:
            cycles = max(len(curve) for curve in own.values())
            array = np.full((len(seeds), cycles), math.nan)
            for row, seed in enumerate(seeds):
                if seed in own:
                    array[row, : len(own[seed])] = own[seed]
            curves[strategy.name] = array
    return curves


def _by_seed(study: Study, trajectories: pd.DataFrame, setting: Setting, measure: str) -> pd.DataFrame:
    """A measure of the mean over classes, one row per seed and one column per strategy, in the plan's order.

    A strategy of which a seed was stopped early has no AUBC here: the seeds that went on are no fair choice of all.
    """
    early = {t.strategy for t in study.design.of_setting(setting) if measure == "aubc" and study.stopped_early(t)}
    part = trajectories[
        (trajectories["class"] == MEAN)
        & (trajectories["dataset"] == setting[0])
        & (trajectories["regime"] == setting[1])
    ]
    columns = {}
    for strategy in study.design.strategies:
        own = part[part["strategy"] == strategy.name]
        if len(own):
            values = own[measure].to_numpy(dtype=float)
            columns[strategy.name] = pd.Series(
                np.where(strategy.name in early, math.nan, values), index=own["seed"], dtype=float
            )
    return pd.DataFrame(columns).sort_index()
