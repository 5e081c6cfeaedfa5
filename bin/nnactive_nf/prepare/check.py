"""Checks of every case before anything else is done: all that is wrong is said at once, by case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.raw import RawCase, RawDataset

# Relative difference of spacings, and difference of origins in voxels, that count as one grid: label tools round.
GRID_TOLERANCE = 1e-3


@dataclass
class CaseFacts:
    """What one reading of a case tells.

    Attributes:
        name: the case.
        problems: what is wrong with it, one line each; the rest is empty then.
        shape_zyx: voxels of the file's grid.
        spacing_mm: voxel size (z, y, x).
        class_voxels: voxels per class index.
        shape_after_crop: shape of the box of non-zero voxels.
        crop_start_zyx: first voxel of that box.
        relative_size_after_crop: share of the voxels in that box.
        foreground_intensities: per channel a sample of the foreground's intensities, for nnU-Net's fingerprint.
    """

    name: str
    problems: list[str] = field(default_factory=list)
    shape_zyx: tuple[int, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    class_voxels: tuple[int, ...] = ()
    shape_after_crop: tuple[int, ...] = ()
    crop_start_zyx: tuple[int, ...] = ()
    relative_size_after_crop: float = 1.0
    foreground_intensities: list[npt.NDArray[np.float32]] = field(default_factory=list)


def check_case(raw: RawDataset, case: RawCase, samples: int) -> CaseFacts:
    """Read one case and check it: same grid, declared labels, finite values, as many channels as declared."""
    facts = CaseFacts(case.name)
    facts.problems = [
        f"case {case.name}: {role} {path.name} {problem}"
        for role, path in _files(case)
        for problem in _file_problems(path)
    ]
    if facts.problems:
        return facts
    try:
        image_czyx, image_properties = raw.reader().read_images([str(path) for path in case.images])
    except Exception as error:  # readers raise what their libraries raise
        facts.problems.append(f"case {case.name}: image cannot be read ({_one_line(error)})")
        return facts
    try:
        label_1zyx, label_properties = raw.reader().read_seg(str(case.label))
    except Exception as error:
        facts.problems.append(f"case {case.name}: label {case.label} cannot be read ({_one_line(error)})")
        return facts
    facts.problems = [
        f"case {case.name}: {problem}"
        for problem in (
            *_image_problems(image_czyx, raw),
            *_label_problems(label_1zyx, raw.classes),
            *_grid_problems("label", image_czyx, image_properties, label_1zyx, label_properties),
            *_free_mask_problems(raw, case, image_czyx, image_properties),
        )
    ]
    if facts.problems:
        return facts
    facts.shape_zyx = tuple(int(n) for n in image_czyx.shape[1:])
    facts.spacing_mm = tuple(float(v) for v in image_properties["spacing"])
    facts.class_voxels = tuple(int((label_1zyx == value).sum()) for value in raw.classes.values)
    cropped, cropped_label, bounds = crop_to_nonzero(image_czyx, label_1zyx.astype(np.int32))
    facts.shape_after_crop = tuple(int(n) for n in cropped.shape[1:])
    facts.crop_start_zyx = tuple(int(low) for low, _ in bounds)
    facts.relative_size_after_crop = float(np.prod(facts.shape_after_crop) / np.prod(facts.shape_zyx))
    intensities, _ = DatasetFingerprintExtractor.collect_foreground_intensities(
        cropped_label, cropped, num_samples=samples
    )
    facts.foreground_intensities = [np.asarray(values, dtype=np.float32) for values in intensities]
    return facts


def _file_problems(path: Path) -> list[str]:
    """What nnU-Net's readers pass over in a NIfTI file.

    The library behind SimpleITK reads a truncated NIfTI as if zeros followed, and turns NaN into 0, so the file is read
    once more by nibabel.
    """
    if not path.name.endswith((".nii", ".nii.gz")):
        return []
    try:
        values = np.asanyarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
    except Exception as error:  # gzip, zlib, struct and nibabel raise their own kinds
        return [f"cannot be read, it may be truncated ({_one_line(error)})"]
    bad = int((~np.isfinite(values)).sum())
    return [f"holds {bad} voxels that are NaN or infinite"] if bad else []


def _image_problems(image_czyx: npt.NDArray[Any], raw: RawDataset) -> list[str]:
    problems = []
    if image_czyx.shape[0] != len(raw.channels):
        problems.append(f"image has {image_czyx.shape[0]} channels, dataset.json declares {len(raw.channels)}")
    bad = int((~np.isfinite(image_czyx)).sum())
    if bad:
        problems.append(f"image holds {bad} voxels that are NaN or infinite")
    elif not image_czyx.any():
        problems.append("image is zero everywhere")
    return problems


def _label_problems(label_zyx: npt.NDArray[Any], classes: Classes) -> list[str]:
    if not np.isfinite(label_zyx).all():
        return ["label holds voxels that are NaN or infinite"]
    unknown = [value for value in np.unique(label_zyx).tolist() if value not in classes.values]
    if not unknown:
        return []
    shown = ", ".join(f"{value:g}" for value in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
    return [f"label holds undeclared values {shown}; dataset.json declares {list(classes.values)}"]


def _files(case: RawCase) -> list[tuple[str, Path]]:
    free = [("free mask", case.free)] if case.free else []
    return [*(("image", path) for path in case.images), ("label", case.label), *free]


def _free_mask_problems(
    raw: RawDataset, case: RawCase, image_czyx: npt.NDArray[Any], image_properties: dict[str, Any]
) -> list[str]:
    if case.free is None:
        return []
    try:
        free_1zyx, free_properties = raw.reader().read_seg(str(case.free))
    except Exception as error:
        return [f"free mask {case.free} cannot be read ({_one_line(error)})"]
    return _grid_problems("free mask", image_czyx, image_properties, free_1zyx, free_properties)


def _grid_problems(
    role: str,
    image_czyx: npt.NDArray[Any],
    image_properties: dict[str, Any],
    label_1zyx: npt.NDArray[Any],
    label_properties: dict[str, Any],
) -> list[str]:
    if image_czyx.shape[1:] != label_1zyx.shape[1:]:
        return [f"{role} has shape {label_1zyx.shape[1:]}, image has {image_czyx.shape[1:]} (z, y, x)"]
    spacing = np.asarray(image_properties["spacing"], dtype=float)
    label_spacing = np.asarray(label_properties["spacing"], dtype=float)
    if not np.allclose(spacing, label_spacing, rtol=GRID_TOLERANCE):
        return [f"{role} has spacing {_numbers(label_spacing)} mm, image has {_numbers(spacing)} mm (z, y, x)"]
    image_place, label_place = image_properties.get("sitk_stuff"), label_properties.get("sitk_stuff")
    if not image_place or not label_place:
        return []  # this reader knows shapes and spacings only
    # A 4D file (all channels in one) has a fourth number in its origin and a 4 x 4 direction.
    origin, label_origin = (np.asarray(place["origin"], dtype=float)[:3] for place in (image_place, label_place))
    if (np.abs(origin - label_origin) > np.maximum(spacing[::-1] * 0.5, GRID_TOLERANCE)).any():
        return [f"{role} has origin {_numbers(label_origin)}, image has {_numbers(origin)} (x, y, z)"]
    direction, label_direction = (_direction(place["direction"]) for place in (image_place, label_place))
    if not np.allclose(direction, label_direction, atol=1e-2):
        return [f"{role} has direction {_numbers(label_direction.ravel())}, image has {_numbers(direction.ravel())}"]
    return []


def _direction(values: Sequence[float]) -> npt.NDArray[np.float64]:
    size = round(len(values) ** 0.5)
    return np.asarray(values, dtype=float).reshape(size, size)[:3, :3]


def _numbers(values: npt.NDArray[np.float64]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
