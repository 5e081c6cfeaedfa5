"""Random strategies and starts."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import problems
import pytest
import tiny
from scipy import stats

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box
from nnactive_nf.query.diverse import mean_over_patch, scaled
from nnactive_nf.query.pool import Candidate
from nnactive_nf.query.randomly import Random, border_of, guaranteed
from nnactive_nf.query.run import Settings, choose, query


def blob(shape: tuple[int, int, int] = (12, 12, 12)) -> np.ndarray:
    """A cube of class `head` in one corner region and a cube of `tail` in another."""
    truth = np.zeros(shape, dtype=np.uint8)
    truth[1:5, 1:5, 1:5] = 2
    truth[7:11, 7:11, 7:11] = 7
    return truth


@pytest.mark.parametrize(("text", "share"), [("random", 0), ("random_fg33", 1 / 3), ("random_fg66", 2 / 3)])
def test_shares_of_centred_patches_and_of_classes(text: str, share: float, tmp_path: Path) -> None:
    made = problems.problem(0, "flat", "", images=1, size=1, patch=(1, 1, 1), stride=(1, 1, 1), per_image=1)
    (case,) = made.cases.values()
    case.shape, case.boxes, case.free, case.truth = (12, 12, 12), [], None, blob()
    found, inside, edge = Counter(), 0, 0
    rim = border_of(case.truth == 2) | border_of(case.truth == 7)
    base, _ = problems.pool_of(made, text, tmp_path)
    for seed in range(500):
        _, choice = problems.pool_of(made, text)
        (pick,) = choose(replace(base, seed=seed), choice, 1)
        found[pick.component] += 1
        if pick.component != "all":
            assert case.truth[pick.box.start_zyx] == {"head": 2, "tail": 7}[pick.component]
            inside += 1
            edge += bool(rim[pick.box.start_zyx])
    assert stats.binomtest(inside, 500, share or 1e-9).pvalue > 1e-3
    if share:
        assert stats.binomtest(found["head"], inside, 0.5).pvalue > 1e-3
        on_rim = 0.5 + 0.5 * rim.sum() / (case.truth > 0).sum()  # border draws, and class draws that fall on it
        assert stats.binomtest(edge, inside, on_rim).pvalue > 1e-3


@pytest.mark.parametrize("text", ["random", "random_fg33", "random_fg66"])
def test_a_patch_anywhere_starts_at_any_voxel_whatever_the_stride(text: str, tmp_path: Path) -> None:
    """30 voxels, patch 10, stride 8: all 21 starts, each as often as the others."""
    made = problems.problem(0, "flat", "", images=1, size=1, patch=(1, 1, 10), stride=(1, 1, 8), per_image=1)
    (case,) = made.cases.values()
    case.shape, case.boxes, case.free, case.truth = (1, 1, 30), [], None, np.zeros((1, 1, 30), dtype=np.uint8)
    pool, choice = problems.pool_of(made, text, tmp_path)
    found = np.zeros(21, dtype=int)
    for seed in range(630):
        (pick,) = choose(replace(pool, seed=seed), choice, 1)
        assert pick.component == "all"  # no foreground is there
        found[pick.box.start_zyx[2]] += 1
    assert stats.chisquare(found).pvalue > 1e-3


def test_a_crowded_image_gives_the_places_between_the_strides_positions() -> None:
    """The only free place, start 4, is not on the grid of stride 8; draws that miss it end in a list of all."""
    made = problems.problem(0, "flat", "", images=1, size=1, patch=(1, 1, 3), stride=(1, 1, 8), per_image=1)
    (case,) = made.cases.values()
    case.shape, case.free = (1, 1, 400), None
    case.boxes = [((0, 0, 0), (1, 1, 4)), ((0, 0, 7), (1, 1, 393))]
    pool, choice = problems.pool_of(made, "random")
    for seed in range(5):
        (pick,) = choose(replace(pool, seed=seed), choice, 1)
        assert pick.box.start_zyx == (0, 0, 4)


def test_images_come_in_rounds(tmp_path: Path) -> None:
    dataset = tiny.prepared(tmp_path / "prepared", {f"c{i}": (9, 9, 9) for i in range(5)})
    picks, *_ = query(tmp_path / "prepared", Settings("random", 3, 0, 3, 15, (3, 3, 3), start=True))
    rounds = [sorted(pick.case for pick in picks[i : i + 5]) for i in (0, 5, 10)]
    assert rounds == [dataset.pool] * 3
    orders = [tuple(pick.case for pick in picks[i : i + 5]) for i in (0, 5, 10)]
    assert any(a != b for a, b in pairwise(orders))


def test_a_crowded_image_is_filled_to_the_last_place() -> None:
    made = problems.problem(0, "flat", "", images=1, size=9, patch=(1, 1, 1), stride=(1, 1, 1), per_image=9)
    (case,) = made.cases.values()
    case.shape, case.free, case.boxes = (1, 3, 3), None, []
    pool, choice = problems.pool_of(made, "random")
    assert len({pick.box.start_zyx for pick in choose(pool, choice, 9)}) == 9
    with pytest.raises(UserError, match="wants 10 patches, but the pool has only 9"):
        choose(replace(pool, per_image=20), choice, 10)


@pytest.mark.parametrize(("parts", "least", "most"), [((0, 1, 0), 4, 16), ((0, 0, 1), 0, 0)])
def test_patches_inside_a_class_and_on_its_border(
    parts: tuple[int, int, int], least: int, most: int, tmp_path: Path
) -> None:
    """Of 20 patches of a voxel; 343 of the 729 voxels of the class lie inside."""
    made = problems.problem(0, "flat", "", images=1, size=1, patch=(1, 1, 1), stride=(1, 1, 1), per_image=20)
    (case,) = made.cases.values()
    case.shape, case.boxes, case.free, case.truth = (11, 11, 11), [], None, np.zeros((11, 11, 11), np.uint8)
    case.truth[1:10, 1:10, 1:10] = 7
    pool, _ = problems.pool_of(made, "random_fg33", tmp_path)
    picks = Random(*parts).query(pool, 20)
    assert {pick.component for pick in picks} == {"tail"}
    assert least <= sum(all(1 < n < 9 for n in pick.box.start_zyx) for pick in picks) <= most


def test_border_is_the_class_less_its_erosion() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        mask = rng.random((5, 6, 4)) < 0.6
        assert np.array_equal(border_of(mask), problems.brute.border(mask))
    assert not border_of(np.zeros((2, 2, 2), dtype=bool)).any()


CLASSES = Classes(("background", "common", "rare", "rarest"), (0, 1, 4, 9))


@pytest.fixture
def pool(tmp_path: Path):
    """Ten cases: `common` in all, `rare` in four, `rarest` in two."""
    shapes = {f"case_{i}": (10, 12, 12) for i in range(10)}
    dataset = tiny.prepared(tmp_path / "prepared", shapes, classes=CLASSES)
    masks = {}
    for i, case in enumerate(dataset.pool):
        masks[case] = np.zeros(shapes[case], dtype=np.uint8)
        masks[case][2:4, 2:4, 2:4] = 1
        if i < 4:
            masks[case][6:8, 6:9, 6:9] = 4
        if i in (2, 7):
            masks[case][5, 9, 2] = 9
    tiny.oracle(tmp_path / "oracle.h5", dataset, masks)
    return tmp_path, masks


@pytest.mark.parametrize("start", ["random", "random_fg33", "random_fg66", "coverage"])
def test_class_guarantee(start: str, pool) -> None:
    folder, masks = pool
    for seed in range(5):
        settings = Settings(start, seed, 0, 3, 12, (4, 4, 4), start=True, class_guarantee=True)
        picks, *_ = query(folder / "prepared", settings, oracle_file=folder / "oracle.h5")
        assert len(picks) == 12
        assert [pick.component for pick in picks[:4]] == ["rarest", "rarest", "rare", "rare"]
        assert Counter(pick.component for pick in picks[:8]) == dict.fromkeys(CLASSES.names, 2)
        for name, value in zip(CLASSES.names, CLASSES.values, strict=True):
            mine = [pick for pick in picks[:8] if pick.component == name]
            assert len({pick.case for pick in mine}) == 2
            assert all((masks[pick.case][pick.box.slices] == value).any() for pick in mine)


def test_each_class_of_the_guarantee_takes_images_that_have_no_patch_yet(pool) -> None:
    """Eight patches in eight of ten cases: `rarest` has both of its cases, `rare` two of the three that it has left."""
    folder, _ = pool
    for seed in range(5):
        settings = Settings("random", seed, 0, 3, 8, (4, 4, 4), start=True, class_guarantee=True)
        picks, *_ = query(folder / "prepared", settings, oracle_file=folder / "oracle.h5")
        assert len({pick.case for pick in picks}) == 8


def test_two_images_without_a_patch_of_two_patients(tmp_path: Path) -> None:
    """Patients `a` and `b` with four cases each: each class has a new case of both."""
    shapes = {f"{patient}{i}": (6, 6, 6) for patient in "ab" for i in range(4)}
    dataset = tiny.prepared(tmp_path / "prepared", shapes, groups={case: case[0] for case in shapes})
    tiny.oracle(tmp_path / "oracle.h5", dataset)
    for seed in range(8):
        settings = Settings("random", seed, 0, 3, 6, (2, 2, 2), start=True, class_guarantee=True)
        picks, *_ = query(tmp_path / "prepared", settings, oracle_file=tmp_path / "oracle.h5")
        assert len({pick.case for pick in picks}) == 6
        assert [{a.case[0], b.case[0]} for a, b in zip(picks[::2], picks[1::2], strict=True)] == [{"a", "b"}] * 3


def test_without_guarantee_no_truth_is_needed(pool) -> None:
    folder, _ = pool
    for start in ("random", "coverage"):
        picks, *_ = query(folder / "prepared", Settings(start, 1, 0, 3, 5, (4, 4, 4), start=True))
        assert len(picks) == 5
    with pytest.raises(UserError, match="give --oracle"):
        query(folder / "prepared", Settings("random_fg33", 1, 0, 3, 5, (4, 4, 4), start=True))
    with pytest.raises(UserError, match="give --oracle"):
        query(folder / "prepared", Settings("random", 1, 0, 3, 12, (4, 4, 4), start=True, class_guarantee=True))


def test_two_patients_where_there_are_two(tmp_path: Path) -> None:
    shapes = {f"case_{i}": (6, 6, 6) for i in range(6)}
    groups = dict.fromkeys(shapes, "one") | {"case_5": "two"}
    dataset = tiny.prepared(tmp_path / "prepared", shapes, groups=groups)
    tiny.oracle(tmp_path / "oracle.h5", dataset)
    for seed in range(8):
        settings = Settings("random", seed, 0, 3, 6, (2, 2, 2), start=True, class_guarantee=True)
        picks, *_ = query(tmp_path / "prepared", settings, oracle_file=tmp_path / "oracle.h5")
        for name in dataset.classes.names:
            assert {groups[pick.case] for pick in picks if pick.component == name} == {"one", "two"}


def test_a_budget_below_the_guarantee_and_a_class_in_no_case_are_told(pool) -> None:
    folder, _ = pool
    settings = Settings("random", 1, 0, 3, 7, (4, 4, 4), start=True, class_guarantee=True)
    with pytest.raises(UserError, match="raise the start size to 8"):
        query(folder / "prepared", settings, oracle_file=folder / "oracle.h5")
    dataset = tiny.prepared(folder / "other", {"a": (5, 5, 5), "b": (5, 5, 5)})
    nothing = {case: np.zeros((5, 5, 5), dtype=np.uint8) for case in "ab"}
    tiny.oracle(folder / "nothing.h5", dataset, nothing)
    with pytest.raises(UserError, match="class 'head' is in no case"):
        query(folder / "other", settings, oracle_file=folder / "nothing.h5")


@pytest.mark.parametrize("start", ["random", "random_fg66", "coverage"])
def test_guaranteed_patches_count_towards_an_images_most(start: str, tmp_path: Path) -> None:
    """Three images that give three patches each; six of the nine are the guarantee's."""
    dataset = tiny.prepared(tmp_path / "prepared", {f"c{i}": (8, 8, 8) for i in range(3)})
    tiny.oracle(tmp_path / "oracle.h5", dataset)

    def ask(size: int, seed: int):
        settings = Settings(start, seed, 0, 3, size, (2, 2, 2), per_image=3, start=True, class_guarantee=True)
        return query(tmp_path / "prepared", settings, oracle_file=tmp_path / "oracle.h5")[0]

    for seed in range(3):
        assert Counter(pick.case for pick in ask(9, seed)) == dict.fromkeys(dataset.pool, 3)
        with pytest.raises(UserError, match="wants 4 patches, but the pool has only 3"):
            ask(10, seed)


