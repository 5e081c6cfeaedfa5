#!/usr/bin/env python
"""PREDICT: uncertainty maps of one shard of the pool."""

from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave
from nnactive_nf.core.options import Name


@click.command()
@click.option("--prepared", required=True, type=click.Path(path_type=Path), help="PREPARE's folder.")
@click.option("--node", required=True, type=Name("node"), help="Id of the node.")
@click.option("--cycle", required=True, type=click.IntRange(0))
@click.option("--shard", default=0, show_default=True, type=click.IntRange(0), help="Number of this shard, from 0.")
@click.option("--shards", default=1, show_default=True, type=click.IntRange(1), help="Number of shards.")
@click.option("--maps", required=True, help="Maps to write, with commas between them.")
@click.option("--tile-step", default=0.75, show_default=True, type=click.FloatRange(0, 1, min_open=True))
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cuda", "cpu"]))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1), help="CPU threads.")
@click.option("--trainer-file", type=click.Path(path_type=Path), help="Python file of the trainer, if one was given.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="File to make.")
@click.argument("folds", nargs=-1, required=True, type=click.Path(path_type=Path))
@reports_user_errors
def main(maps: str, folds: tuple[Path, ...], **options: object) -> None:
    """Map the uncertainty of the ensemble in the folders FOLDS (in the order of the folds)."""
    from nnactive_nf.predict.run import predict

    checkpoints = [fold / "checkpoint.pth" for fold in folds]
    predict(checkpoints=checkpoints, maps=[name for name in maps.split(",") if name], **options)


if __name__ == "__main__":
    run_and_leave(main)
