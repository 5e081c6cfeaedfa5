"""analyse, report and compare as a user calls them: what they write, and one line where something is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from click.testing import Result
from commands import invoke
from study import Made, known_winner, make_study
from test_analyse_nnactive import write_experiment

from nnactive_nf.analyse.folders import merge, read_any
from nnactive_nf.analyse.write import all_tables, analyse
from nnactive_nf.core.design import Design
from nnactive_nf.core.result_tables import COLUMNS, table_file
from nnactive_nf.report.gallery import LEVELS, find_queries, gallery
from nnactive_nf.report.render import page
from nnactive_nf.report.tables import Tables


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_study(
        tmp_path_factory.mktemp("made"), known_winner(strategies=("random", "bald"), seeds=(1, 2)), view_patches=3
    )


@pytest.fixture(scope="module")
def tables(made: Made) -> Path:
    done = invoke("analyse", *made.analyse_arguments(made.folder / "tables"))
    assert done.exit_code == 0, done.output
    return made.folder / "tables"


def test_report_is_the_same_every_time(made: Made, tables: Path, tmp_path: Path, stage: Callable):
    """Here, and in a process of its own, with another order of its sets."""
    arguments = {
        name: made.report_arguments(tables, tmp_path / name / "report.html", tmp_path / name / "figures")
        for name in ("a", "b")
    }
    done = stage("report", *arguments["a"])
    assert done.returncode == 0, done.output
    assert invoke("report", *arguments["b"]).exit_code == 0
    first = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert Path("figures/learning_curves_phantom_low_patches.svg") in first
    assert Path("figures/ppm_phantom_low_holm.png") in first
    for path in first:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path


def test_tables_come_back_from_their_folder(made: Made, tables: Path, tmp_path: Path):
    analyse(read_any(made.folder), tmp_path)
    names = sorted(path.name for path in tables.glob("*.csv*"))
    assert {"ppm.csv", "curves.csv.gz"} <= set(names)
    for name in names:
        was, again = (pd.read_csv(folder / name) for folder in (tables, tmp_path))
        if name == "cost.csv":  # what was asked for stands in the queries, not in the tables' folder
            was, again = (frame.drop(columns="patches_asked") for frame in (was, again))
        pd.testing.assert_frame_equal(again, was, rtol=1e-6, obj=name)


def test_tables_have_the_columns_that_they_are_read_with(made: Made, tables: Path):
    assert {path.name for path in tables.glob("*.csv*")} == {table_file(name) for name in COLUMNS}
    for name, columns in COLUMNS.items():
        found = list(pd.read_csv(tables / table_file(name)).columns)
        assert found[: len(columns)] == list(columns), name
        assert all(name == "queries" and column.startswith("voxels_") for column in found[len(columns) :]), name


def test_compare_of_one_folder_with_itself(made: Made, tables: Path, tmp_path: Path):
    """The same trajectories in two folders become two strategies, whose difference is nought."""
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copytree(tables, copy / "tables")
    done = invoke("compare", made.folder, copy, "--name", "old", "--name", "new", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "report.html").is_file()
    summary = pd.read_csv(tmp_path / "out" / "tables" / "summary.csv")
    assert set(summary["strategy"]) == {"random@old", "bald@old", "random@new", "bald@new"}
    tests = pd.read_csv(tmp_path / "out" / "tables" / "tests.csv")
    same = tests[(tests["a"] == "bald@old") & (tests["b"] == "bald@new")]
    assert (same["difference"] == 0).all()
    assert len(same) == 2 * 3


def test_compare_with_nnactive(made: Made, tables: Path, tmp_path: Path):
    for seed in (1, 2):
        write_experiment(tmp_path / "published", "pred_entropy", seed, [[0.7, 0.6], [0.8, 0.7 + seed / 100]])
    done = invoke("compare", made.folder, tmp_path / "published", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    summary = pd.read_csv(tmp_path / "out" / "tables" / "summary.csv")
    assert set(zip(summary["dataset"], summary["strategy"], strict=True)) == {
        ("phantom", "random"),
        ("phantom", "bald"),
        ("Hippocampus", "predictive_entropy"),
    }
    assert "Hippocampus, start40-query20: no random strategy was run" in done.stdout


def test_other_seeds_of_one_study_are_put_together(made: Made, tables: Path, tmp_path: Path):
    more = make_study(tmp_path / "more", known_winner(strategies=("random", "bald"), seeds=(3, 4)))
    study = read_any(made.folder)
    analyse(_read(more), tmp_path / "more" / "tables", draws=10)
    whole = merge([study, read_any(tmp_path / "more")], ["first", "second"])
    summary = all_tables(whole, draws=10)["summary"]
    assert set(summary["seeds"]) == {4}


def _read(made: Made):
    from nnactive_nf.analyse.study import read_study

    return read_study(Design.read(made.folder / "design.json"), made.folder / "metrics", made.folder / "labels")


def test_pictures_stay_within_their_budget(made: Made):
    queries = find_queries(Design.read(made.folder / "design.json"), made.folder / "views", made.folder / "labels")
    assert len(queries) == 2 + 2 * 2 * 2  # starts, and strategies x seeds x later cycles
    assert queries[0].owners == ("phantom-low-random-s1", "phantom-low-bald-s1")
    design = Design.read(made.folder / "design.json")
    rich = gallery(design, queries)
    sizes = [len(json.dumps(gallery(design, queries, budget))) for budget in (100_000, 40_000, 10_000)]
    assert len(json.dumps(rich)) > sizes[0] > sizes[1] > sizes[2]
    assert rich["left_out"] == 0
    assert gallery(design, queries, 10_000)["left_out"] > 0
    assert rich["labels"] == {"phantom": ["background", "head", "tail"]}
    patch = rich["queries"]["phantom-low-bald-s1-c01"]["patches"][0]
    assert patch["uncertainty"].startswith("data:image/webp")
    assert patch["label"].startswith("data:image/png")
    assert LEVELS[0].patches >= len(rich["queries"]["phantom-low-bald-s1-c01"]["patches"]) == 3


def test_pictures_have_their_own_legend(tables: Path):
    """Where classes are regions, what is painted are labels, which no table knows."""
    names = ["background", "label 2 (in whole)", "lesion (in whole)"]
    found = Tables.read(Design.read(tables / "design.json"), tables)
    html = page(found, {"queries": {}, "index": {}, "left_out": 0, "labels": {"phantom": names}}, {}, {}, "x")
    assert all(f'"name":"{name}"' in html for name in names)
    plain = page(found, {"queries": {}, "index": {}, "left_out": 0, "labels": {}}, {}, {}, "x")
    assert '"name":"head"' in plain and '"name":"label 2' not in plain


# ---- what a user may get wrong --------------------------------------------------------------------------------------


def one_line(done: Result, message: str) -> None:
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    assert message in done.stderr
    assert done.stderr.startswith("ERROR: ")
    assert done.stderr.count("\n") == 1


def test_broken_inputs_of_analyse(made: Made, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(made.folder, copy)
    broken = Made(copy, made.design)
    arguments = broken.analyse_arguments(tmp_path / "out")

    metrics = copy / "metrics" / "phantom-low-bald-s1-c01.json"
    good = metrics.read_text()
    metrics.write_text('{"node": "phantom-low-bald-s1-c01"}')
    one_line(invoke("analyse", *arguments), "phantom-low-bald-s1-c01.json: not the metrics of a node")
    metrics.write_text(good[:50])
    one_line(invoke("analyse", *arguments), "not a JSON file")
    metrics.write_text(good)

    (copy / "metrics" / "twin.json").write_text(good)
    one_line(invoke("analyse", *arguments), "also stands in")
    (copy / "metrics" / "twin.json").unlink()

    labels = next(iter(sorted((copy / "labels").rglob("*.h5"))))
    content = labels.read_bytes()
    labels.write_bytes(content[:100])
    one_line(invoke("analyse", *arguments), f"{labels}: not a readable HDF5 file")
    labels.write_bytes(content)

    (copy / "design.json").write_text("[]")
    one_line(invoke("analyse", *arguments), "design.json: not the plan of a study")
    (copy / "design.json").unlink()
    one_line(invoke("analyse", *arguments), "design.json: no such file")
    assert not (tmp_path / "out").exists()


def test_broken_inputs_of_report_and_compare(made: Made, tables: Path, tmp_path: Path):
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    arguments = made.report_arguments(tmp_path / "empty", tmp_path / "report.html", tmp_path / "figures")
    one_line(invoke("report", *arguments), "metrics.csv: no such file")
    assert not (tmp_path / "report.html").exists()
    one_line(invoke("compare", tmp_path / "empty", "--out", out), "neither a results folder")
    one_line(invoke("compare", made.folder, made.folder, "--out", out), "two folders would be called the same")
    one_line(invoke("compare", made.folder, "--out", made.folder), "results are never overwritten")
    one_line(invoke("compare", made.folder, "--name", "a", "--name", "b", "--out", out), "2 names for 1 folders")


def test_tables_of_another_version_are_told_by_file_and_column(made: Made, tables: Path, tmp_path: Path):
    old = tmp_path / "old" / "tables"
    shutil.copytree(tables, old)
    arguments = made.report_arguments(old, tmp_path / "report.html", tmp_path / "figures")

    def without(file: str, *columns: str) -> None:
        pd.read_csv(tables / file).drop(columns=list(columns)).to_csv(old / file, index=False)

    without("runtimes.csv", "peak_gpu_mib", "cpu_seconds")
    told = (
        "runtimes.csv: columns peak_gpu_mib, cpu_seconds are missing; if another version wrote it, write it anew with"
    )
    one_line(invoke("report", *arguments), told)
    assert not (tmp_path / "report.html").exists()
    done = invoke("compare", old.parent, "--out", tmp_path / "out")  # which works all tables out anew
    assert done.exit_code == 0, done.output

    without("runtimes.csv")
    without("ppm.csv", "share_with_start")
    one_line(invoke("report", *arguments), f"{old}/ppm.csv: column share_with_start is missing; if another version")
    without("ppm.csv")
    without("metrics.csv", "nsd")
    one_line(invoke("compare", old.parent, "--out", tmp_path / "out"), f"{old}/metrics.csv: column nsd is missing; if")
    without("metrics.csv")
    (old / "statistics.json").write_text('{"alpha": 0.05}')
    one_line(invoke("report", *arguments), "statistics.json: bootstrap_draws is missing")
