"""Small random query problems for tests: as a brute-force problem, and as the pool that the code sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import brute
import numpy as np
import pandas as pd
import tiny

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.labels import Labels, write_labels
from nnactive_nf.query.pool import Candidate, Pool
from nnactive_nf.query.run import Choice, choice_of

VALUES = ("random", "ties", "zeros", "flat")
# Names whose alphabetical order is not that of the channels.
REGIONS = Classes.of({"background": 0, "whole": [2, 5, 7], "core": [5, 7], "active": 7}, order=[2, 5, 7])
OF_REGIONS = {
    "names": REGIONS.names, "class_values": REGIONS.values, "regions": tuple(region[:2] for region in REGIONS.regions),
}  # fmt: skip


@dataclass
class MemoryDataset:
    """What strategies read of a prepared data set, without files."""

    cases: dict[str, brute.Case]
    classes: Classes
    name: str = "memory"

    @property
    def pool(self) -> list[str]:
        return sorted(self.cases)

    @property
    def shapes(self) -> dict[str, tuple[int, int, int]]:
        return {name: case.shape for name, case in self.cases.items()}

    @property
    def groups(self) -> dict[str, str]:
        return {name: name for name in self.cases}

    def empty_mask(self, case: str) -> np.ndarray:
        free = self.cases[case].free
        return np.zeros(self.cases[case].shape, dtype=bool) if free is None else free

    def image(self, case: str, channels: list[int] | None = None) -> np.ndarray:
        image = self.cases[case].image
        return image if channels is None else image[channels]


@dataclass
class MemoryMaps:
    """Uncertainty maps without files."""

    cases: dict[str, brute.Case]

    def read(self, case: str, name: str, lead: tuple = ()) -> np.ndarray:
        return self.cases[case].maps[name][lead]

    def feature_cell(self, case: str) -> tuple[int, int, int]:
        return 4, 4, 4


def problem(seed: int, values: str, strategy: str, images: int = 3, longest: int = 7, **changes: Any) -> brute.Problem:
    """A random problem: shapes, patch, stride, labelled boxes, free voxels, maps.

    `values` says what maps look like: `random`, `ties` (few values), `zeros` (mostly 0), `flat` (one value per map).
    With `**OF_REGIONS` the classes are regions. Where the size is not given, nine problems of ten have room for it; of
    the others some end in too few candidates.
    """
    rng = np.random.default_rng(seed)
    made = _drawn(rng, seed, values, strategy, images, longest, changes)
    if "size" in changes or np.random.default_rng((seed, 1)).random() < 0.1:
        return made
    while not (most := sum(room(made).values())):
        made = _drawn(rng, seed, values, strategy, images, longest, changes)
    return replace(made, size=int(rng.integers(1, min(most, 8) + 1)))


def room(made: brute.Problem) -> dict[str, int]:
    """Patches of each image that fit beside each other, laid down in the order of their start positions."""
    fit = {}
    for name, case in made.cases.items():
        barred = np.zeros(case.shape, dtype=bool)
        for start, size in case.boxes:
            barred[Box(start, size).slices] = True
        fit[name] = 0
        for start in made.starts(case):
            place = Box(start, made.patch_in(case)).slices
            free = 0.0 if case.free is None else case.free[place].mean()
            if fit[name] < made.per_image and not barred[place].any() and free <= made.free_overlap:
                barred[place] = True
                fit[name] += 1
    return fit


def _drawn(
    rng: np.random.Generator, seed: int, values: str, strategy: str, images: int, longest: int, changes: dict[str, Any]
) -> brute.Problem:
    patch = tuple(int(n) for n in rng.integers(1, 5, size=3))
    made = brute.Problem(
        cases={}, patch=patch, stride=tuple(int(n) for n in rng.integers(1, 4, size=3)),
        per_image=int(rng.integers(1, 6)), free_overlap=float(rng.choice([0.0, 0.25, 0.4, 1.0])), seed=seed,
        cycle=int(rng.integers(1, 4)), cycles=5, strategy=strategy, size=int(rng.integers(1, 9)),
    )  # fmt: skip
    made = replace(made, **changes)
    for name in sorted(rng.choice(["a", "b", "B1", "case_10", "case_9"], size=images, replace=False).tolist()):
        shape = tuple(int(n) for n in rng.integers(1, longest + 1, size=3))
        case = brute.Case(shape, maps=_maps(rng, shape, made, values))
        size = made.patch_in(case)
        for _ in range(int(rng.integers(0, 3))):
            start = tuple(int(rng.integers(0, n - p + 1)) for n, p in zip(shape, size, strict=True))
            if not any(brute.overlap(start, size, *box) for box in case.boxes):
                case.boxes.append((start, size))
        if rng.random() < 0.4:
            case.free = np.zeros(shape, dtype=bool)
            case.free[: shape[0] // 2, :, : shape[2] // 2 + 1] = True
        case.truth = rng.choice(made.class_values, size=shape, p=_chances(len(made.class_values))).astype(np.uint8)
        case.image = rng.normal(size=(2, *shape)).astype(np.float32)
        made.cases[name] = case
    return made


def _chances(classes: int) -> list[float]:
    return [0.8, *[0.2 / (classes - 1)] * (classes - 1)]


def _maps(rng: np.random.Generator, shape: tuple[int, ...], made: brute.Problem, values: str) -> dict[str, np.ndarray]:
    maps = tiny.maps_of(rng, 2, len(made.regions or made.names), shape, regions=bool(made.regions))
    if values == "random":
        return maps
    for name, old in maps.items():
        if values == "ties":
            new = rng.choice([0.1, 0.3, 0.7], size=old.shape)
        elif values == "zeros":
            new = np.where(rng.random(old.shape) < 0.1, rng.random(old.shape), 0.0)
        else:
            new = np.full(old.shape, 0.1)
        if name != "fold_features":
            maps[name] = new.astype(old.dtype)
    return maps


def pool_of(made: brute.Problem, text: str, folder: Path | None = None, **changes: Any) -> tuple[Pool, Choice]:
    """The same problem as a pool; `folder` takes the file of complete masks that oracle-aware strategies read."""
    choice = choice_of(text, cycles=made.cycles)
    rows = [
        (0, name, *start, *size, int(np.prod(size))) for name, case in made.cases.items() for start, size in case.boxes
    ]
    patches = pd.DataFrame(rows, columns=["cycle", "case", "z", "y", "x", "dz", "dy", "dx", "voxels"])
    patches["strategy"] = "random"
    classes = REGIONS if made.regions else Classes(made.names, made.class_values)
    oracle = None
    if folder is not None:
        oracle = folder / "oracle.h5"
        masks = {name: case.truth.astype(classes.dtype) for name, case in made.cases.items()}
        write_labels(oracle, Labels("memory", "oracle", -1, classes, masks), kind="oracle")
    pool = Pool(
        dataset=MemoryDataset(made.cases, classes), patch_zyx=made.patch, stride_zyx=made.stride,
        per_image=made.per_image, free_overlap=made.free_overlap, seed=made.seed, cycle=made.cycle,
        strategy=choice.name, options=choice.options, declared=choice.maps,
        maps=MemoryMaps(made.cases), patches=patches, oracle_file=oracle, log=lambda _: None,
    )  # fmt: skip
    return replace(pool, **changes), choice


def plain(picks: list[Candidate]) -> list[tuple[str, tuple[int, int, int], str]]:
    """Case, start and component of each pick."""
    return [(pick.case, pick.box.start_zyx, pick.component) for pick in picks]


Twin = Callable[[brute.Problem], list[brute.Pick]]
