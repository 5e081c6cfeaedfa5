"""CUDA does what the CPU does, on a machine with a GPU: `make gpu-test`. Ten minutes at most.

The phantom, small networks, and the package's own functions on both devices. With NNACTIVE_GPU_TEST_DEVICE=cpu the CPU
is held against itself, so that all of this can be tried elsewhere.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from plan import make_row, write_plan

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.files import read_json
from nnactive_nf.core.hdf5 import open_hdf5
from nnactive_nf.core.labels import read_labels
from nnactive_nf.core.measured import read_measured
from nnactive_nf.core.nnunet import load_fold, nnunet_folders
from nnactive_nf.core.training_plans import training_plans
from nnactive_nf.core.uncertainty import VERSION
from nnactive_nf.predict.run import predict
from nnactive_nf.train.data import write_training_folder
from nnactive_nf.train.run import Settings, train
from nnactive_nf.train.trainer import ActiveTrainer, Schedule

pytestmark = pytest.mark.gpu

PATCH, FEATURES, BATCH = (16, 32, 32), 8, 2
BATCHES = 6
MAPS = ("predictive_entropy", "expected_entropy", "prediction", "mean_probability")
DEVICE = "NNACTIVE_GPU_TEST_DEVICE"


@pytest.fixture(scope="module", autouse=True)
def device() -> str:
    """What is held against the CPU: `cuda`, or `cpu` where the variable says so."""
    asked = os.environ.get(DEVICE, "cuda")
    if asked == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here, so CUDA is not held against the CPU (NNACTIVE_GPU_TEST_DEVICE=cpu tries)")
    return asked


def settings(epochs: int, iterations: int, fold: int = 0) -> Settings:
    return Settings(1, 0, fold, 2, epochs, iterations, PATCH, FEATURES, BATCH, "sgd", None)


@pytest.fixture
def trainers(device: str, prepared: Path, labels_file: Path, tmp_path: Path) -> Iterator[dict[str, ActiveTrainer]]:
    """A trainer on the CPU and one on the device, which start from the same weights; their loaders are closed."""
    dataset = Dataset.open(prepared / "prepared")
    labels = read_labels(labels_file, shapes=dataset.shapes)
    plans = training_plans(dataset.plans, dataset.configuration, PATCH, FEATURES, BATCH)
    (tmp_path / "training").mkdir()
    write_training_folder(tmp_path / "training", dataset, labels, PATCH)
    cases = sorted(labels.masks)
    with nnunet_folders():
        made = {}
        for name in ("cpu", device + " "):  # two names where the device is the CPU
            trainer = ActiveTrainer(
                dict(plans, continue_training=False), dataset.configuration, 0, dataset.nnunet_json,
                torch.device(name.strip()),
            )  # fmt: skip
            trainer.set_up(tmp_path / "training", cases[1:], cases[:1], Schedule(1, BATCHES, "sgd", 0.01), 1, 0)
            trainer.set_deep_supervision_enabled(True)
            trainer.network.train()
            made[name.strip() if name == "cpu" else "device"] = trainer
        yield made


@pytest.fixture
def batches(trainers: dict[str, ActiveTrainer]) -> list[dict[str, Any]]:
    """Some batches, made on the CPU."""
    trainers["cpu"]._seed("epoch", 0)
    loader, _ = trainers["cpu"].get_dataloaders()
    return [next(loader) for _ in range(BATCHES)]


def on(device: torch.device, value: Any) -> Any:
    return [on(device, item) for item in value] if isinstance(value, list) else value.to(device)


def test_a_batch_has_the_same_loss_in_single_precision(trainers, batches) -> None:
    """To the digits that TF32, which cuDNN convolves with, leaves."""
    found: dict[str, list[float]] = {}
    for name, trainer in trainers.items():
        with torch.no_grad():
            found[name] = [
                float(
                    trainer.loss(
                        trainer.network(on(trainer.device, batch["data"])), on(trainer.device, batch["target"])
                    )
                )
                for batch in batches
            ]
    assert found["device"] == pytest.approx(found["cpu"], rel=2e-3, abs=2e-3)


def test_trainings_on_the_same_batches_have_the_same_losses(trainers, batches) -> None:
    """In mixed precision on a GPU, step for step: at a scale of the losses at which no step is left out."""
    if trainers["device"].grad_scaler is not None:
        trainers["device"].grad_scaler = torch.amp.GradScaler("cuda", init_scale=256.0)
    found = {
        name: [float(trainer.train_step(batch)["loss"]) for batch in batches] for name, trainer in trainers.items()
    }
    print(f"\nlosses on the CPU {found['cpu']}\nlosses on the device {found['device']}")
    assert found["device"] == pytest.approx(found["cpu"], rel=0.03, abs=0.03)
    weights = [torch.cat([value.flatten().float() for value in trainer.state()["weights"].values()]) for trainer in
               trainers.values()]  # fmt: skip
    assert float((weights[0] - weights[1]).norm() / weights[0].norm()) < 0.02


def test_mixed_precision_is_on(trainers, batches, device: str) -> None:
    trainer = trainers["device"]
    seen: set[torch.dtype] = set()
    convolution = next(part for part in trainer.network.modules() if isinstance(part, torch.nn.Conv3d))
    handle = convolution.register_forward_hook(lambda _module, _given, result: seen.add(result.dtype))
    trainer.train_step(batches[0])
    handle.remove()
    assert seen == {torch.float16 if device == "cuda" else torch.float32}
    assert (trainer.grad_scaler is not None) == (device == "cuda")
    assert all(value.dtype == torch.float32 for value in trainer.network.parameters())


@pytest.fixture(scope="module")
def folds(prepared: Path, labels_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folds that were trained on the CPU."""
    folder = tmp_path_factory.mktemp("folds")
    made = []
    for fold in range(2):
        out = folder / f"fold_{fold}"
        train(
            prepared / "prepared", labels_file, settings(2, 10, fold), "node", "cpu", 1, folder / "store", "code", out
        )
        made.append(out / "checkpoint.pth")
    return made


