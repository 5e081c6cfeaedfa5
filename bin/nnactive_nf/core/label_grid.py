"""Labels from a file's own grid to the network grid, on the way that nnU-Net's preprocessing takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager


def labels_to_network_grid(
    values_zyx: npt.NDArray[np.signedinteger],
    properties: dict[str, Any],
    manager: PlansManager,
    settings: ConfigurationManager,
    shape: Sequence[int],
) -> npt.NDArray[Any]:
    """Labels cropped, in the plan's order of axes, and resampled.

    Args:
        values_zyx: class indices or a mask `[z, y, x]` on the file's grid.
        properties: nnU-Net's properties of the case.
        manager: the plans.
        settings: the configuration.
        shape: of the case on the network grid.

    Returns:
        `[1, ...]` on the network grid. nnU-Net takes a value where at least half of a voxel holds it, and 0 elsewhere.
    """
    values = values_zyx[None].transpose(0, *(axis + 1 for axis in manager.transpose_forward))
    cropped = values[(slice(None), *(slice(low, high) for low, high in properties["bbox_used_for_cropping"]))]
    spacing = [properties["spacing"][axis] for axis in manager.transpose_forward]
    target = settings.spacing if len(settings.spacing) == 3 else [spacing[0], *settings.spacing]
    return np.asarray(settings.resampling_fn_seg(cropped, shape, spacing, target))
