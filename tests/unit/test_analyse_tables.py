"""The tables of made-up studies, cell by cell."""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import curve_fit
from study import Curves, Made, known_winner, make_design, make_metrics, make_study

from nnactive_nf.analyse.efficiency import efficiency_table
from nnactive_nf.analyse.folders import read_tables
from nnactive_nf.analyse.study import SCORE_COLUMNS, Study, read_study, table
from nnactive_nf.analyse.write import all_tables, analyse
from nnactive_nf.core.design import Design
from nnactive_nf.report.content import runtime_table
from nnactive_nf.report.tables import Tables

SETTING = ("phantom", "low")


def study_of(curves: Curves, own_starts: bool = False) -> Study:
    """A study with these Dice curves as `mean` and nothing else; with `own_starts` no two strategies share a model."""
    design = make_design(curves)
    for trajectory in design["trajectories"] if own_starts else []:
        trajectory["nodes"][0] = f"{trajectory['id']}-c00"
    values = {}
    for trajectory in design["trajectories"]:
        own = curves[trajectory["dataset"], trajectory["regime"]][trajectory["strategy"]][trajectory["seed"]]
        values |= {node: value for node, value in zip(trajectory["nodes"], own, strict=True) if math.isfinite(value)}
    rows = [{"node": node, "class": "mean", "dice": value} for node, value in values.items()]
    scores = table(SCORE_COLUMNS, rows).astype({"dice": float})
    return Study(Design.of(design), scores)


def read(made: Made, **without: bool) -> Study:
    folders = {"labels": "labels", "queries": "queries", "oracle": "oracle", "full_reference": "full"}
    paths = {key: made.folder / name for key, name in folders.items() if not without.get(key)}
    return read_study(Design.read(made.folder / "design.json"), made.folder / "metrics", **paths)


# Three seeds. `a` is above `b` by 0.010, 0.020, 0.015 at cycle 1 (p = 0.035) and by 0.020, 0.021, 0.022 at cycle 2
# (p = 0.0008); `random` is `b` again.
BY_HAND: Curves = {
    SETTING: {
        "random": {1: [0.5, 0.60, 0.70], 2: [0.5, 0.62, 0.71], 3: [0.5, 0.61, 0.74]},
        "b": {1: [0.5, 0.60, 0.70], 2: [0.5, 0.62, 0.71], 3: [0.5, 0.61, 0.74]},
        "a": {1: [0.5, 0.610, 0.720], 2: [0.5, 0.640, 0.731], 3: [0.5, 0.625, 0.762]},
    }
}


def p_with_two_degrees(differences: list[float]) -> float:
    d = np.array(differences)
    t = d.mean() / (d.std(ddof=1) / math.sqrt(3))
    return 1 - abs(t) / math.sqrt(t * t + 2)


@pytest.fixture(scope="module")
def by_hand() -> dict[str, pd.DataFrame]:
    return all_tables(study_of(BY_HAND), draws=500)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_study(tmp_path_factory.mktemp("study"), known_winner())


def test_aubc_and_final(by_hand):
    rows = by_hand["trajectories"].set_index("trajectory")
    assert rows.loc["phantom-low-a-s1", "aubc"] == pytest.approx((0.5 / 2 + 0.61 + 0.72 / 2) / 2)
    assert rows.loc["phantom-low-a-s1", "final_dice"] == pytest.approx(0.72)
    summary = by_hand["summary"].set_index("strategy")
    areas = [(0.25 + c1 + c2 / 2) / 2 for _, c1, c2 in BY_HAND[SETTING]["a"].values()]
    assert summary.loc["a", "aubc_mean"] == pytest.approx(np.mean(areas))
    assert summary.loc["a", "aubc_sd"] == pytest.approx(np.std(areas, ddof=1))
    assert summary.loc["a", "final_dice_mean"] == pytest.approx((0.72 + 0.731 + 0.762) / 3)


def test_tests_and_holm_order(by_hand):
    tests = by_hand["tests"].set_index(["cycle", "a", "b"])
    p1, p2 = p_with_two_degrees([0.010, 0.020, 0.015]), p_with_two_degrees([0.020, 0.021, 0.022])
    assert 0.03 < p1 < 0.05
    assert p2 < 0.001
    # six tests: p2 twice, p1 twice, 1 twice; the third smallest is multiplied by four
    expected = {
        (1, "random", "b"): (1.0, 1.0),
        (1, "random", "a"): (p1, 4 * p1),
        (1, "b", "a"): (p1, 4 * p1),
        (2, "random", "b"): (1.0, 1.0),
        (2, "random", "a"): (p2, 6 * p2),
        (2, "b", "a"): (p2, 6 * p2),
    }
    assert set(tests.index) == set(expected)
    for key, (p, corrected) in expected.items():
        assert tests.loc[key, "p"] == pytest.approx(p)
        assert tests.loc[key, "p_holm"] == pytest.approx(corrected)


