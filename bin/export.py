#!/usr/bin/env python
"""EXPORT: what a run has made, as other tools take it, from its results folder or from a task's files."""

from pathlib import Path
from typing import Any

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave

PATH = click.Path(path_type=Path)
KINDS = ["model", "predictions", "uncertainty", "queries", "labels", "nnunet_raw"]  # as in nnactive_nf/export/run.py


@click.command()
@click.option("--what", "kind", required=True, type=click.Choice(KINDS), help="What to export.")
@click.option("--results", type=PATH, help="A run's results folder.")
@click.option("--prepared", type=PATH, help="In place of --results, in a task: PREPARE's folder; its files follow.")
@click.option("--node", required=True, help="Id of a node, or of a trajectory, of which the last node is taken.")
@click.option("--input", "images", type=PATH, help="The run's raw data set, for predictions and nnunet_raw.")
@click.option("--checkpoint-store", "store", type=PATH, help="Where networks are that were not published.")
@click.option("--cases", default="test", show_default=True, type=click.Choice(["test", "pool"]), help="Of predictions.")
@click.option("--probabilities", is_flag=True, help="Beside predictions, the probabilities of the classes (.npz).")
@click.option("--tile-step", type=click.FloatRange(0, 1, min_open=True), help="Step of windows; the run's by default.")
@click.option("--mirroring/--no-mirroring", default=None, help="Average mirrored windows; as the run by default.")
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cuda", "cpu"]))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="CPU threads.")
@click.option("--trainer-file", type=PATH, help="Python file of the run's trainer, where --trainer_file was given.")
@click.option("--out", required=True, type=PATH, help="Folder to make.")
@click.argument("files", nargs=-1, type=PATH)
@reports_user_errors
def main(results: Path | None, prepared: Path | None, files: tuple[Path, ...], **options: Any) -> None:
    r"""Export the trained model, segmentations, uncertainty maps, queries or labels of a node.

    \b
    model        nnU-Net's model folder, for nnUNetv2_predict_from_modelfolder
    predictions  segmentations of the test set or the pool as label files
    uncertainty  the published maps as NIfTI
    queries      patches in mm, and as regions for 3D Slicer
    labels       label masks as NIfTI
    nnunet_raw   labelled cases as nnU-Net's raw folder
    """
    from nnactive_nf.export import run

    if (results is None) == (prepared is None):
        raise click.UsageError("give --results with a run's results folder")
    if prepared is not None:
        given = {name: value for name, value in options.items() if name not in ("store", "cases")}
        run.of_task(prepared=prepared, files=files, **given)
        return
    name = options.pop("node")
    print(f"{options['kind']} of {run.of_results(results=results, name=name, **options)} in {options['out']}")


if __name__ == "__main__":
    run_and_leave(main)
