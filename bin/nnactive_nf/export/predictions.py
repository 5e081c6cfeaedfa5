"""Segmentations of a node's ensemble as label files on the files' own grids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.ensemble import Ensemble
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.nnunet import resolve_device
from nnactive_nf.core.raw import list_raw
from nnactive_nf.core.segmentations import write_case

# A case's preprocessed image `[channels, ...]` on the network grid, and nnU-Net's properties of it.
Loader = Callable[[str], tuple[npt.NDArray[np.float32], dict[str, Any]]]


def ensemble_of(
    checkpoints: Sequence[Path], device: str, threads: int, tile_step: float, mirroring: bool, trainer_file: Path | None
) -> Ensemble:
    """The node's folds on the device for `auto`, `cuda` or `cpu`; see `Ensemble` and `resolve_device`."""
    return Ensemble(checkpoints, resolve_device(device, threads), tile_step, mirroring, trainer_file)


def write_predictions(
    folder: Path, ensemble: Ensemble, cases: Sequence[str], load: Loader, classes: Classes, probabilities: bool
) -> int:
    """Write what `nnUNetv2_predict` makes of these cases, with the label files' values.

    Args:
        folder: folder to make; `<case><ending>` in it, and `<case>.npz` with the probabilities on wish.
        ensemble: the node's folds.
        cases: names of the cases.
        load: see `Loader`.
        classes: the data set's classes.
        probabilities: write the softmax of each class, too.

    Returns:
        How many cases were written.
    """
    for number, case in enumerate(cases, start=1):
        image, properties = load(case)
        index_zyx, probability = ensemble.segment(image, properties)
        write_case(folder, case, index_zyx, probability if probabilities else None, ensemble, classes, properties)
        if number % 25 == 0 or number == len(cases):
            print(f"{number} of {len(cases)} cases", flush=True)
    return len(cases)


def raw_loader(images: Path, ensemble: Ensemble) -> Loader:
    """A loader that preprocesses the raw data set's images as PREPARE has done it.

    Raises:
        UserError: when it is asked for a case that the raw data set lacks.
    """
    raw = list_raw(images, people=True)  # labels are of no use here
    paths = {case.name: [str(path) for path in case.images] for case in raw.cases}
    reader: type[BaseReaderWriter] = ensemble.plans.image_reader_writer_class

    def load(case: str) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        if case not in paths:
            raise UserError(f"{images}: case {case} is not in it; give the data set of the run")
        image, properties = reader().read_images(paths[case])
        configuration = ensemble.configuration
        data, _, properties = configuration.preprocessor_class(verbose=False).run_case_npy(
            image, None, properties, ensemble.plans, configuration, ensemble.nnunet_json
        )
        return np.asarray(data, dtype=np.float32), properties

    return load
