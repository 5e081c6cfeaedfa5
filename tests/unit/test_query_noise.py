"""Strategies with noise: reproducible, different where they should be, with the right distribution."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import brute
import numpy as np
import problems
import pytest
from scipy import stats

from nnactive_nf.query.pool import Candidate
from nnactive_nf.query.run import choose

NOISY = ["power_bald", "power_pe", "softrank_bald", "class_power_pe", "clasp_pe", "random", "coverage"]


def line(values: list[float]) -> brute.Problem:
    """One image of single voxels whose PE are these values (EE is 0, so MI is the same)."""
    made = problems.problem(0, "flat", "", images=1, size=1, patch=(1, 1, 1), stride=(1, 1, 1), per_image=1)
    (case,) = made.cases.values()
    case.shape, case.boxes, case.free = (1, 1, len(values)), [], None
    entropy = np.array([[values]], dtype=np.float32)
    case.maps = {"predictive_entropy": entropy, "expected_entropy": np.zeros_like(entropy)}
    return made


def pooled(images: list[list[float]], **rules: int) -> brute.Problem:
    """Images of single voxels whose MI are these values, one list an image."""
    made = replace(line([0.0]), cases={}, **rules)
    made.cases |= {f"case_{i:02d}": next(iter(line(values).cases.values())) for i, values in enumerate(images)}
    return made


def counts(text: str, values: list[float], seeds: int, **rules: int) -> np.ndarray:
    """How often each voxel is chosen first, over many seeds."""
    made = replace(line(values), **rules)
    found = np.zeros(len(values), dtype=int)
    for picks in chosen(text, made, seeds):
        found[picks[0].box.start_zyx[2]] += 1
    return found


def chosen(text: str, made: brute.Problem, seeds: int) -> Iterator[list[Candidate]]:
    """The queries of many seeds."""
    pool, choice = problems.pool_of(made, text)
    for seed in range(seeds):
        yield choose(replace(pool, seed=seed, patches=None), choice, made.size)  # nothing is labelled


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
        pool, choice = problems.pool_of(replace(line(values), per_image=60), text)
        firsts.append(tuple(pick.box.start_zyx[2] for pick in choose(pool, choice, 60)))
    assert len(set(firsts)) == len(firsts)


@pytest.mark.parametrize(("text", "beta"), [("power_bald", 1), ("power_pe", 1), ("power_bald:beta=5", 5)])
def test_power_draws_in_proportion_to_the_score_to_beta(text: str, beta: float) -> None:
    """The maximum of log(s) + Gumbel(0, 1 / beta) falls on a patch with a chance proportional to s^beta."""
    values = [0.2, 0.4, 0.5, 0.3, 0.6]
    chance = np.array(values) ** beta
    found = counts(text, values, 1500)
    assert stats.chisquare(found, 1500 * chance / chance.sum()).pvalue > 1e-3


def test_softrank_draws_in_proportion_to_one_over_the_rank() -> None:
    found = counts("softrank_bald", [0.1, 0.5, 0.3, 0.2, 0.4], 1500, per_image=3)
    chance = 1 / np.array([5, 1, 3, 4, 2])
    assert stats.chisquare(found, 1500 * chance / chance.sum()).pvalue > 1e-3


def test_softrank_gives_equal_scores_equal_chances() -> None:
    found = counts("softrank_bald", [0.5, 0.5, 0.5, 0.1], 1500, per_image=2)
    chance = 1 / np.array([1, 1, 1, 4])
    assert stats.chisquare(found, 1500 * chance / chance.sum()).pvalue > 1e-3


def test_softrank_chooses_among_the_best_of_each_image_twice_its_cap() -> None:
    found = counts("softrank_bald", [0.1, 0.5, 0.3, 0.2, 0.4], 300, per_image=1)
    assert found[[0, 2, 3]].tolist() == [0, 0, 0] and found[[1, 4]].min() > 0


def test_softrank_ranks_over_the_pool() -> None:
    """The ranks of the second image's voxels come after all of the first's, so it is drawn as rarely as they say."""
    made = pooled([[0.9, 0.8, 0.7, 0.6], [0.009, 0.008, 0.007, 0.006]], per_image=2)
    found = Counter(picks[0].case for picks in chosen("softrank_bald", made, 600))
    chance = 1 / np.arange(1, 9)
    uncertain = chance[:4].sum() / chance.sum()
    assert stats.binomtest(found["case_00"], 600, uncertain).pvalue > 1e-3


def test_softrank_picks_in_uncertain_images_as_often_as_its_twin() -> None:
    """Picks in the most uncertain quarter of images, in each of many queries; the twin draws other noise."""
    rng = np.random.default_rng(0)
    images = [list(rng.uniform(0.5, 1, size=12) * (1 if i % 4 == 1 else 0.01)) for i in range(12)]
    made = pooled(images, per_image=3, size=6)
    uncertain = {name for i, name in enumerate(made.cases) if i % 4 == 1}
    ours = [sum(pick.case in uncertain for pick in picks) for picks in chosen("softrank_bald", made, 250)]
    made.strategy = "softrank_bald"
    twins = [sum(p[0] in uncertain for p in brute.softrank(replace(made, seed=10**6 + i))) for i in range(250)]
    assert np.mean(twins) / made.size > 0.5  # a blind choice has 0.25
    assert stats.ttest_ind(ours, twins).pvalue > 1e-3
    assert np.mean(ours) == pytest.approx(np.mean(twins), abs=0.05 * made.size)


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
