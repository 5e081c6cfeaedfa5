"""A user's own strategies at work."""

from __future__ import annotations

import inspect
import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box, as_shape
from nnactive_nf.core.python_file import kind_of
from nnactive_nf.query.base import Scored
from nnactive_nf.query.grid import Scores, planes_of
from nnactive_nf.query.pool import Candidate, Image, Pool


class OwnStrategy(Scored):
    """A function `name(image, **options)` that returns a map, or a class with `scores(image)` and maybe `choose`."""

    def __init__(self, path: Path, name: str, thing: Callable[..., Any], options: Mapping[str, Any]) -> None:
        self.path = path
        self.where = f"{path}: strategy '{name}'"
        self.options = options
        self.thing: Any = self._ask(thing, **options) if inspect.isclass(thing) else thing

    def scores(self, image: Image) -> Scores:
        """Scores of all start positions: means of the function's map, or what the class's `scores` gives."""
        if not hasattr(self.thing, "scores"):
            values = np.asarray(self._ask(self.thing, image, **self.options))
            self._check(values, image.shape_zyx, "map")
            return image.mean_scores(planes_of(values.astype(np.float64, copy=False)))
        values = np.asarray(self._ask(self.thing.scores, image))
        self._check(values, image.grid.counts, "scores")
        return image.bar(Scores(values.astype(np.float64), image.grid))

    def choose(self, candidates: Sequence[Candidate], pool: Pool, size: int) -> list[Candidate]:
        """The class's own choice, checked, or the best of all."""
        if not hasattr(self.thing, "choose"):
            return super().choose(candidates, pool, size)
        picks = self._ask(lambda: [self._candidate(pick) for pick in self.thing.choose(candidates, pool, size)])
        self._check_choice(picks, pool)
        return picks  # type: ignore[no-any-return]

    def _ask(self, thing: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call the user's code; what goes wrong in it is told with its line."""
        try:
            return thing(*arguments, **options)
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{self.where}: {kind_of(error, self.path)}: {error}") from error

    def _candidate(self, pick: Any) -> Candidate:
        """What was chosen, if it is a candidate whose box holds whole numbers, of any kind."""
        if not isinstance(pick, Candidate):
            raise UserError(f"{self.where}: chose {type(pick).__name__} {pick!r}; choose returns candidates")
        start_zyx, size_zyx = (as_shape(map(operator.index, part)) for part in pick.box)
        return pick._replace(box=Box(start_zyx, size_zyx))

    def _check_choice(self, picks: Sequence[Candidate], pool: Pool) -> None:
        """The rules by which candidates are made. What no query may break is checked for all, in `query.run`."""
        for pick in picks:
            if pick.case not in pool.cases:
                continue
            image = pool.image(pick.case)
            if pick.box.size_zyx != image.grid.size_zyx:
                raise UserError(
                    f"{self.where}: chose a patch of {pick.box.size_zyx} voxels in {pick.case}; "
                    f"a patch has {image.grid.size_zyx} there"
                )
            if image.too_free(pick.box):
                raise UserError(
                    f"{self.where}: chose {pick.box} in {pick.case}, of which more than "
                    f"{pool.free_overlap:.0%} is free space (free_overlap)"
                )
        for case, count in Counter(pick.case for pick in picks).items():
            if count > (left := pool.image(case).patches_left):
                raise UserError(
                    f"{self.where}: chose {count} patches in {case}, which may give {left} (patches_per_image)"
                )

    def _check(self, values: np.ndarray[Any, Any], shape: tuple[int, ...], what: str) -> None:
        if values.shape != shape or not (np.issubdtype(values.dtype, np.number) or values.dtype == bool):
            raise UserError(f"{self.where}: returned {what} {values.dtype} of shape {values.shape}, expected {shape}")
        if np.isnan(values).any() or np.isposinf(values).any():
            raise UserError(f"{self.where}: returned {what} with values that are not numbers")
