"""Heads of a case's files, and whether image, label and free mask lie on one grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.heads import Head, read_head
from nnactive_nf.core.raw import RawCase, RawDataset

# Relative difference of spacings, and difference of origins in voxels, that count as one grid: label tools round.
GRID_TOLERANCE = 1e-3
CHANNEL_TOLERANCE = 1e-5  # nnU-Net's readers allow no more between the channels of an image


def case_head(raw: RawDataset, case: RawCase) -> tuple[Head | None, list[str]]:
    """Head of a case's image, and what is wrong with the case, one line each; `None` where a file cannot be read."""
    heads: dict[str, list[Head]] = {}
    problems = []
    for role, path in _files(case):
        try:
            heads.setdefault(role, []).append(read_head(path, raw.reader, label=role != "image"))
        except UserError as error:
            problems.append(f"{role} {error}")
    if not problems:
        problems = _problems(raw, heads)
    return next(iter(heads.get("image", [])), None), [f"case {case.name}: {problem}" for problem in problems]


def _files(case: RawCase) -> list[tuple[str, Path]]:
    free = [("free mask", case.free)] if case.free else []
    label = [("label", case.label)] if case.labelled else []  # what is missing has been told, or people label
    return [*(("image", path) for path in case.images), *label, *free]


def _problems(raw: RawDataset, heads: dict[str, list[Head]]) -> list[str]:
    image, *others = heads["image"]
    problems = []
    channels = sum(head.channels for head in heads["image"])
    if channels != len(raw.channels):
        problems.append(f"image has {channels} channels, dataset.json declares {len(raw.channels)}")
    for number, head in enumerate(others, start=1):
        problems += _size_problems(f"image of channel {number}", image, head, CHANNEL_TOLERANCE)
    for role in ("label", "free mask"):
        for head in heads.get(role, []):
            problems += [f"{role} holds {head.channels} volumes, one is wanted"] if head.channels != 1 else []
            problems += _size_problems(role, image, head, GRID_TOLERANCE) or _place_problems(role, image, head)
    return problems


def _size_problems(role: str, image: Head, other: Head, tolerance: float) -> list[str]:
    if image.shape_zyx != other.shape_zyx:
        return [f"{role} has shape {other.shape_zyx}, image has {image.shape_zyx} (z, y, x)"]
    if not np.allclose(image.spacing_mm, other.spacing_mm, rtol=tolerance):
        ours, theirs = _numbers(image.spacing_mm), _numbers(other.spacing_mm)
        return [f"{role} has spacing {theirs} mm, image has {ours} mm (z, y, x)"]
    return []


def _place_problems(role: str, image: Head, other: Head) -> list[str]:
    if image.origin_xyz is None or other.origin_xyz is None or image.direction is None or other.direction is None:
        return []  # this format knows shapes and spacings only
    apart = np.abs(np.subtract(image.origin_xyz, other.origin_xyz))
    if (apart > np.maximum(np.multiply(image.spacing_mm[::-1], 0.5), GRID_TOLERANCE)).any():
        ours, theirs = _numbers(image.origin_xyz), _numbers(other.origin_xyz)
        return [f"{role} has origin {theirs}, image has {ours} (x, y, z)"]
    if not np.allclose(image.direction, other.direction, atol=1e-2):
        return [f"{role} has direction {_numbers(other.direction)}, image has {_numbers(image.direction)}"]
    return []


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