def test_the_guarantee_takes_no_more_than_an_images_most(tmp_path: Path) -> None:
    made = problems.problem(0, "flat", "", size=6, patch=(2, 2, 2), stride=(1, 1, 1), per_image=1)
    for case in made.cases.values():
        case.shape, case.boxes, case.free, case.truth = (12, 12, 12), [], None, blob()
    said: list[str] = []
    pool, _ = problems.pool_of(made, "random", tmp_path, log=said.append)
    found = guaranteed(pool, 6)
    assert sorted(pick.case for pick in found) == pool.cases
    assert [line.split("; ")[0] for line in said] == [
        "class 'head' gets 1 of its 2 guaranteed patches",
        "class 'tail' gets 0 of its 2 guaranteed patches",
    ]


def test_a_class_in_one_image_has_one_guaranteed_patch(tmp_path: Path) -> None:
    made = problems.problem(0, "flat", "", size=6, patch=(1, 1, 1), stride=(1, 1, 1), per_image=6)
    for name, case in made.cases.items():
        case.shape, case.boxes, case.free, case.truth = (12, 12, 12), [], None, blob()
        if name != min(made.cases):
            case.truth[case.truth == 7] = 0
    pool, _ = problems.pool_of(made, "random", tmp_path)
    assert [pick.component for pick in guaranteed(pool, 6)] == ["tail", "background", "background", "head", "head"]


