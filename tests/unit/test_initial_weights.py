"""A checkpoint of nnU-Net's as the start of trainings: what is read of it, what fits, what is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.initial_weights import HEADS, load_initial
from nnactive_nf.core.nnunet import load_torch
from nnactive_nf.prepare.starts import NetworkStart, check_starts

FOLD = tiny.some_fold()
SHAPES = {name: tuple(value.shape) for name, value in FOLD.weights.items()}


def written(path: Path, weights: Any = FOLD.weights, **more: Any) -> Path:
    torch.save({"network_weights": weights, "trainer_name": "nnUNetTrainer"} | more, path)
    return path


def test_a_checkpoint_as_nnunet_writes_it_is_read_without_its_numbers(tmp_path: Path) -> None:
    """nnU-Net logs numpy's numbers, which torch alone refuses to read."""
    trainer = nnUNetTrainer.__new__(nnUNetTrainer)
    trainer.local_rank, trainer.disable_checkpointing, trainer.is_ddp = 0, False, False
    trainer.network = torch.nn.Linear(2, 3)
    trainer.optimizer = torch.optim.SGD(trainer.network.parameters(), 0.1)
    trainer.grad_scaler, trainer._best_ema, trainer.current_epoch = None, np.float64(0.5), 7
    losses = {"train_losses": [np.float32(0.25)], "dice": [[np.float64(0.5)]], "all": np.ones(3)}
    trainer.logger = type("Logger", (), {"get_checkpoint": lambda self: losses})()
    trainer.my_init_kwargs = {"configuration": "3d_fullres", "device": torch.device("cpu")}
    trainer.inference_allowed_mirroring_axes = (0, 1)
    path = tmp_path / "checkpoint_final.pth"
    trainer.save_checkpoint(str(path))
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        load_torch(path)
    found = load_initial(path)
    assert set(found.weights) == {"weight", "bias"}
    assert torch.equal(found.weights["weight"], trainer.network.weight)
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        load_torch(path)  # what stands for numpy's numbers does so for that one file


def test_all_weights_but_the_heads_are_taken(tmp_path: Path) -> None:
    initial = load_initial(written(tmp_path / "weights.pth"))
    heads = {name for name in SHAPES if HEADS in name}
    assert heads
    more_classes = {name: (7, *shape[1:]) if name in heads else shape for name, shape in SHAPES.items()}
    taken = initial.for_network(more_classes)
    assert set(taken) == set(SHAPES) - heads
    assert all(torch.equal(value, FOLD.weights[name]) for name, value in taken.items())
    unused = load_initial(written(tmp_path / "more.pth", FOLD.weights | {"another": torch.ones(1)}))
    assert set(unused.for_network(SHAPES)) == set(taken)
    assert unused.digest != initial.digest


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    initial = load_initial(written(tmp_path / "weights.pth"))
    name = next(iter(SHAPES))
    count = sum(HEADS not in name for name in SHAPES)
    wider = SHAPES | {name: (4, *SHAPES[name][1:])}
    line = rf"weights.pth: its weights do not fit the network: {name}, {{}}, {{}}; 1 of {{}} weights do not fit\. "
    with pytest.raises(UserError, match=line.format(r"\(4, .*\)", rf"is {re.escape(str(SHAPES[name]))} in it", count)):
        initial.for_network(wider)
    with pytest.raises(UserError, match=r"stem, \(1,\), is not in it; 1 of .* weights do not fit"):
        initial.for_network(SHAPES | {"stem": (1,)})


class Attack:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def nan(path: Path) -> None:
    written(path, FOLD.weights | {"w": torch.tensor([1.0, float("nan")])})


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda path: None, "no such file"),
    "text": (lambda path: path.write_text("weights"), "cannot be read as a checkpoint, it may be truncated"),
    "half a file": (
        lambda path: path.write_bytes(written(path).read_bytes()[:999]), "cannot be read as a checkpoint, it may be"
    ),
    "another's": (lambda path: torch.save({"state_dict": {}}, path), "not a checkpoint of nnU-Net's"),
    "none": (lambda path: written(path, {}), "not a checkpoint of nnU-Net's"),
    "no trainer": (lambda path: torch.save({"network_weights": FOLD.weights}, path), "not a checkpoint of nnU-Net's"),
    "not a number": (nan, "'w' is no weight of finite numbers"),
    "words": (lambda path: written(path, {"w": "1"}), "'w' is no weight of finite numbers"),
    "a number that stands for many": (
        lambda path: written(path, {"w": torch.ones(1).expand(1 << 40)}), "'w' is no weight of finite numbers"
    ),
    "complex": (lambda path: written(path, {"w": torch.ones(2) * 1j}), "'w' is no weight of finite numbers"),
    "no numbers": (lambda path: written(path, {"w": torch.empty(2, device="meta")}), "'w' is no weight of finite"),
    "a program": (lambda path: written(path, logging=Attack(path.with_name("mark"))), "cannot be read as a checkpoint"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_checkpoint_of_nnunets_is_refused_and_executes_nothing(name: str, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    make(tmp_path / "weights.pth")
    with pytest.raises(UserError, match=message):
        load_initial(tmp_path / "weights.pth")
    assert not (tmp_path / "mark").exists()


def test_weights_are_held_against_the_planned_networks_of_all_rows(tmp_path: Path) -> None:
    """By PREPARE, before it preprocesses an image."""
    plans = FOLD.plans
    path = written(tmp_path / "weights_1")
    fits = NetworkStart.of(
        {"where": "", "shown": "mine.pth", "path": str(path), "train_patch_size": None, "features": None}
    )
    check_starts([fits], plans, "3d_fullres", 1)
    wide = replace(fits, features=4, where="study.csv, row 2")
    with pytest.raises(UserError) as told:
        check_starts([fits, wide], plans, "3d_fullres", 1)
    (line,) = told.value.lines
    assert line.startswith("study.csv, row 2: initial_weights mine.pth: its weights do not fit the network: encoder")
    with pytest.raises(UserError, match=r"^--initial_weights mine\.pth: .* is \(2, 1, 3, 3, 3\) in it"):
        check_starts([fits], plans, "3d_fullres", 2)
