"""Entropies of an ensemble, accumulated fold by fold (design, section 5)."""

from __future__ import annotations

from collections.abc import Iterable

import torch

# Voxels that are worked on at a time: temporaries stay in the processor's cache and small beside the volumes.
BLOCK_VOXELS = 1 << 14


class EnsembleAccumulator:
    """Mean probability and expected entropy of folds that come one after the other.

    Holds C + 1 volumes (the mean's sum and the expected entropy), and the predictive entropy makes C + 2; never M x C.
    Voxels are worked on in blocks; every voxel's arithmetic is the same whatever the block size, so the result is too.

    Args:
        block_voxels: voxels per block.
    """

    def __init__(self, block_voxels: int = BLOCK_VOXELS) -> None:
        self._block = block_voxels
        self._sum: torch.Tensor | None = None
        self._entropy: torch.Tensor | None = None
        self._shape: tuple[int, ...] = ()
        self.folds = 0

    def add(self, probability: torch.Tensor) -> None:
        """Add one fold's probabilities `[C, ...]`, float32; the tensor is not kept."""
        flat = probability.reshape(len(probability), -1)
        if self._sum is None or self._entropy is None:
            self._shape = tuple(probability.shape)
            self._sum = torch.zeros_like(flat)
            self._entropy = torch.zeros(flat.shape[1], dtype=flat.dtype, device=flat.device)
        elif tuple(probability.shape) != self._shape:
            raise ValueError(f"fold of shape {tuple(probability.shape)} after one of shape {self._shape}")
        for start in range(0, flat.shape[1], self._block):
            block = flat[:, start : start + self._block]
            self._sum[:, start : start + self._block] += block
            self._entropy[start : start + self._block] += entropy(block)
        self.folds += 1

    def finish(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean probability `[C, ...]` and expected entropy `[...]` in nats; made in place, so this ends it."""
        if self._sum is None or self._entropy is None:
            raise ValueError("no fold was added")
        mean, expected = self._sum.div_(self.folds), self._entropy.div_(self.folds)
        self._sum = self._entropy = None
        return mean.reshape(self._shape), expected.reshape(self._shape[1:])


def entropy(probability: torch.Tensor) -> torch.Tensor:
    """-sum_c p log p along the first axis, in nats; 0 log 0 = 0."""
    return torch.special.entr(probability).sum(dim=0)


def predictive_entropy(mean: torch.Tensor, block_voxels: int = BLOCK_VOXELS) -> torch.Tensor:
    """Entropy of the mean probability `[C, ...]`, in nats."""
    flat = mean.reshape(len(mean), -1)
    out = torch.empty(flat.shape[1], dtype=flat.dtype, device=flat.device)
    for start in range(0, flat.shape[1], block_voxels):
        out[start : start + block_voxels] = entropy(flat[:, start : start + block_voxels])
    return out.reshape(mean.shape[1:])


def accumulate(folds: Iterable[torch.Tensor], block_voxels: int = BLOCK_VOXELS) -> EnsembleAccumulator:
    """Accumulate folds as they come."""
    accumulator = EnsembleAccumulator(block_voxels)
    for probability in folds:
        accumulator.add(probability)
    return accumulator
