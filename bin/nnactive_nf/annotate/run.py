"""Copy the oracle's labels of queried patches into the label masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import bounding_box, intersects
from nnactive_nf.core.labels import (
    MINUTES,
    OUTSIDE,
    Labels,
    Mask,
    each_mask,
    in_part,
    patch_boxes,
    patch_counts,
    read_labels,
    read_mask,
    read_patches,
    whole_patches,
    write_labels,
)
from nnactive_nf.core.query_table import read_query


def annotate(
    prepared: Path,
    oracle_file: Path,
    query_file: Path | None,
    *,
    strategy: str,
    node: str,
    cycle: int,
    labels_file: Path | None = None,
    free_background: bool = False,
    accept_outside: bool = False,
) -> Labels:
    """Labels after the query: those before, and the oracle's values in the queried patches.

    Args:
        prepared: folder of the prepared data set.
        oracle_file: complete masks of the pool.
        query_file: the query table; `None` asks for every case of the pool, whole.
        strategy: the strategy with its options, for the patch table.
        node: the node that the labels will train.
        cycle: its cycle.
        labels_file: labels before; `None` at the start, where those that the data set brought along count.
        free_background: voxels where nothing was imaged become background in cases that get their first label. They
            cost nobody time and are not counted in the patch table.
        accept_outside: the masks hold what people have labelled and no more: what lies outside of the patches is taken,
            too, where nothing is labelled yet. Of each case it is a row of the patch table, of the strategy `OUTSIDE`.

    Raises:
        UserError: a patch lies outside its image or on another patch, or its case is not in the pool; one line each.
    """
    dataset = Dataset.open(prepared)
    oracle = read_patches(oracle_file, "oracle")
    dataset.check_owner(oracle_file, oracle.dataset, oracle.classes)
    query = (
        whole_patches({case: dataset.shapes[case] for case in dataset.pool})
        if query_file is None
        else read_query(query_file)
    )
    labels = Labels(dataset.name, node, cycle, dataset.classes)
    labels_file = labels_file or dataset.given_labels
    if labels_file is not None:
        before = read_labels(labels_file, shapes=dataset.shapes)
        dataset.check_owner(labels_file, before.dataset, before.classes)
        if before.cycle != cycle - 1:
            raise UserError(
                f"{labels_file}: labels of cycle {before.cycle}; cycle {cycle} is made from those before it"
            )
        labels.masks, labels.patches = before.masks, before.patches
        if free_background and labels_file == dataset.given_labels:
            for name in labels.patches.loc[in_part(labels.patches), "case"]:
                unknown = labels.masks[name] == dataset.classes.ignore_value
                labels.masks[name][unknown & dataset.empty_mask(name)] = dataset.classes.values[0]
    _check(query_file or oracle_file, query, dataset, labels)
    masks = dict(labels.masks)
    rows = []

    def mask_of(name: str) -> Mask:
        if name not in masks:
            masks[name] = np.full(dataset.shapes[name], dataset.classes.ignore_value, dtype=dataset.classes.dtype)
            if free_background:
                masks[name][dataset.empty_mask(name)] = dataset.classes.values[0]
        return masks[name]

    for case, part in query.groupby("case", sort=True):
        name = str(case)
        truth = read_mask(oracle_file, name, "oracle", dataset.shapes[name])
        mask = mask_of(name)
        for box, row in zip(patch_boxes(part, name), part.itertuples(), strict=True):
            mask[box.slices] = truth[box.slices]
            rows.append((row.rank, patch_counts(truth[box.slices], box, dataset.classes) | {
                "cycle": cycle, "case": name, "score": row.score, "strategy": strategy, "component": row.component,
            } | ({MINUTES: row.minutes} if MINUTES in query else {})))  # fmt: skip
    added = pd.DataFrame([row for _, row in sorted(rows, key=lambda item: item[0])])
    if accept_outside:
        outside = _take_outside(oracle_file, query, dataset, mask_of)
        added = pd.concat([added, pd.DataFrame([row | {"cycle": cycle} for row in outside])], ignore_index=True)
    columns = [name for name in added if name in labels.patches or name == MINUTES]
    labels.patches = pd.concat([labels.patches, added[columns]], ignore_index=True).astype(
        labels.patches.dtypes.to_dict()
    )
    labels.masks = masks
    labels.spacings_mm = {case: dataset.spacings_mm[case] for case in masks}
    return labels


def _take_outside(
    oracle_file: Path, query: pd.DataFrame, dataset: Dataset, mask_of: Callable[[str], Mask]
) -> list[dict[str, Any]]:
    """Lay labels outside of the patches into the masks, where there are none yet; a row for each case."""
    ignore, rows = dataset.classes.ignore_value, []
    for case, said in each_mask(oracle_file, dataset.classes, "oracle"):
        mask = mask_of(case)
        new = (said != ignore) & (mask == ignore)
        for box in patch_boxes(query, case):
            new[box.slices] = False
        if not new.any():
            continue
        box = bounding_box(new)
        mask[new] = said[new]
        counts = patch_counts(np.where(new, said, ignore)[box.slices], box, dataset.classes)
        rows.append(counts | {"case": case, "score": math.nan, "strategy": OUTSIDE, "component": "all"})
    return rows


def _check(path: Path, query: pd.DataFrame, dataset: Dataset, labels: Labels) -> None:
    """All that is wrong with a query, one line each."""
    wrong: list[str] = []
    if query.empty:
        wrong.append(f"{path}: holds no patches")
    for case, part in query.groupby("case", sort=True):
        name = str(case)
        if name not in dataset.pool:
            wrong.append(f"{path}: case {name} is not in the pool of {dataset.name}")
            continue
        others = labels.boxes(name)
        for box in patch_boxes(part, name):
            where = f"{path}: patch at {box.start_zyx} of size {box.size_zyx} in case {name}"
            if not box.inside(dataset.shapes[name]):
                wrong.append(f"{where} lies outside the image {dataset.shapes[name]}")
            elif any(intersects(box, other) for other in others):
                wrong.append(f"{where} overlaps a patch labelled before or another of the query")
            others.append(box)
    if wrong:
        raise UserError(*wrong)


def write(path: Path, labels: Labels) -> None:
    """Write the labels file."""
    write_labels(path, labels)
