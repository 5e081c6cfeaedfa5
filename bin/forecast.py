#!/usr/bin/env python
"""FORECAST: print what a plan would take, in tasks, on disk, in GPU memory and in time."""

from __future__ import annotations

from pathlib import Path

import click

from nnactive_nf.core.errors import reports_user_errors
from nnactive_nf.core.leaving import run_and_leave
from nnactive_nf.core.options import named_path


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--plan", required=True, type=click.Path(path_type=Path), help="plan.json of the workflow.")
@click.option("--raw", "folders", multiple=True, type=named_path, help="FOLDER=NAME: raw folder of a data set.")
@click.option("--plans", multiple=True, type=named_path, help="FILE=NAME: nnU-Net plans file of a data set.")
@click.option("--trace", type=click.Path(path_type=Path), help="Trace of an earlier run, or a folder with traces.")
@click.option("--plan-trace", "trace_name", help="The trace as the user gave it.")
@click.option("--measured", type=click.Path(path_type=Path), help="preflight.json of a preflight with data.")
@click.option("--plan-from", "measured_name", help="The preflight.json as the user gave it.")
@click.option("--plan-minutes", "minutes", help="Minutes of a training, a prediction, an evaluation and a query.")
@click.option("--plan-gpus", "gpus", default="1,4,16", help="Numbers of GPUs to tell the time for.")
@click.option("--publish-mode", default="copy", help="How files come into the results.")
@click.option("--publish-uncertainty/--no-publish-uncertainty", default=False, help="Uncertainty maps among them.")
@click.option("--publish-models/--no-publish-models", default=False, help="Networks among them.")
@click.option("--strategy-file", type=click.Path(path_type=Path), help="Python file with strategies of your own.")
@click.option("--shown-strategy-file", help="That file's path in messages.")
@reports_user_errors
def main(
    plan: Path,
    folders: tuple[tuple[str, Path], ...],
    plans: tuple[tuple[str, Path], ...],
    trace: Path | None,
    trace_name: str | None,
    measured: Path | None,
    measured_name: str | None,
    minutes: str | None,
    gpus: str,
    strategy_file: Path | None,
    shown_strategy_file: str | None,
    **publishing: bool | str,
) -> None:
    """Options to one call."""
    from nnactive_nf.forecast.disk import Publishing
    from nnactive_nf.forecast.run import Own, Times, forecast

    numbers = tuple(int(number) for number in gpus.split(","))
    times = Times(trace, trace_name, minutes, numbers, measured, measured_name)
    own = Own(strategy_file, shown_strategy_file)
    click.echo(forecast(plan, dict(folders), times, Publishing(**publishing), own, dict(plans)))


if __name__ == "__main__":
    run_and_leave(main)
