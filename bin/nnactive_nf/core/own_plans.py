"""A user's plans (`--plans`): a file as nnU-Net's planner writes it, held against the data set before it is followed.

Of the file the configuration that is asked for is taken, with what it inherits; others in it have no say. As with
nnU-Net's own `move_plans_between_datasets` all stays but the data set's name and the reader of its images, intensities
included (`foreground_intensity_properties_per_channel`): networks that were trained by a plan expect its intensities.
"""

from __future__ import annotations

import inspect
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.preprocessing.normalization.default_normalization_schemes import ImageNormalization
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnactive_nf.core.errors import UserError, one_line
from nnactive_nf.core.files import read_object
from nnactive_nf.core.nnunet import build_network
from nnactive_nf.core.plans import FOUND_IN, WRONG, check_plans, nnunets_own
from nnactive_nf.core.raw import RawDataset

INTENSITIES = "foreground_intensity_properties_per_channel"
OLD_INTENSITIES = "foreground_intensity_properties_by_modality"  # of nnU-Net before 2.0 was out
# What nnU-Net's normalization reads of them.
PROPERTIES = ("mean", "std", "percentile_00_5", "percentile_99_5")
# What is read of a file; the rest of what nnU-Net writes may be missing.
OF_PLANS = ("plans_name", "transpose_forward", "transpose_backward", "label_manager", "experiment_planner_used")
OF_CONFIGURATION = (
    "data_identifier", "preprocessor_name", "batch_size", "patch_size", "spacing", "normalization_schemes",
    "use_mask_for_norm", "batch_dice", "architecture",
    *(f"resampling_fn_{kind}{end}" for kind in ("data", "seg", "probabilities") for end in ("", "_kwargs")),
)  # fmt: skip
# Classes that names lead to; nnU-Net would take any object of that name.
KINDS = {"preprocessor_name": DefaultPreprocessor, "normalization_schemes": ImageNormalization}
NAME = re.compile(r"\w[\w.-]{0,99}")  # nnU-Net makes folders of them


def own_plans(path: Path, where: str, configuration: str, raw: RawDataset, name: str) -> dict[str, Any]:
    """A user's plans for a data set.

    Args:
        path: the file.
        where: how messages name it.
        configuration: the one that is asked for; the others are left out.
        raw: the data set.
        name: its name.

    Returns:
        Plans as nnU-Net writes them. `INTENSITIES` is missing where the file has none.

    Raises:
        UserError: it is none, has no such configuration, names what is not nnU-Net's, or does not fit the data set.
    """
    plans = load_plans(path, where, configuration, len(raw.channels), len(raw.classes.channels))
    reader = raw.nnunet_json["overwrite_image_reader_writer"]
    return plans | {"dataset_name": f"Dataset001_{name}", "image_reader_writer": reader}


def load_plans(
    path: Path, where: str, configuration: str, channels: int | None = None, outputs: int = 2
) -> dict[str, Any]:
    """A user's plans, whatever data set they were made for; see `own_plans`.

    Args:
        path: the file.
        where: how messages name it.
        configuration: the one that is asked for.
        channels: the data set's; None where it is not known.
        outputs: a network's: classes, background included, or regions.
    """
    try:
        content = read_object(path)
    except UserError as error:
        raise UserError(*(line.replace(str(path), where, 1) for line in error.lines)) from None
    if set(content) >= {"state", "plans"} and isinstance(content["plans"], dict):  # annotation/plans_<data set>.json
        content = content["plans"]
    plans = _alone(content, where, configuration)
    settings = plans["configurations"][configuration]
    if missing := [*(key for key in OF_PLANS if key not in plans), *(k for k in OF_CONFIGURATION if k not in settings)]:
        raise UserError(f"{where}: it has no {missing[0]}, which nnU-Net's planner writes; take a whole plans file")
    axes, patch = 2 if configuration == "2d" else 3, settings["patch_size"]
    if not isinstance(patch, list) or len(patch) != axes:
        raise UserError(f"{where}: {configuration} wants a patch of {axes} axes, patch_size is {patch}; give them all")
    check_plans(plans, where, configuration)
    channels = channels or len(settings["normalization_schemes"])
    try:
        problems = list(_unfit(plans, settings, configuration, channels)) or list(
            _untried(plans, configuration, channels, outputs)
        )
    except WRONG as error:
        problems = [f"not plans that are followed here ({type(error).__name__}: {one_line(error)})"]
    if problems:
        raise UserError(*(f"{where}: {problem}" for problem in problems))
    intensities = plans.pop(OLD_INTENSITIES, None)
    if not plans.setdefault(INTENSITIES, intensities):
        del plans[INTENSITIES]
    return plans


