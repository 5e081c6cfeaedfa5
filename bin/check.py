#!/usr/bin/env python
"""CHECK: raw data set and the settings for it in, its sizes out, or all that is wrong with them."""

import json
from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave
from nnactive_nf.core.options import Name

FILE = click.Path(path_type=Path)


@click.command()
@click.option("--input", "folder", required=True, type=FILE, help="nnU-Net raw or Decathlon folder.")
@click.option("--shown", help="The folder's path in messages, where it is another.")
@click.option("--name", required=True, type=Name("data set"), help="Name of the data set.")
@click.option("--configuration", default="3d_fullres", show_default=True, help="nnU-Net configuration.")
@click.option(
    "--test-fraction", default=0.25, show_default=True, type=click.FloatRange(0, 1, min_open=True, max_open=True)
)
@click.option("--test-case", "test_cases", multiple=True, help="Case of a given test set; as often as it has cases.")
@click.option("--test-folder", is_flag=True, help="nnU-Net's imagesTs and labelsTs are the test set.")
@click.option("--shown-test-cases", default="", help="What gave the test set, in messages.")
@click.option("--people", is_flag=True, help="People label: label files of the pool may be missing.")
@click.option("--groups", type=FILE, help="CSV with the columns case and group (patient).")
@click.option("--group-pattern", help="Regular expression whose group is the patient in a case's name.")
@click.option("--free-masks", type=FILE, help="Folder of masks of what costs nobody time.")
@click.option("--strategy-file", type=FILE, help="Python file with strategies of your own.")
@click.option("--shown-strategy-file", help="That file's path in messages.")
@click.option("--trainer-file", type=FILE, help="Python file with a trainer of your own.")
@click.option("--shown-trainer-file", help="That file's path in messages.")
@click.option(
    "--rows",
    required=True,
    help="JSON: a list with a map for each regime: folds, start_size, query_size, patch_size, patches_per_image, "
    "start_strategy, strategies (a list), and where there are such: where (the row of a study table), given (of "
    "start_queries, folds_file, initial_weights and plans the path in messages and the file), stop (rules).",
)
@click.option("--out", required=True, type=FILE, help="JSON file of sizes to make.")
@reports_user_errors
def main(
    folder: Path,
    shown: str | None,
    name: str,
    shown_strategy_file: str | None,
    shown_trainer_file: str | None,
    rows: str,
    out: Path,
    **options: object,
) -> None:
    """Check all of a raw data set and its settings that needs no voxels."""
    from nnactive_nf.check.run import Settings, check
    from nnactive_nf.core.demands import Demands

    settings = Settings(
        shown=shown or str(folder),
        shown_strategy_file=shown_strategy_file or str(options["strategy_file"]),
        shown_trainer_file=shown_trainer_file or str(options["trainer_file"]),
        rows=tuple(Demands.of(row) for row in json.loads(rows)),
        **options,
    )
    sizes = check(folder, settings, out)
    print(f"{name}: {sizes['cases']} cases, {sizes['channels']} channels, {sizes['classes']} classes")
    print(f"largest image {sizes['largest_file']} voxels, {sizes['largest']} at the planned spacing")


if __name__ == "__main__":
    run_and_leave(main)
