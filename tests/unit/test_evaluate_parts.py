"""EVALUATE's parts: measures against values worked out by hand, empty classes said, calibration against plain loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from nnactive_nf.evaluate.measures import Calibration, class_measures, mean_measures


def cube(shape: tuple[int, int, int], start: int, size: int) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[start : start + size, start : start + size, start : start + size] = True
    return mask


def test_overlap_of_shifted_boxes() -> None:
    reference = np.zeros((8, 8, 8), dtype=bool)
    reference[2:6, 2:6, 2:6] = True
    predicted = np.zeros_like(reference)
    predicted[2:6, 2:6, 3:7] = True
    found = class_measures(predicted, reference, (1.0, 1.0, 1.0), 1.0)
    assert found["dice"] == pytest.approx(2 * 48 / 128)
    assert found["iou"] == pytest.approx(48 / 80)
    assert (found["reference_voxels"], found["predicted_voxels"]) == (64, 64)
    assert found["nsd"] == pytest.approx(1.0)  # no surface is further than one voxel
    assert found["hd95_mm"] == pytest.approx(1.0)


def test_distances_are_in_millimetres_along_each_axis() -> None:
    reference, predicted = (np.zeros((6, 30, 30), dtype=bool) for _ in range(2))
    reference[2:4, 5:15, 5:15] = True
    predicted[3:5, 5:15, 5:15] = True  # one slice of 5 mm further
    found = class_measures(predicted, reference, (5.0, 0.5, 0.5), 2.0)
    assert found["hd95_mm"] == pytest.approx(5.0)
    assert found["nsd"] < 0.75
    assert class_measures(predicted, reference, (5.0, 0.5, 0.5), 5.0)["nsd"] == pytest.approx(1.0)
    same = class_measures(reference, reference, (5.0, 0.5, 0.5), 0.1)
    assert (same["dice"], same["iou"], same["nsd"], same["hd95_mm"]) == (1.0, 1.0, 1.0, 0.0)


Box = tuple[tuple[int, int], ...]  # first voxel and the one behind the last, along z, y and x


def mask_of(box: Box, shape: Sequence[int] = (14, 14, 24)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*span) for span in box)] = True
    return mask


def surface_voxels(mask: np.ndarray) -> list[tuple[int, ...]]:
    """Voxels of a mask with one of their 6 neighbours outside."""
    steps = [step for axis in range(3) for step in np.eye(3, dtype=int)[[axis]] * np.array([[1], [-1]])]
    return [tuple(place) for place in np.argwhere(mask) if not all(mask[tuple(place + step)] for step in steps)]


def distances(places: Sequence[tuple], others: Sequence[tuple], spacing: Sequence[float]) -> list[float]:
    """From each place to the nearest of the others, in mm."""
    return [
        min(math.sqrt(sum(((a - b) * mm) ** 2 for a, b, mm in zip(p, q, spacing, strict=True))) for q in others)
        for p in places
    ]


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def test_hd95_is_the_larger_of_both_sides_95th_percentiles() -> None:
    """A spur of 8 voxels on one side: the farthest of its surface voxels lie behind the 95th percentile."""
    spacing = (1.5, 1.0, 0.5)
    block = mask_of(((3, 9), (3, 9), (3, 9)))
    with_spur = block | mask_of(((5, 6), (5, 6), (9, 17)))
    there, back = (
        distances(surface_voxels(a), surface_voxels(b), spacing) for a, b in ((with_spur, block), (block, with_spur))
    )
    expected = max(percentile(there, 0.95), percentile(back, 0.95))
    for predicted, reference in ((with_spur, block), (block, with_spur)):  # whichever side the spur is on
        found = class_measures(predicted, reference, spacing, 1.0)["hd95_mm"]
        assert found == pytest.approx(expected, abs=1e-5)
    assert 0 < percentile(back, 0.95) + expected < max(there) - 0.4  # the largest distance is another number


def surface_of_box(box: Box, spacing: Sequence[float]) -> list[tuple[tuple[int, ...], float]]:
    """The box's surface in pieces, one at each corner of voxels it passes: its place and its area in mm^2.

    The surface runs half a voxel from the voxels' centres (Nikolov et al., 2018): a rectangle of a voxel's face on the
    faces, one across two half faces along the edges, a triangle at the corners.
    """
    pieces = []
    for place in itertools.product(*(range(low, high + 1) for low, high in box)):
        at_end = [corner in span for corner, span in zip(place, box, strict=True)]
        across = [mm for mm, end in zip(spacing, at_end, strict=True) if end]
        along = math.prod(mm for mm, end in zip(spacing, at_end, strict=True) if not end)
        if len(across) == 1:
            pieces.append((place, along))
        elif len(across) == 2:
            pieces.append((place, along * math.hypot(across[0] / 2, across[1] / 2)))
        elif len(across) == 3:
            a, b, c = (mm / 2 for mm in across)
            pieces.append((place, math.sqrt((a * b) ** 2 + (b * c) ** 2 + (a * c) ** 2) / 2))
    return pieces


@pytest.mark.parametrize("tolerance", [0.4, 1.0, 1.2])
def test_nsd_is_the_share_of_the_surfaces_area(tolerance: float) -> None:
    """Area, not surface voxels, which flat voxels would tell apart: both boxes' pieces within the tolerance."""
    spacing = (3.0, 1.0, 0.5)
    predicted, reference = ((2, 6), (3, 9), (4, 12)), ((2, 6), (3, 8), (4, 15))
    a, b = (surface_of_box(box, spacing) for box in (predicted, reference))
    near = total = 0.0
    for own, other in ((a, b), (b, a)):
        found = distances([place for place, _ in own], [place for place, _ in other], spacing)
        near += sum(area for (_, area), mm in zip(own, found, strict=True) if mm <= tolerance)
        total += sum(area for _, area in own)
    measured = class_measures(mask_of(predicted), mask_of(reference), spacing, tolerance)["nsd"]
    assert measured == pytest.approx(near / total, abs=1e-5)
    assert 0.5 < measured < 1


