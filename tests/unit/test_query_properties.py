"""What holds for every strategy: no overlaps, inside, as many as asked, the same in any order of work."""

import json
import tempfile
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import problems
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import intersects
from nnactive_nf.core.strategies import FILE
from nnactive_nf.query.reserve import reserve
from nnactive_nf.query.run import Settings, choose, query

NAMES = [entry["name"] for entry in json.loads(FILE.read_text()) if entry["name"] != "replay"]


@pytest.mark.parametrize("text", NAMES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), values=st.sampled_from(problems.VALUES))
def test_never_an_overlap_never_outside_always_as_many_as_asked(text: str, seed: int, values: str) -> None:
    made = problems.problem(seed, values, "", longest=9)
    with tempfile.TemporaryDirectory() as folder:
        pool, choice = problems.pool_of(made, text, Path(folder))
        try:
            picks = choose(pool, choice, made.size)
        except UserError as error:
            assert f"wants {made.size} patches, but the pool has only" in str(error)
            # An image with room for one patch gives one, whatever the strategy; `coverage` may find no tile there.
            assert made.size > sum(fit > 0 for fit in problems.room(made).values()) or text == "coverage"
            return
    assert len(picks) == made.size
    for pick in picks:
        case = made.cases[pick.case]
        assert pick.box.inside(case.shape)
        assert pick.box.size_zyx == made.patch_in(case)
        assert not any(intersects(pick.box, box) for box in pool.image(pick.case).boxes)
        if case.free is not None:
            assert np.count_nonzero(case.free[pick.box.slices]) <= made.free_overlap * pick.box.voxels + 1e-9
        if not text.startswith("random"):
            assert pick.box.start_zyx in made.starts(case)
        assert sum(other.case == pick.case for other in picks) <= made.per_image
        assert not np.isnan(pick.score)
    for a, b in combinations(picks, 2):
        assert a.case != b.case or not intersects(a.box, b.box)


@pytest.mark.parametrize("text", NAMES)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), values=st.sampled_from(problems.VALUES), wanted=st.integers(0, 6))
def test_a_reserve_comes_next_by_the_rules_of_the_query(text: str, seed: int, values: str, wanted: int) -> None:
    made = problems.problem(seed, values, "", longest=9)
    with tempfile.TemporaryDirectory() as folder:
        pool, choice = problems.pool_of(made, text, Path(folder))
        try:
            picks = choose(pool, choice, made.size)
        except UserError:
            return
        found = reserve(pool, choice, picks, wanted)
        again = reserve(pool, choice, choose(pool, choice, made.size), wanted)
        assert [pick[:5] for pick in found] == [pick[:5] for pick in again]
        assert len(found) <= wanted
        if len(found) < wanted:  # no strategy finds one more
            with pytest.raises(UserError, match="but the pool has only"):
                choice.strategy.more(pool, picks, len(found) + 1)
    for pick in found:
        image = pool.image(pick.case)
        assert pick.box.inside(image.shape_zyx) and not image.too_free(pick.box)
        assert not any(intersects(pick.box, box) for box in image.boxes)
        assert sum(other.case == pick.case for other in [*picks, *found]) <= made.per_image
    for a, b in combinations([*picks, *found], 2):
        assert a.case != b.case or not intersects(a.box, b.box)


@pytest.mark.parametrize("text", ["predictive_entropy", "power_bald", "kmeans_bald", "coverage"])
def test_the_reserve_is_what_a_longer_query_would_have_chosen(text: str, tmp_path: Path) -> None:
    made = problems.problem(5, "random", "", images=5, longest=9, size=6, per_image=4)
    pool, choice = problems.pool_of(made, text, tmp_path)
    picks = choose(pool, choice, 4)
    longer = choose(pool, choice, 6)
    assert [pick[:3] for pick in [*picks, *reserve(pool, choice, picks, 2)]] == [pick[:3] for pick in longer]


@pytest.mark.parametrize("text", ["predictive_entropy", "random", "class_pe", "coverage"])
def test_most_problems_have_room_for_the_query_and_some_have_not(text: str) -> None:
    few = 0
    for seed in range(80):
        made = problems.problem(seed, "random", "")
        try:
            choose(*problems.pool_of(made, text), made.size)
        except UserError:
            few += 1
    assert 1 <= few <= 16, few


@pytest.mark.parametrize("text", NAMES)
def test_the_same_for_any_order_of_cases_and_any_number_of_workers(text: str, tmp_path: Path) -> None:
    made = problems.problem(5, "random", "", images=5, longest=9, size=6, per_image=4)
    pool, choice = problems.pool_of(made, text, tmp_path)
    turned = replace(made, cases=dict(reversed(made.cases.items())))
    other, _ = problems.pool_of(turned, text, tmp_path)
    first = [pick[:5] for pick in choose(pool, choice, 6)]
    assert first == [pick[:5] for pick in choose(other, choice, 6)]
    assert first == [pick[:5] for pick in choose(replace(pool, workers=3), choice, 6)]


