"""The end of a command's process."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress


def run_and_leave(command: Callable[[], object]) -> None:
    """Run a click command, and leave the process without taking apart what it has loaded.

    A task's files are written and closed when its command returns. To free torch object by object takes a second or two
    more, a fifth of a small task. What libraries want done at the end is done: their temporary folders go, and their
    processes. Where another thread still works, or a stream cannot be written to, the process ends as any other.
    """
    status: int | str | None = None
    try:
        command()
    except SystemExit as end:
        status = end.code
    if threading.active_count() == 1 and not isinstance(status, str):
        atexit._run_exitfuncs()
        with suppress(OSError):  # of which Python tells
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status or 0)
    sys.exit(status)
