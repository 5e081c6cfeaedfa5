"""Memory that tasks ask for: by what CHECK found, never less than ever, and a site's own word last."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import copy_project, run_nextflow

pytestmark = pytest.mark.pipeline

GIB = 2**30


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
        "process.beforeScript = { ['# memory', task.memory.toGiga(), task.time, task.ext.tasks_per_gpu].join(' ') }\n"
        "process { withLabel: 'cpu' { memory = 3.GB }\nwithName: 'EVALUATE' { memory = { 2.GB * task.attempt } } }\n"
    )
    done = run_nextflow(
        tmp_path, "-stub-run", "-c", "site.config", project=mine, timeout=900, input="phantom", strategies="bald",
        cycles=2, folds=2, tasks_per_gpu=3,
    )  # fmt: skip
    assert done.returncode == 0, done.output
    assert "no process matching" not in done.output, "the project's own configuration names a process that is not there"
    found = {}
    limits = {}
    for path in (tmp_path / "work").glob("*/*/.command.run"):
        text = path.read_text()
        (name,) = re.findall(r"### name: '\w+:(\w+) ", text)
        ((memory, limit),) = re.findall(r"# memory (\d+) (.*) 3\n", text)
        found.setdefault(name, set()).add(int(memory))
        limits[name] = limit
    assert found == {
        "PHANTOM": {4}, "CHECK": {4}, "PREPARE": {3}, "QUERY": {3}, "VIEWS": {4}, "ANNOTATE": {4}, "TRAIN": {9},
        "PREDICT": {11}, "EVALUATE": {2}, "ANALYSE": {4}, "REPORT": {4}, "PROTOCOL": {4},
    }  # fmt: skip
    # on this machine a task may wait for a GPU, for as long as others train
    assert {name for name, limit in limits.items() if limit == "null"} == {"TRAIN", "PREDICT", "EVALUATE"}
