#!/usr/bin/env python
"""MEASURE: train some iterations of each planned network, and print and write down how long they take."""

from __future__ import annotations

import time
from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave
from nnactive_nf.core.options import named_path

BEGUN = time.monotonic()


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--plan", required=True, type=click.Path(path_type=Path), help="plan.json of the workflow.")
@click.option("--raw", "folders", multiple=True, type=named_path, help="FOLDER=NAME: raw folder of a data set.")
@click.option("--plans", multiple=True, type=named_path, help="FILE=NAME: nnU-Net plans file of a data set.")
@click.option("--device", default="auto", type=click.Choice(["auto", "cuda", "cpu"]))
@click.option("--threads", default=1, type=click.IntRange(1), help="CPU threads.")
@click.option("--gpus", default=0, type=click.IntRange(0), help="GPUs that the task asked for.")
@click.option("--trainer-file", type=click.Path(path_type=Path), help="Python file with a trainer of your own.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="preflight.json to make.")
@reports_user_errors
def main(
    plan: Path,
    folders: tuple[tuple[str, Path], ...],
    plans: tuple[tuple[str, Path], ...],
    device: str,
    threads: int,
    gpus: int,
    trainer_file: Path | None,
    out: Path,
) -> None:
    """Options to one call."""
    from nnactive_nf.measure.run import measure

    measure(plan, dict(folders), device, threads, gpus, out, trainer_file, BEGUN, dict(plans))


if __name__ == "__main__":
    run_and_leave(main)
