"""What a (data set, regime) asks for, and what is wrong with it: for CHECK before a run, for FORECAST before a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnactive_nf.core.budget import Budget, PoolSize, budget_errors
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.stop_rules import stop_errors
from nnactive_nf.core.strategies import list_errors, strategy_errors
from nnactive_nf.core.strategy_file import StrategyFile, load_strategies


@dataclass(frozen=True)
class Demands:
    """What a (data set, regime) is to be run with.

    Attributes:
        where: the row of a study table, as messages name it; '' where there is no table.
        budget: sizes and folds.
        start_strategy: name of the start's strategy, options included.
        strategies: names of the strategies, options included.
        given: files by the parameter that names them: their path as the user knows it, and where they are.
        stop: rules by which its trajectories stop before the plan does; '' for none.
    """

    where: str
    budget: Budget
    start_strategy: str
    strategies: tuple[str, ...]
    given: Mapping[str, tuple[str, Path]] = field(default_factory=dict)
    stop: str = ""

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Demands:
        """From what the workflow writes: a map of the names above, the budget's among them."""
        sizes = content["query_size"]
        largest = {"query_size": sizes if isinstance(sizes, int) else max(sizes)}
        budget = Budget(**{name: content[name] for name in Budget.__dataclass_fields__} | largest)
        given = {name: (shown, Path(path)) for name, (shown, path) in content.get("given", {}).items()}
        names = content["start_strategy"], tuple(content["strategies"])
        return cls(content.get("where", ""), budget, *names, given, content.get("stop") or "")

    def told(self, lines: Sequence[str]) -> list[str]:
        """Messages about parameters (`--name ..`); in a table they are about the row's cells."""
        return [f"{self.where}: {line.removeprefix('--')}" if self.where else line for line in lines]

    def budget_errors(self, pool: PoolSize) -> list[str]:
        """What the pool cannot give, see `nnactive_nf.core.budget`."""
        return self.told(budget_errors(self.budget, pool))

    def stop_errors(self, people: bool) -> list[str]:
        """What is wrong with its rules to stop by, see `nnactive_nf.core.stop_rules`."""
        return self.told(stop_errors("--stop", self.stop, self.strategies, people))


def all_strategy_errors(rows: Sequence[Demands], strategy_file: Path | None, shown: str | None) -> list[str]:
    """What is wrong with names and options of strategies and with a user's file, one line each.

    Args:
        rows: what is asked for.
        strategy_file: the user's strategies, or None.
        shown: that file's path as the user knows it.
    """
    theirs: StrategyFile | None = None
    if strategy_file is not None:
        try:
            theirs = load_strategies(strategy_file, f"--strategy_file {shown}")
        except UserError as error:
            return list(error.lines)  # whether unknown names are its own cannot be told
    errors = []
    for row in rows:
        of_start = strategy_errors("--start_strategy", row.start_strategy, theirs)
        errors += row.told([*list_errors(row.strategies, theirs), *of_start])
    return errors
