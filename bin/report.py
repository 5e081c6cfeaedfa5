#!/usr/bin/env python
"""REPORT: tables and query pictures to one HTML file and figures."""

from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
FILE = click.Path(path_type=Path)


@click.command()
@click.option("--design", required=True, type=FILE, help="design.json, the plan of the study.")
@click.option("--tables", required=True, type=FOLDER, help="Folder of tables that ANALYSE wrote.")
@click.option("--views", type=FOLDER, help="Folder with the queries' pictures (views*.h5).")
@click.option("--labels", type=FOLDER, help="Folder with the label masks, shown beside the pictures.")
@click.option("--parameters", type=FILE, help="parameters.json, the run's parameters.")
@click.option("--versions", type=FILE, help="versions.json, versions of programs.")
@click.option("--versions-out", type=FILE, help="versions.json to make: with those of Python and its packages.")
@click.option("--title", default="Active learning study", show_default=True, help="Title of the page.")
@click.option("--out", required=True, type=FILE, help="HTML file to write.")
@click.option("--figures", type=FILE, help="Folder for the figures as PNG and SVG.")
@reports_user_errors
def main(
    design: Path,
    tables: Path,
    views: Path | None,
    labels: Path | None,
    parameters: Path | None,
    versions: Path | None,
    versions_out: Path | None,
    title: str,
    out: Path,
    figures: Path | None,
) -> None:
    """Write the report of a study."""
    from nnactive_nf.core.design import Design
    from nnactive_nf.core.files import read_object, write_json
    from nnactive_nf.report.render import Pictures, python_versions, write_report
    from nnactive_nf.report.tables import Tables

    programs = read_object(versions) if versions else {}
    write_report(
        Tables.read(Design.read(design), tables),
        out,
        figures,
        [Pictures(views, labels)] if views else [],
        read_object(parameters) if parameters else None,
        programs,
        title,
    )
    if versions_out is not None:
        write_json(versions_out, {**python_versions(), **programs})
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    run_and_leave(main)
