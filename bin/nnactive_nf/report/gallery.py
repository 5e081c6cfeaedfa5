"""The query gallery: crops around the queried patches, stored as small sprites, and the same as PNG sheets.

A crop is sent to the page as a volume: its slices one under the other in one picture, from which the page cuts any
plane. How many patches, slices and pixels are kept follows from how much there is, so that the file stays small.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from nnactive_nf.core.design import Design, Trajectory
from nnactive_nf.core.hdf5 import open_hdf5
from nnactive_nf.core.labels import VERSION as LABELS_VERSION
from nnactive_nf.core.labels import read_patches

VIEWS_VERSION = 1
MOST_VOXELS = 256  # of a picture along an axis; more than QUERY keeps
BYTES = 18_000_000  # of base64 for all sprites together; plotly takes 5 MB, the limit of the file is 30 MB


@dataclass(frozen=True)
class Level:
    """How much is kept: patches per query, slices per crop, pixels along the longer side, WebP quality."""

    patches: int
    slices: int
    pixels: int
    quality: int


LEVELS = [
    Level(6, 64, 96, 70),
    Level(4, 48, 80, 60),
    Level(3, 32, 64, 55),
    Level(2, 24, 56, 50),
    Level(1, 24, 48, 45),
    Level(1, 12, 40, 40),
]


@dataclass(frozen=True)
class Crop:
    """One queried patch with its surroundings.

    Arrays are `[z, y, x]`, a voxel of theirs being `stride_zyx` of the image; `label` is 0 unlabelled, 1 + label index.
    """

    rank: int
    case: str
    score: float
    component: str
    start_zyx: tuple[int, ...]  # of the patch in the image
    size_zyx: tuple[int, ...]
    crop_start_zyx: tuple[int, ...]
    stride_zyx: tuple[int, ...]
    spacing_mm_zyx: tuple[float, ...]
    image: npt.NDArray[np.uint8]
    uncertainty: npt.NDArray[np.float32] | None
    label: npt.NDArray[np.uint8] | None

    @property
    def size_in_image_zyx(self) -> list[int]:
        """Voxels of the image that the crop covers."""
        return [n * stride for n, stride in zip(self.image.shape, self.stride_zyx, strict=True)]


@dataclass(frozen=True)
class Query:
    """A query's pictures: which trajectories it belongs to (several at the start), and where its files are."""

    key: str
    cycle: int
    owners: tuple[str, ...]
    views: Path
    labels: Path | None
    strategy: str
    map: str
    ranks: tuple[str, ...]


def find_queries(design: Design, views: Path | None, labels: Path | None, suffix: str = "") -> list[Query]:
    """All queries with pictures, in the plan's order.

    Args:
        design: the plan.
        views: folder with `views*.h5` files at any depth.
        labels: folder with label masks at any depth.
        suffix: what the plan's nodes have behind the names that stand in the files.
    """
    label_of: dict[str, Path] = {}
    if labels is not None:
        for path in sorted(labels.rglob("*.h5")):
            with open_hdf5(path, "labels", LABELS_VERSION) as file:
                label_of.setdefault(str(file.attrs["node"]) + suffix, path)
    found: dict[str, Query] = {}
    for path in sorted(views.rglob("*.h5")) if views is not None else []:
        with open_hdf5(path, "views", VIEWS_VERSION) as file:
            cycle = int(file.attrs["cycle"])
            strategy, node = str(file.attrs["strategy"]), str(file.attrs["node"]) + suffix
            owners = _owners(design, path, node, cycle, strategy)
            if not owners:
                continue
            made = owners[0].nodes[cycle]
            found[made] = Query(
                key=made,
                cycle=cycle,
                owners=tuple(t.id for t in owners),
                views=path,
                labels=label_of.get(made),
                strategy=strategy,
                map=str(file.attrs["map"]),
                ranks=tuple(sorted(file["patches"])),
            )
    nodes = list(dict.fromkeys(node for t in design.trajectories for node in t.nodes))
    return [found[node] for node in nodes if node in found]


