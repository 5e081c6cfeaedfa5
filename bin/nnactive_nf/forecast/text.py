"""The text that --plan prints: tables of counts, images, networks, disk and time, and where their figures come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import floor, log10

from nnactive_nf.forecast.counts import all_tasks, all_trainings, once_counts, one_row_each, row_counts
from nnactive_nf.forecast.disk import Disk
from nnactive_nf.forecast.images import ASSUMED, ASSUMED_CLASSES, Images, Unknown
from nnactive_nf.forecast.network import Network
from nnactive_nf.forecast.plan import Group, Row
from nnactive_nf.forecast.schedule import SHARES_OF_A_TRAINING, Time

MARKS = {"trace": "", "given": "", "measured": "", "all": "~", "assumed": "*"}
TIMED = ("PREPARE", "TRAIN", "PREDICT", "EVALUATE", "QUERY")
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
NO_TIME = (
    "For the time: --plan_trace with the trace of an earlier run, or --plan_minutes with the minutes of one training, "
    "or --plan_from with the preflight.json of a --preflight with --input."
)


def count_lines(groups: Sequence[Group], apart: Sequence[Group]) -> list[str]:
    """Tasks by row and stage; what other tools take, where it is asked for."""
    counts = [row_counts(group) for group in groups]
    sums = {column: sum(count[column] for count in counts) for column in counts[0]}
    shown = [column for column, total in sums.items() if total or column not in ("EXPORT", "SEGMENT")]
    names = [_row_name(group.row) for group in groups]
    rows = [[name, *(whole(count[column]) for column in shown)] for name, count in zip(names, counts, strict=True)]
    if len(groups) > 1:
        rows.append(["in all", *(whole(sums[column]) for column in shown)])
    once = ", ".join(f"{stage} {whole(number)}" for stage, number in once_counts(groups).items())
    lines = table([["Tasks", *shown], *rows])
    lines.append(f"{once}; {whole(all_tasks(groups))} tasks in all.")
    alone = all_trainings(apart)
    saved = alone - all_trainings(groups)
    if saved:
        lines.append(f"Strategies share the nodes of cycle 0, which saves {whole(saved)} of {whole(alone)} trainings.")
    if any(group.row.demands.stop for group in groups):
        lines.append("With --stop trajectories may end before: all figures are upper bounds.")
    return lines


def _row_name(row: Row) -> str:
    return f"{row.dataset} {row.regime}{' (whole pool)' if row.whole_pool else ''}"


def image_lines(images: Mapping[str, Images | Unknown], networks: Mapping[tuple[str, str], Network]) -> list[str]:
    """What is known of each data set's images."""
    rows = []
    for dataset, seen in images.items():
        sizes = sorted({network.parameters for key, network in networks.items() if key[0] == dataset})
        network = f"networks of {' and '.join(decimal(size / 1e6) for size in sizes)} million parameters"
        rows.append([dataset, _images_text(seen, network)])
    return table([["Images"], *rows])


def _images_text(images: Images | Unknown, network: str) -> str:
    if isinstance(images, Unknown):
        return f"not known: {images.why}; {network} are assumed"
    return (
        f"{whole(images.cases)} cases of about {voxels(images.shape_zyx)} voxels, channels {images.channels}, "
        f"classes {images.classes}; {network}"
    )


def network_lines(
    groups: Sequence[Group], images: Mapping[str, Images | Unknown], networks: Mapping[tuple[str, str], Network]
) -> list[str]:
    """Patch, batch and GPU memory of the trainings, a line for each data set or, where they differ, for each row."""
    rows = []
    for dataset, seen in images.items():
        of_rows = {group.row.regime: networks[group.row.key] for group in groups if group.row.dataset == dataset}
        alike = len(set(of_rows.values())) == 1
        mark = MARKS["assumed"] if isinstance(seen, Unknown) else ""
        for regime, network in list(of_rows.items())[: 1 if alike else None]:
            rows.append(
                [
                    dataset if alike else f"{dataset} {regime}",
                    voxels(network.patch),
                    whole(network.batch_size),
                    decimal(network.parameters / 1e6) + " million",
                    f"{decimal(network.gpu_gb)} GB{mark}",
                ]
            )
    lines = table([["Training", "patch", "batch", "parameters", "GPU memory"], *rows])
    if any(isinstance(seen, Unknown) for seen in images.values()):
        lines.append("* for images as they are assumed")
    return lines


def disk_lines(disk: Disk, images: Mapping[str, Images | Unknown]) -> list[str]:
    """Bytes by kind of file and place."""
    sums = [sum(getattr(part, place) for part in disk.parts) for place in ("work", "results", "store")]
    rows = [[part.name, part.work, part.results, part.store] for part in disk.parts] + [["in all", *sums]]
    cells = [[str(name), *(in_bytes(float(size)) if size else "-" for size in sizes)] for name, *sizes in rows]
    lines = table([["Disk", "work", "results", "store"], *cells])
    unknown = [dataset for dataset, seen in images.items() if isinstance(seen, Unknown)]
    if unknown:
        lines.append(f"Not in it, for lack of images: images and maps of {', '.join(unknown)}.")
    if disk.maps:
        lines.append(
            f"With --cleanup_work work grows to {in_bytes(sums[0] - disk.maps)}, and by up to "
            f"{in_bytes(disk.largest_maps)} for each node whose maps wait for queries."
        )
    lines.append(
        "Networks are hard links in work where it shares a file system with the store and no container is used; else "
        "they are there again."
    )
    return lines


