"""The network that a row's trainings are of: its patch, its size, and the GPU memory that nnU-Net plans for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnactive_nf.core.geometry import as_shape
from nnactive_nf.core.nnunet import build_network
from nnactive_nf.core.planning import planned_gpu_gb
from nnactive_nf.core.training_plans import training_plans
from nnactive_nf.forecast.images import Images, Unknown
from nnactive_nf.forecast.plan import Group, Row


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


def networks_of(groups: Sequence[Group], images: Mapping[str, Images | Unknown]) -> dict[tuple[str, str], Network]:
    """The network of each row, by (data set, regime); rows of a data set that train alike are looked at once."""
    rows = {_settings(group.row): group.row for group in reversed(groups)}
    networks = {settings: network_of(row, images[row.dataset]) for settings, row in rows.items()}
    return {group.row.key: networks[_settings(group.row)] for group in groups}


def _settings(row: Row) -> tuple[object, ...]:
    return row.dataset, row.train_patch_size, row.features, row.batch_size


def network_of(row: Row, images: Images | Unknown) -> Network:
    """The network of a row: nnU-Net's, or as the row changes it."""
    patch = as_shape(map(int, row.train_patch_size.split(","))) if row.train_patch_size else None
    plans = training_plans(images.plans, row.configuration, patch, row.features, row.batch_size)
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
