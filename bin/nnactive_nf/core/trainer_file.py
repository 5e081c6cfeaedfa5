"""A user's Python file with a trainer: which class of it trains, and the network that it builds."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnactive_nf.core.errors import UserError, one_line
from nnactive_nf.core.files import file_digest
from nnactive_nf.core.python_file import kind_of, load_python

# The class that a user's trainer extends, by its name: `core` imports no stage. The user's file does.
BASE = "nnactive_nf.train.trainer.ActiveTrainer"
# The class of nnU-Net's whose network is the planned one.
PLANNED = "nnunetv2.training.nnUNetTrainer.nnUNetTrainer.nnUNetTrainer"
# What nnU-Net calls to build a network, in training and in prediction.
ARGUMENTS = (
    "plans_manager", "configuration_manager", "num_input_channels", "num_output_channels", "enable_deep_supervision",
)  # fmt: skip


@dataclass(frozen=True)
class TrainerFile:
    """A trainer file that was loaded.

    Attributes:
        path: the file.
        where: how messages name it.
        trainer: the class in it that trains.
        digest: SHA-256 of the file.
    """

    path: Path
    where: str
    trainer: Any
    digest: str

    @property
    def network_by(self) -> str:
        """The file's digest, if its trainer builds a network of its own; '' if it takes the planned one."""
        builder = next(kind for kind in self.trainer.__mro__ if "build_network_architecture" in vars(kind))
        return "" if _name(builder) == PLANNED else self.digest

    def network(
        self, plans: PlansManager, configuration: ConfigurationManager, channels: int, heads: int
    ) -> torch.nn.Module:
        """The trainer's network as it predicts, with fresh weights.

        Raises:
            UserError: it cannot be built, or is none.
        """
        try:
            network = self.trainer.build_network_architecture(plans, configuration, channels, heads, False)
        except Exception as error:  # whatever the user's code says
            raise self.failed("builds no network", error) from error
        if not isinstance(network, torch.nn.Module):
            kind = type(network).__name__
            raise UserError(f"{self.where}: build_network_architecture returned {kind}, a torch.nn.Module is wanted")
        return network

    def failed(self, what: str, error: BaseException) -> UserError:
        """What is told of an error in the trainer's code, or in what called it."""
        kind = kind_of(error, self.path)
        return UserError(f"{self.where}: {self.trainer.__name__} {what} ({kind}: {one_line(error)})")


def load_trainer(path: Path, where: str) -> TrainerFile:
    """Load a user's file; its code runs.

    Args:
        path: the file.
        where: how messages name it.

    Raises:
        UserError: all that is wrong with it, one line each.
    """
    module = load_python(path, where, "trainer_file")
    own = {
        name: thing
        for name, thing in vars(module).items()
        if inspect.isclass(thing) and thing.__module__ == module.__name__ and not name.startswith("_")
    }
    trainers = [name for name, thing in own.items() if _is_trainer(thing)]
    chosen = vars(module).get("TRAINER", own[trainers[0]] if len(trainers) == 1 else None)
    if chosen is None and trainers:
        raise UserError(
            f"{where}: {len(trainers)} trainers are defined in it, {', '.join(trainers)}; "
            f"say which is meant by a line TRAINER = {trainers[-1]}"
        )
    if chosen is None:
        others = f" ({', '.join(own)}: none)" if own else ""
        raise UserError(f"{where}: no subclass of {BASE} is defined in it{others}")
    if not _is_trainer(chosen):
        raise UserError(f"{where}: TRAINER is {getattr(chosen, '__name__', repr(chosen))}, no subclass of {BASE}")
    found = TrainerFile(path, where, chosen, file_digest(path))
    if found.network_by and not _can_be_called(chosen):
        raise UserError(
            f"{where}: build_network_architecture of {chosen.__name__} must be a @staticmethod ({', '.join(ARGUMENTS)})"
        )
    return found


def given_trainer(path: Path | None) -> TrainerFile | None:
    """The trainer of the file that a command was given; `None` where it was given none."""
    return None if path is None else load_trainer(path, f"--trainer-file {path}")


def trainer_errors(path: Path | None, shown: str | None) -> list[str]:
    """What is wrong with a trainer file (none where there is no such file), `shown` as the user knows it."""
    if path is None:
        return []
    try:
        load_trainer(path, f"--trainer_file {shown}")
    except UserError as error:
        return list(error.lines)
    return []


def _is_trainer(thing: Any) -> bool:
    return inspect.isclass(thing) and any(_name(kind) == BASE for kind in thing.__mro__)


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _can_be_called(trainer: Any) -> bool:
    """Whether nnU-Net can call what builds the network, by the class and by the trainer alike."""
    kind = inspect.getattr_static(trainer, "build_network_architecture")
    if not isinstance(kind, staticmethod | classmethod):
        return False
    try:
        signature = inspect.signature(trainer.build_network_architecture)
        signature.bind(*ARGUMENTS)
    except (TypeError, ValueError):
        return False
    return ARGUMENTS[0] in signature.parameters  # by which nnU-Net knows that it is not the function of older versions
