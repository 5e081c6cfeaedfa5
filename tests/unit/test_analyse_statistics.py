"""The statistics against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnactive_nf.analyse.statistics import (
    area_under_budget_curve,
    bootstrap_ranks,
    fit_efficiency,
    holm,
    paired_test,
    ranks_of,
)
from nnactive_nf.analyse.study import border_voxels


def p_with_two_degrees(t: float) -> float:
    """Two-sided p of Student's t with 2 degrees of freedom, which has a closed form."""
    return 1 - abs(t) / math.sqrt(t * t + 2)


def test_area_by_hand():
    assert area_under_budget_curve(np.array([0.5, 0.7, 0.8]), (20, 60, 100)) == pytest.approx((0.6 + 0.75) / 2)
    assert area_under_budget_curve(np.array([0.3, 0.3, 0.3, 0.3]), (20, 40, 60, 80)) == pytest.approx(0.3)


def test_area_where_queries_grow():
    """20 and then 60 patches: the second step weighs three times as much."""
    area = area_under_budget_curve(np.array([0.5, 0.7, 0.8]), (10, 30, 90))
    assert area == pytest.approx(0.25 * 0.6 + 0.75 * 0.75)


def test_area_of_a_part_is_not_given():
    assert area_under_budget_curve(np.array([0.5, math.nan, 0.8]), (1, 2, 4)) is None
    assert area_under_budget_curve(np.array([0.5]), (1,)) is None


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 500)), min_size=2, max_size=9))
def test_area_lies_between_lowest_and_highest(steps: list[tuple[float, int]]):
    values = [value for value, _ in steps]
    area = area_under_budget_curve(np.array(values), np.cumsum([patches for _, patches in steps]).tolist())
    assert area is not None
    assert min(values) - 1e-12 <= area <= max(values) + 1e-12


def test_paired_test_by_hand():
    result = paired_test(np.array([0.61, 0.72, 0.83]), np.array([0.60, 0.70, 0.80]))
    t = 0.02 / (0.01 / math.sqrt(3))  # differences 0.01, 0.02, 0.03
    assert result.pairs == 3
    assert result.difference == pytest.approx(0.02)
    assert result.t == pytest.approx(t)
    assert result.p == pytest.approx(p_with_two_degrees(t))
    half = 4.302652729911275 * 0.01 / math.sqrt(3)  # 97.5% point of t with 2 degrees of freedom
    assert (result.low, result.high) == (pytest.approx(0.02 - half), pytest.approx(0.02 + half))


def test_pairs_with_a_gap_are_left_out():
    result = paired_test(np.array([0.6, math.nan, 0.8]), np.array([0.5, 0.1, math.nan]))
    assert (result.pairs, result.difference, result.p) == (1, pytest.approx(0.1), None)
    assert paired_test(np.array([math.nan]), np.array([1.0])).difference is None


def test_differences_without_spread():
    same = paired_test(np.array([0.5, 0.6, 0.7]), np.array([0.5, 0.6, 0.7]))
    assert (same.difference, same.p) == (0.0, 1.0)
    shifted = paired_test(np.array([0.5, 0.6, 0.7]), np.array([0.4, 0.5, 0.6]))
    assert (shifted.difference, shifted.p) == (pytest.approx(0.1), 0.0)


def test_holm_by_hand():
    # in order 0.01 x 3, then 0.03 x 2, then 0.04 x 1, which may not fall below the one before it
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert len(holm([])) == 0


@pytest.mark.parametrize("beta", [0.8, 7.0, 60.0])
def test_efficiency_is_recovered(beta: float):
    x0, y0 = np.array([0.01, 0.01, 0.03, 0.03]), np.array([0.5, 0.5, 0.55, 0.55])
    x = np.array([0.05, 0.12, 0.08, 0.2])
    y = 0.9 - (0.9 - y0) * np.exp(-beta * (x - x0))
    fit = fit_efficiency(x, y, x0, y0, 0.9)
    assert fit.beta == pytest.approx(beta, rel=1e-5)
    assert fit.error == pytest.approx(0, abs=1e-4 * beta)
    assert fit.points == 4


