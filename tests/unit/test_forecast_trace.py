"""Minutes from traces of Nextflow."""

from __future__ import annotations

from pathlib import Path

import pytest
from plan import Told, make_row, write_plan

from nnactive_nf.core.errors import UserError
from nnactive_nf.forecast.disk import Publishing
from nnactive_nf.forecast.run import Times, forecast
from nnactive_nf.forecast.trace import read_trace, trace_rows

TRACE = """\
task_id\thash\tnative_id\tname\tstatus\texit\tsubmit\tduration\trealtime
1\ta\t1\tACTIVE_LEARNING:PREPARE (one)\tCOMPLETED\t0\t-\t1m\t1m
2\ta\t1\tACTIVE_LEARNING:TRAIN (one-low-s1-c00 fold 0)\tCOMPLETED\t0\t-\t3h\t1h 30m
3\ta\t1\tACTIVE_LEARNING:TRAIN (one-low-s1-c00 fold 1)\tCACHED\t0\t-\t3h\t1h 50m
4\ta\t1\tACTIVE_LEARNING:TRAIN (one-low-s1-c00 fold 1)\tFAILED\t1\t-\t9h\t9h
5\ta\t1\tACTIVE_LEARNING:TRAIN (one-b-low-s1-c00 fold 0)\tCOMPLETED\t0\t-\t3h\t40m 30s
6\ta\t1\tACTIVE_LEARNING:TRAIN (one-b-low-s1-c00 fold 1)\tABORTED\t-\t-\t-\t-
7\ta\t1\tACTIVE_LEARNING:EVALUATE (one-b-low-s1-c00)\tCOMPLETED\t0\t-\t3h\t450000
8\ta\t1\tACTIVE_LEARNING:QUERY (one-low-s1 cycle 0)\tCOMPLETED\t0\t-\t3h\t30s
9\ta\t1\tACTIVE_LEARNING:ANNOTATE (one-low-s1-c00)\tCOMPLETED\t0\t-\t3h\t6s
"""


def told(folder: Path, trace: Path, minutes: str | None = None) -> Told:
    rows = [make_row("random,bald", dataset=name, folds=2, cycles=2) for name in ("one", "one-b", "three")]
    plan = write_plan(folder / "plan.json", rows)
    return Told(forecast(plan, {}, Times(trace, "mine", minutes, (1,)), Publishing("copy", False, False)))


def test_minutes_are_means_of_the_data_sets_own_tasks_or_of_all(tmp_path: Path) -> None:
    (tmp_path / "trace.txt").write_text(TRACE)
    found = told(tmp_path, tmp_path / "trace.txt")
    minutes = found.tables["Minutes of a task"]
    assert minutes["one"] == {"PREPARE": "1.0", "TRAIN": "100", "PREDICT": "10*", "EVALUATE": "7.5~", "QUERY": "0.60"}
    assert minutes["one-b"] == {
        "PREPARE": "1.0~", "TRAIN": "41", "PREDICT": "4.1*", "EVALUATE": "7.5", "QUERY": "0.60~"
    }  # fmt: skip
    assert minutes["three"]["TRAIN"] == "80~"  # the mean of 90, 110 and 40.5
    figures = dict(line.split("  ", 1) for line in found.text.splitlines() if line.startswith("minutes of "))
    assert figures["minutes of PREDICT"].strip() == "assumed"
    assert figures["minutes of TRAIN"].strip() == (
        "one, one-b: measured in the trace; three: measured in the trace on other data sets"
    )
    assert told(tmp_path, tmp_path / "trace.txt", "7").tables["Minutes of a task"]["one"]["TRAIN"] == "7.0"


def test_of_a_folder_the_newest_trace_with_a_training_counts(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "pipeline_info"
    folder.mkdir(parents=True)
    (folder / "trace.txt").write_text(TRACE.replace("1h 30m", "3h"))
    (folder / "trace_2026-01-02_03-04-05.txt").write_text(TRACE)
    (folder / "trace_2026-02-02_03-04-05.txt").write_text(TRACE.splitlines()[0] + "\n")  # refused before its first task
    (folder / "report_2026-03-02_03-04-05.txt").write_text("no trace")
    for path in (folder, tmp_path / "results"):
        assert told(tmp_path, path).tables["Minutes of a task"]["one"]["TRAIN"] == "100"
    assert read_trace(folder, "mine", want_training=False).empty


def test_other_files_are_no_traces(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    contents = [b"", b"\x00\xff\xfe", b"{}", b"name\tstatus\na\tb\n", TRACE.replace("realtime", "time").encode()]
    for content in contents:
        path.write_bytes(content)
        assert trace_rows(path) is None, content
        with pytest.raises(UserError, match="--plan_trace mine: no trace of Nextflow; a table with the columns "
                                            "name, status and realtime is wanted, as <outdir>/"):  # fmt: skip
            read_trace(path, "mine", want_training=True)
    with pytest.raises(UserError, match="no trace of Nextflow"):
        read_trace(tmp_path / "nowhere", "mine", want_training=False)
    path.write_text(TRACE.replace("TRAIN", "ALIGN"))
    with pytest.raises(UserError, match="--plan_trace mine: no training of this workflow has ended in it; give the "
                                        "minutes of one with --plan_minutes"):  # fmt: skip
        read_trace(path, "mine", want_training=True)
    assert len(read_trace(path, "mine", want_training=False)) == 7


def test_times_as_nextflow_writes_them(tmp_path: Path) -> None:
    times = {"1d 2h": 1560, "1h 2m 3s": 62.05, "450ms": 0.0075, "60000": 1, "1.5s": 0.025, "-": None}
    rows = [f"X:TRAIN (a fold {i})\tCOMPLETED\t{text}" for i, text in enumerate(times)]
    rows += ["TRAIN\tCOMPLETED\t1m", "broken line"]
    (tmp_path / "trace.txt").write_text("\n".join(["name\tstatus\trealtime", *rows]) + "\n")
    found = trace_rows(tmp_path / "trace.txt")
    assert found is not None
    assert found["minutes"].tolist() == pytest.approx([time for time in times.values() if time is not None] + [1])
    assert set(found["stage"]) == {"TRAIN"}
    assert found["tag"].tolist() == ["a"] * 5 + [""]
