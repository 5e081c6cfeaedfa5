#!/usr/bin/env python
"""COMPARE: several results folders, of this workflow or of nnActive, to one set of tables and one report."""

from pathlib import Path

import click

from nnactive_nf.core.errors import UserError, reports_user_errors
from nnactive_nf.core.leaving import run_and_leave
from nnactive_nf.core.names import check_names


@click.command()
@click.argument(
    "results",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="RESULTS...",
)
@click.option(
    "--name", "names", multiple=True, help="Name of a folder in the report, once per folder and in their order."
)
@click.option("--alpha", default=0.05, show_default=True, type=click.FloatRange(0, 1, min_open=True, max_open=True))
@click.option("--bootstrap", default=2000, show_default=True, type=click.IntRange(1), help="Draws of the ranks.")
@click.option("--title", default="Active learning studies compared", show_default=True, help="Title of the page.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for report, figures and tables.")
@reports_user_errors
def main(
    results: tuple[Path, ...], names: tuple[str, ...], alpha: float, bootstrap: int, title: str, out: Path
) -> None:
    """Compare results folders: each a results folder of this workflow, or a folder of nnActive's results."""
    if names and len(names) != len(results):
        raise UserError(f"--name: {len(names)} names for {len(results)} folders; give one for each, or none")
    labels = list(names) or [folder.resolve().name for folder in results]
    if len(set(labels)) < len(labels):
        raise UserError(f"--name: two folders would be called the same ({', '.join(labels)}); name them with --name")
    check_names("study", labels, "--name")
    if any(folder.resolve() == out.resolve() for folder in results):
        raise UserError(f"--out: {out} is one of the folders to compare; results are never overwritten")
    from nnactive_nf.analyse.folders import merge, read_any
    from nnactive_nf.analyse.write import analyse
    from nnactive_nf.report.render import Pictures, write_report
    from nnactive_nf.report.tables import Tables

    study = merge([read_any(folder) for folder in results], labels)
    tables = analyse(study, out / "tables", alpha, bootstrap)
    write_report(
        Tables.read(study.design, out / "tables"),
        out / "report.html",
        out / "figures",
        [
            Pictures(folder / "views", folder / "labels", "" if len(results) == 1 else f"@{label}")
            for folder, label in zip(results, labels, strict=True)
            if (folder / "views").is_dir() and (folder / "labels").is_dir()
        ],
        parameters={"folders": labels, "alpha": alpha, "bootstrap": bootstrap},
        title=title,
    )
    print(
        f"{len(results)} folders, {len(study.design.trajectories)} trajectories, {study.scores['node'].nunique()} nodes"
    )
    for note in tables["notes"]["text"]:
        print(note)


if __name__ == "__main__":
    run_and_leave(main)
