"""The stage as a whole: a query in, the package of its patches out, which people label in a viewer of their own.

All images of the package lie on the cases' own grids, so any viewer shows them over the image (docs/people.md).
"""

from __future__ import annotations

import shutil
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.double_read import SECOND, DoubleRead
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import whole_file
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.grid import CaseGrid
from nnactive_nf.core.image_files import copy_images, write_nifti
from nnactive_nf.core.label_values import write_label_values
from nnactive_nf.core.labels import Mask, patch_boxes
from nnactive_nf.core.places import write_places
from nnactive_nf.core.query_table import read_query, with_reserve
from nnactive_nf.core.raw import list_raw
from nnactive_nf.core.shown_map import map_to_show, shown_map
from nnactive_nf.core.uncertainty import UncertaintyMaps
from nnactive_nf.hand_out.cut import page_case
from nnactive_nf.hand_out.page import PageCase, niivue_text, page_text
from nnactive_nf.hand_out.second import (
    drawn_patches,
    first_remark,
    first_text,
    second_remark,
    second_start,
    second_text,
    second_uncertainty,
)

MOST_PAGE_VALUE = 255  # of a label that the page can save

# tasks.csv, best patch first. Boxes are voxels of the file, as viewers count them: from 0, the last one included.
TASK_COLUMNS = [
    "patch", "case", "state", "reason", "minutes", "annotator", "gain", "first_x", "first_y", "first_z", "last_x",
    "last_y", "last_z", "centre_x_mm", "centre_y_mm", "centre_z_mm", "size_x_mm", "size_y_mm", "size_z_mm",
    "foreground_voxels", "reserve",
]  # fmt: skip


