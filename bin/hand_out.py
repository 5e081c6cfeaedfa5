#!/usr/bin/env python
"""HAND_OUT: a query in, the package of patches that people label out."""

from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave

FILE = click.Path(path_type=Path)


@click.command()
@click.option("--prepared", required=True, type=FILE, help="Folder of the prepared data set.")
@click.option("--input", "images", required=True, type=FILE, help="The raw data set.")
@click.option("--query", "query_file", required=True, type=FILE, help="The patches.")
@click.option("--reserve", "reserve_file", type=FILE, help="Patches for those that are refused.")
@click.option("--strategy", required=True, help="Strategy that chose them, with its options.")
@click.option("--cycle", required=True, type=click.IntRange(0), help="Cycle whose labels they become.")
@click.option("--delivery", required=True, help="Where files come back to, for the instructions.")
@click.option("--out", required=True, type=FILE, help="Folder to make.")
@click.option("--seed", default=0, type=int, help="Seed of the trajectory, for what is drawn.")
@click.option("--double-read", default=0.0, type=click.FloatRange(0, 1), help="Share of patches that two people read.")
@click.option("--blind", default=0.0, type=click.FloatRange(0, 1), help="Share of these without pre-segmentation.")
@click.argument("uncertainty", nargs=-1, type=FILE)
@reports_user_errors
def main(
    prepared: Path, images: Path, query_file: Path, uncertainty: tuple[Path, ...], out: Path, **options: object
) -> None:
    """Write the package of a query's patches, for any viewer."""
    from nnactive_nf.hand_out.run import hand_out

    tasks = hand_out(prepared, images, query_file, uncertainty, out=out, **options)
    ready = int((tasks["reserve"] != "").sum())
    print(f"{len(tasks) - ready} patches to label, {ready} in reserve, in {tasks['case'].nunique()} images")


if __name__ == "__main__":
    run_and_leave(main)
