"""Label masks on the files' own grids: as label maps, and as a raw folder that nnU-Net trains on elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import write_json
from nnactive_nf.core.grid import CaseGrid
from nnactive_nf.core.image_files import whole_image, write_nifti, write_segmentation
from nnactive_nf.core.label_values import write_label_values
from nnactive_nf.core.labels import Mask, each_mask, read_patches
from nnactive_nf.core.raw import RawCase, RawDataset, list_raw


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
    raw = list_raw(images)
    classes, cases = read_patches(labels_file).classes, {case.name: case for case in raw.cases}
    number = 0
    for name, mask in each_mask(labels_file, classes):
        if name not in cases:
            raise UserError(f"{images}: case {name} of {labels_file} is not in it")
        values = on_file_grid(labels_file, name, mask, grids, classes)
        _, properties = raw.reader().read_images([str(path) for path in cases[name].images])
        target = folder / "labelsTr" / f"{name}{raw.file_ending}"
        write_segmentation(target, classes.to_index(values).astype(np.uint16), raw.reader, properties)
        _copy_images(folder / "imagesTr", cases[name], raw)
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


def _copy_images(folder: Path, case: RawCase, raw: RawDataset) -> None:
    names = [f"{case.name}_{channel:04d}{raw.file_ending}" for channel in range(len(raw.channels))]
    if len(case.images) == len(names):
        for path, name in zip(case.images, names, strict=True):
            with whole_image(folder / name) as temporary:
                shutil.copyfile(path, temporary)
    elif issubclass(raw.reader, SimpleITKIO):
        image = SimpleITK.ReadImage(str(case.images[0]))
        for channel, name in enumerate(names):
            with whole_image(folder / name) as temporary:
                SimpleITK.WriteImage(image[..., channel], str(temporary), True)
    else:
        raise UserError(f"{case.images[0]}: holds all channels, and *{raw.file_ending} cannot be taken apart here")
