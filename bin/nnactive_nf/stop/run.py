"""The stage as a whole: measures, labels and the next query in, a decision out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_object, whole_file
from nnactive_nf.core.labels import MINUTES, is_asked_for, read_patches
from nnactive_nf.core.query_table import read_query
from nnactive_nf.core.stop_rules import Rule
from nnactive_nf.stop.decide import Progress, Stop, decide

COLUMNS = ["trajectory", "cycle", "rule", "value", "why"]


def progress_of(labels_file: Path, query_file: Path, metrics: Sequence[Path]) -> Progress:
    """What is known of a trajectory.

    Args:
        labels_file: the labels that its last node was trained on.
        query_file: the query that was made with that node.
        metrics: measures of all its nodes, in any order.

    Raises:
        UserError: a cycle's measures are missing, or those of another are among them.
    """
    labels = read_patches(labels_file)
    query = read_query(query_file)
    labelled = labels.patches[labels.patches["cycle"] >= 0]  # without cases that were labelled before
    patches = labelled[is_asked_for(labelled)]
    return Progress(
        dice=_curve(metrics, labels.cycle),
        patches=len(patches),
        voxels=int(labelled["foreground_voxels"].sum()),
        minutes=float(patches[MINUTES].sum(min_count=1)) if MINUTES in patches else math.nan,
        asked=len(query),
        gain=_gain(patches.loc[patches["cycle"] == 1, "score"], query["score"]),
    )


def _curve(metrics: Sequence[Path], last: int) -> list[float]:
    """Mean Dice by cycle."""
    by_cycle = {}
    for path in metrics:
        content = read_object(path)
        try:
            by_cycle[int(content["cycle"])] = _number(content["mean"]["foreground"]["dice"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path}: not the metrics of a node ({error!r})") from None
    if sorted(by_cycle) != list(range(last + 1)) or len(metrics) != last + 1:
        raise UserError(f"metrics of cycles {sorted(by_cycle)} were given, those of 0 to {last} are wanted")
    return [by_cycle[cycle] for cycle in range(last + 1)]


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _gain(first: pd.Series, proposed: pd.Series) -> float:
    """Mean score of the proposed patches, as a share of that of the first query by a model; NaN where there is none."""
    before, now = (float(np.mean(scores)) if len(scores) else math.nan for scores in (first, proposed))
    return now / before if before > 0 else math.nan


def stop_or_go(rules: Sequence[Rule], progress: Progress, trajectory: str, going: Path, stopped: Path) -> Stop | None:
    """Write a table of one row that says why the trajectory stops, or one without rows where it goes on."""
    stop = decide(rules, progress)
    row = [trajectory, len(progress.dice) - 1, stop.rule, stop.value, stop.why] if stop else None
    with whole_file(stopped if stop else going) as temporary:
        pd.DataFrame([row] if row else [], columns=COLUMNS).to_csv(temporary, index=False)
    return stop
