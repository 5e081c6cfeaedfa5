"""Where what is exported comes from: a task's own files, or a results folder and the checkpoint store."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json
from nnactive_nf.core.grid import CaseGrid, read_grids
from nnactive_nf.core.labels import read_patches


@dataclass(frozen=True)
class Results:
    """What a results folder knows of one node, found as it is asked for.

    Attributes:
        folder: the results folder.
        node: id of the node.
    """

    folder: Path
    node: str

    @classmethod
    def of(cls, folder: Path, name: str) -> Results:
        """Results of a node, or of the last node of a trajectory.

        Raises:
            UserError: the results hold nothing of that name.
        """
        if not (folder / "labels").is_dir():
            raise UserError(f"{folder}: no results of a run (no folder labels in it)")
        nodes = sorted(
            f"{path.parent.name}-{path.stem.removeprefix('labels_')}" for path in folder.glob("labels/*/labels_c*.h5")
        )
        own = [node for node in nodes if node == name or re.fullmatch(re.escape(name) + r"-c\d+", node)]
        if not own:
            raise UserError(f"{folder}: knows no node or trajectory '{name}'; it has {', '.join(nodes)}")
        return cls(folder, max(own, key=lambda node: int(node.rpartition("-c")[2])))

    @property
    def labels_file(self) -> Path:
        """The node's label masks."""
        trajectory, _, cycle = self.node.rpartition("-c")
        return self.folder / "labels" / trajectory / f"labels_c{cycle}.h5"

    @cached_property
    def _head(self) -> tuple[str, Classes]:
        labels = read_patches(self.labels_file)
        return labels.dataset, labels.classes

    @property
    def dataset(self) -> str:
        """Name of the data set."""
        return self._head[0]

    @property
    def classes(self) -> Classes:
        """Its classes."""
        return self._head[1]

    @property
    def cases_file(self) -> Path:
        """The data set's table of cases."""
        several = self.folder / f"cases_{self.dataset}.csv"
        return several if several.is_file() else self.folder / "cases.csv"

    @property
    def grids(self) -> Mapping[str, CaseGrid]:
        """Grids of all cases."""
        return read_grids(self.cases_file)

    def cases_of(self, split: str) -> list[str]:
        """Cases of the `pool` or the `test` set, by name."""
        table = pd.read_csv(self.cases_file, dtype={"case": str, "split": str}, keep_default_na=False)
        return sorted(table.loc[table["split"] == split, "case"])

    @property
    def parameters(self) -> dict[str, Any]:
        """The run's parameters; where it was a study table, those of the row are not looked for."""
        return dict(read_json(self.folder / "parameters.json"))

    def checkpoints(self, store: Path | None) -> list[Path]:
        """The checkpoints of the node's folds: published ones, or those of the checkpoint store.

        Args:
            store: the checkpoint store; `None` looks where the run had it, beside the results.

        Raises:
            UserError: a fold's checkpoint is in neither place.
        """
        from nnactive_nf.core.nnunet import stored_fold  # with torch, as all that asks for networks

        published = sorted(self.folder.glob(f"models/{self.node}/fold_*/checkpoint.pth"), key=_fold)
        records = sorted(self.folder.glob(f"training/{self.node}/fold_*.json"), key=_fold)
        if published and len(published) >= len(records):
            return published
        if not records:
            raise UserError(f"{self.folder}: no training of {self.node} is recorded in it")
        place = store or self.folder.resolve().parent / str(self.parameters["checkpoint_store"])
        paths = [stored_fold(place, digest) / "checkpoint.pth" for digest in map(_digest, records)]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise UserError(
                f"{missing[0]}: no such file; give the run's --checkpoint-store, or run again with --publish_models"
            )
        return paths

    @property
    def maps(self) -> list[Path]:
        """The node's published uncertainty maps."""
        paths = sorted(self.folder.glob(f"uncertainty/{self.node}/uncertainty_*.h5"))
        if not paths:
            raise UserError(
                f"{self.folder}: no maps uncertainty/{self.node}/*.h5; the run wanted --publish_uncertainty hdf5"
            )
        return paths


def _digest(record: Path) -> str:
    return str(read_json(record)["digest"])


def _fold(path: Path) -> int:
    numbers = [int(n) for n in re.findall(r"fold_(\d+)", str(path))]
    return numbers[-1]
