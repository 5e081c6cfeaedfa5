"""Training curves: from the records to a table, and which of them the report draws and lists."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from study import Made, known_winner, make_curve, make_study

from nnactive_nf.analyse.folders import merge, read_tables
from nnactive_nf.analyse.study import Study, curve_table, read_study
from nnactive_nf.analyse.write import analyse
from nnactive_nf.core.design import Design
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.online_dice import mean_dice, moving_dice
from nnactive_nf.core.result_tables import read_table
from nnactive_nf.report import trainings as section
from nnactive_nf.report.render import write_report
from nnactive_nf.report.tables import Tables
from nnactive_nf.report.trainings import end_of, trainings

CYCLES, STRATEGIES, SEEDS = 3, ("random", "bald"), (1, 2)


def epoch(number: int, *dices: float | None) -> dict[str, object]:
    return {"epoch": number, "train_loss": 0.5, "val_loss": -0.25, "pseudo_dice": list(dices), "learning_rate": 0.01}


def test_the_moving_mean_of_the_online_dice_by_hand():
    curve = [epoch(0, None, None), epoch(1, 0.5, None), epoch(2, 0.6, 0.8), epoch(3, None, None)]
    assert [mean_dice(one["pseudo_dice"]) for one in curve] == [None, 0.5, pytest.approx(0.7), None]  # type: ignore[arg-type]
    assert moving_dice(curve) == [None, 0.5, pytest.approx(0.9 * 0.5 + 0.1 * 0.7), pytest.approx(0.52)]
    table = curve_table({"node": "n", "fold": 1, "curve": curve})
    assert table["online_dice"].tolist()[1:3] == [0.5, 0.7] and table["online_dice"].isna().tolist()[::3] == [
        True,
        True,
    ]
    assert table["moving_dice"].tolist()[1:] == [0.5, 0.52, 0.52]
    assert table[["node", "fold", "epoch", "train_loss", "val_loss", "learning_rate"]].iloc[2].tolist() == [
        "n", 1, 2, 0.5, -0.25, 0.01,
    ]  # fmt: skip


def read(made: Made) -> Study:
    design = Design.read(made.folder / "design.json")
    return read_study(design, made.folder / "metrics", made.folder / "labels", training=made.folder / "training")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """2 strategies, 2 seeds, 3 cycles: 10 nodes of 2 folds. One fold went on and ended early, one node is full."""
    folder = tmp_path_factory.mktemp("made")
    made = make_study(folder, known_winner(strategies=STRATEGIES, seeds=SEEDS, cycles=CYCLES))
    path = folder / "training" / "phantom-low-bald-s2-c02" / "fold_1.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"start": "previous", "plateau": 70, "epochs": 100}))
    full = folder / "training" / "phantom-full-s1-c00" / "fold_0.json"
    full.parent.mkdir()
    full.write_text(json.dumps(record | {"node": "phantom-full-s1-c00", "fold": 0}))
    analyse(read(made), folder / "tables", draws=10)
    return made


@pytest.fixture
def tables(made: Made) -> Tables:
    return Tables.read(Design.read(made.folder / "design.json"), made.folder / "tables")


def test_the_table_of_curves_is_whole_and_the_same_each_time(made: Made, tmp_path: Path):
    analyse(read(made), tmp_path, draws=10)
    packed = (tmp_path / "curves.csv.gz").read_bytes()
    assert packed == (made.folder / "tables" / "curves.csv.gz").read_bytes()
    found = pd.read_csv(tmp_path / "curves.csv.gz")
    assert len(found) == (10 * 2 + 1) * 100 and found["node"].nunique() == 11
    one = found[(found["node"] == "phantom-low-bald-s1-c01") & (found["fold"] == 1)]
    wanted = make_curve(1)
    assert one["epoch"].tolist() == list(range(100))
    for name in ("train_loss", "val_loss", "learning_rate"):
        np.testing.assert_allclose(one[name], [entry[name] for entry in wanted], atol=5e-6)
    runtimes = pd.read_csv(tmp_path / "runtimes.csv")
    assert runtimes[["start", "plateau"]].dropna().to_numpy().tolist() == [["previous", 70]]

    (tmp_path / "curves.csv.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(UserError, match=r"curves\.csv\.gz: not a table"):
        read_table(tmp_path, "curves")
    (tmp_path / "curves.csv.gz").write_bytes(gzip.compress(gzip.decompress(packed)[:-5]))
    with pytest.raises(UserError, match="truncated"):
        read_table(tmp_path, "curves")


def test_several_studies_keep_their_curves_apart(made: Made, tmp_path: Path):
    both = merge([read_tables(made.folder / "tables")] * 2, ["a", "b"])
    assert len(both.curves) == 2 * 2100
    assert {node.rpartition("@")[2] for node in both.curves["node"]} == {"a", "b"}
    analyse(read(made), tmp_path, draws=10)
    (tmp_path / "curves.csv.gz").unlink()  # an earlier version's
    assert read_tables(tmp_path).curves.empty


def test_a_trainings_end_by_hand():
    """The last tenth of 20 epochs are 2; the lowest mean over 2 is that of epochs 8 and 9."""
    losses = [1.0] * 8 + [-0.5, -0.7] + [0.0] * 8 + [0.2, 0.4]
    rows = pd.DataFrame({"val_loss": losses, "train_loss": [1.0] * 18 + [0.3, 0.1], "moving_dice": [0.1] * 19 + [0.75]})
    assert end_of(rows) == {
        "epochs": 20, "train_loss": pytest.approx(0.2), "val_loss": pytest.approx(0.3), "risen": pytest.approx(0.9),
        "moving_dice": 0.75,
    }  # fmt: skip


def test_curves_are_thinned_marked_and_can_all_be_looked_at(tables: Tables):
    found = trainings(tables)
    assert found is not None and found["left_out"] == 0 and found["thinned"] and found["warm"] and found["early"]
    nodes = found["data"]["nodes"]
    assert {title for view in found["data"]["views"] for title in view["nodes"]} == set(nodes)
    assert nodes["phantom-low-s1-c00"]["title"] == "Start, seed 1, cycle 0"
    marked = {(node, f["fold"]): (f["start"], f["plateau"]) for node, one in nodes.items() for f in one["folds"]}
    full = ("phantom-full-s1-c00", 0)
    assert {where: told for where, told in marked.items() if told != ("", None) and where != full} == {
        ("phantom-low-bald-s2-c02", 1): ("the cycle before", 70)
    }
    fold = nodes["phantom-low-bald-s1-c01"]["folds"][0]
    whole = [entry["train_loss"] for entry in make_curve(0)]
    assert len(fold["epochs"]) == len(fold["train_loss"]) == section.POINTS
    assert fold["epochs"][:2] == [1.5, 3.5] and fold["epochs"][-1] == 100  # 20 pairs, then 60 single ones
    assert fold["train_loss"][1] == pytest.approx(np.mean(whole[2:4]), abs=1e-4)
    assert fold["online_dice"][0] == pytest.approx(0.9 * (1 - np.exp(-6 / 99)), abs=1e-4)  # the epoch that has one

    rows = {(row[0]["title"], row[1]["text"]): [c["text"] for c in row] for row in found["table"]["rows"]}
    assert len(rows) == 21
    assert rows["phantom-low-bald-s2-c02", "1"][2:4] == ["100, no longer better at 70", "the cycle before"]
    risen = {fold: float(texts[6]) for (node, fold), texts in rows.items() if node == "phantom-low-s1-c00"}
    assert risen["0"] == 0 and risen["1"] > 0.2


def test_of_many_trainings_last_cycles_are_drawn_first_and_those_that_stand_out_are_listed(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(section, "DRAWN", 11)  # 4 last nodes of 2 folds, full labels, and one more
    monkeypatch.setattr(section, "LISTED", 4)
    found = trainings(tables)
    assert found is not None and found["left_out"] == 21 - 11
    last = [trajectory.nodes[-1] for trajectory in tables.design.trajectories]
    assert list(found["data"]["nodes"]) == [*last, "phantom-full-s1-c00", "phantom-low-s1-c00"]
    shown = {view["title"]: (len(view["nodes"]), view["more"]) for view in found["data"]["views"]}
    assert shown["all trajectories, last cycle"] == (4, 0) and shown["all starts"] == (1, 1)
    assert shown["BALD, seed 1, all cycles"] == (2, 1)
    assert "Of 21 trainings" in found["table"]["caption"] and 2 <= len(found["table"]["rows"]) <= 4
    assert any(row[1]["text"] == "1" for row in found["table"]["rows"])  # whose validation rises


def test_a_fold_that_lies_apart_is_told_by_the_median_of_its_node(tables: Tables):
    curves = tables["curves"]
    third = curves[curves["fold"] == 0].assign(fold=2, moving_dice=lambda rows: rows["moving_dice"] - 0.3)
    both = Tables(tables.design, tables.frames | {"curves": pd.concat([curves, third])}, tables.statistics)
    found = trainings(both)
    assert found is not None
    apart = {row[1]["text"]: row[-1]["text"] for row in found["table"]["rows"] if row[0]["title"].endswith("-s1-c01")}
    assert apart == {"0": "0.000", "1": "0.000", "2": "-0.300"}
    first = trainings(tables)
    assert first is not None and {row[-1]["text"] for row in first["table"]["rows"]} == {"\u2013"}  # two have no median


def test_without_curves_there_is_no_section(tables: Tables, tmp_path: Path):
    none = Tables(tables.design, tables.frames | {"curves": tables["curves"][:0]}, tables.statistics)
    assert trainings(none) is None
    for one, there in ((none, False), (tables, True)):
        write_report(one, tmp_path / "report.html", None)
        assert ('<section id="trainings">' in (tmp_path / "report.html").read_text()) == there
