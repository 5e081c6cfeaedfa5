"""A killed run leaves its tasks behind, and `-resume` starts the same ones beside them, on one checkpoint store."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from commands import invoke
from conftest import ROOT

from nnactive_nf.core.files import read_json
from nnactive_nf.core.nnunet import load_fold

pytestmark = pytest.mark.slow


def training(prepared: Path, labels: Path, store: Path, out: Path) -> list[str]:
    """Options of a small training."""
    options = {
        "prepared": prepared / "prepared", "labels": labels, "node": "node", "seed": 1, "cycle": 0, "fold": 0,
        "folds": 2, "epochs": 6, "iterations": 3, "train-patch-size": "16,32,32", "features": 4,
        "batch-size": 2, "device": "cpu",
        "store": store, "code": "code", "out": out,
    }  # fmt: skip
    return [word for name, value in options.items() for word in (f"--{name}", str(value))]


def started(words: list[str]) -> subprocess.Popen[str]:
    """A training in a process of its own."""
    return subprocess.Popen(
        [sys.executable, ROOT / "bin" / "train.py", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


def test_a_training_goes_on_beside_the_orphan_of_itself(prepared: Path, labels_file: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    orphan = started(training(prepared, labels_file, store, tmp_path / "orphan"))
    while not list(store.rglob("latest.pth")):
        assert orphan.poll() is None, ended(orphan)
        time.sleep(0.05)
    resumed = started(training(prepared, labels_file, store, tmp_path / "resumed"))
    ended(resumed)
    ended(orphan)
    alone = invoke("train", *training(prepared, labels_file, tmp_path / "other", tmp_path / "alone"))
    assert alone.exit_code == 0, alone.output

    wanted_weights = load_fold(tmp_path / "alone" / "checkpoint.pth").weights
    for name in ("orphan", "resumed"):
        fold = load_fold(tmp_path / name / "checkpoint.pth")
        assert all(torch.equal(fold.weights[key], value) for key, value in wanted_weights.items()), name
        curve, wanted = (read_json(tmp_path / place / "training.json")["curve"] for place in (name, "alone"))
        assert curve == wanted, name
    assert len(list(store.rglob("checkpoint.pth"))) == 1
    assert not [path for path in store.rglob("*") if ".part" in path.name or path.name == "latest.pth"]
