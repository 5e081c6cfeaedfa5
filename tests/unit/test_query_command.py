"""The command: files in, query.csv and views.h5 out; replay; mistakes in one line."""

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
from nnactive_nf.report.gallery import Query, read_crops

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
        "--node", "tiny-main-x-s1", "--view-patches", 2, "--out", folder / "query.csv", "--views", folder / "views.h5",
        *more, *([folder / "u.h5"] if maps else []),
    ]  # fmt: skip
    for name in ("query.csv", "views.h5"):
        (folder / name).unlink(missing_ok=True)
    return CliRunner().invoke(COMMAND, list(map(str, command)))


def test_table_and_views(folder: Path) -> None:
    done = run(folder, "bald")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("bald: 6 patches in ")
    table = read_query(folder / "query.csv")
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert (table[["dz", "dy", "dx"]].to_numpy() == [4, 5, 6]).all()
    with h5py.File(folder / "u.h5") as maps, h5py.File(folder / "views.h5") as views:
        root = views.attrs
        assert root["format"] == "nnactive-nf/views" and root["map"] == "mutual_information"
        assert (root["dataset"], root["node"], root["cycle"], root["strategy"]) == ("tiny", "tiny-main-x-s1", 1, "bald")
        assert list(views["patches"]) == ["0001", "0002"]
        for rank, group in enumerate(views["patches"].values()):
            row, at = table.iloc[rank], group.attrs
            case = maps["cases"][row["case"]]
            information = np.maximum(case["predictive_entropy"][()] - case["expected_entropy"][()], 0)
            box = tuple(slice(a, a + n) for a, n in zip(row[["z", "y", "x"]], (4, 5, 6), strict=True))
            assert row["score"] == pytest.approx(information[box].mean(), abs=1e-6)
            assert (at["case"], at["score"], at["component"]) == (row["case"], row["score"], "all")
            assert at["start_zyx"].tolist() == row[["z", "y", "x"]].tolist()
            assert at["size_zyx"].tolist() == [4, 5, 6] and at["spacing_mm_zyx"].tolist() == [2, 1, 1]
            low = at["crop_start_zyx"]
            assert low.tolist() == [max(0, a - 12) for a in row[["z", "y", "x"]]]
            crop = tuple(slice(a, a + n) for a, n in zip(low, group["image"].shape, strict=True))
            assert [s.stop for s in crop] == [
                min(n, a + p + 12) for n, a, p in zip(SHAPES[row["case"]], row[["z", "y", "x"]], (4, 5, 6), strict=True)
            ]
            assert group["image"].dtype == np.uint8 and group["uncertainty"].dtype == np.float16
            assert np.allclose(group["uncertainty"][()], information[crop], atol=1e-3)
            assert group["image"][()].max() == 255


def test_views_show_the_image_on_the_image_grid(folder: Path) -> None:
    from nnactive_nf.core.dataset import Dataset

    assert run(folder, "random", maps=False).exit_code == 0
    dataset = Dataset.open(folder / "prepared")
    with h5py.File(folder / "views.h5") as views:
        assert views.attrs["map"] == ""
        group = views["patches"]["0001"]
        assert "uncertainty" not in group
        image = dataset.image(group.attrs["case"])[0]
        crop = tuple(slice(a, a + n) for a, n in zip(group.attrs["crop_start_zyx"], group["image"].shape, strict=True))
        assert np.corrcoef(image[crop].ravel(), group["image"][()].ravel())[0, 1] > 0.95


def test_large_surroundings_are_stored_coarser_and_read_in_place(tmp_path: Path) -> None:
    """301 voxels along x are shown as 100 of three each: means of the image, labels of the middle ones."""
    shape = (8, 20, 301)
    dataset = tiny.prepared(tmp_path / "prepared", {"a": shape, "t": (9, 9, 9)}, test=["t"])
    tiny.uncertainty(tmp_path / "u.h5", dataset, {"a": tiny.maps_of(np.random.default_rng(2), 2, 3, shape)})
    assert run(tmp_path, "bald", size=1, patch="4,5,150").exit_code == 0
    mask = np.random.default_rng(3).choice(np.array(tiny.CLASSES.values, dtype=np.uint8), shape)
    labels = Labels("tiny", "tiny-main-x-s1-c01", 1, tiny.CLASSES, {"a": mask}, spacings_mm={"a": (2, 1, 1)})
    write_labels(tmp_path / "labels.h5", labels)
    views, mask_file = tmp_path / "views.h5", tmp_path / "labels.h5"
    (crop,) = read_crops(Query("key", 1, ("tiny-main-x-s1",), views, mask_file, "bald", "", ("0001",)), 1)
    low = crop.crop_start_zyx[2]
    assert low == 0 and crop.stride_zyx == (1, 1, 3)
    depth, height, width = crop.image.shape
    assert width == 100 and crop.size_in_image_zyx == [depth, height, 300]
    in_image = tuple(slice(a, a + n) for a, n in zip(crop.crop_start_zyx, crop.size_in_image_zyx, strict=True))
    means = dataset.image("a")[0][in_image].reshape(depth, height, 100, 3).mean(-1)
    assert np.corrcoef(means.ravel(), crop.image.ravel())[0, 1] > 0.95
    with h5py.File(tmp_path / "u.h5") as maps:
        case = maps["cases"]["a"]
        information = np.maximum(case["predictive_entropy"][()] - case["expected_entropy"][()], 0)[in_image]
    assert crop.uncertainty is not None and crop.label is not None
    assert np.allclose(crop.uncertainty, information.reshape(depth, height, 100, 3).mean(-1), atol=1e-3)
    index = np.searchsorted(tiny.CLASSES.values, mask[in_image][..., 1::3])
    assert (crop.label == index + 1).all()


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
    assert not (folder / "query.csv").exists() and not (folder / "views.h5").exists()


def test_missing_maps_are_told(folder: Path, tmp_path: Path) -> None:
    done = run(folder, "bald", maps=False)
    assert done.exit_code == 2 and "needs the maps predictive_entropy, expected_entropy" in done.stderr
    done = run(folder, "bald", size=500)
    assert done.exit_code == 2 and "wants 500 patches, but the pool has only" in done.stderr
    tiny.prepared(tmp_path / "prepared", {**SHAPES, "d": (5, 5, 5)})
    (tmp_path / "u.h5").write_bytes((folder / "u.h5").read_bytes())
    done = run(tmp_path, "bald")
    assert done.exit_code == 2 and "2 cases have no uncertainty maps, the first is d" in done.stderr


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
    ],
)
def test_files_of_another_node_or_data_set_are_told(
    folder: Path, tmp_path: Path, what: str, changes: dict, message: str
) -> None:
    shutil.copy(folder / "u.h5", tmp_path)
    labels = Labels("tiny", "tiny-c00", 0, tiny.CLASSES)
    if what == "labels":
        labels = replace(labels, **changes)
    else:
        with h5py.File(tmp_path / "u.h5", "a") as file:
            file.attrs.update(changes)
    write_labels(tmp_path / "labels.h5", labels)
    settings = Settings("bald", seed=1, cycle=1, cycles=4, size=2, patch_zyx=(4, 5, 6))
    files = {"labels_file": tmp_path / "labels.h5", "uncertainty_files": [tmp_path / "u.h5"]}
    with pytest.raises(UserError, match=message):
        query(folder / "prepared", settings, **files)
