"""`labels.json`: which value of the user's label files stands for which class index, by which nnU-Net counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json, write_json

FORMAT = "nnactive-nf/label-values"
VERSION = 1


def write_label_values(path: Path, classes: Classes, file_ending: str) -> None:
    """Write the mapping, with the ending of the files that it is for."""
    rows = [
        {"name": name, "index": index, "value": value}
        for index, (name, value) in enumerate(zip(classes.names, classes.values, strict=True))
    ]
    write_json(path, {"format": FORMAT, "version": VERSION, "file_ending": file_ending, "classes": rows})


def read_label_values(path: Path) -> tuple[Classes, str]:
    """Classes and file ending of a `labels.json`; `UserError` where it is none."""
    content: Any = read_json(path)
    if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
        raise UserError(f"{path}: not a table of label values of format {FORMAT} {VERSION}")
    try:
        rows = sorted(content["classes"], key=lambda row: int(row["index"]))
        classes = Classes(tuple(str(row["name"]) for row in rows), tuple(int(row["value"]) for row in rows))
        return classes, str(content["file_ending"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged table of label values ({type(error).__name__}: {error})") from None
