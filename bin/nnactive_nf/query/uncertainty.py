"""Strategies by uncertainty: entropies, mutual information, and the same with noise for diversity."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt

from nnactive_nf.query.base import Room, Scored, enough
from nnactive_nf.query.grid import Planes, Scores, planes_of, window_sums
from nnactive_nf.query.pool import ALL, Candidate, Image, Pool

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
    """Score = -log(rank by the mean) + Gumbel(0, 1), ranks over the pool (Kirsch et al., TMLR 2023).

    Candidates are the best 2 x (patches per image) of each image. The rank counts the candidates of all images: 1 +
    those with a higher mean, so equal means have equal ranks. An image's candidates draw their noise best first.
    """

    def candidates(self, image: Image) -> list[Candidate]:
        """Best patches by the mean, twice as many as the image may give."""
        return [Candidate(image.case, box, mean) for box, mean in self.scores(image).take(2 * image.patches_left)]

    def choose(self, candidates: Sequence[Candidate], pool: Pool, size: int) -> list[Candidate]:
        """Highest noised ranks, at most `patches_per_image` of an image."""
        means = np.sort([c.score for c in candidates])
        noised: list[Candidate] = []
        for case, group in groupby(candidates, key=lambda c: c.case):
            of_case = list(group)
            ranks = 1 + len(means) - np.searchsorted(means, [c.score for c in of_case], side="right")
            scores = pool.image(case).rng().gumbel(0.0, 1.0, size=len(of_case)) - np.log(ranks)
            noised += [c._replace(score=float(score)) for c, score in zip(of_case, scores, strict=True)]
        noised.sort(key=lambda c: c.key)
        room = Room(noised, pool)
        enough(room.most, size)
        chosen: list[Candidate] = []
        for place, candidate in enumerate(noised):
            if len(chosen) < size and room.open[place]:
                chosen.append(candidate)
                room.take(place)
        return chosen


class ExpectedDice(Scored):
    """Score = minus the soft Dice between each fold and the mean, averaged over folds and classes (or regions).

    Soft Dice of fold m and class c over the patch: 2 sum(p_m p) / (sum(p_m) + sum(p)), p being the mean over folds;
    1 where both are 0.
    """

    def scores(self, image: Image) -> Scores:
        """Minus the mean soft Dice."""
        total = np.zeros(image.grid.counts, dtype=np.float64)
        terms = 0
        for index in range(len(image.classes.channels)):
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
