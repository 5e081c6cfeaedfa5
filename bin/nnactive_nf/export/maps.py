"""Uncertainty maps as NIfTI on the files' own grids."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.grid import CaseGrid
from nnactive_nf.core.hdf5 import open_hdf5
from nnactive_nf.core.image_files import write_nifti
from nnactive_nf.core.uncertainty import MAPS, VERSION, UncertaintyMaps

# On a grid of cells of its own, and of no use to look at.
LEFT_OUT = ("fold_features",)


def write_maps(folder: Path, paths: Sequence[Path], grids: Mapping[str, CaseGrid], classes: Classes) -> int:
    """Write `<case>_<map>.nii.gz` for each case and map; of maps by class or fold one file for each, numbered behind.

    Entropies are in nats, predictions are label values. Where entropy and expected entropy are there, their difference,
    the mutual information that BALD goes by, is written too. Between the image grid's voxels maps are linear; outside
    the crop box, where nothing was imaged, background is certain, and no region has any probability.

    Args:
        folder: folder to make.
        paths: the shards' files.
        grids: grids of all cases.
        classes: the data set's classes.

    Returns:
        How many files were written.

    Raises:
        UserError: a file is damaged, or of another data set.
    """
    maps = UncertaintyMaps(paths, {case: grid.shape_zyx for case, grid in grids.items()})
    number = 0
    for path in sorted(paths):
        with open_hdf5(path, "uncertainty", VERSION) as file:
            held = {case: [name for name in MAPS if name in _group(file, case)] for case in file["cases"]}
            count = int(file.attrs["classes"])
        if count != len(classes.channels):
            raise UserError(f"{path}: is of {count} classes, the data set has {len(classes.channels)}")
        for case, names in held.items():
            for name, values_zyx, outside in _volumes(maps, case, names, classes):
                linear = name != "prediction"
                write_nifti(
                    folder / f"{case}_{name}.nii.gz",
                    grids[case].to_file_grid(values_zyx, linear=linear, outside=outside),
                    grids[case],
                )
                number += 1
    return number


def _group(file: h5py.File, case: str) -> Any:
    return file["cases"][case]


def _volumes(
    maps: UncertaintyMaps, case: str, names: Sequence[str], classes: Classes
) -> Iterator[tuple[str, npt.NDArray[Any], float]]:
    """Name, values `[z, y, x]` and value outside the crop box of all that is written of a case, one after the other."""
    for name in names:
        if name in LEFT_OUT:
            continue
        values = maps.read(case, name)
        if name == "prediction":
            yield name, classes.to_value(values), classes.values[0]
            continue
        for index in itertools.product(*map(range, values.shape[:-3])):
            # The last leading axis is the channel; regions have none for background.
            certain = 1.0 if index and index[-1] == 0 and not classes.regions else 0.0
            yield "_".join([name, *map(str, index)]), values[index].astype(np.float32), certain
    if {"predictive_entropy", "expected_entropy"} <= set(names):
        information = maps.read(case, "predictive_entropy") - maps.read(case, "expected_entropy")
        yield "mutual_information", np.maximum(information, 0), 0.0