def test_penalty_matrix_cell_by_cell(by_hand):
    ppm = by_hand["ppm"]
    own = ppm[(ppm["dataset"] == "phantom") & (ppm["class"] == "mean")].set_index(["correction", "winner", "loser"])
    expected = dict.fromkeys(itertools.product(["plain", "holm"], ["a", "b", "random"], ["a", "b", "random"]), 0.0)
    expected |= {("plain", "a", other): 1.0 for other in ("b", "random")}
    expected |= {("holm", "a", other): 0.5 for other in ("b", "random")}
    expected = {key: share for key, share in expected.items() if key[1] != key[2]}
    assert own["share"].to_dict() == expected
    assert set(own["budgets"]) == {2}


def test_penalty_matrix_with_the_start_counted(by_hand):
    """Nobody wins the start, which all share: as published, `a` wins two of three budgets, Holm-corrected one."""
    ppm = by_hand["ppm"]
    own = ppm[(ppm["dataset"] == "phantom") & (ppm["class"] == "mean")].set_index(["correction", "winner", "loser"])
    assert set(own["budgets_with_start"]) == {3}
    assert own["wins_with_start"].to_dict() == own["wins"].to_dict()
    for correction, share in (("plain", 2 / 3), ("holm", 1 / 3)):
        assert own.loc[(correction, "a", "random"), "share_with_start"] == pytest.approx(share)
        assert own.loc[(correction, "random", "a"), "share_with_start"] == 0


# `a` is above `random` by 0.010, 0.020, 0.015 (p = 0.035), here at one budget, and level with it at the other.
LEAD = {1: 0.010, 2: 0.020, 3: 0.015}
LEVEL = {seed: [0.5, 0.6] for seed in LEAD}
AHEAD = {seed: [0.5, 0.6 + lead] for seed, lead in LEAD.items()}


def penalties(study: Study) -> dict[str, tuple[int, int, int, int]]:
    ppm = all_tables(study, draws=10)["ppm"]
    rows = ppm[(ppm["dataset"] == "phantom") & (ppm["winner"] == "a")].set_index("correction")
    counts = rows[["wins", "budgets", "wins_with_start", "budgets_with_start"]]
    return {correction: tuple(row) for correction, row in zip(counts.index, counts.to_numpy().tolist(), strict=True)}


def test_a_start_that_strategies_share_is_no_test_to_correct_for():
    study = study_of({SETTING: {"random": LEVEL, "a": AHEAD}})
    assert penalties(study) == {"plain": (1, 1, 1, 2), "holm": (1, 1, 1, 2)}


def test_a_start_that_is_trained_for_each_strategy_can_be_won():
    """As in results of the nnActive package. Two tests then, so Holm's p is 0.07."""
    noise = {1: 0.01, 2: -0.01, 3: 0.0}
    a = {seed: [0.5 + lead, 0.6 + noise[seed]] for seed, lead in LEAD.items()}
    study = study_of({SETTING: {"random": LEVEL, "a": a}}, own_starts=True)
    assert penalties(study) == {"plain": (0, 1, 1, 2), "holm": (0, 1, 0, 2)}


def test_penalty_matrix_twin():
    """An independent, plainest count over random curves, with gaps."""
    generator = np.random.default_rng(5)
    names = ["random", "x", "y", "z"]
    curves = {
        setting: {
            name: {seed: (0.5 + generator.normal(0, 0.02, 4) + 0.01 * k).tolist() for seed in range(4)}
            for k, name in enumerate(names)
        }
        for setting in (("p", "low"), ("p", "high"), ("q", "low"))
    }
    curves["p", "low"]["y"][2][3] = math.nan
    ppm = all_tables(study_of(curves), draws=10)["ppm"].set_index(
        ["dataset", "regime", "correction", "winner", "loser"]
    )
    settings = {("p", "low"): [("p", "low")], ("p", "all"): [("p", "low"), ("p", "high")], ("all", "all"): list(curves)}
    for (dataset, regime), members in settings.items():
        p_of, winner_of = {}, {}
        for setting, cycle, (a, b) in itertools.product(members, range(1, 4), itertools.combinations(names, 2)):
            d = np.array([curves[setting][a][seed][cycle] - curves[setting][b][seed][cycle] for seed in range(4)])
            d = d[np.isfinite(d)]
            p_of[setting, cycle, a, b] = stats.ttest_1samp(d, 0).pvalue
            winner_of[setting, cycle, a, b] = (a, b) if d.mean() > 0 else (b, a)
        ordered = sorted(p_of, key=p_of.get)
        corrected, highest = {}, 0.0
        for place, key in enumerate(ordered):
            highest = max(highest, min(1.0, p_of[key] * (len(ordered) - place)))
            corrected[key] = highest
        for correction, p_values in (("plain", p_of), ("holm", corrected)):
            for winner, loser in itertools.permutations(names, 2):
                keys = [key for key in p_of if {winner, loser} == set(key[2:])]
                wins = sum(p_values[key] < 0.05 and winner_of[key] == (winner, loser) for key in keys)
                row = ppm.loc[(dataset, regime, correction, winner, loser)]
                assert (row["wins"], row["budgets"]) == (wins, len(keys))


