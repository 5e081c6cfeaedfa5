#!/usr/bin/env python
"""STOP: a trajectory's measures, labels and next query in; whether it goes on, or why it stops."""

from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave
from nnactive_nf.core.options import Name

FILE = click.Path(path_type=Path)


@click.command()
@click.option("--rules", required=True, help="The rules, as --stop of the workflow has them.")
@click.option("--trajectory", required=True, type=Name("trajectory"), help="The trajectory.")
@click.option("--labels", "labels_file", required=True, type=FILE, help="Labels that its last node was trained on.")
@click.option("--query", "query_file", required=True, type=FILE, help="The query that was made with that node.")
@click.option("--going", required=True, type=FILE, help="Table to make where it goes on: a header alone.")
@click.option("--stopped", required=True, type=FILE, help="Table to make where it stops: when and why.")
@click.argument("metrics", nargs=-1, required=True, type=FILE)
@reports_user_errors
def main(
    rules: str,
    trajectory: str,
    labels_file: Path,
    query_file: Path,
    going: Path,
    stopped: Path,
    metrics: tuple[Path, ...],
) -> None:
    """Decide whether a trajectory goes on after METRICS of all its nodes so far."""
    from nnactive_nf.core.stop_rules import parse_rules
    from nnactive_nf.stop.run import progress_of, stop_or_go

    stop = stop_or_go(parse_rules(rules), progress_of(labels_file, query_file, metrics), trajectory, going, stopped)
    print(f"{trajectory}: {f'stops, {stop.why}' if stop else 'goes on'}")


if __name__ == "__main__":
    run_and_leave(main)
