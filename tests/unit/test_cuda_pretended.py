"""The way through a GPU, without one: torch's fake tensors hold no numbers, but raise where devices mix, as CUDA does.

What cannot be faked, and is not here: `backward` (autograd asks the driver), pinned memory and the processes that fill
it, too little memory, values, and a CPU tensor indexed by a CUDA one, which fakes let pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from nnunetv2.inference import predict_from_raw_data
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode

from nnactive_nf.core import ensemble as core_ensemble
from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.ensemble import Ensemble
from nnactive_nf.core.heads import Head
from nnactive_nf.core.nnunet import nnunet_folders
from nnactive_nf.core.planning import fingerprint_of_heads, run_planner
from nnactive_nf.core.training_plans import training_plans
from nnactive_nf.predict.entropy import EnsembleAccumulator, predictive_entropy
from nnactive_nf.predict.run import case_maps
from nnactive_nf.train.trainer import ActiveTrainer, Schedule

CUDA = torch.device("cuda")
SHAPE, PATCH, FOLDS = (10, 9, 8), (8, 8, 8), 2
CLASSES = len(tiny.CLASSES)
MAPS = ("predictive_entropy", "expected_entropy", "prediction", "mean_probability", "fold_probability")
MIXED = "Expected all tensors to be on the same device"


class Pretended(FakeTensorMode):
    """Tensors on a pretended GPU. Where the code asks for what nobody knows, a condition holds and a number is 0."""

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            return super().dispatch(func, types, args, kwargs or {})
        except DataDependentOutputException:
            return int(args[0].dtype == torch.bool)


def as_array(tensor: FakeTensor) -> np.ndarray:
    """Zeros for a tensor on the CPU; as in torch, there is no array of another."""
    if tensor.device.type != "cpu":
        raise TypeError(f"can't convert {tensor.device} tensor to numpy")
    return np.zeros(tensor.shape, dtype=str(tensor.dtype).removeprefix("torch."))


def weights_of_windows(tile_size: Any, *_: Any, device: torch.device, dtype: Any = torch.half, **__: Any) -> Any:
    """In place of nnU-Net's, which are made by a look at numbers, and kept, fakes too, for whoever asks next."""
    return torch.ones(tile_size, dtype=dtype, device=device)


def with_each(module: torch.nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> torch.nn.Module:
    """What `Module.to` does; torch's own puts the new numbers into the old parameter, which fakes do not allow."""
    for part in module.modules():
        for name, value in part._parameters.items():
            if value is not None:
                part._parameters[name] = torch.nn.Parameter(change(value))
    return module


class AtOnce(Thread):
    """In place of nnU-Net's thread that fills a queue with windows: the pretence ends where another thread begins."""

    def start(self) -> None:
        self.run()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(FakeTensor, "numpy", as_array, raising=False)
    monkeypatch.setattr(FakeTensor, "data_ptr", lambda tensor: id(tensor), raising=False)
    monkeypatch.setattr(torch.nn.Module, "_apply", with_each)
    monkeypatch.setattr(torch, "isinf", lambda _: torch.tensor(False))
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)  # autocast and the scaler
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)  # nnU-Net sets it
    monkeypatch.setattr(predict_from_raw_data, "Thread", AtOnce)
    monkeypatch.setattr(predict_from_raw_data, "Queue", lambda maxsize: Queue())
    for module in (core_ensemble, predict_from_raw_data):
        monkeypatch.setattr(module, "compute_gaussian", weights_of_windows)
    with Pretended():
        yield


def devices(value: Any) -> set[str]:
    """Kinds of device of nested tensors."""
    if isinstance(value, torch.Tensor):
        return {value.device.type}
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
    return set().union(*map(devices, items))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return tiny.prepared(tmp_path / "prepared", {"a": SHAPE})


@pytest.fixture(params=["cuda", "cpu"])
def home(request: pytest.FixtureRequest) -> str:
    """Where a volume's sums are: on the GPU, or, where they do not fit, on the CPU."""
    return str(request.param)


@pytest.fixture
def checkpoints(dataset: Dataset, tmp_path: Path) -> list[Path]:
    return tiny.checkpoints(tmp_path, dataset, FOLDS, patch=PATCH, features=2)


@pytest.fixture
def ensemble(checkpoints: list[Path], gpu: None, home: str) -> Ensemble:
    made = Ensemble(checkpoints, CUDA, tile_step=0.5, mirroring=True)
    for predictor in (made._predictor, made._as_nnunet):
        predictor.perform_everything_on_device = home == "cuda"
        assert devices(predictor.list_of_parameters) == {"cpu"}
    return made


@pytest.fixture(autouse=True)
def no_second_try(capsys: pytest.CaptureFixture[str]) -> Iterator[None]:
    """nnU-Net takes any RuntimeError, devices that mix too, for too little memory and goes on with sums on the CPU."""
    yield
    assert "Moving results arrays to CPU" not in capsys.readouterr().out


