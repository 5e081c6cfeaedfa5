"""ANNOTATE: masks, patch table, checks."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from nnactive_nf.annotate.run import annotate, write
from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.labels import read_labels, write_labels
from nnactive_nf.core.query_table import write_query

ROOT = Path(__file__).parents[2]
SHAPES = {"a": (6, 8, 9), "b": (7, 7, 7), "c": (4, 5, 6), "t": (5, 5, 5)}
COLUMNS = ["rank", "case", "z", "y", "x", "dz", "dy", "dx", "score", "component"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("annotate")
    dataset = tiny.prepared(folder / "prepared", SHAPES, test=["t"])
    tiny.oracle(folder / "oracle.h5", dataset)
    return folder


def table(path: Path, *rows: tuple) -> Path:
    full = [(rank, *row, 0.5 / rank, "all") for rank, row in enumerate(rows, start=1)]
    write_query(path, pd.DataFrame(full, columns=COLUMNS))
    return path


def ask(folder: Path, query: Path, cycle: int = 0, labels: Path | None = None):
    return annotate(
        folder / "prepared", folder / "oracle.h5", query, strategy="power_bald:beta=5", node=f"n-c{cycle:02d}",
        cycle=cycle, labels_file=labels,
    )  # fmt: skip


def test_two_cycles(folder: Path, tmp_path: Path) -> None:
    truth = read_labels(folder / "oracle.h5", kind="oracle").masks
    first = ask(folder, table(tmp_path / "q0.csv", ("b", 0, 0, 0, 3, 3, 3), ("a", 1, 2, 3, 2, 3, 4)))
    write(tmp_path / "l0.h5", first)
    second = ask(
        folder, table(tmp_path / "q1.csv", ("b", 3, 0, 0, 4, 7, 7), ("c", 0, 0, 0, 4, 5, 6)), 1, tmp_path / "l0.h5"
    )
    write(tmp_path / "l1.h5", second)
    labels = read_labels(tmp_path / "l1.h5")
    assert (labels.dataset, labels.node, labels.cycle) == ("tiny", "n-c01", 1)
    assert sorted(labels.masks) == ["a", "b", "c"]
    assert labels.spacings_mm == dict.fromkeys("abc", (2.0, 1.0, 1.0))
    for case, mask in labels.masks.items():
        known = np.zeros(SHAPES[case], dtype=bool)
        for box in labels.boxes(case):
            known[box.slices] = True
        assert np.array_equal(mask[known], truth[case][known])
        assert (mask[~known] == labels.classes.ignore_value).all()
    patches = labels.patches
    assert patches["case"].tolist() == ["b", "a", "b", "c"]  # by rank, cycle after cycle
    assert patches["cycle"].tolist() == [0, 0, 1, 1]
    assert patches["score"].tolist() == [0.5, 0.25, 0.5, 0.25]
    assert set(patches["strategy"]) == {"power_bald:beta=5"} and set(patches["component"]) == {"all"}
    assert patches["voxels"].tolist() == [27, 24, 196, 120]
    for row in patches.itertuples():
        where = tuple(slice(a, a + n) for a, n in zip((row.z, row.y, row.x), (row.dz, row.dy, row.dx), strict=True))
        values = truth[row.case][where]
        assert [row.voxels_background, row.voxels_head, row.voxels_tail] == [(values == v).sum() for v in (0, 2, 7)]
        assert row.foreground_voxels == (values > 0).sum()
    before = read_labels(tmp_path / "l0.h5")
    assert before.patches.equals(patches.head(2))


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(4)))
def test_the_order_of_rows_does_not_change_the_masks(folder: Path, tmp_path_factory, order: list[int]) -> None:
    rows = [("a", 0, 0, 0, 3, 4, 4), ("a", 3, 0, 0, 3, 4, 4), ("b", 0, 0, 0, 7, 7, 7), ("a", 0, 4, 0, 6, 4, 9)]
    tmp = tmp_path_factory.mktemp("order")
    one = ask(folder, table(tmp / "one.csv", *rows)).digest()
    assert ask(folder, table(tmp / "two.csv", *(rows[i] for i in order))).digest() == one


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", 4, 0, 0, 3, 3, 3)], r"in case a lies outside the image \(6, 8, 9\)"),
        ([("a", -1, 0, 0, 3, 3, 3)], "in case a lies outside the image"),
        ([("a", 0, 0, 0, 0, 3, 3)], "in case a lies outside the image"),
        ([("z", 0, 0, 0, 3, 3, 3)], "case z is not in the pool of tiny"),
        ([("t", 0, 0, 0, 3, 3, 3)], "case t is not in the pool of tiny"),
        ([("a", 0, 0, 0, 3, 3, 3), ("a", 2, 2, 2, 3, 3, 3)], "in case a overlaps a patch labelled before"),
        ([], "holds no patches"),
    ],
)
def test_a_wrong_query_is_told(folder: Path, tmp_path: Path, rows: list, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        ask(folder, table(tmp_path / "wrong.csv", *rows))
    assert len(caught.value.lines) == 1 and "wrong.csv" in str(caught.value)


def test_all_that_is_wrong_is_told_at_once(folder: Path, tmp_path: Path) -> None:
    rows = [("z", 0, 0, 0, 1, 1, 1), ("a", 9, 0, 0, 1, 1, 1), ("b", 0, 0, 0, 1, 1, 1), ("b", 0, 0, 0, 1, 1, 1)]
    with pytest.raises(UserError) as caught:
        ask(folder, table(tmp_path / "wrong.csv", *rows))
    assert len(caught.value.lines) == 3


def test_overlap_with_an_earlier_cycle_is_told(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "l0.h5", ask(folder, table(tmp_path / "q0.csv", ("b", 0, 0, 0, 3, 3, 3))))
    ask(folder, table(tmp_path / "touches.csv", ("b", 3, 0, 0, 3, 3, 3)), 1, tmp_path / "l0.h5")
    with pytest.raises(UserError, match="overlaps a patch labelled before"):
        ask(folder, table(tmp_path / "q1.csv", ("b", 2, 2, 2, 3, 3, 3)), 1, tmp_path / "l0.h5")


def test_free_voxels_of_labelled_cases_become_background_if_asked(tmp_path: Path) -> None:
    empty = {"a": np.zeros((4, 4, 8), dtype=bool)}
    empty["a"][..., 5:] = True
    dataset = tiny.prepared(tmp_path / "prepared", {"a": (4, 4, 8), "b": (4, 4, 4)}, empty=empty)
    oracle = tiny.oracle(tmp_path / "oracle.h5", dataset, {"a": np.full((4, 4, 8), 2)})
    query = table(tmp_path / "q.csv", ("a", 0, 0, 4, 4, 4, 2))
    for asked in (False, True):
        labels = annotate(tmp_path / "prepared", oracle, query, strategy="s", node="n", cycle=0, free_background=asked)
        mask = labels.masks["a"]
        ignore = labels.classes.ignore_value
        assert sorted(labels.masks) == ["a"]
        assert (mask[..., 4:6] == 2).all()  # what is labelled is labelled
        assert (mask[..., :4] == ignore).all()
        assert (mask[..., 6:] == (0 if asked else ignore)).all()
        assert labels.patches["voxels_background"].tolist() == [0]


def test_labels_and_oracle_of_another_data_set_are_told(folder: Path, tmp_path: Path) -> None:
    other = tiny.prepared(tmp_path / "other", {"a": (3, 3, 3), "b": (7, 7, 7)})
    oracle = tiny.oracle(tmp_path / "oracle.h5", other)
    query = table(tmp_path / "q.csv", ("a", 0, 0, 0, 2, 2, 2))
    with pytest.raises(UserError, match=r"mask of case a has shape \(3, 3, 3\)"):
        annotate(folder / "prepared", oracle, query, strategy="s", node="n", cycle=0)
    labels = annotate(tmp_path / "other", oracle, query, strategy="s", node="n", cycle=0)
    write(tmp_path / "foreign.h5", labels)
    with pytest.raises(UserError, match=r"foreign\.h5: mask of case a has shape \(3, 3, 3\), the image has"):
        ask(folder, table(tmp_path / "q1.csv", ("b", 0, 0, 0, 2, 2, 2)), 1, tmp_path / "foreign.h5")


@pytest.mark.parametrize(
    "classes", [Classes(("background", "tail", "head"), (0, 2, 7)), Classes(("background", "head", "tail"), (0, 2, 8))]
)
def test_labels_of_other_classes_are_told(folder: Path, tmp_path: Path, classes: Classes) -> None:
    """The same cases and shapes, other names or values."""
    other = tiny.prepared(tmp_path / "other", SHAPES, test=["t"], classes=classes)
    tiny.oracle(tmp_path / "oracle.h5", other)
    query = table(tmp_path / "q.csv", ("a", 0, 0, 0, 2, 2, 2))
    before = annotate(tmp_path / "other", tmp_path / "oracle.h5", query, strategy="s", node="n", cycle=0)
    write(tmp_path / "foreign.h5", before)
    with pytest.raises(UserError, match=r"foreign\.h5: its classes are not those of the data set tiny"):
        ask(folder, table(tmp_path / "q1.csv", ("b", 0, 0, 0, 2, 2, 2)), 1, tmp_path / "foreign.h5")


def test_files_of_another_data_set_or_cycle_are_told(folder: Path, tmp_path: Path) -> None:
    """The same cases, shapes and classes, by another name; labels of a cycle too early."""
    write(tmp_path / "l0.h5", ask(folder, table(tmp_path / "q0.csv", ("b", 0, 0, 0, 3, 3, 3))))
    query = table(tmp_path / "q1.csv", ("b", 3, 0, 0, 2, 2, 2))
    with pytest.raises(UserError, match=r"l0\.h5: labels of cycle 0; cycle 2 is made from those before it"):
        ask(folder, query, 2, tmp_path / "l0.h5")
    before = read_labels(tmp_path / "l0.h5")
    before.dataset = "Other"
    write(tmp_path / "foreign.h5", before)
    with pytest.raises(UserError, match=r"foreign\.h5: belongs to the data set Other, this is tiny"):
        ask(folder, query, 1, tmp_path / "foreign.h5")
    for change, message in [
        ({"dataset": "Other"}, "belongs to the data set Other"),
        ({"classes": Classes(("background", "tail", "head"), (0, 2, 7))}, "its classes are not those of the data set"),
        ({"masks": {"b": np.full(SHAPES["b"], 3, np.uint8)}}, r"mask of case b holds undeclared values \[3\]"),
    ]:
        truth = replace(read_labels(folder / "oracle.h5", "oracle"), **change)
        write_labels(tmp_path / "oracle.h5", truth, "oracle")
        with pytest.raises(UserError, match=rf"oracle\.h5: {message}"):
            annotate(
                folder / "prepared", tmp_path / "oracle.h5", query, strategy="s", node="n-c01", cycle=1,
                labels_file=tmp_path / "l0.h5",
            )  # fmt: skip


def test_command(folder: Path, tmp_path: Path) -> None:
    query = table(tmp_path / "q.csv", ("b", 0, 0, 0, 3, 3, 3))

    def run(path: Path):
        command = [
            sys.executable, ROOT / "bin" / "annotate.py", "--prepared", folder / "prepared", "--oracle",
            folder / "oracle.h5", "--query", path, "--strategy", "random", "--node", "n-c00", "--cycle", 0,
            "--out", tmp_path / "labels.h5",
        ]  # fmt: skip
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)

    done = run(query)
    assert done.returncode == 0 and "1 patches labelled, 27 voxels" in done.stdout, done.stderr
    assert read_labels(tmp_path / "labels.h5").patches["strategy"].tolist() == ["random"]
    (tmp_path / "labels.h5").unlink()
    done = run(table(tmp_path / "bad.csv", ("z", 0, 0, 0, 3, 3, 3)))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and not (tmp_path / "labels.h5").exists()


def test_without_a_query_the_whole_pool_is_labelled(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "bin" / "annotate.py", "--prepared", folder / "prepared", "--oracle"]
    rest = [folder / "oracle.h5", "--node", "tiny-full-s1-c00", "--cycle", "0", "--out", tmp_path / "all.h5"]
    done = subprocess.run([str(word) for word in [*command, *rest]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    truth = read_labels(folder / "oracle.h5", kind="oracle").masks
    labels = read_labels(tmp_path / "all.h5")
    assert sorted(labels.masks) == sorted(truth) == ["a", "b", "c"]
    for case, mask in labels.masks.items():
        np.testing.assert_array_equal(mask, truth[case])
    assert list(labels.patches["case"]) == ["a", "b", "c"]
    assert list(labels.patches["voxels"]) == [truth[case].size for case in "abc"]
