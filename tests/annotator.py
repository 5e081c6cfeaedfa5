"""Somebody who labels by script: takes a package that was handed out, and brings files that are cut from the truth.

annotator.py strip TRUTH SCANS CASE...     a copy of a raw folder in which only these cases have labels
annotator.py label TRUTH PACKAGE           label files of all patches of a package, put where they are awaited
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

UNDECIDED = 255
ENDINGS = (".nii.gz", ".nrrd", ".seg.nrrd", ".mha")


def strip(truth: Path, scans: Path, labelled: Collection[str]) -> None:
    """Copy a raw folder with the labels of some cases only."""
    shutil.copytree(truth, scans, ignore=lambda folder, names: _unwanted(folder, names, labelled))


def _unwanted(folder: str, names: Sequence[str], labelled: Collection[str]) -> list[str]:
    if Path(folder).name != "labelsTr":
        return []
    return [name for name in names if name.removesuffix(".nii.gz") not in labelled]


def label(
    truth: Path,
    package: Path,
    folder: Path | None = None,
    cases: Collection[str] | None = None,
    classes: Sequence[tuple[str, int]] = (),
) -> list[Path]:
    """Write label files of a package's patches, in turn in all formats and with turned axes.

    Args:
        truth: raw folder with all labels as `.nii.gz`.
        package: a cycle's folder.
        folder: where the files go; `labels` in the package by default.
        cases: of these cases alone.
        classes: names and values, for 3D Slicer's segments; without them `.seg.nrrd` is not written.
    """
    tasks = pd.read_csv(package / "tasks.csv", dtype={"case": str})
    endings = [ending for ending in ENDINGS if classes or ending != ".seg.nrrd"]
    folder = folder or package / "labels"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, (name, patches) in enumerate(tasks.groupby("case", sort=True)):
        case = str(name)
        if cases is not None and case not in cases:
            continue
        ending = endings[number % len(endings)]
        image = cut(truth / "labelsTr" / f"{case}.nii.gz", patches, 0 if ending == ".seg.nrrd" else UNDECIDED)
        if number % 2:
            image = sitk.Flip(sitk.PermuteAxes(image, [1, 2, 0]), [True, False, True], False)
        if ending == ".seg.nrrd":
            for place, (class_name, value) in enumerate(classes):
                segment = {"ID": f"S{place}", "Name": class_name, "LabelValue": str(value), "Layer": "0"}
                for key, text in segment.items():
                    image.SetMetaData(f"Segment{place}_{key}", text)
        sitk.WriteImage(image, str(folder / f"{case}{ending}"), True)
        written.append(folder / f"{case}{ending}")
    return written


def cut(truth: Path, patches: pd.DataFrame, outside: int) -> sitk.Image:
    """The true labels in the boxes of a package's table, `outside` elsewhere."""
    image = sitk.ReadImage(str(truth))
    values = sitk.GetArrayFromImage(image)
    labels = np.full_like(values, outside)
    for row in patches.to_dict("records"):
        box = tuple(slice(row[f"first_{axis}"], row[f"last_{axis}"] + 1) for axis in "zyx")
        labels[box] = values[box]
    found = sitk.GetImageFromArray(labels)
    found.CopyInformation(image)
    return found


if __name__ == "__main__":
    what, true_labels, place, *named = sys.argv[1:]
    if what == "strip":
        strip(Path(true_labels), Path(place), named)
    else:
        print(f"{len(label(Path(true_labels), Path(place)))} label files in {place}/labels")
