"""Whether patches that were handed out still lie where they lay, in mm: what came for them is taken in there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.grid import CaseGrid
from nnactive_nf.core.labels import patch_boxes
from nnactive_nf.core.places import CORNER_COLUMNS
from nnactive_nf.core.tables import read_table, typed

FAR_MM = 1e-3


def check_places(query: pd.DataFrame, grids: Mapping[str, CaseGrid], places: Path | None) -> None:
    """Hold the patches of a package against the data set as it is now.

    Args:
        query: the patches, those of the reserve included.
        grids: of all cases, as they are prepared now.
        places: `patches_mm.csv` of the package; None where it is just handed out.

    Raises:
        UserError: a case is gone, or a patch lies elsewhere, since the plan or the image has changed; one line.
    """
    gone = sorted(set(query["case"]) - set(grids))
    if gone:
        raise UserError(
            f"case {gone[0]} was handed out and is no longer in the data set ({len(gone)} such cases); put it back, or "
            "move the cycle's folder away to have it queried anew"
        )
    if places is None:
        return
    types = {"rank": "int64"} | dict.fromkeys(CORNER_COLUMNS, "float64")
    was = typed(places, read_table(places, ("case",), types, what="a table of places"), types).set_index("rank")
    moved = []
    for case, part in query.groupby("case", sort=True):
        for rank, box in zip(part["rank"], patch_boxes(part, str(case)), strict=True):
            now = grids[str(case)].corners_mm(box).ravel()
            if rank in was.index and not np.allclose(was.loc[rank].to_numpy(), now, rtol=0, atol=FAR_MM):
                moved.append(f"patch {rank} of case {case}")
    if moved:
        raise UserError(
            f"{moved[0]} lies elsewhere than when it was handed out ({len(moved)} such patches): the image or the "
            "planned spacing has changed; put back what has, or move the cycle's folder away to have it queried anew"
        )
