"""Files are written whole or not at all; a file of another kind is told in one line."""

import json
import re

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnactive_nf.core.errors import UserError, reports_user_errors
from nnactive_nf.core.files import read_json, whole_file, write_json
from nnactive_nf.core.hdf5 import create_hdf5, open_hdf5
from nnactive_nf.core.query_table import QUERY_TYPES, read_query, write_query


def test_a_broken_off_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]
    assert path.read_text() == "old"


def test_a_whole_write_replaces_the_old_file_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b" / "table.csv"
    for text in ("old", "new"):
        with whole_file(path) as temporary:
            temporary.write_text(text)
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["table.csv"]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    import os

    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_json_round_trip_and_refusal_of_nan(tmp_path):
    write_json(tmp_path / "x.json", {"b": [1, 2.5, None], "a": "ä"})
    assert read_json(tmp_path / "x.json") == {"a": "ä", "b": [1, 2.5, None]}
    with pytest.raises(ValueError):
        write_json(tmp_path / "x.json", {"dice": float("nan")})
    assert json.loads((tmp_path / "x.json").read_text())["a"] == "ä"


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\x00"])
def test_a_file_that_is_no_json_is_named(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(f"{path}: not a JSON file")):
        read_json(path)


def test_missing_files_are_named(tmp_path):
    for read in (read_json, read_query, lambda path: open_hdf5(path, "labels", 1).__enter__()):
        with pytest.raises(UserError, match=re.escape(f"{tmp_path}/x: no such file")):
            read(tmp_path / "x")


def test_hdf5_names_itself(tmp_path):
    path = tmp_path / "x.h5"
    with create_hdf5(path, "labels", 3, {"cycle": 2}) as file:
        file["values"] = [1, 2]
    with open_hdf5(path, "labels", 3) as file:
        assert file.attrs["format"] == "nnactive-nf/labels"
        assert file.attrs["version"] == 3
        assert file.attrs["created_by"].startswith("nnactive-nf ")
        assert file.attrs["cycle"] == 2


@pytest.mark.parametrize(
    ("kind", "version", "message"),
    [
        ("uncertainty", 3, "format is 'nnactive-nf/labels', expected 'nnactive-nf/uncertainty'"),
        ("labels", 4, "version 3"),
    ],
)
def test_hdf5_of_another_kind_or_version_is_refused(tmp_path, kind, version, message):
    path = tmp_path / "x.h5"
    with create_hdf5(path, "labels", 3, {}):
        pass
    with pytest.raises(UserError, match=message), open_hdf5(path, kind, version):
        pass


def test_hdf5_of_another_program_is_refused(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(UserError, match="format is None"), open_hdf5(path, "labels", 1):
        pass


@pytest.mark.parametrize("keep", [0, 10, 400])
def test_truncated_hdf5_is_told_as_truncated(tmp_path, keep):
    path = tmp_path / "x.h5"
    with create_hdf5(path, "labels", 1, {}) as file:
        file["values"] = np.arange(1000)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=re.escape(f"{path}: not a readable HDF5 file, it may be truncated")):
        open_hdf5(path, "labels", 1).__enter__()


def test_user_errors_become_lines_and_status_2(capsys):
    @reports_user_errors
    def command():
        raise UserError("first", "second")

    with pytest.raises(SystemExit) as end:
        command()
    assert end.value.code == 2
    assert capsys.readouterr().err == "ERROR: first\nERROR: second\n"


def test_other_errors_are_not_hidden():
    @reports_user_errors
    def command():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command()


rows = st.fixed_dictionaries(
    {
        "case": st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
        | st.sampled_from(["NA", "007", "1e3"]),
        **{name: st.integers(0, 500) for name in ("z", "y", "x", "dz", "dy", "dx")},
        "score": st.floats(allow_nan=False),
        "component": st.sampled_from(["all", "organ", "None", "null", "a, b"]),
    }
)


@given(table=st.lists(rows, max_size=4))
def test_query_round_trip_to_the_last_bit(table, tmp_path_factory):
    path = tmp_path_factory.mktemp("query") / "query.csv"
    query = pd.DataFrame(table, columns=list(QUERY_TYPES)).assign(rank=range(1, len(table) + 1)).astype(QUERY_TYPES)
    write_query(path, query)
    pd.testing.assert_frame_equal(read_query(path), query, check_exact=True)


@pytest.mark.parametrize(
    "text",
    ["", "a,b\n1,2\n", "rank,case,z,y,x,dz,dy,dx,score,component\n1,a,one,2,3,4,5,6,0.5,all\n", "\x00\x01"],
    ids=["empty", "other columns", "no number", "binary"],
)
def test_a_file_that_is_no_query_is_named(tmp_path, text):
    path = tmp_path / "query.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(f"{path}: not a query table")):
        read_query(path)
