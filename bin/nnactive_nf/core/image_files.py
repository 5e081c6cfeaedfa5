"""Images for other tools, on the files' own grids, each written whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import tells_full_disk
from nnactive_nf.core.grid import CaseGrid
from nnactive_nf.core.raw import RawCase, RawDataset


@contextmanager
def whole_image(path: Path) -> Iterator[Path]:
    """Temporary path that keeps the file's name, by whose ending libraries choose a format; it becomes `path`.

    Raises:
        UserError: the disk is full.
    """
    with tells_full_disk(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            yield temporary
            _refuse_full(folder)
            for made in sorted(Path(folder).iterdir()):  # a format may have a file beside (TIFF: its spacing)
                made.replace(path.parent / made.name)


def _refuse_full(folder: str) -> None:
    """Raises where no more fits beside what was written: SimpleITK cuts a file off and says nothing of it."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(1 << 16))
        file.flush()
        os.fsync(file.fileno())


def write_segmentation(
    path: Path, values_zyx: npt.NDArray[np.integer], reader: type[BaseReaderWriter], properties: Mapping[str, Any]
) -> None:
    """Write label values `[z, y, x]` of a file's own grid by nnU-Net's writer, as a label file of the data set.

    Args:
        path: file to make, with the data set's ending.
        values_zyx: values of the classes, not their indices.
        reader: nnU-Net's reader and writer of the data set.
        properties: nnU-Net's properties of the case, which tell where the image lies.
    """
    with whole_image(path) as temporary:
        reader().write_seg(values_zyx, str(temporary), _in_three_axes(properties))


def _in_three_axes(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Properties of an image that holds all channels in one file as those of one channel, which nnU-Net can write."""
    found = dict(properties)
    stuff = found.get("sitk_stuff", {})
    if len(stuff.get("spacing", ())) == 4:
        cosines = np.reshape(stuff["direction"], (4, 4))[:3, :3]
        found["sitk_stuff"] = {
            "spacing": tuple(stuff["spacing"][:3]), "origin": tuple(stuff["origin"][:3]),
            "direction": tuple(cosines.ravel().tolist()),
        }  # fmt: skip
    return found


def file_image(values_zyx: npt.NDArray[Any], grid: CaseGrid) -> SimpleITK.Image:
    """Values `[z, y, x]` on the file's grid as an image that lies where the file lies."""
    image = SimpleITK.GetImageFromArray(values_zyx)
    image.SetSpacing(grid.file_spacing_mm[::-1])
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction)
    return image


def write_nifti(path: Path, values_zyx: npt.NDArray[Any], grid: CaseGrid) -> None:
    """Write values `[z, y, x]` on the file's grid as NIfTI that lies where the file lies."""
    with whole_image(path) as temporary:
        SimpleITK.WriteImage(file_image(values_zyx, grid), str(temporary), True)


def copy_images(folder: Path, case: RawCase, raw: RawDataset) -> None:
    """Copy a case's images to `<case>_0000<ending>` and so on; one that holds all channels is taken apart.

    Raises:
        UserError: it holds all channels in a format that cannot be taken apart.
    """
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
