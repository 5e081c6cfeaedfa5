"""How the process of a command ends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT

SCRIPT = """
import atexit, sys, threading, time
from nnactive_nf.core.leaving import run_and_leave

class Large:
    def __del__(self):
        print("taken apart")

kept = Large()
atexit.register(print, "at the end")

def late():
    time.sleep(0.3)
    print("late")

def command():
    print("done")
    {last}

run_and_leave(command)
"""


@pytest.mark.parametrize(
    ("last", "status", "told", "complaint"),
    [
        ("pass", 0, ["done", "at the end"], ""),
        ("sys.exit(0)", 0, ["done", "at the end"], ""),
        ("sys.exit(143)", 143, ["done", "at the end"], ""),
        ("sys.exit('no')", 1, ["done", "at the end", "taken apart"], "no"),
        ("threading.Thread(target=late).start()", 0, ["done", "late", "at the end", "taken apart"], ""),
        ("raise KeyError('x')", 1, ["done", "at the end", "taken apart"], "KeyError: 'x'"),
        ("sys.stdout.close = sys.stdout.flush = lambda: open('/nothing')", 120, [], ""),
    ],
)
def test_a_process_leaves_at_once_but_for_what_must_be_done(
    last: str, status: int, told: list[str], complaint: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(last=last)], env=os.environ | {"PYTHONPATH": str(ROOT / "bin")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert done.stdout.split("\n")[:-1] == told or not told
    assert done.stderr.rstrip().endswith(complaint)


def test_every_command_ends_so() -> None:
    for path in sorted((ROOT / "bin").glob("*.py")):
        assert path.read_text().endswith('\nif __name__ == "__main__":\n    run_and_leave(main)\n'), path.name
