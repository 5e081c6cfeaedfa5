"""The stage as a whole: plan.json in, the text for the user out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nnactive_nf.core.budget import PoolSize
from nnactive_nf.core.demands import all_strategy_errors
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.measured import Measured, read_measured
from nnactive_nf.forecast.counts import one_row_each
from nnactive_nf.forecast.disk import Publishing, disk_of
from nnactive_nf.forecast.images import Images, Unknown, images_of
from nnactive_nf.forecast.network import networks_of
from nnactive_nf.forecast.plan import Row, read_plan, without_sharing
from nnactive_nf.forecast.schedule import given_minutes, gpu_hours, jobs_of, minutes_to_finish, stage_minutes
from nnactive_nf.forecast.text import (
    NO_TIME,
    count_lines,
    disk_lines,
    image_lines,
    minute_lines,
    network_lines,
    source_lines,
    time_lines,
)
from nnactive_nf.forecast.trace import read_trace


@dataclass(frozen=True)
class Times:
    """What times are told from.

    Attributes:
        trace: trace of an earlier run, or a folder with traces.
        trace_name: the same as the user gave it.
        minutes: as --plan_minutes gives them.
        gpus: numbers of GPUs.
        measured: preflight.json.
        measured_name: the same as the user gave it.
    """

    trace: Path | None
    trace_name: str | None
    minutes: str | None
    gpus: tuple[int, ...]
    measured: Path | None = None
    measured_name: str | None = None


@dataclass(frozen=True)
class Own:
    """A user's strategies, and their file's path as the user knows it."""

    file: Path | None = None
    shown: str | None = None


def forecast(
    plan: Path,
    folders: Mapping[str, Path],
    times: Times,
    publishing: Publishing,
    own: Own | None = None,
    plans: Mapping[str, Path] | None = None,
) -> str:
    """What a plan would take.

    Args:
        plan: plan.json.
        folders: raw folder of each data set that is there.
        times: what times are told from.
        publishing: what is copied into the results.
        own: the user's strategies, if there are any.
        plans: the user's plans file of each data set that has one.

    Raises:
        UserError: a strategy or a size that a run would refuse, the trace or what was measured cannot be used, nnU-Net
            plans no such configuration for the images, or the user's plans cannot be followed.
    """
    groups = read_plan(plan)
    apart = without_sharing(groups)
    given = given_minutes(times.minutes)
    rows = [group.row for group in groups if not group.row.whole_pool]
    own = own or Own()
    errors = all_strategy_errors([row.demands for row in rows], own.file, own.shown)
    errors += [line for row in rows for line in row.demands.stop_errors(row.oracle == "people")]
    trace, measured, minutes = None, None, None
    try:
        measured = _measured(times)
        trace = _trace(times, measured is None and "TRAIN" not in given)
        if trace is not None or given or measured is not None:
            minutes = stage_minutes([group.row for group in groups], trace, given, measured)
    except UserError as error:
        errors += error.lines
    if errors:
        raise UserError(*errors)
    known = one_row_each(groups)
    images = {name: images_of(row, folders.get(name), (plans or {}).get(name)) for name, row in known.items()}
    _refuse_sizes(rows, images)
    networks = networks_of(groups, images)
    parts = [
        count_lines(groups, apart),
        image_lines(images, networks),
        network_lines(groups, images, networks),
        disk_lines(disk_of(groups, images, networks, publishing), images),
    ]
    if minutes is None:
        parts.append([NO_TIME])
    else:
        ends = {}
        for name, variant in {"shared at cycle 0": groups, "not shared": apart}.items():
            jobs = jobs_of(variant, minutes, measured)
            ends[name] = gpu_hours(jobs), {number: minutes_to_finish(jobs, number) for number in times.gpus}
        parts += [minute_lines(minutes), time_lines(ends)]
    parts.append(source_lines(groups, images, minutes))
    return "\n\n".join("\n".join(lines) for lines in parts)


def _refuse_sizes(rows: Sequence[Row], images: Mapping[str, Images | Unknown]) -> None:
    """Refuse what the pool cannot give, where the images are known."""
    errors = []
    for row in rows:
        found = images[row.dataset]
        if isinstance(found, Images):
            errors += row.demands.budget_errors(_pool_size(row, found))
    if errors:
        raise UserError(*errors)


def _pool_size(row: Row, images: Images) -> PoolSize:
    patients = None if row.patients else images.cases
    if not images.held_out:
        return PoolSize.drawn(row.test_fraction, images.cases, patients)
    left = images.cases - images.held_out
    named = f"--test_cases {row.test_cases}"
    return PoolSize(left, images.cases, None if patients is None else left, patients, named, exact=True)


def _trace(times: Times, want_training: bool) -> pd.DataFrame | None:
    if times.trace is None:
        return None
    return read_trace(times.trace, times.trace_name or str(times.trace), want_training)


def _measured(times: Times) -> Measured | None:
    if times.measured is None:
        return None
    return read_measured(times.measured, times.measured_name or str(times.measured))
