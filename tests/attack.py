"""Bad inputs: one small file for each reader of the workflow, ways to spoil it, and what came of it.

`python tests/attack.py` prints how many bad inputs ended how; with a number, so many mutated files on top. The tests in
`tests/unit/test_bad_inputs.py` want a line for each bad input, and a line or a right reading for each mutation.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import shutil
import signal
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1] / "bin")]

import nibabel
import numpy as np
import plan as plans
import SimpleITK as sitk
import study
import tiny
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_file_ending

from nnactive_nf.analyse.folders import read_any, read_tables
from nnactive_nf.analyse.study import read_study
from nnactive_nf.analyse.write import analyse
from nnactive_nf.annotate.run import annotate
from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.design import Design
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.given_folds import read_folds
from nnactive_nf.core.heads import read_head
from nnactive_nf.core.images import read_voxels
from nnactive_nf.core.labels import Labels, read_labels, write_labels
from nnactive_nf.core.nnunet import load_fold, load_torch, save_fold
from nnactive_nf.core.patients import case_groups
from nnactive_nf.core.query_table import read_query, write_query
from nnactive_nf.core.raw import list_raw
from nnactive_nf.core.strategy_file import load_strategies
from nnactive_nf.core.uncertainty import MAPS, UncertaintyMaps
from nnactive_nf.forecast.plan import read_plan
from nnactive_nf.forecast.trace import read_trace
from nnactive_nf.query.run import Settings, as_table, query
from nnactive_nf.report.gallery import find_queries, read_crops
from nnactive_nf.report.tables import Tables

SECONDS = 90  # after which a reader hangs; HDF5 files are looked through for 60 at most
SHAPES = {"a": (5, 6, 7), "b": (5, 6, 7), "c": (6, 6, 6), "t": (4, 5, 6)}
IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".tiff")
CURVES = {("phantom", "main"): {"random": {1: [0.5, 0.6]}, "bald": {1: [0.5, 0.7]}}}


@dataclass(frozen=True)
class Reader:
    """A file below the folder that `make_files` fills, and how it is read; `read` gets that folder."""

    file: str
    read: Callable[[Path], Any]


def _image_reader(ending: str) -> Reader:
    def read(folder: Path) -> Any:
        path = folder / f"image{ending}"
        reader = determine_reader_writer_from_file_ending(ending, verbose=False)
        return read_head(path, reader), read_voxels(path, reader)

    return Reader(f"image{ending}", read)


def _maps(folder: Path) -> Any:
    maps = UncertaintyMaps([folder / "u.h5"], SHAPES)
    maps.check_owner("tiny", 3, 0, "tiny-c00")
    maps.feature_cell("a")
    return [maps.read(case, name).sum() for case in ("a", "b", "c") for name in MAPS]


def _views(folder: Path) -> Any:
    design = Design.read(folder / "study" / "design.json")
    return [read_crops(found, 9) for found in find_queries(design, folder / "study" / "views", None)]


def _study(folder: Path, **parts: bool) -> Any:
    made = folder / "study"
    given = {name: made / name for name, wanted in parts.items() if wanted}
    return read_study(Design.read(made / "design.json"), made / "metrics", **given)


READERS: dict[str, Reader] = {
    "dataset.json": Reader("raw/dataset.json", lambda f: list_raw(f / "raw")),
    "prepared dataset.json": Reader("prepared/dataset.json", lambda f: Dataset.open(f / "prepared")),
    "cases.csv": Reader("prepared/cases.csv", lambda f: Dataset.open(f / "prepared").shapes),
    "plans.json": Reader("prepared/plans.json", lambda f: Dataset.open(f / "prepared").plans),
    "nnunet_dataset.json": Reader("prepared/nnunet_dataset.json", lambda f: Dataset.open(f / "prepared").nnunet_json),
    "properties": Reader("prepared/network/a.pkl", lambda f: Dataset.open(f / "prepared").properties("a")),
    "network image": Reader("prepared/network/a.b2nd", lambda f: Dataset.open(f / "prepared").image("a")),
    "empty.h5": Reader("prepared/empty.h5", lambda f: Dataset.open(f / "prepared").empty_mask("a")),
    "labels": Reader("labels.h5", lambda f: read_labels(f / "labels.h5", shapes=SHAPES)),
    "oracle": Reader(
        "oracle.h5",
        lambda f: annotate(f / "prepared", f / "oracle.h5", f / "query.csv", strategy="s", node="tiny-c00", cycle=0),
    ),
    "reference": Reader("reference.h5", lambda f: read_labels(f / "reference.h5", "reference", SHAPES)),
    "uncertainty": Reader("u.h5", _maps),
    "query.csv": Reader("query.csv", lambda f: read_query(f / "query.csv")),
    "groups.csv": Reader("groups.csv", lambda f: case_groups(["a", "b"], f / "groups.csv", None)),
    "folds.json": Reader("folds.json", lambda f: read_folds(f / "folds.json", 2)),
    "folds.csv": Reader("folds.csv", lambda f: read_folds(f / "folds.csv", 2)),
    "checkpoint": Reader("checkpoint.pth", lambda f: load_fold(f / "checkpoint.pth")),
    "state": Reader("latest.pth", lambda f: load_torch(f / "latest.pth")),
    "strategy file": Reader("own.py", lambda f: load_strategies(f / "own.py", f"--strategy_file {f}/own.py")),
    "plan.json": Reader("plan.json", lambda f: read_plan(f / "plan.json")),
    "trace": Reader("trace.txt", lambda f: read_trace(f / "trace.txt", str(f / "trace.txt"), False)),
    "design.json": Reader("study/design.json", lambda f: Design.read(f / "study" / "design.json")),
    "metrics": Reader("study/metrics/phantom-main-s1-c00.json", _study),
    "training.json": Reader(
        "study/training/phantom-main-s1-c00/fold_0.json", lambda f: _study(f, training=True)
    ),
    "labels in results": Reader(
        "study/labels/phantom-main-bald-s1/labels_c01.h5", lambda f: _study(f, labels=True)
    ),
    "queries in results": Reader(
        "study/queries/phantom-main-bald-s1/query_c01.csv", lambda f: _study(f, queries=True)
    ),
    "views": Reader("study/views/phantom-main-bald-s1/views_c01.h5", _views),
    "metrics.csv": Reader("study/tables/metrics.csv", lambda f: read_tables(f / "study" / "tables")),
    "queries.csv": Reader("study/tables/queries.csv", lambda f: read_tables(f / "study" / "tables")),
    "statistics.json": Reader(
        "study/tables/statistics.json",
        lambda f: Tables.read(Design.read(f / "study" / "design.json"), f / "study" / "tables"),
    ),
    "notes.csv": Reader(
        "study/tables/notes.csv",
        lambda f: Tables.read(Design.read(f / "study" / "design.json"), f / "study" / "tables"),
    ),
    "config.json": Reader("theirs/bald/config.json", lambda f: read_any(f / "theirs")),
    "summary.json": Reader("theirs/bald/loop_000/summary.json", lambda f: read_any(f / "theirs")),
    **{f"image{ending}": _image_reader(ending) for ending in IMAGE_ENDINGS},
}  # fmt: skip


def make_files(folder: Path) -> Path:
    """One whole file for each reader."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1)
    dataset = tiny.prepared(folder / "prepared", SHAPES, test=["t"])
    tiny.oracle(folder / "oracle.h5", dataset)
    tiny.uncertainty(
        folder / "u.h5", dataset, {case: tiny.maps_of(rng, 2, 3, SHAPES[case]) for case in dataset.pool}
    )  # fmt: skip
    truth = {"t": rng.choice(np.array([0, 2, 7], np.uint8), size=SHAPES["t"])}
    reference = Labels("tiny", "", -1, tiny.CLASSES, truth, spacings_mm={"t": (2.0, 1.0, 1.0)})
    write_labels(folder / "reference.h5", reference, "reference")
    start = Settings("random", seed=1, cycle=0, cycles=2, size=3, patch_zyx=(2, 2, 2), start=True)
    picks, _, _ = query(folder / "prepared", start)
    write_query(folder / "query.csv", as_table(picks))
    labels = annotate(
        folder / "prepared", folder / "oracle.h5", folder / "query.csv", strategy="random", node="tiny-c00", cycle=0
    )
    write_labels(folder / "labels.h5", labels)
    (folder / "groups.csv").write_text("case,group\na,p0\nb,p1\n")
    (folder / "folds.csv").write_text("case,fold\na,0\nb,1\n")
    (folder / "folds.json").write_text('[{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]')
    save_fold(folder / "checkpoint.pth", tiny.some_fold())
    shutil.copy(folder / "checkpoint.pth", folder / "latest.pth")
    (folder / "own.py").write_text("MAPS = []\n\n\ndef mine(image):\n    return image\n")
    (folder / "plan.json").write_text(json.dumps(plans.make_plan([plans.make_row("random,bald")])))
    (folder / "trace.txt").write_text("name\tstatus\trealtime\nTRAIN (n fold 0)\tCOMPLETED\t1m 3s\n")
    made = study.make_study(folder / "study", CURVES, view_patches=3)
    analyse(read_study(Design.of(made.design), folder / "study" / "metrics"), folder / "study" / "tables", draws=5)
    _raw(folder / "raw")
    for ending in IMAGE_ENDINGS:
        shape = (7, 8) if ending == ".png" else (5, 6, 7)
        values = rng.integers(0, 200, shape).astype(np.uint8 if ending == ".png" else np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(values), str(folder / f"image{ending}"), useCompression=True)
    theirs = folder / "theirs" / "bald"
    (theirs / "loop_000").mkdir(parents=True)
    config = {"dataset": "Dataset004_X", "uncertainty": "bald", "seed": 1, "query_size": 5, "query_steps": 1}
    (theirs / "config.json").write_text(json.dumps(config))
    part = {"Dice": 0.5, "IoU": 0.4}
    (theirs / "loop_000" / "summary.json").write_text(json.dumps({"foreground_mean": part, "mean": {"1": part}}))
    return folder