def test_verdicts(by_hand):
    rows = by_hand["versus_random"].set_index(["measure", "strategy"])
    assert set(rows["baseline"]) == {"random"}
    areas = np.array([(0.010 + 0.020 / 2) / 2, (0.020 + 0.021 / 2) / 2, (0.015 + 0.022 / 2) / 2])
    row = rows.loc[("aubc", "a")]
    assert row["difference"] == pytest.approx(areas.mean())
    assert row["p"] == pytest.approx(p_with_two_degrees(areas.tolist()))
    assert row["p_holm"] == pytest.approx(2 * row["p"])  # the other of the two comparisons has p = 1
    assert row["verdict"] == "better"  # its p is 0.014
    assert (row["budgets_won"], row["budgets_lost"], row["budgets"]) == (2, 0, 2)
    assert rows.loc[("aubc", "b"), "verdict"] == "no difference shown"


def test_a_verdict_rests_on_the_corrected_p():
    """`a` alone would be better than random (p = 0.035), of two comparisons it is not shown to be (0.07)."""
    curves: Curves = {SETTING: {"random": LEVEL, "b": LEVEL, "a": AHEAD}}
    tables = all_tables(study_of(curves), draws=10)
    versus = tables["versus_random"]
    for measure in ("aubc", "final_dice"):
        (row,) = versus[(versus["measure"] == measure) & (versus["strategy"] == "a")].to_dict("records")
        assert row["p"] < 0.05 <= row["p_holm"]
        assert row["verdict"] == "no difference shown"
        assert (row["budgets_won"], row["budgets_lost"], row["budgets"]) == (1, 0, 1)
    tests = tables["tests"].set_index(["a", "b"])
    assert tests.loc[("random", "a"), ["better", "better_holm"]].tolist() == ["a", ""]
    ppm = tables["ppm"].query("dataset == 'phantom' and winner == 'a' and loser == 'random'").set_index("correction")
    assert ppm["wins"].to_dict() == {"plain": 1, "holm": 0}
    # alone it is better, below random it would be worse
    below = {seed: [0.5, 0.6 - lead] for seed, lead in LEAD.items()}
    for a, verdict in ((AHEAD, "better"), (below, "worse")):
        tables = all_tables(study_of({SETTING: {"random": LEVEL, "a": a}}), draws=10)
        assert set(tables["versus_random"]["verdict"]) == {verdict}


def test_a_p_as_high_as_the_level_shows_nothing():
    curves: Curves = {SETTING: {"random": LEVEL, "a": AHEAD}}
    (alpha,) = all_tables(study_of(curves), draws=10)["tests"]["p"]
    for level, verdict, better, wins in ((alpha, "no difference shown", "", 0), (alpha * 1.001, "better", "a", 1)):
        tables = all_tables(study_of(curves), alpha=level, draws=10)
        versus = tables["versus_random"].query("measure == 'final_dice'")
        assert set(versus["verdict"]) == {verdict}
        assert set(tables["tests"]["better"]) == set(tables["tests"]["better_holm"]) == {better}
        assert set(tables["ppm"].query("winner == 'a'")["wins"]) == {wins}


def test_regimes_of_a_data_set_are_joined_once():
    """Data set p has three regimes: one matrix each, one over them, one over all, and every test in each once."""
    names = ("random", "a")
    settings = [("p", "low"), ("p", "medium"), ("p", "high"), ("q", "low")]
    curves = {setting: {name: {s: [0.5, 0.6 + s / 100] for s in (1, 2)} for name in names} for setting in settings}
    ppm = all_tables(study_of(curves), draws=10)["ppm"]
    plain = ppm[(ppm["correction"] == "plain") & (ppm["winner"] == "a")]
    scopes = dict.fromkeys(settings, 1) | {("p", "all"): 3, ("all", "all"): 4}
    found = plain[["dataset", "regime", "budgets"]].itertuples(index=False, name=None)
    assert sorted(found) == sorted((*scope, number) for scope, number in scopes.items())
    assert set(plain["budgets_with_start"] - plain["budgets"]) == {1, 3, 4}


