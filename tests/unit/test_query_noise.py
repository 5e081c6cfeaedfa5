"""Strategies with noise: reproducible, different where they should be, with the right distribution."""

from dataclasses import replace

import numpy as np
import problems
import pytest
from scipy import stats

from nnactive_nf.query.run import choose

NOISY = ["power_bald", "power_pe", "softrank_bald", "class_power_pe", "clasp_pe", "random", "coverage"]


def line(values: list[float]) -> problems.brute.Problem:
    """One image of single voxels whose PE are these values (EE is 0, so MI is the same)."""
    made = problems.problem(0, "flat", "", images=1, size=1, patch=(1, 1, 1), stride=(1, 1, 1), per_image=1)
    (case,) = made.cases.values()
    case.shape, case.boxes, case.free = (1, 1, len(values)), [], None
    entropy = np.array([[values]], dtype=np.float32)
    case.maps = {"predictive_entropy": entropy, "expected_entropy": np.zeros_like(entropy)}
    return made


def counts(text: str, values: list[float], seeds: int) -> np.ndarray:
    """How often each voxel is chosen first, over many seeds."""
    made = line(values)
    found = np.zeros(len(values), dtype=int)
    for seed in range(seeds):
        pool, choice = problems.pool_of(replace(made, seed=seed), text)
        found[choose(pool, choice, 1)[0].box.start_zyx[2]] += 1
    return found


@pytest.mark.parametrize("text", NOISY)
def test_reproducible_and_different_between_seeds_cycles_and_strategies(text: str) -> None:
    made = problems.problem(
        21, "random", "", images=4, longest=12, size=6, patch=(3, 3, 3), stride=(1, 1, 1), per_image=4
    )

    def run(**changes):
        pool, choice = problems.pool_of(replace(made, **changes), text)
        return [(pick.case, pick.box.start_zyx, pick.score) for pick in choose(pool, choice, 6)]

    assert run() == run()
    assert run() != run(seed=22)
    assert run(cycle=1) != run(cycle=2)


def test_the_noise_differs_between_strategies_and_options() -> None:
    values = [0.5] * 60
    firsts = []
    for text in ("power_bald", "power_pe", "power_bald:beta=2", "softrank_bald"):
        pool, choice = problems.pool_of(line(values), text)
        image = pool.image(pool.cases[0])
        firsts.append(tuple(choice.strategy.scores(image).values.ravel().argsort()))
    assert len(set(firsts)) == len(firsts)


@pytest.mark.parametrize(("text", "beta"), [("power_bald", 1), ("power_pe", 1), ("power_bald:beta=5", 5)])
def test_power_draws_in_proportion_to_the_score_to_beta(text: str, beta: float) -> None:
    """The maximum of log(s) + Gumbel(0, 1 / beta) falls on a patch with a chance proportional to s^beta."""
    values = [0.2, 0.4, 0.5, 0.3, 0.6]
    chance = np.array(values) ** beta
    found = counts(text, values, 1500)
    assert stats.chisquare(found, 1500 * chance / chance.sum()).pvalue > 1e-3


def test_softrank_draws_in_proportion_to_one_over_the_rank() -> None:
    found = counts("softrank_bald", [0.1, 0.5, 0.3, 0.2, 0.4], 1500)
    chance = 1 / np.array([5, 1, 3, 4, 2])
    assert stats.chisquare(found, 1500 * chance / chance.sum()).pvalue > 1e-3


def test_softrank_gives_equal_scores_equal_chances() -> None:
    found = counts("softrank_bald", [0.5, 0.5, 0.5, 0.1], 1500)
    chance = 1 / np.array([1, 1, 1, 4])
    assert stats.chisquare(found, 1500 * chance / chance.sum()).pvalue > 1e-3


def test_random_is_uniform_over_positions() -> None:
    found = counts("random", [0.0] * 6, 1500)
    assert stats.chisquare(found).pvalue > 1e-3


@pytest.mark.parametrize("text", ["power_bald", "power_pe:beta=40"])
def test_a_zero_score_ranks_last_but_can_be_chosen(text: str) -> None:
    made = line([0.0, 0.3, 0.0, 0.0, 1e-3])
    for seed in range(30):
        pool, choice = problems.pool_of(replace(made, seed=seed, per_image=5), text)
        picks = choose(pool, choice, 5)
        assert {pick.box.start_zyx[2] for pick in picks[:2]} == {1, 4}
        assert [pick.box.start_zyx[2] for pick in picks[2:]] == [0, 2, 3]
        assert [pick.score for pick in picks[2:]] == [-np.inf] * 3