def test_a_guaranteed_patch_lies_on_any_voxel_of_its_class_not_on_the_border_alone(tmp_path: Path) -> None:
    made = problems.problem(0, "flat", "", size=6, patch=(1, 1, 1), stride=(1, 1, 1), per_image=6)
    inner = np.zeros((12, 12, 12), bool)
    inner[2:9, 2:9, 2:9] = True
    for case in made.cases.values():
        case.shape, case.boxes, case.free, case.truth = inner.shape, [], None, blob()
        case.truth[1:10, 1:10, 1:10] = 2
    starts = []
    for seed in range(10):
        pool, _ = problems.pool_of(replace(made, seed=seed), "random", tmp_path)
        starts += [pick.box.start_zyx for pick in guaranteed(pool, 6) if pick.component == "head"]
    assert 3 < sum(inner[start] for start in starts) < 17  # of 20; inside lie 343 of the 729 voxels


def alike(folder: Path, looks: dict[str, float]) -> None:
    """Prepared images of 4 x 4 x 4 voxels of one value each; each is one tile."""
    images = {case: np.full((1, 4, 4, 4), value, dtype=np.float32) for case, value in looks.items()}
    tiny.prepared(folder, dict.fromkeys(looks, (4, 4, 4)), images=images)


def test_coverage_of_identical_tiles_takes_each_look_first(tmp_path: Path) -> None:
    """Four images of one look and one of another: two of one look only where none of another is left."""
    alike(tmp_path / "prepared", {"a": 0.1, "b": 0.1, "c": 5.0, "d": 0.1, "e": 0.1})
    for seed in range(10):
        settings = Settings("coverage", seed, 0, 3, 5, (4, 4, 4), start=True)
        picks, *_ = query(tmp_path / "prepared", settings)
        assert "c" in {pick.case for pick in picks[:2]}
        assert sorted(pick.case for pick in picks) == list("abcde")
        assert [pick.score > 0 for pick in picks] == [False, True, False, False, False]


