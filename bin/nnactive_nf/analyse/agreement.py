"""How well people agree on patches that several have read, and how much the pre-segmentation leads their hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnactive_nf.core.design import MEAN
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.result_tables import AGREEMENT_COLUMNS
from nnactive_nf.core.tables import read_table

MODELS = "pre-segmentation"
LEAD = "lead"
ALL = "all"
COUNTS = ["voxels", "a_voxels", "b_voxels", "both_voxels"]
READ = ["patch", "case", "class", "a", "b", "start", *COUNTS, "dice", "kappa", "a_minutes", "b_minutes"]


def read_agreement(folder: Path) -> pd.DataFrame:
    """Rows of RECEIVE's tables `<node>.csv` of a folder, with the column `node`.

    Raises:
        UserError: one of them is no such table.
    """
    parts = []
    for path in sorted(folder.rglob("*.csv")):
        found = read_table(path, ("case", "class", "a", "b", "start"), READ, missing="", what="a table of agreement")
        numbers = [name for name in READ if name not in ("case", "class", "a", "b", "start")]
        if wrong := [name for name in numbers if len(found) and found[name].dtype.kind not in "iuf"]:
            raise UserError(f"{path}: not a table of agreement (column {wrong[0]} holds what are no numbers)")
        parts.append(found.assign(node=path.stem))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*READ, "node"])


def agreement_table(rows: pd.DataFrame) -> pd.DataFrame:
    """The table `agreement`: each class, and the mean over classes (`mean`), by who is held against whom.

    Dice is the mean over patches in which either holds the class; kappa is Cohen's, of the voxels of all patches
    together, since that of a single patch hangs on how much of the class is in it.
    """
    if rows.empty:
        return pd.DataFrame(columns=list(AGREEMENT_COLUMNS))
    names = list(dict.fromkeys(rows["class"]))
    found = [
        {"against": against, "reader": reader, "start": start, "class": name, **row}
        for against, reader, start, part in _groups(rows)
        for name, row in [*((name, _summary(part[part["class"] == name])) for name in names), (MEAN, _mean(part))]
    ]
    found += [{"against": LEAD, "reader": ALL, "start": "blind", "class": name, **_lead(rows, name)} for name in names]
    found.append({"against": LEAD, "reader": ALL, "start": "blind", "class": MEAN, **_lead(rows, None)})
    table = pd.DataFrame(found, columns=list(AGREEMENT_COLUMNS))
    return table[table["patches"] > 0].reset_index(drop=True)


def _groups(rows: pd.DataFrame) -> Iterator[tuple[str, str, str, pd.DataFrame]]:
    """Who is held against whom, who reads, what they started from, and the rows of that."""
    of_models = rows["b"] == MODELS
    for against, part in (("reader", rows[~of_models]), (MODELS, rows[of_models])):
        starts = list(dict.fromkeys(part["start"]))
        for start in [ALL, *starts] if len(starts) > 1 and against == "reader" else starts:
            yield against, ALL, start, part if start == ALL else part[part["start"] == start]
        if against == MODELS:
            for (reader, start), own in part.fillna({"a": ""}).groupby(["a", "start"], sort=True):
                yield against, str(reader), str(start), own


def _summary(part: pd.DataFrame) -> dict[str, Any]:
    """Of rows of one class: how many patches, how many hold it, mean Dice and kappa of all voxels."""
    voxels, a, b, both = (int(part[name].sum()) for name in COUNTS)
    expected = a * b + (voxels - a) * (voxels - b)
    left = voxels**2 - expected
    same = voxels * (voxels - a - b + 2 * both)
    return {
        "patches": len(part.drop_duplicates(["node", "patch"])),
        "pairs": len(part),
        "with_class": int(part["dice"].notna().sum()),
        "dice_mean": part["dice"].mean(),
        "dice_sd": part["dice"].std(ddof=1),
        "kappa": (same - expected) / left if left else np.nan,
        "minutes_mean": _minutes(part),
    }


def _mean(part: pd.DataFrame) -> dict[str, Any]:
    """Over classes: Dice of a patch and pair is the mean of the classes that are there, kappa that of all classes."""
    of_pairs = part.fillna({"a": "", "b": ""}).groupby(["node", "patch", "a", "b"])["dice"].mean()
    kappas = [_summary(own)["kappa"] for _, own in part.groupby("class")]
    first = part[part["class"] == part["class"].iloc[0]] if len(part) else part
    return {
        **_summary(first),
        "with_class": int(of_pairs.notna().sum()),
        "dice_mean": of_pairs.mean(),
        "dice_sd": of_pairs.std(ddof=1),
        "kappa": pd.Series(kappas, dtype=float).mean(),
    }


def _minutes(part: pd.DataFrame) -> float:
    """Mean minutes of a reading, of those that somebody told."""
    told = pd.concat([part["a_minutes"], part["b_minutes"]]).astype(float)
    return float(told.mean())


def _lead(rows: pd.DataFrame, name: str | None) -> dict[str, Any]:
    """On patches that one read blind: Dice with the pre-segmentation of who saw it, less that of who did not.

    Over classes it is the mean of those for which both have a Dice, so that it compares the same.
    """
    own = rows[(rows["b"] == MODELS) & ((rows["class"] == name) if name else True)]
    by_kind = own.pivot_table(index=["node", "patch", "class"], columns="start", values="dice")
    if not {"seen", "blind"} <= set(by_kind):
        return {"patches": 0}
    differences = (by_kind["seen"] - by_kind["blind"]).dropna().groupby(["node", "patch"]).mean()
    count = len(differences)
    return {
        "patches": count, "pairs": count, "with_class": count, "dice_mean": differences.mean(),
        "dice_sd": differences.std(ddof=1), "kappa": np.nan, "minutes_mean": np.nan,
    }  # fmt: skip
