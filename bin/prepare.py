#!/usr/bin/env python
"""PREPARE: raw data set in, prepared data set out."""

import json
from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave
from nnactive_nf.core.options import Name


@click.command()
@click.option(
    "--input", "folder", required=True, type=click.Path(path_type=Path), help="nnU-Net raw or Decathlon folder."
)
@click.option("--name", required=True, type=Name("data set"), help="Name of the data set.")
@click.option("--configuration", default="3d_fullres", show_default=True, help="nnU-Net configuration.")
@click.option("--planner", default="ExperimentPlanner", show_default=True, help="nnU-Net's planner.")
@click.option(
    "--test-fraction", default=0.25, show_default=True, type=click.FloatRange(0, 1, min_open=True, max_open=True)
)
@click.option("--test-case", "test_cases", multiple=True, help="Case of a given test set; as often as it has cases.")
@click.option("--test-folder", is_flag=True, help="nnU-Net's imagesTs and labelsTs are the test set.")
@click.option(
    "--split-seed", default=12345, show_default=True, type=int, help="Seed of the split into pool and test set."
)
@click.option("--people", is_flag=True, help="People label: label files of the pool may be missing.")
@click.option("--groups", type=click.Path(path_type=Path), help="CSV with the columns case and group (patient).")
@click.option("--group-pattern", help="Regular expression whose group is the patient in a case's name.")
@click.option("--free-masks", type=click.Path(path_type=Path), help="Folder of masks of what costs nobody time.")
@click.option("--folds", required=True, type=click.IntRange(2), help="Folds of the ensemble.")
@click.option("--start-size", required=True, type=click.IntRange(1), help="Patches of the start.")
@click.option(
    "--plans", type=click.Path(path_type=Path), help="nnU-Net plans file of your own; the planner has no say."
)
@click.option(
    "--plans-before", type=click.Path(path_type=Path), help="Plans that packages were handed out by, to keep to."
)
@click.option("--kept-plans", "kept", type=click.Path(path_type=Path), help="File to make: the plans, to be kept to.")
@click.option("--state", default="", help="State of the data set's files, for that file.")
@click.option(
    "--starts",
    default="[]",
    help="JSON: a list with a map for each regime that starts from weights: where (the row of a study table), shown "
    "and path (of the checkpoint), train_patch_size, features.",
)
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1), help="Cases read at the same time.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to make.")
@click.option("--oracle", required=True, type=click.Path(path_type=Path), help="File to make: masks of the pool.")
@click.option(
    "--reference", required=True, type=click.Path(path_type=Path), help="File to make: masks of the test set."
)
@reports_user_errors
def main(
    folder: Path,
    starts: str,
    workers: int,
    out: Path,
    oracle: Path,
    reference: Path,
    kept: Path | None,
    state: str,
    **options: object,
) -> None:
    """Check a raw data set, split it into pool and test set, plan and preprocess it."""
    from nnactive_nf.core.files import read_json
    from nnactive_nf.prepare.plan import keep_plans
    from nnactive_nf.prepare.run import Settings, prepare
    from nnactive_nf.prepare.starts import NetworkStart

    settings = Settings(starts=tuple(NetworkStart.of(start) for start in json.loads(starts)), **options)
    prepare(folder, settings, workers, out, oracle, reference)
    if kept is not None:
        keep_plans(kept, read_json(out / "plans.json"), state)


if __name__ == "__main__":
    run_and_leave(main)