def _owners(design: Design, path: Path, node: str, cycle: int, strategy: str) -> list[Trajectory]:
    """Trajectories whose labels of this cycle the query made: by the node that it names, else by its file's place."""
    candidates = [t for t in design.trajectories if cycle < len(t.nodes)]
    made = [t for t in candidates if t.nodes[cycle] == node]
    if made:
        return made
    named = [t for t in candidates if t.id == node or t.id in path.parts or path.name.startswith(f"{t.id}-c")]
    if named:
        return named
    return [t for t in candidates if cycle > 0 and t.nodes[cycle - 1] == node and t.strategy == strategy]


def read_crops(query: Query, limit: int) -> list[Crop]:
    """The first `limit` patches of a query with image, uncertainty and labels."""
    with open_hdf5(query.views, "views", VIEWS_VERSION) as file:
        return [_crop(file["patches"][rank], int(rank), query.labels) for rank in query.ranks[:limit]]


def _crop(group: h5py.Group, rank: int, labels: Path | None) -> Crop:
    def ints(name: str) -> tuple[int, ...]:
        return tuple(int(value) for value in group.attrs[name])

    image = _picture(group["image"], "uint8")
    uncertainty = None
    if "uncertainty" in group:
        uncertainty = _picture(group["uncertainty"], "float16").astype(np.float32)
        if uncertainty.shape != image.shape or not np.isfinite(uncertainty).all():
            raise ValueError(f"the uncertainty of picture {rank} does not fit its image, or is not finite")
    case, start = str(group.attrs["case"]), ints("crop_start_zyx")
    # Files written before large crops were stored coarser do not say it.
    stride = ints("stride_zyx") if "stride_zyx" in group.attrs else (1, 1, 1)
    return Crop(
        rank=rank,
        case=case,
        score=float(group.attrs["score"]),
        component=str(group.attrs["component"]),
        start_zyx=ints("start_zyx"),
        size_zyx=ints("size_zyx"),
        crop_start_zyx=start,
        stride_zyx=stride,
        spacing_mm_zyx=tuple(float(value) for value in group.attrs["spacing_mm_zyx"]),
        image=image,
        uncertainty=uncertainty,
        label=None if labels is None else _label(labels, case, start, stride, image.shape),
    )


def _picture(stored: h5py.Dataset, kind: str) -> npt.NDArray[Any]:
    """A picture that is as small as they are written."""
    if stored.dtype != kind or stored.ndim != 3 or not all(0 < length <= MOST_VOXELS for length in stored.shape):
        raise ValueError(f"{stored.name} is {stored.dtype} of shape {stored.shape}, no picture of a patch")
    return stored[()]  # type: ignore[no-any-return]


