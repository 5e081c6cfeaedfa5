"""Strategies that spread their choice in a space of features: KMeansBALD and the label-free start `coverage`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from nnactive_nf.core.geometry import Box
from nnactive_nf.query.base import Room, Strategy, enough, next_of_longer
from nnactive_nf.query.pool import Candidate, Image, Pool

Features = npt.NDArray[np.float64]


class KMeansBald(Strategy):
    """Farthest-point selection among each image's best patches by mutual information.

    Candidates are the best `candidates` x (patches per image) of each image by BALD. Their features are those of the
    last but one encoder stage, averaged over the patch, folds side by side, each divided by its standard deviation
    over all candidates. The first choice is the candidate with the largest norm; each further one has the largest
    distance to its nearest chosen one. Equal ones by higher score, then case, then z, y, x.
    """

    def candidates(self, image: Image) -> list[Candidate]:
        """Best patches by mutual information with their features."""
        count = image.patches_left * int(image.options["candidates"])
        picks = image.mean_scores(image.mutual_information()).take(count)
        if not picks:
            return []
        features, cell = image.map("fold_features"), image.feature_cell()
        return [
            Candidate(image.case, box, score, features=mean_over_patch(features, cell, box)) for box, score in picks
        ]

    def choose(self, candidates: Sequence[Candidate], pool: Pool, size: int) -> list[Candidate]:
        """Farthest points, at most `patches_per_image` of an image."""
        ranked = sorted(candidates, key=lambda c: c.key)
        room = Room(ranked, pool)
        enough(room.most, size)
        features = scaled(ranked)
        distance = np.linalg.norm(features, axis=1)
        chosen: list[Candidate] = []
        while len(chosen) < size:
            place = int(np.where(room.open, distance, -1.0).argmax())
            chosen.append(ranked[place])
            room.take(place)
            gap = np.linalg.norm(features - features[place], axis=1)
            distance = gap if len(chosen) == 1 else np.minimum(distance, gap)
        return chosen

    def more(self, pool: Pool, picks: Sequence[Candidate], size: int) -> list[Candidate]:
        """The next farthest points, also from those chosen."""
        return next_of_longer(self, pool, picks, size)


class Coverage(Strategy):
    """k-means++ seeding (Arthur and Vassilvitskii, 2007) over image features; needs neither labels nor a model.

    Candidates are patches of a tiling of each image, at most `candidates` of them drawn at random. Features, per
    channel: mean and standard deviation of the intensity and mean absolute gradient along z, y and x, each scaled to
    mean 0 and deviation 1 over all candidates. The first patch is drawn uniformly, each further one with a chance
    proportional to its squared distance to the nearest chosen one. The score is that distance (0 for the first).
    """

    def candidates(self, image: Image) -> list[Candidate]:
        """Tiles of one image that may be chosen, with their features."""
        if image.patches_left < 1:
            return []
        allowed = image.allowed(image.grid)
        tiles = [box for box in _tiles(image) if allowed[_index(image, box)]]
        rng = image.rng()
        most = int(image.options["candidates"])
        if len(tiles) > most:
            tiles = [tiles[int(i)] for i in np.sort(rng.permutation(len(tiles))[:most])]
        if not tiles:
            return []
        volume = image.intensities()
        return [Candidate(image.case, box, 0.0, features=_appearance(volume, box)) for box in tiles]

    def choose(self, candidates: Sequence[Candidate], pool: Pool, size: int) -> list[Candidate]:
        """k-means++ draws, at most `patches_per_image` of an image."""
        ranked = sorted(candidates, key=lambda c: c.key)
        room = Room(ranked, pool)
        enough(room.most, size)
        features = scaled(ranked, centre=True)
        squared = np.ones(len(ranked))
        rng = pool.rng("choose")
        chosen: list[Candidate] = []
        while len(chosen) < size:
            weight = np.where(room.open, squared, 0.0)
            if not weight.any():  # all that is left equals a chosen one, or all would be barred
                weight = room.open.astype(np.float64)
            place = _weighted(weight, rng)
            chosen.append(ranked[place]._replace(score=float(np.sqrt(squared[place])) if chosen else 0.0))
            room.take(place)
            gap = ((features - features[place]) ** 2).sum(axis=1)
            squared = gap if len(chosen) == 1 else np.minimum(squared, gap)
        return chosen

    def more(self, pool: Pool, picks: Sequence[Candidate], size: int) -> list[Candidate]:
        """The next draws, away from those chosen, too."""
        return next_of_longer(self, pool, picks, size)


def scaled(candidates: Sequence[Candidate], centre: bool = False) -> Features:
    """Features `[candidate, feature]` divided by their standard deviation; those without deviation become 0."""
    features = np.stack([c.features for c in candidates if c.features is not None])
    deviation = features.std(axis=0)
    steady = deviation <= 1e-12 * np.abs(features).max(axis=0, initial=0.0)
    if centre:
        features = features - features.mean(axis=0)
    return np.where(steady, 0.0, features / np.where(steady, 1.0, deviation))


def mean_over_patch(features: npt.NDArray[np.floating], cell_zyx: Sequence[int], box: Box) -> Features:
    """Mean of features `[F, cells z, y, x]` over the voxels of a patch.

    A voxel has the features of the cell that it lies in; the cells cover the image.
    """
    weights, part = [], [slice(None)]
    for cell, low, size in zip(cell_zyx, box.start_zyx, box.size_zyx, strict=True):
        cells = np.arange(low, low + size) // cell
        part.append(slice(int(cells[0]), int(cells[-1]) + 1))
        weights.append(np.bincount(cells - cells[0]) / size)
    return np.einsum("fzyx,z,y,x->f", features[tuple(part)].astype(np.float64), *weights, optimize=True)  # type: ignore[no-any-return]


def _tiles(image: Image) -> list[Box]:
    """Patches side by side at start positions of the grid; they do not intersect."""
    axes = []
    for starts, size in zip(image.grid.starts, image.grid.size_zyx, strict=True):
        kept: list[int] = []
        for start in starts.tolist():
            if not kept or start >= kept[-1] + size:
                kept.append(start)
        axes.append(kept)
    return [Box((z, y, x), image.grid.size_zyx) for z in axes[0] for y in axes[1] for x in axes[2]]


def _index(image: Image, box: Box) -> tuple[int, ...]:
    return tuple(int(np.searchsorted(s, v)) for s, v in zip(image.grid.starts, box.start_zyx, strict=True))


def _appearance(volume: npt.NDArray[np.float32], box: Box) -> Features:
    """Mean, deviation and mean absolute gradient along z, y, x of each channel in a patch."""
    values: list[float] = []
    for channel in volume:
        patch = channel[box.slices].astype(np.float64)
        values += [float(patch.mean()), float(patch.std())]
        values += [
            float(np.abs(np.diff(patch, axis=axis)).mean()) if patch.shape[axis] > 1 else 0.0 for axis in range(3)
        ]
    return np.array(values)


def _weighted(weight: Features, rng: np.random.Generator) -> int:
    """Index drawn with a chance proportional to its weight."""
    running = np.cumsum(weight)
    return int(min(np.searchsorted(running, rng.random() * running[-1], side="right"), np.flatnonzero(weight)[-1]))
