"""One query: from settings to the patches of `query.csv`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Shape, intersects
from nnactive_nf.core.labels import empty_patches, read_patches
from nnactive_nf.core.strategies import Named, canonical, options_of, own_options, registry, strategy_errors
from nnactive_nf.core.strategy_file import load_strategies
from nnactive_nf.core.uncertainty import UncertaintyMaps
from nnactive_nf.query import own
from nnactive_nf.query.base import Strategy
from nnactive_nf.query.diverse import Coverage, KMeansBald
from nnactive_nf.query.pool import Candidate, Image, Pool
from nnactive_nf.query.randomly import Random, guaranteed
from nnactive_nf.query.replay import Replay
from nnactive_nf.query.stratified import ClassStratified, exponential, sigmoid
from nnactive_nf.query.uncertainty import ExpectedDice, MeanOfMap, Power, Softrank


@dataclass(frozen=True)
class Settings:
    """What one query is asked for. See the command's options. `cycles` are the steps of a schedule that names none."""

    strategy: str
    seed: int
    cycle: int
    cycles: int | None
    size: int
    patch_zyx: Shape
    stride_zyx: Shape = (1, 1, 1)
    per_image: int = 20
    free_overlap: float = 0.4
    start: bool = False
    class_guarantee: bool = False
    workers: int = 1


@dataclass(frozen=True)
class Choice:
    """A strategy ready to be asked, with its canonical name, options and maps."""

    strategy: Strategy
    name: str
    options: Mapping[str, Any]
    maps: tuple[str, ...] = ()
    oracle_aware: bool = False
    start: bool = True


def _clasp_beta(image: Image) -> float:
    """Beta of a query of ClaSP PE: the one that labels cycle 1 is step 0 of `steps`, and after the last it stays."""
    options = image.options
    steps = int(options["steps"])
    step = min(max(image.cycle - 1, 0), steps - 1)
    ends = float(options["beta_start"]), float(options["beta_end"])
    if options["schedule"] == "sigmoid":
        return sigmoid(*ends, float(options["temperature"]), step, steps)
    return exponential(*ends, step, steps)


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "random": Random,
    "random_fg33": lambda: Random(4, 1, 1),
    "random_fg66": lambda: Random(1, 1, 1),
    "predictive_entropy": lambda: MeanOfMap("predictive_entropy"),
    "expected_entropy": lambda: MeanOfMap("expected_entropy"),
    "bald": lambda: MeanOfMap("mutual_information"),
    "power_bald": lambda: Power("mutual_information"),
    "power_pe": lambda: Power("predictive_entropy"),
    "softrank_bald": lambda: Softrank("mutual_information"),
    "class_pe": ClassStratified,
    "class_power_pe": lambda: ClassStratified(lambda image: float(image.options["beta"])),
    "clasp_pe": lambda: ClassStratified(_clasp_beta),
    "kmeans_bald": KMeansBald,
    "expected_dice": ExpectedDice,
    "coverage": Coverage,
    "replay": Replay,
}


def choice_of(text: str, strategy_file: Path | None = None, cycles: int | None = None) -> Choice:
    """The strategy that `name:option=value:...` names, from the registry or from a user's file.

    Args:
        text: what the user wrote.
        strategy_file: the user's file.
        cycles: cycles of the run, the `steps` of a schedule that names none.
    """
    named = Named.parse(text)
    theirs = load_strategies(strategy_file, f"--strategy-file {strategy_file}") if strategy_file else None
    errors = strategy_errors("--strategy", text, theirs)
    if errors:
        raise UserError(*errors)
    entry = registry().get(named.name)
    if entry is not None:
        options = options_of(entry, named)
        defaults = {name: rule["default"] for name, rule in entry.options.items()}
        # A schedule's steps are no part of the name: named or taken from the run's cycles, they make the same queries.
        name = canonical(named.name, options | {"steps": None}, defaults | {"steps": None})
        if entry.scheduled and options["steps"] is None:
            if cycles is None:
                raise UserError(f"strategy '{text}' has a schedule: give --cycles, or name {text}:steps=N")
            options["steps"] = cycles
        return Choice(STRATEGIES[named.name](), name, options, entry.maps, entry.oracle_aware, entry.start)
    assert theirs is not None and strategy_file is not None
    values = own_options(named)
    strategy = own.OwnStrategy(strategy_file, named.name, theirs.public[named.name], values)
    return Choice(strategy, canonical(named.name, values, {}), values, theirs.maps, start=not theirs.maps)


