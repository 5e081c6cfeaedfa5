"""Memory that tasks ask for: by what CHECK found, never less than ever, and a site's own word last."""

from __future__ import annotations

import json
import re
from math import ceil
from pathlib import Path

import pytest
from conftest import ROOT, VERSIONS, copy_project, run_nextflow

pytestmark = pytest.mark.pipeline

GIB = 2**30
THERE = int(re.findall(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())[0]) * 1024
# what is asked for, and the GiB that are due: a query needs 9.5 and 2 for each core, a training 1
ASKED = {
    "memory_of([attempt: 1, executor: 'slurm'], 8, needs_of(told).query)": 10,
    "memory_of([attempt: 1, executor: 'slurm'], 8, needs_of(told).query, 4)": 18,
    "memory_of([attempt: 2, executor: 'slurm'], 8, needs_of(told).query, 4)": 36,
    "memory_of([attempt: 40, executor: 'local'], 8, needs_of(told).query, 4)": ceil(THERE / GIB),
    "memory_of([attempt: 1, executor: 'slurm'], 8, needs_of(told).train)": 8,
    "memory_of([attempt: 1, executor: 'slurm'], 4, needs_of(empty).query, 4)": 4,
    "memory_of([attempt: 3, executor: 'slurm'], 8)": 24,
}


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_task_asks_for(tmp_path: Path, version: str) -> None:
    need = {"query": {"bytes": int(9.5 * GIB), "each": 2 * GIB}, "train": {"bytes": GIB, "each": 0}}
    (tmp_path / "told.json").write_text(json.dumps({"cases": 2, "memory": need}))
    (tmp_path / "empty.json").touch()
    (tmp_path / "main.nf").write_text(
        f"include {{ memory_of ; needs_of }} from '{ROOT}/functions/resources.nf'\nworkflow {{\n"
        f"    def told = file('{tmp_path}/told.json')\n    def empty = file('{tmp_path}/empty.json')\n"
        f"    println('found ' + [{', '.join(ASKED)}]*.toBytes().join(' '))\n}}\n"
    )
    done = run_nextflow(tmp_path, project=tmp_path, timeout=900, version=version)
    assert done.returncode == 0, done.output
    (found,) = re.findall(r"^found (.*)$", done.stdout, flags=re.MULTILINE)
    assert [ceil(int(value) / GIB) for value in found.split()] == list(ASKED.values())


def test_tasks_ask_by_their_data_unless_the_site_says_otherwise(tmp_path: Path) -> None:
    mine = copy_project(tmp_path / "project")
    need = {"train": 8.1, "predict": 10.3, "evaluate": 100, "query": 0.3}
    told = {stage: {"bytes": int(value * GIB), "each": 0} for stage, value in need.items()}
    (tmp_path / "told.json").write_text(json.dumps({"memory": told}))
    module = mine / "modules" / "check.nf"
    text = module.read_text()
    changed = text.replace("touch check_${dataset}.json", f"cp {tmp_path}/told.json check_${{dataset}}.json")
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
    assert "no process matching" not in done.output, "the project's own configuration names a process that is not there"
    found = {}
    for path in (tmp_path / "work").glob("*/*/.command.run"):
        text = path.read_text()
        (name,) = re.findall(r"### name: '\w+:(\w+) ", text)
        found.setdefault(name, set()).add(int(re.findall(r"# memory (\d+)", text)[0]))
    assert found == {
        "PHANTOM": {4}, "CHECK": {4}, "PREPARE": {3}, "QUERY": {3}, "VIEWS": {4}, "ANNOTATE": {4}, "TRAIN": {9},
        "PREDICT": {11}, "EVALUATE": {2}, "ANALYSE": {4}, "REPORT": {4}, "PROTOCOL": {4},
    }  # fmt: skip
