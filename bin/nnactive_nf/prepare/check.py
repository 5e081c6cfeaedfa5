"""Checks of every case's voxels before anything else is done: all that is wrong is said at once, by case.

What heads tell (grids, channels) has been checked by CHECK.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box, as_shape
from nnactive_nf.core.heads import Head, read_head
from nnactive_nf.core.images import read_voxels
from nnactive_nf.core.raw import RawCase, RawDataset

BODY_HU = -300.0  # air and lungs lie below


@dataclass
class CaseFacts:
    """What one reading of a case tells.

    Attributes:
        name: the case.
        problems: what is wrong with it, one line each; where there is something, the rest is not set.
        head: grid of its first image file.
        class_voxels: voxels of each of `Classes.named`, in its order; all 0 where there is no label file.
        labelled_voxels: voxels of the file that have a label; fewer than it holds where it is labelled in part.
        crop: the box of non-zero voxels on the file's grid.
        foreground_intensities: per channel a sample of the foreground's intensities, for nnU-Net's fingerprint; where
            no foreground is labelled, of the body's.
    """

    name: str
    problems: list[str] = field(default_factory=list)
    head: Head = field(init=False)
    class_voxels: tuple[int, ...] = field(init=False)
    labelled_voxels: int = field(init=False)
    crop: Box = field(init=False)
    foreground_intensities: list[npt.NDArray[np.float32]] = field(init=False)

    @property
    def labelled(self) -> bool:
        """Whether anything of it is labelled."""
        return self.labelled_voxels > 0

    @property
    def in_part(self) -> bool:
        """Whether voxels of it are labelled, and others not."""
        return 0 < self.labelled_voxels < self.head.voxels

    @property
    def relative_size_after_crop(self) -> float:
        """Share of the voxels in the box of those that are not zero."""
        return self.crop.voxels / self.head.voxels


def check_case(raw: RawDataset, case: RawCase, samples: int) -> CaseFacts:
    """Read one case and check it: whole files, finite values, declared labels, an image that is not empty.

    Where people label, a case may have no label file, or voxels in it that have the ignore value.
    """
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
    label_1zyx = voxels["label"][0] if case.labelled else None
    facts.problems = [
        f"case {case.name}: {problem}"
        for problem in (
            *_image_problems(image_czyx),
            *(() if label_1zyx is None else _label_problems(label_1zyx, raw)),
        )
    ]
    if facts.problems:
        return facts
    facts.head = read_head(case.images[0], raw.reader)
    facts.class_voxels, facts.labelled_voxels = (0,) * len(raw.classes.named), 0
    if label_1zyx is not None:
        facts.class_voxels = tuple(raw.classes.counts(label_1zyx).values())
        facts.labelled_voxels = int(np.count_nonzero(np.isin(label_1zyx, raw.classes.values)))
    if label_1zyx is not None and any(facts.class_voxels[1:]):
        sampled_1zyx = np.where(label_1zyx == raw.ignore, 0, label_1zyx)
    else:
        sampled_1zyx = body_of(image_czyx, raw.channels)
    cropped, cropped_label, bounds = crop_to_nonzero(image_czyx, sampled_1zyx.astype(np.int32))
    facts.crop = Box(as_shape(low for low, _ in bounds), as_shape(cropped.shape[1:]))
    intensities, _ = DatasetFingerprintExtractor.collect_foreground_intensities(
        cropped_label, cropped, num_samples=samples
    )
    facts.foreground_intensities = [np.asarray(values, dtype=np.float32) for values in intensities]
    return facts


def body_of(image_czyx: npt.NDArray[np.float32], channels: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Mask `[1, z, y, x]` of voxels that stand for the foreground of a case without labels.

    The body in CT (all that is denser than lungs), what is not zero in any other image. nnU-Net normalises CT by the
    foreground's intensities.
    """
    inside = [
        image > BODY_HU if name.upper() == "CT" else image != 0
        for image, name in zip(image_czyx, channels, strict=True)
    ]
    return np.any(inside, axis=0, keepdims=True).astype(np.uint8)


def _files(case: RawCase) -> list[tuple[str, Path]]:
    free = [("free mask", case.free)] if case.free else []
    label = [("label", case.label)] if case.labelled else []
    return [*(("image", path) for path in case.images), *label, *free]


def _image_problems(image_czyx: npt.NDArray[np.float32]) -> list[str]:
    if not image_czyx.any():
        return ["image is zero everywhere"]
    same = all(channel.min() == channel.max() for channel in image_czyx)
    return [f"image has one value everywhere ({image_czyx[0].min():g})"] if same else []


def _label_problems(label_zyx: npt.NDArray[Any], raw: RawDataset) -> list[str]:
    known = [*raw.classes.values, *([] if raw.ignore is None else [raw.ignore])]
    unknown = [value for value in np.unique(label_zyx).tolist() if value not in known]
    if not unknown:
        return []
    shown = ", ".join(f"{value:g}" for value in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
    return [f"label holds undeclared values {shown}; dataset.json declares {known}"]