def test_efficiency_error_is_the_usual_one():
    generator = np.random.default_rng(3)
    x = np.linspace(0.02, 0.3, 12)
    x0, y0 = np.zeros(12), np.full(12, 0.4)
    y = 0.9 - 0.5 * np.exp(-6 * x) + generator.normal(0, 0.01, 12)
    fit = fit_efficiency(x, y, x0, y0, 0.9)
    slope = 0.5 * x * np.exp(-fit.beta * x)  # derivative of the curve by beta
    residual = y - (0.9 - 0.5 * np.exp(-fit.beta * x))
    expected = math.sqrt((residual**2).sum() / 11 / (slope**2).sum())
    assert fit.error == pytest.approx(expected, rel=1e-3)
    assert abs(fit.beta - 6) < 4 * fit.error


@pytest.mark.parametrize(
    ("x", "y", "c", "reason"),
    [
        ([0.1], [0.6], 0.9, "fewer than two points"),
        ([0.0, 0.0], [0.6, 0.7], 0.9, "fewer than two points"),
        ([0.1, 0.2], [0.6, 0.7], 0.5, "already as good"),
        ([math.nan, 0.2], [0.6, 0.7], 0.9, "fewer than two points"),
        # the full labels gain a thousandth, the noise is a fifth
        ([0.1, 0.2, 0.3], [0.7, 0.4, 0.6], 0.501, "do not determine"),
    ],
)
def test_efficiency_says_why_not(x: list[float], y: list[float], c: float, reason: str):
    fit = fit_efficiency(np.array(x), np.array(y), np.zeros(len(x)), np.full(len(x), 0.5), c)
    assert fit.beta is None
    assert fit.error is None
    assert reason in fit.reason


@pytest.mark.parametrize(("times", "told"), [(9.8, True), (10.2, False)])
def test_a_beta_is_told_up_to_an_error_of_ten_times_itself(times: float, told: bool):
    """Two points of one share, as far above the curve as below it: the fit goes between them, in closed form."""
    beta = 0.1
    y = 1 - math.exp(-beta) + np.array([-1, 1]) * times * beta * math.exp(-beta)
    fit = fit_efficiency(np.ones(2), y, np.zeros(2), np.zeros(2), 1.0)
    assert fit.points == 2
    assert (fit.beta, fit.error) == ((pytest.approx(beta), pytest.approx(times * beta)) if told else (None, None))
    assert fit.reason == ("" if told else "the points do not determine the fit")


def test_ranks_share_ties():
    assert ranks_of(np.array([0.5, 0.9, 0.5, 0.1])).tolist() == [2.5, 1.0, 2.5, 4.0]


def test_bootstrap_by_hand():
    # of the four ways to draw two seeds with replacement, only (2, 2) puts the second strategy first
    values = np.array([[0.60, 0.50], [0.50, 0.58]])
    ranks = bootstrap_ranks(values, 20_000, np.random.default_rng(0))
    assert (ranks[:, 0] == 1).mean() == pytest.approx(0.75, abs=0.02)
    assert set(ranks.sum(axis=1)) == {3.0}


def test_bootstrap_draws_the_same_seeds_for_all_strategies():
    values = np.array([[0.9, 0.8], [0.5, 0.4], [0.3, 0.2]])  # first better by 0.1 in every seed
    assert (bootstrap_ranks(values, 500, np.random.default_rng(0))[:, 0] == 1).all()


def test_border_voxels_by_hand():
    mask = np.zeros((1, 4, 5), dtype=np.uint8)
    mask[0, 1:3, 1:4] = 1  # 2 x 3 voxels, all of them next to background
    assert border_voxels(mask, [1, 3]) == 6
    mask[0, :, :] = 1
    assert border_voxels(mask, [1, 3]) == 0  # the patch's own faces are no contour
    mask[0, :, 4] = 3
    assert border_voxels(mask, [1, 3]) == 8  # a column of four on either side
    assert border_voxels(mask, [3]) == 4


def test_border_voxels_twin():
    generator = np.random.default_rng(1)
    mask = generator.choice([0, 0, 1, 3], size=(4, 5, 6)).astype(np.uint8)
    count = 0
    for at in np.ndindex(mask.shape):
        if mask[at] == 0:
            continue
        for axis in range(3):
            for step in (-1, 1):
                other = list(at)
                other[axis] += step
                if 0 <= other[axis] < mask.shape[axis] and mask[tuple(other)] != mask[at]:
                    break
            else:
                continue
            count += 1
            break
    assert border_voxels(mask, [1, 3]) == count
