"""Random strategies, plain and foreground-aware, and the class guarantee of a start."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, find_objects

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box, as_shape, box_around, intersects
from nnactive_nf.query.base import Strategy, enough
from nnactive_nf.query.grid import Grid
from nnactive_nf.query.pool import ALL, Candidate, Image, Pool

TRIES = 64  # draws at random before all that are allowed are listed; both give every allowed one the same chance

Flat = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Random(Strategy):
    """Images in shuffled rounds, one patch each time.

    Each patch lies anywhere, on a class, or on a class's border: for the latter two a foreground class that is present
    in the image is drawn, then one of its voxels (border: of the class less its 6-neighbour erosion) as the patch's
    centre, and the patch is moved inside the image. Patches start at any voxel, whatever the stride. Where a draw is
    not allowed it is drawn again. Where a class has no allowed voxel another class is drawn, and where no class has
    one the patch lies anywhere.

    Args:
        whole, inside, border: parts of the three kinds, whole numbers.
    """

    whole: int = 1
    inside: int = 0
    border: int = 0

    def query(self, pool: Pool, size: int) -> list[Candidate]:
        """Patches in the order of drawing. Every image has a stream of its own, so workers change nothing."""
        rng = pool.rng("rounds")
        chosen: list[Candidate] = []
        drawn = 0
        for place in range(pool.per_image):
            order = [pool.cases[int(i)] for i in rng.permutation(len(pool.cases))]
            before = drawn
            while order and drawn < size:
                some, order = order[: size - drawn], order[size - drawn :]
                draws = pool.each_image(lambda image, place=place: self.draws(image, place + 1), some)  # type: ignore[misc]
                found = [patches[place] for patches in draws if len(patches) > place]
                chosen += found
                drawn += len(found)
            if drawn == before:
                break
        enough(drawn, size)
        return chosen

    def draws(self, image: Image, count: int) -> list[Candidate]:
        """The first `count` patches of an image, fewer where there are no more; a longer list starts with a shorter."""
        rng = image.rng()
        count = min(count, image.patches_left)
        mask = image.oracle() if self.inside + self.border and count > 0 else None
        present = (
            [] if mask is None else [name for name in image.classes.targets if image.classes.mask_of(mask, name).any()]
        )
        taken: list[Candidate] = []
        while len(taken) < count:
            kind = int(rng.integers(self.whole + self.inside + self.border))
            found: Candidate | None = None
            if kind >= self.whole and mask is not None:
                of_border = kind >= self.whole + self.inside
                for place in rng.permutation(len(present)):
                    name = present[int(place)]
                    if box := _centred(image, image.classes.mask_of(mask, name), of_border, taken, rng):
                        found = Candidate(image.case, box, 0.0, name)
                        break
            if found is None:
                anywhere = _anywhere(image, taken, rng)
                if anywhere is None:
                    break
                found = Candidate(image.case, anywhere, 0.0, ALL)
            taken.append(found)
        return taken


def guaranteed(pool: Pool, size: int) -> list[Candidate]:
    """Two patches for every class, background included, in two different cases, each centred on a voxel of the class.

    Where there are regions they are the classes. Classes with the fewest cases first. Each class takes cases of two
    groups (patients) where there are two, and of these such that have no patch yet. The patches count towards the
    start's budget.

    Raises:
        UserError: the budget is smaller than two patches per class, or a class is in no case.
    """
    names = [*pool.classes.named]
    if size < 2 * len(names):
        raise UserError(
            f"a start of {size} patches cannot hold 2 of each of the {len(names)} classes (background included): "
            f"raise the start size to {2 * len(names)} or start without the class guarantee"
        )
    holds = pool.each_image(_classes_in)
    cases_of = [[case for case, held in zip(pool.cases, holds, strict=True) if i in held] for i in range(len(names))]
    chosen: list[Candidate] = []
    for index in sorted(range(len(names)), key=lambda i: (len(cases_of[i]), i)):
        name = names[index]
        if not cases_of[index]:
            raise UserError(f"class '{name}' is in no case of the pool: the start cannot hold it")
        rng = pool.rng("guarantee", name)
        found: list[str] = []
        order = [cases_of[index][int(place)] for place in rng.permutation(len(cases_of[index]))]
        with_patch = {pick.case for pick in chosen}
        order.sort(key=lambda case: case in with_patch)
        for case in _groups_first(order, pool):
            image = pool.with_picked(chosen).image(case)
            if len(found) == 2 or image.patches_left < 1:
                continue
            box = _centred(image, pool.classes.mask_of(image.oracle(), name), False, [], rng)
            if box is not None:
                chosen.append(Candidate(case, box, 0.0, name))
                found.append(case)
        if len(found) < 2:
            pool.log(f"class '{name}' gets {len(found)} of its 2 guaranteed patches; it is in {len(order)} case(s)")
    return chosen


def _groups_first(cases: Sequence[str], pool: Pool) -> list[str]:
    """The first case of each group (patient), then the others: folds never part a group, so two groups serve better."""
    first: dict[str, str] = {}
    for case in cases:
        first.setdefault(pool.dataset.groups[case], case)
    return [*first.values(), *(case for case in cases if case not in first.values())]


def _classes_in(image: Image) -> list[int]:
    return image.classes.held(image.oracle())


def _draw(rng: np.random.Generator, count: int, allowed: Callable[[int], bool], all_allowed: Callable[[], Flat]) -> int:
    """One of the allowed of `count` things, each with the same chance; -1 where none is allowed."""
    for _ in range(TRIES if count else 0):
        place = int(rng.integers(count))
        if allowed(place):
            return place
    places = all_allowed() if count else np.empty(0, dtype=np.int64)
    return int(places[rng.integers(len(places))]) if len(places) else -1


def _anywhere(image: Image, taken: Sequence[Candidate], rng: np.random.Generator) -> Box | None:
    """A patch at any voxel, uniformly among the allowed ones."""
    grid = image.dense_grid
    place = _draw(
        rng,
        int(np.prod(grid.counts)),
        lambda flat: _may_take(image, taken, grid.box_at(flat)),
        lambda: np.flatnonzero(_allowed(image, taken, grid)),
    )
    return None if place < 0 else grid.box_at(place)


def _centred(
    image: Image, mask: npt.NDArray[np.bool_], of_border: bool, taken: Sequence[Candidate], rng: np.random.Generator
) -> Box | None:
    """A patch around a voxel of the mask (or of its border), uniformly among the voxels whose patch is allowed."""
    voxels = np.flatnonzero(border_of(mask) if of_border else mask)
    size, shape = image.dense_grid.size_zyx, image.shape_zyx

    def box(place: int) -> Box:
        return box_around(as_shape(np.unravel_index(voxels[place], shape)), size, shape)  # type: ignore[arg-type]

    def all_allowed() -> Flat:
        allowed = _allowed(image, taken, image.dense_grid)
        starts = (
            np.clip(centre - n // 2, 0, length - n)
            for centre, n, length in zip(np.unravel_index(voxels, shape), size, shape, strict=True)
        )
        return np.flatnonzero(allowed[tuple(starts)])

    place = _draw(rng, len(voxels), lambda i: _may_take(image, taken, box(i)), all_allowed)
    return None if place < 0 else box(place)


def border_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A mask less its 6-neighbour erosion; voxels at the image's edge are border."""
    border = np.zeros_like(mask)
    for region in find_objects(mask.astype(np.uint8)):
        border[region] = mask[region] & ~binary_erosion(mask[region])
    return border


def _may_take(image: Image, taken: Sequence[Candidate], box: Box) -> bool:
    return image.may_take(box) and not any(intersects(box, other.box) for other in taken)


def _allowed(image: Image, taken: Sequence[Candidate], grid: Grid) -> npt.NDArray[np.bool_]:
    allowed = image.allowed(grid)
    for other in taken:
        allowed[grid.intersecting(other.box)] = False
    return allowed
