"""`--stop`: rules by which a trajectory ends before the plan does, as a user writes them.

All that can be wrong with them is found here, for CHECK, FORECAST and STOP alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.strategies import Named, nearest, number, registry

# Of each rule the values that stand behind its name: their names in messages, and whether they are whole numbers.
FORMS: dict[str, tuple[tuple[str, bool], ...]] = {
    "dice": (("DICE", False),),
    "plateau": (("CYCLES", True), ("GAIN", False)),
    "gain": (("SHARE", False),),
    "patches": (("NUMBER", True),),
    "voxels": (("NUMBER", True),),
    "minutes": (("NUMBER", False),),
}
SHARES = ("dice", "gain")  # a number up to 1


@dataclass(frozen=True)
class Rule:
    """One rule: its name, the number that decides, and of a plateau the cycles that it takes."""

    name: str
    limit: float
    cycles: int = 0


def parse_rules(text: str) -> list[Rule]:
    """The rules of `dice:0.85,plateau:2:0.005`, in the order in which they stand.

    Raises:
        UserError: what is wrong, one line each.
    """
    errors = rule_errors("--stop", text)
    if errors:
        raise UserError(*errors)
    return [_rule(part) for part in _parts(text)]


def rule_errors(where: str, text: str) -> list[str]:
    """What is wrong with rules as the user wrote them, one line each, which start with `where`."""
    names = [part.split(":")[0].strip() for part in _parts(text)]
    twice = [name for name in dict.fromkeys(names) if name in FORMS and names.count(name) > 1]
    wrong = [f"{where} {part}: {problem}" for part in _parts(text) if (problem := _problem(part))]
    return wrong + [f"{where}: {name} is named twice; name it once" for name in twice]


def stop_errors(where: str, text: str, strategies: Sequence[str], people: bool) -> list[str]:
    """The same, and what the rules want of a run: one line each.

    Args:
        where: how the lines begin.
        text: the rules; '' for none.
        strategies: the strategies, options included, that are to stop by them.
        people: whether people label.
    """
    if not text:
        return []
    errors = rule_errors(where, text)
    names = {part.split(":")[0].strip() for part in _parts(text)}
    if "minutes" in names and not people:
        errors.append(f"{where} minutes: nobody counts minutes here; it is for --oracle people")
    known = registry()
    others = [text for text in strategies if not ((entry := known.get(Named.parse(text).name)) and entry.comparable)]
    if "gain" in names and others:
        fit = ", ".join(name for name, entry in known.items() if entry.comparable)
        errors.append(f"{where} gain: scores of {others[0]} do not compare between cycles; it is for {fit}")
    return errors


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _problem(part: str) -> str:
    name, *values = (word.strip() for word in part.split(":"))
    if name not in FORMS:
        return f"unknown rule '{name}'; did you mean '{nearest(name, FORMS)}'?"
    form = FORMS[name]
    if len(values) != len(form):
        return f"write {':'.join([name, *(value for value, _ in form)])}"
    for value, (what, is_whole) in zip(values, form, strict=True):
        found = number(value)
        if found is None or (is_whole and not isinstance(found, int)):
            return f"{what} '{value}' is no {'whole number' if is_whole else 'number'}"
        if found < 0 or (found == 0 and what != "GAIN"):
            return f"{what} must be {'at least' if what == 'GAIN' else 'more than'} 0"
        if name in SHARES and found > 1:
            return f"{what} must be at most 1"
    return ""


def _rule(part: str) -> Rule:
    name, *values = (word.strip() for word in part.split(":"))
    return Rule(name, float(values[-1]), int(float(values[0])) if name == "plateau" else 0)
