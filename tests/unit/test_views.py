"""Pictures of a query's patches: what is shown of image and maps, and where it lies."""

import runpy
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import tiny
from click.testing import CliRunner

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.labels import Labels, write_labels
from nnactive_nf.core.query_table import QUERY_TYPES, write_query
from nnactive_nf.core.shown_map import map_to_show
from nnactive_nf.report.gallery import Query, read_crops

COMMAND = runpy.run_path(str(Path(__file__).parents[2] / "bin" / "views.py"))["main"]
SHAPES = {"a": (10, 30, 31), "b": (12, 14, 13), "t": (9, 9, 9)}
NODE = "tiny-main-x-s1-c01"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("views")
    dataset = tiny.prepared(folder / "prepared", SHAPES, test=["t"], transpose=(1, 0, 2))
    rng = np.random.default_rng(1)
    tiny.uncertainty(folder / "u.h5", dataset, {case: tiny.maps_of(rng, 2, 3, SHAPES[case]) for case in dataset.pool})
    return folder


def run(folder: Path, strategy: str, rows: Sequence[tuple], maps: bool = True, patches: int = 2):
    """Rows are case, start, size, score, component; best first."""
    table = [(rank, case, *start, *size, score, part) for rank, (case, start, size, score, part) in enumerate(rows, 1)]
    write_query(folder / "query.csv", pd.DataFrame(table, columns=list(QUERY_TYPES)))
    (folder / "views.h5").unlink(missing_ok=True)
    command = [
        "--prepared", folder / "prepared", "--query", folder / "query.csv", "--strategy", strategy, "--node", NODE,
        "--cycle", 1, "--patches", patches, "--out", folder / "views.h5", *([folder / "u.h5"] if maps else []),
    ]  # fmt: skip
    return CliRunner().invoke(COMMAND, list(map(str, command)))


ROWS = [
    ("b", (1, 2, 3), (4, 5, 6), 0.5, "all"),
    ("a", (0, 20, 25), (4, 5, 6), -np.inf, "head"),
    ("a", (6, 0, 0), (4, 5, 6), 0.1, "all"),
]


def test_the_first_patches_with_image_and_map(folder: Path) -> None:
    done = run(folder, "bald", ROWS)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{NODE}: pictures of 2 patches\n"
    with h5py.File(folder / "u.h5") as maps, h5py.File(folder / "views.h5") as views:
        root = views.attrs
        assert root["format"] == "nnactive-nf/views" and root["map"] == "mutual_information"
        assert (root["dataset"], root["node"], root["cycle"], root["strategy"]) == ("tiny", NODE, 1, "bald")
        assert list(views["patches"]) == ["0001", "0002"]
        for (name, start, size, score, part), group in zip(ROWS, views["patches"].values(), strict=False):
            at, case = group.attrs, maps["cases"][name]
            information = np.maximum(case["predictive_entropy"][()] - case["expected_entropy"][()], 0)
            assert (at["case"], at["score"], at["component"]) == (name, score, part)
            assert (tuple(at["start_zyx"]), tuple(at["size_zyx"])) == (start, size)
            assert at["spacing_mm_zyx"].tolist() == [2, 1, 1]
            low = at["crop_start_zyx"]
            assert low.tolist() == [max(0, a - 12) for a in start]
            crop = tuple(slice(a, a + n) for a, n in zip(low, group["image"].shape, strict=True))
            assert [s.stop for s in crop] == [
                min(n, a + p + 12) for n, a, p in zip(SHAPES[name], start, size, strict=True)
            ]
            assert group["image"].dtype == np.uint8 and group["uncertainty"].dtype == np.float16
            assert np.allclose(group["uncertainty"][()], information[crop], atol=1e-3)
            assert group["image"][()].max() == 255


def test_images_are_shown_on_the_image_grid(folder: Path) -> None:
    assert run(folder, "random", ROWS, maps=False, patches=9).exit_code == 0
    dataset = Dataset.open(folder / "prepared")
    with h5py.File(folder / "views.h5") as views:
        assert views.attrs["map"] == ""
        assert len(views["patches"]) == 3
        for group in views["patches"].values():
            assert "uncertainty" not in group
            image = dataset.image(group.attrs["case"])[0]
            low, shape = group.attrs["crop_start_zyx"], group["image"].shape
            crop = tuple(slice(a, a + n) for a, n in zip(low, shape, strict=True))
            assert np.corrcoef(image[crop].ravel(), group["image"][()].ravel())[0, 1] > 0.95


def test_which_map_is_shown() -> None:
    both = {"expected_entropy", "predictive_entropy"}
    assert map_to_show("power_bald:beta=10", both) == "mutual_information"
    assert map_to_show("clasp_pe", {"predictive_entropy", "mean_probability"}) == "predictive_entropy"
    assert map_to_show("random", set()) == map_to_show("expected_dice", {"fold_probability"}) == ""
    # Of a strategy of one's own an entropy that it reads
    assert map_to_show("mine:power=2", both) == "predictive_entropy"
    assert map_to_show("mine", {"expected_entropy", "prediction"}) == "expected_entropy"
    assert map_to_show("mine", {"prediction"}) == map_to_show("mine", set()) == ""


def test_own_strategies_show_what_their_files_hold(folder: Path) -> None:
    assert run(folder, "mine", ROWS).exit_code == 0
    with h5py.File(folder / "views.h5") as views:
        assert views.attrs["map"] == "predictive_entropy"
        assert "uncertainty" in views["patches/0001"]


def test_large_surroundings_are_stored_coarser_and_read_in_place(tmp_path: Path) -> None:
    """301 voxels along x are shown as 100 of three each: means of the image, labels of the middle ones."""
    shape = (8, 20, 301)
    dataset = tiny.prepared(tmp_path / "prepared", {"a": shape, "t": (9, 9, 9)}, test=["t"])
    tiny.uncertainty(tmp_path / "u.h5", dataset, {"a": tiny.maps_of(np.random.default_rng(2), 2, 3, shape)})
    assert run(tmp_path, "bald", [("a", (2, 3, 70), (4, 5, 150), 1.0, "all")]).exit_code == 0
    mask = np.random.default_rng(3).choice(np.array(tiny.CLASSES.values, dtype=np.uint8), shape)
    labels = Labels("tiny", NODE, 1, tiny.CLASSES, {"a": mask}, spacings_mm={"a": (2, 1, 1)})
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
