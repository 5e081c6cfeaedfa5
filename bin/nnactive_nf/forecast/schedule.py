"""When a plan is done on so many GPUs: list scheduling, first come first served.

Trainings, predictions and evaluations wait for a GPU; the CPU's stages (preparation, queries with annotation) are taken
to start at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from nnactive_nf.core.measured import Measured
from nnactive_nf.forecast.plan import Group, Row

# Minutes of each stage's task where neither a trace nor the user says, as shares of a training. A query is with its
# annotation, a prediction of the whole pool.
SHARES_OF_A_TRAINING = {"PREPARE": 0.0, "PREDICT": 0.1, "EVALUATE": 0.25, "QUERY": 0.02}
GIVEN_STAGES = ("TRAIN", "PREDICT", "EVALUATE", "QUERY")

# Tasks of a node that are waited for together: stage, the node's place, number of the set of maps (0 but for PREDICT).
_Part = tuple[str, int, int]


@dataclass(frozen=True)
class Time:
    """Minutes of a stage's task, and where they come from: `trace` (of this data set), `all` (the trace's other data
    sets), `given` (by the user), `measured` (by the preflight, of which `told` says more) or `assumed`.
    """

    minutes: float
    source: str
    told: str = ""


@dataclass(frozen=True)
class Job:
    """A node as the scheduler wants it.

    Attributes:
        folds: number of trainings.
        shards: number of predictions for each set of maps.
        minutes: of a task, by stage.
        first: minute in which its labels come, where they follow from no node; else None.
        free: places of the nodes whose labels follow without a model.
        asked: for each set of maps the places of the nodes whose labels follow from it.
    """

    folds: int
    shards: int
    minutes: Mapping[str, float]
    first: float | None
    free: Sequence[int]
    asked: Sequence[Sequence[int]]


def given_minutes(text: str | None) -> dict[str, float]:
    """Minutes by stage as the user gives them: of a training, a prediction of a shard, an evaluation, a query."""
    return dict(zip(GIVEN_STAGES, map(float, text.split(",")), strict=False)) if text else {}


def stage_minutes(
    rows: Sequence[Row], trace: pd.DataFrame | None, given: Mapping[str, float], measured: Measured | None = None
) -> dict[str, dict[str, Time]]:
    """For each data set the minutes of a task of each stage.

    Args:
        rows: the plan's.
        trace: as `read_trace` gives it, or None. A training's minutes must be in it, given or measured.
        given: what the user says, which goes first.
        measured: what the preflight has measured of trainings, which goes before the trace. A data set's minutes are
            those of its first row.

    Raises:
        UserError: a row's trainings were not measured.
    """
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    means = _means(trace, datasets)
    shards = {row.dataset: 1 for row in rows}
    for row in rows:
        shards[row.dataset] = max(shards[row.dataset], row.shards)
    trainings = {} if measured is None or "TRAIN" in given else {row.key: measured.of(row) for row in rows}
    found = {}
    for dataset in datasets:
        first = next(row for row in rows if row.dataset == dataset)
        training = trainings.get(first.key)
        time = None if training is None else Time(training.minutes(first.epochs, first.iterations), "measured",
            f"measured by the preflight: {training.iterations} iterations on {training.device_name}")  # fmt: skip
        found[dataset] = _dataset_minutes(dataset, shards[dataset], means, given, time)
    return found


def _means(trace: pd.DataFrame | None, datasets: Sequence[str]) -> dict[tuple[str, str | None], float]:
    """Mean minutes by (stage, data set), and by (stage, None) for all data sets."""
    if trace is None or trace.empty:
        return {}
    own = trace.assign(dataset=[dataset_of_tag(tag, datasets) for tag in trace["tag"]])
    by_dataset = own[own["dataset"] != ""].groupby(["stage", "dataset"])["minutes"].mean()
    means: dict[tuple[str, str | None], float] = {(str(s), str(d)): float(m) for (s, d), m in by_dataset.items()}
    return means | {(str(s), None): float(m) for s, m in trace.groupby("stage")["minutes"].mean().items()}


def dataset_of_tag(tag: str, datasets: Sequence[str]) -> str:
    """Which of these data sets a tag belongs to, '' for none: it is the name, or begins with it and '-'.

    Names may begin alike; the longest holds.
    """
    found = [dataset for dataset in datasets if tag == dataset or tag.startswith(f"{dataset}-")]
    return max(found, key=len, default="")


def _dataset_minutes(
    dataset: str,
    shards: int,
    means: Mapping[tuple[str, str | None], float],
    given: Mapping[str, float],
    training: Time | None = None,
) -> dict[str, Time]:
    def measured(stage: str) -> Time | None:
        if stage in given:
            return Time(given[stage], "given")
        if (stage, dataset) in means:
            return Time(means[stage, dataset], "trace")
        return Time(means[stage, None], "all") if (stage, None) in means else None

    training = training or measured("TRAIN")
    if training is None:
        raise ValueError("no minutes of a training")
    times = {"TRAIN": training}
    for stage, share in SHARES_OF_A_TRAINING.items():
        assumed = Time(training.minutes * share / (shards if stage == "PREDICT" else 1), "assumed")
        times[stage] = measured(stage) or assumed
    annotation = measured("ANNOTATE")
    if annotation and times["QUERY"].source in ("trace", "all"):
        times["QUERY"] = Time(times["QUERY"].minutes + annotation.minutes, times["QUERY"].source)
    return times


def jobs_of(
    groups: Sequence[Group], minutes: Mapping[str, Mapping[str, Time]], measured: Measured | None = None
) -> list[Job]:
    """All nodes as the scheduler wants them; `measured` tells the minutes of rows that come from it."""
    jobs: list[Job] = []
    for group in groups:
        row = group.row
        place_of = {node.id: len(jobs) + place for place, node in enumerate(group.nodes)}
        times = _row_minutes(groups[0].row, row, minutes[row.dataset], measured)
        start = times["PREPARE"] + (0 if row.whole_pool else times["QUERY"])
        jobs += [
            Job(
                folds=row.folds,
                shards=row.shards,
                minutes=times,
                first=start if node.cycle == 0 else None,
                free=[place_of[name] for name in node.free],
                asked=[[place_of[name] for name in names] for names in node.asked.values()],
            )
            for node in group.nodes
        ]
    return jobs


def _row_minutes(first: Row, row: Row, times: Mapping[str, Time], measured: Measured | None = None) -> dict[str, float]:
    """Minutes given are those of the first row's trainings; others are longer or shorter with their iterations.

    Of those that were measured each row has its own.
    """
    minutes = {stage: time.minutes for stage, time in times.items()}
    source = times["TRAIN"].source
    if source == "given":
        minutes["TRAIN"] *= row.epochs * row.iterations / (first.epochs * first.iterations)
    if source == "measured" and measured is not None:
        minutes["TRAIN"] = measured.of(row).minutes(row.epochs, row.iterations)
    return minutes


def gpu_hours(jobs: Sequence[Job]) -> float:
    """Hours of GPUs that a plan takes."""
    return sum(job.minutes["EVALUATE"] + sum(_tasks(job, stage) for stage in ("TRAIN", "PREDICT")) for job in jobs) / 60


def _tasks(job: Job, stage: str) -> float:
    return job.minutes[stage] * (job.folds if stage == "TRAIN" else job.shards * len(job.asked))


def minutes_to_finish(jobs: Sequence[Job], gpus: int) -> float:
    """Minutes until the last task has ended.

    What is ready first comes first, on the GPU that is free first. Whatever a task releases is ready when it ends, so
    tasks leave the queue in the order in which they were ready.
    """
    return _Schedule(jobs, gpus).run()


@dataclass
class _Schedule:
    jobs: Sequence[Job]
    gpus: int
    queue: list[tuple[float, int, _Part]] = field(default_factory=list)  # ready, number, part
    left: dict[_Part, int] = field(default_factory=dict)  # tasks that have not ended
    ends: dict[_Part, float] = field(default_factory=dict)  # when the last of those that have ended did
    added: int = 0

    def run(self) -> float:
        """From the first labels to the end of the last task."""
        self.free = [0.0] * self.gpus  # when each GPU is free
        for place, job in enumerate(self.jobs):
            if job.first is not None:
                self._enqueue(job.first, ("LABELS", place, 0))
        while self.queue:
            ready, _, part = heapq.heappop(self.queue)
            stage, place, _ = part
            if stage == "LABELS":
                self._enqueue(ready, ("TRAIN", place, 0), self.jobs[place].folds)
                self._query(ready, self.jobs[place].free)
            else:
                self._gpu_task(ready, part)
        return max(self.ends.values())

    def _enqueue(self, ready: float, part: _Part, times: int = 1) -> None:
        self.left[part] = times
        for _ in range(times):
            self.added += 1
            heapq.heappush(self.queue, (ready, self.added, part))

    def _query(self, now: float, places: Sequence[int]) -> None:
        """Labels of the nodes at these places follow when their query is done."""
        for place in places:
            self._enqueue(now + self.jobs[place].minutes["QUERY"], ("LABELS", place, 0))

    def _gpu_task(self, ready: float, part: _Part) -> None:
        stage, place, number = part
        job = self.jobs[place]
        end = max(ready, self.free[0]) + job.minutes[stage]
        heapq.heapreplace(self.free, end)
        self.left[part] -= 1
        self.ends[part] = max(end, self.ends.get(part, 0.0))
        if self.left[part]:
            return
        if stage == "TRAIN":
            self._enqueue(self.ends[part], ("EVALUATE", place, 0))
            for maps in range(len(job.asked)):
                self._enqueue(self.ends[part], ("PREDICT", place, maps), job.shards)
        if stage == "PREDICT":
            self._query(self.ends[part], job.asked[number])
