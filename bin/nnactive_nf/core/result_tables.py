"""`tables/`: what ANALYSE writes and REPORT and `compare` read; docs/outputs.md says what the columns hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nnactive_nf.core import tables
from nnactive_nf.core.errors import UserError

_TRAJECTORY = ("trajectory", "dataset", "regime", "strategy", "seed")
_LABELLED = ("voxels", "foreground_voxels", "border_voxels")

# By the file's name without `.csv` and `.csv.gz`. `queries` has one more, `voxels_<class>`, for each class.
COLUMNS: dict[str, tuple[str, ...]] = {
    "metrics": (
        *_TRAJECTORY, "cycle", "node", "patches", "voxels", "foreground_voxels", "class", "dice", "iou", "nsd",
        "hd95_mm", "cases", "empty_reference", "empty_prediction",
    ),
    "queries": (
        *_TRAJECTORY, "cycle", "rank", "case", "z", "y", "x", "dz", "dy", "dx", "score", "chosen_by", "component",
        *_LABELLED, "minutes",
    ),
    "trajectories": (*_TRAJECTORY, "class", "cycles_planned", "cycles", "aubc", "start_dice", "final_dice"),
    "summary": (
        "dataset", "regime", "strategy", "label", "oracle_aware", "class", "seeds_planned", "seeds", "aubc_mean",
        "aubc_sd", "final_dice_mean", "final_dice_sd", "start_dice_mean",
    ),
    "versus_random": (
        "dataset", "regime", "measure", "strategy", "baseline", "pairs", "difference", "low", "high", "p", "p_holm",
        "budgets_won", "budgets_lost", "budgets", "verdict",
    ),
    "tests": (
        "dataset", "regime", "class", "cycle", "a", "b", "pairs", "difference", "low", "high", "t", "p", "p_holm",
        "better", "better_holm",
    ),
    "ppm": (
        "dataset", "regime", "class", "correction", "winner", "loser", "wins", "budgets", "share", "wins_with_start",
        "budgets_with_start", "share_with_start",
    ),
    "ranks": ("dataset", "regime", "measure", "strategy", "rank", "low", "high", "best_share", "seeds", "draws"),
    "efficiency": (
        "dataset", "regime", "strategy", "class", "beta", "beta_se", "x0", "y0", "points", "reason", "beta_published",
        "beta_se_published", "x0_published", "y0_published", "points_published", "reason_published", "c",
    ),
    "cost": (
        *_TRAJECTORY, "cycle", "patches_asked", "patches", *_LABELLED, "cases", "foreground_free_share",
        "pool_foreground_share", "minutes",
    ),
    "class_counts": (*_TRAJECTORY, "cycle", "class", "voxels", "patches", "cases", "pool_share"),
    "calibration": (*_TRAJECTORY, "cycle", "node", "ece", "brier"),
    "calibration_bins": ("node", "bin", "confidence", "accuracy", "voxels"),
    "noise": ("dataset", "regime", "class", "seeds", "dice_mean", "dice_sd", "dice_min", "dice_max"),
    "pool": ("dataset", "class", "voxels", "cases"),
    "full_reference": ("dataset", "regime", "seed", "class", "dice"),
    "runtimes": (
        "node", "fold", "device", "epochs", "train_cases", "val_cases", "seconds", "resumed", "gpu_percent_mean",
        "gpu_percent_max", "peak_gpu_mib", "peak_host_mib", "cpu_seconds", "loader_percent", "start", "plateau",
    ),
    "curves": ("node", "fold", "epoch", "train_loss", "val_loss", "online_dice", "moving_dice", "learning_rate"),
    "stopped": (*_TRAJECTORY, "cycle", "rule", "value", "why"),
    "missing": ("trajectory", "cycle", "node", "what"),
    "notes": ("topic", "dataset", "regime", "text"),
}  # fmt: skip

# Tables that are packed, being long: a row for each epoch of each training.
GZIPPED = ("curves",)

# The table `agreement`, which is there where several people have read the same patches.
AGREEMENT_COLUMNS = (
    "against", "reader", "start", "class", "patches", "pairs", "with_class", "dice_mean", "dice_sd", "kappa",
    "minutes_mean",
)  # fmt: skip

_TEXT = [
    "trajectory", "dataset", "regime", "strategy", "label", "node", "class", "case", "chosen_by", "component",
    "measure", "baseline", "verdict", "a", "b", "better", "better_holm", "correction", "winner", "loser", "reason",
    "reason_published", "device", "what", "topic", "text", "rule", "why",
    "against", "reader", "start",
]  # fmt: skip


def table_file(name: str) -> str:
    """Name of a table's file."""
    return f"{name}.csv.gz" if name in GZIPPED else f"{name}.csv"


def read_table(folder: Path, name: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read one of the tables back, with the types that it had.

    Args:
        folder: the folder of tables.
        name: a key of `COLUMNS`.
        columns: those that must be there; by default all that this version writes.

    Raises:
        UserError: the file is not there, is no table, or lacks columns.
    """
    path = folder / table_file(name)
    if not path.exists():
        raise UserError(f"{path}: no such file; is {folder} a folder of tables?")
    found = tables.read_table(path, _TEXT, missing="")
    if missing := [column for column in columns or COLUMNS.get(name, AGREEMENT_COLUMNS) if column not in found]:
        what = f"column {missing[0]} is" if len(missing) == 1 else f"columns {', '.join(missing)} are"
        raise UserError(f"{path}: {what} missing; if another version wrote it, write it anew with bin/analyse.py")
    return found
