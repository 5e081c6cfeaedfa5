"""What strategies have in common: candidates image by image, then a choice over the pool."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import intersects
from nnactive_nf.query.grid import Scores
from nnactive_nf.query.pool import Candidate, Image, Pool


class Strategy:
    """A query strategy. Subclasses say which patches of an image are candidates and how the pool chooses."""

    def query(self, pool: Pool, size: int) -> list[Candidate]:
        """The `size` patches to label next, best first.

        Raises:
            UserError: the pool has fewer candidates; the message says how many.
        """
        candidates = list(chain.from_iterable(pool.each_image(self.candidates)))
        return self.choose(candidates, pool, size)

    def candidates(self, image: Image) -> list[Candidate]:
        """Candidates of one image: none intersects another or what is labelled."""
        raise NotImplementedError

    def choose(self, candidates: Sequence[Candidate], pool: Pool, size: int) -> list[Candidate]:  # noqa: ARG002
        """The best `size` of all candidates."""
        enough(len(candidates), size)
        return sorted(candidates, key=lambda c: c.key)[:size]

    def more(self, pool: Pool, picks: Sequence[Candidate], size: int) -> list[Candidate]:
        """The `size` patches that come next, best first, after these were chosen.

        Raises:
            UserError: as `query`.
        """
        return self.query(pool.with_picked(picks), size)


class Scored(Strategy):
    """A strategy that gives every start position a score. Per image, the best that do not intersect are candidates."""

    def scores(self, image: Image) -> Scores:
        """Scores of all start positions that may be chosen."""
        raise NotImplementedError

    def candidates(self, image: Image) -> list[Candidate]:
        """The best patches of one image, at most as many as it may give."""
        if image.patches_left < 1:
            return []
        return [Candidate(image.case, box, score) for box, score in self.scores(image).take(image.patches_left)]


class Room:
    """Which candidates are still open: not chosen, not on a chosen patch, their image not full."""

    def __init__(self, candidates: Sequence[Candidate], pool: Pool) -> None:
        self._candidates = candidates
        self.open = np.ones(len(candidates), dtype=bool)
        self._of_case: dict[str, list[int]] = {}
        for place, candidate in enumerate(candidates):
            self._of_case.setdefault(candidate.case, []).append(place)
        self._left = {case: pool.image(case).patches_left for case in self._of_case}

    @property
    def most(self) -> int:
        """How many can be chosen in all, if no two of them intersect."""
        return sum(min(len(places), self._left[case]) for case, places in self._of_case.items())

    def take(self, place: int) -> None:
        """Choose one."""
        taken = self._candidates[place]
        self._left[taken.case] -= 1
        for other in self._of_case[taken.case]:
            if self._left[taken.case] < 1 or intersects(self._candidates[other].box, taken.box):
                self.open[other] = False


def next_of_longer(strategy: Strategy, pool: Pool, picks: Sequence[Candidate], size: int) -> list[Candidate]:
    """`Strategy.more` where each choice rests on those before it: a longer query begins with a shorter one."""
    return strategy.query(pool, len(picks) + size)[len(picks) :]


class TooFewError(UserError):
    """A pool has fewer candidates than a query wants, by `lacking`."""

    def __init__(self, lacking: int, line: str) -> None:
        super().__init__(line)
        self.lacking = lacking


def enough(found: int, size: int) -> None:
    """`TooFewError` where fewer candidates were found than the query wants."""
    if found < size:
        raise TooFewError(
            size - found,
            f"the query wants {size} patches, but the pool has only {found} candidates that do not intersect labelled "
            "patches; lower the query size, raise patches_per_image or use smaller patches",
        )
