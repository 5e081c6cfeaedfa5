"""The report's section on patches that several people have read."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
from scipy.special import stdtrit

from nnactive_nf.core.design import MEAN
from nnactive_nf.report.content import Cell, cell, count, make_table, number, with_spread
from nnactive_nf.report.tables import Tables

STARTS = {
    "all": "all patches",
    "no model": "background: no model yet",
    "seen": "the pre-segmentation",
    "blind": "one blind",
    "both blind": "both blind",
    "untold": "not told",
}
ALONE = {**STARTS, "blind": "blind"}
LEVEL = 0.95


def agreement(tables: Tables) -> dict[str, Any] | None:
    """Tables and sentences of the section; None where nobody has read a patch that another has read."""
    rows = tables.frames.get("agreement")
    if rows is None or rows.empty:
        return None
    readers, models = rows[rows["against"] == "reader"], rows[rows["against"] == "pre-segmentation"]
    return {
        "sentences": [*_between(readers), *_lead(rows[rows["against"] == "lead"])],
        "readers": make_table(
            "agreement",
            "Agreement of two readers. Dice: mean ± standard deviation over patches in which either has the class. "
            "κ: Cohen's kappa of the class against all else, of the voxels of all patches together.",
            ["Class", "Started from", "Patches", "Pairs", "with the class", "Dice", "κ"],
            [[_class(row), cell(STARTS[str(row["start"])]), *_numbers(row)] for row in readers.to_dict("records")],
        ),
        "models": make_table(
            "leading",
            "Agreement of each reader with the pre-segmentation, where it was shown and where the reader was blind.",
            ["Reader", "Class", "Started from", "Patches", "Readings", "with the class", "Dice", "κ"],
            [
                [_reader(row), _class(row), cell(ALONE[str(row["start"])]), *_numbers(row)]
                for row in models.to_dict("records")
            ],
        ),
    }


def _class(row: dict[Any, Any]) -> Cell:
    return cell("mean of classes" if row["class"] == MEAN else str(row["class"]))


def _reader(row: dict[Any, Any]) -> Cell:
    return cell(
        "all readers" if row["reader"] == "all" else "without a name" if pd.isna(row["reader"]) else row["reader"]
    )


def _numbers(row: dict[Any, Any]) -> list[Cell]:
    dice = with_spread(row["dice_mean"], row["dice_sd"])
    return [*(count(row[name]) for name in ("patches", "pairs", "with_class")), dice, number(row["kappa"])]


def _between(readers: pd.DataFrame) -> list[str]:
    """How well two readers agree, over all their patches."""
    of_mean = readers[readers["class"] == MEAN]
    if of_mean.empty:
        return []
    row = of_mean.iloc[0]  # over all starts where there are several
    many = int(row["patches"])
    if pd.isna(row["dice_mean"]):
        return [f"{_patches(many)} read by several people, who found no foreground there."]
    return [
        f"{_patches(many)} read by several people. Two of them agree with a Dice of {row['dice_mean']:.3f} (mean of "
        "classes). Queries choose hard patches, so people agree less on them than on whole images, and a network "
        "that is measured on their labels can hardly do better."
    ]


def _lead(rows: pd.DataFrame) -> list[str]:
    """How much the pre-segmentation leads the readers' hand, and what that rests on."""
    of_mean = rows[rows["class"] == MEAN]
    if of_mean.empty:
        return []
    row = of_mean.iloc[0]
    many, mean = int(row["patches"]), float(row["dice_mean"])
    words = f"On {_patches(many, verb=False)} one reader saw the pre-segmentation and another did not. "
    words += f"The labels of who saw it lie nearer to it by a Dice of {mean:+.3f}"
    if many < 2 or pd.isna(row["dice_sd"]):
        verdict = "; one patch shows nothing"
    else:
        reach = stdtrit(many - 1, (1 + LEVEL) / 2) * float(row["dice_sd"]) / math.sqrt(many)
        words += f" ({LEVEL:.0%} interval {mean - reach:+.3f} to {mean + reach:+.3f})"
        verdict = ": so much it leads the hand" if mean > reach else ": that it leads the hand is not shown"
    words = words.replace("-0", "\u22120")
    return [f"{words}{verdict}. The two are different people, so their habits are in this number, too."]


def _patches(number_of: int, verb: bool = True) -> str:
    is_one = number_of == 1
    return f"{number_of} patch{'' if is_one else 'es'}" + ((" was" if is_one else " were") if verb else "")
