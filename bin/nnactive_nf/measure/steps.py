"""The iterations of a training, one by one against the clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import torch

from nnactive_nf.train.trainer import ActiveTrainer

# Iterations that count, and those before them: caches are filled, cuDNN tries its algorithms out.
COUNTED, WARM_UP = 20, 5
# Validation iterations that count, and those before them.
VALIDATIONS, VALIDATION_WARM_UP = 5, 1
# Seconds after which no more iterations are begun, on a CPU say; a third of it for the warm-up.
AT_MOST_S = 240.0


@dataclass(frozen=True)
class Steps:
    """Iterations of one kind: those that count, their mean seconds, the share of these that was waited for batches.

    And those before them, and the seconds that these took longer than as many of the others.
    """

    iterations: int
    seconds: float
    loader_percent: float
    warm_up: int
    extra_seconds: float


def time_training(trainer: ActiveTrainer, at_most_s: float = AT_MOST_S) -> Steps:
    """Time a trainer's training iterations, within `trainer.loaders()`.

    Where processes make batches ahead, those that lie ready are used up first, for a short measurement would never wait
    for one; and the iterations that count are whole rounds of these processes.
    """
    trainer.network.train()
    trainer.lr_scheduler.step(0)
    workers, ready = batches_ahead(trainer.dataloader_train)
    counted = COUNTED if workers == 0 else workers * ceil(COUNTED / workers)
    return _timed(trainer, trainer.iteration, WARM_UP + ready, counted, at_most_s)


def time_validation(trainer: ActiveTrainer, at_most_s: float = AT_MOST_S) -> Steps:
    """Time a trainer's validation iterations, within `trainer.loaders()`."""
    trainer.network.eval()
    _, ready = batches_ahead(trainer.dataloader_val)
    with torch.no_grad():
        return _timed(trainer, trainer.validation, VALIDATION_WARM_UP + ready, VALIDATIONS, at_most_s)


def batches_ahead(loader: Any) -> tuple[int, int]:
    """Processes that make a loader's batches, and how many batches may lie ready: in two queues, and one with each."""
    workers = int(getattr(loader, "num_processes", 0))
    return workers, 2 * int(getattr(loader, "num_cached", 0)) + workers


def _timed(trainer: ActiveTrainer, step: Callable[[], Any], warm_up: int, counted: int, at_most_s: float) -> Steps:
    begin = time.monotonic()
    warm = _run(step, warm_up, begin + at_most_s / 3)
    first, waited = time.monotonic(), trainer.loader_seconds
    done = _run(step, counted, begin + at_most_s)
    end = time.monotonic()
    seconds = (end - first) / done
    share = (trainer.loader_seconds - waited) / (end - first)
    return Steps(done, seconds, round(100 * share, 1), warm, max(0.0, first - begin - warm * seconds))


def _run(step: Callable[[], Any], times: int, until: float) -> int:
    """Take steps, one at least, and no more once the time is over; how many were taken."""
    for number in range(1, times + 1):
        step()
        if time.monotonic() >= until:
            return number
    return times
