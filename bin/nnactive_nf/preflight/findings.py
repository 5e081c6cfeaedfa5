"""A finding: what one check has found, and what to do about it. The launcher reads it from standard output."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

# How the launcher (workflows/preflight.nf) knows these lines among all else that a task prints.
CHECK_LINE = "preflight check: "
FINDING_LINE = "preflight finding: "

State = Literal["ok", "warning", "fault"]


@dataclass(frozen=True)
class Finding:
    """What a check has found.

    `what` is one line; `remedy` is what to do, empty where all is well. `wrote` is a file that the launcher must see
    with the run's token in it, or empty. `time` is this node's clock in seconds since 1970, or 0 where the launcher
    need not compare it.
    """

    state: State
    what: str
    remedy: str = ""
    wrote: str = ""
    time: float = 0.0


def ok(what: str, wrote: str = "", time: float = 0.0) -> Finding:
    """All is well."""
    return Finding("ok", what, "", wrote, time)


def warning(what: str, remedy: str) -> Finding:
    """The workflow runs, but not as one may want it."""
    return Finding("warning", what, remedy)


def fault(what: str, remedy: str) -> Finding:
    """The workflow would fail."""
    return Finding("fault", what, remedy)


def finding_line(check: str, finding: Finding) -> str:
    """The line that the launcher reads; line breaks in it become spaces."""
    fields = {
        name: " ".join(value.split()) if isinstance(value, str) else value for name, value in asdict(finding).items()
    }
    return FINDING_LINE + json.dumps({"check": check} | fields)
