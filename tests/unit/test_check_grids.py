"""Which grids of a case count as one, at the tolerances' borders, without files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnactive_nf.check import grids
from nnactive_nf.core.classes import Classes
from nnactive_nf.core.heads import Head
from nnactive_nf.core.raw import RawCase, RawDataset

IMAGE = Head(1, (4, 5, 6), (4.0, 2.0, 1.0), (10.0, 20.0, 30.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
CASE = RawCase("a", (Path("image"),), Path("label"), Path("free"))


def problems(monkeypatch: pytest.MonkeyPatch, **heads: Head) -> list[str]:
    """What CHECK says of a case whose files `image`, `label`, `free` and maybe `more` (a channel) have these heads."""
    known = {"image": IMAGE, "label": IMAGE, "free": IMAGE} | heads
    case = replace(CASE, images=tuple(Path(name) for name in ("image", "more") if name in known))
    monkeypatch.setattr(grids, "read_head", lambda path, reader, label: known[path.name])
    monkeypatch.setattr(RawCase, "labelled", True)
    channels = tuple(f"channel {i}" for i in range(len(case.images)))
    raw = RawDataset(Path(), Classes(("background", "a"), (0, 1)), channels, ".nii.gz", object, (case,))
    head, found = grids.case_head(raw, case)
    assert head == known["image"]
    return found


def stretched(axis: int, by: float) -> Head:
    return replace(IMAGE, spacing_mm=tuple(np.multiply(IMAGE.spacing_mm, [1 + by * (i == axis) for i in range(3)])))


def moved(axis: int, by: float) -> Head:
    return replace(IMAGE, origin_xyz=tuple(np.add(IMAGE.origin_xyz, [by * (i == axis) for i in range(3)])))


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1, 1])
def test_labels_and_free_masks_may_differ_by_a_thousandth_and_half_a_voxel(
    axis: int, sign: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = IMAGE.spacing_mm[2 - axis] / 2
    for name, role in (("label", "label"), ("free", "free mask")):
        for head in (stretched(axis, sign * 0.0009), moved(axis, sign * half * 0.98)):
            assert problems(monkeypatch, **{name: head}) == []
        for head, what in ((stretched(axis, sign * 0.0011), "spacing"), (moved(axis, sign * half * 1.02), "origin")):
            (line,) = problems(monkeypatch, **{name: head})
            assert line.startswith(f"case a: {role} has {what} (")


def test_channels_may_not_differ_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(monkeypatch, more=stretched(1, 0.9e-5)) == []
    (line,) = problems(monkeypatch, more=stretched(1, 1.1e-5))
    assert line == "case a: image of channel 1 has spacing (4, 2, 1) mm, image has (4, 2, 1) mm (z, y, x)"
    (line,) = problems(monkeypatch, more=replace(IMAGE, channels=2))
    assert line == "case a: image has 3 channels, dataset.json declares 2"


def test_origins_of_tiny_voxels_are_told_apart_as_far_as_files_tell_them(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = replace(IMAGE, spacing_mm=(1e-3,) * 3)
    near, far = (replace(tiny, origin_xyz=(10.0 + by, 20.0, 30.0)) for by in (0.9e-3, 1.1e-3))
    assert problems(monkeypatch, image=tiny, label=near, free=tiny) == []
    assert len(problems(monkeypatch, image=tiny, label=far, free=tiny)) == 1


def test_directions_may_differ_by_a_hundredth(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = (replace(IMAGE, direction=(1, by, 0, 0, 1, 0, 0, 0, 1)) for by in (0.0098, 0.0102))
    assert problems(monkeypatch, label=near) == []
    (line,) = problems(monkeypatch, label=far)
    assert line.startswith("case a: label has direction (1, 0.0102, 0, ")


@pytest.mark.parametrize("lacks", ["origin_xyz", "direction"])
def test_a_format_without_origins_or_directions_has_sizes_only(lacks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = replace(IMAGE, **{lacks: None})
    turned = replace(IMAGE, origin_xyz=(0.0, 0.0, 0.0), direction=(0, 1, 0, 1, 0, 0, 0, 0, 1))
    assert problems(monkeypatch, image=bare, label=turned, free=bare) == []
    assert problems(monkeypatch, label=replace(bare, **{"origin_xyz": None, "direction": None})) == []
    assert len(problems(monkeypatch, label=turned)) == 1


def test_a_label_or_free_mask_of_several_volumes_is_told_beside_its_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, role in (("label", "label"), ("free", "free mask")):
        assert problems(monkeypatch, **{name: replace(IMAGE, channels=2, shape_zyx=(4, 5, 7))}) == [
            f"case a: {role} holds 2 volumes, one is wanted",
            f"case a: {role} has shape (4, 5, 7), image has (4, 5, 6) (z, y, x)",
        ]
