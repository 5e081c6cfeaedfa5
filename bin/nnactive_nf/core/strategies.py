"""The registry of strategies (`strategies.json`) and the text that names one: `name:option=value:option=value`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json

FILE = Path(__file__).with_name("strategies.json")

Option = int | float | str | None


@dataclass(frozen=True)
class Named:
    """A strategy's name with the options given to it, as the user wrote them (values are still text)."""

    name: str
    given: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> Named:
        """Split `name:option=value:option=value`."""
        name, *parts = (part.strip() for part in text.strip().split(":"))
        given: dict[str, str] = {}
        for part in parts:
            option, equals, value = (piece.strip() for piece in part.partition("="))
            if not (option and equals and value):
                raise UserError(f"strategy '{text}': '{part}' is not option=value; write it as name:option=value")
            if option in given:
                raise UserError(f"strategy '{text}': option '{option}' is given twice")
            given[option] = value
        if not name:
            raise UserError(f"strategy '{text}': it has no name")
        return cls(name, tuple(given.items()))


@dataclass(frozen=True)
class Entry:
    """What the registry says of a strategy."""

    name: str
    maps: tuple[str, ...]
    oracle_aware: bool
    start: bool
    view_map: str
    options: Mapping[str, Mapping[str, Any]]


@cache
def registry() -> dict[str, Entry]:
    """All built-in strategies by name, in the registry's order."""
    return {
        item["name"]: Entry(
            item["name"], tuple(item["maps"]), item["oracle_aware"], item["start"], item["view_map"], item["options"]
        )
        for item in read_json(FILE)
    }


def unknown(name: str, known: list[str]) -> UserError:
    """The error for a strategy that is not known, with the nearest name."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(known)}"
    return UserError(f"unknown strategy '{name}': {hint}")


def options_of(entry: Entry, named: Named) -> dict[str, Option]:
    """All options of a strategy: those given, checked, and the defaults of the others."""
    options: dict[str, Option] = {name: rule["default"] for name, rule in entry.options.items()}
    for name, text in named.given:
        if name not in entry.options:
            there = ", ".join(entry.options) or "none"
            raise UserError(f"strategy '{entry.name}' has no option '{name}'; its options are: {there}")
        options[name] = _value(f"strategy '{entry.name}', option '{name}'", entry.options[name], text)
    for name, rule in entry.options.items():
        if rule.get("required") and options[name] is None:
            raise UserError(f"strategy '{entry.name}' needs the option '{name}': {rule['description']}")
    return options


def canonical(name: str, options: Mapping[str, Option], defaults: Mapping[str, Option]) -> str:
    """One text for one strategy: options sorted, those at their default left out. Random streams are keyed by it."""
    changed = [f"{key}={options[key]}" for key in sorted(options) if options[key] != defaults.get(key)]
    return ":".join([name, *changed])


def number(text: str) -> int | float | None:
    """A whole number as int, another as float, `None` where it is no finite number."""
    try:
        value = float(text)
    except ValueError:
        return None
    if value in (float("inf"), float("-inf")) or value != value:
        return None
    return int(value) if value.is_integer() else value


def _value(where: str, rule: Mapping[str, Any], text: str) -> Option:
    if rule["type"] == "string":
        if "enum" in rule and text not in rule["enum"]:
            raise UserError(f"{where}: '{text}' is none of {', '.join(rule['enum'])}")
        return text
    value = number(text)
    if value is None or (rule["type"] == "integer" and not isinstance(value, int)):
        kind = "a whole number" if rule["type"] == "integer" else "a number"
        raise UserError(f"{where}: '{text}' is not {kind}")
    if "minimum" in rule and value < rule["minimum"]:
        raise UserError(f"{where}: {text} is less than {rule['minimum']}")
    if "exclusiveMinimum" in rule and value <= rule["exclusiveMinimum"]:
        raise UserError(f"{where}: {text} is not more than {rule['exclusiveMinimum']}")
    if "maximum" in rule and value > rule["maximum"]:
        raise UserError(f"{where}: {text} is more than {rule['maximum']}")
    return value
