"""Voxels of image and label files: read whole, or refused in one line.

What is refused here:

- a stream whose checksum is wrong or missing, which no library looks at: they stop reading where the voxels end;
- a file that holds fewer voxels than its head tells, or goes on far behind them;
- voxels that are NaN or infinite.

What heads tell (grids, kinds of voxels) is `nnactive_nf.core.heads`'s to refuse.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
import numpy.typing as npt
import tifffile
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnactive_nf.core.errors import UserError, one_line
from nnactive_nf.core.files import check_regular
from nnactive_nf.core.heads import read_head

CHUNK_BYTES = 1 << 20
BEHIND_BYTES = 1 << 20  # that a compressed stream may go on behind the voxels
GIPL_HEAD_BYTES = 256


def read_voxels(path: Path, reader: type[BaseReaderWriter], label: bool = False) -> npt.NDArray[Any]:
    """Voxels `[channels, z, y, x]` of a file, as nnU-Net's reader gives them.

    The library behind SimpleITK reads a truncated NIfTI as if zeros followed, and turns NaN into 0, so NIfTI files are
    read by nibabel. Only where nnU-Net's reader may make something else of the same file, it reads it once more.

    Args:
        path: the file.
        reader: nnU-Net's reader for it.
        label: whether it is a label file, which some readers read another way.

    Raises:
        UserError: the file is damaged, or holds values that are not finite.
    """
    values = None
    if issubclass(reader, SimpleITKIO | NibabelIO):
        read_head(path, reader, label)
    check_regular(path)
    try:
        check_stream(path)
        if path.name.endswith((".nii", ".nii.gz")):
            values = _by_nibabel(path)
        if values is None:
            values, _ = reader().read_seg(str(path)) if label else reader().read_images([str(path)])
    except UserError:
        raise
    except Exception as error:  # gzip, zlib, struct, nibabel and SimpleITK raise their own kinds
        raise UserError(f"{path.name} cannot be read, it may be truncated ({one_line(error)})") from None
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise UserError(f"{path.name} holds {bad} voxels that are NaN or infinite")
    return np.asarray(values)


def check_stream(path: Path) -> None:
    """Read a compressed file to its end, where its checksum stands, and hold an uncompressed one against its head.

    Raises:
        OSError, EOFError, ValueError, zlib.error: what is wrong with it.
    """
    with path.open("rb") as file:
        if path.name.endswith(".nii.gz"):
            _gunzip(file, _nifti_bytes(path))
        elif path.name.endswith(".gz"):
            _gunzip(file, None)
        elif path.name.endswith(".nrrd"):
            head = _head(file, b"\n\n")
            if b"encoding: gz" in head:
                _gunzip(file, None)
        elif path.name.endswith(".mha"):
            head = _head(file, b"ElementDataFile = LOCAL\n")
            if b"CompressedData = True" in head:
                _inflate(file)
        elif path.name.endswith(".gipl"):
            _check_gipl(file)
        elif path.name.endswith((".tif", ".tiff")):
            _check_tiff(file)


def _nifti_bytes(path: Path) -> int:
    """Bytes up to the last voxel, as the head tells them."""
    image: Any = nibabel.load(path)  # type: ignore[attr-defined]
    voxels = int(np.prod(image.shape, dtype=object))
    return int(image.dataobj.offset) + voxels * int(image.get_data_dtype().itemsize)


def _head(file: IO[bytes], end: bytes) -> bytes:
    """All up to `end`, which is looked for in the first part of a file; behind it the file goes on."""
    start = file.read(CHUNK_BYTES)
    place = start.find(end)
    if place < 0:
        raise ValueError("its head has no end")
    file.seek(place + len(end))
    return start[:place]


def _gunzip(file: IO[bytes], wanted: int | None) -> None:
    """Read a gzip stream to its end; `gzip` compares checksum and length there."""
    with gzip.GzipFile(fileobj=file) as stream:
        found = _length(iter(lambda: stream.read(CHUNK_BYTES), b""), wanted)
    if wanted is not None and found < wanted:
        raise EOFError(f"it holds {found} bytes, its head tells {wanted}")


def _length(parts: Iterator[bytes], wanted: int | None) -> int:
    found = 0
    for part in parts:
        found += len(part)
        if wanted is not None and found > wanted + BEHIND_BYTES:
            raise ValueError(f"it goes on behind the {wanted} bytes that its head tells")
    return found


def _inflate(file: IO[bytes]) -> None:
    """Read a zlib stream to its end; `zlib` compares the checksum there."""
    stream = zlib.decompressobj()
    while not stream.eof and (part := stream.unconsumed_tail or file.read(CHUNK_BYTES)):
        stream.decompress(part, CHUNK_BYTES)
    if not stream.eof:
        raise EOFError("its compressed voxels have no end")


def _check_gipl(file: IO[bytes]) -> None:
    """GIPL: four lengths as 16 bit numbers and the kind of voxel, most significant byte first; then the voxels."""
    *lengths, kind = np.frombuffer(file.read(10), dtype=">u2").tolist()
    voxel_bytes = {1: 1 / 8, 7: 1, 8: 1, 15: 2, 16: 2, 31: 4, 32: 4, 64: 4, 65: 8}.get(kind, 1)
    wanted = GIPL_HEAD_BYTES + int(np.prod([max(1, n) for n in lengths], dtype=np.int64) * voxel_bytes)
    found = file.seek(0, 2)
    if found < wanted:
        raise EOFError(f"it holds {found} bytes, its head tells {wanted}")


def _check_tiff(file: IO[bytes]) -> None:
    """Go from page to page: the library ends at the first that is not there, and only notes it in its log."""
    noted: list[str] = []

    def note(record: logging.LogRecord) -> bool:
        noted.append(record.getMessage())
        return False

    log = logging.getLogger("tifffile")
    log.addFilter(note)
    try:
        with tifffile.TiffFile(file) as pages:
            len(pages.pages)
    finally:
        log.removeFilter(note)
    if lost := [text for text in noted if "invalid page offset" in text]:
        raise EOFError(f"pages are missing: {lost[0]}")


def _by_nibabel(path: Path) -> npt.NDArray[Any] | None:
    """Voxels `[channels, z, y, x]` of an ordinary NIfTI file; `None` where it is sound, but nnU-Net must read it.

    That is where values are scaled (the libraries round otherwise), or an axis has one voxel (they count axes
    otherwise).
    """
    file: Any = nibabel.load(path)  # type: ignore[attr-defined]
    values = np.asanyarray(file.dataobj)
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise UserError(f"{path.name} holds {bad} voxels that are NaN or infinite")
    scaled = (file.dataobj.slope, file.dataobj.inter) != (1, 0)
    ordinary = values.ndim in (3, 4) and min(values.shape) > 1 and values.dtype.kind in "iuf"
    if scaled or not ordinary:
        return None
    return values.T if values.ndim == 4 else values.T[None]
