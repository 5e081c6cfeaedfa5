"""The prepared data set: what PREPARE wrote and every later stage reads.

Two grids are in use. The *image grid* is the image cropped to its box of non-zero voxels and resampled to the planned
spacing, axes (z, y, x) as SimpleITK hands them to numpy: patches, label masks and uncertainty maps live there. The
*network grid* holds the same voxels with the axes in the plan's order (`transpose_forward`): nnU-Net trains on it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError, one_line
from nnactive_nf.core.files import check_regular, read_json, read_plain_pickle
from nnactive_nf.core.geometry import Shape, as_shape
from nnactive_nf.core.grid import CaseGrid, grids_of_table
from nnactive_nf.core.hdf5 import open_hdf5
from nnactive_nf.core.names import check_names
from nnactive_nf.core.plans import check_axes, check_nnunet_json, check_plans, label_order
from nnactive_nf.core.tables import read_table, typed

VERSION = 1
FORMAT = "nnactive-nf/dataset"

# Columns of cases.csv. Shapes and spacings are (z, y, x), in voxels and mm; `original_*` is the file's own grid.
# PREPARE adds `GRID_COLUMNS` (core/grid.py): where the image grid lies in the file and in the world.
CASE_COLUMNS = [
    "case", "group", "split",
    "z", "y", "x", "spacing_z", "spacing_y", "spacing_x",
    "original_z", "original_y", "original_x",
    "original_spacing_z", "original_spacing_y", "original_spacing_x",
]  # fmt: skip


@dataclass(frozen=True)
class Dataset:
    """A prepared data set, opened by `Dataset.open(folder)`."""

    folder: Path
    name: str
    classes: Classes
    channels: tuple[str, ...]
    configuration: str
    digest: str  # SHA-256 of images, plans and classes
    cases: pd.DataFrame  # CASE_COLUMNS, one row per case, sorted by case
    images: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of each case's preprocessed image

    @classmethod
    def open(cls, folder: Path) -> Dataset:
        """Open a folder that PREPARE wrote; `UserError` where it is none."""
        folder = Path(folder)
        head = read_json(folder / "dataset.json")
        if not isinstance(head, dict):
            raise UserError(f"{folder}/dataset.json: not the head of a prepared data set")
        if head.get("format") != FORMAT or head.get("version") != VERSION:
            raise UserError(f"{folder}/dataset.json: format is {head.get('format')!r}, expected {FORMAT} {VERSION}")
        texts = ("name", "configuration", "digest")
        lists = ("class_names", "class_values", "channels")
        wrong = [name for name in texts if not isinstance(head.get(name), str)]
        wrong += [name for name in lists if not isinstance(head.get(name), list)]
        if wrong or not all(isinstance(channel, str) for channel in head["channels"]):
            raise UserError(f"{folder}/dataset.json: {', '.join(wrong) or 'channels'}: missing, or not what is wanted")
        classes = Classes.read(
            head["class_names"], head["class_values"], f"{folder}/dataset.json", head.get("regions", [])
        )
        cases = _read_cases(folder / "cases.csv")
        check_names("case", cases["case"], f"{folder}/cases.csv")
        told = (head["name"], classes, tuple(head["channels"]), head["configuration"], head["digest"])
        return cls(folder, *told, cases, dict(head.get("images", {})))

    def digest_of(self, cases: Iterable[str]) -> str:
        """SHA-256 of all but the labels that a training on these cases rests on: their images, plans and classes.

        Not of the other cases, so that those that join the pool later train nothing anew.
        """
        regions = [self.classes.regions] if self.classes.regions else []
        images = {case: self.images.get(case, self.digest) for case in cases}
        content = [self.plans, self.nnunet_json, label_order(self.nnunet_json), images, *regions]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def check_owner(self, path: Path, dataset: str, classes: Classes) -> None:
        """Hold what a file says of its data set against this one; `UserError` where it is another's."""
        if classes != self.classes:
            raise UserError(f"{path}: its classes are not those of the data set {self.name}")
        if dataset != self.name:
            raise UserError(f"{path}: belongs to the data set {dataset}, this is {self.name}")

    @cached_property
    def original_shapes(self) -> dict[str, Shape]:
        """Shape (z, y, x) of every case on its file's own grid."""
        return {row.case: as_shape((row.original_z, row.original_y, row.original_x)) for row in self.cases.itertuples()}

    @property
    def given_labels(self) -> Path | None:
        """Labels that the pool brought along, as of the cycle before the first; None where it brought none."""
        path = self.folder / "given.h5"
        return path if path.exists() else None

    @property
    def pool(self) -> list[str]:
        """Cases that may be queried, sorted by name."""
        return self._split("pool")

    @property
    def test(self) -> list[str]:
        """Cases held out for evaluation, sorted by name."""
        return self._split("test")

    def _split(self, split: str) -> list[str]:
        return sorted(self.cases.loc[self.cases["split"] == split, "case"])

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Image grid shape (z, y, x) of every case."""
        return {row.case: as_shape((row.z, row.y, row.x)) for row in self.cases.itertuples()}

    @cached_property
    def spacings_mm(self) -> dict[str, tuple[float, float, float]]:
        """Voxel size (z, y, x) in mm of every case on the image grid."""
        return {
            row.case: (float(row.spacing_z), float(row.spacing_y), float(row.spacing_x))
            for row in self.cases.itertuples()
        }

    @cached_property
    def grids(self) -> dict[str, CaseGrid]:
        """The way from the image grid to the file's own and to millimetres, of every case."""
        return grids_of_table(self.cases, self.folder / "cases.csv")

    @cached_property
    def groups(self) -> dict[str, str]:
        """Patient (group) of every case."""
        return dict(zip(self.cases["case"], self.cases["group"], strict=True))

    @cached_property
    def plans(self) -> dict[str, Any]:
        """nnU-Net's plans, checked."""
        plans: dict[str, Any] = read_json(self.folder / "plans.json")
        check_plans(plans, f"{self.folder}/plans.json")
        return plans

    @cached_property
    def _axes(self) -> dict[str, Any]:
        """The plans, of which no more than the order of the axes is checked: that is quick."""
        plans: dict[str, Any] = read_json(self.folder / "plans.json")
        check_axes(plans, f"{self.folder}/plans.json")
        return plans

    @cached_property
    def nnunet_json(self) -> dict[str, Any]:
        """`dataset.json` as nnU-Net wants it: labels by index, the ignore label last."""
        content: dict[str, Any] = read_json(self.folder / "nnunet_dataset.json")
        check_nnunet_json(content, f"{self.folder}/nnunet_dataset.json")
        return content

    def network_file(self, case: str) -> Path:
        """The preprocessed image (blosc2) that nnU-Net's data loader reads."""
        return self.folder / "network" / f"{case}.b2nd"

    def properties(self, case: str) -> dict[str, Any]:
        """nnU-Net's properties of the case: crop box, shapes, spacing."""
        return read_plain_pickle(self.folder / "network" / f"{case}.pkl")  # type: ignore[no-any-return]

    def network_image(self, case: str) -> npt.NDArray[np.float32]:
        """Preprocessed image `[channels, ...]` on the network grid."""
        import blosc2  # most who open a data set look at no image

        path = self.network_file(case)
        check_regular(path)
        z, y, x = self.shapes[case]
        wanted = (len(self.channels), *((z, y, x)[axis] for axis in self._axes["transpose_forward"]))
        try:
            stored = blosc2.open(urlpath=str(path), mode="r")
            if tuple(stored.shape) != wanted or stored.dtype != np.float32:
                raise ValueError(f"it is {stored.dtype} of shape {stored.shape}, float32 of {wanted} is wanted")
            image: npt.NDArray[np.float32] = np.asarray(stored[:])
        except Exception as error:  # blosc2 raises many kinds for files that are damaged
            raise UserError(f"{path}: damaged image of case {case} ({one_line(error)})") from None
        if not np.isfinite(image).all():
            raise UserError(f"{path}: damaged image of case {case}, it holds voxels that are not finite")
        return image

    def image(self, case: str, channels: Sequence[int] | None = None) -> npt.NDArray[np.float32]:
        """Normalised image `[channels, z, y, x]` on the image grid."""
        data = self.network_image(case)
        return self.to_image_grid(data if channels is None else data[list(channels)])

    def empty_mask(self, case: str) -> npt.NDArray[np.bool_]:
        """Voxels `[z, y, x]` of the image grid that cost nobody time: zero in all channels, or in the user's mask."""
        with open_hdf5(self.folder / "empty.h5", "empty", VERSION) as file:
            values = file[case]
            if not isinstance(values, h5py.Dataset) or values.dtype != np.uint8 or values.shape != self.shapes[case]:
                raise UserError(f"{self.folder}/empty.h5: no mask of case {case} of shape {self.shapes[case]}")
            return values[()].astype(bool)  # type: ignore[no-any-return]

    def to_network_grid(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring `[..., z, y, x]` from the image grid to the network grid."""
        return np.ascontiguousarray(self.as_network_grid(values))

    def as_network_grid(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """View of `[..., z, y, x]` on the image grid with the axes of the network grid; to write to, too."""
        return _reorder(values, self._axes["transpose_forward"])

    def to_image_grid(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring `[..., network axes]` back to the image grid `[..., z, y, x]`."""
        return np.ascontiguousarray(_reorder(values, self._axes["transpose_backward"]))


def _read_cases(path: Path) -> pd.DataFrame:
    cases = read_table(path, ("case", "group", "split"), CASE_COLUMNS, what="a table of cases")
    lengths = [name for name in CASE_COLUMNS if name.removeprefix("original_") in ("z", "y", "x")]
    sizes = [name for name in CASE_COLUMNS if "spacing" in name]
    cases = cases.astype(typed(path, cases, dict.fromkeys(lengths, "int64") | dict.fromkeys(sizes, "float64")).dtypes)
    if cases.empty or not (cases[lengths] > 0).all(axis=None):
        raise UserError(f"{path}: shapes of cases are whole numbers above 0")
    if not (np.isfinite(cases[sizes]) & (cases[sizes] > 0)).all(axis=None):
        raise UserError(f"{path}: voxel sizes of cases are numbers above 0")
    if cases["case"].duplicated().any() or not cases["split"].isin(["pool", "test"]).all():
        raise UserError(f"{path}: a case stands in it twice, or on no side of the split")
    return cases


def _reorder(values: npt.NDArray[Any], order: Sequence[int]) -> npt.NDArray[Any]:
    lead = values.ndim - 3
    return values.transpose(*range(lead), *(lead + axis for axis in order))
