"""Running sums, positions and picks."""

import math
from dataclasses import replace
from itertools import product

import brute
import numpy as np
import problems
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box, intersects
from nnactive_nf.query.grid import ONE, Grid, Scores, planes_of, window_sums

SHAPE = st.tuples(*[st.integers(1, 7)] * 3)
PATCH = st.tuples(*[st.integers(1, 8)] * 3)
STRIDE = st.tuples(*[st.integers(1, 4)] * 3)


@settings(max_examples=60, deadline=None)
@given(st.data(), SHAPE, PATCH, STRIDE)
def test_sums_equal_plain_loops_to_the_bit(data: st.DataObject, shape, patch, stride) -> None:
    values = data.draw(arrays(np.float32, shape, elements=st.floats(-10, 10, width=32)))
    grid = Grid.of(shape, patch, stride)
    sums = list(window_sums(planes_of(values), grid))
    assert len(sums) == grid.counts[0]
    for index in product(*map(range, grid.counts)):
        box = grid.box(index)
        assert box.inside(shape)
        assert sums[index[0]][index[1:]] == sum(
            round(float(values[v]) * ONE) for v in brute.voxels(box.start_zyx, box.size_zyx)
        )


@settings(max_examples=40, deadline=None)
@given(SHAPE, PATCH, STRIDE)
def test_last_position_of_each_axis_is_there(shape, patch, stride) -> None:
    grid = Grid.of(shape, patch, stride)
    assert grid.box(tuple(n - 1 for n in grid.counts)).stop_zyx == shape
    assert grid.box((0, 0, 0)).start_zyx == (0, 0, 0)


@settings(max_examples=60, deadline=None)
@given(st.data(), SHAPE, PATCH, STRIDE)
def test_what_intersects_a_box_is_barred_and_nothing_else(data: st.DataObject, shape, patch, stride) -> None:
    grid = Grid.of(shape, patch, stride)
    start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    box = Box(start, tuple(data.draw(st.integers(1, n - a)) for n, a in zip(shape, start, strict=True)))
    scores = Scores(np.zeros(grid.counts, dtype=np.int64), grid)
    scores.bar(box)
    for index in product(*map(range, grid.counts)):
        assert scores.allowed()[index] == (not intersects(grid.box(index), box))


@pytest.mark.parametrize("value", [0.1, 0.3, 2.1, 1e-9, 0.0])
def test_flat_maps_tie_whatever_the_patch(value: float) -> None:
    """The same flat value has the same score in images that cut the patch to different sizes."""
    found = set()
    for shape in [(9, 9, 9), (3, 9, 7), (1, 1, 1), (11, 2, 13)]:
        scores = Scores.of_means(planes_of(np.full(shape, value, dtype=np.float32)), Grid.of(shape, (4, 5, 6)))
        found |= {score for _, score in scores.take(20)}
    assert len(found) == 1
    assert found.pop() == pytest.approx(np.float32(value), abs=2**-33)


def test_ties_go_by_z_then_y_then_x() -> None:
    grid = Grid.of((3, 3, 3), (1, 1, 1))
    taken = Scores.of_means(planes_of(np.ones((3, 3, 3), dtype=np.float32)), grid).take(27)
    assert [box.start_zyx for box, _ in taken] == list(product(range(3), repeat=3))


def test_free_voxels_up_to_the_limit() -> None:
    free = np.zeros((1, 1, 10), dtype=bool)
    free[..., :4] = True
    grid = Grid.of((1, 1, 10), (1, 1, 5))
    for limit, first in [(0.0, 4), (0.39, 3), (0.4, 2), (0.8, 0), (1.0, 0)]:
        scores = Scores(np.zeros(grid.counts, dtype=np.int64), grid)
        scores.bar_free(planes_of(free), limit)
        assert scores.best()[0].start_zyx[2] == first


