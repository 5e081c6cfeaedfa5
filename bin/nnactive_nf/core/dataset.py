"""The prepared data set: what PREPARE wrote and every later stage reads.

Two grids are in use. The *image grid* is the image cropped to its box of non-zero voxels and resampled to the planned
spacing, axes (z, y, x) as SimpleITK hands them to numpy: patches, label masks and uncertainty maps live there. The
*network grid* holds the same voxels with the axes in the plan's order (`transpose_forward`): nnU-Net trains on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import blosc2
import h5py
import numpy as np
import numpy.typing as npt
import pandas as pd

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import open_hdf5, read_json, read_plain_pickle
from nnactive_nf.core.geometry import Shape, as_shape
from nnactive_nf.core.grid import CaseGrid, grids_of_table
from nnactive_nf.core.names import check_names
from nnactive_nf.core.plans import check_plans

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
    digest: str  # SHA-256 of images, plans and classes: what a training rests on beside the labels
    cases: pd.DataFrame  # CASE_COLUMNS, one row per case, sorted by case

    @classmethod
    def open(cls, folder: Path) -> Dataset:
        """Open a folder that PREPARE wrote; `UserError` where it is none."""
        folder = Path(folder)
        head = read_json(folder / "dataset.json")
        if head.get("format") != FORMAT or head.get("version") != VERSION:
            raise UserError(f"{folder}/dataset.json: format is {head.get('format')!r}, expected {FORMAT} {VERSION}")
        classes = Classes.read(head["class_names"], head["class_values"], f"{folder}/dataset.json")
        text = {"case": str, "group": str, "split": str}
        cases = pd.read_csv(folder / "cases.csv", dtype=text, keep_default_na=False)  # a case may be called NA
        missing = [name for name in CASE_COLUMNS if name not in cases]
        if missing:
            raise UserError(f"{folder}/cases.csv: columns {missing} are missing")
        check_names("case", cases["case"], f"{folder}/cases.csv")
        return cls(folder, head["name"], classes, tuple(head["channels"]), head["configuration"], head["digest"], cases)

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
    def nnunet_json(self) -> dict[str, Any]:
        """`dataset.json` as nnU-Net wants it: classes by index, the ignore label last."""
        return read_json(self.folder / "nnunet_dataset.json")  # type: ignore[no-any-return]

    def network_file(self, case: str) -> Path:
        """The preprocessed image (blosc2) that nnU-Net's data loader reads."""
        return self.folder / "network" / f"{case}.b2nd"

    def properties(self, case: str) -> dict[str, Any]:
        """nnU-Net's properties of the case: crop box, shapes, spacing."""
        return read_plain_pickle(self.folder / "network" / f"{case}.pkl")  # type: ignore[no-any-return]

    def network_image(self, case: str) -> npt.NDArray[np.float32]:
        """Preprocessed image `[channels, ...]` on the network grid."""
        return np.asarray(blosc2.open(urlpath=str(self.network_file(case)), mode="r")[:], dtype=np.float32)

    def image(self, case: str, channels: Sequence[int] | None = None) -> npt.NDArray[np.float32]:
        """Normalised image `[channels, z, y, x]` on the image grid."""
        data = self.network_image(case)
        return self.to_image_grid(data if channels is None else data[list(channels)])

    def empty_mask(self, case: str) -> npt.NDArray[np.bool_]:
        """Voxels `[z, y, x]` of the image grid that cost nobody time: zero in all channels, or in the user's mask."""
        with open_hdf5(self.folder / "empty.h5", "empty", VERSION) as file:
            values = file[case]
            assert isinstance(values, h5py.Dataset)
            return values[()].astype(bool)  # type: ignore[no-any-return]

    def to_network_grid(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring `[..., z, y, x]` from the image grid to the network grid."""
        return np.ascontiguousarray(self.as_network_grid(values))

    def as_network_grid(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """View of `[..., z, y, x]` on the image grid with the axes of the network grid; to write to, too."""
        return _reorder(values, self.plans["transpose_forward"])

    def to_image_grid(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Bring `[..., network axes]` back to the image grid `[..., z, y, x]`."""
        return np.ascontiguousarray(_reorder(values, self.plans["transpose_backward"]))


def _reorder(values: npt.NDArray[Any], order: Sequence[int]) -> npt.NDArray[Any]:
    lead = values.ndim - 3
    return values.transpose(*range(lead), *(lead + axis for axis in order))
