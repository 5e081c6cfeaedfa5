"""What stopped trajectories and minutes do to the tables and to the report."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from study import Curves, known_winner, make_study
from test_analyse_tables import BY_HAND, SETTING, study_of
from test_receive import query_of

from nnactive_nf.analyse.folders import merge, read_any
from nnactive_nf.analyse.study import STOP_COLUMNS, Study, read_study, table
from nnactive_nf.analyse.write import all_tables, analyse
from nnactive_nf.annotate.run import annotate
from nnactive_nf.core.design import Design
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.labels import MINUTES, read_labels, read_patches, write_labels
from nnactive_nf.core.query_table import read_query, write_query
from nnactive_nf.report.content import stop_table
from nnactive_nf.report.curves import curves_of
from nnactive_nf.report.render import write_report
from nnactive_nf.report.tables import Tables


def stopped(curves: Curves, lengths: dict[tuple[str, int], int]) -> Study:
    """A study in which trajectories, by strategy and seed, were stopped after so many cycles."""
    cut = {
        name: {seed: values[: lengths.get((name, seed))] for seed, values in of_strategy.items()}
        for name, of_strategy in curves[SETTING].items()
    }
    study = study_of({SETTING: cut})
    rows = [
        [f"phantom-low-{name}-s{seed}", cycles - 1, "dice", 0.6, "mean Dice 0.6"]
        for (name, seed), cycles in lengths.items()
    ]
    study.stopped = table(STOP_COLUMNS, [dict(zip(STOP_COLUMNS, row, strict=True)) for row in rows])
    return study


def of(frame: pd.DataFrame, **cells: object) -> pd.DataFrame:
    chosen = np.ones(len(frame), dtype=bool)
    for name, value in cells.items():
        chosen &= (frame[name] == value).to_numpy()
    return frame[chosen]


def test_a_stopped_trajectory_ends_where_it_stopped_and_has_no_area_beside_longer_ones() -> None:
    found = all_tables(stopped(BY_HAND, {("a", 1): 2}), draws=50)
    own = of(found["trajectories"], strategy="a").set_index("seed")
    assert own["final_dice"].tolist() == [0.610, 0.731, 0.762]
    assert math.isnan(own.loc[1, "aubc"]) and own.loc[[2, 3], "aubc"].notna().all()
    assert own["cycles"].tolist() == own["cycles_planned"].tolist() == [2, 3, 3]
    (row,) = of(found["summary"], strategy="a").to_dict("records")
    assert row["seeds"] == 3 and math.isnan(row["aubc_mean"]) and math.isnan(row["aubc_sd"])
    assert row["final_dice_mean"] == pytest.approx((0.610 + 0.731 + 0.762) / 3)
    assert of(found["summary"], strategy="b")["aubc_mean"].notna().all()

    verdicts = of(found["versus_random"], strategy="a").set_index("measure")
    assert verdicts.loc["aubc", ["pairs", "verdict"]].tolist() == [0, "cannot be tested"]
    assert verdicts.loc["final_dice", "pairs"] == 3
    assert set(of(found["ranks"], measure="aubc")["strategy"]) == {"random", "b"}
    assert set(of(found["ranks"], measure="final_dice")["strategy"]) == {"random", "b", "a"}
    assert of(found["tests"], a="b", b="a")["pairs"].tolist() == [3, 2]
    assert found["missing"].empty
    assert of(found["stopped"], strategy="a")[["seed", "cycle", "rule"]].values.tolist() == [[1, 1, "dice"]]
    texts = of(found["notes"], topic="stopped")["text"]
    assert "1 of 9 trajectories were stopped" in texts.iloc[0] and "no AUBC of a," in texts.iloc[1]


def test_where_all_stop_alike_nothing_is_missing() -> None:
    everywhere = {(name, seed): 2 for name in ("random", "b", "a") for seed in (1, 2, 3)}
    found = all_tables(stopped(BY_HAND, everywhere), draws=50)
    assert found["trajectories"]["aubc"].notna().all() and len(found["stopped"]) == 9
    assert of(found["versus_random"], strategy="a")["pairs"].tolist() == [3, 3]
    assert len(of(found["notes"], topic="stopped")) == 1
    assert all_tables(study_of(BY_HAND), draws=50)["stopped"].empty


def test_a_mean_curve_ends_with_the_last_cycle_of_all_seeds(tmp_path: Path) -> None:
    study = stopped(BY_HAND, {("a", 1): 2})
    analyse(study, tmp_path / "tables", draws=50)
    tables = Tables.read(study.design, tmp_path / "tables")
    of_strategy = {curve.strategy: curve for curve in curves_of(tables, SETTING)}
    mean, whole = of_strategy["a"].mean, of_strategy["b"].mean
    assert mean is not None and whole is not None
    assert mean == pytest.approx([0.5, 0.625]) and len(whole) == 3
    assert len(of_strategy["a"].spread) == len(of_strategy["a"].mean_x) == 2
    assert np.isfinite(of_strategy["a"].values[1:]).all()  # the others' own lines go on
    told = stop_table(tables)
    assert told is not None and [cell["text"] for cell in told["rows"][0]][2:] == ["1", "1", "mean Dice 0.6"]
    write_report(tables, tmp_path / "report.html", None)
    assert "Stopped by a rule before the plan" in (tmp_path / "report.html").read_text()

    # The same from the folder, and beside another study
    again = read_any(tmp_path)
    pd.testing.assert_frame_equal(again.stopped, study.stopped, check_dtype=False)
    both = merge([again, study_of(BY_HAND)], ["one", "two"])
    assert both.stopped["trajectory"].tolist() == ["phantom-low-a-s1@one"]
    assert stop_table(Tables.read(study.design, tmp_path / "tables")) is not None


def test_tables_of_stops_are_read(tmp_path: Path) -> None:
    made = make_study(tmp_path, known_winner(seeds=(1,)))
    design = Design.read(made.folder / "design.json")
    name = design.trajectories[0].id
    (tmp_path / "stopped").mkdir()
    for place, trajectory in enumerate((name, "another-study-s1")):
        (tmp_path / "stopped" / f"{place}.csv").write_text(
            f'trajectory,cycle,rule,value,why\n{trajectory},2,patches,14.0,"14 patches, 4 more"\n'
        )
    study = read_study(design, tmp_path / "metrics", stopped=tmp_path / "stopped")
    assert study.stopped.values.tolist() == [[name, 2, "patches", 14, "14 patches, 4 more"]]


def test_minutes_make_an_axis_of_hours(tmp_path: Path) -> None:
    made = make_study(tmp_path, known_winner(seeds=(1,)))
    design = Design.read(made.folder / "design.json")
    for path in (tmp_path / "labels").rglob("*.h5"):
        labels = read_labels(path)
        labels.patches[MINUTES] = np.where(labels.patches.index == 0, math.nan, 6.0)  # nobody told of the first
        write_labels(path, labels)
    study = read_study(design, tmp_path / "metrics", tmp_path / "labels")
    analyse(study, tmp_path / "tables", draws=50)
    tables = Tables.read(design, tmp_path / "tables")
    budgets = list(design.trajectories[0].budgets)
    cost = tables["cost"][tables["cost"]["trajectory"] == design.trajectories[0].id]
    assert cost["minutes"].tolist() == [6 * (patches - 1) for patches in budgets]
    hours = curves_of(tables, design.settings[0], "hours")[0].mean_x
    assert hours == pytest.approx([(patches - 1) / 10 for patches in budgets])
    (note,) = tables["notes"].loc[tables["notes"]["topic"] == "minutes", "text"].head(1)
    assert f"{budgets[-1] - 1} of {budgets[-1]} patches have minutes" in note
    write_report(tables, tmp_path / "report.html", tmp_path / "figures")
    assert list((tmp_path / "figures").glob("learning_curves_*_hours.svg"))
    pd.testing.assert_frame_equal(
        read_any(tmp_path).patches[design.trajectories[0].id][[MINUTES]],
        study.patches[design.trajectories[0].id][[MINUTES]],
    )


def test_without_minutes_there_is_no_axis_of_hours(tmp_path: Path) -> None:
    made = make_study(tmp_path, known_winner(seeds=(1,)))
    design = Design.read(made.folder / "design.json")
    study = read_study(design, tmp_path / "metrics", tmp_path / "labels")
    analyse(study, tmp_path / "tables", draws=50)
    write_report(Tables.read(design, tmp_path / "tables"), tmp_path / "report.html", tmp_path / "figures")
    assert study.patches[design.trajectories[0].id][MINUTES].isna().all()
    assert not list((tmp_path / "figures").glob("*_hours.*")) and list((tmp_path / "figures").glob("*_patches.svg"))
    assert not [note for note in study.notes if note["topic"] == "minutes"]
    (data,) = [
        json.loads(line.partition(">")[2].removesuffix("</script>"))
        for line in (tmp_path / "report.html").read_text().splitlines()
        if line.startswith('<script type="application/json"')
    ]
    assert all(set(curve["x"]["hours"]) == {None} for curve in data["settings"][0]["curves"].values())


def test_minutes_go_with_the_labels(tmp_path: Path) -> None:
    dataset = tiny.prepared(tmp_path / "prepared", {"a": (4, 4, 12)})
    oracle = tiny.oracle(tmp_path / "oracle.h5", dataset)
    boxes = [("a", Box((0, 0, 4 * place), (4, 4, 4))) for place in range(3)]
    before = None
    for cycle, minutes in enumerate((None, 2.5, math.nan)):
        path = query_of(tmp_path / f"q{cycle}.csv", [boxes[cycle]])
        if minutes is not None:
            write_query(path, read_query(path).assign(minutes=minutes))
            np.testing.assert_equal(read_query(path)[MINUTES].tolist(), [minutes])
        labels = annotate(tmp_path / "prepared", oracle, path, strategy="s", node="n", cycle=cycle, labels_file=before)
        before = tmp_path / f"labels_{cycle}.h5"
        write_labels(before, labels)
        assert (MINUTES in read_patches(before).patches) == (cycle > 0)
    np.testing.assert_equal(read_patches(before).patches[MINUTES].tolist(), [math.nan, 2.5, math.nan])
