"""Memory that tasks ask for: by the images' size, as before where they are small, and a site's own word last."""

from __future__ import annotations

import gzip
import json
import re
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, copy_project, run_nextflow

from nnactive_nf.core.dataset import CASE_COLUMNS

pytestmark = pytest.mark.pipeline

GIB = 2**30
CALLS = {
    "prepare": "prepare_memory(TASK, raw_voxels(file(RAW)), 1)",
    "prepare_4": "prepare_memory(TASK, raw_voxels(file(RAW)), 4)",
    "train": "train_memory(TASK, file(PREPARED))",
    "predict": "predict_memory(TASK, file(PREPARED), 'predictive_entropy', 5)",
    "predict_folds": "predict_memory(TASK, file(PREPARED), 'fold_probability', 5)",
    "evaluate": "evaluate_memory(TASK, file(PREPARED))",
    "query": "query_memory(TASK, file(PREPARED), 1)",
    "query_8": "query_memory(TASK, file(PREPARED), 8)",
    "annotate": "annotate_memory(TASK, file(PREPARED))",
}


def write_prepared(folder: Path, shapes: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]], classes: int) -> Path:
    """What PREPARE tells of cases (side, shape on the image grid, shape of the file); patients' names have commas."""
    folder.mkdir(parents=True)
    rows = [",".join([*CASE_COLUMNS, "crop_z", "crop_y", "crop_x"])]
    for number, (side, shape, original) in enumerate(shapes):
        numbers = [*shape, 1, 1, 1, *original, 1, 1, 1, 0, 0, 0]
        rows.append(f'case_{number},"Doe, {number}",{side},' + ",".join(map(str, numbers)))
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    head = {"channels": ["CT"], "class_names": [f"class {index}" for index in range(classes)]}
    (folder / "dataset.json").write_text(json.dumps(head))
    return folder


