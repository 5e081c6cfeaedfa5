"""PREDICT's parts: entropies fold by fold against plain loops, whatever the slab size."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnactive_nf.predict.entropy import EnsembleAccumulator, predictive_entropy


def plain_entropies(folds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """PE and EE of `[M, C, voxels]` in the plainest loops."""
    count, classes, voxels = folds.shape
    predictive, expected = np.zeros(voxels), np.zeros(voxels)
    for v in range(voxels):
        for c in range(classes):
            mean = sum(float(folds[m, c, v]) for m in range(count)) / count
            predictive[v] -= mean * math.log(mean) if mean > 0 else 0
            for m in range(count):
                p = float(folds[m, c, v])
                expected[v] -= (p * math.log(p) if p > 0 else 0) / count
    return predictive, expected


def accumulated(folds: Iterable[torch.Tensor], slab_voxels: int) -> tuple[torch.Tensor, torch.Tensor]:
    accumulator = EnsembleAccumulator(slab_voxels)
    for probability in folds:
        accumulator.add(probability)
    return accumulator.finish()


def random_folds(seed: int, count: int, classes: int, voxels: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes, voxels)) * rng.choice([0.1, 3, 200], size=(1, 1, voxels))
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    folds = (exponent / exponent.sum(axis=1, keepdims=True)).astype(np.float32)
    folds[:, :, 0] = np.eye(classes)[0]  # certain: 0 log 0 must be 0
    folds[:, :, -1] = 1 / classes  # flat
    return folds


@given(st.integers(0, 99), st.integers(1, 5), st.integers(2, 6), st.integers(2, 40), st.integers(1, 50))
def test_entropies_equal_the_plain_loops(seed: int, count: int, classes: int, voxels: int, slab: int) -> None:
    folds = random_folds(seed, count, classes, voxels)
    mean, expected = accumulated((torch.from_numpy(fold) for fold in folds), slab)
    expected = expected.numpy()
    predictive = predictive_entropy(mean, slab).numpy()
    plain_predictive, plain_expected = plain_entropies(folds)
    np.testing.assert_allclose(predictive, plain_predictive, atol=1e-6)
    np.testing.assert_allclose(expected, plain_expected, atol=1e-6)
    assert predictive[0] == expected[0] == 0
    assert (predictive - expected > -1e-6).all()  # Jensen
    np.testing.assert_allclose(mean.numpy(), folds.mean(axis=0), atol=1e-6)


def test_slab_size_does_not_change_a_bit() -> None:
    folds = torch.from_numpy(random_folds(1, 5, 4, 1000).reshape(5, 4, 10, 10, 10))
    results = []
    for slab in (1, 7, 64, 1000, 1 << 18):
        mean, expected = accumulated(folds, slab)
        results.append((expected, predictive_entropy(mean, slab)))
    for expected, predictive in results[1:]:
        assert torch.equal(expected, results[0][0])
        assert torch.equal(predictive, results[0][1])
    assert results[0][0].shape == (10, 10, 10)


def test_misuse_is_told() -> None:
    accumulator = EnsembleAccumulator()
    with pytest.raises(ValueError, match="no fold"):
        accumulator.finish()
    accumulator.add(torch.full((2, 3), 0.5))
    with pytest.raises(ValueError, match="after one of shape"):
        accumulator.add(torch.full((3, 3), 0.5))
