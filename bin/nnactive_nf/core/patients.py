"""Patients (groups) of the cases: of one patient, all cases go to one side of the split."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.names import check_names
from nnactive_nf.core.tables import read_table


def case_groups(cases: Sequence[str], table: Path | None, pattern: str | None) -> dict[str, str]:
    """Patient of each case: from a table with columns `case` and `group`, or by a pattern, else the case itself.

    Args:
        cases: names of the cases.
        table: CSV file.
        pattern: regular expression with one group, matched at the start of the case's name.

    Raises:
        UserError: a case is not in the table, or the pattern does not match it.
    """
    if table is not None:
        return _from_table(cases, table)
    if pattern is None:
        return {case: case for case in cases}
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"group_pattern '{pattern}': not a regular expression ({error})") from None
    if expression.groups != 1:
        raise UserError(f"group_pattern '{pattern}': wants one group in parentheses, it has {expression.groups}")
    found = {case: expression.match(case) for case in cases}
    misses = [case for case, match in found.items() if match is None]
    if misses:
        raise UserError(f"group_pattern '{pattern}': does not match case {misses[0]} ({len(misses)} such cases)")
    groups = {case: match.group(1) or "" for case, match in found.items() if match is not None}
    check_names("patient", groups.values(), f"group_pattern '{pattern}'")
    return groups


def _from_table(cases: Sequence[str], table: Path) -> dict[str, str]:
    rows = read_table(table, ("case", "group"), cut_off=False)
    if not {"case", "group"} <= set(rows.columns):
        raise UserError(f"{table}: wants the columns 'case' and 'group', it has {list(rows.columns)}")
    rows = rows[["case", "group"]].drop_duplicates()
    rows = rows[(rows["case"] != "") & (rows["group"] != "")]
    check_names("patient", rows["group"], str(table))
    twice = rows["case"][rows["case"].duplicated()].tolist()
    if twice:
        raise UserError(f"{table}: case {twice[0]} is in two groups; a case is of one patient")
    groups = dict(zip(rows["case"], rows["group"], strict=True))
    misses = [case for case in cases if case not in groups]
    if misses:
        raise UserError(f"{table}: case {misses[0]} is not in it with a group ({len(misses)} such cases)")
    return {case: groups[case] for case in cases}
