"""plan.json: rows and nodes as `functions/forecast.nf` writes them; the plan were each strategy a run of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from nnactive_nf.core.demands import Demands
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json


@dataclass(frozen=True)
class Strategy:
    """A strategy of a row, and the maps that it reads, with commas between; '' where it needs no model."""

    name: str
    maps: str

    @property
    def needs_model(self) -> bool:
        """Whether it reads maps."""
        return bool(self.maps)


@dataclass(frozen=True)
class Row:
    """One data set in one regime; names as in `nextflow_schema.json` but for these.

    Attributes:
        source: `phantom`, `download` (still to be downloaded) or `folder`.
        folder: where the raw data set is, as the user knows it.
        whole_pool: whether it is the reference on full labels: no strategies, no queries.
        patients: whether cases may share a patient.
        exports, segments: tasks that make what other tools take.
        held_out: the test set, where it is given by names.
        test_folder: whether it is nnU-Net's imagesTs.
        demands: what is held against the data.
        plans: the user's plans file, as the user knows it.
        oracle: who labels, the data set's labels or people.
    """

    dataset: str
    regime: str
    input: str
    source: str
    folder: str
    whole_pool: bool
    strategies: tuple[Strategy, ...]
    seeds: tuple[int, ...]
    cycles: int
    start_size: int
    query_size: int | tuple[int, ...]
    patch_size: str
    view_patches: int
    configuration: str
    planner: str
    plans: str | None
    test_fraction: float
    test_cases: str | None
    held_out: tuple[str, ...]
    test_folder: bool
    phantom_cases: int
    folds: int
    epochs: int
    iterations: int
    train_patch_size: str | None
    features: int | None
    batch_size: int | None
    shards: int
    exports: int
    segments: int
    patients: bool
    demands: Demands
    oracle: str
    optimiser: str
    device: str
    trainer_file: str | None

    @property
    def key(self) -> tuple[str, str]:
        """Rows of one data set may be trained in different ways."""
        return self.dataset, self.regime


@dataclass(frozen=True)
class Node:
    """A trained ensemble; `strategy` is '' at cycle 0, which all strategies share.

    Attributes:
        free: ids of the nodes whose labels follow from this one's labels alone.
        asked: for each set of maps that PREDICT is asked for (names with commas between) the ids of the nodes whose
            labels follow from it.
    """

    id: str
    seed: int
    cycle: int
    strategy: str
    free: tuple[str, ...]
    asked: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Group:
    """A row with its nodes, cycle by cycle. Nothing follows from a node of one row in another."""

    row: Row
    nodes: tuple[Node, ...]

    @property
    def trainings(self) -> int:
        """Number of trainings."""
        return len(self.nodes) * self.row.folds


def read_plan(path: Path) -> list[Group]:
    """The rows of plan.json in their order, with their nodes."""
    content = read_json(path)
    try:
        groups: list[list[Node]] = [[] for _ in content["rows"]]
        for entry in content["nodes"]:
            groups[entry["row"]].append(_made(Node, entry))
        return [Group(_row(row), tuple(nodes)) for row, nodes in zip(content["rows"], groups, strict=True)]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UserError(f"{path}: not the plan of a run ({error!r})") from None


def _row(entry: dict[str, Any]) -> Row:
    names = [strategy["name"] for strategy in entry["strategies"]]
    made = {
        "strategies": [_made(Strategy, strategy) for strategy in entry["strategies"]],
        "patients": entry["source"] == "phantom" or bool(entry["groups"] or entry["group_pattern"]),
        "demands": Demands.of(entry | {"strategies": names}),
    }
    return _made(Row, {**entry, **made})


def _made(kind: type[Any], entry: dict[str, Any]) -> Any:
    values = {field.name: entry[field.name] for field in fields(kind)}
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def without_sharing(groups: Sequence[Group]) -> list[Group]:
    """The same plan, were each strategy a run of its own: with a cycle 0 for each."""
    return [
        own
        for group in groups
        for own in (
            [_alone(group, strategy) for strategy in group.row.strategies] if len(group.row.strategies) > 1 else [group]
        )
    ]


def _alone(group: Group, strategy: Strategy) -> Group:
    """The part of a group that a strategy would run alone."""
    nodes = [node for node in group.nodes if node.strategy in ("", strategy.name)]
    its = {node.id for node in nodes}
    kept = [
        replace(
            node,
            free=tuple(name for name in node.free if name in its),
            asked={maps: [i for i in ids if i in its] for maps, ids in node.asked.items() if maps == strategy.maps},
        )
        for node in nodes
    ]
    return Group(replace(group.row, strategies=(strategy,), regime=f"{group.row.regime}/{strategy.name}"), tuple(kept))
