"""Label masks: what is known of each image so far, and the patches that people or the oracle labelled."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box, as_shape
from nnactive_nf.core.hdf5 import check_space, create_hdf5, open_hdf5

VERSION = 1
PATCH_COLUMNS = {
    "cycle": "int64",
    "case": "str",
    "z": "int64",
    "y": "int64",
    "x": "int64",
    "dz": "int64",
    "dy": "int64",
    "dx": "int64",
    "score": "float64",
    "strategy": "str",
    "component": "str",
    "voxels": "int64",
    "foreground_voxels": "int64",
}

OUTSIDE = "outside"  # as the strategy: no patch, but what somebody has labelled of a case outside of its patches

MINUTES = "minutes"  # one more column, where people have told of any: NaN where they have not

Mask = npt.NDArray[np.unsignedinteger]


@dataclass
class Labels:
    """The content of a `labels_cNN.h5` file.

    Attributes:
        dataset: name of the data set.
        node: the node that these labels train.
        cycle: number of the cycle, from 0; -1 where nothing is labelled yet and in reference files.
        classes: class names and values.
        masks: per case a mask `[z, y, x]` of class values, `classes.ignore_value` wherever nobody has looked; only
            cases with labels.
        patches: the patches labelled so far, one row each, columns of `PATCH_COLUMNS` and one `voxels_<class>` each;
            `MINUTES` where people told of any.
        spacings_mm: per case the voxel size (z, y, x) in mm.
    """

    dataset: str
    node: str
    cycle: int
    classes: Classes
    masks: Mapping[str, Mask] = field(default_factory=dict)
    patches: pd.DataFrame = field(default_factory=pd.DataFrame)
    spacings_mm: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.patches.empty:
            self.patches = empty_patches(self.classes)

    def boxes(self, case: str) -> list[Box]:
        """Boxes of the patches labelled in this case, each as a whole."""
        return patch_boxes(self.patches[~in_part(self.patches)], case)

    def digest(self) -> str:
        """SHA-256 of what a training sees of the labels: classes, cases, masks. Not of names, scores or order."""
        classes = [self.classes.names, self.classes.values, *([self.classes.regions] if self.classes.regions else [])]
        sha = hashlib.sha256(json.dumps(classes).encode())
        for case in sorted(self.masks):
            mask = np.ascontiguousarray(self.masks[case])
            sha.update(f"{case} {mask.shape} {mask.dtype.str} ".encode())
            sha.update(mask.tobytes())
        return sha.hexdigest()


def class_column(name: str) -> str:
    """Column of the patch table that counts the voxels of a class or region."""
    return f"voxels_{name}"


def empty_patches(classes: Classes) -> pd.DataFrame:
    """Patch table without rows, with all its columns and types."""
    types = PATCH_COLUMNS | {class_column(name): "int64" for name in classes.named}
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})


def patch_boxes(patches: pd.DataFrame, case: str) -> list[Box]:
    """Boxes of the rows of a patch or query table that lie in this case, in the table's order."""
    rows = patches.loc[patches["case"] == case, ["z", "y", "x", "dz", "dy", "dx"]].to_numpy(dtype=np.int64)
    return [Box(as_shape(row[:3]), as_shape(row[3:])) for row in rows]


def is_asked_for(patches: pd.DataFrame) -> pd.Series:
    """Which rows of a table of patches are patches, and not what people have labelled outside of them."""
    return patches["strategy"] != OUTSIDE


def in_part(patches: pd.DataFrame) -> pd.Series:
    """Which rows of a table of patches are no patch that a query must keep off: their box has unlabelled voxels.

    They stand for a case that came along labelled in part, or for what people have labelled outside of the patches.
    """
    volume: pd.Series = patches["dz"] * patches["dy"] * patches["dx"]
    return ((patches["cycle"] < 0) | ~is_asked_for(patches)) & (patches["voxels"] < volume)


def whole_patches(shapes: Mapping[str, tuple[int, ...]]) -> pd.DataFrame:
    """A query table of every case as one patch, by name."""
    return pd.DataFrame(
        {
            "rank": range(1, len(shapes) + 1),
            "case": sorted(shapes),
            **dict.fromkeys("zyx", 0),
            **{f"d{axis}": [shapes[case][i] for case in sorted(shapes)] for i, axis in enumerate("zyx")},
            "score": 0.0,
            "component": "all",
        }
    )


