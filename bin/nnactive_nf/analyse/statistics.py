"""The statistics, on plain arrays. Every function says in its return value where nothing can be said."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests

Floats = npt.NDArray[np.float64]

CONSTANT = 1e-12  # differences closer to each other than this are one number: below what double sums of Dice resolve


def area_under_budget_curve(values: Floats, budgets: Sequence[int]) -> float | None:
    """AUBC: trapezoid area over the budgets, scaled to [0, 1] (nnActive, section 5, where they are evenly spaced).

    Args:
        values: `[cycles]`, NaN where one is missing.
        budgets: labelled patches of each cycle, increasing.

    None where there is only one budget or a value is missing: the area of a part is another quantity.
    """
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    if len(set(np.diff(budgets).tolist())) == 1:
        return float(np.trapezoid(values, dx=1.0 / (len(values) - 1)))
    places = (np.asarray(budgets, dtype=np.float64) - budgets[0]) / (budgets[-1] - budgets[0])
    return float(np.trapezoid(values, places))


@dataclass(frozen=True)
class PairedTest:
    """Two-sided paired t-test of a - b over seeds. `p` is None with fewer than two pairs."""

    pairs: int
    difference: float | None
    low: float | None  # 95% confidence interval of the difference
    high: float | None
    t: float | None
    p: float | None


def paired_test(a: Floats, b: Floats, confidence: float = 0.95) -> PairedTest:
    """Paired t-test; the arrays stand seed by seed, pairs with a NaN are left out.

    Where all differences are the same number there is no spread to test against: p is 1 if they are 0, else 0.
    """
    both = np.isfinite(a) & np.isfinite(b)
    pairs = int(both.sum())
    if pairs == 0:
        return PairedTest(0, None, None, None, None, None)
    differences = a[both] - b[both]
    mean = float(differences.mean())
    if pairs == 1:
        return PairedTest(1, mean, None, None, None, None)
    if np.ptp(differences) <= CONSTANT:
        is_zero = abs(mean) <= CONSTANT
        mean = 0.0 if is_zero else mean
        return PairedTest(pairs, mean, mean, mean, None, 1.0 if is_zero else 0.0)
    result = stats.ttest_rel(a[both], b[both])
    interval = result.confidence_interval(confidence)
    return PairedTest(
        pairs, mean, float(interval.low), float(interval.high), float(result.statistic), float(result.pvalue)
    )


def holm(p_values: Sequence[float]) -> Floats:
    """Holm's step-down correction of a family of p-values, in their order."""
    if not len(p_values):
        return np.empty(0)
    corrected: Floats = multipletests(np.asarray(p_values, dtype=float), method="holm")[1]
    return corrected


# A fit whose standard error is this many times its beta says nothing about beta.
UNDETERMINED = 10


@dataclass(frozen=True)
class Efficiency:
    """Foreground efficiency: beta with its standard error, or the reason why there is none."""

    beta: float | None
    error: float | None
    points: int
    reason: str = ""


def fit_efficiency(x: Floats, y: Floats, x0: Floats, y0: Floats, c: float) -> Efficiency:
    """Fit beta of `y = c - (c - y0) exp(-beta (x - x0))` by least squares (nnActive, section 5).

    The arrays stand point by point; a point of a trajectory has that trajectory's own start as x0 and y0. The starts
    themselves do not belong among the points: they lie on the curve whatever beta is.

    Args:
        x: share of the pool's foreground voxels that is labelled, in [0, 1].
        y: Dice there.
        x0: share at the start.
        y0: Dice at the start.
        c: Dice on full labels.
    """
    finite = np.isfinite(x) & np.isfinite(y) & np.isfinite(x0) & np.isfinite(y0)
    step, y, y0 = (x - x0)[finite], y[finite], y0[finite]
    points = len(y)
    if points < 2 or not step.any():
        return Efficiency(None, None, points, "there are fewer than two points after the start")
    if c <= y0.mean():
        reason = "the start is already as good as the training on full labels, so labels are not what limits"
        return Efficiency(None, None, points, reason)

    def curve(step: Floats, beta: float) -> Floats:
        return np.asarray(c - (c - y0) * np.exp(-beta * step))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optimize.OptimizeWarning)
        try:
            best, covariance = optimize.curve_fit(curve, step, y, p0=_first_guess(step, y, y0, c), maxfev=10_000)
        except RuntimeError:
            return Efficiency(None, None, points, "the fit does not converge")
    beta, error = float(best[0]), float(np.sqrt(covariance[0, 0]))
    if not np.isfinite(beta) or not error <= UNDETERMINED * abs(beta):
        return Efficiency(None, None, points, "the points do not determine the fit")
    return Efficiency(beta, error, points)


def _first_guess(step: Floats, y: Floats, y0: Floats, c: float) -> float:
    """Beta of the points' logarithms, so that the search starts on the right scale of x."""
    usable = (step > 0) & (y0 < c)
    if not usable.any():
        return 1.0
    gap = np.clip((c - y[usable]) / (c - y0[usable]), 1e-3, None)
    return float(np.median(-np.log(gap) / step[usable]))


def ranks_of(values: Floats) -> Floats:
    """Ranks along the last axis, 1 for the highest value, ties sharing their mean rank."""
    ranks: Floats = stats.rankdata(-values, axis=-1, method="average")
    return ranks


def bootstrap_ranks(values: Floats, draws: int, generator: np.random.Generator) -> Floats:
    """Ranks `[draws, strategies]` of the means over seeds drawn with replacement, the same seeds for all strategies.

    Args:
        values: `[seeds, strategies]`, all finite.
        draws: number of bootstrap samples.
        generator: random stream.
    """
    seeds = len(values)
    chosen = generator.integers(0, seeds, size=(draws, seeds))
    means = values[chosen].mean(axis=1)
    return ranks_of(np.round(means, 12))  # rounding: equal values must tie, whatever the order of the sum
