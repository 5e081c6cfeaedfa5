"""Times of tasks, from traces of Nextflow."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

from nnactive_nf.core.errors import UserError

COLUMNS = ["name", "status", "realtime"]
MINUTES = {"ms": 1 / 60_000, "s": 1 / 60, "m": 1.0, "h": 60.0, "d": 1440.0}


def read_trace(path: Path, name: str, want_training: bool) -> pd.DataFrame:
    """Tasks that ended well, now or in a run before: a table with the columns stage, tag and minutes.

    Args:
        path: a trace, or a folder with traces (`pipeline_info`, or the results that hold it), whose newest is taken.
            Names hold date and time, so they sort by it.
        name: the path as the user gave it.
        want_training: whether a training must have ended in it; of a folder the newest trace with one is taken then.

    Raises:
        UserError: it is no trace of Nextflow, or no training has ended in it.
    """
    where = f"--plan_trace {name}"
    found = [rows for file in _candidates(path) if (rows := trace_rows(file)) is not None]
    if not found:
        raise UserError(
            f"{where}: no trace of Nextflow; a table with the columns name, status and realtime is wanted, as "
            "<outdir>/pipeline_info/trace_<time>.txt is"
        )
    if not want_training:
        return found[0]
    trained = [rows for rows in found if (rows["stage"] == "TRAIN").any()]
    if not trained:
        raise UserError(
            f"{where}: no training of this workflow has ended in it; give the minutes of one with --plan_minutes"
        )
    return trained[0]


def _candidates(path: Path) -> list[Path]:
    """The file, or the traces of a folder from the newest on."""
    if not path.is_dir():
        return [path]
    files = [*path.glob("trace*.txt"), *path.glob("pipeline_info/trace*.txt")]
    return sorted(files, key=lambda file: file.name, reverse=True)


def trace_rows(path: Path) -> pd.DataFrame | None:
    """A trace's tasks that ended well, as `read_trace` gives them; None for another file."""
    if not path.is_file():  # nor a pipe, which would be waited for
        return None
    try:
        table = pd.read_csv(
            path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE, on_bad_lines="skip",
        )  # fmt: skip
    except (ValueError, OSError):  # of which pandas' and UnicodeDecodeError are kinds
        return None
    if not set(COLUMNS) <= set(table.columns):
        return None
    ended = table[table["status"].isin(["COMPLETED", "CACHED"])]
    # ACTIVE_LEARNING:TRAIN (<node> fold 0)
    names = ended["name"].str.extract(r"^(?:\S*:)?(?P<stage>[^\s:]+)(?:\s+\(?(?P<tag>[^\s()]*))?").fillna("")
    return names.assign(minutes=minutes_of(ended["realtime"])).dropna().reset_index(drop=True)


def minutes_of(texts: pd.Series) -> pd.Series:
    """`1h 2m 3s`, `450ms` or plain milliseconds as minutes; NaN for `-`."""
    parts = texts.where(~texts.str.fullmatch(r"\d+"), texts + "ms").str.extractall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)\b")
    minutes = parts[0].astype(float) * parts[1].map(MINUTES)
    return minutes.groupby(level=0).sum().reindex(texts.index)
