"""Labels files: round trip, the digest that trainings rest on, and every way of being broken."""

import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.labels import (
    PATCH_COLUMNS,
    Labels,
    class_column,
    each_mask,
    empty_patches,
    read_labels,
    read_patches,
    write_labels,
)

names = st.text(st.characters(categories=["L", "N"], include_characters="_- "), min_size=1, max_size=10)
finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def class_sets(draw) -> Classes:
    values = draw(st.lists(st.integers(1, 400), min_size=1, max_size=4, unique=True))
    return Classes.of({"background": 0, **{f"class {v}": v for v in values}})


@st.composite
def labels(draw) -> Labels:
    classes = draw(class_sets())
    cases = draw(st.lists(st.from_regex(r"[A-Za-z0-9_.-]{1,8}x", fullmatch=True), max_size=3, unique=True))
    values = st.sampled_from([*classes.values, classes.ignore_value])
    masks = {
        case: draw(hnp.arrays(classes.dtype, st.tuples(*[st.integers(1, 5)] * 3), elements=values)) for case in cases
    }
    counts = {class_column(name): st.integers(0, 99) for name in classes.names}
    numbers = {name: st.integers(0, 99) for name, kind in PATCH_COLUMNS.items() if kind == "int64"}
    texts = {name: names for name, kind in PATCH_COLUMNS.items() if kind == "str"}
    place = {"case": st.sampled_from(cases or [""]), **{axis: st.just(0) for axis in "zyx"}}
    place |= {f"d{axis}": st.just(1) for axis in "zyx"}
    row = st.fixed_dictionaries({**numbers, **texts, **place, **counts, "score": finite})
    empty = empty_patches(classes)
    patches = pd.DataFrame(draw(st.lists(row, max_size=3 if cases else 0)), columns=empty.columns).astype(
        empty.dtypes.to_dict()
    )
    spacings = {case: draw(st.tuples(*[st.floats(0.1, 9)] * 3)) for case in cases}
    return Labels(draw(names), draw(names), draw(st.integers(-1, 9)), classes, masks, patches, spacings)