def test_ranks_that_are_shared():
    """`a` and `b` are level up to the last digit of a sum; they share the first place and the chance of it."""
    a, b, low = ({seed: [0.2, dice] for seed in (1, 2, 3)} for dice in (0.3, 0.1 + 0.2, 0.25))
    assert a != b
    curves = {("p", "low"): {"random": low, "a": a, "b": b}, ("p", "high"): {"random": a, "a": low, "b": low}}
    ranks = all_tables(study_of(curves), draws=50)["ranks"].query("measure == 'final_dice'")
    ranks = ranks.set_index(["regime", "strategy"])
    assert ranks["rank"].to_dict() == {
        **{("low", "a"): 1.5, ("low", "b"): 1.5, ("low", "random"): 3.0},
        **{("high", "random"): 1.0, ("high", "a"): 2.5, ("high", "b"): 2.5},
        **{("all", "a"): 2.0, ("all", "b"): 2.0, ("all", "random"): 2.0},
    }
    assert ranks["low"].to_list() == ranks["high"].to_list() == ranks["rank"].to_list()  # all seeds are alike
    assert ranks["best_share"].to_dict() == pytest.approx(
        {
            **{("low", "a"): 0.5, ("low", "b"): 0.5, ("low", "random"): 0.0},
            **{("high", "random"): 1.0, ("high", "a"): 0.0, ("high", "b"): 0.0},
            **{("all", "a"): 1 / 3, ("all", "b"): 1 / 3, ("all", "random"): 1 / 3},
        }
    )


def test_ranks(by_hand):
    ranks = by_hand["ranks"]
    aubc = ranks[ranks["measure"] == "aubc"].set_index("strategy")
    assert aubc["rank"].to_dict() == {"random": 2.5, "b": 2.5, "a": 1.0}
    assert (aubc.loc["a", ["low", "high", "best_share"]] == [1.0, 1.0, 1.0]).all()


def test_ranks_have_intervals_of_19_draws_in_20():
    """`a` comes first where all three draws fall on the third seed: 1 time in 27, less than 5% and more than 2.5%."""
    b = {seed: [0.5, 0.6] for seed in (1, 2, 3)}
    a = {seed: [0.5, 0.6 + lead] for seed, lead in {1: -0.1, 2: -0.1, 3: 0.04}.items()}
    tables = all_tables(study_of({SETTING: {"random": b, "a": a}}), draws=4000)
    ranks = tables["ranks"].query("measure == 'final_dice'").set_index("strategy")
    assert ranks[["rank", "low", "high"]].loc[["random", "a"]].to_numpy().tolist() == [[1, 1, 2], [2, 1, 2]]
    assert ranks["best_share"].to_dict() == pytest.approx({"random": 26 / 27, "a": 1 / 27}, abs=0.01)
    assert set(ranks["seeds"]) == {3} and set(ranks["draws"]) == {4000}


def test_noise_floor(made: Made):
    noise = all_tables(read(made), draws=10)["noise"].set_index("class")
    assert noise.loc["mean", "dice_sd"] == pytest.approx(np.std([0.496, 0.5, 0.504], ddof=1))
    assert noise.loc["mean", "seeds"] == 3


def test_metrics_and_queries(made: Made):
    tables = all_tables(read(made), draws=10)
    metrics, queries = tables["metrics"], tables["queries"]
    assert len(metrics) == 12 * 3 * 3  # trajectories x cycles x (mean and two classes)
    first = metrics[(metrics["trajectory"] == "phantom-low-bald-s1") & (metrics["class"] == "mean")]
    assert first["patches"].tolist() == [6, 10, 14]
    assert first["node"].tolist() == ["phantom-low-s1-c00", "phantom-low-bald-s1-c01", "phantom-low-bald-s1-c02"]
    own = queries[queries["trajectory"] == "phantom-low-bald-s1"]
    assert own.groupby("cycle").size().tolist() == [6, 4, 4]
    assert own[own["cycle"] == 1]["rank"].tolist() == [1, 2, 3, 4]
    asked = pd.read_csv(made.folder / "queries" / "phantom-low-bald-s1" / "query_c01.csv")
    assert own[own["cycle"] == 1]["case"].tolist() == asked["case"].tolist()
    until = own[own["cycle"] <= 1]
    row = first[first["cycle"] == 1].iloc[0]
    assert row["foreground_voxels"] == until["foreground_voxels"].sum()
    assert row["voxels"] == until["voxels"].sum()


