"""Queried patches in the world: a table of their corners in mm, and regions of interest for 3D Slicer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import whole_file, write_json
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.grid import CaseGrid
from nnactive_nf.core.labels import patch_boxes

# Corner 0 has the low end of each axis of the image grid, corner 7 the high one; x changes from corner to corner.
CORNER_COLUMNS = [f"corner{number}_{axis}" for number in range(8) for axis in "xyz"]
PLACE_COLUMNS = [
    "rank", "case", "centre_x", "centre_y", "centre_z", "size_x", "size_y", "size_z", *CORNER_COLUMNS,
]  # fmt: skip

SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)


def write_places(folder: Path, table: Path, query: pd.DataFrame, grids: Mapping[str, CaseGrid], title: str) -> None:
    """Write where the patches of a query lie.

    Args:
        folder: folder to make, with a file `<case>.mrk.json` for each case that has patches; 3D Slicer opens it.
        table: CSV file to make: `PLACE_COLUMNS` in mm, (x, y, z) to the left, back and top (LPS).
        query: the query table.
        grids: grids of its cases.
        title: what the regions are called in 3D Slicer, with their rank behind.

    Raises:
        UserError: a case of the query has no grid.
    """
    unknown = sorted(set(query["case"]) - set(grids))
    if unknown:
        raise UserError(f"{table}: case {unknown[0]} is not in the table of cases, so its patches have no place")
    rows = []
    folder.mkdir(parents=True, exist_ok=True)
    for case, part in query.groupby("case", sort=True):
        grid, boxes = grids[str(case)], patch_boxes(part, str(case))
        ranks = [int(rank) for rank in part["rank"]]
        rows += [_row(rank, str(case), grid, box) for rank, box in zip(ranks, boxes, strict=True)]
        regions = [_region(f"{title} {rank}", grid, box) for rank, box in zip(ranks, boxes, strict=True)]
        write_json(folder / f"{case}.mrk.json", {"@schema": SCHEMA, "markups": regions})
    with whole_file(table) as temporary:
        pd.DataFrame(sorted(rows), columns=PLACE_COLUMNS).to_csv(temporary, index=False, float_format="%.6f")


def _row(rank: int, case: str, grid: CaseGrid, box: Box) -> tuple[Any, ...]:
    return rank, case, *grid.centre_mm(box), *grid.size_mm(box), *grid.corners_mm(box).ravel()


def _region(name: str, grid: CaseGrid, box: Box) -> dict[str, Any]:
    """A region of interest as 3D Slicer's markups files hold it: a box by its centre, size and axes."""
    centre = [round(float(value), 6) for value in grid.centre_mm(box)]
    axes = grid.axes
    if np.linalg.det(axes) < 0:  # a box is the same with an axis turned round, and Slicer draws right-handed ones
        axes[:, 2] *= -1
    return {
        "type": "ROI",
        "name": name,
        "coordinateSystem": "LPS",
        "coordinateUnits": "mm",
        "locked": True,
        "fixedNumberOfControlPoints": True,
        "roiType": "Box",
        "center": centre,
        "orientation": [float(value) for value in axes.ravel()],
        "size": [round(float(value), 6) for value in grid.size_mm(box)],
        "insideOut": False,
        "controlPoints": [{"id": "1", "label": name, "position": centre, "positionStatus": "defined"}],
    }
