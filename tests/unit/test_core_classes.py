"""Classes: values to indices and back, the ignore value, regions, and what is no set of classes."""

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


# Names whose alphabetical order is not that of the channels, and a label (4) that is painted over with another.
TUMOUR = {"background": 0, "whole": [1, 2, 4, 7], "core": [2, 7], "active": 7}
ORDER = [1, 2, 7]


def test_regions_are_named_counted_and_numbered_as_nnunet_numbers_its_channels():
    classes = Classes.of(TUMOUR, order=ORDER)
    assert (classes.names, classes.values) == (
        ("background", "label 1", "label 2", "label 4", "active"), (0, 1, 2, 4, 7),
    )  # fmt: skip
    assert classes.targets == classes.channels == ("whole", "core", "active")
    assert [*classes.named] == ["background", "whole", "core", "active"]
    assert [classes.described(index) for index in range(5)] == [
        "background", "label 1 (in whole)", "label 2 (in whole, core)", "label 4 (in whole)", "active (in whole, core)",
    ]  # fmt: skip
    mask = np.array([0, 0, 1, 2, 7, 4, 255], dtype=np.uint8)
    assert classes.counts(mask) == {"background": 2, "whole": 4, "core": 2, "active": 1}
    assert classes.held(np.array([255, 0, 2], dtype=np.uint8)) == [0, 1, 2]
    for name, count in classes.counts(mask).items():
        assert classes.mask_of(mask, name).sum() == count
    told = classes.for_nnunet(ignore=True)
    assert [*told["labels"].items()] == [
        ("background", 0), ("whole", [1, 2, 3, 4]), ("core", [2, 4]), ("active", 4), ("ignore", 5),
    ]  # fmt: skip
    assert told["regions_class_order"] == [1, 2, 4]


def test_nnunet_numbers_them_likewise():
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    for classes in (Classes.of(TUMOUR, order=ORDER), Classes.of({"background": 0, "b": 9, "a": 3})):
        told = classes.for_nnunet(ignore=True)
        manager = LabelManager(told["labels"], told.get("regions_class_order"))
        assert manager.has_regions == bool(classes.regions)
        assert manager.num_segmentation_heads == len(classes.channels)
        assert (manager.ignore_label, manager.all_labels) == (classes.ignore_index, list(range(len(classes))))
        if classes.regions:
            index = np.arange(len(classes))
            one_hot = np.stack([np.isin(index, np.atleast_1d(region)) for region in manager.foreground_regions])
            masks = np.stack([classes.mask_of(np.array(classes.values), name) for name in classes.targets])
            np.testing.assert_array_equal(one_hot, masks)
            painted = classes.to_value(manager.convert_probabilities_to_segmentation(one_hot.astype(np.float32)))
            assert painted.tolist() == [0, 1, 2, 1, 7]  # 4 lies where 1 lies
            for name, mask in zip(classes.targets, masks, strict=True):
                np.testing.assert_array_equal(classes.mask_of(painted, name), mask)


def test_classes_without_overlap_are_what_they_were():
    classes = Classes.of({"background": 0, "b": [9], "a": 3}, order="of no meaning")
    assert classes == Classes(("background", "a", "b"), (0, 3, 9))
    assert classes.targets == ("a", "b") and classes.channels == classes.names == tuple(classes.named)
    assert classes.for_nnunet(ignore=False) == {"labels": {"background": 0, "a": 1, "b": 2}}


@pytest.mark.parametrize(
    ("changed", "order", "message"),
    [
        ({"core": []}, ORDER, "class 'core' is an empty list"),
        ({"core": [2, 7.5]}, ORDER, "class 'core' holds 7.5, not a whole number"),
        ({"core": [2, True]}, ORDER, "class 'core' holds True"),
        ({"core": [2, "7"]}, ORDER, "class 'core' holds '7'"),
        ({"core": [2, 2, 7]}, ORDER, "class 'core' holds a value twice"),
        ({"core": [0, 2, 7]}, ORDER, "class 'core' holds 0 in a list"),
        ({"background": [0]}, ORDER, "class 'background' holds 0 in a list"),
        ({"core": [2, 65535]}, ORDER, "must lie between 0 and 65534"),
        ({"core": [-1, 7]}, ORDER, "class values must"),
        ({"core": [7]}, ORDER, "regions 'core' and 'active' are of the same values"),
        ({"core": [1, 2, 4, 7]}, ORDER, "regions 'whole' and 'core' are of the same values"),
        ({"Whole": [1, 2]}, [*ORDER, 1], "they differ in capitals"),
        ({"mean": [1, 2]}, [*ORDER, 1], "class 'mean': this name is taken"),
        ({"empty": 0}, ORDER, "two classes share one value"),
        ({}, None, "'regions_class_order' wants a label value for each of the 3 regions"),
        ({}, [1, 2], "'regions_class_order' wants a label value for each"),
        ({}, {"whole": 1}, "'regions_class_order' wants a label value for each"),
        ({}, [1, 2, "7"], "'regions_class_order' wants whole numbers"),
        ({}, [1, 2, True], "'regions_class_order' wants whole numbers"),
        ({}, [7, 2, 1], "paints region 'active' with 1, not in it"),
        ({}, [1, 3, 7], "paints region 'core' with 3, not in it"),
        ({}, [2, 2, 7], "paints voxels of 1 with 2 in the end, by which region 'core' is wrong"),
        ({}, [1, 7, 7], "paints voxels of 2 with 7 in the end, by which region 'active' is wrong"),
    ],
)  # fmt: skip
def test_what_is_no_set_of_regions(changed, order, message):
    with pytest.raises(UserError, match=message):
        Classes.of(TUMOUR | changed, order=order)


def test_a_region_inside_one_that_is_listed_later_is_refused():
    with pytest.raises(UserError, match="list a region before those inside it"):
        Classes.of({"background": 0, "active": 7, "whole": [1, 7]}, order=[7, 1])


@pytest.mark.parametrize(
    ("names", "values", "regions", "message"),
    [
        (("background", "label 1", "b"), (0, 1, 2), [["a", [1, 2]], ["b", [2], 2]], "a region is a name"),
        (("background", "label 1", "b"), (0, 1, 2), [["a", 3, 1]], "a region is a name"),
        (("background", "label 1", "label 3"), (0, 1, 3), [["a", [1, 2], 1]], "the labels are not those"),
        (("background", "x", "label 2"), (0, 1, 2), [["a", [1, 2], 1]], "the labels are not those"),
    ],
)
def test_regions_of_a_file_are_checked(names, values, regions, message):
    with pytest.raises(UserError, match=message):
        Classes.read(names, values, "file", regions)
