"""`--stop`: a trajectory ends before the plan does, holds up nobody, and goes on where the rule is taken away."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from conftest import VERSIONS, Run, copy_project, run_nextflow

pytestmark = pytest.mark.pipeline

NODE = "phantom-main-{}-s12345-c{:02d}"


@pytest.mark.slow
def test_one_strategy_stops_by_its_budget_and_the_other_goes_on(tmp_path: Path) -> None:
    done = run_nextflow(
        tmp_path, "-profile", "test", strategies="random,random_fg66", cycles=3, phantom_cases=8, start_size=8,
        query_size=4, epochs=1, iterations=4, view_patches=0, stop="dice:0.99,voxels:8000", publish_product="last",
        measured=False,
    )  # fmt: skip
    assert done.returncode == 0, done.output
    told = "8935 foreground voxels are labelled, of 8000"
    assert f"random_fg66 s12345  cycle 2 of 2: is not labelled: {told}" in done.stdout
    assert f"phantom-main-random_fg66-s12345 has stopped after cycle 1: {told}" in done.stdout
    assert "All 4 ensembles are evaluated, 1 trajectory has stopped before the plan's end." in done.stdout
    assert done.tasks("COMPLETED") == Counter(
        PHANTOM=1, CHECK=1, PREPARE=1, QUERY=5, STOP=4, ANNOTATE=4, TRAIN=8, EVALUATE=4, EXPORT=2, ANALYSE=1, REPORT=1,
        PROTOCOL=2,
    )  # fmt: skip

    results = tmp_path / "results"
    assert {path.stem for path in (results / "metrics").iterdir()} == {
        "phantom-main-s12345-c00", *(NODE.format("random", cycle) for cycle in (1, 2)), NODE.format("random_fg66", 1)
    }  # fmt: skip
    assert {path.name for path in (results / "product").iterdir()} == {
        "phantom-main-random-s12345", "phantom-main-random_fg66-s12345"
    }  # fmt: skip
    (row,) = pd.read_csv(results / "tables" / "stopped.csv").to_dict("records")
    assert (row["strategy"], row["cycle"], row["rule"], row["value"]) == ("random_fg66", 1, "voxels", 8935)
    own = pd.read_csv(results / "tables" / "trajectories.csv").query("`class` == 'mean'").set_index("strategy")
    assert own.loc["random", ["cycles", "cycles_planned"]].tolist() == [3, 3] and pd.notna(own.loc["random", "aubc"])
    assert own.loc["random_fg66", ["cycles", "cycles_planned"]].tolist() == [2, 2]
    assert pd.isna(own.loc["random_fg66", "aubc"])
    measured = json.loads((results / "metrics" / f"{NODE.format('random_fg66', 1)}.json").read_text())
    assert own.loc["random_fg66", "final_dice"] == pytest.approx(measured["mean"]["foreground"]["dice"])
    page = (results / "report.html").read_text()
    assert "Stopped by a rule before the plan" in page and told in page


def test_the_newest_nextflow_stops_and_goes_on_without_the_rule(tmp_path: Path) -> None:
    """Of two seeds `bald` stops at cycle 1 and `random` at cycle 2; both by an altered stub."""
    mine = copy_project(tmp_path / "project")
    module = mine / "modules" / "stop.nf"
    head, stub, tail = module.read_text().partition("    stub:\n")
    stops = "${node.id ==~ /.*-bald-s1-c01|.*-random-s2-c02/ ? 'stopped' : 'going'}"
    changed = tail.replace("touch going/", f"touch {stops}/")
    assert changed != tail
    module.write_text(head + stub + changed)

    def run(*args: str, **params: object) -> Run:
        return run_nextflow(
            tmp_path, "-profile", "test,stub", "-stub-run", *args, project=mine, timeout=900, version=VERSIONS[1],
            measured=False, strategies="bald,random", seeds="1,2", cycles=3, folds=2, publish_labels="nnunet",
            publish_predictions="pool", publish_product="best", **params,
        )  # fmt: skip

    done = run(stop="patches:100")
    assert done.returncode == 0, done.output
    nodes = 2 * (1 + 2 * 2) - 2 - 1
    assert len(list((tmp_path / "results" / "metrics").iterdir())) == nodes
    # Queries of the start, of cycle 1, and of those of cycle 2 that come to it; maps for `bald` where it asks
    tasks = done.tasks("COMPLETED")
    assert {name: tasks[name] for name in ("QUERY", "STOP", "ANNOTATE", "TRAIN", "EVALUATE", "PREDICT")} == {
        "QUERY": 2 + 4 + 3, "STOP": 4 + 3, "ANNOTATE": nodes, "TRAIN": 2 * nodes, "EVALUATE": nodes, "PREDICT": 2 + 1,
    }  # fmt: skip
    # The best of four ends, labels and segmentations of each of them
    assert (tasks["EXPORT"], tasks["SEGMENT"]) == (1 + 4, 4)
    ended = {"s1-c00", "bald-s2-c02", "random-s1-c02", "random-s2-c01"}
    assert {path.name for path in (tmp_path / "results" / "predictions").iterdir()} == {
        f"phantom-main-{node}" for node in ended
    }
    said = re.findall(r"^(\S+) has stopped after cycle (\d): stopped$", done.stdout, flags=re.MULTILINE)
    assert said == [("phantom-main-bald-s1", "0"), ("phantom-main-random-s2", "1")]

    more = run("-resume")
    assert more.returncode == 0, more.output
    assert "has stopped" not in more.stdout
    again = more.tasks("COMPLETED")
    assert {name: again[name] for name in ("QUERY", "STOP", "ANNOTATE", "TRAIN", "EVALUATE", "PREDICT", "PREPARE")} == {
        "QUERY": 1, "STOP": 0, "ANNOTATE": 3, "TRAIN": 2 * 3, "EVALUATE": 3, "PREDICT": 1, "PREPARE": 0,
    }  # fmt: skip
    assert again["CHECK"] == 1  # it is told of the rules
