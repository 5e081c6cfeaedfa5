"""`design.json`: the plan of a study, written by the workflow and read by the analysis and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json
from nnactive_nf.core.names import check_names

MEAN = "mean"  # the "class" that stands for the mean over the foreground classes in tables


@dataclass(frozen=True)
class Strategy:
    """A query strategy as the study names it: `name` is the user's text, options included."""

    name: str
    base: str
    label: str
    paper_name: str
    oracle_aware: bool
    needs_model: bool

    @property
    def is_random(self) -> bool:
        """Whether it is one of the random baselines that the others are measured against."""
        return self.base.startswith("random") and not self.needs_model


@dataclass(frozen=True)
class Group:
    """A data set in one label regime.

    Sizes are patches, `query_size` of all queries or of each; `patch_size` is (z, y, x) in voxels, () for whole images.
    `reference` is the regime under which the training on the whole pool goes; '' where there is none.
    """

    dataset: str
    regime: str
    start_size: int
    query_size: int | tuple[int, ...]
    patch_size: tuple[int, ...]
    start_strategy: str
    reference: str = ""


@dataclass(frozen=True)
class Trajectory:
    """One strategy with one seed: the nodes that it trains and the patches labelled for each, by cycle."""

    id: str
    dataset: str
    regime: str
    strategy: str
    seed: int
    nodes: tuple[str, ...]
    budgets: tuple[int, ...]

    @property
    def setting(self) -> tuple[str, str]:
        """(data set, regime)."""
        return self.dataset, self.regime


@dataclass(frozen=True)
class Design:
    """The plan of a study."""

    cycles: int
    folds: int
    strategies: tuple[Strategy, ...]
    groups: tuple[Group, ...]
    trajectories: tuple[Trajectory, ...]

    @classmethod
    def read(cls, path: Path) -> Design:
        """Read `design.json`; `UserError` where it is none."""
        return cls.of(read_json(path), str(path))

    @classmethod
    def of(cls, content: Any, where: str = "design.json") -> Design:
        """Design from the JSON's content, in the order that does not depend on how it was written down.

        Strategies and groups keep their order (tables and colours follow it), trajectories are sorted by group,
        strategy and seed.
        """
        try:
            strategies = tuple(_record(Strategy, item) for item in content["strategies"])
            groups = tuple(_group(item) for item in content["groups"])
            trajectories = [_trajectory(item) for item in content["trajectories"]]
            cycles, folds = int(content["cycles"]), int(content["folds"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{where}: not the plan of a study ({error!r})") from None
        check_names("data set", [group.dataset for group in groups], where)
        check_names("regime", [group.regime for group in groups], where)
        check_names("strategy", [strategy.name for strategy in strategies], where)
        check_names("trajectory", [trajectory.id for trajectory in trajectories], where)
        check_names("node", [node for trajectory in trajectories for node in trajectory.nodes], where)
        by_group = {(group.dataset, group.regime): place for place, group in enumerate(groups)}
        by_strategy = {strategy.name: place for place, strategy in enumerate(strategies)}
        for trajectory in trajectories:
            if trajectory.setting not in by_group or trajectory.strategy not in by_strategy:
                raise UserError(f"{where}: trajectory {trajectory.id} has a data set, regime or strategy not listed")
            if len(trajectory.nodes) != len(trajectory.budgets):
                raise UserError(f"{where}: trajectory {trajectory.id} has not as many nodes as budgets")
        trajectories.sort(key=lambda t: (by_group[t.setting], by_strategy[t.strategy], t.seed, t.id))
        return cls(cycles, folds, strategies, groups, tuple(trajectories))

    def as_json(self) -> dict[str, Any]:
        """The content of `design.json`."""
        return asdict(self)

    def strategy(self, name: str) -> Strategy:
        """The strategy of this name."""
        return next(strategy for strategy in self.strategies if strategy.name == name)

    @property
    def settings(self) -> list[tuple[str, str]]:
        """(data set, regime) of every group, in order."""
        return [(group.dataset, group.regime) for group in self.groups]

    def of_setting(self, setting: tuple[str, str]) -> list[Trajectory]:
        """Trajectories of a (data set, regime)."""
        return [trajectory for trajectory in self.trajectories if trajectory.setting == setting]


def _record(kind: type[Any], item: Mapping[str, Any]) -> Any:
    return kind(**{name: item[name] for name in kind.__dataclass_fields__})


def _group(item: Mapping[str, Any]) -> Group:
    size = item["patch_size"]
    if size == "whole_image":
        size = ()
    numbers = size.replace("x", ",").split(",") if isinstance(size, str) else size
    queries = item["query_size"]
    sizes = {
        "patch_size": tuple(int(n) for n in numbers),
        "query_size": tuple(int(n) for n in queries) if isinstance(queries, list | tuple) else int(queries),
    }
    group: Group = _record(Group, {"reference": "", **item, **sizes})
    return group


def _trajectory(item: Mapping[str, Any]) -> Trajectory:
    lists = {"nodes": tuple(item["nodes"]), "budgets": tuple(int(n) for n in item["budgets"])}
    trajectory: Trajectory = _record(Trajectory, {**item, "seed": int(item["seed"]), **lists})
    return trajectory
