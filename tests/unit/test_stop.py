"""`--stop`: the rules on made-up curves, what is refused, and what the stage decides from files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import invoke
from hypothesis import given
from hypothesis import strategies as st
from tiny import CLASSES

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.labels import Labels, empty_patches, write_labels
from nnactive_nf.core.query_table import write_query
from nnactive_nf.core.stop_rules import Rule, parse_rules, rule_errors, stop_errors
from nnactive_nf.stop.decide import Progress, decide

SO_FAR = Progress(dice=[0.5, 0.6, 0.7], patches=20, voxels=5000, minutes=30.0, asked=8, gain=0.5)


def stops(rules: str, **more: object) -> str | None:
    """The rule that holds with what is known of a trajectory."""
    stop = decide(parse_rules(rules), replace(SO_FAR, **more))
    return stop.rule if stop else None


@pytest.mark.parametrize(
    ("rules", "more", "held"),
    [
        ("dice:0.7", {}, True),
        ("dice:0.7001", {}, False),
        ("dice:0.5", {"dice": [0.9, 0.4]}, False),  # the last cycle decides
        ("dice:0.5", {"dice": [0.9, math.nan]}, False),
        ("patches:28", {}, False),  # the next query is within the budget
        ("patches:27", {}, True),
        ("patches:20", {}, True),
        ("voxels:5000", {}, True),
        ("voxels:5001", {}, False),
        ("minutes:30", {}, True),
        ("minutes:30.5", {}, False),
        ("minutes:1", {"minutes": math.nan}, False),
        ("gain:0.5", {}, False),
        ("gain:0.51", {}, True),
        ("gain:0.9", {"gain": math.nan}, False),
        ("plateau:1:0.1", {}, True),
        ("plateau:1:0.09", {}, False),
        ("plateau:2:0.2", {}, True),
        ("plateau:2:0.19", {}, False),
        ("plateau:3:1", {}, False),  # there are no three cycles after another yet
        ("plateau:1:0", {"dice": [0.5, 0.5]}, True),
        ("plateau:1:0", {"dice": [0.5, 0.4]}, True),
        ("plateau:2:0.01", {"dice": [0.5, 0.6, 0.5]}, False),  # the first of the two was better
        ("plateau:1:0.01", {"dice": [0.7, 0.5, 0.6]}, True),  # better than the cycle before, not than the best
        ("plateau:1:1", {"dice": [0.7, math.nan]}, False),
        ("plateau:1:1", {"dice": [math.nan, 0.7]}, False),
    ],
)
def test_when_a_rule_holds(rules: str, more: dict[str, object], held: bool) -> None:
    assert stops(rules, **more) == (rules.split(":")[0] if held else None)


def test_the_first_rule_that_holds_stops_and_says_why() -> None:
    assert stops("dice:0.9, patches:27 ,voxels:1") == "patches"
    told = decide(parse_rules("voxels:1,patches:27"), SO_FAR)
    assert told is not None
    assert (told.rule, told.value, told.why) == ("voxels", 5000, "5000 foreground voxels are labelled, of 1")
    assert decide([], SO_FAR) is None


curves = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(curves, st.integers(1, 4), st.floats(0, 0.5))
def test_a_plateau_is_what_plain_loops_say(dice: Sequence[float], cycles: int, limit: float) -> None:
    late = len(dice) > cycles
    for place in range(len(dice) - cycles, len(dice)):
        if late and dice[place] > max(dice[: len(dice) - cycles]) + limit + 1e-12:
            late = False
    found = decide([Rule("plateau", limit, cycles)], replace(SO_FAR, dice=dice))
    gains = [abs(value - before - limit) for value in dice for before in dice]
    if min(gains) > 1e-9:  # at the limit itself floats decide
        assert (found is not None) == late


@given(curves, st.floats(0.001, 1), st.floats(0.001, 1))
def test_a_stricter_target_stops_no_earlier(dice: Sequence[float], a: float, b: float) -> None:
    low, high = sorted((a, b))

    def first(limit: float) -> int:
        ends = (
            end for end in range(1, len(dice) + 1) if decide([Rule("dice", limit)], replace(SO_FAR, dice=dice[:end]))
        )
        return next(ends, len(dice) + 1)

    assert first(low) <= first(high)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("dice:0.85,plateau:2:0.005,gain:0.1,patches:200,voxels:50000,minutes:600.5", []),
        ("plateau:1:0", []),
        ("dise:0.8", ["--stop dise:0.8: unknown rule 'dise'; did you mean 'dice'?"]),
        ("dice", ["--stop dice: write dice:DICE"]),
        ("plateau:2", ["--stop plateau:2: write plateau:CYCLES:GAIN"]),
        ("dice:0.8:1", ["--stop dice:0.8:1: write dice:DICE"]),
        ("dice:1.01", ["--stop dice:1.01: DICE must be at most 1"]),
        ("dice:0", ["--stop dice:0: DICE must be more than 0"]),
        ("gain:85%", ["--stop gain:85%: SHARE '85%' is no number"]),
        ("patches:1.5", ["--stop patches:1.5: NUMBER '1.5' is no whole number"]),
        ("voxels:-1", ["--stop voxels:-1: NUMBER must be more than 0"]),
        ("plateau:0:0.1", ["--stop plateau:0:0.1: CYCLES must be more than 0"]),
        ("plateau:2:-0.1", ["--stop plateau:2:-0.1: GAIN must be at least 0"]),
        ("minutes:inf", ["--stop minutes:inf: NUMBER 'inf' is no number"]),
        ("dice:0.8,", ["--stop : unknown rule ''; did you mean 'dice'?"]),
        ("dice:0.8,dice:0.9", ["--stop: dice is named twice; name it once"]),
    ],
)
def test_what_is_refused(text: str, lines: list[str]) -> None:
    assert [line.split("; did")[0] for line in rule_errors("--stop", text)] == [
        line.split("; did")[0] for line in lines
    ]
    if lines:
        with pytest.raises(UserError):
            parse_rules(text)


def test_rules_that_the_run_cannot_follow() -> None:
    fine = ["predictive_entropy", "bald:cap=2", "class_pe"]
    assert stop_errors("--stop", "", ["random"], False) == []
    assert stop_errors("--stop", "gain:0.1", fine, False) == []
    assert stop_errors("--stop", "minutes:5,dice:1", ["random"], True) == []
    (minutes,) = stop_errors("--stop", "minutes:5", fine, False)
    assert minutes == "--stop minutes: nobody counts minutes here; it is for --oracle people"
    for other in ("random", "power_bald:beta=5", "clasp_pe", "expected_dice", "softrank_bald", "mine"):
        (gain,) = stop_errors("--stop", "gain:0.1", [*fine, other], False)
        assert gain.startswith(
            f"--stop gain: scores of {other} do not compare between cycles; it is for predictive_ent"
        )


def row(cycle: int, score: float, foreground: int, minutes: float) -> dict[str, object]:
    place = dict.fromkeys("zy", 0) | {"x": 2 * max(cycle, 0)} | {f"d{axis}": 2 for axis in "zyx"}
    counts = {"voxels": 8, "foreground_voxels": foreground, "voxels_background": 8 - foreground}
    return {
        "cycle": cycle, "case": "given" if cycle < 0 else "a", **place, "score": score, "strategy": "bald",
        "component": "all", **counts, "voxels_head": foreground, "voxels_tail": 0, "minutes": minutes,
    }  # fmt: skip


def files(folder: Path, dice: Sequence[float | None], minutes: bool = True) -> list[str]:
    """Labels of cycles 0 to 2 and of a case that was labelled before, a query, measures: the command's arguments."""
    rows = [row(-1, 0, 8, math.nan), row(0, 9, 3, 2.5), row(1, 4, 2, math.nan), row(2, 2, 1, 4)]
    patches = pd.DataFrame(rows).astype({"minutes": float})
    if not minutes:
        patches = patches[[*empty_patches(CLASSES)]]
    masks = {case: np.zeros((2, 2, 8), dtype=np.uint8) for case in ("a", "given")}
    write_labels(folder / "labels.h5", Labels("tiny", "tiny-c02", 2, CLASSES, masks, patches))
    picked = {"rank": [1, 2], "case": "a", **dict.fromkeys(["z", "y", "x"], 0), **dict.fromkeys(["dz", "dy", "dx"], 1)}
    write_query(folder / "query.csv", pd.DataFrame({**picked, "score": [1.5, 0.5], "component": "all"}))
    for cycle, value in enumerate(dice):
        content = {"cycle": cycle, "mean": {"foreground": {"dice": value}}}
        (folder / f"m{cycle}.json").write_text(json.dumps(content))
    measures = [str(folder / f"m{cycle}.json") for cycle in reversed(range(len(dice)))]
    paths = {"labels": "labels.h5", "query": "query.csv", "going": "going.csv", "stopped": "stopped.csv"}
    return [word for name, path in paths.items() for word in (f"--{name}", str(folder / path))] + measures


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ("dice:0.7", "mean Dice 0.700 has reached 0.7"),
        ("voxels:6", "6 foreground voxels are labelled, of 6"),  # without the case that was labelled before
        ("voxels:7", None),
        ("patches:4", "3 patches are labelled, 2 more would exceed 4"),
        ("patches:5", None),
        ("minutes:6.5", "6.5 minutes were spent, of 6.5"),
        ("minutes:6.6", None),
        ("gain:0.26", "the next query scores 0.250 of the first, less than 0.26"),  # 1 of 4, whatever the start's was
        ("gain:0.25", None),
    ],
)
def test_the_command_reads_it_all_and_writes_one_table(tmp_path: Path, rules: str, why: str | None) -> None:
    done = invoke("stop", "--rules", rules, "--trajectory", "tiny-bald-s1", *files(tmp_path, [0.5, None, 0.7]))
    assert done.exit_code == 0, done.output
    assert (tmp_path / "going.csv").exists() == (why is None)
    assert (tmp_path / "stopped.csv").exists() == (why is not None)
    if why:
        (told,) = pd.read_csv(tmp_path / "stopped.csv").to_dict("records")
        assert (told["trajectory"], told["cycle"], told["rule"], told["why"]) == (
            "tiny-bald-s1", 2, rules.split(":")[0], why,
        )  # fmt: skip


def test_measures_of_other_cycles_are_refused_and_minutes_that_nobody_told_stop_nothing(tmp_path: Path) -> None:
    words = ["--rules", "minutes:1", "--trajectory", "t", *files(tmp_path, [0.5, 0.6, 0.7], minutes=False)]
    wrong = invoke("stop", *words[:-1])
    assert wrong.exit_code == 2 and "metrics of cycles [1, 2] were given, those of 0 to 2 are wanted" in wrong.output
    assert invoke("stop", *words).exit_code == 0 and (tmp_path / "going.csv").exists()
