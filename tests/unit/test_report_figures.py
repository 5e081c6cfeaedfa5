"""The report's files and sentences for studies of which little can be said."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd
import pytest
from study import Curves, known_winner, make_design, make_study
from test_analyse_tables import BY_HAND, SETTING, study_of

from nnactive_nf.analyse.study import read_study
from nnactive_nf.analyse.write import analyse
from nnactive_nf.core.design import Design
from nnactive_nf.report import answer, content
from nnactive_nf.report.agreement import _lead
from nnactive_nf.report.figures import penalty_matrix, write_figures
from nnactive_nf.report.render import write_report
from nnactive_nf.report.tables import Tables

FOLDERS = ("metrics", "labels", "queries", "oracle", "full")
NOTHING = {SETTING: {name: {1: [math.nan] * 3, 2: [math.nan] * 3} for name in ("random", "bald")}}
FEW: dict[str, Curves] = {
    "one seed": known_winner(seeds=(1,)),
    "one cycle": known_winner(cycles=1),
    "one strategy": known_winner(strategies=("bald",), seeds=(1,)),
    "nothing": NOTHING,
    "all equal": {SETTING: {name: {s: [0.5, 0.6] for s in (1, 2)} for name in ("random", "bald")}},
}


def tables_of(curves: Curves, folder: Path) -> Tables:
    analyse(study_of(curves), folder, draws=50)
    return Tables.read(Design.of(make_design(curves)), folder)


@pytest.mark.parametrize("name", list(FEW))
def test_report_and_figures_of_little(name: str, tmp_path: Path):
    tables = tables_of(FEW[name], tmp_path / "tables")
    write_report(tables, tmp_path / "report.html", tmp_path / "figures")
    page = re.sub(r"<script.*?</script>", "", (tmp_path / "report.html").read_text(), flags=re.DOTALL)
    assert not re.search(
        r"\b(NaN|nan|None|null|inf)\b", re.sub(r"<style>.*?</style>|<head>.*?</head>", "", page, flags=re.DOTALL)
    )
    assert "What was queried" in page
    for path in (tmp_path / "figures").glob("*.svg"):
        assert not re.search(r">\s*(nan|NaN|None)\s*<", path.read_text())


def test_agreement_of_readers_is_told_with_its_limits(tmp_path: Path):
    """Of 3 patches: on one a reader was blind, on one there was no model, on one nobody told; no lesion anywhere."""
    pairs = [("ann", "ben", "blind"), ("ann", "pre-segmentation", "seen"), ("ben", "pre-segmentation", "blind")]
    rows = [
        {
            "node": f"n-c{patch:02d}", "patch": 1, "case": "a", "class": name, "a": a, "b": b, "start": start,
            "voxels": 100, "a_voxels": own, "b_voxels": own, "both_voxels": both, "kappa": 0.5,
            "dice": both / own if own else math.nan, "a_minutes": math.nan, "b_minutes": 3,
        }
        for patch, of_patch in enumerate([pairs, [("", "<b>ben", "no model")], [("ann", "ben", "untold")]])
        for a, b, start in of_patch
        for name, own, both in (("organ", 20, 20 if start == "seen" else 10 + patch), ("lesion", 0, 0))
    ]  # fmt: skip
    study = study_of(BY_HAND)
    study.agreement = pd.DataFrame(rows)
    analyse(study, tmp_path / "tables", draws=50)
    tables = Tables.read(Design.of(make_design(BY_HAND)), tmp_path / "tables")
    write_report(tables, tmp_path / "report.html", None)
    page = re.sub(r"<(script|style).*?</(script|style)>", "", (tmp_path / "report.html").read_text(), flags=re.DOTALL)
    section = page.split('<section id="agreement">')[1].split("</section>")[0]
    assert "3 patches were read by several people. Two of them agree with a Dice of 0.550" in section
    assert "On 1 patch one reader saw the pre-segmentation and another did not." in section
    assert "nearer to it by a Dice of +0.500; one patch shows nothing." in section and "different people" in section
    assert "all patches" in section and "no model yet" in section and "not told" in section
    assert not re.search(r"\b(NaN|nan|None|null|inf)\b", section)
    (tmp_path / "tables" / "agreement.csv").unlink()
    write_report(Tables.read(tables.design, tmp_path / "tables"), tmp_path / "report.html", None)
    assert 'href="#agreement"' not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("mean", "deviation", "patches", "words"),
    [
        (0.1, 0.02, 4, "+0.100 (95% interval +0.068 to +0.132): so much it leads the hand."),
        (0.1, 0.2, 4, "+0.100 (95% interval \u22120.218 to +0.418): that it leads the hand is not shown."),
        (-0.1, 0.02, 4, "\u22120.100 (95% interval \u22120.132 to \u22120.068): that it leads the hand is not shown."),
    ],
)
def test_that_the_hand_is_led_is_said_where_it_is_shown(mean: float, deviation: float, patches: int, words: str):
    row = {"against": "lead", "class": "mean", "patches": patches, "dice_mean": mean, "dice_sd": deviation}
    (sentence,) = _lead(pd.DataFrame([row]))
    assert words in sentence


def test_figures_of_a_whole_study(tmp_path: Path):
    tables = tables_of({**known_winner((SETTING, ("phantom", "high")))}, tmp_path / "tables")
    names = write_figures(tables, [], tmp_path / "figures")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == sorted(names)
    stems = {name.rsplit(".", 1)[0] for name in names}
    assert stems == {
        *(f"learning_curves_phantom_{regime}_patches" for regime in ("low", "high")),
        *(f"ranks_phantom_{regime}_{by}" for regime in ("low", "high") for by in ("aubc", "final_dice")),
        *(
            f"ppm_{where}_{kind}"
            for where in ("phantom_low", "phantom_high", "phantom_all", "all_all")
            for kind in ("plain", "holm")
        ),
    }  # without labels there is no foreground to draw against
    assert {name.rsplit(".", 1)[1] for name in names} == {"png", "svg"}


def test_penalty_matrices_show_both_shares(tmp_path: Path):
    """`a` beats the others at both budgets after the start: 1.00, as published 0.67; nothing stands twice."""
    tables = tables_of(BY_HAND, tmp_path / "tables")
    (plain,) = (m for m in content.figure_data(tables)["ppm"] if (m["class"], m["correction"]) == ("mean", "plain"))
    a, b = (plain["strategies"].index(name) for name in ("a", "b"))
    assert [plain[name][a][b] for name in content.MATRIX_COUNTS] == [2, 2, 2, 3]
    figure = penalty_matrix(tables, *SETTING, "plain")
    words = [text.get_text() for text in figure.axes[0].texts]
    assert sorted(words) == ["(0.67)"] * 2 + ["0.00"] * 4 + ["1.00"] * 2
    assert "the start counted" in figure.get_supxlabel()


def test_efficiency_stands_in_both_forms(tmp_path: Path):
    make_study(tmp_path, known_winner())
    design = Design.read(tmp_path / "design.json")
    analyse(read_study(design, *(tmp_path / name for name in FOLDERS)), tmp_path / "tables", draws=10)
    tables = Tables.read(design, tmp_path / "tables")
    found = content.efficiency_table(tables)
    assert found is not None
    names = [name for name, _ in found["columns"]]
    rows = tables["efficiency"].query("`class` == 'mean'")
    for column, form in (("FG-Eff (β), own starts", ""), ("FG-Eff (β), one start, as published", "_published")):
        shown = [row[names.index(column)] for row in found["rows"]]
        assert [cell["value"] for cell in shown] == rows[f"beta{form}"].tolist()
        spread = [f"{beta:.2f} ± {error:.2f}" for beta, error in rows[[f"beta{form}", f"beta_se{form}"]].to_numpy()]
        assert [cell["text"] for cell in shown] == spread


def test_answer_by_hand(tmp_path: Path):
    tables = tables_of(BY_HAND, tmp_path)
    assert answer.answer(tables) == [
        "Against Random: a is better; no strategy is shown to be worse; for b no difference is shown."
    ]
    assert answer.best_by_setting(tables) == [
        "phantom, low: a has the highest AUBC, 0.622, and ends at Dice 0.738 (3 seeds)."
    ]
    assert "over 3 common seeds at level 0.05" in answer.certainty(tables)[0]


def test_who_is_alone_is_told_how_far_it_has_come(tmp_path: Path):
    tables = tables_of({SETTING: {"bald": {1: [0.5, 0.6, 0.7], 2: [0.52, 0.61, 0.75]}}}, tmp_path / "all")
    first, _, last = (f"{patches:.0f}" for patches in tables["metrics"].groupby("cycle")["patches"].mean())
    text = f"phantom, low: mean Dice 0.725 with {last} labelled patches, after 0.510 with {first} at the start"
    assert answer.answer(tables) == [f"{text} (mean of 2 seeds)."]
    write_report(tables, tmp_path / "report.html", None)
    page = (tmp_path / "report.html").read_text()
    assert "How far has it come?" in page and 'href="#ranks"' not in page and 'id="ranks" hidden' in page
    assert "no random strategy was run" not in page and "highest AUBC" not in page

    lacking = tables_of({SETTING: {"bald": {1: [0.5, 0.6, 0.7], 2: [0.52, 0.61, math.nan]}}}, tmp_path / "lacking")
    assert "mean Dice 0.605 with" in answer.answer(lacking)[0]  # the last cycle that both seeds have
    one = tables_of({SETTING: {"bald": {1: [0.5]}}}, tmp_path / "one")
    assert answer.answer(one) == [f"phantom, low: mean Dice 0.500 with {first} labelled patches."]
    nothing = tables_of({SETTING: {"bald": {1: [math.nan]}}}, tmp_path / "nothing")
    assert answer.answer(nothing) == ["phantom, low: nothing is measured yet."]


def test_answer_over_settings(tmp_path: Path):
    """One strategy is better in one of two settings, another in both."""
    good = {s: [0.5, 0.6 + 0.001 * s, 0.7] for s in (1, 2, 3)}
    base = {s: [0.5, 0.55 + 0.0011 * s, 0.6] for s in (1, 2, 3)}
    same = {s: list(values) for s, values in base.items()}
    curves = {
        ("p", "low"): {"random": base, "x": good, "y": good},
        ("p", "high"): {"random": base, "x": good, "y": same},
    }
    tables = tables_of(curves, tmp_path)
    assert answer.answer(tables) == [
        "Against Random: x in 2 of 2 settings and y in 1 of 2 settings are better; no strategy is shown to be worse."
    ]


def test_cells_never_show_a_missing_number():
    for cell in (
        content.number(None),
        content.count(math.nan),
        content.percent(math.nan),
        content.with_spread(math.nan, 0.1),
    ):
        assert cell["text"] == content.UNKNOWN
        assert cell["value"] == ""
    assert content.with_spread(0.5, math.nan)["text"] == "0.500"
    assert content.with_spread(0.5, 0.01)["text"] == "0.500 ± 0.010"
    assert content.count(1234567)["text"] == "1\u202f234\u202f567"
    assert content.plain([0.5, math.nan, math.inf]) == [0.5, None, None]