@pytest.mark.parametrize("hundredths", [28, 29, 57, 58])
def test_a_share_of_a_hundred_voxels_may_be_free(hundredths: int) -> None:
    """0.29 x 100 is 28.999999999999996 in floating point, and 29 voxels."""
    made = problems.problem(0, "flat", "", images=1, size=1, patch=(1, 1, 100), stride=(1, 1, 1), per_image=1)
    (case,) = made.cases.values()
    case.shape, case.boxes, case.free = (1, 1, 100), [], np.zeros((1, 1, 100), dtype=bool)
    pool, _ = problems.pool_of(replace(made, free_overlap=hundredths / 100), "random")
    for voxels in (hundredths, hundredths + 1):
        case.free[..., :voxels] = True
        image = pool.image(pool.cases[0])
        assert image.may_take(image.grid.box((0, 0, 0))) == (voxels == hundredths)
        assert image.allowed(image.grid).all() == (voxels == hundredths)


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "uint8", "bool"])
def test_means_of_a_map_are_on_its_own_scale(kind: str) -> None:
    made = problems.problem(0, "flat", "", images=1, patch=(2, 3, 2), stride=(2, 1, 3), size=1)
    (case,) = made.cases.values()
    case.shape = (5, 4, 6)
    values = (np.random.default_rng(0).random(case.shape) * (2 if kind == "bool" else 200)).astype(int).astype(kind)
    image = problems.pool_of(made, "random")[0].image(next(iter(made.cases)))
    means = image.patch_means(values)
    assert means.shape == image.grid.counts
    for index in product(*map(range, image.grid.counts)):
        assert means[index] == pytest.approx(values[image.grid.box(index).slices].mean(dtype=np.float64))


def test_minus_infinity_ranks_last_and_can_be_taken() -> None:
    grid = Grid.of((1, 1, 4), (1, 1, 1))
    values = np.array([[[-np.inf, -1e300, -np.inf, 3.0]]])
    taken = Scores(values, grid).take(9)
    assert [(box.start_zyx[2], score) for box, score in taken] == [
        (3, 3.0),
        (1, -1e300),
        (0, -math.inf),
        (2, -math.inf),
    ]


def test_zero_means_become_minus_infinity_but_stay_apart_from_barred_ones() -> None:
    grid = Grid.of((1, 1, 3), (1, 1, 1))
    scores = Scores.of_means(planes_of(np.array([[[0.0, 0.0, 1.0]]])), grid)
    scores.bar(Box((0, 0, 0), (1, 1, 1)))
    with np.errstate(divide="ignore"):
        taken = scores.to_real(np.log).take(3)
    assert [(box.start_zyx[2], score) for box, score in taken] == [(2, 0.0), (1, -math.inf)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e18])
def test_values_that_cannot_be_summed_are_told(bad: float) -> None:
    values = np.zeros((2, 2, 2))
    values[1, 0, 1] = bad
    with pytest.raises(UserError, match="not finite or too large"):
        Scores.of_means(planes_of(values), Grid.of((2, 2, 2), (1, 2, 2)))


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_are_exact_up_to_the_limit_that_is_told(sign: int) -> None:
    """Means of 2^31 / voxels are too large, those next below it are not."""
    grid = Grid.of((1, 2, 2), (1, 1, 2))
    values = np.array([[[2.0**30, 0.0], [0.0, 0.0]]]) * sign
    with pytest.raises(UserError, match="too large"):
        Scores.of_means(planes_of(values), grid)
    values[0, 0, :] = np.nextafter(2.0**30, 0) * sign
    assert Scores.of_means(planes_of(values), grid).at(grid.box((0, 0, 0))) == values[0, 0, 0]


def test_scores_that_are_no_numbers_are_told() -> None:
    with pytest.raises(UserError, match="NaN"):
        Scores(np.array([[[0.0, np.nan]]]), Grid.of((1, 1, 2), (1, 1, 1)))


def test_arrays_of_one_map_at_most_beside_a_few_planes() -> None:
    """Memory: int64 sums at the start positions and planes; never a second volume."""
    import tracemalloc

    values = np.ones((60, 64, 64), dtype=np.float32)
    grid = Grid.of(values.shape, (3, 3, 3))
    tracemalloc.start()
    Scores.of_means(planes_of(values), grid).take(5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * math.prod(grid.counts) + 12 * 8 * 64 * 64
