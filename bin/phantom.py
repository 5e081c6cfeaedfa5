#!/usr/bin/env python
"""PHANTOM: write the built-in phantom data set as an nnU-Net raw folder."""

from __future__ import annotations

from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave
from nnactive_nf.phantom.variants import DEFAULT_VARIANT


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Seed of the volumes.")
@click.option("--cases", type=click.IntRange(min=1), default=20, help="Number of cases, two for each patient.")
@click.option("--variant", default=DEFAULT_VARIANT, help="mri, two_channels (label values 0, 2, 5), or regions of it.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to make.")
@reports_user_errors
def main(seed: int, cases: int, variant: str, out: Path) -> None:
    """Options to one call."""
    from nnactive_nf.phantom.folder import write_phantom

    write_phantom(out, seed, cases, variant)
    print(f"phantom '{variant}': {cases} cases, seed {seed}, in {out}")


if __name__ == "__main__":
    run_and_leave(main)
