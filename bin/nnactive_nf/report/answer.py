"""The study's answer in sentences: which strategies beat which random baseline, where, and how sure that is."""

from __future__ import annotations

from collections import Counter

from scipy.special import stdtrit

from nnactive_nf.core.design import MEAN, Design
from nnactive_nf.report.tables import Tables

VERDICTS = {
    "better": ("▲", "better"),
    "worse": ("▼", "worse"),
    "no difference shown": ("=", "no difference shown"),
    "cannot be tested": ("?", "cannot be tested"),
}


def is_alone(design: Design) -> bool:
    """Whether there is one strategy, as where people label: nobody asks then what beats what."""
    return len(design.strategies) == 1


def answer(tables: Tables) -> list[str]:
    """The main findings, a sentence or two per random baseline; what can't be said is said."""
    design = tables.design
    if is_alone(design):
        return how_far(tables)
    versus = tables["versus_random"]
    versus = versus[versus["measure"] == "aubc"]
    baselines = [strategy for strategy in design.strategies if strategy.is_random]
    if not baselines:
        return ["No random strategy was run, so nothing can be said about strategies against a random baseline."]
    if (versus["verdict"] == "cannot be tested").all():
        return [_untestable(tables)]
    sentences = []
    for baseline in baselines:
        rows = versus[versus["baseline"] == baseline.name]
        counts: dict[str, Counter[str]] = {}
        for row in rows.itertuples():
            counts.setdefault(str(row.strategy), Counter())[str(row.verdict)] += 1
        if counts:
            sentences.append(_against(design, baseline.label, counts))
    return sentences


def how_far(tables: Tables) -> list[str]:
    """Of a strategy that is alone, a sentence per setting: what Dice it has come to, from where, by what labels."""
    sentences = []
    for setting in tables.design.settings:
        scores = tables.of("metrics", setting)
        scores = scores[scores["dice"].notna()]
        where = f"{setting[0]}, {setting[1]}"
        if scores.empty:
            sentences.append(f"{where}: nothing is measured yet.")
            continue
        seeds = scores["trajectory"].nunique()
        cycles = scores.groupby("cycle")
        means = cycles[["patches", "dice"]].mean()[cycles.size() == cycles.size().max()]
        first, last = means.iloc[0], means.iloc[-1]
        text = f"{where}: mean Dice {last['dice']:.3f} with {last['patches']:.0f} labelled patches"
        if len(means) > 1:
            text += f", after {first['dice']:.3f} with {first['patches']:.0f} at the start"
        sentences.append(text + (f" (mean of {seeds} seeds)." if seeds > 1 else "."))
    return sentences


def _untestable(tables: Tables) -> str:
    if max((len(t.nodes) for t in tables.design.trajectories), default=0) < 2:
        return "With one cycle no strategy has chosen anything yet, so there is nothing to compare."
    seeds = {(t.setting, t.strategy): 0 for t in tables.design.trajectories}
    for t in tables.design.trajectories:
        seeds[t.setting, t.strategy] += 1
    if max(seeds.values(), default=0) < 2:
        return "With one seed no strategy can be said to beat another: the difference may be that seed's luck."
    return "No two strategies have two complete seeds in common, so no strategy can be said to beat another."


def _against(design: Design, baseline: str, counts: dict[str, Counter[str]]) -> str:
    parts = []
    for verdict in ("better", "worse"):
        hits = {name: count for name, count in counts.items() if count[verdict]}
        if not hits:
            parts.append(f"no strategy is shown to be {verdict}")
            continue
        parts.append(_with_places(design, hits, verdict))
    undecided = [
        design.strategy(name).label
        for name, count in counts.items()
        if not count["better"] and not count["worse"] and count["no difference shown"]
    ]
    if undecided and len(undecided) < len(counts):
        parts.append(f"for {_listed(undecided)} no difference is shown")
    untested = [
        design.strategy(name).label
        for name, count in counts.items()
        if count["cannot be tested"] == sum(count.values())
    ]
    if untested:
        parts.append(f"{_listed(untested)} cannot be tested")
    return f"Against {baseline}: " + "; ".join(parts) + "."


def _with_places(design: Design, hits: dict[str, Counter[str]], verdict: str) -> str:
    """Strategies with this verdict and the number of settings where they have it, which is said once if it is one."""
    ordered = sorted(hits.items(), key=lambda item: -item[1][verdict])
    labels = [design.strategy(name).label for name, _ in ordered]
    places = [(count[verdict], sum(count.values())) for _, count in ordered]
    verb = "is" if len(labels) == 1 else "are"
    if len(set(places)) == 1:
        number, total = places[0]
        everywhere = f" in all {total} settings" if number == total else f" in {number} of {total} settings"
        return f"{_listed(labels)} {verb} {verdict}{'' if total == 1 else everywhere}"
    words = [f"{label} in {number} of {total} settings" for label, (number, total) in zip(labels, places, strict=True)]
    return f"{_listed(words)} {verb} {verdict}"


def certainty(tables: Tables) -> list[str]:
    """How sure the answer is: the tests' power and the noise floor."""
    sentences = []
    alpha = tables.statistics["alpha"]
    pairs = sorted({int(n) for n in tables["versus_random"]["pairs"] if n > 1})
    if pairs:
        seeds = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
        factor = stdtrit(pairs[0] - 1, 1 - alpha / 2)
        sentences.append(
            f"Verdicts rest on paired t-tests of AUBC over {seeds} common seeds at level {alpha:g}, "
            f"Holm-corrected over all comparisons of a data set and regime. With {pairs[0]} seeds a difference must "
            f"exceed {factor:.1f} standard errors even before the correction; “no difference shown” is not “equal”."
        )
    noise = tables["noise"]
    noise = noise[(noise["class"] == MEAN) & noise["dice_sd"].notna()]
    if len(noise):
        low, high = noise["dice_sd"].min(), noise["dice_sd"].max()
        span = f"{low:.4f}" if f"{low:.4f}" == f"{high:.4f}" else f"{low:.4f} to {high:.4f}"
        text = "the same start, drawn and trained with another seed, has Dice with a standard deviation of"
        sentences.append(f"Noise floor: {text} {span}.")
    return sentences


def best_by_setting(tables: Tables) -> list[str]:
    """A sentence per setting: the strategy with the highest AUBC and what it ends at."""
    sentences = []
    for setting in tables.design.settings:
        rows = tables.of("summary", setting)
        rows = rows[rows["aubc_mean"].notna()]
        if rows.empty:
            continue
        top = rows["aubc_mean"].max()
        best = rows[rows["aubc_mean"] >= top - 5e-5]
        if len(best) > 1 and len(best) == len(rows):
            sentences.append(f"{setting[0]}, {setting[1]}: all strategies have the same AUBC, {top:.3f}.")
            continue
        names = _listed([str(label) for label in best["label"]])
        final = _listed([f"{dice:.3f}" for dice in best["final_dice_mean"]])
        planned, seeds = int(best["seeds_planned"].iloc[0]), int(best["seeds"].iloc[0])
        rests = f"{seeds} seed{'s' * (seeds > 1)}" if seeds == planned else f"{seeds} of {planned} seeds"
        verbs = ("has", "ends") if len(best) == 1 else ("have", "end")
        ends = f"{verbs[1]} at Dice {final}"
        sentences.append(
            f"{setting[0]}, {setting[1]}: {names} {verbs[0]} the highest AUBC, {top:.3f}, and {ends} ({rests})."
        )
    return sentences


def _listed(words: list[str]) -> str:
    if len(words) < 2:
        return "".join(words)
    return ", ".join(words[:-1]) + " and " + words[-1]
