#!/usr/bin/env python
"""EVALUATE: the ensemble of a node on the test set, or without one each fold on its validation cases."""

from pathlib import Path
from typing import Any

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave
from nnactive_nf.core.options import Name

CROSS_VALIDATION = ("prepared", "tile_step", "mirroring", "device", "threads", "trainer_file", "out")  # its options


@click.command()
@click.option("--prepared", required=True, type=click.Path(path_type=Path), help="PREPARE's folder.")
@click.option("--reference", type=click.Path(path_type=Path), help="PREPARE's masks of the test set.")
@click.option("--labels", type=click.Path(path_type=Path), help="Without a test set: the node's labels.")
@click.option("--node", required=True, type=Name("node"), help="Id of the node.")
@click.option("--dataset", required=True, type=Name("data set"))
@click.option("--regime", required=True, type=Name("regime"))
@click.option("--seed", required=True, type=int)
@click.option("--cycle", required=True, type=click.IntRange(0))
@click.option("--strategy", default="", help="Empty for the node that all strategies share.")
@click.option("--tile-step", default=0.5, show_default=True, type=click.FloatRange(0, 1, min_open=True))
@click.option("--mirroring/--no-mirroring", default=True, show_default=True)
@click.option("--nsd-tolerance-mm", default=2.0, show_default=True, type=click.FloatRange(0))
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cuda", "cpu"]))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="CPU threads.")
@click.option("--predictions", type=click.Path(path_type=Path), help="Folder to make, with the segmentations as files.")
@click.option(
    "--probabilities", is_flag=True, help="Beside the segmentations, the probabilities of the classes (.npz)."
)
@click.option("--trainer-file", type=click.Path(path_type=Path), help="Python file of the trainer, if one was given.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File to make.")
@click.argument("folds", nargs=-1, required=True, type=click.Path(path_type=Path))
@reports_user_errors
def main(
    folds: tuple[Path, ...],
    node: str,
    dataset: str,
    regime: str,
    seed: int,
    cycle: int,
    strategy: str,
    reference: Path | None,
    labels: Path | None,
    **options: Any,
) -> None:
    """Measure the ensemble in the folders FOLDS (in the order of the folds) on the test set.

    With --labels in place of --reference, each fold is measured on the labelled patches that it was not trained on.
    """
    from nnactive_nf.evaluate.cross_validation import cross_validate
    from nnactive_nf.evaluate.run import evaluate

    ids = {
        "node": node, "dataset": dataset, "regime": regime, "seed": seed, "cycle": cycle, "strategy": strategy or None,
    }  # fmt: skip
    if labels is not None:
        given = {name: options[name] for name in CROSS_VALIDATION}
        cross_validate(labels_file=labels, folds=folds, ids=ids, **given)
    elif reference is not None:
        checkpoints = [fold / "checkpoint.pth" for fold in folds]
        evaluate(checkpoints=checkpoints, reference=reference, ids=ids, **options)
    else:
        raise click.UsageError("give --reference, or --labels where there is no test set")


if __name__ == "__main__":
    run_and_leave(main)
