"""Entropies of an ensemble, accumulated fold by fold (design, section 5)."""

from __future__ import annotations

import torch

from nnactive_nf.core.geometry import SLAB_VOXELS, slabs


class EnsembleAccumulator:
    """Mean probability and expected entropy of folds that come one after the other.

    Holds C + 1 volumes, the mean's sum and the expected entropy; never M x C. Every voxel's arithmetic is the same
    whatever the slab size, so the result is too.

    Args:
        slab_voxels: voxels that are worked on at a time.
        regions: probabilities are those of regions, see `entropy`.
    """

    def __init__(self, slab_voxels: int = SLAB_VOXELS, regions: bool = False) -> None:
        self._slab_voxels = slab_voxels
        self._regions = regions
        self._sum: torch.Tensor | None = None
        self._entropy: torch.Tensor | None = None
        self.folds = 0

    def add(self, probability: torch.Tensor) -> None:
        """Add one fold's probabilities `[C, ...]`, float32; the tensor is neither kept nor copied."""
        if self._sum is None or self._entropy is None:
            self._sum = torch.zeros(probability.shape, dtype=probability.dtype, device=probability.device)
            self._entropy = torch.zeros(probability.shape[1:], dtype=probability.dtype, device=probability.device)
        elif probability.shape != self._sum.shape:
            raise ValueError(f"fold of shape {tuple(probability.shape)} after one of shape {tuple(self._sum.shape)}")
        for slab in slabs(self._entropy.shape, self._slab_voxels):
            part = probability[(slice(None), *slab)]
            self._sum[(slice(None), *slab)] += part
            self._entropy[slab] += entropy(part, self._regions)
        self.folds += 1

    def finish(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean probability `[C, ...]` and expected entropy `[...]` in nats; made in place, so this ends it."""
        if self._sum is None or self._entropy is None:
            raise ValueError("no fold was added")
        mean, expected = self._sum.div_(self.folds), self._entropy.div_(self.folds)
        self._sum = self._entropy = None
        return mean, expected


def entropy(probability: torch.Tensor, regions: bool = False) -> torch.Tensor:
    """Entropy along the first axis, in nats; 0 log 0 = 0.

    Of classes -sum_c p_c log p_c. Of regions, each of which a voxel is in or not, the mean over them of
    -p_r log p_r - (1 - p_r) log(1 - p_r): so a voxel has log 2 at most, however many regions there are.
    """
    if regions:
        return (torch.special.entr(probability) + torch.special.entr(1 - probability)).mean(dim=0)
    return torch.special.entr(probability).sum(dim=0)


def predictive_entropy(mean: torch.Tensor, slab_voxels: int = SLAB_VOXELS, regions: bool = False) -> torch.Tensor:
    """Entropy of the mean probability `[C, ...]`, in nats; see `entropy`."""
    out = torch.empty(mean.shape[1:], dtype=mean.dtype, device=mean.device)
    for slab in slabs(out.shape, slab_voxels):
        out[slab] = entropy(mean[(slice(None), *slab)], regions)
    return out
