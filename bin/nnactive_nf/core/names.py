"""One rule for names of cases, classes, patients, data sets, regimes, strategies and nodes.

Names become files, groups in HDF5, cells of tables, and words in messages. So they begin with a letter or a digit, of
any script, and hold nothing that ends a path, a line or a cell: no slash, no control character, no blank at the end.
Two that differ in capitals or in the way that a letter is coded are one name to some file systems, and often one to
whoever wrote them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import Any

from nnactive_nf.core.errors import UserError

# Files' names hold 255 bytes at most, an ending among them. Nodes and trajectories are named after several things.
MOST_BYTES = 120
MOST_BYTES_OF = {"node": 240, "trajectory": 240, "strategy": 240}

# What tables and nnU-Net's files mean by these names.
TAKEN = {
    "class": {"mean": "the mean over classes", "all": "patches of no class", "ignore": "what nobody has looked at"},
    "data set": {"all": "the mean over data sets"},
    "regime": {"all": "the mean over regimes"},
}


def check_names(kind: str, names: Iterable[Any], where: str) -> None:
    """Refuse names that break the rule.

    Args:
        kind: what they are names of: `case`, `class`, `patient`, `data set`, `regime`, `strategy`, `node`.
        names: all of them, so that two that are alike are found.
        where: how messages name the file or parameter that they stand in.

    Raises:
        UserError: one line for each name.
    """
    errors = name_errors(kind, names)
    if errors:
        raise UserError(*(f"{where}: {error}" for error in errors))


def name_errors(kind: str, names: Iterable[Any]) -> list[str]:
    """What is wrong with names, one line each, in the order of the names."""
    names = list(dict.fromkeys(names))
    errors = [f"{kind} '{str(name)[:MOST_BYTES]}': {problem}" for name in names if (problem := _problem(kind, name))]
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(_plain(str(name)), []).append(f"'{name}'")
    difference = "they differ in capitals, blanks or the coding of letters alone; rename all but one"
    return errors + [f"{kind} {' and '.join(same)}: {difference}" for same in alike.values() if len(same) > 1]


def _problem(kind: str, name: Any) -> str | None:
    if not isinstance(name, str):
        return "a name must be text"
    if not name:
        return "a name must not be empty"
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "a name must be UTF-8"
    if size > (most := MOST_BYTES_OF.get(kind, MOST_BYTES)):
        return f"a name must not be longer than {most} bytes"
    if not name.isprintable():
        return "a name must not hold characters that cannot be shown"
    if kind != "strategy" and ("/" in name or "\\" in name):  # a strategy's option may be a path; no file has its name
        return "a name must not hold a slash"
    if not (name[0].isalnum() or name[0] == "_"):
        return "a name must begin with a letter or a digit"
    if name != name.strip():
        return "a name must not end with a blank"
    meaning = TAKEN.get(kind, {}).get(name.casefold())
    return f"this name is taken, it stands for {meaning}; choose another" if meaning else None


def _plain(name: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())
