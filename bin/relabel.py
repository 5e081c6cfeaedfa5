#!/usr/bin/env python
"""RELABEL: segmentations of nnU-Net in, the same with the label values of one's own files out."""

from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave

PATH = click.Path(path_type=Path)


@click.command()
@click.option("--labels", required=True, type=PATH, help="labels.json of the model folder.")
@click.argument("source", type=PATH)
@click.argument("target", type=PATH)
@reports_user_errors
def main(labels: Path, source: Path, target: Path) -> None:
    """Write the segmentations of the folder SOURCE to the folder TARGET with the label values of one's own files."""
    from nnactive_nf.export.relabel import relabel

    print(f"{relabel(labels, source, target)} files in {target}")


if __name__ == "__main__":
    run_and_leave(main)
