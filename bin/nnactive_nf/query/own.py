"""A user's own strategies from one Python file."""

from __future__ import annotations

import importlib.util
import inspect
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.uncertainty import MAPS
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
        return list(self._ask(self.thing.choose, candidates, pool, size))

    def _ask(self, thing: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call the user's code; what goes wrong in it is told with its line."""
        try:
            return thing(*arguments, **options)
        except UserError:
            raise
        except Exception as error:
            lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(self.path)]
            at = f" in line {lines[-1]}" if lines else ""
            raise UserError(f"{self.where}: {type(error).__name__}{at}: {error}") from error

    def _check(self, values: np.ndarray[Any, Any], shape: tuple[int, ...], what: str) -> None:
        if values.shape != shape or not (np.issubdtype(values.dtype, np.number) or values.dtype == bool):
            raise UserError(f"{self.where}: returned {what} {values.dtype} of shape {values.shape}, expected {shape}")
        if np.isnan(values).any() or np.isposinf(values).any():
            raise UserError(f"{self.where}: returned {what} with values that are not numbers")


def load(path: Path) -> tuple[ModuleType, tuple[str, ...], dict[str, Callable[..., Any]]]:
    """A strategy file: its module, the maps it declares in `MAPS`, and its public functions and classes by name."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(f"strategy_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(f"{path}: cannot be loaded ({type(error).__name__}: {error})") from None
    maps = getattr(module, "MAPS", None)
    if not isinstance(maps, list | tuple) or not all(isinstance(name, str) for name in maps):
        raise UserError(f'{path}: has no line MAPS = ["..."] that names the maps it needs ([] for none)')
    unknown = sorted(set(maps) - set(MAPS))
    if unknown:
        raise UserError(f"{path}: MAPS names {', '.join(unknown)}; there are {', '.join(MAPS)}")
    public: dict[str, Callable[..., Any]] = {
        name: thing
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(thing) or inspect.isclass(thing))
        and thing.__module__ == module.__name__
    }
    return module, tuple(maps), public


def check_options(path: Path, name: str, thing: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """`UserError` where options do not fit the function's (or the class's) parameters."""
    signature = inspect.signature(thing)
    arguments = () if inspect.isclass(thing) else (None,)
    try:
        signature.bind(*arguments, **options)
    except TypeError as error:
        raise UserError(f"{path}: options of strategy '{name}' do not fit {name}{signature}: {error}") from None