def _raw(folder: Path) -> None:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
        for case in ("a", "b", "c"):
            end = "_0000.nii.gz" if name == "imagesTr" else ".nii.gz"
            values = np.arange(60, dtype=np.int16).reshape(3, 4, 5) % 3
            sitk.WriteImage(sitk.GetImageFromArray(values), str(folder / name / f"{case}{end}"))
    head = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "x": 1, "y": 2}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(head))


# ---- ways to spoil a file, whatever it holds ----------------------------------------------------------------------


def _replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        path.unlink()
        make(path)

    return spoil


SPOILS: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"this is no such file\n"),
    "zeros": lambda path: path.write_bytes(bytes(2000)),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe\xfa" * 50),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a folder": _replaced(lambda path: path.mkdir()),
    "a pipe": _replaced(lambda path: os.mkfifo(path)),
    "a device": _replaced(lambda path: path.symlink_to("/dev/zero")),
    "a link to nowhere": _replaced(lambda path: path.symlink_to(path.with_name("nowhere"))),
    "a link to itself": _replaced(lambda path: path.symlink_to(path)),
}

JSON_SPOILS: dict[str, Callable[[Path], object]] = {
    name: (lambda path, text=text: path.write_text(text))
    for name, text in {
        "a list": "[]", "null": "null", "a number": "3", "a text": '"text"', "no keys": "{}",
        "a key twice": '{"labels": {}, "labels": {}}', "deep": "[" * 100_000, "a long number": "9" * 5000,
    }.items()
}  # fmt: skip

