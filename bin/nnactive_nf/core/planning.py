"""nnU-Net's own planner: plans from a fingerprint, which is whole (PREPARE) or made of the images' heads alone."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    nnUNetPlannerResEncL,
    nnUNetPlannerResEncM,
    nnUNetPlannerResEncXL,
)
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json, write_json
from nnactive_nf.core.geometry import Shape, as_shape
from nnactive_nf.core.heads import Head
from nnactive_nf.core.nnunet import nnunet_folders

# nnU-Net's own planners that may be asked for, as `nextflow_schema.json` lists them.
PLANNERS: dict[str, type[ExperimentPlanner]] = {
    planner.__name__: planner
    for planner in (ExperimentPlanner, nnUNetPlannerResEncM, nnUNetPlannerResEncL, nnUNetPlannerResEncXL)
}
PLANNER = ExperimentPlanner.__name__


def run_planner(
    nnunet_json: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    name: str,
    cases: int | None = None,
    planner_name: str = PLANNER,
) -> dict[str, Any]:
    """nnU-Net's plans for the cases of a fingerprint.

    Args:
        nnunet_json: `dataset.json` for nnU-Net; it must name the reader, so that no image is looked at.
        fingerprint: as nnU-Net writes it to `dataset_fingerprint.json`.
        name: name of the data set, which stands in the plans.
        cases: how many cases there are where the fingerprint is of some of them. nnU-Net caps the batch by it.
        planner_name: one of `PLANNERS`.

    Returns:
        The content of the file that the planner writes, `nnUNetPlans.json` for the default one.
    """
    with _planner(nnunet_json, fingerprint, name, cases, planner_name) as (planner, folder):
        planner.plan_experiment()
        plans: dict[str, Any] = read_json(folder / f"{planner.plans_identifier}.json")
    return plans


@contextlib.contextmanager
def _planner(
    nnunet_json: Mapping[str, Any], fingerprint: Mapping[str, Any], name: str, cases: int | None, planner_name: str
) -> Iterator[tuple[ExperimentPlanner, Path]]:
    """nnU-Net's planner, silent, with the folder that it writes its plans to."""
    # The planner wants to know of a file, but asks it for no more than the reader, which is named.
    no_file = {"dataset": {"case": {"images": ["image"], "label": "label"}}}
    known = {**nnunet_json, **no_file, "numTraining": cases or len(fingerprint["spacings"])}
    with nnunet_folders() as root:
        dataset = f"Dataset001_{name}"
        folder = root / "preprocessed" / dataset
        write_json(root / "raw" / dataset / "dataset.json", known)
        write_json(folder / "dataset_fingerprint.json", fingerprint)
        # It builds networks to know how large they are; on this device they have shapes and no numbers.
        with contextlib.redirect_stdout(io.StringIO()), torch.device("meta"):
            yield PLANNERS[planner_name](dataset), folder


def planned_gpu_gb(plans: Mapping[str, Any], configuration: str, channels: int, classes: int) -> float:
    """GPU memory in GB that nnU-Net's planner takes a training by these plans for.

    The planner shrinks the patch, or enlarges the batch, until its estimate of the feature maps times the batch is a
    reference that stands for a known amount of memory; this is the same proportion (`get_plans_for_configuration`).
    """
    settings = PlansManager(dict(plans)).get_configuration(configuration)
    nnunet_json = {
        "channel_names": {str(index): "image" for index in range(channels)},
        "labels": {f"class {index}": index for index in range(classes)},
        "file_ending": ".nii.gz",
    }
    name = plans["experiment_planner_used"]
    if name not in PLANNERS:  # of a user's plans; all planners scale the same reference
        residual = "n_blocks_per_stage" in settings.network_arch_init_kwargs
        name = nnUNetPlannerResEncM.__name__ if residual else PLANNER
    with _planner(nnunet_json, fingerprint_of_heads([]), "memory", 1, name) as (planner, _):
        estimate = planner.static_estimate_VRAM_usage(
            settings.patch_size,
            channels,
            classes,
            settings.network_arch_class_name,
            settings.network_arch_init_kwargs,
            settings.network_arch_init_kwargs_req_import,
        )
        kind = f"{len(settings.patch_size)}d"
        reference = getattr(planner, f"UNet_reference_val_{kind}") * getattr(
            planner, f"UNet_reference_val_corresp_bs_{kind}"
        )
        return float(estimate * settings.batch_size / reference * planner.UNet_reference_val_corresp_GB)


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
