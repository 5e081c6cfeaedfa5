"""What a strategy gets to see: the pool, and one image of it at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import Box, Shape, intersects
from nnactive_nf.core.labels import Mask, in_part, patch_boxes, read_mask
from nnactive_nf.core.seeds import stream
from nnactive_nf.core.uncertainty import UncertaintyMaps
from nnactive_nf.query.grid import Grid, Planes, Scores, planes_of, window_sums

ALL = "all"  # component of patches that stand for no class

T = TypeVar("T")


class Candidate(NamedTuple):
    """A patch that may be chosen.

    `spare` is the score that it has in the unstratified part where its own is that of a class; `features` are its
    coordinates for strategies that spread their choice.
    """

    case: str
    box: Box
    score: float
    component: str = ALL
    spare: float | None = None
    features: npt.NDArray[np.float64] | None = None

    @property
    def key(self) -> tuple[float, str, Shape]:
        """Sorts best first: higher score, then case, then z, y, x."""
        return -self.score, self.case, self.box.start_zyx


@dataclass(frozen=True)
class Pool:
    """The images to choose from and the rules of the choice.

    Attributes:
        dataset: the prepared data set; its pool cases are the images.
        patch_zyx, stride_zyx: patch size and step of the start positions, in voxels.
        per_image: most patches that one query takes from an image.
        free_overlap: largest share of a patch that may lie on voxels where nothing was imaged.
        seed, cycle: seed of the run, the cycle whose labels the query makes.
        strategy: the strategy with its options; random streams are keyed by it.
        options: values of the strategy's options.
        declared: maps that the strategy asked for; others cannot be read.
        maps: the uncertainty maps, where the strategy asked for some.
        labels_file, patches: what is labelled so far; `None` and empty at the start.
        oracle_file: complete masks, for strategies that are marked as oracle-aware.
        picked: patches chosen in this query by an earlier step.
        workers: images worked on at the same time.
    """

    dataset: Dataset
    patch_zyx: Shape
    stride_zyx: Shape
    per_image: int
    free_overlap: float
    seed: int
    cycle: int
    strategy: str
    options: Mapping[str, Any]
    declared: tuple[str, ...] = ()
    maps: UncertaintyMaps | None = None
    labels_file: Path | None = None
    patches: Any = None  # pandas.DataFrame
    oracle_file: Path | None = None
    picked: tuple[Candidate, ...] = ()
    workers: int = 1
    log: Callable[[str], None] = field(default=print)

    @property
    def cases(self) -> list[str]:
        """Cases of the pool, sorted."""
        return self.dataset.pool

    @property
    def classes(self) -> Classes:
        """Class names and values."""
        return self.dataset.classes

    def rng(self, *keys: str) -> np.random.Generator:
        """Random stream of this seed, cycle and strategy for a purpose of the pool as a whole."""
        return stream(self.seed, self.cycle, "query", self.strategy, "pool", *keys)

    def image(self, case: str) -> Image:
        """One image."""
        return Image(self, case)

    def with_picked(self, picked: Iterable[Candidate]) -> Pool:
        """The same pool after these patches were chosen."""
        return replace(self, picked=(*self.picked, *picked))

    def each_image(self, work: Callable[[Image], T], cases: Sequence[str] | None = None) -> list[T]:
        """`work` on every image, in the order of the cases; `workers` images at a time are in memory."""
        images = [self.image(case) for case in (self.cases if cases is None else cases)]
        if self.workers == 1 or len(images) < 2:
            return [work(image) for image in images]
        with ThreadPoolExecutor(self.workers) as threads:
            return list(threads.map(work, images))


@dataclass(frozen=True)
class Image:
    """One image of the pool. Arrays are `[z, y, x]` on the image grid; nothing is read before it is asked for."""

    pool: Pool
    case: str

    @property
    def shape_zyx(self) -> Shape:
        """The image's shape."""
        return self.pool.dataset.shapes[self.case]

    @property
    def options(self) -> Mapping[str, Any]:
        """The strategy's options."""
        return self.pool.options

    @property
    def cycle(self) -> int:
        """The cycle whose labels the query makes, from 1 (0 at the start)."""
        return self.pool.cycle

    @property
    def classes(self) -> Classes:
        """Class names and values."""
        return self.pool.classes

    @cached_property
    def grid(self) -> Grid:
        """Start positions of patches, a stride apart."""
        return Grid.of(self.shape_zyx, self.pool.patch_zyx, self.pool.stride_zyx)

    @cached_property
    def dense_grid(self) -> Grid:
        """Start positions of patches at every voxel, whatever the stride."""
        return Grid.of(self.shape_zyx, self.pool.patch_zyx)

    @cached_property
    def boxes(self) -> list[Box]:
        """Patches labelled before or chosen already: a new one must not intersect them."""
        patches = self.pool.patches
        labelled = [] if patches is None else patch_boxes(patches[~in_part(patches)], self.case)
        return labelled + [pick.box for pick in self.pool.picked if pick.case == self.case]

    @property
    def patches_left(self) -> int:
        """Patches that this query may still take from the image."""
        return self.pool.per_image - sum(pick.case == self.case for pick in self.pool.picked)

    def rng(self, component: str = ALL) -> np.random.Generator:
        """Random stream of this seed, cycle, strategy, image and component, made anew at each call."""
        return stream(self.pool.seed, self.pool.cycle, "query", self.pool.strategy, self.case, component)

    def map(self, name: str, lead: tuple[int | slice, ...] = ()) -> npt.NDArray[Any]:
        """A map that the strategy declared; `lead` picks one of several volumes (a class, a fold and a class)."""
        if name not in self.pool.declared:
            raise UserError(f"strategy '{self.pool.strategy}' reads the map '{name}', which it does not declare")
        if self.pool.maps is None:
            raise UserError(f"strategy '{self.pool.strategy}' needs uncertainty maps, and no file of them was given")
        return self.pool.maps.read(self.case, name, lead)

    def mutual_information(self) -> Planes:
        """Planes of max(PE - EE, 0) in float64, which is not stored."""
        predictive, expected = self.map("predictive_entropy"), self.map("expected_entropy")
        return lambda z: np.maximum(predictive[z].astype(np.float64) - expected[z], 0.0)

    def feature_cell(self) -> Shape:
        """Size (z, y, x) of a cell of the map `fold_features` in voxels."""
        if self.pool.maps is None:
            raise UserError(f"strategy '{self.pool.strategy}' needs uncertainty maps, and no file of them was given")
        return self.pool.maps.feature_cell(self.case)

    def labels(self) -> Mask | None:
        """The label mask so far; `None` where nothing of the image is labelled."""
        patches = self.pool.patches
        if self.pool.labels_file is None or patches is None or not (patches["case"] == self.case).any():
            return None
        return read_mask(self.pool.labels_file, self.case, shape=self.shape_zyx)

    def intensities(self) -> npt.NDArray[np.float32]:
        """The normalised image `[channels, z, y, x]`."""
        return self.pool.dataset.image(self.case)

    def oracle(self) -> Mask:
        """The ground truth, for oracle-aware strategies only."""
        if self.pool.oracle_file is None:
            raise UserError(f"strategy '{self.pool.strategy}' needs the ground truth; give it with --oracle")
        return read_mask(self.pool.oracle_file, self.case, "oracle", self.shape_zyx)

    @cached_property
    def free(self) -> npt.NDArray[np.bool_] | None:
        """Voxels that cost nobody time, or `None`: nothing was imaged there, or labels are there without a patch."""
        mask = self.pool.dataset.empty_mask(self.case)
        patches = self.pool.patches
        is_in_part = patches is not None and (in_part(patches) & (patches["case"] == self.case)).any()
        if is_in_part and (labels := self.labels()) is not None:
            mask |= labels != self.classes.ignore_value
        return mask if mask.any() else None

    def bar(self, scores: Scores) -> Scores:
        """Take away what may not be chosen: patches on labelled or chosen ones, and on too much free space."""
        for box in self.boxes:
            scores.bar(box)
        if self.free is not None and self.pool.free_overlap < 1:
            scores.bar_free(planes_of(self.free), self.pool.free_overlap)
        return scores

    def mean_scores(self, planes: Planes) -> Scores:
        """Mean of a map over the patch, at every start position that may be chosen."""
        return self.bar(Scores.of_means(planes, self.grid))

    def patch_means(self, values_zyx: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Mean of a map `[z, y, x]` over the patch at every start position; shape `grid.counts`."""
        means = np.empty(self.grid.counts, dtype=np.float64)
        unit = float(self.grid.voxels) * (2.0**32 if np.issubdtype(values_zyx.dtype, np.floating) else 1.0)
        for plane, target in zip(window_sums(planes_of(values_zyx), self.grid), means, strict=True):
            np.divide(plane, unit, out=target)
        return means

    def allowed(self, grid: Grid) -> npt.NDArray[np.bool_]:
        """Which start positions of a grid may be chosen, whatever their score."""
        return self.bar(Scores(np.zeros(grid.counts, dtype=np.int64), grid)).allowed()

    def may_take(self, box: Box) -> bool:
        """Whether this one patch may be chosen."""
        return not any(intersects(box, other) for other in self.boxes) and not self.too_free(box)

    def too_free(self, box: Box) -> bool:
        """Whether more of a patch is free than may be; what sticks out of the image is not."""
        if self.free is None:
            return False
        most = int(np.floor(self.pool.free_overlap * box.voxels + 1e-9))
        return int(np.count_nonzero(self.free[box.slices])) > most
