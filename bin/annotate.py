#!/usr/bin/env python
"""ANNOTATE: a query and the labels before in, the labels after out; without a query, the labels of the whole pool."""

from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave
from nnactive_nf.core.options import Name

FILE = click.Path(path_type=Path)


@click.command()
@click.option("--prepared", required=True, type=FILE, help="Folder of the prepared data set.")
@click.option("--oracle", required=True, type=FILE, help="Complete masks of the pool.")
@click.option("--query", "query_file", type=FILE, help="Query table; without one, the whole pool is labelled.")
@click.option("--strategy", default="full", help="Strategy that made the query, with its options.")
@click.option("--node", required=True, type=Name("node"), help="Node that the labels will train.")
@click.option("--cycle", required=True, type=click.IntRange(0), help="Cycle of that node.")
@click.option("--labels", "labels_file", type=FILE, help="Labels before; none at the start.")
@click.option("--free-background", is_flag=True, help="In labelled cases, what was not imaged is background.")
@click.option("--accept-outside", is_flag=True, help="What people have labelled outside of the patches is taken, too.")
@click.option("--out", required=True, type=FILE, help="Labels file to make.")
@reports_user_errors
def main(prepared: Path, oracle: Path, query_file: Path | None, out: Path, **options: object) -> None:
    """Copy the oracle's labels of the queried patches into the label masks, or take them whole."""
    from nnactive_nf.annotate.run import annotate, write
    from nnactive_nf.core.labels import is_asked_for

    labels = annotate(prepared, oracle, query_file, **options)
    write(out, labels)
    patches = labels.patches[is_asked_for(labels.patches)]
    new = patches[patches["cycle"] == labels.cycle]
    print(
        f"{labels.node}: {len(new)} patches labelled, {new['voxels'].sum()} voxels, "
        f"{new['foreground_voxels'].sum()} of them foreground; "
        f"{len(patches)} patches in {len(labels.masks)} cases so far"
    )


if __name__ == "__main__":
    run_and_leave(main)
