"""PREDICT's memory, counted: which tensors live when, with real networks on 16 classes."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.ensemble import BatchedPredictor, Ensemble
from nnactive_nf.predict.run import case_maps

CLASSES, FOLDS, SHAPE = 16, 2, (44, 60, 64)
VOXELS = int(np.prod(SHAPE))
MAPS = ("predictive_entropy", "expected_entropy", "prediction", "mean_probability", "fold_probability")


class LiveVolumes(TorchDispatchMode):
    """Counts the storages of at least half a volume that live at the same time, in volumes of float32."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.peak = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(value, torch.Tensor) and value.untyped_storage().nbytes() >= 2 * VOXELS:
                self.watch(value.untyped_storage())
        self.peak = max(self.peak, sum(self.live.values()) / (4 * VOXELS))
        return result

    def watch(self, storage: torch.UntypedStorage) -> None:
        if (key := storage._cdata) not in self.live:
            self.live[key] = storage.nbytes()
            weakref.finalize(storage, self.live.pop, key)


@pytest.fixture(params=[(0, 1, 2), (2, 0, 1)], ids=["straight", "transposed"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    return tiny.prepared(tmp_path / "prepared", {"a": SHAPE}, classes=tiny.classes(CLASSES), transpose=request.param)


@pytest.fixture
def ensemble(dataset: Dataset, tmp_path: Path) -> Ensemble:
    paths = tiny.checkpoints(tmp_path, dataset, FOLDS, patch=(8, 8, 8), features=2)
    return Ensemble(paths, torch.device("cpu"), tile_step=1.0, mirroring=False)


def test_a_fold_is_gone_when_the_next_begins(
    dataset: Dataset, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict = BatchedPredictor.predict_sliding_window_return_logits
    earlier: list[weakref.ref[torch.UntypedStorage]] = []

    def watched(self: BatchedPredictor, image: torch.Tensor) -> torch.Tensor:
        assert all(storage() is None for storage in earlier)
        logits = predict(self, image)
        earlier.append(weakref.ref(logits.untyped_storage()))
        return logits

    monkeypatch.setattr(BatchedPredictor, "predict_sliding_window_return_logits", watched)
    case_maps(ensemble, dataset, "a", MAPS)
    assert len(earlier) == FOLDS
    assert all(storage() is None for storage in earlier)


def test_sum_and_four_volumes_stand_beside_one_fold(dataset: Dataset, ensemble: Ensemble) -> None:
    with LiveVolumes() as volumes:
        case_maps(ensemble, dataset, "a", MAPS)
    assert 2 * CLASSES < volumes.peak <= CLASSES + (CLASSES + 4)
    assert volumes.live == {}


def test_maps_are_those_of_plain_arrays(dataset: Dataset, ensemble: Ensemble) -> None:
    found = case_maps(ensemble, dataset, "a", MAPS)
    image = dataset.network_image("a")
    folds = np.stack([dataset.to_image_grid(ensemble.probabilities(fold, image).numpy()) for fold in range(FOLDS)])
    mean = folds.mean(axis=0)
    np.testing.assert_allclose(folds.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found["predictive_entropy"], -(mean * np.log(mean)).sum(axis=0), atol=1e-5)
    np.testing.assert_allclose(found["expected_entropy"], -(folds * np.log(folds)).sum(axis=1).mean(axis=0), atol=1e-5)
    np.testing.assert_array_equal(found["fold_probability"], folds.astype(np.float16))
    np.testing.assert_allclose(found["mean_probability"], mean, atol=1e-3)
    assert (found["prediction"] == mean.argmax(axis=0)).mean() > 0.999
    assert all(values.shape[-3:] == SHAPE for values in found.values())
