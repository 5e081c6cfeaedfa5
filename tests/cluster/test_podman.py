"""The image of the Containerfile under podman, and the workflow in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest
from conftest import ROOT, VERSION, lacks, run_nextflow

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

IMAGE = f"localhost/nnactive-nf:{VERSION}"


@pytest.fixture(scope="module")
def podman() -> dict[str, str]:
    if not shutil.which("podman"):
        lacks("podman", "no podman here (setup/cluster.sh install)")
    settings = ROOT / ".tools" / "containers.conf"
    env = {"CONTAINERS_CONF": str(settings)} if settings.exists() else {}
    found = subprocess.run(["podman", "image", "exists", IMAGE], env={**os.environ, **env}, check=False)
    if found.returncode != 0:
        lacks("podman", f"no image {IMAGE} (setup/cluster.sh image, or make image)")
    return env


def test_the_image_holds_the_dependencies_and_runs_as_no_root(podman):
    told = subprocess.run(
        ["podman", "image", "inspect", IMAGE], env={**os.environ, **podman}, capture_output=True, text=True, check=True
    )
    config = json.loads(told.stdout)[0]["Config"]
    assert config["User"] == "nnactive"
    assert config["Labels"]["org.opencontainers.image.version"] == VERSION
    check = json.loads(told.stdout)[0]["Healthcheck"]["Test"]
    assert check[:3] == ["CMD", "python", "-c"]
    # Compiled when the image is made: its users cannot write into it, and each task would compile all anew.
    compiled = (
        "import importlib.util as known, os; "
        "assert all(os.path.exists(known.find_spec(name).cached) for name in ('torch', 'nnunetv2', 'SimpleITK'))"
    )
    for command in (check[1:], ["python", "-c", compiled]):
        done = subprocess.run(
            ["podman", "run", "--rm", IMAGE, *command], env={**os.environ, **podman}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_the_phantom_run_passes_in_it(podman, tmp_path):
    small = {"cycles": 1, "epochs": 2, "iterations": 10, "phantom_cases": 12, "strategies": "random"}
    done = run_nextflow(tmp_path, "-profile", "podman,test", env=podman, **small)
    assert done.returncode == 0, done.output
    assert set(done.tasks()) == set(done.tasks("COMPLETED"))
    assert (tmp_path / "results" / "report.html").stat().st_size > 0
    owners = {path.stat().st_uid for path in (tmp_path / "work").rglob("*")}
    assert owners == {os.getuid()}
