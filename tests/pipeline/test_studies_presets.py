"""The workflow takes every preset: its own checks find nothing, and its rows are those of the table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from conftest import ROOT, copy_project, run_nextflow
from decathlon import decathlon_head, write_decathlon_head

pytestmark = pytest.mark.pipeline

STUDIES = ROOT / "conf" / "studies"
CHECK = """
include { parameter_errors ; typed_parameters } from './functions/parameters.nf'
include { study_errors ; study_rows } from './functions/study.nf'

workflow {
    def found = files("${projectDir}/conf/studies/*.csv").collectEntries { table ->
        [table.simpleName, checked(table, table.text.startsWith('input') ? params.data : "${params.data}/ACDC")]
    }
    found.downloaded = checked("${projectDir}/conf/studies/hippocampus.csv", 'msd:Task04_Hippocampus')
    file('found.json').text = groovy.json.JsonOutput.toJson(found)
}

def checked(table, data) {
    def given = params + [input: table.toString(), data: data.toString()]
    def values = typed_parameters(given)
    def errors = parameter_errors(given) + study_errors(values)
    [errors: errors, rows: errors ? [] : study_rows(values)]
}
"""


def test_every_preset_is_accepted(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    (project / "main.nf").write_text(CHECK)
    for name in ("ACDC", "AMOS", "Hippocampus", "KiTS", "WORD", "LiTS", "MAMA-MIA", "ToothFairy2"):
        write_decathlon_head(tmp_path / "data" / name, decathlon_head(map(str, range(150))))
    done = run_nextflow(tmp_path, project=project, timeout=600, data=tmp_path / "data")
    assert done.returncode == 0, done.output
    found = json.loads((tmp_path / "found.json").read_text())
    downloaded = found.pop("downloaded")
    assert downloaded["errors"] == []
    assert [row["input"] for row in downloaded["rows"]] == ["msd:Task04_Hippocampus"] * 3
    assert sorted(found) == sorted(path.stem for path in STUDIES.glob("*.csv"))
    for name, preset in found.items():
        assert preset["errors"] == [], name
        with (STUDIES / f"{name}.csv").open(newline="") as file:
            table = list(csv.DictReader(file))
        assert len(preset["rows"]) == len(table)
        for row, cells in zip(preset["rows"], table, strict=True):
            assert Path(row["input"]).name == cells.get("input", "ACDC")
            assert (row["dataset"], row["regime"]) == (cells["dataset"], cells["regime"])
            assert [strategy["name"] for strategy in row["strategies"]] == cells["strategies"].split(",")
            assert [str(seed) for seed in row["seeds"]] == cells["seeds"].split(",")
            for column in ("start_size", "query_size", "cycles", "folds", "epochs", "iterations", "test_fraction"):
                assert row[column] == pytest.approx(float(cells[column])), column