def test_maps_are_the_same(prepared: Path, folds: list[Path], device: str, tmp_path: Path) -> None:
    """Within what half precision leaves of the networks' outputs; the prediction in all but a few voxels."""
    files = {}
    for name, where in (("cpu", "cpu"), ("device", device)):
        files[name] = tmp_path / f"{name}.h5"
        predict(prepared / "prepared", folds, MAPS, "node", 0, 0, 1, 0.75, where, 1, files[name])
    with (
        open_hdf5(files["cpu"], "uncertainty", VERSION) as cpu,
        open_hdf5(files["device"], "uncertainty", VERSION) as other,
    ):
        cases = list(cpu["cases"])
        assert cases and list(other["cases"]) == cases
        for case in cases:
            for name in MAPS:
                mine, its = (np.asarray(file["cases"][case][name], dtype=np.float64) for file in (cpu, other))
                if name == "prediction":
                    assert (mine != its).mean() < 0.02, case
                else:
                    assert np.abs(mine - its).max() < 0.05 and np.abs(mine - its).mean() < 0.002, (case, name)


def test_a_training_that_was_killed_goes_on(prepared: Path, labels_file: Path, device: str, tmp_path: Path) -> None:
    epochs = 6
    options = {
        "prepared": prepared / "prepared", "labels": labels_file, "node": "node", "seed": 1, "cycle": 0, "fold": 0,
        "folds": 2, "epochs": epochs, "iterations": 5, "train-patch-size": "16,32,32", "features": FEATURES,
        "batch-size": BATCH, "device": device, "store": tmp_path / "store", "code": "code", "out": tmp_path / "fold_0",
    }  # fmt: skip
    command = [sys.executable, str(ROOT / "bin" / "train.py")]
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    lines = []
    for line in first.stdout:  # until an epoch has ended
        lines.append(line)
        if line.startswith("epoch 1:"):
            first.send_signal(signal.SIGTERM)
            break
    lines += first.communicate(timeout=300)[0].splitlines(keepends=True)
    assert first.returncode == 128 + signal.SIGTERM, lines
    (latest,) = (tmp_path / "store").rglob("latest.pth")
    before = torch.load(latest, weights_only=True)["curve"]
    subprocess.run(command, check=True, timeout=300)
    record = read_json(tmp_path / "fold_0" / "training.json")
    assert record["resumed_from"] == [len(before)] and 2 <= len(before) < epochs
    assert record["curve"][: len(before)] == before
    assert [epoch["epoch"] for epoch in record["curve"]] == list(range(epochs))
    assert record["device"] == device
    assert all(np.isfinite(epoch["train_loss"]) for epoch in record["curve"])
    load_fold(tmp_path / "fold_0" / "checkpoint.pth")
    # Peaks of memory and waits for batches are told
    peak = record["peak_gpu_memory_bytes"]
    assert record["peak_host_memory_bytes"] > 10**7 and 0 <= record["loader_percent"] <= 100
    assert (peak is not None and peak > 10**7) if device == "cuda" else peak is None
    print(f"\npeaks: GPU {peak} bytes, host {record['peak_host_memory_bytes']} bytes")


def test_the_preflight_times_trainings(phantom: Path, device: str, tmp_path: Path) -> None:
    row = make_row("random", device=device, train_patch_size="16,32,32", features=FEATURES, batch_size=BATCH)
    plan = write_plan(tmp_path / "plan.json", [row])
    command = [sys.executable, str(ROOT / "bin" / "measure.py"), "--plan", str(plan), "--raw", f"{phantom}=one"]
    command += ["--device", device, "--out", str(tmp_path / "preflight.json")]
    subprocess.run(command, check=True, timeout=600)  # in a process that has not used CUDA, since it forks
    (training,) = read_measured(tmp_path / "preflight.json", "preflight.json").trainings
    assert training.device == device and training.iterations >= 20
    assert (training.workers > 0) == (device == "cuda")
    assert ((training.peak_gpu_memory_bytes or 0) > 10**7) == (device == "cuda")
    print(f"\n{training}")


def test_iterations_a_second_beside_stock_nnunet(device: str) -> None:
    """No limit: the ratio is told."""
    small = [] if device == "cuda" else ["--turns", "2", "--iterations", "2"]
    command = [sys.executable, str(ROOT / "bench" / "iterations.py"), "--device", device, *small]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"\n{done.stdout}")
    assert re.search(r"^ratio +\d+\.\d+$", done.stdout, flags=re.MULTILINE)