@given(content=labels(), kind=st.sampled_from(["labels", "oracle", "reference"]))
def test_round_trip(content, kind, tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.h5"
    write_labels(path, content, kind=kind)
    again = read_labels(path, kind=kind, shapes={case: mask.shape for case, mask in content.masks.items()})
    assert (again.dataset, again.node, again.cycle, again.classes) == (
        content.dataset, content.node, content.cycle, content.classes,
    )  # fmt: skip
    assert list(again.masks) == sorted(content.masks)
    for case, mask in content.masks.items():
        assert again.masks[case].dtype == mask.dtype
        np.testing.assert_array_equal(again.masks[case], mask)
    assert again.spacings_mm == content.spacings_mm
    pd.testing.assert_frame_equal(again.patches, content.patches, check_exact=True)
    assert again.digest() == content.digest()


@pytest.fixture
def content() -> Labels:
    classes = Classes.of({"background": 0, "organ": 2, "tail": 5})
    masks = {
        "b": np.array([[[0, 2, 255]]], dtype=np.uint8),
        "a": np.full((2, 3, 4), 255, dtype=np.uint8),
    }
    rows = [
        {
            "cycle": 0,
            "case": "a",
            "z": 0,
            "y": 1,
            "x": 2,
            "dz": 1,
            "dy": 2,
            "dx": 2,
            "score": 0.5,
            "strategy": "random",
        },
        {"cycle": 1, "case": "b", "z": 0, "y": 0, "x": 0, "dz": 1, "dy": 1, "dx": 2, "score": 0.1, "strategy": "bald"},
    ]
    empty = empty_patches(classes)
    blank = dict.fromkeys(empty.columns, 0) | {"component": "all"}
    patches = pd.DataFrame([blank | row for row in rows]).astype(empty.dtypes.to_dict())
    return Labels("phantom", "n-c01", 1, classes, masks, patches, {"a": (2.5, 1.0, 1.0)})


@pytest.fixture
def path(content, tmp_path) -> Path:
    write_labels(tmp_path / "labels_c01.h5", content)
    return tmp_path / "labels_c01.h5"


def test_boxes_of_a_case(content):
    assert content.boxes("a") == [Box((0, 1, 2), (1, 2, 2))]
    assert content.boxes("nothing labelled") == []


def test_digest_sees_what_a_training_sees(content):
    before = content.digest()
    content.masks = dict(sorted(content.masks.items()))
    content.node, content.cycle, content.dataset = "other", 7, "other"
    content.patches["score"] = 3.0
    assert content.digest() == before

    content.masks["b"] = content.masks["b"].copy()
    content.masks["b"][0, 0, 0] = 5
    changed = content.digest()
    assert changed != before
    content.masks["c"] = content.masks.pop("b")
    assert content.digest() != changed


def test_digest_sees_the_classes(content):
    before = content.digest()
    content.classes = Classes.of({"background": 0, "organ": 2, "other": 5})
    assert content.digest() != before


def test_masks_of_an_empty_file_are_none(tmp_path, content):
    write_labels(tmp_path / "empty.h5", Labels("phantom", "start", -1, content.classes))
    again = read_labels(tmp_path / "empty.h5")
    assert again.masks == {}
    assert list(again.patches.columns) == [*PATCH_COLUMNS, "voxels_background", "voxels_organ", "voxels_tail"]


def refused(path: Path, message: str, **options) -> None:
    with pytest.raises(UserError) as error:
        read_labels(path, **options)
    assert re.search(message, str(error.value)), str(error.value)
    assert str(path) in str(error.value)
    assert len(error.value.lines) == 1


def test_another_kind_is_refused(path):
    refused(path, "expected 'nnactive-nf/oracle'", kind="oracle")


@pytest.mark.parametrize("version", [2, "two"])
def test_another_version_is_refused(path, version):
    with h5py.File(path, "a") as file:
        file.attrs["version"] = version
    refused(path, f"version {version} of nnactive-nf/labels, this code reads 1")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_a_truncated_file_is_refused(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(path, "truncated|damaged")


@pytest.mark.parametrize("name", ["class_names", "class_values", "dataset", "node", "cycle"])
def test_a_missing_attribute_is_told(path, name):
    with h5py.File(path, "a") as file:
        del file.attrs[name]
    refused(path, "damaged labels file")


@pytest.mark.parametrize("name", ["cases", "patches", "cases/a/mask", "patches/score", "patches/voxels_tail"])
def test_a_missing_part_is_told(path, name):
    with h5py.File(path, "a") as file:
        del file[name]
    refused(path, "damaged labels file")


@pytest.mark.parametrize("name", ["cases", "patches", "cases/a", "cases/a/mask"])
def test_a_part_of_another_kind_is_told(path, name):
    with h5py.File(path, "a") as file:
        as_group = isinstance(file[name], h5py.Dataset)
        del file[name]
        if as_group:
            file.create_group(name)
        else:
            file[name] = np.zeros(3)
    refused(path, "damaged labels file")


def test_columns_of_unequal_length_are_told(path):
    with h5py.File(path, "a") as file:
        del file["patches/score"]
        file["patches/score"] = [0.1, 0.2, 0.3]
    refused(path, "damaged labels file")


def test_compressed_data_that_cannot_be_read_are_told(path):
    with h5py.File(path, "a") as file:
        file["cases/a/mask"].id.write_direct_chunk((0, 0, 0), b"no gzip")
    refused(path, "damaged labels file")


def test_masks_one_by_one_are_those_of_the_whole_file_and_checked_alike(path):
    whole = read_labels(path)
    found = dict(each_mask(path, read_patches(path).classes))
    assert list(found) == sorted(whole.masks)
    assert all((found[case] == whole.masks[case]).all() for case in whole.masks)
    with h5py.File(path, "a") as file:
        file["cases/b/mask"][0, 0, 0] = 3
    with pytest.raises(UserError, match=r"mask of case b holds undeclared values \[3\]"):
        list(each_mask(path, whole.classes))
    with h5py.File(path, "a") as file:
        file["cases/a/mask"].id.write_direct_chunk((0, 0, 0), b"no gzip")
    with pytest.raises(UserError, match="damaged labels file"):
        list(each_mask(path, whole.classes))


def test_an_undeclared_value_is_told_with_its_case(path):
    with h5py.File(path, "a") as file:
        file["cases/b/mask"][0, 0, 0] = 3
    refused(path, r"mask of case b holds undeclared values \[3\]")


@pytest.mark.parametrize(
    "mask", [np.zeros((2, 3), np.uint8), np.zeros((2, 3, 4), np.float32), np.zeros((2, 3, 4), np.uint16)]
)
def test_a_mask_of_another_form_is_told(path, mask):
    with h5py.File(path, "a") as file:
        del file["cases/a/mask"]
        file["cases/a/mask"] = mask
    refused(path, "mask of case a is .*, not a 3D label mask")


def test_a_mask_of_another_shape_than_the_image_is_told(path):
    shapes = {"a": (2, 3, 4), "b": (1, 1, 4)}
    refused(path, r"mask of case b has shape \(1, 1, 3\), the image has \(1, 1, 4\)", shapes=shapes)


def test_a_case_that_is_not_in_the_data_set_is_told(path):
    refused(path, "case b is not in the data set", shapes={"a": (2, 3, 4)})


def test_a_file_is_not_touched_by_reading(path, tmp_path):
    shutil.copy(path, tmp_path / "copy.h5")
    path.chmod(0o444)
    read_labels(path)
    assert path.read_bytes() == (tmp_path / "copy.h5").read_bytes()
