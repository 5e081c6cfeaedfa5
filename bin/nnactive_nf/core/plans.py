"""nnU-Net's plans as they come out of a file: what is refused before anything is built from them.

nnU-Net resolves names in its plans to Python objects and calls them, so a plan from elsewhere can name any program.
Here a name must lead to a network or layer of `torch.nn` and `dynamic_network_architectures`, or to nnU-Net's own class
or function of that kind; all that sets a length or a size is bounded. To look names up nnU-Net and torch are loaded,
which takes seconds: not before they are needed, since most stages ask no more of plans than the order of the axes.
"""

from __future__ import annotations

import math
import pydoc
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError

NETWORK_PACKAGES = ("torch.nn", "dynamic_network_architectures")

# Keys whose value nnU-Net looks up by name, and the part of its package in which it looks.
FOUND_IN = {
    "label_manager": "utilities.label_handling",
    "image_reader_writer": "imageio",
    "experiment_planner_used": "experiment_planning",
    "preprocessor_name": "preprocessing",
    "resampling_fn_data": "preprocessing.resampling",
    "resampling_fn_seg": "preprocessing.resampling",
    "resampling_fn_probabilities": "preprocessing.resampling",
    "normalization_schemes": "preprocessing.normalization",
}

MOST_STAGES = 20  # nnU-Net plans 8 at most
MOST_FEATURES = 1 << 14
MOST_PATCH = 1 << 13  # voxels along an axis

# What a wrong structure raises in these checks and in nnU-Net's own reading of plans.
WRONG = (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError, AssertionError, RecursionError)


def check_plans(plans: Any, where: str, configuration: str | None = None) -> None:
    """Refuse plans that name what is no part of a network, or that are none.

    Args:
        plans: the content of a file.
        where: how messages name the file.
        configuration: the configuration that will be used, where it is known; it must be there.

    Raises:
        UserError: one line for all that is wrong.
    """
    try:
        problems = list(_problems(plans, configuration))
    except WRONG as error:
        problems = [f"{type(error).__name__}: {error}"]
    _refuse(problems, where)


def _refuse(problems: Sequence[str], where: str) -> None:
    if problems:
        raise UserError(f"{where}: not plans that are followed here ({'; '.join(problems)})".replace("\n", " "))


def check_axes(plans: Any, where: str) -> None:
    """Refuse plans whose axes cannot be followed; all else in them is not looked at."""
    try:
        problems = list(_orders(plans))
    except WRONG as error:
        problems = [f"{type(error).__name__}: {error}"]
    _refuse(problems, where)


def check_nnunet_json(content: Any, where: str) -> None:
    """Refuse what is no `dataset.json` for nnU-Net with labels by index, as PREPARE writes it."""
    content = content if isinstance(content, dict) else {}
    labels, channels = content.get("labels"), content.get("channel_names")
    known = isinstance(labels, dict) and {"background", "ignore"} <= set(labels)
    listed = known and bool(label_order(content))
    counted = known and not listed and all(type(value) is int for value in labels.values())
    if not listed and (not counted or sorted(labels.values()) != list(range(len(labels)))):
        raise UserError(f"{where}: 'labels' wants background, the other classes and ignore by their index, from 0 on")
    if not isinstance(channels, dict) or not channels:
        raise UserError(f"{where}: 'channel_names' wants channels by their numbers")
    if listed:
        _check_regions(content, where)
        return
    if labels["background"] != 0 or labels["ignore"] != len(labels) - 1:
        raise UserError(f"{where}: 'labels' wants background first and ignore last")
    if content.get("regions_class_order") is not None:
        raise UserError(f"{where}: 'regions_class_order' is there, but no label that is a list")


def label_order(nnunet_json: Mapping[str, Any]) -> list[list[Any]]:
    """Names and labels of a `dataset.json` in the order of the network's channels, where there are regions.

    Two that differ in this order alone are equal as mappings, and other networks. Without regions a label's index is
    its channel, the order says nothing, and the list is empty.
    """
    labels = nnunet_json.get("labels")
    items = [[name, value] for name, value in labels.items()] if isinstance(labels, Mapping) else []
    return items if any(isinstance(value, list) for _, value in items) else []


def heads_of(nnunet_json: Mapping[str, Any]) -> int:
    """Output channels of a network for a checked `dataset.json`: a class each, or a region each and no background."""
    return len(nnunet_json["labels"]) - (2 if label_order(nnunet_json) else 1)  # the ignore label has none


def _check_regions(content: Mapping[str, Any], where: str) -> None:
    """Hold regions by index against what is written of them here."""
    order = content.get("regions_class_order")
    labels = {name: value for name, value in content["labels"].items() if name != "ignore"}
    wanted = Classes.of(labels, where, order).for_nnunet(ignore=True)
    as_written = label_order(wanted) == label_order(content) and wanted.get("regions_class_order") == order
    if not as_written or type(content["labels"]["ignore"]) is not int:
        raise UserError(f"{where}: 'labels' wants background, regions of indices from 1 on, and ignore, in this order")


