"""What each person says of a case, from all of the files that he or she brought."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.labels import Mask
from nnactive_nf.receive.delivered import read_delivered
from nnactive_nf.receive.files import File


@dataclass(frozen=True)
class Reading:
    """What one annotator's files say of one case, on the file grid, undecided where none says anything.

    `meant_zyx` is the same, but undecided as well where no segment of a `.seg.nrrd` is: nobody was asked to look there.
    """

    annotator: str
    values_zyx: Mask
    meant_zyx: Mask
    files: tuple[File, ...]
    notes: tuple[str, ...]
    second: bool = False  # they came as the second reader's


def readings_of(files: Sequence[File], dataset: Dataset, case: str) -> tuple[list[Reading], list[tuple[File, str]]]:
    """What each annotator says of a case, by name; and the files that cannot be used, with what is wrong."""
    readings: dict[tuple[str, bool], Reading] = {}
    wrong = []
    for file in files:
        try:
            found = read_delivered(file.path, dataset.grids[case], dataset.classes)
        except UserError as error:
            wrong += [(file, line) for line in error.lines]
            continue
        notes = (found.note,) if found.note else ()
        ignore, background = dataset.classes.ignore_value, dataset.classes.values[0]
        meant_zyx = found.values_zyx
        if found.is_drawn:
            meant_zyx = np.where(meant_zyx == background, np.array(ignore, meant_zyx.dtype), meant_zyx)
        key = (file.annotator, file.second)
        before = readings.get(key)
        if before is None:
            readings[key] = Reading(file.annotator, found.values_zyx, meant_zyx, (file,), notes, file.second)
            continue
        decided = found.values_zyx != ignore
        known = before.values_zyx != ignore
        changed = int((decided & known & (before.values_zyx != found.values_zyx)).sum())
        changes = (f"{file.name} changes {changed} voxels of {before.files[-1].name}",) if changed else ()
        readings[key] = Reading(
            file.annotator,
            np.where(decided, found.values_zyx, before.values_zyx),
            np.where(meant_zyx != ignore, meant_zyx, before.meant_zyx),
            (*before.files, file),
            (*before.notes, *notes, *changes),
            file.second,
        )
    return [readings[key] for key in sorted(readings)], wrong
