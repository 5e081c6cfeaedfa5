"""What stages import: each task is a process of its own, and to import torch takes longer than most of them run."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

# Packages that take a tenth of a second and more.
SLOW = (
    "blosc2", "h5py", "matplotlib", "monai", "numpy", "pandas", "plotly", "scipy", "scipy.stats", "seaborn",
    "SimpleITK", "skimage", "statsmodels", "torch", "torch._dynamo",
)  # fmt: skip

COMMANDS = "import runpy\nfor path in sorted(BIN.glob('*.py')): runpy.run_path(str(path), run_name='command')"
# A network that is built for its shapes alone, as FORECAST counts its parameters and checkpoints are held against it.
SHAPES = """
from types import SimpleNamespace
import torch
from nnactive_nf.core.nnunet import build_network
settings = SimpleNamespace(
    network_arch_class_name="dynamic_network_architectures.architectures.unet.PlainConvUNet",
    network_arch_init_kwargs={
        "n_stages": 2, "features_per_stage": [2, 4], "conv_op": "torch.nn.Conv3d", "kernel_sizes": [3, 3],
        "strides": [1, 2], "n_conv_per_stage": 1, "n_conv_per_stage_decoder": 1, "conv_bias": True,
    },
    network_arch_init_kwargs_req_import=["conv_op"],
)
with torch.device("meta"):
    assert all(value.is_meta for value in build_network(settings, 1, 2, True).state_dict().values())
"""
# Steps in one process, each with what it may import beside what the steps before it have imported.
STEPS = {
    "commands, until they are called": (COMMANDS, {"numpy"}),
    "STOP, ANNOTATE": ("import nnactive_nf.stop.run, nnactive_nf.annotate.run", {"h5py", "pandas"}),
    "EVALUATE's measures without surfaces": ("import nnactive_nf.evaluate.measures", set()),
    "QUERY": ("import nnactive_nf.query.run, nnactive_nf.query.reserve", {"scipy"}),
    "RECEIVE": ("import nnactive_nf.receive.run, nnactive_nf.receive.masks", {"SimpleITK"}),
    "VIEWS, HAND_OUT, EXPORT of labels and maps": (
        "import nnactive_nf.views.run, nnactive_nf.hand_out.run, nnactive_nf.export.run", {"skimage"},
    ),
    "REPORT": ("import nnactive_nf.report.render", {"matplotlib", "plotly"}),
    "ANALYSE": ("import nnactive_nf.analyse.write", {"scipy.stats", "statsmodels"}),
    "CHECK, PREPARE, FORECAST": (
        "import nnactive_nf.check.run, nnactive_nf.prepare.run, nnactive_nf.forecast.run", {"blosc2", "torch"},
    ),
    "a network's shapes": (SHAPES, set()),
}  # fmt: skip


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    """Which of `SLOW` each step imports that no step before it has."""
    lines = ["import json, pathlib, sys", f"BIN = pathlib.Path({str(ROOT / 'bin')!r})"]
    for name, (code, _) in STEPS.items():
        lines += [code, f"print(json.dumps([{name!r}, sorted(set(sys.modules) & set({SLOW!r}))]))"]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], env=os.environ | {"PYTHONPATH": str(ROOT / "bin")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    there: set[str] = set()
    new = {}
    for name, found in map(json.loads, done.stdout.splitlines()):
        new[name], there = set(found) - there, set(found)
    return new


@pytest.mark.parametrize("step", STEPS)
def test_a_stage_imports_no_more_than_it_needs(step: str, imported: dict[str, set[str]]) -> None:
    assert imported[step] <= STEPS[step][1], "`python -X importtime` tells who imports them"
