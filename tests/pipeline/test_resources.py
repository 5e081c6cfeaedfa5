"""Memory that tasks ask for: by the sizes that CHECK found, never less than ever, and a site's own word last."""

from __future__ import annotations

import json
import re
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, VERSIONS, copy_project, run_nextflow

pytestmark = pytest.mark.pipeline

GIB = 2**30
CALLS = {
    "prepare": "prepare_memory(task, sizes, 1)",
    "prepare_4": "prepare_memory(task, sizes, 4)",
    "train": "train_memory(task, sizes)",
    "predict": "predict_memory(task, sizes, 'predictive_entropy', 5)",
    "predict_folds": "predict_memory(task, sizes, 'fold_probability', 5)",
    "evaluate": "evaluate_memory(task, sizes)",
    "query": "query_memory(task, sizes, 1)",
    "query_8": "query_memory(task, sizes, 8)",
    "annotate": "annotate_memory(task, sizes)",
    "export": "export_memory(task, sizes)",
}
SMALL = {
    "cases": 200, "channels": 1, "classes": 3, "largest": 89600, "largest_file": 89600, "largest_resampled": 0,
    "pool_voxels": 150 * 89600, "test_voxels": 50 * 89600,
}  # fmt: skip
# Abdominal CT of 16 classes and two channels; the largest image of 72 million voxels, its file's grid is another.
LARGE = {
    "cases": 2, "channels": 2, "classes": 16, "largest": 200 * 600 * 600, "largest_file": 275 * 512 * 512,
    "largest_resampled": 150 * 600 * 600, "pool_voxels": 300 * 600 * 600, "test_voxels": 400 * 512 * 512,
}  # fmt: skip
# sizes, attempt, executor
ASKED: dict[str, tuple[dict[str, int] | None, int, str]] = {
    "small": (SMALL, 1, "slurm"),
    "large": (LARGE, 1, "slurm"),
    "large again": (LARGE, 2, "slurm"),
    "here": (LARGE, 40, "local"),
    "nothing known": (None, 1, "slurm"),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_each_stage_asks_for(tmp_path: Path, version: str) -> None:
    found = asked(tmp_path, version)
    small = {name: 4 if name in ("annotate", "export") else 8 for name in CALLS}
    assert found["small"] == small
    assert found["nothing known"] == small  # an empty file, as in a stub run

    first = found["large"]
    volume, file, resampled = (LARGE[name] / GIB for name in ("largest", "largest_file", "largest_resampled"))
    pool, test = LARGE["pool_voxels"] / GIB, LARGE["test_voxels"] / GIB  # GiB of one byte per voxel
    assert first["prepare"] == 8 and first["prepare_4"] == ceil(5 + 4 * 2 * (22 * file + 30 * resampled))
    assert first["train"] == ceil(6 + pool + 80 * volume)
    assert first["predict"] == ceil(1.25 + 4 * (2 * 16 + 8 + 4) * volume)
    assert first["predict_folds"] == ceil(1.25 + (4 * 44 + 2 * 5 * 16) * volume)
    assert first["evaluate"] == ceil(1.25 + test + 12 * 16 * volume + (4 * 16 + 40) * file)
    assert first["query"] == 8 and first["query_8"] == ceil(0.25 + 8 * (24 * volume + 0.5) + 16 * volume)
    assert first["annotate"] == 4
    assert first["export"] == ceil(1 + 16 * volume + 32 * file)
    assert found["large again"] == {name: 2 * value for name, value in first.items()}

    there = int(re.findall(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())[0]) * 1024
    assert set(found["here"].values()) == {ceil(there / GIB)}, "on this machine no task asks for more than there is"


def asked(folder: Path, version: str) -> dict[str, dict[str, int]]:
    """GiB that each stage asks for, for each of `ASKED`."""
    names = " ; ".join(sorted({call.partition("(")[0] for call in CALLS.values()}))
    calls = ", ".join(f"{name}: {call}.toBytes()" for name, call in CALLS.items())
    lines = []
    for place, (sizes, attempt, executor) in enumerate(ASKED.values()):
        (folder / f"{place}.json").write_text(json.dumps(sizes) if sizes else "")
        lines.append(f"[[attempt: {attempt}, executor: '{executor}'], sizes_of(file('{folder}/{place}.json'))]")
    (folder / "main.nf").write_text(
        f"include {{ sizes_of ; {names} }} from '{ROOT}/functions/resources.nf'\nworkflow {{\n"
        f"    def found = [{', '.join(lines)}].collect {{ task, sizes -> [{calls}] }}\n"
        "    println('found ' + groovy.json.JsonOutput.toJson(found))\n}\n"
    )
    done = run_nextflow(folder, project=folder, timeout=900, version=version)
    assert done.returncode == 0, done.output
    found: list[dict[str, Any]] = json.loads(re.findall(r"^found (.*)$", done.stdout, flags=re.MULTILINE)[0])
    return {
        case: {name: ceil(value / GIB) for name, value in told.items()} for case, told in zip(ASKED, found, strict=True)
    }


def test_tasks_ask_by_their_data_unless_the_site_says_otherwise(tmp_path: Path) -> None:
    mine = copy_project(tmp_path / "project")
    sizes = SMALL | {"classes": 30, "largest": 35_000_000}
    (tmp_path / "sizes.json").write_text(json.dumps(sizes))
    module = mine / "modules" / "check.nf"
    text = module.read_text()
    changed = text.replace("touch check_${dataset}.json", f"cp {tmp_path}/sizes.json check_${{dataset}}.json")
    assert changed != text
    module.write_text(changed)
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
    # PREDICT: 1.25 GB and 4 (2 x 30 + 8 + 2) volumes
    assert found == {
        "PHANTOM": {4}, "CHECK": {4}, "PREPARE": {3}, "QUERY": {3}, "ANNOTATE": {4}, "TRAIN": {9}, "PREDICT": {11},
        "EVALUATE": {2}, "ANALYSE": {4}, "REPORT": {4}, "PROTOCOL": {4},
    }  # fmt: skip
