"""CSV tables: read as they are written, and written so that a spreadsheet runs nothing of them.

What is refused of a table that the workflow wrote: text that is not UTF-8 or holds NUL, a last line without an end (the
file was cut off), columns that are missing, cells that are not of their column's type.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pandas as pd

from nnactive_nf.core.errors import UserError, one_line
from nnactive_nf.core.files import check_regular

# A spreadsheet takes a cell that begins with one of these for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def read_table(
    path: Path,
    text: Iterable[str] = (),
    wanted: Iterable[str] = (),
    *,
    missing: str | None = None,
    cut_off: bool = True,
    what: str = "a table",
) -> pd.DataFrame:
    """Read a CSV table; names like NA are text.

    Args:
        path: the file; packed where its name ends with `.gz`.
        text: columns that hold text; the others' types are pandas' to find.
        wanted: columns that must be there.
        missing: what stands for a missing value; None where there is none.
        cut_off: refuse a last line without an end; a user's own table may have one.
        what: what the file is to be, as messages say it.

    Raises:
        UserError: what is wrong, with the file's name.
    """
    path = Path(path)
    check_regular(path)
    try:
        content = path.read_bytes() if path.suffix != ".gz" else gzip.decompress(path.read_bytes())
        if b"\0" in content:
            raise ValueError("it holds NUL")
        content.decode("utf-8-sig")
        if cut_off and not content.endswith(b"\n"):
            raise ValueError("its last line has no end, it may be truncated")
        found = pd.read_csv(
            path, dtype=dict.fromkeys(text, str), keep_default_na=False, encoding="utf-8-sig",
            na_values=[] if missing is None else [missing],
        )  # fmt: skip
        lacking = [name for name in wanted if name not in found]
        if lacking:
            raise ValueError(f"columns {lacking} are missing")
    except (OSError, EOFError, zlib.error, ValueError, pd.errors.ParserError, OverflowError) as error:
        raise UserError(f"{path}: not {what} ({one_line(error)})") from None
    return found


def typed(path: Path, table: pd.DataFrame, types: Mapping[str, str], what: str = "a table") -> pd.DataFrame:
    """These columns with these types; `UserError` where a cell is none of its type."""
    try:
        for name, kind in types.items():
            if kind == "int64" and table[name].dtype.kind == "f" and not (table[name] % 1 == 0).all():
                raise ValueError(f"column {name} holds what are no whole numbers")
        return table[list(types)].astype(dict(types))
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        raise UserError(f"{path}: not {what} ({one_line(error)})") from None


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """The table as it may be opened in a spreadsheet: text that would be a formula there begins with an apostrophe."""
    guarded = table.copy()
    for name in guarded.columns:
        if not pd.api.types.is_numeric_dtype(guarded[name].dtype):
            guarded[name] = guarded[name].map(guarded_text)
    return guarded


def guarded_text(value: object) -> object:
    """A cell, with an apostrophe in front where a spreadsheet would take it for a formula."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