def patch_counts(truth: Mask, box: Box, classes: Classes) -> dict[str, int]:
    """Place and voxel counts of a patch with these labels, as the table of patches has them.

    Voxels without a label are not counted: in a case that came along labelled in part, or where readers differ.
    """
    counts = {class_column(name): number for name, number in classes.counts(truth).items()}
    (z, y, x), (dz, dy, dx) = box
    labelled = int(np.count_nonzero(truth != classes.ignore_value))
    foreground = labelled - counts[class_column(classes.names[0])]  # not the classes' sum: regions overlap
    where = {"z": z, "y": y, "x": x, "dz": dz, "dy": dy, "dx": dx}
    return where | {"voxels": labelled, "foreground_voxels": foreground} | counts


def write_labels(path: Path, labels: Labels, kind: str = "labels") -> None:
    """Write a labels file, whole or not at all."""
    attributes = {
        "dataset": labels.dataset,
        "node": labels.node,
        "cycle": labels.cycle,
        "class_names": list(labels.classes.names),
        "class_values": list(labels.classes.values),
        "ignore_value": labels.classes.ignore_value,
    }
    if labels.classes.regions:
        attributes["regions"] = json.dumps(labels.classes.regions)
    with create_hdf5(path, kind, VERSION, attributes) as file:
        cases = file.create_group("cases")
        for case in sorted(labels.masks):
            group = cases.create_group(case)
            mask = labels.masks[case].astype(labels.classes.dtype, copy=False)
            chunks = tuple(min(32, n) for n in mask.shape)
            group.create_dataset("mask", data=mask, chunks=chunks, compression="gzip", compression_opts=4)
            if case in labels.spacings_mm:
                group.attrs["spacing_mm_zyx"] = labels.spacings_mm[case]
            check_space(file)
        _write_patches(file.create_group("patches"), labels.patches)


def read_labels(path: Path, kind: str = "labels", shapes: Mapping[str, tuple[int, ...]] | None = None) -> Labels:
    """Read a labels file and check it.

    Args:
        path: the file.
        kind: `labels`, or `oracle` and `reference` for complete masks.
        shapes: image shapes per case where they are known; cases and mask shapes must fit them.

    Raises:
        UserError: the file is truncated, foreign, or does not fit the data set; the message names the file.
    """
    with open_hdf5(path, kind, VERSION) as file:
        labels = _read_head(path, file)
        for case, group in file["cases"].items():
            _check_form(path, labels.classes, case, group["mask"], shapes)  # before anything of that size is read
        labels.masks = {case: group["mask"][()] for case, group in file["cases"].items()}
        labels.spacings_mm = {
            case: spacing_of(path, case, group.attrs["spacing_mm_zyx"])
            for case, group in file["cases"].items()
            if "spacing_mm_zyx" in group.attrs
        }
    for case, mask in labels.masks.items():
        _check_values(path, labels.classes, case, mask)
    return labels


def spacing_of(path: Path, case: str, values: Any) -> tuple[float, float, float]:
    """Voxel size (z, y, x) in mm as a file tells it; `UserError` where it is none."""
    spacing = tuple(float(value) for value in values)
    if len(spacing) != 3 or not all(math.isfinite(mm) and mm > 0 for mm in spacing):
        raise UserError(f"{path}: voxel size of case {case} is {spacing}, three numbers of mm are wanted")
    return spacing


def read_patches(path: Path, kind: str = "labels") -> Labels:
    """Read all of a labels file but its masks: what the patches' table tells needs no volume in memory."""
    with open_hdf5(path, kind, VERSION) as file:
        return _read_head(path, file)


def _read_head(path: Path, file: h5py.File) -> Labels:
    classes = _read_classes(path, file)
    patches = _read_patches(file["patches"], classes)
    _check_patches(path, patches, file["cases"])
    return Labels(
        dataset=str(file.attrs["dataset"]),
        node=str(file.attrs["node"]),
        cycle=int(file.attrs["cycle"]),
        classes=classes,
        patches=patches,
    )


