"""Labels from a file's own grid to the network grid, on the way that nnU-Net's preprocessing takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.labels import Mask

if TYPE_CHECKING:
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
        `[1, ...]` on the network grid: the value that holds most of a voxel.
    """
    values = values_zyx[None].transpose(0, *(axis + 1 for axis in manager.transpose_forward))
    cropped = values[(slice(None), *(slice(low, high) for low, high in properties["bbox_used_for_cropping"]))]
    spacing = [properties["spacing"][axis] for axis in manager.transpose_forward]
    target = settings.spacing if len(settings.spacing) == 3 else [spacing[0], *settings.spacing]
    return np.asarray(settings.resampling_fn_seg(cropped, shape, spacing, target))


def resampled_in_part(
    values_zyx: Mask, classes: Classes, on_grid: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]
) -> Mask:
    """Labels on the image grid, where voxels have none: a case that came labelled in part, or readers who differ.

    nnU-Net takes the label that holds most of a voxel. Where voxels without a label have a share in it, that may be
    another than it would be if these were labelled. So a label must hold half of the voxel, or the voxel has none.

    Args:
        values_zyx: class values on the file's grid, the ignore value where nobody has labelled.
        classes: of the data set.
        on_grid: brings class indices `[z, y, x]` from the file's grid to the image grid as nnU-Net does.
    """
    index_zyx = classes.to_index(values_zyx)
    found = on_grid(index_zyx)
    is_sure = np.zeros(found.shape, dtype=bool)
    for index in set(np.unique(index_zyx).tolist()) - {classes.ignore_index}:
        is_sure |= (found == index) & (on_grid((index_zyx == index).astype(np.int16)) == 1)
    return classes.to_value(np.where(is_sure, found, classes.ignore_index))
