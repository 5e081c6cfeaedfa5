"""The table that --preflight prints, for the tests to ask."""

from __future__ import annotations

from dataclasses import dataclass

from conftest import Run


@dataclass(frozen=True)
class Line:
    """One line of the table, and the remedy under it."""

    state: str
    check: str
    where: str
    what: str
    remedy: str


def table(run: Run) -> list[Line]:
    """The table that a preflight has printed, by the columns of its head."""
    rows = run.stdout[run.stdout.index("capability") :].splitlines()
    rows[0] = run.stdout[: run.stdout.index("capability")].rpartition("\n")[2] + rows[0]
    starts = [0, *(rows[0].index(name) for name in ("capability", "node", "found"))]
    lines: list[Line] = []
    for row in rows[1 : rows.index("")]:
        cells = [row[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
        if cells[1]:
            lines.append(Line(*cells, remedy=""))
        else:
            lines[-1] = Line(*list(vars(lines[-1]).values())[:4], remedy=cells[3].removeprefix("-> "))
    return lines


def of(lines: list[Line], check: str, label: str) -> Line:
    """The one line of a check and of the tasks of a label (or `launcher`)."""
    found = [line for line in lines if line.check == check and line.where.endswith(f"({label})")]
    assert len(found) == 1, (check, label, lines)
    return found[0]