def _read_classes(path: Path, file: h5py.File) -> Classes:
    names, values = ([*file.attrs[f"class_{key}"]] for key in ("names", "values"))
    return Classes.read(names, values, str(path), json.loads(file.attrs.get("regions", "[]")))


def each_mask(path: Path, classes: Classes, kind: str = "labels") -> Iterator[tuple[str, Mask]]:
    """Cases with their masks `[z, y, x]`, by name, checked as `read_labels` does; one at a time is in memory."""
    with open_hdf5(path, kind, VERSION) as file:
        for case, group in file["cases"].items():
            _check_form(path, classes, case, group["mask"], None)
            mask = group["mask"][()]
            _check_values(path, classes, case, mask)
            yield case, mask


def read_mask(path: Path, case: str, kind: str = "labels", shape: tuple[int, ...] | None = None) -> Mask:
    """The mask `[z, y, x]` of one case alone, checked, for stages that must not hold all of them at once.

    `shape` is the image's, where it is known; the mask must fit it.
    """
    with open_hdf5(path, kind, VERSION) as file:
        classes = _read_classes(path, file)
        if case not in file["cases"]:
            raise UserError(f"{path}: holds no mask of case {case}")
        stored = file["cases"][case]["mask"]
        _check_form(path, classes, case, stored, None if shape is None else {case: shape})
        mask: Mask = stored[()]
    _check_values(path, classes, case, mask)
    return mask


def _check_form(
    path: Path, classes: Classes, case: str, mask: h5py.Dataset, shapes: Mapping[str, tuple[int, ...]] | None
) -> None:
    """What can be told of a stored mask before it is read."""
    if mask.ndim != 3 or mask.dtype != classes.dtype:
        raise UserError(f"{path}: mask of case {case} is {mask.dtype} of shape {mask.shape}, not a 3D label mask")
    if shapes is not None and case not in shapes:
        raise UserError(f"{path}: case {case} is not in the data set")
    if shapes is not None and tuple(mask.shape) != tuple(shapes[case]):
        raise UserError(f"{path}: mask of case {case} has shape {mask.shape}, the image has {shapes[case]}")


def _check_values(path: Path, classes: Classes, case: str, mask: Mask) -> None:
    seen = np.zeros(np.iinfo(mask.dtype).max + 1, dtype=bool)
    seen[mask] = True
    unknown = sorted({*np.flatnonzero(seen).tolist()} - {*classes.values, classes.ignore_value})
    if unknown:
        raise UserError(f"{path}: mask of case {case} holds undeclared values {unknown}")


def _write_patches(group: h5py.Group, patches: pd.DataFrame) -> None:
    group.attrs["columns"] = list(patches.columns)
    text = h5py.string_dtype()
    for name in patches.columns:
        values = patches[name]
        is_text = PATCH_COLUMNS.get(name) == "str"
        group.create_dataset(
            name,
            data=values.astype(str).to_list() if is_text else values.to_numpy(),
            dtype=text if is_text else None,
            shape=(len(values),),
        )


def _read_patches(group: h5py.Group, classes: Classes) -> pd.DataFrame:
    empty = empty_patches(classes)
    columns = {
        name: group[name].asstr()[()] if PATCH_COLUMNS.get(name) == "str" else group[name][()] for name in empty.columns
    }
    patches = pd.DataFrame(columns).astype(empty.dtypes.to_dict())
    return patches.assign(**{MINUTES: group[MINUTES][()].astype(np.float64)}) if MINUTES in group else patches


def _check_patches(path: Path, patches: pd.DataFrame, cases: h5py.Group) -> None:
    """Whether each patch lies in the mask of its case."""
    if not isinstance(cases, h5py.Group):
        raise TypeError("'cases' is no group")
    for case in patches["case"].unique():
        if case not in cases:
            raise UserError(f"{path}: patches of case {case} are in it, but no mask")
        shape = cases[case]["mask"].shape
        for box in patch_boxes(patches, case):
            if len(shape) == 3 and not box.inside(shape):
                raise UserError(f"{path}: patch at {box.start_zyx} of size {box.size_zyx} in case {case} lies outside")
