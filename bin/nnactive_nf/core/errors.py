"""A user's mistake is one line that says what is wrong, where, and what to do; never a traceback."""

from __future__ import annotations

import errno
import functools
import io
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """Something that the user can mend. Several findings are given at once, one line each."""

    def __init__(self, *lines: str) -> None:
        self.lines: Sequence[str] = tuple(shown(line) for line in lines)
        super().__init__("\n".join(self.lines))


def shown(text: str) -> str:
    """A text as one line: what is no printable character, a line break in a file's name for one, is written out."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in text
    )


def one_line(error: BaseException) -> str:
    """The last line of what a library says, or the kind of its error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def reports_user_errors(run: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command: a `UserError` becomes `ERROR: ...` lines on standard error and exit status 2."""

    @functools.wraps(run)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):  # whatever the locale, a name can be shown
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            return run(*args, **kwargs)
        except UserError as error:
            lines = error.lines
        except OSError as error:
            if error.errno not in FULL:
                raise
            where = error.filename or f"{Path.cwd()} or {tempfile.gettempdir()}"
            lines = [shown(f"{where} on {platform.node()}: {error.strerror}; make room there, then run again")]
        for line in lines:
            print(f"ERROR: {line}", file=sys.stderr)
        sys.exit(2)

    return wrapped
