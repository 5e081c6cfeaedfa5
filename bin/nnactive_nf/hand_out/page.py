"""The page on which people label the patches of a query: one HTML file that holds all it needs.

Images are shown and drawn on by NiiVue (BSD-2-Clause), which set-up and image bring (setup/niivue.sh). Each image
stands in the page as it is in its file, gzipped; the browser unpacks the case that it shows. What it saves has the
header of `start`, byte for byte, so the geometry is that of the given file, whatever the viewer makes of it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import sys
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.wrapstruct import WrapStructError

from nnactive_nf.core.pages import class_colours, script_json

TEMPLATES = Path(__file__).parent / "templates"
NIIVUE = Path("share") / "niivue"  # below sys.prefix: of the venv, and of the image's
SCRIPTS = ("nifti", "labels", "niivue", "plain", "page")
HEAD_BYTES = 352
UINT8 = 2  # NIfTI's code of that kind of voxel


@dataclass(frozen=True)
class PagePatch:
    """A patch to label: its box in voxels of its case's images, in the order of the file (x, y, z), `high` excluded."""

    number: int  # 1 is the patch from which most is gained
    low_ijk: tuple[int, int, int]
    high_ijk: tuple[int, int, int]
    reserve: bool = False  # to be labelled where another is refused


@dataclass(frozen=True)
class PageCase:
    """Images of a case, each the bytes of a .nii.gz on one grid: the case, cut to a margin round its patches.

    `start` is uint8: what people begin with inside the patches (a class, or undecided), undecided elsewhere.
    """

    name: str
    channels: list[tuple[str, bytes]]
    start: bytes
    uncertainty: bytes | None
    patches: list[PagePatch]


@dataclass(frozen=True)
class Grid:
    """Voxels of a file and where they lie: `axes` are the directions (such as L, P, S) to which its indices grow."""

    shape_ijk: tuple[int, ...]
    affine: npt.NDArray[np.float64]
    axes: tuple[str, ...]


def niivue_text() -> str | None:
    """NiiVue and, before it, its licence as a comment; None where set-up had no npm."""
    folder = Path(sys.prefix) / NIIVUE
    try:
        code = (folder / "niivue.umd.js").read_text(encoding="utf-8")
        licence = (folder / "LICENSE").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return f"/*! NiiVue\n{licence.strip()}\n*/\n{code}"


