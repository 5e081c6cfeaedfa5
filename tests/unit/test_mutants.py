"""`make mutants`: which faults it makes, in which lines, and that it tells those that are seen from the others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from mutants import changed_lines, importing_tests, mutants_of

SOURCE = """
def f(a: int = 1, b: bool = True) -> int:
    'text'
    if a < 2:
        raise ValueError(f"{a} < {2}", a - 2)
    print(a)
    return min(x + 1 for x in (a, b) if x)
"""


def changes(source: str, lines: frozenset[int] | None = None) -> set[str]:
    return {f"{m.before} -> {m.after}" for m in mutants_of(Path("f.py"), source, lines)}


def test_mutants_of_a_function() -> None:
    assert changes(SOURCE) == {
        "1 -> 2", "1 -> 0", "True -> False", "a < 2 -> a <= 2", "a < 2 -> a >= 2", "2 -> 3", "2 -> 1",
        "raise ValueError(f'{a} < {2}', a - 2) -> pass", "print(a) -> pass", "min -> max", "x + 1 -> x - 1",
        "return min((x + 1 for x in (a, b) if x)) -> return None",
        "(x + 1 for x in (a, b) if x) -> (x + 1 for x in (a, b))",
    }  # fmt: skip
    for mutant in mutants_of(Path("f.py"), SOURCE):
        compile(mutant.source, "f.py", "exec")


def test_only_these_lines_are_touched() -> None:
    assert changes(SOURCE, frozenset({6})) == {"print(a) -> pass"}
    assert changes(SOURCE, frozenset({3})) == set()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a and b", {"a or b"}),
        ("not a", {"a"}),
        ("-a", {"a"}),
        ("a in b", {"a not in b"}),
        ("folder / 'name'", set()),
        ("a / b", {"a * b"}),
        ("0.5", {"1.0"}),
        ("a if b else c", {"a if not b else c"}),
        ("np.floor(a)", {"np.ceil", "pass"}),
    ],
)
def test_mutants_of_an_expression(before: str, after: set[str]) -> None:
    assert {m.after for m in mutants_of(Path("f.py"), before)} == after


def test_unit_tests_are_found_by_what_they_import() -> None:
    assert importing_tests(ROOT, Path("bin/nnactive_nf/core/folds.py")) == {"tests/unit/test_core_folds.py": 0}
    assert importing_tests(ROOT, Path("bin/nnactive_nf/train/nothing.py")) == {}
    # The stage as a whole is a step away.
    assert importing_tests(ROOT, Path("bin/nnactive_nf/check/sizes.py")).items() >= {
        ("tests/unit/test_check_sizes.py", 0), ("tests/unit/test_check.py", 1),
    }  # fmt: skip
    assert importing_tests(ROOT, Path("bin/nnactive_nf/query/grid.py")).items() >= {
        ("tests/unit/test_query_grid.py", 0), ("tests/unit/test_query_random.py", 1),
        ("tests/unit/test_query_twins.py", 2),
    }  # fmt: skip


def test_a_fault_that_no_test_sees_survives(tmp_path: Path) -> None:
    """A project of one function and one test, which never asks for the border."""
    package, unit = tmp_path / "bin" / "nnactive_nf", tmp_path / "tests" / "unit"
    package.mkdir(parents=True)
    unit.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "size.py").write_text("def old(n):\n    return 1\n")
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\npythonpath = ['bin']\n")
    (unit / "test_size.py").write_text(
        "from nnactive_nf.size import small\n\ndef test_small():\n    assert small(1) and not small(9)\n"
    )
    (tmp_path / "tests" / "mutants.py").write_text((ROOT / "tests" / "mutants.py").read_text())
    who = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, env=os.environ | who, check=True)
    changed = (package / "size.py").read_text() + "\ndef small(n):\n    return n < 5\n"
    (package / "size.py").write_text(changed)
    assert changed_lines(tmp_path, "main") == {Path("bin/nnactive_nf/size.py"): frozenset({3, 4, 5})}

    command = [sys.executable, "tests/mutants.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 of 5 mutants, seed 0" in done.stdout
    assert "5 mutants, 2 killed (0 by time), 3 survived" in done.stdout
    assert done.stdout.count("killed by tests/unit/test_size.py::test_small: bin/nnactive_nf/size.py:5: ") == 2
    survivors = {line.partition(": ")[2] for line in done.stdout.rpartition("survived\n")[2].splitlines()}
    assert survivors == {"n < 5  ->  n <= 5", "5  ->  6", "5  ->  4"}
    assert (package / "size.py").read_text() == changed
