#!/usr/bin/env python
"""DOWNLOAD: fetch a data set of the Medical Segmentation Decathlon, check it and unpack it, once."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave
from nnactive_nf.download.run import fetch
from nnactive_nf.download.tasks import bucket, task_named


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--task", required=True, help="Name of the task, e.g. Task04_Hippocampus.")
@click.option("--folder", type=click.Path(path_type=Path), required=True, help="Download folder; gets a folder <task>.")
@click.option("--bucket", "address", default=bucket, hidden=True, help="Address of the folder of archives.")
@reports_user_errors
def main(task: str, folder: Path, address: str) -> None:
    """Options to one call."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # a stopped task tidies up
    fetch(task_named(task), folder, address)


if __name__ == "__main__":
    run_and_leave(main)