def test_cost(made: Made):
    tables = all_tables(read(made), draws=10)
    cost = tables["cost"]
    row = cost[(cost["trajectory"] == "phantom-low-bald-s2") & (cost["cycle"] == 2)].iloc[0]
    own = tables["queries"][tables["queries"]["trajectory"] == "phantom-low-bald-s2"]
    assert row["cases"] == own["case"].nunique()
    assert row["foreground_free_share"] == pytest.approx((own["foreground_voxels"] == 0).mean())
    assert row["border_voxels"] == own["border_voxels"].sum()
    assert 0 < row["border_voxels"] <= row["foreground_voxels"]
    pool = tables["pool"].set_index("class")["voxels"]
    assert pool["mean"] == pool["head"] + pool["tail"]
    assert row["pool_foreground_share"] == pytest.approx(row["foreground_voxels"] / pool["mean"])
    counts = tables["class_counts"]
    counts = counts[(counts["trajectory"] == "phantom-low-bald-s2") & (counts["cycle"] == 2)].set_index("class")
    assert counts.loc["head", "voxels"] + counts.loc["tail", "voxels"] == row["foreground_voxels"]
    assert counts.loc["head", "patches"] == (own["voxels_head"] > 0).sum()


def test_efficiency_recovers_beta(made: Made):
    """Dice rewritten so that it lies on the curve of a known beta over the labels that were drawn."""
    study = read(made)
    pool = study.pool.set_index("class")["voxels"]["mean"]
    betas = {"random": 4.0, "random_fg33": 9.0, "predictive_entropy": 15.0, "bald": 30.0}
    for trajectory in study.design.trajectories:
        patches = study.patches[trajectory.id]
        shares = [patches.loc[patches["cycle"] <= c, "foreground_voxels"].sum() / pool for c in range(3)]
        rows = study.scores["class"] == "mean"
        start = study.scores.loc[rows & (study.scores["node"] == trajectory.nodes[0]), "dice"].iloc[0]
        for node, share in zip(trajectory.nodes[1:], shares[1:], strict=True):
            value = 0.9 - (0.9 - start) * math.exp(-betas[trajectory.strategy] * (share - shares[0]))
            study.scores.loc[rows & (study.scores["node"] == node), "dice"] = value
    found = efficiency_table(study)
    found = found[found["class"] == "mean"].set_index("strategy")
    for name, beta in betas.items():
        assert found.loc[name, "beta"] == pytest.approx(beta, rel=1e-4)
    assert set(found["points"]) == {6}


def test_published_efficiency_starts_all_strategies_from_the_smallest_start(made: Made):
    """Against the plainest form of the papers' fit: one x0 and y0 for a setting, starts among the points."""
    study = read(made)
    pool = study.pool.set_index("class")["voxels"]["mean"]
    c = study.full.set_index("class")["dice"]["mean"]
    dice = study.scores[study.scores["class"] == "mean"].set_index("node")["dice"]
    points: dict[str, list[tuple[float, float]]] = {}
    for trajectory in study.design.trajectories:
        patches = study.patches[trajectory.id]
        for cycle, node in enumerate(trajectory.nodes):
            share = patches.loc[patches["cycle"] <= cycle, "foreground_voxels"].sum() / pool
            points.setdefault(trajectory.strategy, []).append((share, dice[node]))
    (x0, y0), (x1, _), *_ = sorted({point for own in points.values() for point in own})
    assert x0 < x1
    found = efficiency_table(study)
    found = found[found["class"] == "mean"].set_index("strategy")
    for name, own in points.items():
        x, y = np.array(own).T
        (beta,), ((variance,),) = curve_fit(lambda x, b: c - (c - y0) * np.exp(-b * (x - x0)), x, y)
        assert found.loc[name, "beta_published"] == pytest.approx(beta, rel=1e-5)
        assert found.loc[name, "beta_se_published"] == pytest.approx(math.sqrt(variance), rel=1e-4)
        assert found.loc[name, "beta"] != pytest.approx(beta, rel=1e-3)
    assert found["x0_published"].tolist() == pytest.approx([x0] * 4)
    assert found["y0_published"].tolist() == pytest.approx([y0] * 4)
    assert set(found["points_published"]) == {9}
    assert set(found["points"]) == {6}


def test_published_efficiency_says_why_not(made: Made):
    """The smallest start as good as full labels: no published form, though the other seeds' starts give ours."""
    study = read(made)
    smallest = efficiency_table(study)["x0_published"].iloc[0]
    pool = study.pool.set_index("class")["voxels"]["mean"]
    for trajectory in study.design.trajectories:
        patches = study.patches[trajectory.id]
        share = patches.loc[patches["cycle"] == 0, "foreground_voxels"].sum() / pool
        if share == pytest.approx(smallest):
            study.scores.loc[study.scores["node"] == trajectory.nodes[0], "dice"] = 0.95
    tables = all_tables(study, draws=10)
    found = tables["efficiency"].query("`class` == 'mean'")
    assert found["beta"].notna().all()
    assert found["beta_published"].isna().all()
    assert found["reason_published"].str.contains("already as good").all()
    assert "no foreground efficiency in the published form: the start is already as good" in texts(tables)


