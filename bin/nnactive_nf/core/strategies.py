"""The registry of strategies (`strategies.json`), a user's own, and the text `name:option=value:option=value`.

All that can be wrong with a strategy's name and options is found here, for CHECK, FORECAST and QUERY alike.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnactive_nf.core.files import read_json

if TYPE_CHECKING:
    from nnactive_nf.core.strategy_file import StrategyFile

FILE = Path(__file__).with_name("strategies.json")

Option = int | float | str | None


@dataclass(frozen=True)
class Named:
    """A strategy's name with the options given to it, as the user wrote them; the value of one without `=` is ''."""

    name: str
    given: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> Named:
        """Split `name:option=value:option=value`."""
        name, *parts = (part.strip() for part in text.strip().split(":"))
        pairs = (part.partition("=") for part in parts)
        return cls(name, tuple((option.strip(), value.strip()) for option, _, value in pairs))


@dataclass(frozen=True)
class Entry:
    """What the registry says of a strategy. One that is `scheduled` goes by its option `steps` or the run's cycles.

    Scores that are `comparable` are means of a map over the patches, without noise: between cycles they tell how unsure
    the models are of what they choose.
    """

    name: str
    maps: tuple[str, ...]
    oracle_aware: bool
    start: bool
    view_map: str
    scheduled: bool
    comparable: bool
    options: Mapping[str, Mapping[str, Any]]


@cache
def registry() -> dict[str, Entry]:
    """All built-in strategies by name, in the registry's order."""
    return {
        item["name"]: Entry(
            item["name"],
            tuple(item["maps"]),
            item["oracle_aware"],
            item["start"],
            item["view_map"],
            item.get("scheduled", False),
            item.get("comparable", False),
            item["options"],
        )
        for item in read_json(FILE)
    }


def nearest(name: str, names: Iterable[str]) -> str:
    """The name that is most like another."""
    by_lower = {known.lower(): known for known in names}
    return by_lower[difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0)[0]]


def list_errors(strategies: Sequence[str], theirs: StrategyFile | None = None) -> list[str]:
    """What is wrong with the strategies of a run: each for itself, and with each other; one line each."""
    errors = [line for text in dict.fromkeys(strategies) for line in strategy_errors("--strategies", text, theirs)]
    same: dict[str, list[str]] = {}
    alike: dict[str, list[str]] = {}
    for text in strategies:
        alike.setdefault(re.sub("[^A-Za-z0-9._-]", "_", text), []).append(text)
        if not strategy_errors("", text, theirs):
            same.setdefault(_canonical_text(text), []).append(text)
    for texts in same.values():
        names = list(dict.fromkeys(texts))
        what = f"{names[0]} is named twice" if len(names) == 1 else f"{' and '.join(names)} are one strategy"
        errors += [f"--strategies: {what}; name it once"] if len(texts) > 1 else []
    for texts in alike.values():
        names = list(dict.fromkeys(texts))
        errors += [f"--strategies: {' and '.join(names)} would have the same file names"] if len(names) > 1 else []
    return errors


def strategy_errors(where: str, text: str, theirs: StrategyFile | None = None) -> list[str]:
    """What is wrong with one strategy as the user wrote it, one line each, which start with `where`."""
    named = Named.parse(text)
    entry = registry().get(named.name)
    own = theirs.public if theirs else {}
    if entry is None and named.name not in own:
        return [f"{where}: unknown strategy '{named.name}'; did you mean '{nearest(named.name, [*registry(), *own])}'?"]
    at = f"{where} {text}"
    options = [option for option, _ in named.given]
    errors = [line for option, value in named.given if (line := _option_error(at, option, value, entry))]
    errors += [
        f"{at}: option '{option}' is given twice" for option in dict.fromkeys(options) if options.count(option) > 1
    ]
    if entry is None:
        return errors or (theirs.option_errors(named.name, own_options(named)) if theirs else [])
    return errors + [
        f"{at}: option '{option}' is missing: {rule['description']}"
        for option, rule in entry.options.items()
        if rule.get("required") and option not in options
    ]


def options_of(entry: Entry, named: Named) -> dict[str, Option]:
    """All options of a strategy without errors: those given, and the defaults of the others."""
    options: dict[str, Option] = {name: rule["default"] for name, rule in entry.options.items()}
    return options | {name: _typed(entry.options[name], text) for name, text in named.given}


def own_options(named: Named) -> dict[str, Option]:
    """Options of a user's own strategy: numbers where they are some, else text."""
    return {name: text if (value := number(text)) is None else value for name, text in named.given}


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


def _canonical_text(text: str) -> str:
    named = Named.parse(text)
    entry = registry().get(named.name)
    if entry is None:
        return canonical(named.name, own_options(named), {})
    return canonical(named.name, options_of(entry, named), options_of(entry, Named(named.name, ())))


def _option_error(where: str, option: str, value: str, entry: Entry | None) -> str | None:
    """What is wrong with one option; of a user's own strategy (no entry), only its own code knows the options."""
    if not option or not value:
        return f"{where}: '{option}' is no option with a value; write name:option=value"
    if entry is None:
        return None
    if not entry.options:
        return f"{where}: {entry.name} has no options"
    if option not in entry.options:
        near = nearest(option, entry.options)
        return f"{where}: unknown option '{option}' of {entry.name}; did you mean '{near}'?"
    problem = _value_problem(entry.options[option], value)
    return f"{where}: {option} {value}: {problem}" if problem else None


def _value_problem(rule: Mapping[str, Any], text: str) -> str | None:
    value = _typed(rule, text)
    if value is None:
        return f"must be {'a whole number' if rule['type'] == 'integer' else 'a number'}"
    if "enum" in rule and value not in rule["enum"]:
        return f"must be one of {', '.join(rule['enum'])}; did you mean {nearest(text, rule['enum'])}?"
    if "minimum" in rule and value < rule["minimum"]:
        return f"must be at least {rule['minimum']}"
    if "maximum" in rule and value > rule["maximum"]:
        return f"must be at most {rule['maximum']}"
    if "exclusiveMinimum" in rule and value <= rule["exclusiveMinimum"]:
        return f"must be more than {rule['exclusiveMinimum']}"
    return None


def _typed(rule: Mapping[str, Any], text: str) -> Any:
    """A value as its rule's type; `None` where it is none."""
    value = text if rule["type"] == "string" else number(text)
    return None if rule["type"] == "integer" and not isinstance(value, int) else value
