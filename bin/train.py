#!/usr/bin/env python
"""TRAIN: one fold of a node."""

import sys
from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave
from nnactive_nf.core.options import ZYX, Name, Plateau


@click.command()
@click.option("--prepared", required=True, type=click.Path(path_type=Path), help="PREPARE's folder.")
@click.option("--labels", "labels_file", required=True, type=click.Path(path_type=Path), help="Labels of the node.")
@click.option("--node", required=True, type=Name("node"), help="Id of the node.")
@click.option("--seed", required=True, type=int)
@click.option("--cycle", required=True, type=click.IntRange(0))
@click.option("--fold", required=True, type=click.IntRange(0), help="Fold to leave out and validate on.")
@click.option("--folds", required=True, type=click.IntRange(2))
@click.option("--folds-file", type=click.Path(path_type=Path), help="Folds that are given; dealt where not.")
@click.option("--epochs", default=200, show_default=True, type=click.IntRange(1))
@click.option("--iterations", default=250, show_default=True, type=click.IntRange(1), help="Batches per epoch.")
@click.option("--train-patch-size", type=ZYX, help="The network's patch z,y,x; nnU-Net's plan where not given.")
@click.option("--features", type=click.IntRange(1), help="Features of the first stage; nnU-Net's plan where not given.")
@click.option("--batch-size", type=click.IntRange(1), help="nnU-Net's plan where not given.")
@click.option("--optimiser", default="sgd", show_default=True, type=click.Choice(["sgd", "adamw"]))
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="0.01 for sgd, 0.003 for adamw.")
@click.option("--stop-training", type=Plateau(), help="plateau:N ends after N epochs without a better online Dice.")
@click.option("--training-start", type=click.Choice(["previous", "shrink_perturb"]), help="Go on from --before.")
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cuda", "cpu"]))
@click.option(
    "--compile",
    default="off",
    show_default=True,
    type=click.Choice(["off", "auto", "on"]),
    help="Whether torch compiles the network.",
)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="CPU threads.")
@click.option("--store", required=True, type=click.Path(path_type=Path), help="The checkpoint store.")
@click.option("--code", required=True, help="Digest of the code that a training rests on.")
@click.option("--trainer-file", type=click.Path(path_type=Path), help="Python file with a trainer of your own.")
@click.option("--initial-weights", type=click.Path(path_type=Path), help="nnU-Net's checkpoint to start from.")
@click.option("--before", type=click.Path(path_type=Path), help="This fold of the node before, as TRAIN made it.")
@click.option("--tensorboard", type=click.Path(path_type=Path), help="Folder for event files that grow meanwhile.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@reports_user_errors
def main(
    prepared: Path,
    labels_file: Path,
    node: str,
    device: str,
    threads: int,
    store: Path,
    code: str,
    out: Path,
    trainer_file: Path | None,
    folds_file: Path | None,
    initial_weights: Path | None,
    before: Path | None,
    tensorboard: Path | None,
    compile: str,
    **options: object,
) -> None:
    """Train one fold, go on from its last checkpoint, or fetch it from the store."""
    from nnactive_nf.train.run import Settings, StoppedError, train

    try:
        train(
            prepared, labels_file, Settings(**options), node, device, threads, store, code, out,
            trainer_file=trainer_file, folds_file=folds_file, initial_weights=initial_weights, before=before,
            tensorboard=tensorboard,
            compile=compile,
        )  # fmt: skip
    except StoppedError as end:
        print(
            f"told to end by signal {end.number}; the training goes on from here when it is run again", file=sys.stderr
        )
        sys.exit(128 + end.number)


if __name__ == "__main__":
    run_and_leave(main)