def hand_out(
    prepared: Path,
    images: Path,
    query_file: Path,
    maps: Sequence[Path],
    *,
    strategy: str,
    cycle: int,
    delivery: str,
    out: Path,
    reserve_file: Path | None = None,
    seed: int = 0,
    double_read: float = 0.0,
    blind: float = 0.0,
) -> pd.DataFrame:
    """Write the package of a query.

    Args:
        prepared: folder of the prepared data set.
        images: the raw data set.
        query_file: the patches.
        maps: uncertainty maps that the query has read, with `prediction` among them; none at the start.
        strategy: what chose the patches.
        cycle: whose labels they become.
        delivery: where files come back to, as the instructions say it.
        out: folder to make: `tasks.csv`, `README.md`, `labels.json`, `index.html`, and by case `images/`, `start/`
            (what labelling may start from), `outlines/` (the patches' frames, by number), `rois/` (for 3D Slicer),
            `uncertainty/`. Where two people read, `second_reader/` has the same of their patches, and
            `core/double_read.py` what RECEIVE is told.
        reserve_file: patches that are labelled where others are refused; they are numbered behind these, and read once.
        seed: of the trajectory, for what is drawn here.
        double_read: share of the patches that two people read.
        blind: share of these that the second reader is shown without pre-segmentation.

    Returns:
        `tasks.csv`.

    Raises:
        UserError: a case of the query is not in the raw data set.
    """
    dataset = Dataset.open(prepared)
    query = with_reserve(read_query(query_file), read_query(reserve_file) if reserve_file else None)
    raw = list_raw(images, people=True)
    cases = {case.name: case for case in raw.cases}
    found = UncertaintyMaps(maps, dataset.shapes)
    shown = map_to_show(strategy, found.names)
    temporary = out.with_name(f".{out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    twice = drawn_patches(int((~query["reserve"]).sum()), double_read, blind, seed=seed, cycle=cycle, strategy=strategy)
    if "prediction" not in found.names:
        twice = dict.fromkeys(twice, False)  # without a model nobody is shown a pre-segmentation
    whole, second = _Part(temporary, dataset.classes), _Part(temporary / SECOND, dataset.classes)
    starts: dict[str, Mask] = {}
    for name, part in query.groupby("case", sort=True):
        case = str(name)
        if case not in cases:
            raise UserError(f"{images}: case {case} of {query_file} is not in it")
        grid, boxes = dataset.grids[case], patch_boxes(part, case)
        prediction = found.read(case, "prediction") if "prediction" in found.names else None
        given = raw.label_values(cases[case]) if raw.ignore is not None and cases[case].labelled else None
        start = start_labels(grid, boxes, prediction, dataset.classes, given)
        copy_images(temporary / "images", cases[case], raw)
        uncertainty = None
        if shown:
            box = Box((0, 0, 0), dataset.shapes[case])
            values = shown_map(found, case, shown, box).astype(np.float32)
            uncertainty = grid.to_file_grid(values, linear=True, outside=0.0)
        image_czyx, _ = raw.reader().read_images([str(path) for path in cases[case].images])
        channels = list(zip(raw.channels, image_czyx, strict=True))
        whole.add(part, grid, channels, start, uncertainty)
        again = part[part["rank"].isin(twice)]
        if len(again):
            hidden = [twice[int(rank)] for rank in again["rank"]]
            boxes = patch_boxes(again, case)
            if prediction is not None:
                starts[case] = second_start(start, grid, boxes, [False] * len(boxes), dataset.classes)
            own = second_start(start, grid, boxes, hidden, dataset.classes)
            second.add(again, grid, channels, own, second_uncertainty(uncertainty, grid, boxes, hidden))
    title = f"patch of cycle {cycle:02d}"
    write_places(temporary / "rois", temporary / "patches_mm.csv", query, dataset.grids, title)
    table = whole.write(" ".join(out.parts[-2:]), twice, first_remark(twice))
    write_label_values(temporary / "labels.json", dataset.classes, ".nii.gz")
    _write_text(temporary / "README.md", instructions(table, dataset.classes, delivery, shown, first_text(twice)))
    if twice:
        second.write(" ".join([*out.parts[-2:], SECOND]), twice, second_remark(twice))
        _write_text(temporary / SECOND / "README.md", second_text(twice, delivery))
        of_patch = dict(zip(query["rank"], query["case"], strict=True))
        DoubleRead(twice, starts).write(temporary, of_patch, dataset.name, dataset.classes)
    temporary.rename(out)
    return table


@dataclass
class _Part:
    """A folder with what one reader is given, as it is filled: of the whole query, or of patches that two read."""

    folder: Path
    classes: Classes
    tasks: list[pd.DataFrame] = field(default_factory=list)
    cases: list[PageCase] = field(default_factory=list)

    def add(
        self,
        query: pd.DataFrame,
        grid: CaseGrid,
        channels: Sequence[tuple[str, npt.NDArray[np.float32]]],
        start: Mask,
        uncertainty: npt.NDArray[np.float32] | None,
    ) -> None:
        """Write the files of a case, whose patches are the rows of `query`; all arrays lie on the file grid."""
        case = str(query["case"].iloc[0])
        boxes, ranks = patch_boxes(query, case), [int(rank) for rank in query["rank"]]
        write_nifti(self.folder / "start" / f"{case}.nii.gz", start, grid)
        write_nifti(self.folder / "outlines" / f"{case}.nii.gz", outlines(grid, boxes, ranks), grid)
        if uncertainty is not None:
            write_nifti(self.folder / "uncertainty" / f"{case}.nii.gz", uncertainty, grid)
        self.tasks.append(_tasks(query, grid, boxes, start, self.classes))
        patches = [
            (rank, grid.label_box(box), bool(ready))
            for rank, box, ready in zip(ranks, boxes, query["reserve"], strict=True)
        ]
        self.cases.append(page_case(case, grid, channels, start, uncertainty, patches))

    def write(self, title: str, twice: Mapping[int, bool], remark: str) -> pd.DataFrame:
        """Write the page and `tasks.csv`, which is returned; `twice` are the patches that two people read."""
        table = pd.concat(self.tasks).sort_values("patch").reset_index(drop=True)
        if twice:
            table["readers"] = [2 if patch in twice else 1 for patch in table["patch"]]
            table["blind"] = ["yes" if twice.get(patch) else "" for patch in table["patch"]]
        with whole_file(self.folder / "tasks.csv") as path:
            table.to_csv(path, index=False, float_format="%.4f")
        if self.classes.ignore_value <= MOST_PAGE_VALUE:
            _write_page(self.folder / "index.html", title, self.cases, self.classes, remark)
        return table


def _write_text(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _reserve_text(own: int, all_of_them: int) -> str:
    if own == all_of_them:
        return ""
    ready = f"patches {own + 1} to {all_of_them}" if all_of_them > own + 1 else f"patch {all_of_them}"
    return (
        f"Where one of these {own} is refused, the next best takes its place: {ready} of `tasks.csv` (`reserve`), in "
        "this order. As long as none is refused, nobody needs them.\n"
    )


def _write_page(path: Path, title: str, cases: list[PageCase], classes: Classes, remark: str) -> None:
    """Write the page on which patches can be labelled in any browser."""
    named = [(classes.described(index), value) for index, value in enumerate(classes.values)]
    niivue = niivue_text()
    if niivue is None:
        print("index.html has no pen: NiiVue is missing in this installation (setup/niivue.sh wants npm)")
    with whole_file(path) as temporary:
        text = page_text(title, cases, named, classes.ignore_value, niivue, remark)
        temporary.write_text(text, encoding="utf-8")
    print(f"index.html: {path.stat().st_size / 1e6:.1f} MB")


def start_labels(
    grid: CaseGrid,
    boxes: Sequence[Box],
    prediction_zyx: npt.NDArray[np.uint8] | None,
    classes: Classes,
    given_zyx: Mask | None = None,
) -> Mask:
    """What labelling starts from, `[z, y, x]` on the file grid.

    Args:
        grid: of the case.
        boxes: its patches, on the image grid.
        prediction_zyx: class indices on the image grid; `None` where no model is there, which makes all background.
        classes: of the data set.
        given_zyx: on the file grid, what the case brought along where it is labelled in part; that stands.

    Returns:
        Label values in the patches, `classes.ignore_value` (undecided) elsewhere.
    """
    start = np.full(grid.file_shape_zyx, classes.ignore_value, classes.dtype)
    if prediction_zyx is None:
        found = np.full(grid.file_shape_zyx, classes.values[0], classes.dtype)
    else:
        found = grid.to_file_grid(classes.to_value(prediction_zyx), linear=False, outside=classes.values[0])
    if given_zyx is not None:
        found = np.where(given_zyx == classes.ignore_value, found, given_zyx)
    for box in boxes:
        place = grid.label_box(box).slices
        start[place] = found[place]
    return start


def outlines(grid: CaseGrid, boxes: Sequence[Box], ranks: Sequence[int]) -> npt.NDArray[np.uint16]:
    """The voxels just inside each patch's faces, as the patch's number, `[z, y, x]` on the file grid; 0 elsewhere."""
    frames = np.zeros(grid.file_shape_zyx, np.uint16)
    for box, rank in zip(boxes, ranks, strict=True):
        patch = frames[grid.label_box(box).slices]
        for axis in range(3):
            faces = np.moveaxis(patch, axis, 0)
            faces[0] = faces[-1] = rank
    return frames


def _tasks(query: pd.DataFrame, grid: CaseGrid, boxes: Sequence[Box], start: Mask, classes: Classes) -> pd.DataFrame:
    """Rows of `TASK_COLUMNS` of one case."""
    rows = []
    for row, box in zip(query.to_dict("records"), boxes, strict=True):
        place = grid.label_box(box)
        first, last = place.start_zyx[::-1], [n - 1 for n in place.stop_zyx[::-1]]
        foreground = int((start[place.slices] != classes.values[0]).sum())
        cells = [row["rank"], row["case"], "", "", "", "", row["score"], *first, *last]
        ready = "reserve" if row["reserve"] else ""
        rows.append([*cells, *grid.centre_mm(box), *grid.size_mm(box), foreground, ready])
    return pd.DataFrame(rows, columns=TASK_COLUMNS)


def instructions(tasks: pd.DataFrame, classes: Classes, delivery: str, shown: str, double: str = "") -> str:
    """The package's `README.md`; `double` is its section on patches that two people read."""
    text = string.Template(Path(__file__).with_name("instructions.md").read_text(encoding="utf-8"))
    values = "\n".join(f"| {classes.described(index)} | {value} |" for index, value in enumerate(classes.values))
    shown_text = f"`uncertainty/`: where the models are unsure ({shown.replace('_', ' ')})." if shown else ""
    own = tasks[tasks["reserve"] == ""]
    return text.substitute(
        patches=len(own), cases=own["case"].nunique(), reserve=_reserve_text(len(own), len(tasks)), values=values,
        undecided=classes.ignore_value, delivery=delivery, uncertainty=shown_text, double=double,
    )  # fmt: skip
