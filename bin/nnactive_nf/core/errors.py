"""A user's mistake is one line that says what is wrong, where, and what to do; never a traceback."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any


class UserError(Exception):
    """Something that the user can mend. Several findings are given at once, one line each."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines: Sequence[str] = lines


def reports_user_errors(run: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command: a `UserError` becomes `ERROR: ...` lines on standard error and exit status 2."""

    @functools.wraps(run)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return run(*args, **kwargs)
        except UserError as error:
            for line in error.lines:
                print(f"ERROR: {line}", file=sys.stderr)
            sys.exit(2)

    return wrapped
