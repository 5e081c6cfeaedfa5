"""Class-stratified strategies: quotas to the patch."""

from collections import Counter
from dataclasses import replace

import numpy as np
import problems
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnactive_nf.core.errors import UserError
from nnactive_nf.query import stratified
from nnactive_nf.query.grid import Scores
from nnactive_nf.query.run import choose
from nnactive_nf.query.stratified import caps, exponential, quotas, shares, sigmoid

NAMES = ("background", "spleen", "left kidney", "liver", "stomach")
VALUES = (0, 1, 5, 6, 44)


def rich(classes: int = 4, images: int = 8, unseen: tuple[int, ...] = (), **rules) -> problems.brute.Problem:
    """Images with room for many patches; classes in `unseen` have probability 0 everywhere."""
    rules = {"size": 20, "patch": (2, 2, 2), "stride": (1, 1, 1), "per_image": 20, "cycle": 2} | rules
    rules |= {"names": NAMES[: classes + 1], "class_values": VALUES[: classes + 1]}
    made = problems.problem(4, "random", "", images=0, **rules)
    rng = np.random.default_rng(5)
    for index in range(images):
        case = problems.brute.Case((6, 8, 8), maps=problems.tiny.maps_of(rng, 2, classes + 1, (6, 8, 8)))
        for label in unseen:
            case.maps["mean_probability"][label] = 0
        made.cases[f"case_{index:02d}"] = case
    return made


def components(made: problems.brute.Problem, text: str) -> tuple[Counter, list[str]]:
    said: list[str] = []
    pool, choice = problems.pool_of(made, text, log=said.append)
    return Counter(pick.component for pick in choose(pool, choice, made.size)), said


@pytest.mark.parametrize("text", ["class_pe", "class_power_pe", "clasp_pe"])
@pytest.mark.parametrize(("fraction", "each", "rest"), [(0.66, 3, 7), (0.33, 1, 14), (1, 5, 0), (0, 0, 20)])
def test_classes_share_their_part_equally(text: str, fraction: float, each: int, rest: int) -> None:
    found, said = components(rich(), f"{text}:class_fraction={fraction}")
    over = int(20 * fraction) - 4 * each
    assert found["all"] == rest
    assert sorted(found[name] for name in NAMES[1:]) == sorted([each + 1] * over + [each] * (4 - over))
    assert said == []


def test_what_is_left_over_goes_to_classes_drawn_at_random() -> None:
    favoured = Counter()
    for seed in range(60):
        quota = quotas(20, 0.66, NAMES[1:], np.random.default_rng(seed))
        assert sum(quota.values()) == 13
        favoured[max(quota, key=quota.get)] += 1
    assert set(favoured) == set(NAMES[1:])


def test_more_classes_than_patches() -> None:
    found, _ = components(rich(size=3), "class_pe:class_fraction=0.7")
    assert found["all"] == 1 and sum(found[name] for name in NAMES[1:]) == 2
    assert max(found.values()) == 1
    found, _ = components(rich(size=1), "class_pe")
    assert found == {"all": 1}


def test_a_class_that_nobody_predicts_leaves_its_quota_to_the_rest() -> None:
    found, said = components(rich(unseen=(2,)), "class_pe")
    assert found["left kidney"] == 0
    assert sum(found.values()) == 20
    assert found["all"] == 20 - sum(found[name] for name in NAMES[1:])
    assert len(said) == 1
    assert "class 'left kidney' fills 0 of its" in said[0] and "go to the unstratified part" in said[0]


@pytest.mark.parametrize("text", ["class_pe", "class_power_pe", "clasp_pe"])
def test_no_class_is_predicted_at_all(text: str) -> None:
    """One image has room for all: the classes' share of it goes to the unstratified component."""
    found, said = components(rich(images=1, unseen=(1, 2, 3, 4), size=14), text)
    assert found == {"all": 14}  # four times 2 and 6
    assert len(said) == 4