def page_text(
    title: str,
    cases: list[PageCase],
    classes: list[tuple[str, int]],
    undecided: int,
    niivue: str | None,
    remark: str = "",
) -> str:
    """The whole page.

    Args:
        title: what it is called, and under what, with the patches, the browser keeps the work.
        cases: with the patches to label.
        classes: name and value in the file, background (0) included.
        undecided: a value that is no class, for voxels that nobody has labelled.
        niivue: the viewer's code, from `niivue_text`; None makes a page that shows patches and has no pen.
        remark: a sentence for who labels, shown under the buttons that decide.

    Raises:
        ValueError: files of a case differ in their grids, a box leaves them, or a value is no class.
    """
    ordered = _ordered(classes, undecided)
    numbers = [patch.number for case in cases for patch in case.patches]
    if len(set(numbers)) < len(numbers) or len({case.name for case in cases}) < len(cases):
        raise ValueError("a case or the number of a patch comes twice")
    files: list[dict[str, str]] = []
    digest = hashlib.sha256(json.dumps([title, ordered, undecided]).encode())
    shown = []
    for case in cases:
        voxels = _start_voxels(case, {*(value for _, value in ordered), undecided})
        digest.update(json.dumps([case.name, [asdict(patch) for patch in case.patches]]).encode() + voxels)
        shown.append(_case_data(case, files))
    colours = [look["colour"] for look in class_colours(name for name, _ in ordered)]
    data = {
        "id": digest.hexdigest()[:16],
        "title": title,
        "classes": [
            {"name": name, "value": value, "colour": colour}
            for (name, value), colour in zip(ordered, colours, strict=True)
        ],
        "undecided": undecided,
        "cases": shown,
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        title=title,
        background=ordered[0][0],
        style=(TEMPLATES / "page.css").read_text(encoding="utf-8"),
        scripts=[(TEMPLATES / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS],
        niivue=None if niivue is None else niivue.replace("</script", "<\\/script"),
        data=script_json(data),
        files=files,
        remark=remark,
    )


def _ordered(classes: list[tuple[str, int]], undecided: int) -> list[tuple[str, int]]:
    """The classes with background first, so that index 0 is what the eraser leaves."""
    ordered = sorted(classes, key=lambda one: one[1] != 0)
    values = [value for _, value in ordered]
    if not values or values[0] != 0 or len({*values, undecided}) < len(values) + 1:
        raise ValueError(f"classes are {values}, undecided is {undecided}: numbers of their own, and a 0, are wanted")
    if not all(0 <= value < 256 for value in (*values, undecided)):
        raise ValueError(f"classes are {values}, undecided is {undecided}: the page saves numbers from 0 to 255")
    return ordered


def _case_data(case: PageCase, files: list[dict[str, str]]) -> dict[str, Any]:
    """What the page is told of a case; its files are added to `files`."""
    grid = _grid(case.start, f"{case.name}: start")
    for patch in case.patches:
        box = zip(patch.low_ijk, patch.high_ijk, grid.shape_ijk, strict=True)
        if not all(0 <= low < high <= length for low, high, length in box):
            raise ValueError(
                f"{case.name}: patch {patch.number} is {patch.low_ijk} to {patch.high_ijk} of {grid.shape_ijk}"
            )
    uncertainty = [] if case.uncertainty is None else [("uncertainty", case.uncertainty)]
    for name, data in [*case.channels, *uncertainty]:
        other = _grid(data, f"{case.name}: {name}")
        if other.shape_ijk != grid.shape_ijk or not np.allclose(other.affine, grid.affine, atol=1e-4):
            raise ValueError(f"{case.name}: {name} lies on another grid than start")
    return {
        "name": case.name,
        "axes": grid.axes,
        "channels": [{"name": name, "file": _add(files, data)} for name, data in case.channels],
        "start": _add(files, case.start),
        "uncertainty": None if case.uncertainty is None else _add(files, case.uncertainty),
        "patches": [
            {"number": p.number, "low": p.low_ijk, "high": p.high_ijk, "reserve": p.reserve} for p in case.patches
        ],
    }


def _add(files: list[dict[str, str]], data: bytes) -> str:
    """Put a file into the page; returns the id of its element."""
    files.append({"id": f"file-{len(files)}", "text": base64.b64encode(data).decode()})
    return files[-1]["id"]


def _header(data: bytes, what: str) -> Any:
    """The header of a .nii.gz, of which no more is unpacked."""
    try:
        head = zlib.decompressobj(wbits=31).decompress(data, HEAD_BYTES)
        header = nibabel.Nifti1Header(head[:348], check=False)
    except (zlib.error, WrapStructError) as error:
        raise ValueError(f"{what} is no .nii.gz ({error})") from None
    if header["sizeof_hdr"] != 348 or header["magic"] != b"n+1":
        raise ValueError(f"{what} is no NIfTI-1 file")
    return header


def _grid(data: bytes, what: str) -> Grid:
    header = _header(data, what)
    if header.endianness != "<" or len(header.get_data_shape()) != 3:
        raise ValueError(f"{what} has the shape {header.get_data_shape()} or big-endian voxels: the page takes neither")
    affine = header.get_best_affine()
    return Grid(header.get_data_shape(), affine, nibabel.aff2axcodes(affine))  # type: ignore[attr-defined]


def _start_voxels(case: PageCase, allowed: set[int]) -> bytes:
    """Voxels of `start`, as they lie in the file."""
    header = _header(case.start, f"{case.name}: start")
    slope, offset = (float(np.nan_to_num(header[name])) for name in ("scl_slope", "scl_inter"))
    if int(header["datatype"]) != UINT8 or slope not in (0, 1) or offset != 0:
        raise ValueError(f"{case.name}: start is no unscaled uint8")
    try:
        voxels = gzip.decompress(case.start)[int(header["vox_offset"]) :]
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{case.name}: start is damaged ({error})") from None
    if len(voxels) != int(np.prod(header.get_data_shape())):
        raise ValueError(f"{case.name}: start holds {len(voxels)} voxels, its header tells {header.get_data_shape()}")
    if strange := set(np.unique(np.frombuffer(voxels, np.uint8)).tolist()) - allowed:
        raise ValueError(f"{case.name}: start holds {sorted(strange)}, which is no class and not undecided")
    return voxels