def _alone(content: Mapping[str, Any], where: str, configuration: str) -> dict[str, Any]:
    """Plans with one configuration, written out whole in nnU-Net's present form."""
    known = content.get("configurations")
    if not isinstance(known, dict) or not known:
        raise UserError(f"{where}: no plans of nnU-Net's, which hold 'configurations'; take its nnUNetPlans.json")
    if configuration not in known:
        raise UserError(
            f"{where}: it has no configuration {configuration}, only {', '.join(known)}; name one of them by "
            "--configuration, or in the file as that"
        )
    try:
        with warnings.catch_warnings(action="ignore"):  # of plans by older versions, which lack the architecture
            settings = PlansManager(dict(content)).get_configuration(configuration).configuration
    except WRONG as error:
        raise UserError(
            f"{where}: configuration {configuration} is none of nnU-Net's ({type(error).__name__}: {one_line(error)}); "
            "take one that its planner has written"
        ) from None
    settings.pop("inherits_from", None)
    if settings.get("previous_stage") is not None:
        raise UserError(
            f"{where}: configuration {configuration} is the second stage of a cascade (previous_stage), which is not "
            "trained here; take a configuration that starts from the image"
        )
    settings.pop("next_stage", None)
    return {**content, "configurations": {configuration: settings}}


def _unfit(plans: Mapping[str, Any], settings: Mapping[str, Any], configuration: str, channels: int) -> Iterator[str]:
    """What does not fit the configuration and the data set."""
    for key in ("normalization_schemes", "use_mask_for_norm"):
        if not isinstance(settings[key], list) or len(settings[key]) != channels:
            yield (
                f"{key} of {configuration} is for {len(settings[key])} channels, the data set has {channels}; give "
                "one for each, in their order"
            )
    for key in ("batch_dice", "use_mask_for_norm"):
        if not all(type(value) is bool for value in _listed(settings[key])):
            yield f"{key} of {configuration} is {settings[key]}; true or false is wanted"
    for value in (plans["plans_name"], settings["data_identifier"]):
        if not (isinstance(value, str) and NAME.fullmatch(value)):
            yield f"the name {str(value)[:80]!r} in it (plans_name, data_identifier) is none for a folder; give another"
    if type(settings["batch_size"]) is not int:
        yield f"batch_size of {configuration} is {settings['batch_size']}; a whole number is wanted"
    if not _is_a(LabelManager, plans["label_manager"], FOUND_IN["label_manager"]):
        yield f"label_manager {plans['label_manager']} is none of nnU-Net's; give LabelManager"
    for key, kind in KINDS.items():
        for value in _listed(settings[key]):
            if not _is_a(kind, value, FOUND_IN[key]):
                yield f"{key} {value} of {configuration} is no {kind.__name__} of nnU-Net's; give one"
    yield from _stage_problems(settings["architecture"]["arch_kwargs"], configuration, len(settings["patch_size"]))
    yield from _intensity_problems(plans.get(INTENSITIES, plans.get(OLD_INTENSITIES)), channels)


