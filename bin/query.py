#!/usr/bin/env python
"""QUERY: labels and uncertainty maps in, the patches to label next out."""

from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave
from nnactive_nf.core.options import PATCH_SIZE, ZYX, Name

FILE = click.Path(path_type=Path)


@click.command()
@click.option("--prepared", required=True, type=FILE, help="Folder of the prepared data set.")
@click.option("--strategy", required=True, help="Strategy, with options as name:option=value:option=value.")
@click.option("--strategy-file", type=FILE, help="Python file with strategies of your own.")
@click.option("--seed", required=True, type=int, help="Seed of the run.")
@click.option(
    "--cycle", required=True, type=click.IntRange(0), help="Cycle whose labels the query makes; 0 is the start."
)
@click.option("--cycles", type=click.IntRange(1), help="Cycles of the run, for a schedule that names no steps.")
@click.option("--size", required=True, type=click.IntRange(1), help="Patches to choose.")
@click.option("--patch-size", required=True, type=PATCH_SIZE, help="Patch size z,y,x in voxels, or whole_image.")
@click.option(
    "--stride", default="1", show_default=True, type=ZYX, help="Step of the start positions: one number or z,y,x."
)
@click.option(
    "--patches-per-image", default=20, show_default=True, type=click.IntRange(1), help="Most patches of an image."
)
@click.option(
    "--free-overlap",
    default=0.4,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Largest share of a patch where nothing was imaged.",
)
@click.option(
    "--reserve",
    type=click.IntRange(0),
    help="Patches that stand ready for refused ones; OUT gets a folder "
    "`reserve` beside it, with a table of the same name.",
)
@click.option("--node", required=True, type=Name("node"), help="Node whose labels the query makes.")
@click.option("--start", is_flag=True, help="This is the start: nothing is labelled and no model is trained.")
@click.option("--class-guarantee", is_flag=True, help="Begin with two patches of each class, in two cases.")
@click.option("--labels", type=FILE, help="Labels so far.")
@click.option("--oracle", type=FILE, help="Complete masks, for strategies that see them.")
@click.option(
    "--workers", default=1, show_default=True, type=click.IntRange(1), help="Images worked on at the same time."
)
@click.option("--out", required=True, type=FILE, help="Query table to make.")
@click.option(
    "--places", required=True, type=FILE, help="Folder to make: the patches in mm, as table and for 3D Slicer."
)
@click.argument("uncertainty", nargs=-1, type=FILE)
@reports_user_errors
def main(
    prepared: Path,
    strategy: str,
    strategy_file: Path | None,
    node: str,
    labels: Path | None,
    oracle: Path | None,
    out: Path,
    places: Path,
    uncertainty: tuple[Path, ...],
    patch_size: tuple,
    stride: tuple,
    patches_per_image: int,
    reserve: int | None,
    **options: object,
) -> None:
    """Choose the patches to label next."""
    from nnactive_nf.core.places import write_places
    from nnactive_nf.core.query_table import write_query
    from nnactive_nf.query import run

    settings = run.Settings(
        strategy=strategy, patch_zyx=patch_size, stride_zyx=stride, per_image=patches_per_image, **options
    )
    picks, pool, choice = run.query(
        prepared,
        settings,
        strategy_file=strategy_file,
        labels_file=labels,
        oracle_file=oracle,
        uncertainty_files=uncertainty,
    )
    table = run.as_table(picks)
    write_places(places, places / "mm.csv", table, pool.dataset.grids, f"{strategy} c{pool.cycle:02d}")
    write_query(out, table)
    if reserve is not None:
        from nnactive_nf.query import reserve as ready

        write_query(out.parent / "reserve" / out.name, run.as_table(ready.reserve(pool, choice, picks, reserve)))
    images = {pick.case for pick in picks}
    print(f"{node} by {strategy}: {len(picks)} patches in {len(images)} of {len(pool.cases)} images")


if __name__ == "__main__":
    run_and_leave(main)