def test_published_efficiency_starts_from_the_smallest_start_that_has_results(made: Made):
    study = read(made)
    whole = efficiency_table(study).query("`class` == 'mean'")
    last = study.scores["node"] == study.design.trajectories[-1].nodes[-1]
    study.scores.loc[last, "dice"] = math.nan
    found = efficiency_table(study).query("`class` == 'mean'")
    assert found[["x0_published", "y0_published"]].equals(whole[["x0_published", "y0_published"]])
    assert found["points_published"].sum() == whole["points_published"].sum() - 1
    study.scores["dice"] = math.nan
    found = efficiency_table(study)
    assert found[["x0_published", "y0_published", "beta_published"]].isna().all(axis=None)
    assert len(found) == 3 * len(whole) and set(found["points_published"]) == {0}


def test_known_winner_is_found(made: Made):
    tables = all_tables(read(made), draws=200)
    aubc = tables["ranks"][tables["ranks"]["measure"] == "aubc"].set_index("strategy")["rank"]
    assert aubc.to_dict() == {"random": 4, "random_fg33": 3, "predictive_entropy": 2, "bald": 1}
    versus = tables["versus_random"]
    chosen = versus[(versus["measure"] == "aubc") & ~versus["strategy"].str.startswith("random")]
    assert set(chosen["verdict"]) == {"better"}
    assert len(tables["missing"]) == 0


def test_order_of_seeds_does_not_matter(tmp_path: Path, made: Made):
    analyse(read(made), tmp_path / "a", draws=200)
    content = json.loads((made.folder / "design.json").read_text())
    random.Random(1).shuffle(content["trajectories"])
    shuffled = Design.of(content)
    folder = made.folder
    study = read_study(
        shuffled, folder / "metrics", folder / "labels", folder / "queries", folder / "oracle", folder / "full"
    )
    analyse(study, tmp_path / "b", draws=200)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert "metrics.csv" in names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


# ---- studies of which little can be said ----------------------------------------------------------------------------


def texts(tables: dict[str, pd.DataFrame]) -> str:
    return " ".join(tables["notes"]["text"])


def test_one_seed():
    tables = all_tables(study_of({SETTING: {name: {1: [0.5, 0.6, 0.7]} for name in ("random", "bald")}}))
    assert tables["tests"]["p"].isna().all()
    assert set(tables["versus_random"]["verdict"]) == {"cannot be tested"}
    assert tables["ppm"]["share"].isna().all()
    assert tables["ranks"][["low", "high", "best_share"]].isna().all(axis=None)
    assert set(tables["ranks"]["seeds"]) == {1} and set(tables["ranks"]["draws"]) == {0}
    assert tables["ranks"].query("measure == 'aubc'")["rank"].tolist() == [1.5, 1.5]
    assert tables["summary"]["aubc_sd"].isna().all()
    assert "one seed only" in texts(tables)


def test_one_cycle():
    tables = all_tables(study_of({SETTING: {name: {1: [0.5], 2: [0.55]} for name in ("random", "bald")}}))
    assert tables["trajectories"]["aubc"].isna().all()
    assert tables["tests"].empty
    assert "one cycle only" in texts(tables)
    assert set(tables["versus_random"].query("measure == 'aubc'")["verdict"]) == {"cannot be tested"}


def test_missing_cycle_is_named_and_not_averaged_away():
    curves = {
        SETTING: {
            "random": {s: [0.5, 0.6, 0.7] for s in (1, 2, 3)},
            "bald": {s: [0.5, 0.6, 0.8 + s / 100] for s in (1, 2, 3)},
        }
    }
    curves[SETTING]["bald"][2][1] = math.nan
    study = study_of(curves)
    study.lacking = table(
        ["trajectory", "cycle", "node", "what"],
        [{"trajectory": "phantom-low-bald-s2", "cycle": 1, "node": "phantom-low-bald-s2-c01", "what": "metrics"}],
    )
    tables = all_tables(study)
    summary = tables["summary"].set_index("strategy")
    assert (summary.loc["bald", "seeds"], summary.loc["bald", "seeds_planned"]) == (2, 3)
    assert summary.loc["bald", "final_dice_mean"] == pytest.approx((0.81 + 0.83) / 2)
    assert "phantom-low-bald-s2: no results of cycle 1" in texts(tables)
    tests = tables["tests"].set_index("cycle")["pairs"]
    assert tests.to_dict() == {1: 2, 2: 3}
    assert "ranked by AUBC on the seeds that all strategies have, 2 of 3" in texts(tables)
    assert set(tables["ranks"].query("measure == 'aubc'")["seeds"]) == {2}


