"""Boxes and grids against the plainest definition of each."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnactive_nf.core.geometry import Box, as_shape, box_around, grid_starts, intersects, patch_size_in, slabs

small = st.integers(1, 6)
triples = st.tuples(small, small, small)
boxes = st.builds(Box, st.tuples(*[st.integers(0, 5)] * 3), triples)


def voxels_of(box: Box) -> set[tuple[int, ...]]:
    ranges = [range(a, a + n) for a, n in zip(box.start_zyx, box.size_zyx, strict=True)]
    return set(itertools.product(*ranges))


@given(boxes, boxes)
def test_boxes_intersect_when_they_share_a_voxel(a, b):
    assert intersects(a, b) == intersects(b, a) == bool(voxels_of(a) & voxels_of(b))


def test_boxes_that_touch_do_not_intersect():
    a = Box((0, 0, 0), (2, 2, 2))
    assert not intersects(a, Box((2, 0, 0), (2, 2, 2)))
    assert intersects(a, Box((1, 1, 1), (2, 2, 2)))


@given(boxes)
def test_slices_stop_and_voxels_agree(box):
    image = np.zeros((11, 11, 11), dtype=bool)
    image[box.slices] = True
    assert {tuple(int(i) for i in v) for v in np.argwhere(image)} == voxels_of(box)
    assert box.voxels == image.sum()
    assert box.stop_zyx == as_shape(np.argwhere(image).max(axis=0) + 1)


@given(boxes, triples)
def test_inside_means_every_voxel_is_in_the_image(box, shape):
    assert box.inside(shape) == all(all(i < n for i, n in zip(v, shape, strict=True)) for v in voxels_of(box))


def test_a_box_of_negative_start_or_no_size_is_not_inside():
    assert not Box((-1, 0, 0), (1, 1, 1)).inside((5, 5, 5))
    assert not Box((0, 0, 0), (0, 1, 1)).inside((5, 5, 5))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12))
def test_grid_starts_step_by_stride_and_end_at_the_last_position(length, size, stride):
    if size > length:
        with pytest.raises(ValueError, match="does not fit"):
            grid_starts(length, size, stride)
        return
    starts = grid_starts(length, size, stride)
    last = length - size
    assert starts.tolist() == sorted({*range(0, last + 1, stride), last})


@given(triples, triples, st.data())
def test_box_around_a_voxel_holds_it_and_lies_inside(patch, shape, data):
    size = patch_size_in(patch, shape)
    assert size == tuple(min(p, s) for p, s in zip(patch, shape, strict=True))
    centre = data.draw(st.tuples(*(st.integers(0, n - 1) for n in shape)))
    box = box_around(centre, size, shape)
    assert box.inside(shape)
    assert box.size_zyx == size
    assert centre in voxels_of(box)


def test_box_around_is_centred_where_it_can_be():
    assert box_around((5, 5, 5), (4, 3, 1), (11, 11, 11)).start_zyx == (3, 4, 5)
    assert box_around((0, 10, 5), (4, 4, 4), (11, 11, 11)).start_zyx == (0, 7, 3)


def test_as_shape_wants_three_values():
    assert as_shape(np.array([1, 2, 3])) == (1, 2, 3)
    with pytest.raises(ValueError):
        as_shape([1, 2])


@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(1, 60))
def test_slabs_hold_each_voxel_once_and_are_no_larger(shape: list[int], voxels: int) -> None:
    seen = np.zeros(shape, dtype=int)
    for slab in slabs(shape, voxels):
        assert seen[slab].size <= voxels
        seen[slab] += 1
    assert (seen == 1).all()
