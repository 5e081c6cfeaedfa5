"""Plans for the pool, nnU-Net's or the user's: fingerprint, target spacing, network topology."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json, write_json
from nnactive_nf.core.own_plans import INTENSITIES, own_plans
from nnactive_nf.core.planning import PLANNER, known_configuration, run_planner
from nnactive_nf.core.plans import check_plans
from nnactive_nf.core.raw import RawDataset
from nnactive_nf.prepare.check import CaseFacts

# nnU-Net samples this many foreground intensities of a data set, split over its cases.
FINGERPRINT_SAMPLES = 10_000_000


def plan(
    raw: RawDataset, facts: Sequence[CaseFacts], configuration: str, name: str, planner: str = PLANNER
) -> dict[str, Any]:
    """nnU-Net's plans from the pool's cases alone; the test set has no say.

    Intensities are those of the foreground in cases with labels, or where no case has any labelled, of the body.

    Raises:
        UserError: nnU-Net plans no such configuration for these images.
    """
    plans = run_planner(raw.nnunet_json, _fingerprint(facts), name, planner_name=planner)
    known_configuration(plans, configuration)
    return plans


def users_plan(
    raw: RawDataset, facts: Sequence[CaseFacts], configuration: str, name: str, path: Path
) -> dict[str, Any]:
    """The user's plans; where the file tells no intensities, with those of the pool's cases.

    Raises:
        UserError: as `own_plans`.
    """
    plans = own_plans(path, f"--plans {path}", configuration, raw, name)
    return plans if plans.get(INTENSITIES) else plans | intensities(facts)


def keep_plans(path: Path, plans: Mapping[str, Any], state: str) -> None:
    """Write the plans that packages are handed out by, with the state of the data set's files that they are for."""
    write_json(path, {"state": state, "plans": plans})


def kept_plans(
    path: Path, configuration: str, planner: str, channels: int, own: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Plans that packages were handed out by, for a pool that more cases have joined.

    Args:
        path: file of `keep_plans`.
        configuration: what is asked for now.
        channels: the data set's.
        planner: the planner that is asked for now, where it plans.
        own: the user's plans, where they are given now: those of then must be the same but for intensities that the
            file does not tell.

    Raises:
        UserError: they are none, or of another planner, configuration or number of channels than is asked for, or
            others than the user's.
    """
    content = read_json(path)
    plans: dict[str, Any] = content.get("plans", {}) if isinstance(content, dict) else {}
    check_plans(plans, str(path))
    known = len(plans.get(INTENSITIES, {}))
    if own is not None:
        planner = plans.get("experiment_planner_used", planner)
    asked = {"planner": planner, "configuration": configuration, "channels": channels}
    there = {
        "planner": plans.get("experiment_planner_used"),
        "configuration": configuration if configuration in plans.get("configurations", {}) else None,
        "channels": known,
    }
    if wrong := [name for name in asked if asked[name] != there[name]]:
        name = wrong[0]
        raise UserError(
            f"{name} {asked[name]}: patches were handed out by plans for {there[name] or 'others'}, by which alone "
            "they can be taken in; keep to these, or begin in another --outdir"
        )
    if own is not None and plans != {INTENSITIES: plans[INTENSITIES], **own}:
        raise UserError(
            "--plans: patches were handed out by other plans, by which alone they can be taken in; give those (leave "
            "--plans out if there were none), or begin in another --outdir"
        )
    return plans


def _fingerprint(facts: Sequence[CaseFacts]) -> dict[str, Any]:
    return {
        "spacings": [list(fact.head.spacing_mm) for fact in facts],
        "shapes_after_crop": [list(fact.crop.size_zyx) for fact in facts],
        "median_relative_size_after_cropping": float(np.median([fact.relative_size_after_crop for fact in facts])),
        **intensities(facts),
    }


def intensities(facts: Sequence[CaseFacts]) -> dict[str, Any]:
    """What fingerprint and plans hold of intensities: of the cases with labelled foreground, where there are such."""
    channels = range(len(facts[0].foreground_intensities))
    sampled = [fact for fact in facts if any(fact.class_voxels[1:])] or facts
    of_channel = [np.concatenate([fact.foreground_intensities[i] for fact in sampled]) for i in channels]
    return {
        INTENSITIES: {
            str(i): {
                "mean": float(values.mean(dtype=np.float64)),
                "median": float(np.median(values)),
                "std": float(values.std(dtype=np.float64)),
                "min": float(values.min()),
                "max": float(values.max()),
                "percentile_99_5": float(np.percentile(values, 99.5)),
                "percentile_00_5": float(np.percentile(values, 0.5)),
            }
            for i, values in enumerate(of_channel)
        },
    }