def write_raw(folder: Path, images: dict[str, tuple[tuple[int, ...], tuple[float, ...]] | None], channels: int) -> Path:
    """A raw folder whose images are NIfTI headers alone, of a shape (x, y, z) and spacing; None for a damaged one."""
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps({"channel_names": {str(i): "CT" for i in range(channels)}}))
    for place, (name, image) in enumerate(images.items()):
        head = bytearray(348)
        if image is not None:
            order = "<>"[place % 2]
            struct.pack_into(f"{order}i", head, 0, 348)
            struct.pack_into(f"{order}8h", head, 40, 3, *image[0], 1, 1, 1, 1)
            struct.pack_into(f"{order}8f", head, 76, 1, *image[1], 0, 0, 0, 0)
        content = bytes(head)
        (folder / "imagesTr" / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


def asked(folder: Path, prepared: Path, raw: Path, attempt: int = 1, executor: str = "slurm") -> dict[str, int]:
    """GiB that each stage asks for."""
    mini = folder / f"mini_{prepared.name}_{attempt}_{executor}"
    mini.mkdir()
    names = " ; ".join(sorted({call.partition("(")[0] for call in CALLS.values()}))
    words = {"TASK": "task", "RAW": f"'{raw}'", "PREPARED": f"'{prepared}'"}
    calls = [re.sub("[A-Z]{2,}", lambda word: words[word[0]], f"{name}: {call}") for name, call in CALLS.items()]
    (mini / "main.nf").write_text(
        f"include {{ raw_voxels }} from '{ROOT}/functions/images.nf'\n"
        f"include {{ {names} }} from '{ROOT}/functions/resources.nf'\nworkflow {{\n"
        f"    def task = [attempt: {attempt}, executor: '{executor}']\n"
        f"    def found = [{', '.join(calls)}].collectEntries {{ name, memory -> [name, memory.toBytes()] }}\n"
        "    println('found ' + groovy.json.JsonOutput.toJson(found))\n}\n"
    )
    done = run_nextflow(mini, project=mini, timeout=900)
    assert done.returncode == 0, done.output
    found: dict[str, Any] = json.loads(re.findall(r"^found (.*)$", done.stdout, flags=re.MULTILINE)[0])
    assert all(value % GIB == 0 for value in found.values()) or executor == "local"
    return {name: -(-value // GIB) for name, value in found.items()}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Abdominal CT of 16 classes, the largest image of 72 million voxels; most slices 2 mm apart, some 5 mm."""
    folder = tmp_path_factory.mktemp("large")
    cases = [("pool", (200, 600, 600), (80, 512, 512)), ("test", (100, 600, 600), (275, 512, 512))]
    raw = {
        "a_0000.nii.gz": ((512, 512, 200), (0.8, 0.8, 2.0)),
        "b_0000.nii": ((512, 512, 200), (0.8, 0.8, 2.0)),
        "c_0000.nii.gz": ((512, 512, 120), (0.8, 0.8, 5.0)),
        "d_0000.nii.gz": None,
        "e_0000.nrrd": None,
    }
    return write_prepared(folder / "prepared", cases, 16), write_raw(folder / "raw", raw, 2)


def test_small_images_ask_for_what_was_always_asked_for(tmp_path: Path) -> None:
    cases = [("pool", (40, 56, 40), (40, 56, 40)), ("test", (40, 50, 40), (40, 50, 40))]
    prepared = write_prepared(tmp_path / "prepared", cases, 3)
    raw = write_raw(tmp_path / "raw", {"a_0000.nii.gz": ((40, 50, 40), (1, 1, 1))}, 1)
    assert asked(tmp_path, prepared, raw) == {name: 4 if name == "annotate" else 8 for name in CALLS}


def test_large_images_ask_for_more_at_each_attempt(large: tuple[Path, Path], tmp_path: Path) -> None:
    first = asked(tmp_path, *large)
    volume = 200 * 600 * 600 / GIB  # GiB of one byte per voxel
    test = 275 * 512 * 512 / GIB
    assert first["train"] == -(-(6 + 81 * volume) // 1)
    assert first["predict"] == -(-(1.25 + 4 * (2 * 16 + 8 + 2) * volume) // 1)
    assert first["predict_folds"] == -(-(1.25 + (4 * 42 + 2 * 5 * 16) * volume) // 1)
    assert first["evaluate"] == -(-(1.25 + 12 * 16 * volume + (1 + 4 * 16 + 40) * test) // 1)
    assert first["query"] == 8 and first["query_8"] == -(-(0.25 + 8 * (24 * volume + 0.5) + 12 * volume) // 1)
    assert first["annotate"] == 4
    # two channels; the coarse case is brought from 120 slices of 5 mm to 300 of 2 mm
    slices = 512 * 512 / GIB
    assert first["prepare_4"] == -(-(5 + 4 * 2 * slices * (22 * 120 + 30 * 300)) // 1)
    second = asked(tmp_path, *large, attempt=2)
    assert second == {name: 2 * value for name, value in first.items()}


def test_on_this_machine_no_task_asks_for_more_than_there_is(large: tuple[Path, Path], tmp_path: Path) -> None:
    there = int(re.findall(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())[0]) * 1024
    here = asked(tmp_path, *large, attempt=40, executor="local")
    assert set(here.values()) == {-(-there // GIB)}


def test_nothing_known_is_no_error(tmp_path: Path) -> None:
    """As in a stub run: empty files."""
    for name in ("prepared", "raw"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "dataset.json").touch()
    (tmp_path / "prepared" / "cases.csv").touch()
    assert set(asked(tmp_path, tmp_path / "prepared", tmp_path / "raw").values()) == {4, 8}


def test_tasks_ask_by_their_data_unless_the_site_says_otherwise(tmp_path: Path) -> None:
    mine = copy_project(tmp_path / "project")
    data = write_prepared(tmp_path / "big", [("pool", (100, 400, 400), (9, 9, 9)), ("test", (9, 9, 9), (9, 9, 9))], 30)
    module = mine / "modules" / "prepare.nf"
    module.write_text(
        module.read_text().replace(
            "touch prepared/dataset.json prepared/cases.csv", f"cp {data}/* prepared/\n    touch"
        )
    )
    (tmp_path / "site.config").write_text(
        "executor.memory = '900 GB'\nexecutor.cpus = 16\n"
        "process.beforeScript = { '# memory ' + task.memory.toGiga() }\n"
        "process { withLabel: 'cpu' { memory = 3.GB }\nwithName: 'EVALUATE' { memory = { 2.GB * task.attempt } } }\n"
    )
    done = run_nextflow(
        tmp_path, "-stub-run", "-c", "site.config", project=mine, timeout=900, input="phantom", strategies="bald",
        cycles=2, folds=2,
    )  # fmt: skip
    assert done.returncode == 0, done.output
    found = {}
    for path in (tmp_path / "work").glob("*/*/.command.run"):
        text = path.read_text()
        (name,) = re.findall(r"### name: '\w+:(\w+) ", text)
        found.setdefault(name, set()).add(int(re.findall(r"# memory (\d+)", text)[0]))
    assert found == {
        "PHANTOM": {4}, "PREPARE": {3}, "QUERY": {3}, "ANNOTATE": {4}, "TRAIN": {8}, "PREDICT": {9}, "EVALUATE": {2},
        "ANALYSE": {4}, "REPORT": {4}, "PROTOCOL": {4},
    }  # fmt: skip