def test_strategy_with_one_seed():
    curves = {
        SETTING: {
            "random": {s: [0.5, 0.6 + s / 100] for s in (1, 2, 3)},
            "bald": {s: [0.5, 0.7 + s / 90] for s in (1, 2, 3)},
            "late": {1: [0.5, 0.9]},
        }
    }
    tables = all_tables(study_of(curves))
    versus = tables["versus_random"].query("measure == 'aubc'").set_index("strategy")
    assert versus.loc["late", "verdict"] == "cannot be tested"
    assert versus.loc["bald", "pairs"] == 3
    assert "late has 1 of 3 seeds; it can't be tested" in texts(tables)
    assert set(tables["ranks"]["strategy"]) == {"random", "bald"}
    assert "not ranked by AUBC, for want of seeds that the others have: late" in texts(tables)


def test_all_equal():
    curves = {SETTING: {name: {s: [0.5, 0.6, 0.7] for s in (1, 2, 3)} for name in ("random", "bald", "other")}}
    tables = all_tables(study_of(curves))
    assert set(tables["versus_random"]["verdict"]) == {"no difference shown"}
    assert set(tables["ppm"]["share"]) == {0.0}
    assert set(tables["ranks"]["rank"]) == {2.0}
    assert "nothing tells them apart" in texts(tables)


def test_no_results_at_all(tmp_path: Path):
    curves = {SETTING: {name: {1: [math.nan, math.nan], 2: [math.nan, math.nan]} for name in ("random", "bald")}}
    (tmp_path / "metrics").mkdir()
    study = read_study(Design.of(make_design(curves)), tmp_path / "metrics")
    tables = all_tables(study)
    assert "no results at all" in texts(tables)
    assert tables["summary"]["aubc_mean"].isna().all()


def test_without_oracle_or_reference(made: Made):
    tables = all_tables(read(made, oracle=True), draws=10)
    assert tables["efficiency"].empty
    assert "the pool's foreground is not known" in texts(tables)
    tables = all_tables(read(made, full_reference=True), draws=10)
    assert "no training on full labels was given" in texts(tables)


def test_labels_of_fewer_patches_than_asked(tmp_path: Path):
    made = make_study(tmp_path, known_winner(strategies=("random", "bald"), seeds=(1, 2)))
    path = tmp_path / "queries" / "phantom-low-bald-s1" / "query_c01.csv"
    query = pd.read_csv(path)
    pd.concat([query, query.tail(1).assign(rank=5, z=0)]).to_csv(path, index=False)
    tables = all_tables(read(made), draws=10)
    assert "phantom-low-bald-s1, cycle 1: 5 patches were asked for, 4 labelled." in texts(tables)


def test_run_times_tell_the_training_on_full_labels(tmp_path: Path):
    """One training for both regimes, in a row of its own."""
    make_study(tmp_path, known_winner(seeds=(1,), cycles=1))
    path = tmp_path / "design.json"
    content = json.loads(path.read_text())
    (group,) = content["groups"]
    content["groups"] = [group | {"reference": "full"}, group | {"regime": "high", "reference": "full"}]
    path.write_text(json.dumps(content))
    record = json.loads(next((tmp_path / "training").rglob("*.json")).read_text())
    for fold in range(2):
        where = tmp_path / "training" / "full" / str(fold) / "training.json"
        where.parent.mkdir(parents=True)
        where.write_text(json.dumps(record | {"node": f"{group['dataset']}-full-s1-c00", "fold": fold, "seconds": 120}))
    design = Design.read(path)
    study = read_study(design, tmp_path / "metrics", tmp_path / "labels", training=tmp_path / "training")
    analyse(study, tmp_path / "tables", draws=10)
    found = runtime_table(Tables.read(design, tmp_path / "tables"))
    assert found is not None
    texts = [[cell["text"] for cell in row] for row in found["rows"]]
    assert [row[:4] for row in texts if row[1] == "full labels"] == [
        [f"{group['dataset']}, full", "full labels", "2", "2.0"]
    ]


