"""EVALUATE's parts: measures against values worked out by hand, empty classes said, calibration against plain loops."""

from __future__ import annotations

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
