"""Weights that a user starts trainings from: a checkpoint of nnU-Net's, read as data and held against the network.

nnU-Net takes what has the name and the shape of a weight of the network, but for its segmentation heads, and wants all
others to be there (`load_pretrained_weights` in nnunetv2.run). So do trainings here. Refused are files that nnU-Net has
not written, weights that are no tensors of finite numbers, and all that a checkpoint could name to be executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import file_digest
from nnactive_nf.core.nnunet import build_network, load_torch

# In the names of the heads' weights, which nnU-Net draws anew.
HEADS = ".seg_layers."
# What numpy's numbers, which nnU-Net logs, are pickled by: version 1 and 2 of numpy.
NUMPY = (
    "numpy.dtype", "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
)  # fmt: skip


class _Nothing:
    """Stands for what a checkpoint holds beside weights: takes whatever it is made of, and keeps nothing."""

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


@dataclass(frozen=True)
class InitialWeights:
    """Weights to start from.

    Attributes:
        path: the file.
        weights: tensors by their names in the network.
        digest: SHA-256 of the file.
    """

    path: Path
    weights: dict[str, torch.Tensor]
    digest: str

    def for_network(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
        """What a network takes of them: all its weights but the heads.

        Args:
            shapes: shapes of all of the network's weights, by name.

        Raises:
            UserError: some are missing, or of another shape.
        """
        wanted = {name: shape for name, shape in shapes.items() if HEADS not in name}
        found = {name: tuple(value.shape) for name, value in self.weights.items()}
        wrong = [name for name, shape in wanted.items() if found.get(name) != shape]
        if wrong:
            first = wrong[0]
            what = f"is {found[first]} in it" if first in found else "is not in it"
            raise UserError(
                f"{self.path}: its weights do not fit the network: {first}, {wanted[first]}, {what}; "
                f"{len(wrong)} of {len(wanted)} weights do not fit. Planner, configuration, patch, features and "
                "channels must make the network that it was trained with"
            )
        return {name: self.weights[name] for name in wanted}

    def check_plans(self, plans: Mapping[str, Any], configuration: str, channels: int) -> None:
        """Hold them against a network that is planned, not built yet; `UserError` as `for_network`."""
        with torch.device("meta"):
            network = build_network(PlansManager(dict(plans)).get_configuration(configuration), channels, 2, True)
        self.for_network(shapes_of(network))


def shapes_of(network: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of a network's weights, by name."""
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def load_initial(path: Path) -> InitialWeights:
    """Read a checkpoint that nnU-Net has written (`checkpoint_final.pth`, `checkpoint_best.pth`).

    Raises:
        UserError: it is missing, damaged, no such checkpoint, or holds weights that are no finite numbers.
    """
    # nnU-Net's files hold the optimiser's state, too, which is as large as the weights or twice as large
    content = load_torch(path, [(_Nothing, name) for name in NUMPY], mapped=True)
    weights = content.get("network_weights")
    if not isinstance(weights, Mapping) or not weights or "trainer_name" not in content:
        raise UserError(f"{path}: not a checkpoint of nnU-Net's, which holds network_weights and trainer_name")
    for name, value in weights.items():
        if not (isinstance(name, str) and _numbers(value)):
            raise UserError(f"{path}: {str(name)[:80]!r} is no weight of finite numbers")
    return InitialWeights(path, dict(weights), file_digest(path))


def _numbers(value: Any) -> bool:
    plain = isinstance(value, torch.Tensor) and value.device.type == "cpu" and value.layout == torch.strided
    if not plain or value.is_complex() or value.is_quantized:
        return False
    stored = value.untyped_storage().nbytes() >= value.numel() * value.element_size()  # no number stands for many
    return stored and bool(torch.isfinite(value).all())