@pytest.mark.parametrize("text", NAMES)
def test_the_same_for_any_number_of_shards(text: str, tmp_path: Path) -> None:
    shapes = {f"case_{i}": (8 + i, 10, 9) for i in range(4)}
    dataset = tiny.prepared(tmp_path / "prepared", shapes)
    tiny.oracle(tmp_path / "oracle.h5", dataset)
    rng = np.random.default_rng(2)
    maps = {case: tiny.maps_of(rng, 2, 3, shape) for case, shape in shapes.items()}
    whole = [tiny.uncertainty(tmp_path / "whole.h5", dataset, maps)]
    parts = [
        tiny.uncertainty(tmp_path / f"part_{i}.h5", dataset, {c: maps[c] for c in cases})
        for i, cases in enumerate([["case_3"], ["case_0", "case_2"], ["case_1"]])
    ]
    asked = Settings(text, 7, 1, 4, 6, (4, 4, 4))
    found = [
        query(tmp_path / "prepared", asked, oracle_file=tmp_path / "oracle.h5", uncertainty_files=files)[0]
        for files in (whole, parts, parts[::-1])
    ]
    assert [p[:5] for p in found[0]] == [p[:5] for p in found[1]] == [p[:5] for p in found[2]]


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_a_corner_that_only_the_last_positions_reach_is_chosen(stride: int) -> None:
    made = problems.problem(0, "flat", "", size=1, patch=(3, 3, 3), stride=(stride,) * 3, per_image=1)
    for name, case in made.cases.items():
        case.shape, case.boxes, case.free = (8, 9, 10), [], None
        case.maps = {"predictive_entropy": np.zeros(case.shape, dtype=np.float32)}
        if name == max(made.cases):
            case.maps["predictive_entropy"][-1, -1, -1] = 1
    pool, choice = problems.pool_of(made, "predictive_entropy")
    (pick,) = choose(pool, choice, 1)
    assert (pick.case, pick.box.stop_zyx) == (max(made.cases), (8, 9, 10))


def test_touching_is_allowed() -> None:
    made = problems.problem(0, "flat", "", images=1, size=4, patch=(2, 2, 2), stride=(1, 1, 1), per_image=8)
    (case,) = made.cases.values()
    case.shape, case.free, case.boxes = (2, 2, 8), None, []
    case.maps = {"predictive_entropy": np.ones(case.shape, dtype=np.float32)}
    pool, choice = problems.pool_of(made, "predictive_entropy")
    assert [pick.box.start_zyx[2] for pick in choose(pool, choice, 4)] == [0, 2, 4, 6]


def test_a_slice_patch_and_a_whole_image_patch() -> None:
    for patch, size in [((1, 4, 4), (1, 4, 4)), ((10**6,) * 3, (6, 7, 8))]:
        made = problems.problem(3, "random", "", images=1, size=1, patch=patch, stride=(1, 1, 1), per_image=1)
        (case,) = made.cases.values()
        case.shape, case.free, case.boxes = (6, 7, 8), None, []
        case.maps = tiny.maps_of(np.random.default_rng(0), 2, 3, case.shape)
        pool, choice = problems.pool_of(made, "clasp_pe")
        assert choose(pool, choice, 1)[0].box.size_zyx == size


def test_cap_limits_a_strategy_below_the_runs_patches_per_image(tmp_path: Path) -> None:
    shapes = {f"c{i}": (9, 9, 9) for i in range(4)}
    dataset = tiny.prepared(tmp_path / "prepared", shapes)
    rng = np.random.default_rng(0)
    shard = tiny.uncertainty(tmp_path / "u.h5", dataset, {c: tiny.maps_of(rng, 2, 3, shapes[c]) for c in shapes})
    picks, *_ = query(tmp_path / "prepared", Settings("bald:cap=1", 1, 1, 3, 4, (3, 3, 3)), uncertainty_files=[shard])
    assert sorted(p.case for p in picks) == sorted(shapes)
    with pytest.raises(UserError, match="only 4 candidates"):
        query(tmp_path / "prepared", Settings("bald:cap=1", 1, 1, 3, 5, (3, 3, 3)), uncertainty_files=[shard])


@pytest.mark.parametrize("text", NAMES)
def test_a_strategy_reads_what_the_registry_declares_and_no_truth_unless_marked(text: str, monkeypatch) -> None:
    made = problems.problem(11, "random", "", images=3, longest=9, size=2)
    pool, choice = problems.pool_of(made, text)  # no file of complete masks is there
    read = set()

    class Maps(problems.MemoryMaps):
        def read(self, case, name, lead=()):
            read.add(name)
            return super().read(case, name, lead)

    pool = replace(pool, maps=Maps(made.cases))
    if choice.oracle_aware:
        with pytest.raises(UserError, match="needs the ground truth"):
            choose(pool, choice, 2)
        assert read == set()
        return
    choose(pool, choice, 2)
    assert read == set(choice.maps)