def test_what_trainings_used_is_shown_where_it_was_measured(tmp_path: Path):
    """Fold 0 on a GPU, fold 1 a record of the first version, which knew no more than the GPU's memory."""
    make_study(tmp_path, known_winner(seeds=(1,), cycles=1))
    paths = sorted((tmp_path / "training").rglob("*.json"))
    assert len(paths) == 2
    first, second = (json.loads(path.read_text()) for path in paths)
    first |= {"gpu_percent_mean": 81.5, "gpu_percent_max": 99, "peak_gpu_memory_bytes": 3 * 2**30, "cpu_seconds": 7200}
    first["loader_percent"] = 31.4
    for name in ("gpu_percent_mean", "gpu_percent_max", "peak_host_memory_bytes", "cpu_seconds", "loader_percent"):
        del second[name]
    for path, record in zip(paths, (first, second), strict=True):
        path.write_text(json.dumps(record))
    study = read_study(
        Design.read(tmp_path / "design.json"), tmp_path / "metrics", tmp_path / "labels", training=tmp_path / "training"
    )
    analyse(study, tmp_path / "tables", draws=10)
    used = ["gpu_percent_mean", "gpu_percent_max", "peak_gpu_mib", "peak_host_mib", "cpu_seconds", "loader_percent"]
    known, unknown = pd.read_csv(tmp_path / "tables" / "runtimes.csv")[used].to_numpy().tolist()
    assert known == [81.5, 99, 3072, 1024, 7200, 31.4]
    assert all(map(math.isnan, unknown))

    def shown() -> dict[str, str]:
        found = runtime_table(Tables.read(study.design, tmp_path / "tables"))
        assert found is not None
        (row,) = found["rows"]
        return {name: cell["text"] for (name, _), cell in zip(found["columns"], row, strict=True)}

    expected = {"CPU hours": "2.00", "Peak memory, GiB": "1.0", "Peak GPU memory, GiB": "3.0", "GPU busy, %": "82"}
    expected["Waits for batches, %"] = "31"
    assert expected.items() <= shown().items()
    path = tmp_path / "tables" / "runtimes.csv"
    runtimes = pd.read_csv(path)
    runtimes.assign(**dict.fromkeys(used, math.nan)).to_csv(path, index=False)
    assert not expected.keys() & shown().keys()
    runtimes.drop(columns=[name for name in used if name != "peak_gpu_mib"]).to_csv(path, index=False)
    assert list(read_tables(tmp_path / "tables").runtimes.columns) == list(runtimes.columns)


def test_missing_files_are_named(tmp_path: Path):
    made = make_study(tmp_path, known_winner(seeds=(1, 2, 3)))
    (tmp_path / "metrics" / "phantom-low-bald-s2-c02.json").unlink()
    (tmp_path / "labels" / "phantom-low-random-s1" / "labels_c02.h5").unlink()
    tables = all_tables(read(made), draws=10)
    found = tables["missing"].set_index(["trajectory", "cycle"])["what"].to_dict()
    assert found == {("phantom-low-bald-s2", 2): "metrics", ("phantom-low-random-s1", 2): "labels"}


def test_tables_hold_no_words_for_missing_numbers(tmp_path: Path):
    analyse(study_of({SETTING: {name: {1: [0.5, 0.6]} for name in ("random", "bald")}}), tmp_path)
    paths = list(tmp_path.glob("*.csv"))
    assert "missing.csv" in {path.name for path in paths} and len(paths) > 5
    for path in paths:
        cells = [cell.lower() for line in path.read_text().splitlines() for cell in line.split(",")]
        assert not {"nan", "inf", "-inf", "none"} & set(cells), path.name


def test_each_regime_has_the_reference_that_the_plan_names(tmp_path: Path):
    curve = {"random": {1: [0.5, 0.6], 2: [0.5, 0.6]}}
    curves = {("phantom", "low"): curve, ("phantom", "high"): curve, ("phantom", "long"): curve}
    made = make_study(tmp_path, curves, full_dice=None)
    design = make_design(curves)
    for group, reference in zip(design["groups"], ("full", "full", "full2"), strict=True):
        group["reference"] = reference
    for regime, dice in (("full", 0.8), ("full2", 0.9)):
        content = make_metrics("n", {"dataset": "phantom", "regime": regime, "seed": 1, "strategy": ""}, 0, dice)
        (made.folder / "full" / f"{regime}.json").write_text(json.dumps(content))
    study = read_study(
        Design.of(design), made.folder / "metrics", made.folder / "labels", made.folder / "queries",
        made.folder / "oracle", made.folder / "full",
    )  # fmt: skip
    means = study.full[study.full["class"] == "mean"].set_index("regime")["dice"]
    assert means.round(6).to_dict() == {"low": 0.8, "high": 0.8, "long": 0.9}
    table = all_tables(study, draws=10)["efficiency"]
    assert {regime: set(rows["c"].round(6)) for regime, rows in table[table["class"] == "mean"].groupby("regime")} == {
        "low": {0.8}, "high": {0.8}, "long": {0.9},
    }  # fmt: skip
