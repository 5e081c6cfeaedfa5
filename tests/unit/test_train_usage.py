"""What a training uses, with a stand-in for the GPU's driver."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nnactive_nf.train.trainer import ActiveTrainer
from nnactive_nf.train.usage import Usage

UUIDS = ["aaaa-0", "bbbb-1"]


class Driver(SimpleNamespace):
    """NVML with two GPUs; looks at the second give the numbers of a list, then the last again and again."""

    def __init__(self, percents: list[int | Exception]) -> None:
        super().__init__(left=list(percents), looks=0)

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid.removeprefix("GPU-") not in UUIDS:
            raise RuntimeError("Not Found")
        return uuid

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        assert handle == f"GPU-{UUIDS[1]}"
        self.looks += 1
        percent = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if isinstance(percent, Exception):
            raise percent
        return SimpleNamespace(gpu=percent)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Torch sees one GPU, which is the driver's second."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid=UUIDS[1]))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 3 * 2**30)
    return torch.device("cuda")


def measured(driver: Any, device: torch.device, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Usage:
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    with Usage(device, spacing_s=0.002, **options) as usage:
        end = time.monotonic() + 120
        while getattr(driver, "looks", 9) < 9 and time.monotonic() < end and usage._thread is not None:
            time.sleep(0.002)
            if not usage._thread.is_alive():
                break
    return usage


def test_the_load_of_torchs_gpu_is_looked_at(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    record = measured(Driver([99, 10, 90, 50]), gpu, monkeypatch).record()  # the first look only tries
    assert record["gpu_percent_max"] == 90
    assert record["gpu_percent_mean"] is not None and 48 < record["gpu_percent_mean"] < 52
    assert record["peak_gpu_memory_bytes"] == 3 * 2**30
    assert record["peak_host_memory_bytes"] > 2**20
    assert record["cpu_seconds"] >= 0


def test_a_training_that_goes_on_adds_up(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {
        "looks": 1000, "percent_sum": 20_000, "percent_max": 95, "cpu_seconds": 50,
        "host_bytes": 2**40, "gpu_bytes": 2**40,
    }  # fmt: skip
    usage = measured(Driver([40]), gpu, monkeypatch, before=before)
    record = usage.record()
    assert (record["gpu_percent_mean"], record["gpu_percent_max"]) == (pytest.approx(20, abs=0.5), 95)
    assert record["peak_host_memory_bytes"] == record["peak_gpu_memory_bytes"] == 2**40
    assert 50 <= record["cpu_seconds"] < 60
    assert usage.totals()["looks"] > 1000


def test_waits_for_batches_add_up_and_are_told_where_they_are_much(
    gpu: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"loader_seconds": 5, "loop_seconds": 30}  # of an attempt before; others of its numbers were none
    usage = measured(Driver([40]), gpu, monkeypatch, before=before)
    usage.loader_seconds, usage.loop_seconds = 15.0, 70.0
    assert usage.record()["loader_percent"] == 20
    assert "the GPU waited for batches in 20% of the time; more `cpus`" in usage.advice()
    assert usage.totals()["loader_seconds"] == 20 and usage.totals()["loop_seconds"] == 100
    usage.loader_seconds = 9.0
    assert usage.record()["loader_percent"] == 14 and usage.advice() == ""
    for device in (torch.device("cpu"), gpu):
        usage = Usage(device)
        assert usage.record()["loader_percent"] is None and usage.advice() == ""
    usage = Usage(torch.device("cpu"))
    usage.loader_seconds, usage.loop_seconds = 9.0, 10.0
    assert usage.record()["loader_percent"] == 90 and usage.advice() == ""


def test_an_epoch_counts_its_time_and_its_loaders() -> None:
    """Loaders that take 20 ms a batch, steps that take none; validation waits too."""
    trainer = object.__new__(ActiveTrainer)
    trainer.loader_seconds = trainer.loop_seconds = 0.0

    def batches(seconds: float) -> Iterator[int]:
        while True:
            time.sleep(seconds)
            yield 0

    trainer.dataloader_train = trainer.dataloader_val = batches(0.02)
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 4, 2
    trainer.network, trainer.curve, trainer.current_epoch = torch.nn.Linear(1, 1), [], 0
    trainer.lr_scheduler = SimpleNamespace(step=lambda _: None)
    trainer.optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    trainer.train_step = lambda _: {"loss": 1.0}
    trainer.validation_step = lambda _: {"loss": 1.0, "tp_hard": [1], "fp_hard": [0], "fn_hard": [0]}
    trainer._epoch(lambda: time.sleep(0.01))
    assert 6 * 0.02 <= trainer.loader_seconds <= trainer.loop_seconds - 6 * 0.01


@pytest.mark.parametrize(
    "driver",
    [
        pytest.param(None, id="no library"),
        pytest.param(SimpleNamespace(), id="another library"),
        pytest.param(Driver([RuntimeError("Not Supported")]), id="part of a GPU"),
        pytest.param(Driver([50, RuntimeError("GPU is lost")]), id="lost at once"),
    ],
)
def test_what_does_not_answer_is_null(driver: Any, gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    record = measured(driver, gpu, monkeypatch).record()
    assert record["gpu_percent_mean"] is record["gpu_percent_max"] is None
    assert record["peak_gpu_memory_bytes"] == 3 * 2**30


def test_a_gpu_that_the_driver_does_not_know_is_null(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace())
    assert measured(Driver([50]), gpu, monkeypatch).record()["gpu_percent_mean"] is None


def test_a_lost_gpu_keeps_what_was_seen(gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    record = measured(Driver([99, 60, RuntimeError("GPU is lost")]), gpu, monkeypatch).record()
    assert record["gpu_percent_mean"] == record["gpu_percent_max"] == 60


def test_on_a_cpu_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver([50])
    record = measured(driver, torch.device("cpu"), monkeypatch).record()
    assert driver.looks == 0
    assert record["gpu_percent_mean"] is record["gpu_percent_max"] is record["peak_gpu_memory_bytes"] is None
    assert record["peak_host_memory_bytes"] > 2**20
