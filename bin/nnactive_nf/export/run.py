"""What the command exports, from a task's files or from a results folder.

What needs networks is imported where it is exported: torch takes longer to import than labels to be written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.grid import CaseGrid
from nnactive_nf.core.places import write_places
from nnactive_nf.core.query_table import read_query
from nnactive_nf.export.labels import write_label_maps, write_raw_folder
from nnactive_nf.export.maps import write_maps
from nnactive_nf.export.sources import Results

STEP = 0.5  # of nnUNetv2_predict
KINDS = ("model", "predictions", "uncertainty", "queries", "labels", "nnunet_raw")


def of_task(
    kind: str, prepared: Path, node: str, files: Sequence[Path], images: Path | None, tile_step: float | None,
    mirroring: bool | None, probabilities: bool, device: str, threads: int, out: Path,
    trainer_file: Path | None = None,
) -> None:  # fmt: skip
    """Export one thing of a node from the files that a task of the workflow holds.

    Args:
        kind: one of `KINDS` but `queries`, which QUERY makes itself; `predictions` are those of the pool.
        prepared: PREPARE's folder.
        node: id of the node.
        files: folders of folds for `model` and `predictions`, shards' maps for `uncertainty`, the labels file for
            `labels` and `nnunet_raw`.
        images: the raw data set, for `nnunet_raw`.
        tile_step: step of the sliding window as a share of the network's patch; `None` takes nnU-Net's own.
        mirroring: average over mirrored copies of each window; `None` takes nnU-Net's own, which is to do it.
        probabilities: beside predictions, the classes' probabilities.
        device: `auto`, `cuda` or `cpu`, for `predictions`.
        threads: CPU threads, for `predictions`.
        out: folder to make.
        trainer_file: the user's trainer, with which the folds were trained.

    Raises:
        UserError: a file is damaged or missing.
    """
    dataset = Dataset.open(prepared)
    step, mirrored = tile_step or STEP, mirroring is not False
    checkpoints = [folder / "checkpoint.pth" for folder in files]
    if kind == "model":
        from nnactive_nf.export.model import write_model

        write_model(out, checkpoints, dataset.classes, node, step, mirrored, trainer_file)
    elif kind == "predictions":
        from nnactive_nf.export.predictions import ensemble_of, write_predictions

        ensemble = ensemble_of(checkpoints, device, threads, step, mirrored, trainer_file)
        write_predictions(
            out, ensemble, dataset.pool, lambda case: (dataset.network_image(case), dataset.properties(case)),
            dataset.classes, probabilities,
        )  # fmt: skip
    elif kind == "uncertainty":
        write_maps(out, files, dataset.grids, dataset.classes)
    else:
        (labels_file,) = files
        _labels(kind, out, labels_file, dataset.grids, images)


def of_results(
    kind: str, results: Path, name: str, images: Path | None, store: Path | None, cases: str,
    probabilities: bool, tile_step: float | None, mirroring: bool | None, device: str, threads: int, out: Path,
    trainer_file: Path | None = None,
) -> str:  # fmt: skip
    """Export one thing of a node from a results folder, without running the workflow.

    Args:
        kind: one of `KINDS`.
        results: the results folder.
        name: node, or trajectory, of which the last node is taken.
        images: the run's raw data set; `predictions` and `nnunet_raw` read images.
        store: checkpoint store, where the networks were not published; `None` looks where the run had it.
        cases: `test` or `pool`, for `predictions`.
        probabilities: beside predictions, the classes' probabilities.
        tile_step: step of the sliding window; `None` takes the run's `test_tile_step`.
        mirroring: whether mirrored copies are averaged; `None` takes the run's.
        device: `auto`, `cuda` or `cpu`, for `predictions`.
        threads: CPU threads, for `predictions`.
        out: folder to make.
        trainer_file: the user's trainer, with which the folds were trained.

    Returns:
        The node that was exported.

    Raises:
        UserError: the results lack what is asked for; the message says how a run leaves it.
    """
    found = Results.of(results, name)
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: holds files already; give a new folder")
    if kind in ("model", "predictions"):
        told = found.parameters
        step = float(told["test_tile_step"]) if tile_step is None else tile_step
        mirrored = bool(told["mirroring"]) if mirroring is None else mirroring
        checkpoints = found.checkpoints(store)
        if kind == "model":
            from nnactive_nf.export.model import write_model

            write_model(out, checkpoints, found.classes, found.node, step, mirrored, trainer_file)
        else:
            from nnactive_nf.export.predictions import ensemble_of, raw_loader, write_predictions

            raw = _wanted(images, kind)
            ensemble = ensemble_of(checkpoints, device, threads, step, mirrored, trainer_file)
            write_predictions(
                out, ensemble, found.cases_of(cases), raw_loader(raw, ensemble), found.classes, probabilities
            )
    elif kind == "uncertainty":
        write_maps(out, found.maps, found.grids, found.classes)
    elif kind == "queries":
        _queries(out, found)
    else:
        _labels(kind, out, found.labels_file, found.grids, images)
    return found.node


def _labels(kind: str, out: Path, labels_file: Path, grids: Mapping[str, CaseGrid], images: Path | None) -> None:
    if kind == "labels":
        write_label_maps(out, labels_file, grids)
    else:
        write_raw_folder(out, labels_file, grids, _wanted(images, kind))


def _queries(out: Path, found: Results) -> None:
    """Places of all queries up to the node's, as QUERY leaves them in the results."""
    trajectory, _, last = found.node.rpartition("-c")
    for path in sorted((found.folder / "queries" / trajectory).glob("query_c??.csv")):
        cycle = path.stem.removeprefix("query_c")
        if int(cycle) <= int(last):
            table = out / f"query_c{cycle}_mm.csv"
            write_places(out / f"rois_c{cycle}", table, read_query(path), found.grids, f"{trajectory} c{cycle}")


def _wanted(images: Path | None, kind: str) -> Path:
    if images is None:
        raise UserError(f"{kind}: the images are not among the results; give the run's data set with --input")
    return images