def _label(
    path: Path, case: str, start: Sequence[int], stride: Sequence[int], shape: Sequence[int]
) -> npt.NDArray[np.uint8] | None:
    """Labels at the middle of each voxel of the picture."""
    with open_hdf5(path, "labels", LABELS_VERSION) as file:
        if case not in file["cases"]:
            return None
        box = tuple(slice(a + k // 2, a + k * n, k) for a, k, n in zip(start, stride, shape, strict=True))
        mask = file["cases"][case]["mask"][box]
        index = np.zeros(mask.shape, dtype=np.uint8)
        for place, value in enumerate(file.attrs["class_values"], start=1):
            index[mask == value] = place
    return index


# ---- sprites for the page ---------------------------------------------------------------------------------------


def gallery(design: Design, queries: Sequence[Query], budget: int = BYTES) -> dict[str, Any]:
    """What the page needs of the pictures: queries by key, per trajectory which query made which cycle, label names.

    The richest level that keeps all sprites within `budget` is taken; below the poorest, later queries go without.
    """
    index: dict[str, dict[str, str]] = {t.id: {} for t in design.trajectories}
    if not queries:
        return {"queries": {}, "index": {}, "left_out": 0, "labels": {}}
    for query in queries:
        for owner in query.owners:
            index[owner][str(query.cycle)] = query.key
    for level in LEVELS:
        last = level is LEVELS[-1]
        packed, left_out = _pack(queries, level, budget, stop=not last)
        if packed is not None:
            break
    assert packed is not None
    index = {name: {c: key for c, key in by_cycle.items() if key in packed} for name, by_cycle in index.items()}
    index = {name: of for name, of in index.items() if of}
    return {"queries": packed, "index": index, "left_out": left_out, "labels": label_names(design, queries)}


def label_names(design: Design, queries: Sequence[Query]) -> dict[str, list[str]]:
    """Names of the labels that pictures are painted with, by data set: with regions these are not what is measured."""
    dataset_of = {t.id: t.dataset for t in design.trajectories}
    files = {dataset_of[query.owners[0]]: query.labels for query in reversed(queries) if query.labels is not None}
    found = {dataset: read_patches(path).classes for dataset, path in files.items()}
    return {name: [classes.described(index) for index in range(len(classes))] for name, classes in found.items()}


def _pack(queries: Sequence[Query], level: Level, budget: int, stop: bool) -> tuple[dict[str, Any] | None, int]:
    """Sprites at one level; None as soon as they burst the budget, unless `stop` is off: then queries are left out."""
    packed: dict[str, Any] = {}
    used = 0
    for place, query in enumerate(queries):
        crops = read_crops(query, level.patches)
        highest = max((float(c.uncertainty.max()) for c in crops if c.uncertainty is not None), default=0.0)
        patches = [_sprite(crop, level, highest) for crop in crops]
        size = sum(len(patch[name] or "") for patch in patches for name in ("image", "uncertainty", "label"))
        projected = (used + size) * len(queries) / (place + 1)
        if stop and (used + size > budget or (place >= 8 and projected > 1.15 * budget)):
            return None, 0
        if used + size > budget:
            return packed, len(queries) - place
        used += size
        packed[query.key] = {
            "cycle": query.cycle,
            "strategy": query.strategy,
            "map": query.map,
            "highest": highest,
            "asked": len(query.ranks),
            "patches": patches,
        }
    return packed, 0


def _sprite(crop: Crop, level: Level, highest: float) -> dict[str, Any]:
    depth, height, width = crop.image.shape
    chosen = _chosen_slices(depth, level.slices)
    scale = min(1.0, level.pixels / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = _stack(crop.image[chosen], size, Image.Resampling.BOX)
    uncertainty = label = None
    if crop.uncertainty is not None and highest > 0:
        grey = np.clip(np.rint(crop.uncertainty[chosen] * (255 / highest)), 0, 255).astype(np.uint8)
        uncertainty = _webp(_stack(grey, size, Image.Resampling.BOX), level.quality)
    if crop.label is not None:
        label = _png(_stack(crop.label[chosen], size, Image.Resampling.NEAREST))
    offset = [start - low for start, low in zip(crop.start_zyx, crop.crop_start_zyx, strict=True)]
    shape = crop.size_in_image_zyx
    return {
        "rank": crop.rank,
        "case": crop.case,
        "score": None if not np.isfinite(crop.score) else crop.score,
        "component": crop.component,
        "start": list(crop.start_zyx),
        "size": list(crop.size_zyx),
        "extent": [n * mm for n, mm in zip(shape, crop.spacing_mm_zyx, strict=True)],
        "box": [[a / n, min(1, (a + s) / n)] for a, s, n in zip(offset, crop.size_zyx, shape, strict=True)],
        "shape": [len(chosen), size[1], size[0]],
        "slices": [crop.crop_start_zyx[0] + z * crop.stride_zyx[0] for z in chosen],
        "low": list(crop.crop_start_zyx),
        "crop": shape,
        "image": _webp(image, level.quality),
        "uncertainty": uncertainty,
        "label": label,
    }


def _chosen_slices(depth: int, limit: int) -> list[int]:
    if depth <= limit:
        return list(range(depth))
    return sorted({round(float(z)) for z in np.linspace(0, depth - 1, limit)})


def _stack(volume_zyx: npt.NDArray[np.uint8], size_xy: tuple[int, int], method: Image.Resampling) -> Image.Image:
    """Slices one under the other, each resized to `size_xy`."""
    width, height = size_xy
    sheet = Image.new("L", (width, height * len(volume_zyx)))
    for place, plane in enumerate(volume_zyx):
        picture = Image.fromarray(plane)
        sheet.paste(picture if picture.size == size_xy else picture.resize(size_xy, method), (0, place * height))
    return sheet


def _webp(picture: Image.Image, quality: int) -> str:
    return _data_uri(picture, "webp", quality=quality, method=4)


def _png(picture: Image.Image) -> str:
    return _data_uri(picture, "png", optimize=True)


def _data_uri(picture: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


# ---- sheets as PNG ----------------------------------------------------------------------------------------------


def sheet(query: Query, patches: int = 4, side: int = 180) -> Image.Image:
    """PNG sheet of a query: a row per patch, the three planes through its centre, image and uncertainty over it."""
    crops = read_crops(query, patches)
    highest = max((float(c.uncertainty.max()) for c in crops if c.uncertainty is not None), default=0.0)
    rows = [_row(crop, highest, side) for crop in crops]
    width = max(row.width for row in rows)
    whole = Image.new("RGB", (width, sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        whole.paste(row, (0, top))
        top += row.height
    return whole


def _row(crop: Crop, highest: float, side: int) -> Image.Image:
    pictures = []
    for axis in range(3):
        pictures.append(_plane(crop, axis, None, side))
        if crop.uncertainty is not None and highest > 0:
            pictures.append(_plane(crop, axis, highest, side))
    gap, caption = 6, 18
    height = max(picture.height for picture in pictures) + caption + gap
    row = Image.new("RGB", (sum(picture.width + gap for picture in pictures), height), "white")
    place = ", ".join(str(value) for value in crop.start_zyx)
    text = f"rank {crop.rank}, {crop.case}, start z, y, x = {place}, score {crop.score:.4g}"
    ImageDraw.Draw(row).text((2, 2), text, fill="black")
    left = 0
    for picture in pictures:
        row.paste(picture, (left, caption))
        left += picture.width + gap
    return row


def _plane(crop: Crop, axis: int, highest: float | None, side: int) -> Image.Image:
    """The plane through the patch's centre, in its true proportions, with the patch's outline."""
    offset = [start - low for start, low in zip(crop.start_zyx, crop.crop_start_zyx, strict=True)]
    centre = (offset[axis] + crop.size_zyx[axis] // 2) // crop.stride_zyx[axis]
    grey: npt.NDArray[np.uint8] = crop.image.take(centre, axis)  # type: ignore[assignment]
    colours: npt.NDArray[Any] = np.repeat(grey[..., None], 3, axis=-1).astype(np.float32)
    if highest is not None and crop.uncertainty is not None:
        share = crop.uncertainty.take(centre, axis) / highest
        hot = np.asarray(matplotlib.colormaps["inferno"](share))[..., :3] * 255
        colours = 0.35 * colours + 0.65 * hot
    rows, columns = (other for other in range(3) if other != axis)
    shape = crop.size_in_image_zyx
    extent = [shape[k] * crop.spacing_mm_zyx[k] for k in (rows, columns)]
    scale = side / max(extent)
    height, width = (max(1, round(mm * scale)) for mm in extent)
    picture = Image.fromarray(np.rint(colours).astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    top, bottom = (height * edge / shape[rows] for edge in _edges(offset, crop.size_zyx, rows))
    if rows == 0:  # z points up
        picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        top, bottom = height - bottom, height - top
    left, right = (width * edge / shape[columns] for edge in _edges(offset, crop.size_zyx, columns))
    ImageDraw.Draw(picture).rectangle((left, top, right - 1, bottom - 1), outline="#00e5ff", width=2)
    return picture


def _edges(offset: Sequence[int], size: Sequence[int], axis: int) -> tuple[int, int]:
    return offset[axis], offset[axis] + size[axis]


def colour_table() -> list[str]:
    """The 256 colours of uncertainty, as hex, for the page."""
    return [matplotlib.colors.to_hex(colour) for colour in matplotlib.colormaps["inferno"](np.arange(256))]
