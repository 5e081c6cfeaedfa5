"""The network that a row's trainings are of: its patch, its size, and the GPU memory that nnU-Net plans for."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnactive_nf.core.nnunet import build_network
from nnactive_nf.core.planning import planned_gpu_gb
from nnactive_nf.core.training_plans import training_plans
from nnactive_nf.forecast.images import Images, Unknown
from nnactive_nf.forecast.plan import Row


@dataclass(frozen=True)
class Network:
    """A row's network.

    Attributes:
        parameters: their number.
        patch: voxels of the network's patch, (z, y, x) or the last two in the plan's order of axes.
        batch_size: patches of an iteration.
        gpu_gb: what nnU-Net's planner takes a training for, in GB.
        feature_width: features of the last but one stage of the encoder.
        feature_cell: voxels of the image for each of them.
    """

    parameters: int
    patch: tuple[int, ...]
    batch_size: int
    gpu_gb: float
    feature_width: int
    feature_cell: float


def network_of(row: Row, images: Images | Unknown) -> Network:
    """The network of a row: nnU-Net's, or as the row changes it."""
    patch = row.train_patch_size and tuple(int(part) for part in row.train_patch_size.split(","))
    plans = training_plans(images.plans, row.configuration, patch or None, row.features, row.batch_size)
    settings = plans["configurations"][row.configuration]
    architecture = settings["architecture"]["arch_kwargs"]
    last = max(0, architecture["n_stages"] - 2)
    return Network(
        parameters=_parameters(plans, row.configuration, images.channels, images.classes),
        patch=_in_file_order(settings["patch_size"], plans),
        batch_size=settings["batch_size"],
        gpu_gb=planned_gpu_gb(plans, row.configuration, images.channels, images.classes),
        feature_width=architecture["features_per_stage"][last],
        feature_cell=float(prod(prod(stride) for stride in architecture["strides"][: last + 1])),
    )


def _in_file_order(patch: list[int], plans: dict[str, Any]) -> tuple[int, ...]:
    return tuple(patch if len(patch) == 2 else (patch[axis] for axis in plans["transpose_backward"]))


def _parameters(plans: dict[str, Any], configuration: str, channels: int, classes: int) -> int:
    """Parameters of the network as it is built, without memory for any."""
    with torch.device("meta"):
        network = build_network(PlansManager(plans).get_configuration(configuration), channels, classes, True)
    return sum(parameter.numel() for parameter in network.parameters())
