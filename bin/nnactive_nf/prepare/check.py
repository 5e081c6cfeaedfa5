"""Checks of every case's voxels before anything else is done: all that is wrong is said at once, by case.

What heads tell (grids, channels) has been checked by CHECK.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.heads import read_head
from nnactive_nf.core.images import read_voxels
from nnactive_nf.core.raw import RawCase, RawDataset


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
    """Read one case and check it: whole files, finite values, declared labels, an image that is not empty."""
    facts = CaseFacts(case.name)
    voxels: dict[str, list[npt.NDArray[Any]]] = {}
    for role, path in _files(case):
        try:
            voxels.setdefault(role, []).append(read_voxels(path, raw.reader, label=role != "image"))
        except UserError as error:
            facts.problems += [f"case {case.name}: {role} {line}" for line in error.lines]
    if facts.problems:
        return facts
    image_czyx = np.vstack(voxels.pop("image"), dtype=np.float32, casting="unsafe")
    (label_1zyx,) = voxels["label"]
    facts.problems = [
        f"case {case.name}: {problem}"
        for problem in (*_image_problems(image_czyx), *_label_problems(label_1zyx, raw.classes))
    ]
    if facts.problems:
        return facts
    facts.shape_zyx = tuple(int(n) for n in image_czyx.shape[1:])
    facts.spacing_mm = read_head(case.images[0], raw.reader).spacing_mm
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


def _files(case: RawCase) -> list[tuple[str, Path]]:
    free = [("free mask", case.free)] if case.free else []
    return [*(("image", path) for path in case.images), ("label", case.label), *free]


def _image_problems(image_czyx: npt.NDArray[np.float32]) -> list[str]:
    if not image_czyx.any():
        return ["image is zero everywhere"]
    same = all(channel.min() == channel.max() for channel in image_czyx)
    return [f"image has one value everywhere ({image_czyx[0].min():g})"] if same else []


def _label_problems(label_zyx: npt.NDArray[Any], classes: Classes) -> list[str]:
    unknown = [value for value in np.unique(label_zyx).tolist() if value not in classes.values]
    if not unknown:
        return []
    shown = ", ".join(f"{value:g}" for value in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
    return [f"label holds undeclared values {shown}; dataset.json declares {list(classes.values)}"]