def test_coverage_of_nothing_but_identical_tiles(tmp_path: Path) -> None:
    alike(tmp_path / "prepared", dict.fromkeys("abcd", 0.1))
    firsts = set()
    for seed in range(10):
        picks, *_ = query(tmp_path / "prepared", Settings("coverage", seed, 0, 3, 4, (4, 4, 4), start=True))
        assert sorted(pick.case for pick in picks) == list("abcd")
        assert {pick.score for pick in picks} == {0.0}
        firsts.add(picks[0].case)
    assert len(firsts) > 1


def test_features_are_averaged_over_a_patchs_voxels_by_the_cells_they_lie_in() -> None:
    rng = np.random.default_rng(0)
    cell, cells = (2, 3, 4), (5, 4, 3)
    features = rng.random((2, *cells)).astype(np.float32)
    by_voxel = features.repeat(2, axis=1).repeat(3, axis=2).repeat(4, axis=3).astype(np.float64)
    for _ in range(30):
        start = [int(rng.integers(n * m)) for n, m in zip(cell, cells, strict=True)]
        size = [int(rng.integers(1, n * m - a + 1)) for n, m, a in zip(cell, cells, start, strict=True)]
        box = Box(tuple(start), tuple(size))
        wanted = by_voxel[(slice(None), *box.slices)].mean(axis=(1, 2, 3))
        assert mean_over_patch(features, cell, box) == pytest.approx(wanted)


