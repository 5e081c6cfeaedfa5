"""The command: files in, query.csv out; replay; mistakes in one line."""

import json
import runpy
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import tiny
from click.testing import CliRunner

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.labels import Labels, write_labels
from nnactive_nf.core.query_table import read_query
from nnactive_nf.query.run import Settings, query

COMMAND = runpy.run_path(str(Path(__file__).parents[2] / "bin" / "query.py"))["main"]
SHAPES = {"a": (10, 30, 31), "b": (12, 14, 13), "c": (10, 11, 12), "t": (9, 9, 9)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("query")
    dataset = tiny.prepared(folder / "prepared", SHAPES, test=["t"], transpose=(1, 0, 2))
    tiny.oracle(folder / "oracle.h5", dataset)
    rng = np.random.default_rng(1)
    maps = {case: tiny.maps_of(rng, 2, 3, SHAPES[case]) for case in dataset.pool}
    tiny.uncertainty(folder / "u.h5", dataset, maps)
    return folder


def run(folder: Path, strategy: str, *more: str, size=6, cycle=1, maps=True, patch="4,5,6"):
    command = [
        "--prepared", folder / "prepared", "--strategy", strategy,
        "--seed", 1, "--cycle", cycle, "--cycles", 4, "--size", size, "--patch-size", patch, "--stride", "1,2,2",
        "--node", "tiny-main-x-s1-c01", "--out", folder / "query.csv", "--places", folder / "places",
        *more, *([folder / "u.h5"] if maps else []),
    ]  # fmt: skip
    (folder / "query.csv").unlink(missing_ok=True)
    shutil.rmtree(folder / "places", ignore_errors=True)
    return CliRunner().invoke(COMMAND, list(map(str, command)))


def test_the_table(folder: Path) -> None:
    done = run(folder, "bald")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("tiny-main-x-s1-c01 by bald: 6 patches in ")
    table = read_query(folder / "query.csv")
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert (table[["dz", "dy", "dx"]].to_numpy() == [4, 5, 6]).all()
    with h5py.File(folder / "u.h5") as maps:
        for row in table.itertuples():
            case = maps["cases"][row.case]
            information = np.maximum(case["predictive_entropy"][()] - case["expected_entropy"][()], 0)
            box = tuple(slice(a, a + n) for a, n in zip((row.z, row.y, row.x), (4, 5, 6), strict=True))
            assert row.score == pytest.approx(information[box].mean(), abs=1e-6)


def test_patches_have_places_in_mm(folder: Path) -> None:
    assert run(folder, "bald").exit_code == 0
    table = read_query(folder / "query.csv")
    places = pd.read_csv(folder / "places" / "mm.csv")
    assert places[["rank", "case"]].to_numpy().tolist() == table[["rank", "case"]].to_numpy().tolist()
    assert (places[["size_x", "size_y", "size_z"]] == [6.0, 5.0, 8.0]).all(axis=None)  # of voxels of 2 x 1 x 1 mm
    np.testing.assert_allclose(places["corner0_z"], 2 * (table["z"] - 0.5))
    np.testing.assert_allclose(places["corner7_x"], table["x"] + table["dx"] - 0.5)
    for case, rows in table.groupby("case"):
        regions = json.loads((folder / "places" / f"{case}.mrk.json").read_text())["markups"]
        assert [region["name"] for region in regions] == [f"bald c01 {rank}" for rank in rows["rank"]]


def test_minus_infinity_goes_through_the_table(folder: Path, tmp_path: Path) -> None:
    dataset = tiny.prepared(tmp_path / "prepared", {"a": (4, 5, 18)})
    maps = {name: np.zeros((4, 5, 18), dtype=np.float32) for name in ("predictive_entropy", "expected_entropy")}
    maps["predictive_entropy"][..., 13] = 1
    tiny.uncertainty(tmp_path / "u.h5", dataset, {"a": maps})
    done = run(tmp_path, "power_bald", size=3)
    assert done.exit_code == 0, done.stderr
    assert ",-inf,all" in (tmp_path / "query.csv").read_text()
    table = read_query(tmp_path / "query.csv")
    assert np.isfinite(table["score"][0]) and table["score"].tolist()[1:] == [-np.inf] * 2
    assert table["x"][0] in (8, 10, 12) and table["x"].tolist()[1:] == sorted(table["x"].tolist()[1:])


def test_replay(folder: Path, tmp_path: Path) -> None:
    assert run(folder, "power_bald").exit_code == 0
    old = tmp_path / "old-s1"
    old.mkdir()
    first = (folder / "query.csv").read_bytes()
    (old / "query_c01.csv").write_bytes(first)
    text = f"replay:path={tmp_path}/old-s{{seed}}"
    assert run(folder, text, maps=False).exit_code == 0
    assert (folder / "query.csv").read_bytes() == first
    assert run(folder, text, size=4, maps=False).exit_code == 0
    assert len(read_query(folder / "query.csv")) == 4
    for change, message in [
        (lambda t: t.assign(case="z"), "case z is not in the pool of tiny"),
        (lambda t: t.assign(case="t"), "case t is not in the pool of tiny"),
        (lambda t: t.assign(x=99), "lies outside its image"),
        (lambda t: t.assign(z=0, y=0, x=0, case="a"), "intersects a labelled one"),
        (lambda t: t.head(5), "holds 5 patches, the query wants 6"),
    ]:
        change(pd.read_csv(BytesIO(first))).to_csv(old / "query_c01.csv", index=False)
        done = run(folder, text, maps=False)
        assert done.exit_code == 2 and message in done.stderr and "query_c01.csv" in done.stderr
    done = run(folder, text, cycle=2, maps=False)
    assert done.exit_code == 2 and "query_c02.csv: no such file" in done.stderr


@pytest.mark.parametrize(
    ("strategy", "more", "message"),
    [
        ("blad", [], "did you mean 'bald'"),
        ("bald", ["--start"], "cannot be the start strategy"),
        ("random_fg33", [], "give --oracle"),
        ("bald", ["--labels", "nothing.h5"], "nothing.h5: no such file"),
        ("mine", ["--strategy-file", "nothing.py"], "nothing.py: no such file"),
    ],
)
def test_mistakes_are_one_line(folder: Path, strategy: str, more: list[str], message: str) -> None:
    done = run(folder, strategy, *more)
    assert done.exit_code == 2
    assert message in done.stderr and done.stderr.count("\n") == 1 and done.stderr.startswith("ERROR: ")
    assert not (folder / "query.csv").exists()


def test_missing_maps_are_told(folder: Path, tmp_path: Path) -> None:
    done = run(folder, "bald", maps=False)
    assert done.exit_code == 2 and "needs the maps predictive_entropy, expected_entropy" in done.stderr
    done = run(folder, "bald", size=500)
    assert done.exit_code == 2 and "wants 500 patches, but the pool has only" in done.stderr
    tiny.prepared(tmp_path / "prepared", {**SHAPES, "d": (5, 5, 5), "bb": (5, 5, 5)})
    (tmp_path / "u.h5").write_bytes((folder / "u.h5").read_bytes())
    done = run(tmp_path, "bald")
    assert done.exit_code == 2 and "3 cases have no uncertainty maps, the first is bb" in done.stderr


def test_whole_images_and_slices(folder: Path) -> None:
    assert run(folder, "predictive_entropy", size=3, patch="whole_image").exit_code == 0
    table = read_query(folder / "query.csv")
    assert {row.case: (row.dz, row.dy, row.dx) for row in table.itertuples()} == {c: SHAPES[c] for c in "abc"}
    done = run(folder, "predictive_entropy", size=4, patch="whole_image")
    assert done.exit_code == 2 and "only 3 candidates" in done.stderr
    assert run(folder, "clasp_pe", patch="1,6,6").exit_code == 0
    assert set(read_query(folder / "query.csv")["dz"]) == {1}
    done = run(folder, "clasp_pe", patch="1,6")
    assert done.exit_code == 2 and "is not three whole numbers" in done.stderr


@pytest.mark.parametrize(
    ("what", "changes", "message"),
    [
        ("maps", {"cycle": 1}, r"u\.h5: maps of cycle 1, asked for is 0"),
        ("maps", {"dataset": "Other"}, r"u\.h5: maps of data set Other, asked for is tiny"),
        ("maps", {"classes": 4}, r"u\.h5: maps of number of classes 4, asked for is 3"),
        ("maps", {"node": "another"}, r"u\.h5: maps of node another, asked for is tiny-c00"),
        ("labels", {"dataset": "Other"}, r"labels\.h5: belongs to the data set Other, this is tiny"),
        ("labels", {"cycle": 1}, r"labels\.h5: labels of cycle 1; the query is for cycle 1"),
        ("oracle", {"dataset": "Other"}, r"oracle\.h5: belongs to the data set Other, this is tiny"),
    ],
)
def test_files_of_another_node_or_data_set_are_told(
    folder: Path, tmp_path: Path, what: str, changes: dict, message: str
) -> None:
    for name in ("u.h5", "oracle.h5"):
        shutil.copy(folder / name, tmp_path)
    labels = Labels("tiny", "tiny-c00", 0, tiny.CLASSES)
    if what == "labels":
        labels = replace(labels, **changes)
    else:
        with h5py.File(tmp_path / ("u.h5" if what == "maps" else "oracle.h5"), "a") as file:
            file.attrs.update(changes)
    write_labels(tmp_path / "labels.h5", labels)
    strategy = "random_fg33" if what == "oracle" else "bald"
    settings = Settings(strategy, seed=1, cycle=1, cycles=4, size=2, patch_zyx=(4, 5, 6))
    files = {"labels_file": tmp_path / "labels.h5", "uncertainty_files": [tmp_path / "u.h5"]}
    files |= {"oracle_file": tmp_path / "oracle.h5"}
    with pytest.raises(UserError, match=message):
        query(folder / "prepared", settings, **files)
