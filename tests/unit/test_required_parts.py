"""What a machine has promised to have (CI=true, NNACTIVE_REQUIRED): tests that lack it fail, all others skip."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import conftest
import pytest
from conftest import PARTS, ROOT, lacks, required_parts

# A test may skip by itself only for what no set-up can bring.
OTHER_REASONS = {
    "this machine has a GPU", "no file system can be mounted here",
    'lacking("cpu") != "", reason="torch.compile lacks what it wants here',
    "torch sees no GPU here, so CUDA is not held against the CPU (NNACTIVE_GPU_TEST_DEVICE=cpu tries",
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "NNACTIVE_REQUIRED"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_is_required_of_a_users_machine() -> None:
    for part in PARTS:
        with pytest.raises(pytest.skip.Exception, match="no such thing"):
            lacks(part, "no such thing")


@pytest.mark.parametrize("there", [True, False])
def test_ci_requires_all_and_newer_nextflow_where_its_folder_is(tmp_path, monkeypatch, there: bool) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(conftest, "NEXTFLOW_VERSIONS", tmp_path if there else tmp_path / "missing")
    for part in PARTS:
        expected = pytest.skip if part == "nextflow-versions" and not there else pytest.fail
        with pytest.raises(expected.Exception, match="no such thing") as told:
            lacks(part, "no such thing")
        assert expected is pytest.skip or f"{part} is required here" in str(told.value)


def test_a_list_of_ones_own() -> None:
    assert required_parts({"CI": "true", "NNACTIVE_REQUIRED": "slurm, chromium podman"}) == {
        "slurm",
        "chromium",
        "podman",
    }
    assert required_parts({"CI": "true", "NNACTIVE_REQUIRED": ""}) == frozenset()
    with pytest.raises(pytest.UsageError, match="unknown chrome"):
        required_parts({"NNACTIVE_REQUIRED": "slurm,chrome"})


def test_no_test_skips_in_another_way() -> None:
    calls = [
        call
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path.name not in ("conftest.py", "test_required_parts.py")
        for call in re.findall(r"(?:\bskip|skipif|importorskip|xfail)\((.*)", path.read_text())
    ]
    assert {call.strip('")') for call in calls} == OTHER_REASONS


def test_a_browser_test_without_a_browser_fails_in_ci_and_says_why(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-q", "tests/browser", "-k", "hover", "-p", "no:cacheprovider"],
        cwd=ROOT, env={**os.environ, "PATH": str(tmp_path), "CI": "true"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert re.search(r"no Chromium on PATH.*; chromium is required here", done.stdout), done.stdout
    assert "skipped" not in done.stdout