def _stage_problems(keywords: Mapping[str, Any], configuration: str, axes: int) -> Iterator[str]:
    """Lists as nnU-Net's planner writes them: nnU-Net's trainer and `training_plans` go by their entries."""
    stages = keywords["n_stages"]
    down = "n_blocks_per_stage" if "n_blocks_per_stage" in keywords else "n_conv_per_stage"
    wanted = dict.fromkeys(("features_per_stage", "strides", "kernel_sizes", down), stages)
    for key, number in (wanted | {"n_conv_per_stage_decoder": stages - 1}).items():
        value = keywords.get(key)
        if not isinstance(value, list) or len(value) != number:
            yield f"{key} of {configuration} wants a list of {number} entries for {stages} stages; give one"
        elif key in ("strides", "kernel_sizes") and not all(isinstance(n, list) and len(n) == axes for n in value):
            yield f"{key} of {configuration} wants {axes} numbers for each stage; give a list of them"


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _is_a(kind: type, name: Any, part: str) -> bool:
    """Whether a name, which `check_plans` has let pass, leads to a class of this kind that can be made."""
    found = nnunets_own(name, part)
    return isinstance(found, type) and issubclass(found, kind) and not inspect.isabstract(found)


def _intensity_problems(intensities: Any, channels: int) -> Iterator[str]:
    """What is wrong with the intensities in a file; they may be missing."""
    if not intensities:
        return
    if not isinstance(intensities, dict) or sorted(intensities) != sorted(map(str, range(channels))):
        yield (
            f"{INTENSITIES} holds {len(intensities)} channels, the data set has {channels}; give all by their numbers "
            "from 0 on, or leave them out to have those of the pool"
        )
        return
    for channel, values in intensities.items():
        numbers = [values.get(key) for key in PROPERTIES] if isinstance(values, dict) else [None]
        if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            yield (
                f"{INTENSITIES} of channel {channel} wants a number each for {', '.join(PROPERTIES)}; give them, or "
                "leave all channels out to have those of the pool"
            )


def _untried(plans: dict[str, Any], configuration: str, channels: int, outputs: int) -> Iterator[str]:
    """What goes wrong when the network sees a patch, of shapes without numbers, and when a few voxels are resampled."""
    settings = PlansManager(plans).get_configuration(configuration)
    patch = tuple(settings.patch_size)
    if wrong := _tried(lambda: _network_problem(settings, channels, outputs)):
        yield (
            f"architecture of {configuration} makes no network for patches of {patch} voxels ({wrong}); strides must "
            "divide the patch, and lists have an entry for each stage"
        )
    for kind, count in {"data": channels, "seg": 1, "probabilities": outputs}.items():
        if wrong := _tried(partial(_resampling_problem, settings, kind, count)):
            yield (
                f"resampling_fn_{kind} of {configuration} with its options does not resample ({wrong}); give one of "
                "nnU-Net's that does, such as resample_data_or_seg_to_shape"
            )


def _tried(problem: Callable[[], str]) -> str:
    """What is wrong by a trial; networks and resampling say whatever they like of arguments that they do not take."""
    try:
        return problem()
    except Exception as error:
        return f"{type(error).__name__}: {one_line(error)}"


def _resampling_problem(settings: ConfigurationManager, kind: str, count: int) -> str:
    resampled = getattr(settings, f"resampling_fn_{kind}")(
        np.zeros((count, 4, 5, 6), np.float32), (5, 5, 5), (1.0, 1.0, 1.2), (0.8, 1.0, 1.44)
    )
    return "" if tuple(resampled.shape) == (count, 5, 5, 5) else f"it makes {tuple(resampled.shape)} voxels"


def _network_problem(settings: ConfigurationManager, channels: int, outputs: int) -> str:
    patch = tuple(settings.patch_size)
    with torch.device("meta"), torch.no_grad():
        network = build_network(settings, channels, outputs, deep_supervision=True)
        found = network(torch.zeros(2, channels, *patch))
    encoder = getattr(network, "encoder", None)
    if not all(hasattr(encoder, name) for name in ("stages", "strides")) or not isinstance(found, list | tuple):
        return "it is no U-Net of nnU-Net's, with stages and deep supervision"
    shape = tuple(found[0].shape[1:])
    return "" if shape == (outputs, *patch) else f"it makes {shape}, wanted is {(outputs, *patch)}"
