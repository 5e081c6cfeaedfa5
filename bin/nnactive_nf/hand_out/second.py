"""The second reader: which patches two people read, which of these one reads blind, and what he is given of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

import numpy as np
import numpy.typing as npt

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.double_read import SECOND
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.grid import CaseGrid
from nnactive_nf.core.labels import Mask
from nnactive_nf.core.seeds import stream
from nnactive_nf.hand_out.cut import surroundings


def drawn_patches(
    patches: int, share: float, blind_share: float, *, seed: int, cycle: int, strategy: str
) -> dict[int, bool]:
    """Numbers of the patches that two people read, and whether the second one reads them blind.

    They are drawn, not the first ones of the query: agreement is to be that of all of its patches. The same trajectory
    and query draw the same ones; a larger share draws more to them.

    Args:
        patches: of the query, numbered from 1.
        share: of them that two people read, rounded; one at least.
        blind_share: of these that the second reader reads blind, rounded; one at least unless 0.
        seed: of the trajectory.
        cycle: whose labels they become.
        strategy: what chose them.
    """
    order = stream(seed, cycle, "double_read", strategy).permutation(patches) + 1
    twice = _share_of(patches, share)
    blind = _share_of(twice, blind_share)
    return {int(number): place < blind for place, number in enumerate(order[:twice])}


def _share_of(number: int, share: float) -> int:
    return min(number, max(1, int(np.floor(share * number + 0.5)))) if share else 0


def second_start(
    start_zyx: Mask, grid: CaseGrid, boxes: Sequence[Box], blind: Sequence[bool], classes: Classes
) -> Mask:
    """What the second reader starts from, `[z, y, x]` on the file grid: as the first, but background in blind patches.

    Args:
        start_zyx: what the first reader starts from.
        grid: of the case.
        boxes: the patches that two people read, on the image grid.
        blind: of each, whether it is read blind.
        classes: of the data set.
    """
    second = np.full_like(start_zyx, classes.ignore_value)
    for box in boxes:
        place = grid.label_box(box).slices
        second[place] = start_zyx[place]
    for box, is_blind in zip(boxes, blind, strict=True):
        if is_blind:
            second[grid.label_box(box).slices] = classes.values[0]
    return second


def second_uncertainty(
    uncertainty_zyx: npt.NDArray[np.float32] | None, grid: CaseGrid, boxes: Sequence[Box], blind: Sequence[bool]
) -> npt.NDArray[np.float32] | None:
    """Where the models are unsure, without what lies in and round blind patches: it shows what they see."""
    if uncertainty_zyx is None or all(blind):
        return None
    shown = uncertainty_zyx.copy()
    for box, is_blind in zip(boxes, blind, strict=True):
        if is_blind:
            shown[surroundings(grid.label_box(box), grid.file_shape_zyx).slices] = 0
    return shown


def first_remark(twice: Mapping[int, bool]) -> str:
    """What the page of all patches says of those that two people read; nothing where there are none."""
    if not twice:
        return ""
    return (
        f"{_patches(twice)} also read by a second person, from {SECOND}/index.html. "
        "Label them as all others, each without looking at what the other has drawn."
    )


def second_remark(twice: Mapping[int, bool]) -> str:
    """What the page of the second reader says."""
    blind = [number for number, is_blind in twice.items() if is_blind]
    without = f" {_patches(blind)} shown without pre-segmentation, on purpose." if blind else ""
    return f"For the second reader: not for who labels these patches from the other page.{without}"


def first_text(twice: Mapping[int, bool]) -> str:
    """The section on double reading in the package's `README.md`; nothing where there is none."""
    if not twice:
        return ""
    blind = " `blind`: the second reader is shown no\npre-segmentation." if any(twice.values()) else ""
    return f"""

## Read by two people

{_patches(twice)} read by two people (`readers` in `tasks.csv`), so that it can be told how well people agree.
Whoever labels the patches of this folder labels them as the others. The second reader is somebody else, who works from
`{SECOND}/`, which has a page and a `README.md` of its own. Each labels without looking at what the other has drawn, and
puts the files into a folder with his or her name.{blind}"""


def second_text(twice: Mapping[int, bool], delivery: str) -> str:
    """`README.md` of the second reader."""
    text = Template(Path(__file__).with_name("second_reader.md").read_text(encoding="utf-8"))
    blind = [number for number, is_blind in twice.items() if is_blind]
    without = (
        "`start/` is background there, and nothing shows what the models see. Please draw from the image alone, and"
    )
    how = (
        f"\n{_patches(blind)} **blind**: {without}\nlook neither into `../start/` nor into `../uncertainty/`.\n"
        if blind
        else ""
    )
    return text.substitute(patches=_patches(twice), blind=how, delivery=delivery, second=SECOND)


def _patches(numbers: Mapping[int, bool] | Sequence[int]) -> str:
    """The subject of a sentence, with its verb."""
    *others, last = [str(number) for number in sorted(numbers)]
    return f"Patches {', '.join(others)} and {last} are" if others else f"Patch {last} is"