# A reader may find nothing wrong: a shorter text is a text, a folder without such files is one.
HARMLESS = {
    ("strategy file", "half"), ("groups.csv", "half"), ("trace", "half"), ("metrics", "missing"),
    ("training.json", "missing"), ("labels in results", "missing"), ("queries in results", "missing"),
    ("views", "missing"), ("summary.json", "missing"), ("config.json", "missing"),
}  # fmt: skip


def _json(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        content = json.loads(path.read_text())
        changed = change(content)
        path.write_text(json.dumps(content if changed is None else changed))

    return spoil


def _put(**values: Any) -> Callable[[Path], None]:
    """Keys of a JSON object set; dots lead into it (`a__b` is `a.b`)."""

    def change(content: Any) -> None:
        for key, value in values.items():
            *path, last = key.split("__")
            place = content
            for name in path:
                place = place[int(name) if name.isdecimal() else name]
            place[last] = value

    return _json(change)


def _without(key: str) -> Callable[[Path], None]:
    return _json(lambda content: content.pop(key) and None)


def _bytes(at: int, kind: str, *values: float) -> Callable[[Path], None]:
    """Numbers in the head of a NIfTI file."""

    def spoil(path: Path) -> None:
        packed = path.name.endswith(".gz")
        content = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
        number = struct.pack(f"<{len(values)}{kind}", *values)
        content[at : at + len(number)] = number
        path.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))

    return spoil


