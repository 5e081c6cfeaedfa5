"""--plan through Nextflow: the plan that it hands to FORECAST, the text that comes out, and both against real runs."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, VERSIONS, Run, nextflow_command, run_nextflow
from pages import blocks
from plan import ROW, Told, make_plan, make_row, write_plan

from nnactive_nf.core.files import write_json
from nnactive_nf.forecast.disk import Publishing
from nnactive_nf.forecast.images import assumed_plans
from nnactive_nf.forecast.run import Times, forecast

pytestmark = pytest.mark.pipeline

PLANNING = ROOT / "docs" / "planning.md"

STUDY = """\
dataset,input,regime,start_size,query_size,strategies,seeds,cycles,shards,full_reference,plans
one,phantom,low,8,4,"bald,random",1,3,3,true,
one,phantom,high,12,6,"random,predictive_entropy","1,2",2,2,,
far,nowhere,low,8,4,random,1,1,,,plans.json
"""
# The same rows, of which the reference comes last
SMALL = {"folds": 2, "phantom_cases": 20, "patch_size": "8,16,16", "epochs": 4, "iterations": 50,
         "train_patch_size": "16,32,32", "features": 8, "batch_size": 2, "optimiser": "adamw",
         "device": "cpu"}  # fmt: skip
ONE = {**SMALL, "dataset": "one", "input": "phantom", "source": "phantom", "folder": "phantom"}
LOW = {**ONE, "start_size": 8, "query_size": 4, "shards": 3, "where": "study.csv, row 1"}
PUBLISHED = {"publish_product": "last", "publish_labels": "nifti", "publish_predictions": "pool"}
ROWS = [
    make_row("bald,random", **LOW, regime="low", cycles=3, exports=5 + 2, segments=2),
    make_row("random,predictive_entropy", **{**ONE, "start_size": 12, "query_size": 6, "shards": 2}, regime="high",
             seeds=[1, 2], cycles=2, where="study.csv, row 2", exports=6 + 4, segments=4),
    make_row("random", **SMALL, dataset="far", regime="low", start_size=8, query_size=4, cycles=1, plans="plans.json",
             where="study.csv, row 3", exports=1 + 1, segments=1),
    make_row("", **LOW, regime="full", cycles=1, exports=1 + 1, segments=1),
]  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_nextflow_hands_on_the_plan_and_prints_what_forecast_tells(tmp_path: Path, version: str) -> None:
    (tmp_path / "study.csv").write_text(STUDY)
    write_json(tmp_path / "plans.json", assumed_plans())
    minutes = {"plan_minutes": " 2.9 , 0.7", "plan_gpus": "1, 7"}
    command = nextflow_command(
        "-profile",
        "test",
        input="study.csv",
        folds=2,
        plan=True,
        outdir="mine",
        version=version,
        **minutes,
        **PUBLISHED,
    )
    command = [word for word in command if word not in ("-with-trace", "trace_of_test.txt")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".nextflow")}
    assert left == {"study.csv", "plans.json", "work"}

    (task,) = {path.parent for path in tmp_path.glob("work/*/*/plan.json") if path.is_symlink()}
    plan = json.loads((task / "plan.json").read_text())
    assert by_id(plan["nodes"]) == by_id(make_plan(ROWS)["nodes"])
    assert len(plan["rows"]) == len(ROWS)
    for row, expected in zip(plan["rows"], ROWS, strict=True):
        seen = {name: row[name] for name in ROW if name != "folder"} | {
            "strategies": [{name: known[name] for name in ("name", "maps")} for known in row["strategies"]]
        }
        assert seen == {name: value for name, value in expected.items() if name != "folder"} | {
            "input": row["input"],
            "plans": row["plans"],
        }
    assert [Path(row["folder"]).name for row in plan["rows"]] == ["phantom", "phantom", "nowhere", "phantom"]
    assert [row["plans"] for row in plan["rows"]] == [None, None, f"{tmp_path}/plans.json", None]

    times = Times(None, None, minutes["plan_minutes"], (1, 7))
    folders, plans = {"one": task / "raw_1"}, {"far": task / "plans_1"}
    text = forecast(task / "plan.json", folders, times, Publishing("copy", False, False), plans=plans)
    assert done.stdout.strip().endswith("\n" + text)
    assert re.search("\none +20 cases of about", text)
    assert f"networks  of far as {tmp_path}/plans.json plans them (--plans)" in re.sub("  +", "  ", text)
    assert re.search(f"\nfar +not known: no data in {tmp_path}/nowhere", text)


def by_id(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(nodes, key=lambda node: (node["row"], node["id"]))


def test_counts_are_those_of_a_run(tmp_path: Path) -> None:
    text = STUDY.replace("nowhere", "phantom")
    (tmp_path / "study.csv").write_text(text)
    (tmp_path / "plans.json").touch()
    rows = [row | {"source": "phantom"} for row in ROWS]
    plan = write_plan(tmp_path / "plan.json", rows)
    planned = Told(forecast(plan, {}, Times(None, None, None, (1,)), Publishing("copy", False, False)))
    done = run_nextflow(
        tmp_path, "-profile", "test,stub", "-stub-run", input="study.csv", folds=2, measured=False, **PUBLISHED
    )
    assert done.returncode == 0, done.output
    assert planned.tasks() == done.tasks("COMPLETED") == done.tasks()
    for row, regime in (("one low", "low"), ("one high", "high"), ("one full (whole pool)", "full")):
        tasks = Counter(name for name, tag in tags(done) if tag.startswith(f"one-{regime}-"))
        stages = [name for name in planned.tables["Tasks"][row] if name.isupper()]
        assert {name: planned.count(row, name) for name in stages} == {name: tasks[name] for name in stages}


def tags(run: Run) -> Iterator[tuple[str, str]]:
    """The stage and the tag of each task."""
    for row in run.trace:
        name, _, tag = row["name"].partition(" (")
        yield name.rpartition(":")[2], tag


def test_a_trace_of_another_workflow(tmp_path: Path) -> None:
    """What FORECAST finds wrong is told in one line, as what is found before any task."""
    (tmp_path / "trace.txt").write_text("name\tstatus\trealtime\nOTHER:ALIGN (one)\tCOMPLETED\t1m\n")
    done = run_nextflow(tmp_path, "-profile", "test", plan=True, plan_trace="trace.txt")
    assert done.returncode != 0
    (error,) = [text for text in done.output.splitlines() if "ERROR" in text]
    assert "--plan_trace trace.txt: no training of this workflow has ended in it" in error


def test_the_plan_in_the_docs_is_the_one_that_is_printed(tmp_path: Path) -> None:
    (command,) = [block for block in blocks(PLANNING, "bash") if "--plan_trace" not in block.text]
    (shown,) = blocks(PLANNING, "text")
    words = shlex.split(command.text)
    assert words[:3] == [".tools/bin/nextflow", "run", "main.nf"]
    given = [str(ROOT / word) if word.startswith("conf/") else word for word in words[3:]]
    done = run_nextflow(tmp_path, *given, measured=False)
    assert done.returncode == 0, done.output
    assert shown.text in done.stdout
