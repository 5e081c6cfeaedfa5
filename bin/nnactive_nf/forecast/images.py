"""What is known of a data set's images before PREPARE has seen them, and what nnU-Net plans from that."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import as_shape
from nnactive_nf.core.heads import Head, read_head
from nnactive_nf.core.images import read_voxels
from nnactive_nf.core.own_plans import load_plans, own_plans
from nnactive_nf.core.planning import (
    fingerprint_of_heads,
    known_configuration,
    planned_shape,
    planned_spacing,
    run_planner,
)
from nnactive_nf.core.raw import RawCase, RawDataset, list_raw
from nnactive_nf.forecast.plan import Row

Item = TypeVar("Item")

# Images whose heads are read to know them all.
LOOKED_AT = 200
# Voxels that are read to know how much air nnU-Net cuts off: all of small images, a few of large ones.
VOXELS_READ = 40_000_000
# What is assumed of images that are not there. In 3D nnU-Net plans its usual network for them.
ASSUMED = Head(channels=1, shape_zyx=(256, 256, 256), spacing_mm=(1.0, 1.0, 1.0))
ASSUMED_CLASSES = 2


@dataclass(frozen=True)
class Unknown:
    """Images that nothing can be said of: why, and nnU-Net's plans for images as they are assumed, or the user's."""

    why: str
    plans: dict[str, Any]
    channels: int = ASSUMED.channels
    classes: int = ASSUMED_CLASSES


@dataclass(frozen=True)
class Images:
    """What is known of a data set's images, and nnU-Net's plans for them, or the user's.

    Attributes:
        cases, channels: their numbers.
        classes: outputs of a network: classes, background included, or regions.
        targets: what is measured: classes without background, or regions.
        held_out: number of cases in a test set that is given; 0 where it is drawn.
        test_share: share of the cases that are held out.
        shape_zyx: median shape on the image grid, in voxels.
        voxels: of all cases on the image grid.
        resampled: whether images are on another grid than their files.
        heads: images whose heads were read.
        read: images that were read to know how much nnU-Net cuts off.
        plans: nnU-Net's, or the user's.
    """

    cases: int
    channels: int
    classes: int
    targets: int
    shape_zyx: tuple[float, ...]
    voxels: float
    resampled: bool
    heads: int
    read: int
    plans: dict[str, Any]
    held_out: int
    test_share: float


def images_of(row: Row, raw: Path | None, own: Path | None = None) -> Images | Unknown:
    """What is known of a row's images.

    Args:
        row: one of the data set's.
        raw: its raw folder as the task has it, or None where it is not there.
        own: the user's plans file as the task has it, or None where nnU-Net plans.

    Raises:
        UserError: nnU-Net plans no such configuration for these images, or the user's plans cannot be followed.
    """
    why = _why_unknown(row, raw)
    if raw is None or why:
        return _unknown(why, row, own)
    try:
        dataset = list_raw(raw, test_folder=row.test_folder, people=row.oracle == "people")
        drawn = evenly(dataset.cases, LOOKED_AT)
        heads = [read_head(case.images[0], dataset.reader) for case in drawn]
        cropped = crop(heads, drawn, dataset)
    except UserError as error:  # PREPARE tells more of it
        return _unknown(error.lines[0].replace(str(raw), row.folder), row, own)
    cases = row.phantom_cases if row.source == "phantom" else len(dataset.cases)
    held_out = len(dataset.held_out or row.held_out)
    test_share = min(1.0, held_out / cases) if held_out else row.test_fraction
    pool = max(1, round((1 - test_share) * cases))
    if own is None:
        plans = run_planner(dataset.nnunet_json, fingerprint_of_heads(cropped), row.dataset, pool, row.planner)
    else:
        plans = own_plans(own, f"--plans {row.plans}", row.configuration, dataset, row.dataset)
    try:
        known_configuration(plans, row.configuration)
    except UserError as error:
        raise UserError(f"{row.dataset}: {error}") from None
    shapes = np.array([planned_shape(plans, row.configuration, head) for head in cropped])
    return Images(
        cases=cases,
        channels=len(dataset.channels),
        classes=len(dataset.classes.channels),
        targets=len(dataset.classes.targets),
        shape_zyx=tuple(np.median(shapes, axis=0)),
        voxels=cases * float(shapes.prod(axis=1).mean()),
        resampled=any(_is_resampled(plans, row.configuration, head) for head in heads),
        heads=len(heads),
        read=readable(heads),
        plans=plans,
        held_out=held_out,
        test_share=test_share,
    )


def _unknown(why: str, row: Row, own: Path | None) -> Unknown:
    """Images that nothing can be said of, though a user's plans tell their channels."""
    if own is None:
        return Unknown(why, assumed_plans())
    plans = load_plans(own, f"--plans {row.plans}", row.configuration)
    return Unknown(why, plans, len(plans["configurations"][row.configuration]["normalization_schemes"]))


