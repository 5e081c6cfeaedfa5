"""Paths of odd names are words of a task's shell and nothing more: blanks, quotes, `$()`, `;` and a leading `-`.

The checkpoint store's, which container engines are given, in tests/pipeline/test_profiles.py.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
from conftest import run_nextflow
from test_profiles import ODD

pytestmark = pytest.mark.pipeline


def test_inputs_of_odd_names_reach_the_commands_and_run_nothing(phantom: Path, tmp_path: Path) -> None:
    """CHECK is given all of them and refuses the data, so that nothing else is run."""
    odd = tmp_path / "data" / ODD
    raw = Path(shutil.copytree(phantom, odd / ODD))
    sorted((raw / "labelsTr").iterdir())[0].unlink()
    shutil.copy(phantom / "groups.csv", odd / f"{ODD}.csv")
    shutil.copytree(phantom / "labelsTr", odd / "free")
    (odd / f"{ODD}.py").write_text("MAPS = []\n\n\ndef mine(image):\n    return image.intensities()[0]\n")
    (odd / f"{ODD} too.py").touch()
    done = run_nextflow(
        tmp_path / "launch", "-profile", "test", input=raw, groups=odd / f"{ODD}.csv", free_masks=odd / "free",
        strategy_file=odd / f"{ODD}.py", strategies="random,mine", trainer_file=odd / f"{ODD} too.py",
        outdir=tmp_path / ODD, checkpoint_store=tmp_path / f"store {ODD}", measured=False,
    )  # fmt: skip
    assert done.returncode != 0
    (line,) = set(re.findall(r"ERROR: (case .*)", done.output))
    assert line.endswith(f"label is missing ({raw}/labelsTr/phantom_001.nii.gz)")
    assert f"ERROR: --trainer_file {odd / ODD} too.py: no subclass of " in done.output
    assert not list(tmp_path.rglob("RAN")) and not Path("RAN").exists()


def test_a_project_of_an_odd_name(tmp_path: Path) -> None:
    """Its own Python is put on the tasks' PATH by what stands before each task's script."""
    mini = tmp_path / "$(touch RAN) 'it' \"is\""
    mini.mkdir()
    (mini / "main.nf").write_text("process ONE {\n    script:\n    'echo $PATH > path'\n}\nworkflow {\n    ONE()\n}\n")
    shutil.copytree(Path(__file__).parents[2] / "conf", mini / "conf")
    (mini / "nextflow.config").write_text("includeConfig 'conf/base.config'\n")
    done = run_nextflow(tmp_path / "launch", project=mini, measured=False, env={"PATH": os.environ["PATH"]})
    assert done.returncode == 0, done.output
    (path,) = (tmp_path / "launch" / "work").glob("*/*/path")
    assert path.read_text().startswith(f"{mini}/.venv/bin:")
    assert not list(tmp_path.rglob("RAN"))