def minute_lines(minutes: Mapping[str, Mapping[str, Time]]) -> list[str]:
    """Minutes of a task, by data set and stage."""
    rows = [
        [dataset, *(decimal(times[stage].minutes) + MARKS[times[stage].source] for stage in TIMED)]
        for dataset, times in minutes.items()
    ]
    sources = {time.source for times in minutes.values() for time in times.values()}
    lines = table([["Minutes of a task", *TIMED], *rows])
    if "assumed" in sources:
        lines.append(f"* assumed: {_shares_text()} of a training's time")
    if "all" in sources:
        lines.append("~ mean over the data sets in the trace")
    return lines


def _shares_text() -> str:
    names = {"PREDICT": "(of the pool) ", "QUERY": "(with ANNOTATE) "}
    return ", ".join(f"{stage} {names.get(stage, '')}{share:.0%}" for stage, share in SHARES_OF_A_TRAINING.items())


def time_lines(times: Mapping[str, tuple[float, Mapping[int, float]]]) -> list[str]:
    """GPU hours and minutes to finish (by number of GPUs) of each variant of the plan."""
    gpus = next(iter(times.values()))[1]
    rows = [[name, decimal(hours), *map(duration, ends.values())] for name, (hours, ends) in times.items()]
    return table([["Time", "GPU hours", *(f"{whole(n)} GPU{'s' if n > 1 else ''}" for n in gpus)], *rows])


def source_lines(
    groups: Sequence[Group],
    images: Mapping[str, Images | Unknown],
    minutes: Mapping[str, Mapping[str, Time]] | None,
) -> list[str]:
    """Where the figures come from, line by line: what is counted, measured, planned by nnU-Net, or assumed."""
    own = any(row.train_patch_size or row.features or row.batch_size for row in (group.row for group in groups))
    changes = ", then as --train_patch_size, --features and --batch_size change it" if own else ""
    known = one_row_each(groups)
    rows = [
        ["tasks, patches", "counted by the functions that the run goes by"],
        *([f"images of {dataset}", _image_source(images[dataset], row)] for dataset, row in known.items()),
        ["networks", f"{_planned_by(known.values())}{changes}"],
        ["GPU memory", "nnU-Net's estimate for a training, by which it plans for 8 GB; not measured"],
        ["disk", "computed from all these; how well files pack was measured on Hippocampus and the phantom"],
    ]
    if minutes is not None:
        rows += [[f"minutes of {stage}", _minutes_source(stage, minutes)] for stage in TIMED]
        rows.append(
            ["time", "computed from these minutes: each task takes the next free GPU; no waiting for other jobs"]
        )
    return table([["Figures"], *rows])


def _planned_by(rows: Iterable[Row]) -> str:
    files = {row.dataset: row.plans for row in rows}
    own = [f"of {dataset} as {path} plans them (--plans)" for dataset, path in files.items() if path]
    return "; ".join([*own, *([] if all(files.values()) else ["planned by nnU-Net's planner from these images"])])


def _image_source(images: Images | Unknown, row: Row) -> str:
    if isinstance(images, Unknown):
        return (
            f"assumed: {voxels(ASSUMED.shape_zyx)} voxels of 1 mm, channels {ASSUMED.channels}, "
            f"classes {ASSUMED_CLASSES}"
        )
    made = " of the phantom, made to look at them" if row.source == "phantom" else ""
    heads = f"measured: heads of {whole(images.heads)} of {whole(images.cases)} images{made}"
    if images.read == images.heads:
        return f"{heads}, and the air around them that is cut off"
    part = (
        f"as the median of {whole(images.read)} of them" if images.read else "none: they are too large to be read here"
    )
    return f"{heads}; the air around them that is cut off is assumed: {part}"


def _minutes_source(stage: str, minutes: Mapping[str, Mapping[str, Time]]) -> str:
    texts = {
        "trace": "measured in the trace",
        "all": "measured in the trace on other data sets",
        "given": "given",
        "assumed": "assumed",
    }
    by_source: dict[str, list[str]] = {}
    for dataset, times in minutes.items():
        by_source.setdefault(times[stage].told or texts[times[stage].source], []).append(dataset)
    if len(by_source) == 1:
        return next(iter(by_source))
    return "; ".join(f"{', '.join(datasets)}: {source}" for source, datasets in by_source.items())


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right, a lone second one as it is."""
    widths = [max(len(row[i]) if i < len(row) else 0 for row in rows) for i in range(max(map(len, rows)))]
    wide = len(rows[0]) > 1
    return [
        "  ".join(
            cell.ljust(widths[0]) if i == 0 else cell.rjust(widths[i]) if wide else cell for i, cell in enumerate(row)
        ).strip()
        for row in rows
    ]


def voxels(lengths: Sequence[float]) -> str:
    """Lengths as `33 x 100 x 80`."""
    return " x ".join(f"{length:.0f}" for length in lengths)


def whole(number: float) -> str:
    """A whole number with commas."""
    return f"{floor(number + 0.5):,}"


def decimal(number: float) -> str:
    """A number in two digits, or without a fraction."""
    if number >= 9.95:
        return whole(number)
    digits = 2 if 0 < number < 0.95 else 1
    return f"{floor(number * 10**digits + 0.5) / 10**digits:.{digits}f}"


def in_bytes(number: float) -> str:
    """Bytes in the largest unit that leaves a whole number."""
    power = 0 if number < 1 else min(len(UNITS) - 1, floor(log10(number) / 3 + 1e-9))
    return f"{decimal(number / 1000**power)} {UNITS[power]}"


def duration(minutes: float) -> str:
    """Minutes as minutes, hours or days."""
    if minutes < 120:
        return f"{decimal(minutes)} min"
    return f"{decimal(minutes / 60)} h" if minutes < 48 * 60 else f"{decimal(minutes / 1440)} days"
