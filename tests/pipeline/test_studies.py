"""Study tables: several data sets and regimes in one run, the reference on full labels, every mistake in one line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from conftest import VERSIONS, Run, run_nextflow
from schemas import study_errors

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


def refused(folder: Path, table: str, *, name: str = "study.csv", **params: object) -> list[str]:
    """The lines that a run with this table ends with, before any task."""
    (folder / name).write_text(table, encoding="latin-1")
    done: Run = run_nextflow(folder, *STUB, input=name, **params)
    assert done.returncode != 0
    assert not done.trace
    assert "Exception" not in done.output
    return [
        line.removeprefix("ERROR ~ ").removeprefix("ERROR: ") for line in done.output.splitlines() if "ERROR" in line
    ]


def test_all_mistakes_in_a_table_are_named_with_their_rows(tmp_path: Path) -> None:
    lines = refused(
        tmp_path,
        "dataset,input,regime,start_size,colour,outdir,cycles\none,phantom,low,none,red,here,2\n,,low,8,,,0\n",
    )
    assert lines == [
        "study.csv, row 1: unknown column 'colour'; did you mean 'folds'?",
        "study.csv, row 1: 'outdir' is for the whole run; give it as --outdir",
        "study.csv, row 1: start_size none: must be a whole number",
        "study.csv, row 2: no input: name a data set, or give its folder with --data",
        "study.csv, row 2: cycles 0: must be at least 1",
    ]


def test_rows_are_checked_with_each_other(tmp_path: Path) -> None:
    lines = refused(
        tmp_path,
        "dataset,input,regime,strategies,test_fraction,full_reference\n"
        "one,phantom,low,random,0.5,true\n"
        "one,phantom,low,randum,0.25,\n"
        "one,phantom,full,random,0.5,\n"
        "two,nowhere,low,random,,\n",
    )
    assert lines == [
        "study.csv, row 2: strategies: unknown strategy 'randum'; did you mean 'random'?",
        f"study.csv, row 4: input {tmp_path}/nowhere: no such folder; "
        "an nnU-Net raw or a Decathlon folder is wanted, or 'phantom'",
        "study.csv, rows 1 and 2: both are data set one, regime low; give one another regime",
        "--regime full: --full_reference takes this name; choose another",
        "study.csv, rows 1 and 2 and 3: data set one has more than one test_fraction; name them apart (column dataset)",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "table", "line"),
    [
        ("study.csv", "dataset,regime\none,low,8\n", "row 1 has 3 cells, the header has 2"),
        ("study.csv", "dataset;input\none;phantom\n", "its cells are separated by semicolons"),
        ("study.csv", 'dataset,input,regime\none,phantom,"low\n', "Missing double-quote"),
        ("study.csv", "dataset,input\none,K\xf6rper\n", "not text in UTF-8"),
        ("study.json", '[{"dataset": ', "neither YAML nor JSON"),
        ("study.yml", "dataset: one\n", "a list of rows is wanted, each with `name: value` lines"),
    ],
)  # fmt: skip
def test_what_is_no_table_says_so(tmp_path: Path, name: str, table: str, line: str) -> None:
    (found,) = refused(tmp_path, table, name=name)
    assert found.startswith(f"--input {name}: {line}")


def test_the_data_folder_is_for_tables_and_fills_in_their_inputs(tmp_path: Path, hippocampus: Path) -> None:
    table = "regime,input\nlow,\nhigh,\n"
    lines = refused(tmp_path, table, data=tmp_path / "nowhere")
    assert lines == [f"--data {tmp_path}/nowhere: no such folder"]
    (tmp_path / "study.csv").write_text(table)
    done = run_nextflow(tmp_path, *STUB, input="study.csv", data=hippocampus)
    assert done.returncode == 0, done.output
    assert (tmp_path / "results" / "metrics" / f"{hippocampus.name}-high-s12345-c00.json").exists()


def test_the_schema_of_tables_takes_the_parameters_own() -> None:
    assert study_errors([{"input": "phantom", "cycles": 3, "strategies": "random"}]) == []
    for wrong in ([], [{"colour": 1}], [{"cycles": 0}], [{"patch_size": "20"}], {"input": "phantom"}):
        assert study_errors(wrong), wrong
