"""The uncertainty map that is shown beside an image, in the report and to the people who label."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from nnactive_nf.core.geometry import Box
from nnactive_nf.core.strategies import Named, registry
from nnactive_nf.core.uncertainty import UncertaintyMaps


def map_to_show(strategy: str, names: Collection[str]) -> str:
    """The map beside the image: one that is stored, `mutual_information`, or '' for none.

    The registry says it; of a strategy of the user's own an entropy that it reads is shown.
    """
    entry = registry().get(Named.parse(strategy).name)
    if entry is not None:
        return entry.view_map if names else ""
    return next((name for name in ("predictive_entropy", "expected_entropy") if name in names), "")


def shown_map(maps: UncertaintyMaps, case: str, name: str, crop: Box) -> npt.NDArray[np.floating]:
    """Crop of the map that a picture shows."""
    if name == "mutual_information":
        gap = maps.read(case, "predictive_entropy")[crop.slices] - maps.read(case, "expected_entropy")[crop.slices]
        return np.maximum(gap, 0)  # type: ignore[no-any-return]
    return maps.read(case, name)[crop.slices]  # type: ignore[no-any-return]