def _problems(plans: Any, configuration: str | None) -> Iterator[str]:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    if not isinstance(plans, Mapping):
        yield "an object is wanted"
        return
    yield from _orders(plans)
    yield from _names(plans, ("label_manager", "image_reader_writer", "experiment_planner_used"))
    configurations = plans.get("configurations", {})
    if configuration is not None and configuration not in configurations:
        yield f"no configuration '{configuration}' in them"
        return
    for name in configurations:
        with warnings.catch_warnings(action="ignore"):  # of plans by older versions, which lack the architecture
            settings = PlansManager(dict(plans)).get_configuration(name).configuration
        yield from (f"{name}: {problem}" for problem in _configuration(settings))


def _orders(plans: Mapping[str, Any]) -> Iterator[str]:
    forward, backward = plans["transpose_forward"], plans["transpose_backward"]
    if sorted(forward) != [0, 1, 2] or [forward[axis] for axis in backward] != [0, 1, 2]:
        yield f"axes {forward} and back {backward} are no order of three axes"


def _configuration(settings: Mapping[str, Any]) -> Iterator[str]:
    yield from _names(settings, [key for key in FOUND_IN if key in settings])
    patch, spacing = settings["patch_size"], settings["spacing"]
    if len(patch) not in (2, 3) or not all(_whole(n, 1, MOST_PATCH) for n in patch):
        yield f"patch_size {patch}"
    if len(spacing) != len(patch) or not all(_positive(mm) for mm in spacing):
        yield f"spacing {spacing}"
    if not _whole(settings.get("batch_size", 1), 1, 1 << 20):
        yield f"batch_size {settings['batch_size']}"
    yield from _architecture(settings["architecture"], len(patch))


def _architecture(architecture: Mapping[str, Any], axes: int) -> Iterator[str]:
    keywords, resolved = architecture["arch_kwargs"], architecture["_kw_requires_import"]
    named = {"network_class_name": architecture["network_class_name"]} | {
        key: keywords[key] for key in resolved if keywords[key] is not None
    }
    yield from (
        f"{key} '{name}' is no network of torch or nnU-Net"
        for key, name in named.items()
        if not (isinstance(name, str) and _layer(name))
    )
    stages = keywords["n_stages"]
    if not _whole(stages, 1, MOST_STAGES):
        yield f"n_stages {stages}"
        return
    for key, value in keywords.items():
        if isinstance(value, Sequence) and not isinstance(value, str) and len(value) > stages:
            yield f"{key} is longer than there are stages"
    for key, most in {"features_per_stage": MOST_FEATURES, "strides": 64, "kernel_sizes": 64}.items():
        numbers = list(_flat(keywords[key]))
        if len(numbers) > stages * axes or not all(_whole(number, 1, most) for number in numbers):
            yield f"{key} {str(numbers)[:80]}"
    for key in ("n_conv_per_stage", "n_conv_per_stage_decoder", "n_blocks_per_stage"):
        if not all(_whole(number, 1, MOST_STAGES) for number in _flat(keywords.get(key, []))):
            yield f"{key} {str(keywords[key])[:80]}"


def _flat(value: Any) -> Iterator[Any]:
    for item in value if isinstance(value, list | tuple) else [value]:
        yield from item if isinstance(item, list | tuple) else [item]


def _whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _positive(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > 0


def _names(settings: Mapping[str, Any], keys: Sequence[str]) -> Iterator[str]:
    for key in keys:
        for name in _flat(settings.get(key, [])):
            if not isinstance(name, str) or nnunets_own(name, FOUND_IN[key]) is None:
                yield f"{key} '{name}' is none of nnU-Net's"


@cache
def _layer(name: str) -> bool:
    """Whether a name leads to a class of network layers that is defined in one of the packages for them.

    The path to it is not enough: `torch.nn.functional.torch.os.system` begins with `torch.nn` too.
    """
    import torch

    if not name.startswith(tuple(f"{package}." for package in NETWORK_PACKAGES)):
        return False
    try:
        found = pydoc.locate(name)
    except pydoc.ErrorDuringImport:
        return False
    return isinstance(found, type) and issubclass(found, torch.nn.Module) and _defined_in(found, NETWORK_PACKAGES)


@cache
def nnunets_own(name: str, part: str) -> Any:
    """What nnU-Net, which looks for this name in a part of its package, finds there; None where it is not its own."""
    import nnunetv2
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    folder = Path(nnunetv2.__path__[0]).joinpath(*part.split("."))
    found = recursive_find_python_class(str(folder), name, f"nnunetv2.{part}") if name.isidentifier() else None
    return found if callable(found) and _defined_in(found, (f"nnunetv2.{part}",)) else None


def _defined_in(found: Any, packages: Sequence[str]) -> bool:
    module = f"{getattr(found, '__module__', '')}."
    return any(module.startswith(f"{package}.") for package in packages)
