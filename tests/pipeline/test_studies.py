"""Study tables: several data sets and regimes in one run, the reference on full labels, every mistake in one line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from conftest import VERSIONS, run_nextflow
from schemas import study_errors
from test_parameters import errors_of

pytestmark = pytest.mark.pipeline

STUB = ("-profile", "test,stub", "-stub-run")

TABLE = """\
# two variants of the phantom
dataset,input,regime,start_size,query_size,strategies,seeds,cycles,full_reference,epochs,start_queries,folds_file
one,phantom,low,8,"4,6","random,bald","1,2",3,true,,start.csv,folds.csv
one,phantom,high,12,8,"random,bald,clasp_pe","1,2",2,true,7,,
two,phantom:two_channels,low,8,4,random,1,3,,,,
"""

# Tasks by hand. Nodes: low 2 x (1 + 2 x 2), high 2 x (1 + 3), two 1 + 2; two references, since the epochs differ.
# Maps: low for bald after cycles 0 and 1, high for bald and for clasp_pe after cycle 0, for two seeds each.
LOOP, REFERENCES, FOLDS = 10 + 8 + 3, 2, 2
TASKS = Counter(
    PHANTOM=2, CHECK=2, PREPARE=2, QUERY=LOOP, VIEWS=LOOP, ANNOTATE=LOOP + REFERENCES,
    TRAIN=FOLDS * (LOOP + REFERENCES), EVALUATE=LOOP + REFERENCES, PREDICT=2 * 2 + 2 * 2, ANALYSE=1,
    REPORT=1, PROTOCOL=3,
)  # fmt: skip


def yaml_of(table: str) -> str:
    """The table as YAML."""
    import csv

    lines = [line for line in table.splitlines() if not line.startswith("#")]
    rows = [{name: cell for name, cell in row.items() if cell} for row in csv.DictReader(lines)]
    return "".join(
        "".join(f"{'- ' if i == 0 else '  '}{name}: {cell}\n" for i, (name, cell) in enumerate(row.items()))
        for row in rows
    )


@pytest.mark.parametrize(("version", "name"), list(zip(VERSIONS, ("study.csv", "study.yml"), strict=True)))
def test_two_data_sets_and_two_regimes_in_one_run(tmp_path: Path, version: str, name: str) -> None:
    for given in ("start.csv", "folds.csv"):
        (tmp_path / given).write_text(given)
    (tmp_path / name).write_text(TABLE if name.endswith(".csv") else yaml_of(TABLE))
    done = run_nextflow(tmp_path, *STUB, input=name, folds=FOLDS, version=version)
    assert done.returncode == 0, done.output
    assert done.tasks("COMPLETED") == done.tasks() == TASKS

    # What is given reaches the tasks that it is for: CHECK, starts and trainings of `low`, those of its reference
    staged = [path.relative_to(task) for task in tmp_path.glob("work/*/*") for path in
              (*task.glob("given_*"), *task.glob("start_queries/*"), *task.glob("folds_file"))]  # fmt: skip
    assert Counter(map(str, staged)) == {
        "given_1": 1, "given_2": 1, "start_queries/query_c00.csv": 2, "folds_file": FOLDS * (10 + 1)
    }  # fmt: skip

    results = tmp_path / "results"
    for node in ("one-full-s1-c00", "one-full2-s1-c00", "one-high-clasp_pe-s2-c01", "two-low-random-s1-c02"):
        assert (results / "metrics" / f"{node}.json").exists()
    assert (results / "views" / "one-low-bald-s1-c01.h5").exists()
    assert {path.name for path in results.glob("cases*.csv")} == {"cases_one.csv", "cases_two.csv"}
    parameters = json.loads((results / "parameters.json").read_text())
    assert parameters["study_row_2"]["regime"] == "high"
    (design_file,) = {path.resolve() for path in (tmp_path / "work").rglob("design.json")}
    design = json.loads(design_file.read_text())
    groups = [(group["dataset"], group["regime"], group["reference"]) for group in design["groups"]]
    assert groups == [("one", "low", "full"), ("one", "high", "full2"), ("two", "low", "")]
    assert [group["query_size"] for group in design["groups"]] == [[4, 6], 8, 4]
    budgets = {(t["dataset"], t["regime"]): t["budgets"] for t in design["trajectories"]}
    assert budgets == {("one", "low"): [8, 12, 18], ("one", "high"): [12, 20], ("two", "low"): [8, 12, 16]}
    assert {len(t["nodes"]) for t in design["trajectories"] if t["regime"] == "high"} == {2}
    assert len(design["trajectories"]) == 2 * 2 + 3 * 2 + 1


def test_all_mistakes_in_a_table_are_named_with_their_rows(tmp_path: Path) -> None:
    """More of them in tests/pipeline/test_functions.py."""
    (tmp_path / "study.csv").write_text(
        "dataset,input,regime,start_size,colour,outdir,cycles\none,phantom,low,none,red,here,2\n,,low,8,,,0\n"
    )
    assert errors_of(run_nextflow(tmp_path, *STUB, input="study.csv")) == [
        "study.csv, row 1: unknown column 'colour'; did you mean 'folds'?",
        "study.csv, row 1: 'outdir' is for the whole run; give it as --outdir",
        "study.csv, row 1: start_size none: must be a whole number",
        "study.csv, row 2: no input: name a data set, or give its folder with --data",
        "study.csv, row 2: cycles 0: must be at least 1",
    ]


def test_the_data_folder_is_for_tables_and_fills_in_their_inputs(tmp_path: Path, hippocampus: Path) -> None:
    (tmp_path / "study.csv").write_text("regime,input\nlow,\nhigh,\n")
    done = run_nextflow(tmp_path, *STUB, input="study.csv", data=hippocampus, strategies="random", cycles=1)
    assert done.returncode == 0, done.output
    assert (tmp_path / "results" / "metrics" / f"{hippocampus.name}-high-s12345-c00.json").exists()


def test_the_schema_of_tables_takes_the_parameters_own() -> None:
    assert study_errors([{"input": "phantom", "cycles": 3, "strategies": "random"}]) == []
    for wrong in ([], [{"colour": 1}], [{"cycles": 0}], [{"patch_size": "20"}], {"input": "phantom"}):
        assert study_errors(wrong), wrong
