"""When a training has stopped to improve, and how it ends then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nnactive_nf.core.online_dice import moving_dice


@dataclass(frozen=True)
class Ending:
    """A training's end, once its online Dice no longer rises.

    Attributes:
        at: epochs that were run when that was seen.
        epochs: epochs that are run in all.
        planned: epochs that were asked for.
    """

    at: int
    epochs: int
    planned: int

    def position(self, epoch: int) -> float:
        """Where in the planned schedule of the learning rate an epoch stands: what is left of it, in fewer steps."""
        return self.at + (self.planned - self.at) * (epoch - self.at) / (self.epochs - self.at)


def ending_of(curve: Sequence[Mapping[str, Any]], patience: int, planned: int) -> Ending | None:
    """The end of a training by its curve so far; None while it goes on.

    The moving mean is nnU-Net's own, of the mean over the classes that the validation batches of an epoch hold; an
    epoch in which they hold none leaves it as it was. It follows from the curve alone, so a training that was stopped
    in between ends where it would have.

    Args:
        curve: the trainer's curve, epoch by epoch.
        patience: epochs without a new best mean, after which as many at most follow for the rest of the schedule.
        planned: epochs that were asked for.
    """
    best, since = float("-inf"), 0
    for entry, mean in zip(curve, moving_dice(curve), strict=True):
        best, since = (mean, 0) if mean is not None and mean > best else (best, since + 1)
        at = entry["epoch"] + 1
        if since >= patience and at < planned:
            return Ending(at, min(planned, at + patience), planned)
    return None
