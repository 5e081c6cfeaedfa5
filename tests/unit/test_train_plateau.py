"""The early end of a training: when it is seen, and what is left of the schedule then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunetv2.training.logging.nnunet_logger import MetaLogger

from nnactive_nf.train.plateau import Ending, ending_of
from nnactive_nf.train.run import Settings


def curve(*dices: float | Sequence[float | None] | None) -> list[dict[str, Any]]:
    return [
        {"epoch": epoch, "pseudo_dice": list(dice) if isinstance(dice, Sequence) else [dice]}
        for epoch, dice in enumerate(dices)
    ]


def test_the_moving_mean_is_nnunets(tmp_path: Path) -> None:
    """The end comes as many epochs after nnU-Net's last best as were allowed."""
    rng = np.random.default_rng(3)
    for patience in (1, 3, 8):
        dices = [[*rng.uniform(0.3, 0.9, 2) * min(1.0, epoch / 20)] for epoch in range(120)]
        logger = MetaLogger(str(tmp_path), False)
        best, last, expected = -1.0, 0, None
        for epoch, dice in enumerate(dices):
            logger.log("mean_fg_dice", float(np.nanmean(dice)), epoch)
            mean = logger.get_value("ema_fg_dice", epoch)
            best, last = (mean, epoch) if mean > best else (best, last)
            if epoch - last == patience:
                expected = epoch + 1
                break
        assert expected is not None
        assert ending_of(curve(*dices), patience, 1000) == Ending(expected, expected + patience, 1000)


def test_a_training_that_rises_runs_all_its_epochs() -> None:
    rising = curve(*(epoch / 100 for epoch in range(100)))
    assert ending_of(rising, 1, 100) is None
    assert ending_of([], 1, 100) is None


def test_classes_that_batches_lack_do_not_count() -> None:
    assert ending_of(curve(0.5, [0.6, None], None, None), 3, 100) is None
    assert ending_of(curve(0.5, [0.6, None], None, None, 0.1), 3, 100) == Ending(5, 8, 100)
    assert ending_of(curve(None, None), 2, 100) == Ending(2, 4, 100)


def test_it_follows_from_the_curve_up_to_there() -> None:
    """A training that went on past a stop finds the same end, whatever came after."""
    whole = curve(0.5, 0.4, 0.3, 0.9, 0.9)
    assert ending_of(whole, 2, 50) == ending_of(whole[:3], 2, 50) == Ending(3, 5, 50)
    assert ending_of(whole[:2], 2, 50) is None


def test_what_is_left_of_the_schedule_runs_over_what_remains() -> None:
    ending = Ending(20, 25, 100)
    assert [ending.position(epoch) for epoch in (20, 21, 24)] == pytest.approx([20, 36, 84])
    near = ending_of(curve(0.5, 0.4, 0.3), 2, 4)
    assert near == Ending(3, 4, 4) and near.position(3) == 3
    assert ending_of(curve(0.5, 0.4, 0.3), 2, 3) is None  # it is over anyway


def test_a_training_without_it_rests_on_what_it_did() -> None:
    plain = Settings(1, 0, 0, 2, 1, 1, None, None, None, "sgd", None)
    assert set(plain.rests_on()) == {
        "seed", "cycle", "fold", "folds", "epochs", "iterations", "train_patch_size", "features", "batch_size",
        "optimiser", "learning_rate",
    }  # fmt: skip
    asked = Settings(1, 0, 0, 2, 1, 1, None, None, None, "sgd", None, "plateau:30", "previous")
    assert asked.rests_on() == plain.rests_on() | {"stop_training": "plateau:30", "training_start": "previous"}
    assert (plain.patience, asked.patience) == (None, 30)
