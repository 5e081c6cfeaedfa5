"""Weights that trainings are to start from, held against their networks as soon as these are planned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Shape, as_shape
from nnactive_nf.core.initial_weights import load_initial
from nnactive_nf.core.training_plans import training_plans


@dataclass(frozen=True)
class NetworkStart:
    """A (data set, regime) whose trainings start from a checkpoint; names as in `nextflow_schema.json`.

    Attributes:
        where: the row of a study table, as messages name it; '' where there is no table.
        shown: the checkpoint's path as the user knows it.
        path: where it is.
    """

    where: str
    shown: str
    path: Path
    train_patch_size: Shape | None
    features: int | None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> NetworkStart:
        """From what the workflow writes."""
        patch = content["train_patch_size"]
        size = as_shape(map(int, patch.split(","))) if patch else None
        return cls(content["where"], content["shown"], Path(content["path"]), size, content["features"])


def check_starts(starts: Sequence[NetworkStart], plans: dict[str, Any], configuration: str, channels: int) -> None:
    """Hold each against its row's network, which is built with shapes and without numbers.

    Raises:
        UserError: what does not fit, one line for each row.
    """
    errors = []
    for start in starts:
        row_plans = training_plans(plans, configuration, start.train_patch_size, start.features, None)
        try:
            load_initial(start.path).check_plans(row_plans, configuration, channels)
        except UserError as error:
            name = f"{start.where}: initial_weights" if start.where else "--initial_weights"
            errors += [line.replace(str(start.path), f"{name} {start.shown}", 1) for line in error.lines]
    if errors:
        raise UserError(*errors)
