"""Uncertainty maps of one shard of the pool: `uncertainty_<map>-<map>_<shard>.h5`, written case by case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import check_regular, read_json
from nnactive_nf.core.geometry import Shape, as_shape
from nnactive_nf.core.hdf5 import check_space, create_hdf5, open_hdf5

VERSION = 1
HEAD_BYTES = 512  # a HDF5 file begins with a signature, one that was emptied with zeros

# What may stand in a file, by name: (type in the file, leading axes before z, y, x: folds M, classes C, features F).
MAPS: dict[str, tuple[str, str]] = {
    item["name"]: (item["type"], item["axes"]) for item in read_json(Path(__file__).with_name("maps.json"))
}


@contextmanager
def create_uncertainty(
    path: Path,
    *,
    dataset: str,
    node: str,
    cycle: int,
    folds: int,
    classes: int,
    maps: Sequence[str],
    checkpoints: Sequence[str],
) -> Iterator[h5py.File]:
    """New uncertainty file; add cases to it with `write_case`."""
    attributes: dict[str, Any] = {
        "dataset": dataset,
        "node": node,
        "cycle": cycle,
        "folds": folds,
        "classes": classes,
        "maps": list(maps),
        "checkpoints": list(checkpoints),
    }
    with create_hdf5(path, "uncertainty", VERSION, attributes) as file:
        file.create_group("cases")
        yield file


def write_case(file: h5py.File, case: str, maps: Mapping[str, npt.NDArray[Any]]) -> None:
    """Add one case's maps, chunked for box reads and compressed losslessly."""
    group = file["cases"].create_group(case)
    for name, values in maps.items():
        kind, _ = MAPS[name]
        lead, shape_zyx = values.shape[:-3], values.shape[-3:]
        chunks = (1,) * len(lead) + tuple(min(32, n) for n in shape_zyx)
        group.create_dataset(
            name,
            data=values.astype(kind, copy=False),
            chunks=chunks,
            shuffle=True,
            compression="gzip",
            compression_opts=1,
        )
    check_space(file)


class UncertaintyMaps:
    """Maps of all cases over one or several shards, read case by case.

    Args:
        paths: the shards' files, in any order; all of one node.
        shapes: image shape (z, y, x) of each case; maps must fit.
    """

    def __init__(self, paths: Sequence[Path], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._file_of: dict[str, Path] = {}
        self.names: set[str] = set()  # of the maps
        self._shapes = shapes
        for path in paths:
            check_regular(path)
        refuse_emptied(paths)
        self.owner: tuple[str, str, int, int] | None = None
        for path in sorted(Path(p) for p in paths):
            with open_hdf5(path, "uncertainty", VERSION) as file:
                self.names.update(map(str, file.attrs.get("maps", ())))
                its = file.attrs
                owner = str(its["dataset"]), str(its["node"]), int(its["cycle"]), int(its["classes"])
                if self.owner not in (None, owner):
                    raise UserError(f"{path}: maps of node {owner[1]}, the other shards are of node {self.owner[1]}")
                self.owner = owner
                for case in _cases_in(path, file):
                    if case in self._file_of:
                        raise UserError(f"{path}: case {case} also stands in {self._file_of[case]}")
                    if case not in shapes:
                        raise UserError(f"{path}: case {case} is not in the data set")
                    self._file_of[case] = path

    def check_owner(self, dataset: str, classes: int, cycle: int, node: str | None) -> None:
        """Hold what the files say of themselves against what is asked; `UserError` where they are another's.

        Args:
            dataset: name of the data set.
            classes: number of the network's outputs: classes, background included, or regions.
            cycle: cycle of the node that made the maps.
            node: that node, where it is known.
        """
        if self.owner is None:
            return
        theirs, asked = self.owner, (dataset, node or self.owner[1], cycle, classes)
        names = ("data set", "node", "cycle", "number of classes")
        for name, found, wanted in zip(names, theirs, asked, strict=True):
            if found != wanted:
                raise UserError(f"{sorted(self._file_of.values())[0]}: maps of {name} {found}, asked for is {wanted}")

    @property
    def cases(self) -> list[str]:
        """Names of the cases with maps, sorted."""
        return sorted(self._file_of)

    def read(self, case: str, name: str, lead: tuple[int | slice, ...] = ()) -> npt.NDArray[Any]:
        """One map of one case; axes as in `MAPS`, then z, y, x.

        Args:
            case: the case.
            name: the map.
            lead: index into the leading axes, to read a part (`(2,)` of `mean_probability` is class 2 alone).

        Raises:
            UserError: the case or the map is missing, or its shape is not the image's, or it is not finite.
        """
        path = self._file_of.get(case)
        if path is None:
            raise UserError(f"case {case} has no uncertainty maps; is a shard of PREDICT missing?")
        with open_hdf5(path, "uncertainty", VERSION) as file:
            group = file["cases"][case]
            if name not in group:
                raise UserError(f"{path}: case {case} has no map '{name}', it holds {sorted(group)}")
            stored, where = group[name], f"{path}: map '{name}' of case {case}"
            kind, axes = MAPS[name]
            if stored.dtype != kind or stored.ndim != len(axes) + 3:
                raise UserError(
                    f"{where} is {stored.dtype} of {stored.ndim} axes, {kind} of {len(axes) + 3} are wanted"
                )
            if name != "fold_features" and tuple(stored.shape[-3:]) != tuple(self._shapes[case]):
                raise UserError(f"{where} has shape {stored.shape}, the image has {self._shapes[case]}")
            values = stored[lead]
        if not np.isfinite(values).all():
            raise UserError(f"{path}: map '{name}' of case {case} holds values that are not finite")
        return values

    def feature_cell(self, case: str) -> Shape:
        """Size (z, y, x) of a cell of `fold_features` in voxels; the first cell begins at the image's first voxel."""
        with open_hdf5(self._file_of[case], "uncertainty", VERSION) as file:
            return as_shape(file["cases"][case]["fold_features"].attrs["cell_zyx"])


def refuse_emptied(paths: Sequence[Path]) -> None:
    """Say what to do where `--cleanup_work` has emptied files: they are as large as before and hold zeros only."""
    emptied = [Path(path).resolve() for path in paths if _is_emptied(Path(path))]
    if emptied:
        tasks = sorted({path.parents[1] for path in emptied})
        # Nextflow stages files as links into the folder of their task, but it may have been told to copy them.
        known = all((folder / ".command.run").exists() for folder in tasks)
        folders = (
            f"folder of their task (rm -r {' '.join(map(str, tasks))})" if known else "work folder of that PREDICT"
        )
        raise UserError(
            f"{emptied[0].name} was emptied by --cleanup_work, and this task needs it; to make it again, delete the "
            f"{folders} and run again with -resume"
        )


def _is_emptied(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    return bool(head) and not any(head)


def _cases_in(path: Path, file: h5py.File) -> list[str]:
    cases = file.get("cases")
    if not isinstance(cases, h5py.Group):
        raise UserError(f"{path}: damaged uncertainty file, it has no group 'cases'")
    return list(cases)