def _why_unknown(row: Row, raw: Path | None) -> str:
    if row.source == "download":
        return f"{row.input} is still to be downloaded"
    if raw is None:
        elsewhere = "://" in row.folder
        return f"{row.folder} is not on this machine" if elsewhere else f"no data in {row.folder}"
    return "" if (raw / "dataset.json").is_file() else f"no dataset.json in {row.folder}"


def _is_resampled(plans: dict[str, Any], configuration: str, head: Head) -> bool:
    return not np.allclose(planned_spacing(plans, configuration, head.spacing_mm), head.spacing_mm, rtol=0.01)


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many items, drawn evenly."""
    return [items[i * len(items) // most] for i in range(most)] if len(items) > most else list(items)


@functools.cache
def assumed_plans() -> dict[str, Any]:
    """nnU-Net's plans for images that are not there."""
    nnunet_json = {
        "channel_names": {"0": "image"},
        "labels": {f"class {index}": index for index in range(ASSUMED_CLASSES)},
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
    }
    return run_planner(nnunet_json, fingerprint_of_heads([ASSUMED]), "assumed", 100)


def crop(heads: Sequence[Head], cases: Sequence[RawCase], dataset: RawDataset) -> list[Head]:
    """Heads with the shapes that are left when nnU-Net has cut off what is 0 in all channels around an image.

    Small data sets are read whole. Of large ones a few images are read, and the others are taken to lose as much per
    axis as their median.
    """
    number = readable(heads)
    places = evenly(range(len(heads)), number) if number else []
    found = {place: nonzero_shape(dataset, cases[place]) for place in places}
    kept = [np.array(shape) / heads[place].shape_zyx for place, shape in found.items()]
    share = np.median(kept, axis=0) if kept else np.ones(3)
    rest = [np.maximum(1, np.rint(np.array(head.shape_zyx) * share)).astype(int) for head in heads]
    return [replace(head, shape_zyx=as_shape(found.get(place, rest[place]))) for place, head in enumerate(heads)]


def readable(heads: Sequence[Head]) -> int:
    """How many of these images can be read: all, or as many of average size as `VOXELS_READ` allows."""
    voxels = sum(head.voxels for head in heads)
    return min(len(heads), int(VOXELS_READ * len(heads) / voxels))


def nonzero_shape(dataset: RawDataset, case: RawCase) -> tuple[int, ...]:
    """Shape (z, y, x) of the smallest box that holds all voxels that are not 0; the image's where all are 0."""
    parts = [read_voxels(path, dataset.reader) for path in case.images]
    filled = np.logical_or.reduce([(values != 0).any(axis=0) for values in parts])
    if not filled.any():
        return tuple(filled.shape)
    ends = [np.flatnonzero(filled.any(axis=tuple({0, 1, 2} - {axis})))[[0, -1]] for axis in range(3)]
    return tuple(int(last - first) + 1 for first, last in ends)
