"""The schemas of parameters and study tables, as tests ask them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from conftest import ROOT
from jsonschema import Draft202012Validator
from referencing import Registry, Resource


def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / name).read_text())
    return content


SCHEMA, STUDY_SCHEMA = _read("nextflow_schema.json"), _read("study_schema.json")
PARAMETERS: dict[str, dict[str, Any]] = {
    name: entry for group in SCHEMA["$defs"].values() for name, entry in group["properties"].items()
}
_REGISTRY: Registry[Any] = Registry().with_resources(
    (schema["$id"], Resource.from_contents(schema)) for schema in (SCHEMA, STUDY_SCHEMA)
)
_STUDY = Draft202012Validator(STUDY_SCHEMA, registry=_REGISTRY)


def typed(parameter: str, text: str) -> Any:
    """A parameter's value as its schema's type, from a command line or a cell; the text where it is none."""
    kind = PARAMETERS[parameter]["type"]
    if kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    try:
        return {"integer": int, "number": float, "string": str}[kind](text)
    except ValueError:
        return text


def typed_row(row: Mapping[str, str]) -> dict[str, Any]:
    """A row of a study table, empty cells left out."""
    return {column: typed(column, text) for column, text in row.items() if text}


def value_errors(parameter: str, text: str) -> list[str]:
    """What is wrong with a parameter's value, one line each."""
    errors = Draft202012Validator(PARAMETERS[parameter]).iter_errors(typed(parameter, text))
    return [f"--{parameter}: {error.message}" for error in errors]


def study_errors(rows: Any) -> list[str]:
    """What is wrong with a study table, which should be a list of rows; one line each."""
    return [error.message for error in _STUDY.iter_errors(rows)]