def _nifti(values: Any, kind: Any = nibabel.Nifti1Image) -> Callable[[Path], None]:
    return lambda path: nibabel.save(kind(values, np.eye(4)), path)


def _cell(old: str, new: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        text = path.read_text()
        assert old in text, (old, text)
        path.write_text(text.replace(old, new, 1))

    return spoil


NAN, INF = float("nan"), float("inf")
NIFTI: dict[str, tuple[Callable[[Path], object], str]] = {
    "spacing 0": (_bytes(80, "f", 0.0), "has spacing"),
    "spacing NaN": (_bytes(84, "f", NAN), "has spacing"),
    "spacing infinite": (_bytes(88, "f", INF), "has spacing"),
    "slope infinite": (_bytes(112, "f", INF), "scales its voxels"),
    "offset of values infinite": (_bytes(116, "f", -INF), "scales its voxels"),
    "axes in one plane": (_bytes(280, "f", *[1, 0, 0, 0] * 3), "has axes that lie in one plane"),
    "an axis that is NaN": (_bytes(280, "f", NAN), "has axes that lie in one plane"),
    "axes that are skewed": (_bytes(280, "f", 1, 0.9, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0), "not at right angles"),
    "an origin that is NaN": (_bytes(292, "f", NAN), "has axes|has origin"),
    "a length below 0": (_bytes(42, "h", -3), "image"),
    "a length of 0": (_bytes(44, "h", 0), "image"),
    "lengths that no memory holds": (_bytes(42, "h", 32767, 32767, 32767), "claims 3518"),
    "no axes": (_bytes(40, "h", 0), "image"),
    "too many axes": (_bytes(40, "h", 9), "image"),
    "voxels far behind the end": (_bytes(108, "f", 1e9), "image"),
    "voxels of a kind that is none": (_bytes(70, "h", 9999), "image"),
    "another magic": (_bytes(344, "b", 0, 0, 0, 0), "image"),
    "complex voxels": (_nifti(np.zeros((3, 4, 5), np.complex64)), "holds voxels of complex64"),
    "colours": (_nifti(np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])), "holds voxels of"),
    "five axes": (_nifti(np.zeros((3, 4, 5, 1, 2), np.float32)), "axes"),
    "NaN voxels": (_nifti(np.full((3, 4, 5), NAN, np.float32)), "60 voxels that are NaN or infinite"),
}  # fmt: skip

