"""Strategies by uncertainty: entropies, mutual information, and the same with noise for diversity."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from nnactive_nf.query.base import Scored
from nnactive_nf.query.grid import ONE, Planes, Scores, planes_of, window_sums
from nnactive_nf.query.pool import ALL, Image

Plane = npt.NDArray[np.float64]


def entropy_planes(name: str, image: Image) -> Planes:
    """Planes of the map that a strategy scores by: a stored one or the mutual information."""
    return image.mutual_information() if name == "mutual_information" else planes_of(image.map(name))


class MeanOfMap(Scored):
    """Score = mean of a map over the patch (PE, EE, MI)."""

    def __init__(self, map_name: str) -> None:
        self.map_name = map_name

    def scores(self, image: Image) -> Scores:
        """Means over the patch."""
        return image.mean_scores(entropy_planes(self.map_name, image))


class Power(MeanOfMap):
    """Score = log(mean over the patch) + Gumbel(0, 1 / beta), noise drawn per start position.

    Choosing by the noised logarithm draws patches with a chance proportional to mean^beta, one after the other
    (Kirsch et al., TMLR 2023, arXiv 2106.12059). A mean of 0 gives -inf.
    """

    def scores(self, image: Image) -> Scores:
        """Noised logarithms of the means."""
        return noised(super().scores(image), image, float(image.options["beta"]), ALL)


def noised(scores: Scores, image: Image, beta: float, component: str) -> Scores:
    """log(score) + Gumbel(0, 1 / beta) with the noise of this image and component."""
    rng = image.rng(component)

    def change(means: Plane) -> Plane:
        with np.errstate(divide="ignore"):
            return np.log(means) + rng.gumbel(0.0, 1.0 / beta, size=means.shape)

    return scores.to_real(change)


class Softrank(MeanOfMap):
    """Score = -log(rank by the mean) + Gumbel(0, 1).

    The rank counts the positions of the image that may be chosen: 1 + those with a higher mean, so equal means have
    equal ranks (Kirsch et al., TMLR 2023).
    """

    def scores(self, image: Image) -> Scores:
        """Noised ranks."""
        scores = super().scores(image)
        ordered = scores.values[scores.allowed()] / float(scores.grid.voxels * ONE)
        ordered.sort()
        rng = image.rng()

        def change(means: Plane) -> Plane:
            higher = len(ordered) - np.searchsorted(ordered, means.ravel(), side="right")
            noise = rng.gumbel(0.0, 1.0, size=means.shape)
            return noise - np.log(1.0 + higher.reshape(means.shape))

        return scores.to_real(change)


class ExpectedDice(Scored):
    """Score = minus the soft Dice between each fold and the mean, averaged over folds and classes.

    Soft Dice of fold m and class c over the patch: 2 sum(p_m p) / (sum(p_m) + sum(p)), p being the mean over folds;
    1 where both are 0.
    """

    def scores(self, image: Image) -> Scores:
        """Minus the mean soft Dice."""
        total = np.zeros(image.grid.counts, dtype=np.float64)
        terms = 0
        for index in range(len(image.classes)):
            folds = image.map("fold_probability", (slice(None), index))
            self._add(total, folds, image)
            terms += len(folds)
        total /= -terms
        return image.bar(Scores(total, image.grid))

    @staticmethod
    def _add(total: npt.NDArray[np.float64], folds: npt.NDArray[np.floating], image: Image) -> None:
        """Add the soft Dice of each fold `[m, z, y, x]` of one class."""
        mean = folds.mean(axis=0, dtype=np.float64)
        sums_of_mean = window_sums(planes_of(mean), image.grid)
        sums_of_folds = [window_sums(planes_of(fold), image.grid) for fold in folds]
        overlaps = [window_sums(_product(fold, mean), image.grid) for fold in folds]
        for target in total:
            of_mean = next(sums_of_mean)
            for of_fold, overlap in zip(sums_of_folds, overlaps, strict=True):
                both = (next(of_fold) + of_mean).astype(np.float64)
                shared = next(overlap).astype(np.float64)
                target += np.divide(2.0 * shared, both, out=np.ones_like(both), where=both > 0)


def _product(a: npt.NDArray[np.floating], b: npt.NDArray[np.float64]) -> Planes:
    return lambda z: a[z] * b[z]
