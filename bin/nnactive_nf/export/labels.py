"""Label masks on the files' own grids: as label maps, and as a raw folder that nnU-Net trains on elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import write_json
from nnactive_nf.core.grid import CaseGrid
from nnactive_nf.core.image_files import copy_images, write_nifti, write_segmentation
from nnactive_nf.core.label_values import write_label_values
from nnactive_nf.core.labels import Mask, each_mask, read_patches
from nnactive_nf.core.raw import list_raw


def write_label_maps(folder: Path, labels_file: Path, grids: Mapping[str, CaseGrid]) -> int:
    """Write `<case>.nii.gz` for each case with labels: the ignore value wherever nobody has looked.

    A voxel of the file takes the value of the voxel of the image grid in which its centre lies. Outside the crop box it
    is ignored.

    Args:
        folder: folder to make; `labels.json` in it tells the values.
        labels_file: the node's label masks.
        grids: grids of all cases.

    Returns:
        How many cases were written.
    """
    classes, number = read_patches(labels_file).classes, 0
    for case, mask in each_mask(labels_file, classes):
        write_nifti(folder / f"{case}.nii.gz", on_file_grid(labels_file, case, mask, grids, classes), grids[case])
        number += 1
    write_label_values(folder / "labels.json", classes, ".nii.gz")
    return number


def write_raw_folder(folder: Path, labels_file: Path, grids: Mapping[str, CaseGrid], images: Path) -> int:
    """Write nnU-Net's raw folder of all cases with labels: copies of their images, partial labels, `dataset.json`.

    nnU-Net wants labels without gaps and the ignore label last, so labels are indices here; `labels.json` has the
    user's values. An image that holds all channels in one file is taken apart.

    Args:
        folder: folder to make.
        labels_file: the node's label masks.
        grids: grids of all cases.
        images: the raw data set of the run.

    Returns:
        How many cases were written.

    Raises:
        UserError: the raw data set lacks a case.
    """
    raw = list_raw(images, people=True)  # labels are what is exported
    classes, cases = read_patches(labels_file).classes, {case.name: case for case in raw.cases}
    number = 0
    for name, mask in each_mask(labels_file, classes):
        if name not in cases:
            raise UserError(f"{images}: case {name} of {labels_file} is not in it")
        values = on_file_grid(labels_file, name, mask, grids, classes)
        _, properties = raw.reader().read_images([str(path) for path in cases[name].images])
        target = folder / "labelsTr" / f"{name}{raw.file_ending}"
        write_segmentation(target, classes.to_index(values).astype(np.uint16), raw.reader, properties)
        copy_images(folder / "imagesTr", cases[name], raw)
        number += 1
    write_json(folder / "dataset.json", {
        "channel_names": {str(index): channel for index, channel in enumerate(raw.channels)},
        **classes.for_nnunet(ignore=True),
        "numTraining": number,
        "file_ending": raw.file_ending,
    }, sort_keys=False)  # fmt: skip
    write_label_values(folder / "labels.json", classes, raw.file_ending)
    return number


def on_file_grid(labels_file: Path, case: str, mask: Mask, grids: Mapping[str, CaseGrid], classes: Classes) -> Mask:
    """A mask of the image grid on the file's grid; `UserError` where the case is not known or of another shape."""
    grid = grids.get(case)
    if grid is None or mask.shape != grid.shape_zyx:
        found = f"mask of case {case} has shape {mask.shape}"
        raise UserError(f"{labels_file}: {found}, the table of cases has {grid and grid.shape_zyx}")
    return grid.to_file_grid(mask, linear=False, outside=classes.ignore_value)