def test_left_over_candidates_of_classes_fill_a_short_unstratified_part() -> None:
    """One patch per image: few images give theirs to the unstratified component, the query still gets its size."""
    found, said = components(rich(images=12, per_image=1, size=12), "class_pe:class_fraction=0.1")
    assert sum(found.values()) == 12
    assert found["all"] >= 11
    assert any("lacks candidates" in line for line in said)


@given(st.integers(1, 60), st.integers(1, 15), st.sampled_from([0.33, 0.5, 0.66]))
def test_caps(per_image: int, classes: int, fraction: float) -> None:
    names = [f"class {i}" for i in range(classes)]
    cap = caps(per_image, fraction, names)
    hundredths = round(fraction * 100)
    assert cap["all"] == max(1, per_image * (100 - hundredths) // 100)
    assert {cap[name] for name in names} == {max(1, per_image * hundredths // (100 * (classes + 1)))}


@pytest.mark.parametrize("hundredths", range(1, 100))
def test_shares_of_a_hundred_are_exact(hundredths: int) -> None:
    """0.29 x 100 is 28.999999999999996 in floating point, and 29 patches."""
    assert shares(100, hundredths / 100, 2) == (hundredths, 100 - hundredths)
    assert caps(200, hundredths / 100, ["one"])["one"] == hundredths
    assert caps(100, hundredths / 100, ["one"])["all"] == 100 - hundredths


def test_an_image_gives_each_class_its_cap() -> None:
    """20 of an image for two classes: 4 of each (13.2 by three, for the unstratified part counts as a class) and 6."""
    assert caps(20, 0.66, ["head", "tail"]) == {"head": 4, "tail": 4, "all": 6}
    pool, choice = problems.pool_of(rich(classes=2, images=1), "class_pe")
    found = choice.strategy.candidates(pool.image(pool.cases[0]))
    assert Counter(candidate.component for candidate in found) == {"spleen": 4, "left kidney": 4, "all": 6}


def test_an_image_never_gives_more_than_its_most() -> None:
    made = rich(images=2, per_image=3, size=6)
    pool, choice = problems.pool_of(made, "class_pe")
    assert Counter(pick.case for pick in choose(pool, choice, 6)) == {"case_00": 3, "case_01": 3}


def test_components_alternate_in_the_table() -> None:
    pool, choice = problems.pool_of(rich(), "class_pe:class_fraction=0.8")
    order = [pick.component for pick in choose(pool, choice, 20)]
    assert order == [*NAMES[1:], "all"] * 4


def test_scores_made_anew_each_turn_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made = rich(images=3, per_image=9)
    kept = problems.plain(choose(*problems.pool_of(made, "clasp_pe"), 20))
    monkeypatch.setattr(stratified, "KEPT_BYTES", 1)
    assert problems.plain(choose(*problems.pool_of(made, "clasp_pe"), 20)) == kept


@pytest.mark.parametrize(("kept", "made"), [(0, "abacab"), (2, "abcab"), (3, "abc")])
def test_scores_are_kept_as_far_as_memory_is_granted(kept: int, made: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were made first go first; what was barred meanwhile is barred again."""
    pool, _ = problems.pool_of(rich(images=1), "class_pe")
    image = pool.image(pool.cases[0])
    monkeypatch.setattr(stratified, "KEPT_BYTES", kept * 8 * int(np.prod(image.grid.counts)))
    asked: list[str] = []

    def make(component: str) -> Scores:
        asked.append(component)
        return Scores(np.zeros(image.grid.counts), image.grid)

    components = stratified._Components(image, make)
    starts = []
    for component in "abacab":
        box, _ = components.best(component)
        starts.append(box.start_zyx)
        components.bar(box)
    assert starts == [(0, 0, 0), (0, 0, 2), (0, 0, 4), (0, 0, 6), (0, 2, 0), (0, 2, 2)]
    assert "".join(asked) == made


@pytest.mark.parametrize(
    ("options", "betas"),
    [
        ("", [1, 3.2, 10, 31.6]),
        (":schedule=sigmoid", [1, 15.8, 50.5, 85.2]),
        (":schedule=sigmoid:temperature=0.5", [1, 1.2, 50.5, 99.8]),
    ],
)
def test_clasp_begins_with_the_most_noise(options: str, betas: list[float]) -> None:
    """The four queries of 5 cycles: the one that labels cycle 1 is step 0."""
    found = []
    for cycle in range(1, 5):
        pool, choice = problems.pool_of(rich(images=1, cycle=cycle), f"clasp_pe{options}")
        found.append(round(choice.strategy.beta(pool.image(pool.cases[0])), 1))
    assert found == betas


@pytest.mark.parametrize("schedule", ["exponential", "sigmoid"])
@pytest.mark.parametrize(("cycle", "cycles"), [(0, 1), (1, 1), (0, 2), (1, 2)])
def test_a_run_of_one_or_two_cycles_has_the_first_beta(schedule: str, cycle: int, cycles: int) -> None:
    pool, choice = problems.pool_of(rich(cycle=cycle, cycles=cycles), f"clasp_pe:schedule={schedule}:beta_start=3")
    assert choice.strategy.beta(pool.image(pool.cases[0])) == 3
    assert len(choose(pool, choice, 20)) == 20


def beta_of(text: str, cycle: int, cycles: int | None) -> float:
    pool, choice = problems.pool_of(rich(images=1, cycle=cycle, cycles=cycles), f"clasp_pe{text}")
    return float(choice.strategy.beta(pool.image(pool.cases[0])))


@pytest.mark.parametrize("schedule", ["", ":schedule=sigmoid"])
def test_steps_that_are_named_hold_for_any_number_of_cycles(schedule: str) -> None:
    of_a_run = [beta_of(schedule, cycle, 3) for cycle in (1, 2)]
    assert of_a_run[0] == 1 < of_a_run[1] < 100
    for cycles in (None, 2, 3, 9):
        named = [beta_of(f"{schedule}:steps=3", cycle, cycles) for cycle in range(1, 6)]
        assert named == [*of_a_run, *[pytest.approx(100)] * 3]  # where it stays


def test_named_steps_query_as_so_many_cycles_do() -> None:
    """A run of 3 cycles is extended: its queries are those of `steps=3`, noise included, and not of 4 steps."""
    (old, choice), (new, named), (other, four) = (
        problems.pool_of(rich(cycle=2, cycles=cycles), f"clasp_pe{steps}")
        for cycles, steps in ((3, ""), (4, ":steps=3"), (4, ""))
    )
    assert old.strategy == new.strategy == "clasp_pe"
    assert choose(new, named, 20) == choose(old, choice, 20) != choose(other, four, 20)


def test_a_schedule_wants_steps_or_cycles() -> None:
    with pytest.raises(UserError, match="has a schedule: give --cycles, or name clasp_pe:cap=3:steps=N"):
        problems.pool_of(rich(cycles=None), "clasp_pe:cap=3")
    with pytest.raises(UserError, match="steps 1: must be at least 2"):
        problems.pool_of(rich(), "clasp_pe:steps=1")


def test_schedules() -> None:
    assert [round(exponential(1, 100, k, 5), 6) for k in range(5)] == [1, 3.162278, 10, 31.622777, 100]
    for width in (2, 0.5):
        betas = [sigmoid(1, 100, width, k, 5) for k in range(5)]
        assert betas[0] == pytest.approx(1) and betas[2] == pytest.approx(50.5) and betas[4] == pytest.approx(100)
        assert betas == sorted(betas)
    low, high = 1 / (1 + np.exp(3)), 1 / (1 + np.exp(-3))
    wanted = 1 + 99 * (1 / (1 + np.exp(1.5)) - low) / (high - low)
    assert sigmoid(1, 100, 2, 1, 5) == pytest.approx(wanted)


def test_clasp_is_class_power_pe_with_the_beta_of_the_cycle() -> None:
    made = rich(cycle=3)
    pool, choice = problems.pool_of(made, "clasp_pe")
    other, power = problems.pool_of(made, "class_power_pe:beta=10")
    other = replace(other, strategy="clasp_pe")  # the same random streams
    assert choose(pool, choice, 20) == choose(other, power, 20)
