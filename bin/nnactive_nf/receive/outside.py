"""Labels outside of the patches: taken where the user wants them (`--accept_outside`), else told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.labels import Mask
from nnactive_nf.receive.answers import OUTSIDE, RESERVE, Answer
from nnactive_nf.receive.readings import Reading


def agreed_labels(readings: Sequence[Reading], classes: Classes) -> Mask | None:
    """What people say of a whole case, `[z, y, x]` on the file grid: undecided where two differ.

    A second reader's files say nothing here, nor does background that is only what no segment covers. `None` where
    nobody says anything.
    """
    agreed: Mask | None = None
    for reading in readings:
        if reading.second:
            continue
        if agreed is None:
            agreed = reading.meant_zyx.copy()
            continue
        ignore, said = classes.ignore_value, reading.meant_zyx
        differs = (agreed != ignore) & (said != ignore) & (agreed != said)
        agreed = np.where(agreed == ignore, said, agreed)
        agreed[differs] = ignore
    return agreed


def not_taken(agreed_zyx: Mask, boxes: Sequence[Box], dataset: Dataset, case: str) -> int:
    """How many voxels of the file outside of a case's patches somebody gave to a class, background apart.

    Viewers fill what nobody touched with background, so that tells nothing.
    """
    classes, grid = dataset.classes, dataset.grids[case]
    drawn = (agreed_zyx != classes.ignore_value) & (agreed_zyx != classes.values[0])
    for box in boxes:
        drawn[grid.label_box(box).slices] = False
    return int(np.count_nonzero(drawn))


def outside_masks(
    agreed: Mapping[str, Mask], answers: Sequence[Answer], boxes: Mapping[int, Box], dataset: Dataset
) -> dict[str, Mask]:
    """Labels on the image grid that lie outside of what was asked for, by case; cases without any are left out.

    Args:
        agreed: by case, what people say of all of it, on the image grid.
        answers: what has become of the patches. One that is not done has no label yet, whatever lies in it; one of the
            reserve that nobody needs was not asked for.
        boxes: of the patches, on the image grid.
        dataset: the prepared data set.
    """
    masks = {}
    for case, labels_zyx in agreed.items():
        mask = labels_zyx.copy()
        for answer in answers:
            if answer.case == case and answer.state != RESERVE:
                mask[boxes[answer.patch].slices] = dataset.classes.ignore_value
        if (mask != dataset.classes.ignore_value).any():
            masks[case] = mask
    return masks


def outside_row(case: str, readings: Sequence[Reading], note: str = "") -> Answer:
    """The row of the table that says what becomes of labels outside of a case's patches."""
    first = [reading for reading in readings if not reading.second]
    names = ";".join(dict.fromkeys(reading.annotator for reading in first if reading.annotator))
    return Answer(0, case, OUTSIDE, names, files=tuple(file for reading in first for file in reading.files), note=note)


def taken_note(mask_zyx: Mask, classes: Classes) -> str:
    """What is taken of a case, in words."""
    labelled = mask_zyx != classes.ignore_value
    foreground = int(np.count_nonzero(labelled & (mask_zyx != classes.values[0])))
    return f"{np.count_nonzero(labelled)} voxels outside of the patches are taken, {foreground} of them foreground"
