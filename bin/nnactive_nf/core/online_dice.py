"""nnU-Net's online Dice: what a training measures on the validation batches of each epoch, and its moving mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# nnU-Net's moving mean of its online Dice: this share is what it was before.
INERTIA = 0.9


def mean_dice(of_classes: Iterable[float | None]) -> float | None:
    """Mean over the classes that the validation batches of an epoch hold; None where they hold none."""
    known = [dice for dice in of_classes if dice is not None]
    return sum(known) / len(known) if known else None


def moving_dice(curve: Sequence[Mapping[str, Any]]) -> list[float | None]:
    """The moving mean after each epoch; None until an epoch has a Dice, and an epoch without one leaves it as it was.

    Args:
        curve: a trainer's curve, epoch by epoch, with the Dice of each class as `pseudo_dice`.
    """
    found: list[float | None] = []
    mean: float | None = None
    for entry in curve:
        dice = mean_dice(entry["pseudo_dice"])
        if dice is not None:
            mean = dice if mean is None else INERTIA * mean + (1 - INERTIA) * dice
        found.append(mean)
    return found
