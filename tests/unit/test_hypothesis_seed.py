"""Examples of property tests: the same at each run, others with a seed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

CODE = """
from hypothesis import given, settings, strategies as st
@settings(max_examples=20)
@given(st.integers(0, 10**9))
def test_draw(number):
    print("drawn", number)
"""


@pytest.fixture
def drawn(tmp_path: Path):
    """Examples drawn by a pytest of its own with the project's conftest, and the seed that its head tells."""
    path = tmp_path / "test_draw.py"
    path.write_text(CODE)

    def run(*options: str) -> tuple[list[str], str | None]:
        command = [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", "-p", "conftest", *options, path]
        done = subprocess.run(
            [*map(str, command), f"--rootdir={tmp_path}", f"--override-ini=pythonpath={ROOT / 'tests'}"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        numbers = re.findall(r"drawn (\d+)", done.stdout)
        assert len(numbers) == 20
        told = re.search(r"^to see these examples again: --hypothesis-seed=(\d+)$", done.stdout, flags=re.MULTILINE)
        return numbers, told and told[1]

    return run


def test_the_same_each_time_and_others_with_a_seed(drawn) -> None:
    plain, told = drawn()
    assert told is None
    assert drawn() == (plain, None)
    one, seed = drawn("--hypothesis-seed=1")
    two, _ = drawn("--hypothesis-seed=2")
    assert seed == "1"
    assert plain != one != two != plain


def test_a_random_seed_is_new_each_time_and_told(drawn) -> None:
    first, seed = drawn("--hypothesis-seed=random")
    second, other = drawn("--hypothesis-seed=random")
    assert seed is not None and seed != other and first != second
    assert drawn(f"--hypothesis-seed={seed}") == (first, seed)
