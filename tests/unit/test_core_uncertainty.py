"""Uncertainty files: round trip over shards, and every way of being broken."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.uncertainty import MAPS, UncertaintyMaps, create_uncertainty, write_case

SHAPES = {"a": (3, 4, 5), "b": (2, 2, 2)}
HEAD = {"dataset": "phantom", "node": "n-c00", "cycle": 0, "folds": 2, "classes": 3, "checkpoints": ["x", "y"]}


def write(path: Path, cases: dict[str, dict[str, np.ndarray]]) -> Path:
    maps = sorted({name for held in cases.values() for name in held})
    with create_uncertainty(path, maps=maps, **HEAD) as file:
        for case, held in cases.items():
            write_case(file, case, held)
    return path


def some(shape=(3, 4, 5), value=0.25) -> dict[str, np.ndarray]:
    return {"predictive_entropy": np.full(shape, value, np.float32), "expected_entropy": np.zeros(shape, np.float32)}


@st.composite
def map_sets(draw):
    held = {}
    for name in draw(st.lists(st.sampled_from(sorted(set(MAPS) - {"fold_features"})), min_size=1, unique=True)):
        kind, lead = MAPS[name]
        width = {"": (), "C": (3,), "MC": (2, 3)}[lead]
        bits = np.dtype(kind).itemsize * 8
        values = st.integers(0, 255) if kind == "uint8" else st.floats(0, 1, width=bits)
        held[name] = draw(hnp.arrays(kind, (*width, *SHAPES["a"]), elements=values, fill=values))
    return held


@given(held=map_sets())
def test_round_trip_is_lossless(held, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("maps") / "u.h5", {"a": held})
    maps = UncertaintyMaps([path], SHAPES)
    assert maps.cases == ["a"]
    for name, values in held.items():
        again = maps.read("a", name)
        assert again.dtype == MAPS[name][0]
        np.testing.assert_array_equal(again, values)


def test_shards_are_one_whatever_their_order(tmp_path):
    one = write(tmp_path / "uncertainty_0.h5", {"a": some(value=0.1)})
    two = write(tmp_path / "uncertainty_1.h5", {"b": some((2, 2, 2), 0.2)})
    for paths in ([one, two], [two, one]):
        maps = UncertaintyMaps(paths, SHAPES)
        assert maps.cases == ["a", "b"]
        assert maps.read("b", "predictive_entropy")[0, 0, 0] == np.float32(0.2)


def test_the_head_says_what_the_maps_rest_on(tmp_path):
    path = write(tmp_path / "u.h5", {"a": some()})
    with h5py.File(path) as file:
        assert list(file.attrs["checkpoints"]) == ["x", "y"]
        assert file.attrs["folds"] == 2
        assert list(file.attrs["maps"]) == ["expected_entropy", "predictive_entropy"]


def test_feature_cell(tmp_path):
    features = np.arange(2 * 4 * 3, dtype=np.float32).reshape(2, 3, 2, 2)
    path = write(tmp_path / "u.h5", {"a": {"fold_features": features}})
    with h5py.File(path, "a") as file:
        file["cases/a/fold_features"].attrs["cell_zyx"] = (1, 2, 2)
    maps = UncertaintyMaps([path], SHAPES)
    np.testing.assert_array_equal(maps.read("a", "fold_features"), features)
    assert maps.feature_cell("a") == (1, 2, 2)


def test_a_broken_off_write_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), create_uncertainty(tmp_path / "u.h5", maps=["prediction"], **HEAD) as file:
        write_case(file, "a", {"prediction": np.zeros(SHAPES["a"])})
        raise RuntimeError("killed")
    assert list(tmp_path.iterdir()) == []


def refused(message: str, paths: list[Path], case: str = "a", name: str = "predictive_entropy") -> None:
    with pytest.raises(UserError, match=message) as error:
        UncertaintyMaps(paths, SHAPES).read(case, name)
    assert len(error.value.lines) == 1


def test_a_case_in_two_shards_is_told(tmp_path):
    paths = [write(tmp_path / f"u{i}.h5", {"a": some()}) for i in range(2)]
    refused("u1.h5: case a also stands in .*u0.h5", paths)


def test_a_case_without_maps_is_told(tmp_path):
    refused(
        "case b has no uncertainty maps; is a shard of PREDICT missing", [write(tmp_path / "u.h5", {"a": some()})], "b"
    )


def test_a_map_that_is_not_held_is_told(tmp_path):
    refused("case a has no map 'prediction', it holds", [write(tmp_path / "u.h5", {"a": some()})], name="prediction")


def test_a_foreign_case_is_told(tmp_path):
    refused("u.h5: case c is not in the data set", [write(tmp_path / "u.h5", {"c": some()})])


def test_another_shape_than_the_image_is_told(tmp_path):
    path = write(tmp_path / "u.h5", {"a": some((3, 4, 4))})
    refused(re.escape("of case a has shape (3, 4, 4), the image has (3, 4, 5)"), [path])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_told(tmp_path, value):
    held = some()
    held["predictive_entropy"][1, 2, 3] = value
    refused(
        "map 'predictive_entropy' of case a holds values that are not finite", [write(tmp_path / "u.h5", {"a": held})]
    )


def test_compressed_data_that_cannot_be_read_are_told(tmp_path):
    path = write(tmp_path / "u.h5", {"a": some()})
    with h5py.File(path, "a") as file:
        file["cases/a/predictive_entropy"].id.write_direct_chunk((0, 0, 0), b"no gzip")
    refused("u.h5: damaged uncertainty file", [path])


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_told(tmp_path, share):
    path = write(tmp_path / "u.h5", {"a": some()})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refused("u.h5: not a readable HDF5 file, it may be truncated", [path])


def test_what_to_do_where_files_were_emptied_is_told(tmp_path):
    """As --cleanup_work leaves them, staged into another task's folder by links."""
    whole = write(tmp_path / "work/c3/task/node/uncertainty_2.h5", {"c": some()})
    for folder in ("a1/task", "b2/task"):
        path = tmp_path / "work" / folder / "node" / f"uncertainty_{folder[1]}.h5"
        path.parent.mkdir(parents=True)
        with path.open("wb") as file:
            file.truncate(100_000)
        (tmp_path / path.name).symlink_to(path)
        (path.parents[1] / ".command.run").touch()
    told = re.escape(f"(rm -r {tmp_path}/work/a1/task {tmp_path}/work/b2/task) and run again with -resume")
    refused(told, [tmp_path / "uncertainty_1.h5", tmp_path / "uncertainty_2.h5", whole])
    (tmp_path / "work/a1/task/.command.run").unlink()
    refused(
        "uncertainty_1.h5 was emptied by --cleanup_work.* the work folder of that PREDICT",
        [tmp_path / "uncertainty_1.h5"],
    )


def test_another_format_and_version_are_told(tmp_path):
    path = write(tmp_path / "u.h5", {"a": some()})
    with h5py.File(path, "a") as file:
        file.attrs["version"] = 9
    refused("version 9 of nnactive-nf/uncertainty, this code reads 1", [path])
    with h5py.File(path, "a") as file:
        file.attrs["format"] = "nnactive-nf/labels"
    refused("format is 'nnactive-nf/labels', expected 'nnactive-nf/uncertainty'", [path])


@pytest.mark.parametrize("name", ["cases", "cases/a", "cases/a/predictive_entropy"])
@pytest.mark.parametrize("other", ["nothing", "group", "array"])
def test_a_part_that_is_missing_or_of_another_kind_is_told(tmp_path, name, other):
    path = write(tmp_path / "u.h5", {"a": some()})
    with h5py.File(path, "a") as file:
        del file[name]
        if other == "group":
            file.create_group(name)
        elif other == "array":
            file[name] = np.zeros(3)
    refused("u.h5|has no uncertainty maps", [path])
