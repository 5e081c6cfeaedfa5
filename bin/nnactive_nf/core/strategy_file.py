"""A user's Python file of strategies: what stands in it, and whether it will do."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.python_file import load_python
from nnactive_nf.core.strategies import nearest, registry
from nnactive_nf.core.uncertainty import MAPS


@dataclass(frozen=True)
class StrategyFile:
    """A strategy file that was loaded.

    Attributes:
        where: how messages name it.
        maps: maps that its line `MAPS = [...]` names.
        public: its public functions and classes by name.
    """

    where: str
    maps: tuple[str, ...]
    public: Mapping[str, Callable[..., Any]]

    def option_errors(self, name: str, options: Mapping[str, Any]) -> list[str]:
        """Whether options fit the function's (or the class's) parameters."""
        thing = self.public[name]
        signature = inspect.signature(thing)
        try:
            signature.bind(*(() if inspect.isclass(thing) else (None,)), **options)
        except TypeError as error:
            return [f"{self.where}: options of strategy '{name}' do not fit {name}{signature}: {error}"]
        return []


def load_strategies(path: Path, where: str) -> StrategyFile:
    """Load a user's file; its code runs.

    Args:
        path: the file.
        where: how messages name it.

    Raises:
        UserError: all that is wrong with it, one line each.
    """
    public = _public(load_python(path, where, "strategy_file"))
    maps = declared_maps(path.read_text(encoding="utf-8"))
    errors = [] if public else [f"{where}: no public function or class is defined in it"]
    if maps is None:
        errors += [f"{where}: no line MAPS = [...] that names the maps it needs; write MAPS = [] for none"]
    errors += [
        f"{where}: MAPS names '{name}'; did you mean '{nearest(name, MAPS)}'?"
        for name in maps or () if name not in MAPS
    ]  # fmt: skip
    errors += [
        f"{where}: '{name}' is the name of a built-in strategy; take another" for name in public if name in registry()
    ]
    if errors:
        raise UserError(*errors)
    return StrategyFile(where, maps or (), public)


def declared_maps(code: str) -> tuple[str, ...] | None:
    """Names in the line `MAPS = ["...", ...]`; `None` where there is no such line.

    The workflow reads that line before any Python runs (functions/parameters.nf), so it must be written out.
    """
    for node in ast.parse(code).body:
        named = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if not any(isinstance(target, ast.Name) and target.id == "MAPS" for target in named):
            continue
        try:
            value = ast.literal_eval(getattr(node, "value", None) or ast.Constant(None))
        except ValueError:
            return None
        whole = isinstance(value, list | tuple) and all(isinstance(name, str) for name in value)
        return tuple(value) if whole else None
    return None


def _public(module: ModuleType) -> dict[str, Callable[..., Any]]:
    return {
        name: thing
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(thing) or inspect.isclass(thing))
        and thing.__module__ == module.__name__
    }