# Of single readers: what, how the file is spoiled, what the line must hold.
SINGLE: dict[str, dict[str, tuple[Callable[[Path], object], str]]] = {
    "image.nii": NIFTI,
    "image.nii.gz": NIFTI | {"NIfTI-2": (_nifti(np.ones((3, 4, 5), np.int16), nibabel.Nifti2Image), "is a NIfTI-2")},
    "dataset.json": {
        "a value of 1.5": (_put(labels__x=1.5), "value of class 'x' is 1.5"),
        "a value of true": (_put(labels__x=True), "value of class 'x' is True"),
        "a value of null": (_put(labels__x=None), "value of class 'x' is None"),
        "a value below 0": (_put(labels__x=-1), "class"),
        "a value of 65535": (_put(labels__x=65535), "class values must lie between 0 and 65534"),
        "a value twice": (_put(labels__x=2), "two classes share one value"),
        "no background": (_put(labels__background=7), "no class has the value 0"),
        "background alone": (_put(labels={"background": 0}), "no foreground class"),
        "a region without an order": (_put(labels__x=[1, 2]), "'regions_class_order' wants a label value for each"),
        "an empty region": (_put(labels__x=[]), "class 'x' is an empty list"),
        "a region with background": (_put(labels__x=[0, 1]), "class 'x' holds 0 in a list"),
        "a region of texts": (_put(labels__x=["1", "2"]), "class 'x' holds '1'"),
        "a class called ignore": (_put(labels__ignore=3), "'labels' has 'ignore'"),
        "a class called mean": (_put(labels__mean=3), "class 'mean': this name is taken"),
        "a class called all": (_put(labels__all=3), "class 'all': this name is taken"),
        "two classes that are one": (_put(labels__X=3), "they differ in capitals"),
        "a class with a line break": (_json(lambda c: c["labels"].update({"a\nb": 3})), "cannot be shown"),
        "labels that are a list": (_put(labels=["background", "x"]), "'labels' wants classes"),
        "no labels": (_without("labels"), "'labels' is missing"),
        "no channels": (_put(channel_names={}), "'channel_names' wants channels"),
        "channels that are a list": (_put(channel_names=["MRI"]), "'channel_names' wants channels"),
        "channels by names": (_put(channel_names={"MRI": 0}), "'channel_names' wants channels"),
        "two channels, one is there": (_put(channel_names={"0": "A", "1": "B"}), "image of channel 1 is missing"),
        "no file ending": (_without("file_ending"), "neither nnU-Net's"),
        "another file ending": (_put(file_ending=".xyz"), "no training cases|no reader"),
        "cases that are a list": (_put(dataset=[]), "'dataset' wants cases"),
        "a case that leads out": (
            _put(dataset={"../x": {"images": ["imagesTr/a_0000.nii.gz"], "label": "labelsTr/a.nii.gz"}}), "a slash"
        ),
        "a case without a label": (_put(dataset={"x": {"images": ["imagesTr/a_0000.nii.gz"]}}), "a 'label'"),
        "a case whose file is missing": (
            _put(dataset={"x": {"images": ["no.nii.gz"], "label": "labelsTr/a.nii.gz"}}), "channel 0 is missing"
        ),
        "an undeclared channel": (
            lambda path: shutil.copy(path.parent / "imagesTr/a_0000.nii.gz", path.parent / "imagesTr/a_0001.nii.gz"),
            "image of channel 1 is there",
        ),
        "an image without a channel": (
            lambda path: shutil.copy(path.parent / "imagesTr/a_0000.nii.gz", path.parent / "imagesTr/z.nii.gz"),
            "does not end in the number of a channel",
        ),
    },
    "prepared dataset.json": {
        "another format": (_put(format="other"), "format is 'other'"),
        "another version": (_put(version=2), "expected nnactive-nf/dataset 1"),
        "fewer values than classes": (_put(class_values=[0, 2]), "class values must be whole numbers, one for each"),
        "values of text": (_put(class_values=["0", "2", "7"]), "class values must be whole numbers"),
        "values that fall": (_put(class_values=[0, 7, 2]), "and rise"),
        "a class called mean": (_put(class_names=["background", "mean", "x"]), "class 'mean'"),
        "a name that is a number": (_put(name=3), "name: missing, or not what is wanted"),
        "channels of numbers": (_put(channels=[1]), "channels: missing, or not what is wanted"),
        **{f"no {key}": (_without(key), key) for key in ("name", "digest", "class_names", "configuration", "channels")},
    },
    "cases.csv": {
        "a length of 0": (_cell("pool,5,", "pool,0,"), "whole numbers above 0"),
        "a length of 1.5": (_cell("pool,5,", "pool,1.5,"), "cases.csv"),
        "a length of text": (_cell("pool,5,", "pool,x,"), "cases.csv"),
        "a spacing of 0": (_cell(",2.0,1.0,1.0", ",0.0,1.0,1.0"), "numbers above 0"),
        "a spacing of inf": (_cell(",2.0,1.0,1.0", ",inf,1.0,1.0"), "numbers above 0"),
        "a spacing that is missing": (_cell(",2.0,1.0,1.0", ",,1.0,1.0"), "cases.csv"),
        "a side that is none": (_cell("pool", "pole"), "on no side of the split"),
        "a case twice": (_cell("\nb,", "\na,"), "a case stands in it twice"),
        "a case that leads out": (_cell("\nb,", "\n../b,"), "must not hold a slash"),
        "a column less": (_cell("spacing_z", "gone"), "columns ['spacing_z'] are missing"),
        "a cell more": (_cell("pool,5", "pool,1,5"), "cases.csv"),
    },
    "query.csv": {
        "a rank twice": (_cell("\n2,", "\n1,"), "ranks do not count"),
        "a place of text": (_cell(",2,2,2,", ",2,x,2,"), "query.csv"),
        "a place of 1.5": (_cell(",2,2,2,", ",2,1.5,2,"), "query.csv"),
        "a place that no number holds": (_cell(",2,2,2,", ",2,99999999999999999999,2,"), "query.csv"),
        "a score of text": (_cell(",2,2,2,", ",2,2,2,x"), "query.csv"),
        "a column less": (_cell("component", "gone"), "columns ['component'] are missing"),
        "cut off in a line": (lambda path: path.write_bytes(path.read_bytes()[:-4]), "its last line has no end"),
        "NUL": (_cell("all", "a\0l"), "it holds NUL"),
    },
    "groups.csv": {
        "a case in two groups": (_cell("b,p1", "b,p1\na,p1"), "case a is in two groups"),
        "a case that is missing": (_cell("b,p1", "c,p1"), "case b is not in it with a group"),
        "a patient without a name": (_cell("b,p1", "b,"), "case b is not in it with a group"),
        "a blank behind a patient": (_cell("b,p1", "b,p0 "), "must not end with a blank"),
        "patients that are one": (_cell("b,p1", "b,P0"), "they differ in capitals"),
        "semicolons": (lambda path: path.write_text("case;group\na;p0\nb;p1\n"), "wants the columns"),
    },
    "folds.json": {
        "a fold that is a list": (_json(lambda c: c.append(["a"])), "wants a list of"),
        "a case that is a number": (_json(lambda c: c[0]["val"].append(3)), "wants a list of"),
        "a case in two folds": (_json(lambda c: c[0]["val"].append("a")), "does not train on all|more than one fold"),
    },
    "folds.csv": {
        "a fold below 0": (_cell("b,1", "b,-1"), "is no whole number counted from 0"),
        "a fold that no memory holds": (_cell("b,1", "b,99999999999"), "is no whole number counted from 0"),
        "a fold between two": (_cell("b,1", "b,1.5"), "is no whole number counted from 0"),
    },
    "design.json": {
        "a query of text": (_put(groups__0__query_size=["x"]), "not the plan of a study"),
        "a data set that leads out": (_put(groups__0__dataset="../x"), "data set '../x'"),
        "a regime called all": (_put(groups__0__regime="all"), "regime 'all'"),
        "a node that leads out": (_put(trajectories__0__nodes=["/x", "y"]), "node '/x'"),
        "fewer budgets than nodes": (_put(trajectories__0__budgets=[1]), "not as many nodes as budgets"),
        "a strategy that is not listed": (_put(trajectories__0__strategy="other"), "not listed"),
        "a seed of text": (_put(trajectories__0__seed="x"), "not the plan of a study"),
        "cycles that are null": (_put(cycles=None), "not the plan of a study"),
        "strategies that are a number": (_put(strategies=3), "not the plan of a study"),
        "a patch of text": (_put(groups__0__patch_size="a,b,c"), "not the plan of a study"),
    },
    "metrics": {
        "another data set": (_put(dataset="other"), "by their own words"),
        "another seed": (_put(seed=9), "by their own words"),
        "another cycle": (_put(cycle=1), "by their own words"),
        "a class called mean": (_put(classes=["mean"]), "not the metrics of a node|class 'mean'"),
        "no mean": (_without("mean"), "not the metrics of a node"),
        "Dice of text": (_put(mean__foreground__dice="x"), "not the metrics of a node"),
        "cases that are a number": (_put(cases=3), "not the metrics of a node"),
    },
    "training.json": {
        "seconds of text": (_put(seconds="x"), "not the record of a training"),
        "no fold": (_without("fold"), "not the record of a training"),
        "cases of text": (_put(train_cases="x"), "not the record of a training"),
        "times resumed that are a number": (_put(resumed_from=3), "not the record of a training"),
    },
    "plan.json": {
        "a row that is missing": (_put(nodes__0__row=9), "not the plan of a run"),
        "rows that are a number": (_put(rows=3), "not the plan of a run"),
        "a row without seeds": (_json(lambda c: c["rows"][0].pop("seeds") and None), "not the plan of a run"),
    },
    "trace": {"other columns": (lambda path: path.write_text("a\tb\n1\t2\n"), "no trace of Nextflow")},
    "strategy file": {
        "an error": (lambda path: path.write_text("MAPS = []\n1 / 0\n"), "ZeroDivisionError"),
        "no Python": (lambda path: path.write_text("MAPS = [\n"), "SyntaxError"),
        "an end of the program": (lambda path: path.write_text("raise SystemExit(0)\n"), "SystemExit"),
        "no strategy": (lambda path: path.write_text("MAPS = []\n"), "no public function or class"),
        "no maps": (lambda path: path.write_text("def mine(image): pass\n"), "no line MAPS"),
        "another map": (lambda path: path.write_text("MAPS = ['x']\ndef mine(image): pass\n"), "MAPS names 'x'"),
        "a name that is taken": (lambda path: path.write_text("MAPS = []\ndef bald(image): pass\n"), "built-in"),
    },
    "config.json": {
        "no seed": (_without("seed"), "seed missing"),
        "a data set that leads out": (_put(dataset="../../x"), "must not hold a slash|must begin with"),
        "a seed of text": (_put(seed="x"), "config.json"),
        "a query size of text": (_put(query_size="x"), "config.json"),
    },
    "summary.json": {
        "Dice of text": (_put(foreground_mean__Dice="x"), "not nnU-Net's evaluation"),
        "a mean that is a list": (_put(mean=[]), "not nnU-Net's evaluation"),
    },
    "statistics.json": {"no alpha": (_without("alpha"), "alpha is missing")},
    "metrics.csv": {"a column less": (_cell("node", "gone"), "metrics.csv")},
    "queries.csv": {"a column less": (_cell("chosen_by", "gone"), "queries.csv")},
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A bad input: whose file it is, what is wrong with it, how it is made, a pattern that its line must hold."""

    reader: str
    how: str
    spoil: Callable[[Path], object]
    line: str


def rows() -> Iterator[Row]:
    """Every reader with every way to spoil its file, and what only some files can hold."""
    for name, reader in READERS.items():
        file = Path(reader.file).name
        named = re.escape(name if file == "own.py" else file)
        for how, spoil in (SPOILS | (JSON_SPOILS if file.endswith(".json") else {})).items():
            if (name, how) not in HARMLESS:
                yield Row(name, how, spoil, "" if file == "own.py" else named)
        for how, (spoil, line) in SINGLE.get(name, {}).items():
            yield Row(name, how, spoil, line if "|" in line else re.escape(line))


def end_of(row: Row, folder: Path) -> tuple[str, str]:
    """How the reading of a bad input ended, and its words; the folder is whole again then."""
    path = folder / READERS[row.reader].file
    kept = {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}
    row.spoil(path)
    try:
        return outcome(lambda: READERS[row.reader].read(folder), row.line)
    finally:
        for file in [file for file in path.parent.rglob("*") if file not in kept and not file.is_dir()]:
            file.unlink()
        for file, content in kept.items():
            if file.is_dir() and not file.is_symlink():
                file.rmdir()
            file.unlink(missing_ok=True)
            file.write_bytes(content)


# ---- what comes of it ---------------------------------------------------------------------------------------------


class HangError(BaseException):
    """A reader took too long; no kind of error that a reader may catch."""


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def ring(_number: int, _frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(read: Callable[[], Any], line: str = "") -> tuple[str, str]:
    """How a reading ended: `read`, `line`, `another line` than the pattern, `traceback`, `hang`; and its words."""
    try:
        with time_limit(SECONDS), contextlib.redirect_stdout(io.StringIO()):
            read()
    except UserError as error:
        clear = all(line.isprintable() and "Traceback" not in line for line in error.lines)
        return ("line" if clear and re.search(line, str(error)) else "another line"), str(error)
    except HangError:
        return "hang", ""
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {error}"
    return "read", ""


def mutate(content: bytes, rng: np.random.Generator) -> bytes:
    """Flip bits, overwrite, leave out or double a stretch of a file; one to four times."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        place, length = int(rng.integers(0, max(1, len(changed)))), int(rng.integers(1, 33))
        kind = rng.integers(5)
        if kind == 0 and changed:
            changed[place % len(changed)] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            changed[place : place + length] = rng.bytes(min(length, len(changed) - place))
        elif kind == 2:
            del changed[place : place + length]
        elif kind == 3:
            changed[place:place] = changed[place : place + length]
        else:
            special = [b"\x00" * 8, b"\xff" * 8, b"nan", b"-1", b"1e999", b"99999999999999999999", b"..", b"/", b'"']
            changed[place : place + 1] = special[int(rng.integers(len(special)))]
    return bytes(changed)


def mutations(folder: Path, name: str, number: int, seed: int) -> Counter[str]:
    """Outcomes of a reader over so many mutated files; the last folder of a failure is left in `folder`."""
    reader = READERS[name]
    path = folder / reader.file
    whole = path.read_bytes()
    rng = np.random.default_rng([seed, *name.encode()])
    found: Counter[str] = Counter()
    try:
        for _ in range(number):
            path.write_bytes(mutate(whole, rng))
            found[outcome(lambda: reader.read(folder))[0]] += 1
    finally:
        path.write_bytes(whole)
    return found


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    with tempfile.TemporaryDirectory() as name:
        base = make_files(Path(name) / "base")
        counts: Counter[str] = Counter()
        for row in rows():
            kind, words = end_of(row, base)
            counts[kind] += 1
            if kind != "line":
                print(f"{kind:12} {row.reader}: {row.how}: {words[:160]}", flush=True)
        print(f"bad inputs: {sum(counts.values())}, {dict(counts)}")
        total: Counter[str] = Counter()
        for reader in READERS if number else ():
            found = mutations(base, reader, number, 1)
            print(f"{reader:24} {dict(found)}", flush=True)
            total += found
        print(f"mutations: {sum(total.values())}, {dict(total)}")


if __name__ == "__main__":
    main()
