#!/usr/bin/env python
"""PREFLIGHT: try what a set-up promises where a task runs, and print what is found."""

from __future__ import annotations

from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--checks", required=True, help="Names of the checks, separated by commas.")
@click.option("--token", required=True, help="Of this preflight: it stands in the files that are handed over.")
@click.option("--cores", default=1, type=click.IntRange(1), help="Cores that the task asked for.")
@click.option("--memory", default=0, type=click.IntRange(0), help="Memory that the task asked for, in bytes.")
@click.option("--device", default="auto", type=click.Choice(["auto", "cuda", "cpu"]))
@click.option("--gpus", default=0, type=click.IntRange(0), help="GPUs that the task asked for.")
@click.option("--executor", default="local", help="Nextflow's name of what runs the task.")
@click.option("--engine", default="", help="Container engine, where there is one.")
@click.option("--work", type=click.Path(path_type=Path), help="The task's work folder; not given in a bucket.")
@click.option("--marker", default="marker", type=click.Path(path_type=Path), help="The launcher's file.")
@click.option("--store", default="checkpoints", type=click.Path(path_type=Path), help="The checkpoint store.")
@click.option("--lock", default="requirements.txt", type=click.Path(path_type=Path), help="The lock file.")
@click.argument("inputs", nargs=-1, type=click.Path(path_type=Path))
@reports_user_errors
def main(checks: str, inputs: tuple[Path, ...], **asked: object) -> None:
    """Options to one call."""
    from nnactive_nf.preflight.run import Asked, preflight

    preflight(checks.split(","), Asked(inputs=inputs, **asked))


if __name__ == "__main__":
    run_and_leave(main)
