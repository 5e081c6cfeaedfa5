"""A case's segmentation and probabilities, as files of the user's own format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.ensemble import Ensemble
from nnactive_nf.core.files import whole_file
from nnactive_nf.core.image_files import write_segmentation


def write_case(
    folder: Path,
    case: str,
    index_zyx: npt.NDArray[np.unsignedinteger],
    probability: npt.NDArray[np.float32] | None,
    ensemble: Ensemble,
    classes: Classes,
    properties: dict[str, Any],
) -> None:
    """Write `<case><ending>` with the label files' values, and `<case>.npz` where probabilities are given.

    Args:
        folder: folder to make.
        case: name of the case.
        index_zyx: class indices on the file's own grid.
        probability: `[C, z, y, x]` on that grid; in the file they are float16, under nnU-Net's name `probabilities`.
        ensemble: what predicted it; its plans know the format.
        classes: the data set's classes.
        properties: nnU-Net's properties of the case.
    """
    path = folder / f"{case}{ensemble.nnunet_json['file_ending']}"
    write_segmentation(path, classes.to_value(index_zyx), ensemble.plans.image_reader_writer_class, properties)
    if probability is not None:
        with whole_file(folder / f"{case}.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, probabilities=probability.astype(np.float16))