def query(
    prepared: Path,
    settings: Settings,
    *,
    strategy_file: Path | None = None,
    labels_file: Path | None = None,
    oracle_file: Path | None = None,
    uncertainty_files: Sequence[Path] = (),
) -> tuple[list[Candidate], Pool, Choice]:
    """Choose the patches to label next.

    Args:
        prepared: folder of the prepared data set.
        settings: what is asked for.
        strategy_file: a user's own strategies.
        labels_file: what is labelled so far; `None` at the start, where that counts which the data set brought along.
        oracle_file: complete masks; read by oracle-aware strategies and the class guarantee only.
        uncertainty_files: the shards of PREDICT.

    Returns:
        The patches, best first, the pool they were chosen from, and the strategy.
    """
    choice = choice_of(settings.strategy, strategy_file, settings.cycles)
    if settings.start and not choice.start:
        raise UserError(f"strategy '{settings.strategy}' needs a trained model, so it cannot be the start strategy")
    needs_oracle = choice.oracle_aware or settings.class_guarantee
    if needs_oracle and oracle_file is None:
        raise UserError(f"strategy '{settings.strategy}' with these settings sees the ground truth: give --oracle")
    if choice.maps and not uncertainty_files:
        raise UserError(f"strategy '{settings.strategy}' needs the maps {', '.join(choice.maps)}: give their files")
    dataset = Dataset.open(prepared)
    maps = UncertaintyMaps(uncertainty_files, dataset.shapes) if choice.maps else None
    if maps is not None and (missing := set(dataset.pool) - set(maps.cases)):
        raise UserError(
            f"{len(missing)} cases have no uncertainty maps, the first is {min(missing)}; is a shard missing?"
        )
    patches, node = empty_patches(dataset.classes), None
    labels_file = labels_file or dataset.given_labels
    if labels_file is not None:
        labels = read_patches(labels_file)
        dataset.check_owner(labels_file, labels.dataset, labels.classes)
        if labels.cycle != settings.cycle - 1:
            raise UserError(f"{labels_file}: labels of cycle {labels.cycle}; the query is for cycle {settings.cycle}")
        patches, node = labels.patches, labels.node
    if maps is not None:
        maps.check_owner(dataset.name, len(dataset.classes.channels), settings.cycle - 1, node)
    if oracle_file is not None and needs_oracle:
        oracle = read_patches(oracle_file, "oracle")
        dataset.check_owner(oracle_file, oracle.dataset, oracle.classes)
    cap = choice.options.get("cap")
    pool = Pool(
        dataset=dataset, patch_zyx=settings.patch_zyx, stride_zyx=settings.stride_zyx,
        per_image=settings.per_image if cap is None else int(cap), free_overlap=settings.free_overlap,
        seed=settings.seed, cycle=settings.cycle, strategy=choice.name, options=choice.options,
        declared=choice.maps, maps=maps, labels_file=labels_file, patches=patches,
        oracle_file=oracle_file if needs_oracle else None, workers=settings.workers,
    )  # fmt: skip
    return choose(pool, choice, settings.size, settings.class_guarantee), pool, choice


def choose(pool: Pool, choice: Choice, size: int, class_guarantee: bool = False) -> list[Candidate]:
    """The patches that a strategy chooses in a pool, best first; with the class guarantee, those of the classes first.

    Raises:
        UserError: there are not `size` candidates, or a user's strategy chose what may not be chosen.
    """
    picks = guaranteed(pool, size) if class_guarantee else []
    asked = pool.with_picked(picks)
    if not choice.oracle_aware:  # the guarantee has seen the ground truth, the strategy must not
        asked = replace(asked, oracle_file=None)
    if len(picks) < size:
        picks = [*picks, *choice.strategy.query(asked, size - len(picks))]
    check_picks(picks, pool, size)
    return picks


def check_picks(picks: Sequence[Candidate], pool: Pool, size: int) -> None:
    """What holds for every query, whatever strategy made it."""
    if len(picks) != size:
        raise UserError(f"strategy '{pool.strategy}' chose {len(picks)} patches, {size} were asked for")
    seen: dict[str, list[Any]] = {}
    for pick in picks:
        if pick.case not in pool.cases:
            raise UserError(f"strategy '{pool.strategy}' chose case {pick.case}, which is not in the pool")
        image = pool.image(pick.case)
        others = seen.setdefault(pick.case, image.boxes)
        if not pick.box.inside(image.shape_zyx):
            raise UserError(f"strategy '{pool.strategy}' chose {pick.box}, outside the image {pick.case}")
        if any(intersects(pick.box, other) for other in others):
            raise UserError(f"strategy '{pool.strategy}' chose {pick.box} in {pick.case}, which intersects another")
        others.append(pick.box)


def as_table(picks: Sequence[Candidate]) -> pd.DataFrame:
    """The query table of chosen patches."""
    rows = [
        (rank, pick.case, *pick.box.start_zyx, *pick.box.size_zyx, pick.score, pick.component)
        for rank, pick in enumerate(picks, start=1)
    ]
    return pd.DataFrame(rows, columns=["rank", "case", "z", "y", "x", "dz", "dy", "dx", "score", "component"])
