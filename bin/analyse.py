#!/usr/bin/env python
"""ANALYSE: metrics, label masks and queries of all trajectories to tables and statistics."""

from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--design", required=True, type=click.Path(path_type=Path), help="design.json, the plan of the study.")
@click.option("--metrics", required=True, type=FOLDER, help="Folder with the nodes' metrics.json files.")
@click.option("--labels", type=FOLDER, help="Folder with the label masks (labels_cNN.h5).")
@click.option("--queries", type=FOLDER, help="Folder with query tables (<trajectory>/query_cNN.csv or <node>.csv).")
@click.option("--oracle", type=FOLDER, help="Folder with the oracles' files: the pool's foreground totals.")
@click.option("--full-reference", type=FOLDER, help="Folder with metrics.json files of trainings on full labels.")
@click.option("--training", type=FOLDER, help="Folder with training.json files: run times.")
@click.option("--agreement", type=FOLDER, help="Folder with tables of agreement: <node>.csv.")
@click.option("--stopped", type=FOLDER, help="Folder with tables of trajectories that have stopped (<node>.csv).")
@click.option("--alpha", default=0.05, show_default=True, type=click.FloatRange(0, 1, min_open=True, max_open=True))
@click.option("--bootstrap", default=2000, show_default=True, type=click.IntRange(1), help="Draws of the ranks.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the tables.")
@reports_user_errors
def main(
    design: Path,
    metrics: Path,
    labels: Path | None,
    queries: Path | None,
    oracle: Path | None,
    full_reference: Path | None,
    training: Path | None,
    agreement: Path | None,
    stopped: Path | None,
    alpha: float,
    bootstrap: int,
    out: Path,
) -> None:
    """Work out the tables and statistics of a study."""
    from nnactive_nf.analyse.agreement import read_agreement
    from nnactive_nf.analyse.study import read_study
    from nnactive_nf.analyse.write import analyse
    from nnactive_nf.core.design import Design

    study = read_study(Design.read(design), metrics, labels, queries, oracle, full_reference, training, stopped)
    if agreement is not None:
        study.agreement = read_agreement(agreement)
    tables = analyse(study, out, alpha, bootstrap)
    print(f"{len(study.design.trajectories)} trajectories, {study.scores['node'].nunique()} nodes")
    for note in tables["notes"]["text"]:
        print(note)


if __name__ == "__main__":
    run_and_leave(main)
