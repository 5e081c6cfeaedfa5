"""Classes: values to indices and back, the ignore value, and what is no set of classes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError

foreground = st.lists(st.integers(1, 65534), min_size=1, max_size=8, unique=True)


def classes_of(values: list[int]) -> Classes:
    return Classes.of({"background": 0, **{f"class {v}": v for v in values}})


@given(foreground)
def test_background_comes_first_then_by_value(values):
    classes = classes_of(values)
    assert classes.values == (0, *sorted(values))
    assert classes.names == ("background", *(f"class {v}" for v in sorted(values)))
    assert list(classes.foreground) == list(range(1, len(values) + 1))
    assert classes.ignore_index == len(classes) == len(values) + 1


@given(foreground)
def test_ignore_value_is_none_of_the_values_and_fits_the_type(values):
    classes = classes_of(values)
    assert classes.ignore_value not in classes.values
    assert np.array([*classes.values, classes.ignore_value]).max() <= np.iinfo(classes.dtype).max
    assert classes.dtype == (np.uint8 if max(values) < 255 else np.uint16)


@given(foreground, st.data())
def test_values_to_indices_and_back(values, data):
    classes = classes_of(values)
    index = data.draw(hnp.arrays(np.int16, (2, 3, 2), elements=st.integers(0, classes.ignore_index)))
    mask = classes.to_value(index)
    assert mask.dtype == classes.dtype
    assert set(np.unique(mask)) <= {*classes.values, classes.ignore_value}
    np.testing.assert_array_equal(classes.to_index(mask), index)


def test_an_undeclared_value_has_the_index_minus_one():
    assert Classes.of({"background": 0, "organ": 2}).to_index(np.array([0, 1, 2, 255], dtype=np.uint8)).tolist() == [
        0, -1, 1, 2,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "no class has the value 0"),
        ({"organ": 1}, "no class has the value 0"),
        ({"background": 0}, "no foreground class"),
        ({"background": 0, "organ": 1, "tail": 1}, "share one value"),
    ],
)
def test_what_is_no_set_of_classes(labels, message):
    with pytest.raises(UserError, match=message):
        Classes.of(labels)
