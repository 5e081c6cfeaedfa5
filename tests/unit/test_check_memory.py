"""Memory by the sizes of a data set: by hand for a large one, and what must hold for any."""

from __future__ import annotations

import pytest

from nnactive_nf.check.memory import GIB, SCORES, memory

SMALL = {
    "cases": 200, "channels": 1, "classes": 3, "largest": 89600, "largest_file": 89600, "largest_resampled": 0,
    "pool_voxels": 150 * 89600, "test_voxels": 50 * 89600,
}  # fmt: skip
# Abdominal CT of 16 classes and two channels; the largest image of 72 million voxels, its file's grid is another.
LARGE = {
    "cases": 2, "channels": 2, "classes": 16, "largest": 200 * 600 * 600, "largest_file": 275 * 512 * 512,
    "largest_resampled": 150 * 600 * 600, "pool_voxels": 300 * 600 * 600, "test_voxels": 400 * 512 * 512,
}  # fmt: skip


def test_a_large_data_set_by_hand() -> None:
    found = memory(LARGE)
    volume, file, resampled = LARGE["largest"], LARGE["largest_file"], LARGE["largest_resampled"]
    pool, test = LARGE["pool_voxels"], LARGE["test_voxels"]
    assert found["prepare"] == {"bytes": GIB, "each": GIB + 2 * (22 * file + 30 * resampled)}
    assert found["train"] == {"bytes": 6 * GIB + pool + 80 * volume, "each": 0}
    assert found["predict"] == {"bytes": int(1.25 * GIB) + 4 * (2 * 16 + 8 + 4) * volume, "each": 2 * 16 * volume}
    assert found["evaluate"]["bytes"] == int(1.25 * GIB) + test + 12 * 16 * volume + (4 * 16 + 40) * file
    assert found["query"] == {"bytes": GIB // 4 + 16 * volume, "each": 24 * volume + SCORES}
    assert found["views"] == {"bytes": GIB // 4 + 24 * volume, "each": 0}
    assert found["export"] == {"bytes": GIB + 16 * volume + 32 * file, "each": 0}
    assert found["receive"] == {"bytes": GIB + 2 * pool + 16 * volume + 32 * file, "each": 0}
    assert found["annotate"] == {"bytes": GIB // 2 + pool + 8 * volume, "each": 0}
    prepared = 2 * GIB + 2 * (22 * file + 30 * resampled)
    assert found["measure"] == {"bytes": GIB // 2 + max(prepared, found["train"]["bytes"]), "each": 0}


@pytest.mark.parametrize("sizes", [SMALL, LARGE])
def test_more_of_anything_never_needs_less(sizes: dict[str, int]) -> None:
    before = memory(sizes)
    for name in sizes:
        after = memory({**sizes, name: 2 * sizes[name] + 1})
        for stage, need in before.items():
            assert all(after[stage][part] >= need[part] for part in need), (name, stage)
    assert all(isinstance(value, int) for need in before.values() for value in need.values())


def test_evaluate_takes_the_largest_of_three() -> None:
    one_file = SMALL | {"largest": 10**6, "test_voxels": 0}
    rest = int(1.25 * GIB)
    # many classes: the export; a file of many voxels and few classes: distances; a file of few: what PREDICT holds
    assert (
        memory(one_file | {"classes": 30, "largest_file": 10**6})["evaluate"]["bytes"] - rest == (16 * 30 + 40) * 10**6
    )
    assert memory(one_file | {"largest_file": 10**8})["evaluate"]["bytes"] - rest == 240 * 10**8
    # images that are resampled to few voxels: calibration, where there are many classes
    fine = one_file | {"largest": 1, "largest_file": 10**6, "classes": 30}
    assert memory(fine)["evaluate"]["bytes"] - rest == (8 * 30 + 80) * 10**6
    assert memory(one_file | {"largest_file": 1, "classes": 2})["evaluate"]["bytes"] - rest == 4 * 14 * 10**6


def test_query_makes_scores_of_all_classes_in_parts_of_half_a_gibibyte() -> None:
    assert 2 * SCORES == GIB == 1024**3
    assert memory(SMALL)["query"]["each"] == (24 + 8 * 3) * 89600


def test_a_small_data_set_stays_under_the_least() -> None:
    assert all(need["bytes"] + need["each"] < 8 * GIB for need in memory(SMALL).values())
