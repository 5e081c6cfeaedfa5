"""Labels that people made as masks on the image grid, as ANNOTATE reads the oracle's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.geometry import Box, as_shape
from nnactive_nf.core.label_grid import labels_to_network_grid, resampled_in_part
from nnactive_nf.core.labels import MINUTES, Labels, Mask, write_labels
from nnactive_nf.core.query_table import read_query, with_reserve, write_query
from nnactive_nf.receive.answers import DONE, Answer, Received


def handed_out(query_file: Path, reserve_file: Path | None) -> pd.DataFrame:
    """The patches of a query with those that stand ready for refused ones, as `with_reserve` has them."""
    return with_reserve(read_query(query_file), read_query(reserve_file) if reserve_file else None)


def query_boxes(query: pd.DataFrame) -> dict[int, Box]:
    """Box of each patch on the image grid, by its number."""
    return {
        int(row["rank"]): Box(as_shape(row[axis] for axis in "zyx"), as_shape(row[f"d{axis}"] for axis in "zyx"))
        for row in query.to_dict("records")
    }


def write_answers(
    received: Received,
    prepared: Path,
    query_file: Path,
    query_out: Path,
    out: Path,
    node: str,
    reserve_file: Path | None = None,
) -> None:
    """Write the patches that are done as a query of their own, and their labels as masks of the image grid.

    Args:
        received: what `receive` found.
        prepared: folder of the prepared data set.
        query_file: the patches that were handed out.
        query_out: query table to make: the patches that are done, ranked anew.
        out: file of masks to make, as ANNOTATE reads the oracle's.
        node: the node that they are for.
        reserve_file: patches that were handed out with them, for those that are refused.
    """
    dataset, query = Dataset.open(prepared), handed_out(query_file, reserve_file)
    done = {answer.patch for answer in received.answers if answer.state == DONE}
    kept = query[query["rank"].isin(done)].sort_values("rank").reset_index(drop=True)
    boxes = query_boxes(query)
    masks = {}
    for case in sorted({*kept["case"], *received.outside}):
        nothing = np.full(dataset.shapes[case], dataset.classes.ignore_value, dataset.classes.dtype)
        masks[case] = received.outside.get(case, nothing)
        for answer in received.answers:
            if answer.case == case and answer.patch in done:
                box = boxes[answer.patch]
                masks[case][box.slices] = _patch_on_image_grid(dataset, answer, box)
    minutes = kept["rank"].map({answer.patch: answer.minutes for answer in received.answers})
    told = {MINUTES: minutes} if minutes.notna().any() else {}
    write_query(query_out, kept.assign(rank=range(1, len(kept) + 1), **told))
    labels = Labels(
        dataset.name, node, -1, dataset.classes, masks, spacings_mm={case: dataset.spacings_mm[case] for case in masks}
    )
    write_labels(out, labels, "oracle")


def _patch_on_image_grid(dataset: Dataset, answer: Answer, box: Box) -> Mask:
    assert answer.values_zyx is not None
    classes, grid = dataset.classes, dataset.grids[answer.case]
    values_zyx = np.full(grid.file_shape_zyx, classes.ignore_value, dtype=classes.dtype)
    values_zyx[grid.label_box(box).slices] = answer.values_zyx
    in_part = bool((answer.values_zyx == classes.ignore_value).any())
    return on_image_grid(values_zyx, dataset, answer.case, in_part)[box.slices]


def on_image_grid(values_zyx: Mask, dataset: Dataset, case: str, in_part: bool) -> Mask:
    """Labels `[z, y, x]` of a case from the file grid on the image grid, on the way that PREPARE takes whole files.

    With `in_part`, a voxel has a label only where half of it has: see `resampled_in_part`.
    """
    classes, grid = dataset.classes, dataset.grids[case]
    if not grid.is_resampled:
        return values_zyx[grid.crop.slices]
    # nnU-Net brings torch along, which only what is resampled has use for.
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(dataset.plans)
    shape = tuple(np.take(dataset.shapes[case], manager.transpose_forward))
    settings = manager.get_configuration(dataset.configuration)

    def on_grid(labels_zyx: npt.NDArray[np.signedinteger]) -> npt.NDArray[np.int16]:
        found = labels_to_network_grid(labels_zyx, dataset.properties(case), manager, settings, shape)
        return dataset.to_image_grid(found[0].astype(np.int16))

    if in_part:
        return resampled_in_part(values_zyx, classes, on_grid)
    return classes.to_value(on_grid(classes.to_index(values_zyx)))
