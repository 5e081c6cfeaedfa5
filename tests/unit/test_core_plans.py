"""Plans that come out of a file name networks and nothing else; what would run a program is refused before it runs."""

from __future__ import annotations

import copy
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from conftest import ROOT

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.ensemble import Ensemble
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import write_json
from nnactive_nf.core.nnunet import load_fold, save_fold

CPU = torch.device("cpu")


def network_of(plans: dict[str, Any]) -> dict[str, Any]:
    return plans["configurations"]["3d_fullres"]["architecture"]


def keyword(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda plans: network_of(plans)["arch_kwargs"].update(changes)


def setting(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda plans: plans["configurations"]["3d_fullres"].update(changes)


def test_a_command_in_the_plans_of_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    """nnU-Net would call `subprocess.Popen(args=...)` for the network's first layer."""
    fold = tiny.some_fold()
    plans = copy.deepcopy(fold.plans)
    keyword(nonlin="subprocess.Popen", nonlin_kwargs={"args": ["touch", str(tmp_path / "ran")]})(plans)
    save_fold(tmp_path / "fold.pth", replace(fold, plans=plans))
    message = f"{tmp_path}/fold.pth: not plans .*nonlin 'subprocess.Popen' is no network of torch or nnU-Net"
    with pytest.raises(UserError, match=message):
        Ensemble([tmp_path / "fold.pth"], CPU, 0.5, False)
    assert not (tmp_path / "ran").exists()


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_command_in_the_properties_of_a_case_does_not_run(tmp_path: Path) -> None:
    dataset = tiny.prepared(tmp_path / "prepared", {"a": (4, 4, 4), "b": (4, 4, 4)})
    assert dataset.properties("a")["spacing"] == [2.0, 1.0, 1.0]
    path = tmp_path / "prepared" / "network" / "a.pkl"
    path.write_bytes(pickle.dumps({"spacing": Touch(tmp_path / "ran")}))
    with pytest.raises(UserError, match=re.escape(f"{path}: not a pickle of plain values")):
        dataset.properties("a")
    assert not (tmp_path / "ran").exists()


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a layer by a way round": (
        keyword(nonlin="torch.nn.functional.torch.os.system"), r"nonlin 'torch.nn.functional.torch.os.system' is no"
    ),
    "a layer that is a function": (keyword(norm_op="torch.nn.init.normal_"), "norm_op 'torch.nn.init.normal_' is no"),
    "a layer that is nothing": (keyword(conv_op="torch.nn.Conv9d"), "conv_op 'torch.nn.Conv9d' is no network"),
    "a layer that is a number": (keyword(conv_op=3), "conv_op '3' is no network"),
    "a network that is a class of another kind": (
        lambda p: network_of(p).update(network_class_name="torch.nn.Parameter"), "network_class_name 'torch.nn.Para"
    ),
    "a network elsewhere": (lambda p: network_of(p).update(network_class_name="os.system"), "'os.system' is no netw"),
    "a keyword that is no name": (
        lambda p: network_of(p)["_kw_requires_import"].append("strides"), "strides .* is no network"
    ),
    "a keyword that is missing": (lambda p: network_of(p)["_kw_requires_import"].append("nothing"), "KeyError"),
    "labels by another program": (lambda p: p.update(label_manager="print"), "label_manager 'print' is none of nnU"),
    "labels by what nnU-Net imports": (lambda p: p.update(label_manager="join"), "label_manager 'join' is none of"),
    "resampling by another program": (setting(resampling_fn_probabilities="np"), "resampling_fn_probabilities 'np' is"),
    "preprocessing by a path": (setting(preprocessor_name="a.b"), "preprocessor_name 'a.b' is none of nnU-Net's"),
    "normalization by a number": (setting(normalization_schemes=[1]), "normalization_schemes '1' is none of nnU-Net's"),
    "too many stages": (keyword(n_stages=10**9), "n_stages 1000000000"),
    "too many features": (keyword(features_per_stage=[10**9, 2]), "features_per_stage"),
    "no features": (keyword(features_per_stage=[0, 2]), "features_per_stage"),
    "strides of text": (keyword(strides="12"), "strides"),
    "kernels for more stages": (keyword(kernel_sizes=[[3, 3, 3]] * 9), "kernel_sizes is longer than there are stages"),
    "convolutions without end": (keyword(n_conv_per_stage=[10**9, 1]), "n_conv_per_stage"),
    "a patch without size": (setting(patch_size=[0, 4, 4]), r"patch_size \[0, 4, 4\]"),
    "a patch of one axis": (setting(patch_size=[4]), r"patch_size \[4\]"),
    "a spacing that is not": (setting(spacing=[1.0, float("nan"), 1.0]), "spacing"),
    "axes twice": (lambda p: p.update(transpose_forward=[0, 0, 1]), "are no order of three axes"),
    "axes that do not lead back": (lambda p: p.update(transpose_backward=[1, 0, 2]), "are no order of three axes"),
    "a circle": (setting(inherits_from="3d_fullres"), "RuntimeError: Circular"),
    "no configurations": (lambda p: p.update(configurations={}), "no configuration '3d_fullres' in them"),
    "a list of configurations": (lambda p: p.update(configurations=[]), "no configuration '3d_fullres' in them"),
    "no architecture": (lambda p: p["configurations"]["3d_fullres"].pop("architecture"), "KeyError"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_plans_that_are_not_followed(name: str, tmp_path: Path) -> None:
    breaks, message = BROKEN[name]
    fold = tiny.some_fold()
    plans = copy.deepcopy(fold.plans)
    breaks(plans)
    save_fold(tmp_path / "fold.pth", replace(fold, plans=plans))
    with pytest.raises(UserError) as told:
        load_fold(tmp_path / "fold.pth")
    (line,) = told.value.lines
    assert line.startswith(f"{tmp_path}/fold.pth: not plans that are followed here (") and "\n" not in line
    assert re.search(message, line), line


def test_plans_of_a_prepared_folder_are_checked_too(tmp_path: Path) -> None:
    folder = tmp_path / "prepared"
    plans = tiny.prepared(folder, {"a": (4, 4, 4)}).plans
    write_json(folder / "plans.json", plans | {"label_manager": "exec"})
    with pytest.raises(UserError, match=re.escape(f"{folder}/plans.json: not plans")):
        _ = Dataset.open(folder).plans
    for axes in ([0, 0, 1], [1, 2, 0], None, "zyx"):  # an image asks no more of them than these
        write_json(folder / "plans.json", plans | {"transpose_forward": axes})
        with pytest.raises(UserError, match=re.escape(f"{folder}/plans.json: not plans")):
            Dataset.open(folder).image("a")


@pytest.mark.parametrize("stage", ["annotate", "query", "views", "hand_out"])
def test_stages_without_a_network_start_without_torch(stage: str) -> None:
    """It takes seconds to load, in each of a study's thousands of tasks."""
    code = f"import nnactive_nf.{stage}.run, sys; print({{'torch', 'pandas'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "bin")
    assert done.stdout == "{'pandas'}\n"


def test_weights_are_those_of_the_planned_network(tmp_path: Path) -> None:
    path = tmp_path / "fold.pth"
    fold = tiny.some_fold()
    save_fold(path, fold)
    content = torch.load(path, weights_only=True)
    some, values = next(iter(fold.weights.items()))
    foreign = "its weights are not those of the network in its plans"
    for weights, message in [
        ({some: values}, foreign),
        (fold.weights | {"more": values}, foreign),
        (fold.weights | {some: "text"}, foreign),
        (fold.weights | {some: values[:1]}, foreign),
        (fold.weights | {some: values * float("nan")}, "it holds weights that are not finite"),
        ([1, 2], "damaged checkpoint"),
    ]:
        torch.save(content | {"weights": weights}, path)
        with pytest.raises(UserError, match=message):
            load_fold(path)
    save_fold(path, replace(fold, mirror_axes=(0, 3)))
    with pytest.raises(UserError, match="mirrors along axes"):
        load_fold(path)
    keywords = copy.deepcopy(fold.plans)
    keyword(nonlin_kwargs={"no such": 1})(keywords)
    save_fold(path, replace(fold, plans=keywords))
    with pytest.raises(UserError, match="its plans make no network"):
        load_fold(path)


@pytest.mark.parametrize(
    "labels",
    [
        None, [], {}, {"organ": 1}, {"background": 1, "organ": 0, "ignore": 2}, {"background": 0, "organ": [1, 2]},
        {"background": 0, "organ": 2, "ignore": 3}, {"background": 0, "organ": True, "ignore": 2},
        {"background": 0, "organ": 1},
    ],
)  # fmt: skip
def test_classes_of_a_checkpoint_count_from_background(labels: Any, tmp_path: Path) -> None:
    fold = tiny.some_fold()
    save_fold(tmp_path / "fold.pth", replace(fold, nnunet_json=fold.nnunet_json | {"labels": labels}))
    with pytest.raises(UserError, match="'labels' wants background"):
        load_fold(tmp_path / "fold.pth")