@pytest.mark.parametrize("centre", [False, True])
def test_constant_features_say_nothing_and_others_weigh_the_same(centre: bool) -> None:
    """Three times 0.1 has a deviation of 1e-17 in floating point: divided by it, rounding would be a feature."""
    rows = [(0.1, 0.0, 1.0, -2e13), (0.1, 0.0, 2.0, 0.0), (0.1, 0.0, 6.0, 1e13)]
    box = Box((0, 0, 0), (1, 1, 1))
    found = scaled([Candidate("a", box, 0.0, features=np.array(row)) for row in rows], centre)
    assert np.std([row[0] for row in rows]) > 0
    assert (found[:, :2] == 0).all()
    wanted = np.array(rows)[:, 2:]
    wanted = (wanted - (wanted.mean(axis=0) if centre else 0)) / wanted.std(axis=0)
    np.testing.assert_allclose(found[:, 2:], wanted)


def test_coverage_spreads_over_unlike_images(tmp_path: Path) -> None:
    """Nine images of one look and one of another: k-means++ finds the other at once, random rarely."""
    rng = np.random.default_rng(0)
    shapes = {f"c{i}": (8, 8, 8) for i in range(10)}
    images = {case: rng.normal(0, 0.1, size=(1, 8, 8, 8)).astype(np.float32) for case in shapes}
    images["c4"] = rng.normal(9, 3, size=(1, 8, 8, 8)).astype(np.float32)
    tiny.prepared(tmp_path / "prepared", shapes, images=images)
    hits = Counter()
    for seed in range(25):
        for text in ("coverage", "random"):
            picks, *_ = query(tmp_path / "prepared", Settings(text, seed, 0, 3, 3, (4, 4, 4), start=True))
            hits[text] += any(pick.case == "c4" for pick in picks)
    assert hits["coverage"] >= 24
    assert hits["random"] <= 17
