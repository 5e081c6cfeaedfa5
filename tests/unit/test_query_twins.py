"""Each strategy beside its brute-force twin: the same patches in the same order."""

import re
import tempfile
from pathlib import Path

import brute
import problems
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nnactive_nf.core.errors import UserError
from nnactive_nf.query.run import choose

TWINS = {
    "predictive_entropy": lambda p: brute.mean_of_map(p, "predictive_entropy"),
    "expected_entropy": lambda p: brute.mean_of_map(p, "expected_entropy"),
    "bald": lambda p: brute.mean_of_map(p, "mutual_information"),
    "power_bald": lambda p: brute.power(p, "mutual_information", 1),
    "power_bald:beta=10": lambda p: brute.power(p, "mutual_information", 10),
    "power_pe:beta=2.5": lambda p: brute.power(p, "predictive_entropy", 2.5),
    "softrank_bald": brute.softrank,
    "expected_dice": brute.expected_dice,
    "class_pe": lambda p: brute.stratified(p, 0.66, None),
    "class_pe:class_fraction=0.33": lambda p: brute.stratified(p, 0.33, None),
    "class_pe:class_fraction=1": lambda p: brute.stratified(p, 1, None),
    "class_power_pe:beta=5": lambda p: brute.stratified(p, 0.66, 5),
    "clasp_pe": lambda p: brute.stratified(p, 0.66, brute.exponential_beta(p)),
    "clasp_pe:schedule=sigmoid:temperature=0.5": lambda p: brute.stratified(p, 0.66, brute.sigmoid_beta(p, 0.5)),
    "kmeans_bald": lambda p: brute.kmeans_bald(p, 2),
    "kmeans_bald:candidates=1": lambda p: brute.kmeans_bald(p, 1),
    "random": lambda p: brute.randomly(p, (1, 0, 0)),
    "random_fg33": lambda p: brute.randomly(p, (4, 1, 1)),
    "random_fg66": lambda p: brute.randomly(p, (1, 1, 1)),
    "coverage": lambda p: brute.coverage(p, 64),
    "coverage:candidates=2": lambda p: brute.coverage(p, 2),
}  # fmt: skip


@pytest.mark.parametrize("text", TWINS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), values=st.sampled_from(problems.VALUES))
def test_same_patches_in_the_same_order(text: str, seed: int, values: str) -> None:
    compare(problems.problem(seed, values, ""), text)


def compare(made: brute.Problem, text: str) -> None:
    """Hold a strategy's choice against its twin's."""
    with tempfile.TemporaryDirectory() as folder:
        pool, choice = problems.pool_of(made, text, Path(folder) if "fg" in text else None)
        made.strategy = choice.name
        try:
            wanted = TWINS[text](made)
        except brute.TooFewError as few:
            with pytest.raises(UserError, match=rf"only {few.args[0]} candidates"):
                choose(pool, choice, made.size)
            return
        picks = choose(pool, choice, made.size)
    assert problems.plain(picks) == [pick[:3] for pick in wanted]
    assert [pick.score for pick in picks] == pytest.approx([pick[3] for pick in wanted], rel=1e-9, abs=1e-12)


REGION_TWINS = [
    text for text in TWINS if text.startswith(("predictive", "expected_dice", "class_pe", "clasp_pe", "random_fg"))
]


@pytest.mark.parametrize("text", REGION_TWINS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), values=st.sampled_from(problems.VALUES))
def test_the_same_where_classes_are_regions(text: str, seed: int, values: str) -> None:
    compare(problems.problem(seed, values, "", **problems.OF_REGIONS), text)


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_identical_features_leave_the_choice_to_the_score(value: float) -> None:
    made = problems.problem(2, "random", "", longest=9, patch=(2, 2, 2), size=6, per_image=3, free_overlap=1.0)
    for case in made.cases.values():
        case.boxes = []
        case.maps["fold_features"][:] = value
    picks = choose(*problems.pool_of(made, "kmeans_bald"), 6)
    assert problems.plain(picks) == [pick[:3] for pick in brute.kmeans_bald(made, 2)]
    scores = [pick.score for pick in picks]
    assert scores == sorted(scores, reverse=True) and len({pick[:2] for pick in picks}) == 6


def test_canonical_names_key_the_noise() -> None:
    made = problems.problem(1, "random", "")
    assert problems.pool_of(made, "power_bald:beta=1")[1].name == "power_bald"
    assert problems.pool_of(made, "clasp_pe:temperature=0.5:schedule=sigmoid")[1].name == (
        "clasp_pe:schedule=sigmoid:temperature=0.5"
    )
    assert re.fullmatch(r"power_bald:beta=10", problems.pool_of(made, "power_bald:beta=10.0")[1].name)
