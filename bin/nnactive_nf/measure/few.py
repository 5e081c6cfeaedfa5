"""A few cases of a data set, prepared as PREPARE does by the plan that nnU-Net makes from the heads of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import write_json
from nnactive_nf.core.heads import read_head
from nnactive_nf.core.labels import Labels, read_labels
from nnactive_nf.core.raw import RawCase, RawDataset, list_raw
from nnactive_nf.core.seeds import stream
from nnactive_nf.forecast.images import Unknown, evenly, images_of
from nnactive_nf.forecast.plan import Row
from nnactive_nf.prepare.check import check_case
from nnactive_nf.prepare.plan import intensities, keep_plans
from nnactive_nf.prepare.run import Settings, prepare_cases

# Cases that are prepared; all but one are trained on.
CASES = 4
# Heads that are read to know which cases are of usual size.
LOOKED_AT = 200
# Foreground intensities that are sampled, by which CT is normalised.
SAMPLES = 1_000_000
# Side in voxels of the cubes of one class that stand for labels where there are none.
CUBE = 8


@dataclass(frozen=True)
class Few:
    """A few prepared cases.

    Attributes:
        dataset: they are its pool.
        labels: their whole masks.
        drawn: whether these are drawn, for want of labels.
    """

    dataset: Dataset
    labels: Labels
    drawn: bool


def prepare_few(row: Row, raw_folder: Path, out: Path, own: Path | None = None) -> Few:
    """Prepare a few cases of usual size.

    Args:
        row: one of the data set's.
        raw_folder: its raw folder as the task has it.
        out: empty folder for what is made.
        own: the user's plans file as the task has it, or None where nnU-Net plans.

    Raises:
        UserError: the images cannot be planned for or read.
    """
    images = images_of(row, raw_folder, own)
    if isinstance(images, Unknown):
        raise UserError(images.why)
    raw = list_raw(raw_folder, test_folder=row.test_folder, people=row.oracle == "people")
    few = replace(raw, cases=usual_cases(raw))
    if len(few.cases) < 2:
        raise UserError(f"{row.dataset}: {len(few.cases)} case only; one to train on and one to validate on are wanted")
    facts = [check_case(few, case, SAMPLES // len(few.cases)) for case in few.cases]
    if problems := [problem for fact in facts for problem in fact.problems]:
        raise UserError(*problems)
    # As people's pools keep plans, so that no case needs labels and none is held out; the user's are taken as they are.
    if own is None:
        keep_plans(out / "kept.json", images.plans | intensities(facts), "")
    settings = Settings(
        row.dataset, row.configuration, 0.5, 0, None, None, folds=2, start_size=10**6, planner=row.planner, people=True,
        plans=own, plans_before=None if own else out / "kept.json",
    )  # fmt: skip
    prepare_cases(few, settings, 1, out / "prepared", out / "oracle.h5", out / "reference.h5")
    dataset = Dataset.open(out / "prepared")
    labels = read_labels(out / "oracle.h5", "oracle", dataset.shapes)
    drawn = len(labels.masks) < 2
    if drawn:
        masks = {case: drawn_mask(dataset.shapes[case], dataset.classes, case) for case in dataset.pool}
        labels = Labels(dataset.name, "", 0, dataset.classes, masks)
    write_json(out / "few.json", {"cases": sorted(labels.masks), "drawn": drawn})
    return Few(dataset, labels, drawn)


def usual_cases(raw: RawDataset) -> tuple[RawCase, ...]:
    """The cases whose images are nearest to the median in voxels, of those with labels where there are two."""
    labelled = [case for case in raw.cases if case.labelled]
    looked_at = evenly(labelled if len(labelled) > 1 else raw.cases, LOOKED_AT)
    voxels = np.array([read_head(case.images[0], raw.reader).voxels for case in looked_at], dtype=np.float64)
    order = np.argsort(np.abs(voxels - np.median(voxels)), kind="stable")[:CASES]
    return tuple(looked_at[place] for place in sorted(order))


def drawn_mask(shape_zyx: Sequence[int], classes: Classes, case: str) -> npt.NDArray[np.unsignedinteger[Any]]:
    """A mask `[z, y, x]` of cubes of classes that are drawn: a training takes as long on it as on true labels."""
    rng = stream(0, 0, "measure", case)
    cells = rng.choice(classes.values, size=[-(-length // CUBE) for length in shape_zyx])
    mask = cells.repeat(CUBE, 0).repeat(CUBE, 1).repeat(CUBE, 2)
    return mask[tuple(slice(length) for length in shape_zyx)].astype(classes.dtype)
