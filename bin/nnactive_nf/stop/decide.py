"""The rules themselves: what is known of a trajectory so far, and which rule holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nnactive_nf.core.stop_rules import Rule


@dataclass(frozen=True)
class Progress:
    """What is known of a trajectory when its next query has been made.

    Attributes:
        dice: mean test Dice by cycle, from 0; NaN where it is not known.
        patches: labelled so far.
        voxels: foreground voxels in them.
        minutes: that people have told of; NaN where nobody has.
        asked: patches of the next query.
        gain: mean score of that query, as a share of that of the trajectory's first; NaN where there is none.
    """

    dice: Sequence[float]
    patches: int
    voxels: int
    minutes: float
    asked: int
    gain: float


@dataclass(frozen=True)
class Stop:
    """The rule that holds, the number that it holds by, and both in words."""

    rule: str
    value: float
    why: str


def decide(rules: Sequence[Rule], progress: Progress) -> Stop | None:
    """The first rule that holds; None where the trajectory goes on. What is not known (NaN) stops nothing."""
    return next((stop for rule in rules if (stop := _held(rule, progress))), None)


def _held(rule: Rule, progress: Progress) -> Stop | None:
    value, holds, why = _FOUND[rule.name](rule, progress)
    return Stop(rule.name, value, why) if holds else None


def _dice(rule: Rule, progress: Progress) -> tuple[float, bool, str]:
    value = progress.dice[-1]
    return value, value >= rule.limit, f"mean Dice {value:.3f} has reached {rule.limit:g}"


def _plateau(rule: Rule, progress: Progress) -> tuple[float, bool, str]:
    """Whether none of the last cycles was better than the best before them by more than the limit."""
    before, last = (
        [value for value in part if math.isfinite(value)]
        for part in (progress.dice[: -rule.cycles], progress.dice[-rule.cycles :])
    )
    if not before or len(last) < rule.cycles:
        return math.nan, False, ""
    # Dice is a sum of many cases' in floats: a gain of the limit itself must not count as more.
    gain = max(last) - max(before)
    holds = gain <= rule.limit + 1e-12
    return (
        gain,
        holds,
        f"{rule.cycles} cycles have added {gain:+.4f} to the best Dice before, no more than {rule.limit:g}",
    )


def _gain(rule: Rule, progress: Progress) -> tuple[float, bool, str]:
    value = progress.gain
    return value, value < rule.limit, f"the next query scores {value:.3f} of the first, less than {rule.limit:g}"


def _patches(rule: Rule, progress: Progress) -> tuple[float, bool, str]:
    """A budget of patches is not exceeded: the next query's are known."""
    holds = progress.patches + progress.asked > rule.limit
    why = f"{progress.patches} patches are labelled, {progress.asked} more would exceed {rule.limit:.0f}"
    return float(progress.patches), holds, why


def _voxels(rule: Rule, progress: Progress) -> tuple[float, bool, str]:
    why = f"{progress.voxels} foreground voxels are labelled, of {rule.limit:.0f}"
    return float(progress.voxels), progress.voxels >= rule.limit, why


def _minutes(rule: Rule, progress: Progress) -> tuple[float, bool, str]:
    why = f"{progress.minutes:.1f} minutes were spent, of {rule.limit:g}"
    return progress.minutes, progress.minutes >= rule.limit, why


_FOUND = {
    "dice": _dice,
    "plateau": _plateau,
    "gain": _gain,
    "patches": _patches,
    "voxels": _voxels,
    "minutes": _minutes,
}