def test_a_mask_that_touches_the_border_keeps_its_surface() -> None:
    whole = np.ones((4, 4, 4), dtype=bool)
    found = class_measures(whole, cube((4, 4, 4), 0, 2), (1.0, 1.0, 1.0), 0.5)
    assert found["dice"] == pytest.approx(2 * 8 / 72)
    assert 0 < found["nsd"] < 1
    assert found["hd95_mm"] > 1


def test_empty_masks_are_said_and_left_out_of_means() -> None:
    empty, full = np.zeros((4, 4, 4), dtype=bool), cube((4, 4, 4), 1, 2)
    nothing = class_measures(empty, empty, (1, 1, 1), 1.0)
    assert all(nothing[name] is None for name in ("dice", "iou", "nsd", "hd95_mm"))
    invented = class_measures(full, empty, (1, 1, 1), 1.0)
    missed = class_measures(empty, full, (1, 1, 1), 1.0)
    for found in (invented, missed):
        assert (found["dice"], found["iou"], found["nsd"], found["hd95_mm"]) == (0.0, 0.0, 0.0, None)
    hit = class_measures(full, full, (1, 1, 1), 1.0)
    cases = [{"classes": {"a": found, "b": nothing}} for found in (nothing, invented, missed, hit)]
    mean = mean_measures(cases, ["a", "b"])
    assert mean["classes"]["a"]["dice"] == pytest.approx(1 / 3)
    assert mean["classes"]["a"]["hd95_mm"] == 0.0
    assert mean["classes"]["a"]["empty_reference"] == 2
    assert mean["classes"]["a"]["empty_prediction"] == 2
    assert mean["classes"]["b"]["dice"] is None
    assert mean["foreground"]["dice"] == pytest.approx(1 / 3)


def test_calibration_equals_the_plain_sums() -> None:
    rng = np.random.default_rng(0)
    calibration = Calibration(bins=5)
    confidences, hits, squares = [], [], []
    for _ in range(3):
        p = rng.dirichlet([0.5, 0.5, 0.5], size=(4, 5, 6)).astype(np.float32)
        truth = rng.integers(0, 3, size=(4, 5, 6))
        calibration.add(np.moveaxis(p, -1, 0), truth)
        for q, t in zip(p.reshape(-1, 3), truth.ravel(), strict=True):
            confidences.append(float(q.max()))
            hits.append(int(q.argmax()) == t)
            squares.append(sum((float(q[c]) - (c == t)) ** 2 for c in range(3)))
    place = np.minimum((np.array(confidences) * 5).astype(int), 4)
    ece = sum(
        abs(np.mean(np.array(hits)[place == b]) - np.mean(np.array(confidences)[place == b])) * (place == b).mean()
        for b in np.unique(place)
    )
    found = calibration.result()
    assert found["ece"] == pytest.approx(ece, abs=1e-9)
    assert found["brier"] == pytest.approx(np.mean(squares), abs=1e-6)
    assert sum(row["voxels"] for row in found["bins"]) == 3 * 120


def test_calibration_of_bins_that_err_in_opposite_ways() -> None:
    """Confidence below accuracy in one bin and above it in another: the gaps add up, they do not cancel."""
    calibration = Calibration(bins=4)
    confidence = np.array([0.6] * 10 + [0.9] * 30, dtype=np.float32)
    hit = np.array([True] * 10 + [True] * 15 + [False] * 15)
    probability = np.stack([confidence, 1 - confidence]).reshape(2, 4, 10, 1)
    calibration.add(probability, np.where(hit, 0, 1).reshape(4, 10, 1))
    found = calibration.result()
    expected = [(0.6, 1.0, 10), (0.9, 0.5, 30)]
    assert [(row["confidence"], row["accuracy"], row["voxels"]) for row in found["bins"]] == [
        (pytest.approx(c), a, n) for c, a, n in expected
    ]
    assert found["ece"] == pytest.approx((10 * 0.4 + 30 * 0.4) / 40)
    assert found["brier"] == pytest.approx(2 * (10 * 0.4**2 + 15 * 0.1**2 + 15 * 0.9**2) / 40)


def test_a_confidence_on_the_edge_of_bins_belongs_to_the_upper_one() -> None:
    calibration = Calibration(bins=4)
    confidence = np.array([0.5, 0.75, 1.0, 0.999, 0.74], dtype=np.float32)
    calibration.add(np.stack([confidence, 1 - confidence]).reshape(2, 5, 1, 1), np.zeros((5, 1, 1), dtype=np.uint8))
    assert calibration.voxels.tolist() == [0, 0, 2, 3]
    assert len(Calibration().voxels) == 15
