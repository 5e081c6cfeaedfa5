"""The plans that a training follows: nnU-Net's or the user's, or these with another patch size, width or batch."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

# As nnU-Net's planner: smallest feature map, convolutions per stage, cap of the width.
MIN_FEATURE_MAP = 4
CONVOLUTIONS = 2
RESIDUAL_BLOCKS = (1, 3, 4)  # of the first stages; all later ones have
MORE_BLOCKS = 6
MAX_FEATURES = {2: 512, 3: 320}
# nnU-Net validates on 50 batches per 250 training batches.
VALIDATION_SHARE = 0.2


def validation_iterations(iterations: int) -> int:
    """Batches that an epoch of so many training batches is validated on."""
    return max(1, round(VALIDATION_SHARE * iterations))


def training_plans(
    plans: dict[str, Any],
    configuration: str,
    patch_zyx: tuple[int, int, int] | None,
    features: int | None,
    batch_size: int | None,
) -> dict[str, Any]:
    """Plans with the asked-for changes; all else stays nnU-Net's.

    Args:
        plans: nnU-Net's plans or the user's, of a plain network or one with a residual encoder.
        configuration: `2d`, `3d_fullres` or `3d_lowres`.
        patch_zyx: the network's patch (z, y, x), rounded up to what its poolings divide; None keeps the planned one. A
            2D configuration takes the last two axes of the plan's order. Stages that the plan has keep their width and
            depth; further ones are as nnU-Net's planner makes them.
        features: features of the first stage, doubled per stage up to nnU-Net's cap; None keeps the planned width.
        batch_size: None keeps the planned one.
    """
    changed = deepcopy(plans)
    manager = PlansManager(deepcopy(plans))
    # A configuration may inherit from another; write it out whole.
    settings = deepcopy(manager.get_configuration(configuration).configuration)
    architecture = settings["architecture"]["arch_kwargs"]
    dimensions = len(settings["patch_size"])
    if patch_zyx is not None:
        wanted = [patch_zyx[axis] for axis in plans["transpose_forward"]][-dimensions:]
        _, strides, kernels, patch, _ = get_pool_and_conv_props(settings["spacing"], wanted, MIN_FEATURE_MAP, 999999)
        stages = len(strides)
        widths, base = architecture["features_per_stage"], architecture["features_per_stage"][0]
        settings["patch_size"] = [int(n) for n in patch]
        architecture |= {
            "n_stages": stages,
            "strides": [[int(n) for n in stride] for stride in strides],
            "kernel_sizes": [[int(n) for n in kernel] for kernel in kernels],
            "features_per_stage": [*widths, *_widths(base, stages, dimensions)[len(widths) :]][:stages],
            **_depths(architecture, stages),
        }
    if features is not None:
        architecture["features_per_stage"] = _widths(features, architecture["n_stages"], dimensions)
    if batch_size is not None:
        settings["batch_size"] = batch_size
    changed["configurations"] = {configuration: settings}
    return changed


def _depths(architecture: Mapping[str, Any], stages: int) -> dict[str, list[int]]:
    """Convolutions or residual blocks of each stage: the plan's where it has the stage, the planner's in further ones.

    The decoder counts from the coarsest stage, the encoder from the finest.
    """
    residual = "n_blocks_per_stage" in architecture
    kind, decoder = "n_blocks_per_stage" if residual else "n_conv_per_stage", "n_conv_per_stage_decoder"
    planned = [*RESIDUAL_BLOCKS, *[MORE_BLOCKS] * stages] if residual else [CONVOLUTIONS] * stages
    down, up = architecture[kind], architecture[decoder]
    more = [1 if residual else CONVOLUTIONS] * (stages - 1 - len(up))
    return {kind: [*down, *planned[len(down) :]][:stages], decoder: [*more, *up[len(up) + len(more) - stages + 1 :]]}


def _widths(base: int, stages: int, dimensions: int) -> list[int]:
    return [min(MAX_FEATURES[dimensions], base * 2**stage) for stage in range(stages)]
