#!/usr/bin/env python
"""VIEWS: a query and the maps that it has read in, pictures of its first patches out."""

from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave

FILE = click.Path(path_type=Path)


@click.command()
@click.option("--prepared", required=True, type=FILE, help="Folder of the prepared data set.")
@click.option("--query", "query_file", required=True, type=FILE, help="Query table.")
@click.option("--strategy", required=True, help="Strategy that made the query, with its options.")
@click.option("--node", required=True, help="Node whose labels the query makes.")
@click.option("--cycle", required=True, type=click.IntRange(0), help="Cycle of that node.")
@click.option("--patches", default=6, show_default=True, type=click.IntRange(1), help="Most pictures.")
@click.option("--out", required=True, type=FILE, help="File of pictures to make.")
@click.argument("uncertainty_files", nargs=-1, type=FILE)
@reports_user_errors
def main(node: str, **options: object) -> None:
    """Show the patches of a query, with the uncertainty maps in the files UNCERTAINTY_FILES where it has read some."""
    from nnactive_nf.views.run import write_views

    print(f"{node}: pictures of {write_views(node=node, **options)} patches")


if __name__ == "__main__":
    run_and_leave(main)
