"""`views.h5`: the queried patches with their surroundings, for the report's pictures.

Large surroundings are stored coarser, for a screen shows no more: a voxel of theirs is `stride_zyx` of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.transform import downscale_local_mean

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.geometry import Box, Shape, as_shape
from nnactive_nf.core.hdf5 import create_hdf5
from nnactive_nf.core.query_table import read_query
from nnactive_nf.core.shown_map import map_to_show, shown_map
from nnactive_nf.core.uncertainty import UncertaintyMaps

VERSION = 1
LEAST_MARGIN = 12  # voxels around a patch, at least
MOST = 128  # voxels of a picture along an axis


def surroundings(box: Box, shape_zyx: Sequence[int]) -> Box:
    """The patch with a margin of its own size (at least `LEAST_MARGIN` voxels) on each side, cut at the image."""
    low = as_shape(max(0, a - max(n, LEAST_MARGIN)) for a, n in zip(box.start_zyx, box.size_zyx, strict=True))
    high = (
        min(length, b + max(n, LEAST_MARGIN))
        for b, n, length in zip(box.stop_zyx, box.size_zyx, shape_zyx, strict=True)
    )
    return Box(low, as_shape(b - a for a, b in zip(low, high, strict=True)))


def stride_of(crop: Box) -> Shape:
    """Voxels of the image in one of the picture, per axis: the fewest that keep it within `MOST`."""
    return as_shape(-(-length // MOST) for length in crop.size_zyx)


def whole_strides(crop: Box, stride_zyx: Shape) -> Box:
    """The crop without the few last voxels that fill no voxel of the picture."""
    return Box(crop.start_zyx, as_shape(n // k * k for n, k in zip(crop.size_zyx, stride_zyx, strict=True)))


def coarser(values_zyx: npt.NDArray[np.floating], stride_zyx: Shape) -> npt.NDArray[np.floating]:
    """Means over blocks of `stride_zyx` voxels."""
    return values_zyx if set(stride_zyx) == {1} else downscale_local_mean(values_zyx, stride_zyx)


def windowed(image_zyx: npt.NDArray[np.floating], crop: Box, stride_zyx: Shape) -> npt.NDArray[np.uint8]:
    """Crop of an image in 256 grey levels between the image's 0.5 and 99.5 percentiles."""
    low, high = np.percentile(image_zyx, [0.5, 99.5])
    scaled = (coarser(image_zyx[crop.slices], stride_zyx) - low) / max(float(high - low), 1e-12)
    return np.rint(np.clip(scaled, 0, 1) * 255).astype(np.uint8)  # type: ignore[no-any-return]


def write_views(
    prepared: Path,
    query_file: Path,
    uncertainty_files: Sequence[Path],
    *,
    node: str,
    cycle: int,
    strategy: str,
    patches: int,
    out: Path,
) -> int:
    """Write the pictures of a query's first patches, `/patches/<rank>` from 0001, and return how many there are.

    Args:
        prepared: folder of the prepared data set.
        query_file: the query's table.
        uncertainty_files: the shards of the maps that the query has read; none where it has read none.
        node: name of the node whose labels the query makes.
        cycle: its cycle.
        strategy: strategy with its options.
        patches: most pictures.
        out: the file to make.
    """
    dataset = Dataset.open(prepared)
    query = read_query(query_file).head(patches)
    maps = UncertaintyMaps(uncertainty_files, dataset.shapes)
    shown = map_to_show(strategy, maps.names)
    images: dict[str, npt.NDArray[Any]] = {}
    attributes = {"dataset": dataset.name, "node": node, "cycle": cycle, "strategy": strategy, "map": shown}
    with create_hdf5(out, "views", VERSION, attributes) as file:
        groups = file.create_group("patches")
        for rank, row in enumerate(query.itertuples(), start=1):
            box = Box((row.z, row.y, row.x), (row.dz, row.dy, row.dx))
            if row.case not in images:
                images = {row.case: dataset.image(row.case, [0])[0]}
            crop = surroundings(box, dataset.shapes[row.case])
            stride = stride_of(crop)
            crop = whole_strides(crop, stride)
            group = groups.create_group(f"{rank:04d}")
            group.attrs["case"] = row.case
            group.attrs["start_zyx"] = box.start_zyx
            group.attrs["size_zyx"] = box.size_zyx
            group.attrs["score"] = row.score
            group.attrs["component"] = row.component
            group.attrs["crop_start_zyx"] = crop.start_zyx
            group.attrs["stride_zyx"] = stride
            group.attrs["spacing_mm_zyx"] = dataset.spacings_mm[row.case]
            _write(group, "image", windowed(images[row.case], crop, stride))
            if shown:
                shown_zyx = coarser(shown_map(maps, row.case, shown, crop), stride)
                _write(group, "uncertainty", shown_zyx.astype(np.float16))
    return len(query)


def _write(group: Any, name: str, values: npt.NDArray[Any]) -> None:
    chunks: Shape = as_shape(values.shape)
    group.create_dataset(name, data=values, chunks=chunks, compression="gzip", compression_opts=4, shuffle=True)