def test_devices_that_mix_are_told(gpu: None) -> None:
    there, here = torch.full((2, 4), 0.5, device=CUDA), torch.full((2, 4), 0.5)
    accumulator = EnsembleAccumulator()
    accumulator.add(there)
    with pytest.raises(RuntimeError, match=MIXED):
        accumulator.add(here)
    with pytest.raises(RuntimeError, match=MIXED):
        torch.nn.Linear(4, 1)(there)
    with pytest.raises(TypeError, match="can't convert cuda:0 tensor to numpy"):
        there.numpy()


def test_folds_become_maps(ensemble: Ensemble, dataset: Dataset, home: str) -> None:
    image = dataset.network_image("a")
    accumulator = EnsembleAccumulator(slab_voxels=100)
    for fold in range(FOLDS):
        probability = ensemble.probabilities(fold, image)
        assert devices(list(ensemble._network.state_dict().values())) == {"cuda"}
        assert (probability.device.type, probability.dtype) == (home, torch.float32)
        accumulator.add(probability)
    mean, expected = accumulator.finish()
    assert devices([mean, expected, predictive_entropy(mean, slab_voxels=100)]) == {home}
    found = case_maps(ensemble, dataset, "a", MAPS)
    assert {name: values.shape[-3:] for name, values in found.items()} == dict.fromkeys(MAPS, SHAPE)


def test_folds_become_logits(ensemble: Ensemble, dataset: Dataset) -> None:
    logits = ensemble.mean_logits(dataset.network_image("a"))
    assert (logits.device.type, logits.dtype, logits.shape) == ("cpu", torch.half, (CLASSES, *SHAPE))


def test_logits_too_large_for_half_are_float(
    ensemble: Ensemble, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "isinf", lambda _: torch.tensor(True))
    logits = ensemble.mean_logits(dataset.network_image("a"))
    assert (logits.device.type, logits.dtype, logits.shape) == ("cpu", torch.float32, (CLASSES, *SHAPE))
    assert "nnU-Net would refuse" in capsys.readouterr().out


def test_folds_become_features(ensemble: Ensemble, dataset: Dataset) -> None:
    assert ensemble.fold_features(dataset.network_image("a")).shape == (2 * FOLDS, *SHAPE)


@pytest.fixture
def trainers(
    request: pytest.FixtureRequest, tmp_path: Path, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[ActiveTrainer]]:
    """Two of one training, of nnU-Net's own plans with a small network, and endless batches as loaders give them."""
    nnunet_json = {
        "channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1, "b": 2, "ignore": 3},
        "file_ending": ".nii.gz", "overwrite_image_reader_writer": "SimpleITKIO",
    }  # fmt: skip
    heads = [Head(1, (40, 60, 60), (1.0, 1.0, 1.0))] * 10
    planned = run_planner(nnunet_json, fingerprint_of_heads(heads), "x")
    plans = training_plans(planned, "3d_fullres", (16, 16, 16), 2, 2)
    (tmp_path / "a.b2nd").touch()  # nnU-Net looks which kind of files there are
    with nnunet_folders():
        made = [
            ActiveTrainer({**plans, "continue_training": False}, "3d_fullres", 0, nnunet_json, CUDA) for _ in range(2)
        ]
        for trainer in made:
            trainer.set_up(tmp_path, ["a"], ["b"], Schedule(3, 2, request.param, 0.01), seed=1, cycle=0)
            trainer.dataloader_train = trainer.dataloader_val = batches(trainer._get_deep_supervision_scales())
        yield made


def batches(scales: Sequence[Sequence[float]]) -> Iterator[dict[str, Any]]:
    while True:
        target = [torch.zeros(2, 1, *(round(16 * share) for share in scale), dtype=torch.int16) for scale in scales]
        yield {"data": torch.zeros(2, 1, 16, 16, 16), "target": target}


@pytest.mark.parametrize("trainers", ["sgd", "adamw"], indirect=True)
def test_a_training_goes_on_from_its_state(trainers: list[ActiveTrainer], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = trainers

    def backward(loss: torch.Tensor) -> None:
        """In place of autograd's: some gradients, where it would leave them."""
        assert loss.device.type == "cuda" and loss.requires_grad
        for parameter in (*first.network.parameters(), *second.network.parameters()):
            parameter.grad = torch.ones_like(parameter)

    monkeypatch.setattr(FakeTensor, "backward", backward, raising=False)
    first._epoch(lambda: None)
    state = first.state()
    assert devices(state) == {"cpu"}
    second.load_state(state)
    for parameter, values in second.optimizer.state.items():
        moments = [value for value in values.values() if value is not None and value.ndim]
        assert moments and devices([parameter, *moments]) == {"cuda"}
    second._epoch(lambda: None)
    assert second.current_epoch == 2
