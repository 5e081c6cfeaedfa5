"""`query.csv`: the patches that a strategy chose, best first; `minutes` too, where people have labelled them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import whole_file
from nnactive_nf.core.labels import MINUTES
from nnactive_nf.core.tables import read_table, typed

QUERY_TYPES = {
    "rank": "int64", "case": "str", "z": "int64", "y": "int64", "x": "int64", "dz": "int64", "dy": "int64",
    "dx": "int64", "score": "float64", "component": "str",
}  # fmt: skip


def write_query(path: Path, query: pd.DataFrame) -> None:
    """Write a query table; `component` is a class name or `all`, `rank` counts from 1, a score may be `-inf`."""
    with whole_file(path) as temporary:
        query[list(_types(query))].to_csv(temporary, index=False, na_rep="nan")


def with_reserve(query: pd.DataFrame, reserve: pd.DataFrame | None) -> pd.DataFrame:
    """The patches of a query, and ranked behind them those that stand ready for refused ones; `reserve` tells which."""
    own = query.sort_values("rank").assign(reserve=False)
    if reserve is None or reserve.empty:
        return own
    ready = reserve.sort_values("rank").assign(reserve=True)
    return pd.concat([own, ready.assign(rank=ready["rank"] + len(own))], ignore_index=True)


def read_query(path: Path) -> pd.DataFrame:
    """Read a query table; `UserError` where columns are missing or no numbers."""
    what = "a query table"
    table = read_table(path, ("case", "component"), QUERY_TYPES, what=what)
    query = typed(path, table, _types(table), what)
    if sorted(query["rank"]) != list(range(1, len(query) + 1)):
        raise UserError(f"{path}: not {what} (its ranks do not count from 1 to {len(query)})")
    return query


def _types(query: pd.DataFrame) -> dict[str, str]:
    return QUERY_TYPES | ({MINUTES: "float64"} if MINUTES in query else {})
