"""preflight.json: how long an iteration of a planned training takes, as the preflight has measured it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json, write_json
from nnactive_nf.core.training_plans import validation_iterations

FORMAT = "nnactive-nf/preflight"
VERSION = 1
# What of a row of the plan an iteration's time rests on, beside data set and device, by `nextflow_schema.json`.
SETTINGS = ("configuration", "planner", "train_patch_size", "features", "batch_size", "optimiser", "trainer_file")


@dataclass(frozen=True)
class Training:
    """What was measured of the trainings of a data set with these settings.

    Attributes:
        dataset: name of the data set.
        settings: `SETTINGS` of the plan's row.
        device: `cuda` or `cpu`.
        device_name: of the GPU, or of the processor.
        threads, workers: CPU threads of the training, processes beside it that make batches.
        warm_up: iterations before the first that counts.
        iterations: those that count.
        iteration_seconds: mean of one, with the wait for its batch.
        validation_seconds: mean of a validation iteration.
        start_up_seconds: from Python's start to the first iteration, and what the warm-up took longer than it should.
        loader_percent: share of the iterations' time that was waited for batches; on a CPU, in which they were made.
        peak_gpu_memory_bytes: what torch had allocated at most; None on a CPU.
        peak_host_memory_bytes: largest resident set of the training's own process.
        patch_size, planned_batch: of the network, in the plan's order of axes.
        cases: that were trained and validated on.
        labels: `given`, or `drawn` where too few cases have any.
    """

    dataset: str
    settings: Mapping[str, Any]
    device: str
    device_name: str
    threads: int
    workers: int
    warm_up: int
    iterations: int
    iteration_seconds: float
    validation_seconds: float
    start_up_seconds: float
    loader_percent: float
    peak_gpu_memory_bytes: int | None
    peak_host_memory_bytes: int
    patch_size: Sequence[int]
    planned_batch: int
    cases: Sequence[str]
    labels: str

    def minutes(self, epochs: int, iterations: int) -> float:
        """Minutes of a training of so many epochs with so many iterations each, validation and start included."""
        epoch = iterations * self.iteration_seconds + validation_iterations(iterations) * self.validation_seconds
        return (self.start_up_seconds + epochs * epoch) / 60


@dataclass(frozen=True)
class Measured:
    """A preflight.json that was read; `where` is how messages name it."""

    where: str
    trainings: Sequence[Training]

    def of(self, row: Any) -> Training:
        """What was measured of a row's trainings.

        Args:
            row: has `dataset`, `regime`, `device` and all of `SETTINGS`.

        Raises:
            UserError: it was not measured; the line says what differs.
        """
        again = "run --preflight with the input and settings of the plan"
        own = [training for training in self.trainings if training.dataset == row.dataset]
        if not own:
            known = ", ".join(sorted({training.dataset for training in self.trainings}))
            raise UserError(f"{self.where}: holds trainings on {known}, none on {row.dataset}; {again}")
        wanted = settings_of(row)
        alike = [training for training in own if dict(training.settings) == wanted]
        if not alike:
            name = next(name for name in SETTINGS if own[0].settings[name] != wanted[name])
            there = _shown(own[0].settings[name])
            raise UserError(
                f"{self.where}: {row.dataset} was measured with {name} {there}, {row.regime} of the plan has "
                f"{_shown(wanted[name])}; {again}"
            )
        for training in alike:
            if row.device in ("auto", training.device):
                return training
        raise UserError(
            f"{self.where}: {row.dataset} was measured on device {alike[0].device}, the plan has {row.device}; {again}"
        )


def settings_of(row: Any) -> dict[str, Any]:
    """`SETTINGS` of a row."""
    return {name: getattr(row, name) for name in SETTINGS}


def _shown(value: Any) -> str:
    return "not given" if value is None else str(value)


def write_measured(path: Path, trainings: Sequence[Training]) -> None:
    """Write a preflight.json."""
    write_json(path, {"format": FORMAT, "version": VERSION, "trainings": [asdict(training) for training in trainings]})


def read_measured(path: Path, name: str) -> Measured:
    """Read a preflight.json.

    Args:
        path: the file.
        name: the path as the user gave it.

    Raises:
        UserError: it is none, or damaged.
    """
    where = f"--plan_from {name}"
    try:
        content = read_json(path)
    except UserError as error:
        raise UserError(*(line.replace(str(path), where, 1) for line in error.lines)) from None
    if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
        raise UserError(
            f"{where}: not the preflight.json that --preflight with --input writes to <outdir>/pipeline_info"
        )
    entries = content.get("trainings")
    if not isinstance(entries, list) or not entries:
        raise UserError(f"{where}: damaged, it holds no trainings")
    return Measured(where, [_training(entry, where) for entry in entries])


def _training(entry: Any, where: str) -> Training:
    known = [field.name for field in fields(Training)]
    if not isinstance(entry, dict) or not entry.keys() >= set(known):
        missing = known if not isinstance(entry, dict) else [name for name in known if name not in entry]
        raise UserError(f"{where}: damaged, a training lacks {missing[0]}")
    training = Training(**{name: entry[name] for name in known})
    settings = training.settings
    texts = isinstance(training.dataset, str) and isinstance(training.device_name, str)
    if not texts or training.device not in ("cuda", "cpu") or not isinstance(settings, dict):
        raise UserError(f"{where}: damaged, a training's dataset, device or settings are none")
    if set(settings) != set(SETTINGS):
        raise UserError(f"{where}: damaged, the settings of {training.dataset} are not {', '.join(SETTINGS)}")
    for name, least in (("iteration_seconds", 1e-9), ("validation_seconds", 0.0), ("start_up_seconds", 0.0)):
        value = entry[name]
        if type(value) not in (int, float) or not math.isfinite(value) or value < least:
            raise UserError(f"{where}: damaged, {name} of {training.dataset} is {value!r}")
    if type(training.iterations) is not int or training.iterations < 1:
        raise UserError(f"{where}: damaged, iterations of {training.dataset} is {training.iterations!r}")
    return training
