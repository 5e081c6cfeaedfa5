"""nnU-Net's plans for the pool: fingerprint, target spacing, network topology."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json, write_json
from nnactive_nf.core.nnunet import nnunet_folders
from nnactive_nf.prepare.check import CaseFacts
from nnactive_nf.prepare.raw import RawDataset

# nnU-Net samples this many foreground intensities of a data set, split over its cases.
FINGERPRINT_SAMPLES = 10_000_000


def plan(raw: RawDataset, facts: Sequence[CaseFacts], configuration: str, name: str) -> dict[str, Any]:
    """nnU-Net's plans from the pool's cases alone; the test set has no say.

    Raises:
        UserError: nnU-Net plans no such configuration for these images.
    """
    with nnunet_folders() as root:
        dataset_name = f"Dataset001_{name}"
        files = {
            case.name: {"images": [str(path.resolve()) for path in case.images], "label": str(case.label.resolve())}
            for case in raw.cases
            if case.name in {fact.name for fact in facts}
        }
        write_json(
            root / "raw" / dataset_name / "dataset.json",
            raw.nnunet_json | {"dataset": files, "numTraining": len(files)},
        )
        write_json(root / "preprocessed" / dataset_name / "dataset_fingerprint.json", _fingerprint(facts))
        with contextlib.redirect_stdout(io.StringIO()):
            ExperimentPlanner(dataset_name).plan_experiment()
        plans: dict[str, Any] = read_json(root / "preprocessed" / dataset_name / "nnUNetPlans.json")
    if configuration not in plans["configurations"]:
        known = sorted(key for key in plans["configurations"] if "cascade" not in key)
        raise UserError(f"configuration {configuration}: nnU-Net plans none for these images; it plans {known}")
    return plans


def _fingerprint(facts: Sequence[CaseFacts]) -> dict[str, Any]:
    channels = range(len(facts[0].foreground_intensities))
    intensities = [np.concatenate([fact.foreground_intensities[i] for fact in facts]) for i in channels]
    return {
        "spacings": [list(fact.spacing_mm) for fact in facts],
        "shapes_after_crop": [list(fact.shape_after_crop) for fact in facts],
        "median_relative_size_after_cropping": float(np.median([fact.relative_size_after_crop for fact in facts])),
        "foreground_intensity_properties_per_channel": {
            str(i): {
                "mean": float(values.mean(dtype=np.float64)),
                "median": float(np.median(values)),
                "std": float(values.std(dtype=np.float64)),
                "min": float(values.min()),
                "max": float(values.max()),
                "percentile_99_5": float(np.percentile(values, 99.5)),
                "percentile_00_5": float(np.percentile(values, 0.5)),
            }
            for i, values in enumerate(intensities)
        },
    }
