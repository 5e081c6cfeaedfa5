"""nnU-Net's own planner: plans from a fingerprint, which is whole (PREPARE) or made of the images' heads alone."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json, write_json
from nnactive_nf.core.geometry import Shape, as_shape
from nnactive_nf.core.heads import Head
from nnactive_nf.core.nnunet import nnunet_folders


def run_planner(nnunet_json: Mapping[str, Any], fingerprint: Mapping[str, Any], name: str) -> dict[str, Any]:
    """nnU-Net's plans for the cases of a fingerprint.

    Args:
        nnunet_json: `dataset.json` for nnU-Net; it must name the reader, so that no image is looked at.
        fingerprint: as nnU-Net writes it to `dataset_fingerprint.json`.
        name: name of the data set, which stands in the plans.

    Returns:
        The content of `nnUNetPlans.json`.
    """
    cases = len(fingerprint["spacings"])
    # The planner wants to know of a file, but asks it for no more than the reader, which is named.
    no_file = {"dataset": {"case": {"images": ["image"], "label": "label"}}, "numTraining": cases}
    with nnunet_folders() as root:
        dataset = f"Dataset001_{name}"
        write_json(root / "raw" / dataset / "dataset.json", {**nnunet_json, **no_file})
        write_json(root / "preprocessed" / dataset / "dataset_fingerprint.json", fingerprint)
        with contextlib.redirect_stdout(io.StringIO()):
            ExperimentPlanner(dataset).plan_experiment()
        plans: dict[str, Any] = read_json(root / "preprocessed" / dataset / "nnUNetPlans.json")
    return plans


def fingerprint_of_heads(heads: Sequence[Head]) -> dict[str, Any]:
    """A fingerprint of all that heads tell: images are taken as uncropped, and nothing is known of intensities.

    Networks, patches and spacings planned from it are those of the whole fingerprint where cropping takes little.
    """
    return {
        "spacings": [list(head.spacing_mm) for head in heads],
        "shapes_after_crop": [list(head.shape_zyx) for head in heads],
        "median_relative_size_after_cropping": 1.0,
        "foreground_intensity_properties_per_channel": {},
    }


def known_configuration(plans: Mapping[str, Any], configuration: str) -> None:
    """`UserError` where the plans have no such configuration."""
    if configuration not in plans["configurations"]:
        known = sorted(key for key in plans["configurations"] if "cascade" not in key)
        raise UserError(f"configuration {configuration}: nnU-Net plans none for these images; it plans {known}")


def planned_spacing(
    plans: Mapping[str, Any], configuration: str, spacing_mm: Sequence[float]
) -> tuple[float, float, float]:
    """Voxel size (z, y, x) to which an image is resampled. A 2D configuration keeps the spacing between its slices.

    Args:
        plans: nnU-Net's plans.
        configuration: one of the plans'.
        spacing_mm: voxel size (z, y, x) of the image's file.
    """
    spacing = list(plans["configurations"][configuration]["spacing"])
    if len(spacing) == 2:
        spacing = [spacing_mm[plans["transpose_forward"][0]], *spacing]
    z, y, x = (float(spacing[axis]) for axis in plans["transpose_backward"])
    return z, y, x


def planned_shape(plans: Mapping[str, Any], configuration: str, head: Head) -> Shape:
    """Shape (z, y, x) of an uncropped image after resampling."""
    spacing = planned_spacing(plans, configuration, head.spacing_mm)
    return as_shape(max(1, int(n)) for n in compute_new_shape(head.shape_zyx, head.spacing_mm, spacing))
