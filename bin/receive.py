#!/usr/bin/env python
"""RECEIVE: label files that people delivered in, a table of them out, and once they are complete the labels."""

from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave
from nnactive_nf.core.options import Name
from nnactive_nf.receive.rules import RULES

FILE = click.Path(path_type=Path)


@click.command()
@click.option("--prepared", required=True, type=FILE, help="Folder of the prepared data set.")
@click.option("--query", "query_file", required=True, type=FILE, help="The patches that were handed out.")
@click.option("--reserve", "reserve_file", type=FILE, help="Patches that were handed out for those that are refused.")
@click.option("--places", type=FILE, help="Where an earlier run's package says that they lie.")
@click.option("--node", required=True, type=Name("node"), help="Node that the labels will train.")
@click.option("--deliveries", type=FILE, help="Folder with what was delivered; none where there is nothing.")
@click.option("--partial", is_flag=True, help="Go on with the patches that are done.")
@click.option("--double-read", type=FILE, help="HAND_OUT's table of the patches that two people read.")
@click.option("--disagreement", type=click.Choice(RULES), help="What decides where people differ.")
@click.option("--annotator", "order", multiple=True, help="For the rule rank: first the one whose word counts.")
@click.option("--accept-outside", is_flag=True, help="Take labels outside of the patches, too.")
@click.option("--agreement", type=FILE, help="Table to make: how well people agree.")
@click.option("--table", required=True, type=FILE, help="Table of deliveries to make.")
@click.option("--keep", type=FILE, help="Folder to make: all files that were delivered, by their digests.")
@click.option("--waiting", type=FILE, help="The same table, to be made where the loop must wait.")
@click.option("--answered", required=True, type=FILE, help="Query table to make, once complete: the patches done.")
@click.option("--labels", required=True, type=FILE, help="Masks to make, once complete.")
@reports_user_errors
def main(
    prepared: Path,
    query_file: Path,
    reserve_file: Path | None,
    places: Path | None,
    node: str,
    deliveries: Path | None,
    partial: bool,
    double_read: Path | None,
    disagreement: str | None,
    order: tuple[str, ...],
    accept_outside: bool,
    agreement: Path | None,
    table: Path,
    keep: Path | None,
    waiting: Path | None,
    answered: Path,
    labels: Path,
) -> None:
    """Check what was delivered for a query; write the labels where the loop can go on."""
    from nnactive_nf.receive.answers import summary, write_agreement, write_table
    from nnactive_nf.receive.files import keep_files
    from nnactive_nf.receive.masks import write_answers
    from nnactive_nf.receive.run import receive

    received = receive(
        prepared, query_file, deliveries, reserve_file, places, double_read, disagreement, order, accept_outside
    )
    if agreement is not None:
        write_agreement(agreement, received)
    write_table(table, received)
    if keep is not None and deliveries is not None:
        keep_files(keep, deliveries)
    complete = received.is_complete(partial)
    if not complete and waiting is not None:
        write_table(waiting, received)
    if complete:
        write_answers(received, prepared, query_file, answered, labels, node, reserve_file)
    print(f"{node}: {summary(received)}; {'complete' if complete else 'waiting'}")


if __name__ == "__main__":
    run_and_leave(main)
