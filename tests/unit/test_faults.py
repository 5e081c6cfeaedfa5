"""Faults while files are written: a full disk, a kill before the last step; what was there before stays whole."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from conftest import ROOT
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnactive_nf.core.errors import UserError, reports_user_errors
from nnactive_nf.core.files import read_json, whole_file, write_json
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.grid import CaseGrid
from nnactive_nf.core.image_files import write_nifti
from nnactive_nf.core.images import read_voxels
from nnactive_nf.core.labels import Labels, read_labels, write_labels
from nnactive_nf.core.nnunet import load_fold, save_fold
from nnactive_nf.core.query_table import QUERY_TYPES, read_query, write_query
from nnactive_nf.core.tables import guarded_text, without_formulas
from nnactive_nf.core.uncertainty import UncertaintyMaps, create_uncertainty, write_case
from nnactive_nf.train.store import Given, TrainingStore

MESSAGE = "No space left on device; make room there, then run the same command with -resume"
FOLD = tiny.some_fold(0, "abc")
# Made here: torch's threads do not outlive the doubling of a process.
LARGE = tiny.fold(FOLD.plans, FOLD.nnunet_json, patch=(4, 4, 4), features=128)
STATE = {"w": torch.zeros(1_000_000)}


def masks(megabytes: float) -> Labels:
    """Labels of noise, which gzip makes no smaller."""
    rng = np.random.default_rng(1)
    values = np.arange(128, dtype=np.uint8)
    classes = tiny.classes(128)
    made = {f"c{i}": rng.choice(values, (32, 64, 64)) for i in range(round(megabytes * 8))}
    return Labels("x", "n", 0, classes, made)


def query(path: Path, rows: int = 1) -> None:
    rank = range(1, rows + 1)
    table = pd.DataFrame({name: rank if name == "rank" else 1 for name in QUERY_TYPES}).assign(
        case="a", component="all"
    )
    write_query(path, table)


def maps(path: Path, cases: int = 1) -> None:
    rng = np.random.default_rng(1)
    with create_uncertainty(
        path, dataset="x", node="n", cycle=0, folds=2, classes=2, maps=["predictive_entropy"], checkpoints=["", ""]
    ) as file:
        for number in range(cases):
            write_case(file, f"c{number}", {"predictive_entropy": rng.random((32, 64, 64)).astype(np.float32)})


def image(path: Path) -> None:
    """A NIfTI of noise, which SimpleITK would cut off on a full disk without a word."""
    shape = (64, 128, 128)
    grid = CaseGrid(shape, Box((0, 0, 0), shape), shape, (1, 1, 1), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    write_nifti(path.with_name("file.nii.gz"), np.random.default_rng(1).integers(255, size=shape, dtype=np.uint8), grid)


WRITERS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "JSON": (lambda p: write_json(p, {"a": "x" * 4_000_000}), read_json),
    "a query": (lambda p: query(p, 100_000), read_query),
    "labels": (lambda p: write_labels(p, masks(4)), read_labels),
    "maps": (lambda p: maps(p, 10), lambda p: UncertaintyMaps([p], {f"c{i}": (32, 64, 64) for i in range(10)}).cases),
    "an image": (image, lambda p: read_voxels(p.with_name("file.nii.gz"), SimpleITKIO)),
    "a checkpoint": (
        lambda p: save_fold(p, LARGE), load_fold
    ),
    "a state": (
        lambda p: TrainingStore(p, "abc").save_latest(STATE),
        lambda p: TrainingStore(p, "abc").load_latest()["digest"],  # type: ignore[index]
    ),
}  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_told_with_its_folder_and_nothing_is_left(name: str, small: Path) -> None:
    write, _ = WRITERS[name]
    with pytest.raises(UserError) as told:
        write(small / "file")
    (line,) = told.value.lines
    assert line.startswith(f"{small}") and f" on {os.uname().nodename}: {MESSAGE}" in line
    assert not [path for path in small.rglob("*") if path.is_file()]


def test_a_full_disk_does_not_take_the_process_along(small: Path) -> None:
    """HDF5 would, when it tidies up at the process's end: so a process of its own is looked at."""
    code = "import test_faults, pathlib, sys; test_faults.WRITERS['labels'][0](pathlib.Path(sys.argv[1]))"
    paths = os.pathsep.join([str(ROOT / "bin"), str(ROOT / "tests"), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", code, small / "x.h5"], env={**os.environ, "PYTHONPATH": paths}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and f"UserError: {small} on" in done.stderr, done.stderr


def test_a_full_store_keeps_what_it_has(small: Path) -> None:
    place = TrainingStore(small, "abc")
    place.finish(FOLD, {})
    with pytest.raises(UserError, match=MESSAGE):
        TrainingStore(small, "abd").finish(LARGE, {})
    assert place.finished(Given(FOLD.plans, FOLD.configuration, FOLD.nnunet_json))
    assert not [path for path in small.rglob("*") if ".part" in path.name]


def test_a_full_disk_elsewhere_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    @reports_user_errors
    def command() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/scratch/x")

    with pytest.raises(SystemExit) as end:
        command()
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith(f"ERROR: /scratch/x on {os.uname().nodename}: No space left on device")


@pytest.mark.parametrize("name", WRITERS)
def test_a_task_that_is_killed_leaves_what_was_there_whole(name: str, tmp_path: Path) -> None:
    write, read = WRITERS[name]
    write(tmp_path / "file")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def killed(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        Path.replace = Path.rename = killed  # type: ignore[assignment,method-assign]
        write(tmp_path / "file")
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    left = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    parts = [path for path in left if path not in before]
    assert len(parts) == 1 and ".part" in str(parts[0].relative_to(tmp_path))
    assert {path: content for path, content in left.items() if path in before} == before
    read(tmp_path / "file")
    write(tmp_path / "file")  # and the next attempt is not in its way
    read(tmp_path / "file")


def test_a_write_that_fails_for_another_reason_keeps_its_error(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), whole_file(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "no")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", '=HYPERLINK("x")'])
def test_text_that_a_spreadsheet_would_run_is_guarded(text: str) -> None:
    assert guarded_text(text) == f"'{text}" and guarded_text("a=1") == "a=1" and guarded_text(-1.5) == -1.5
    table = without_formulas(pd.DataFrame({"text": [text, "plain", None], "number": [-1.0, 2.0, 3.0]}))
    assert table["text"].tolist()[:2] == [f"'{text}", "plain"] and table["number"].tolist() == [-1, 2, 3]
