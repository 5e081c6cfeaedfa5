"""The stage as a whole: plan and raw folders in, a line for each kind of training and preflight.json out."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import as_shape
from nnactive_nf.core.measured import Training, settings_of, write_measured
from nnactive_nf.core.nnunet import nnunet_folders, resolve_device
from nnactive_nf.core.trainer_file import given_trainer
from nnactive_nf.core.training_plans import training_plans
from nnactive_nf.forecast.plan import Row, read_plan
from nnactive_nf.measure.few import Few, prepare_few
from nnactive_nf.measure.steps import batches_ahead, time_training, time_validation
from nnactive_nf.preflight.findings import CHECK_LINE, Finding, fault, finding_line, ok, warning
from nnactive_nf.train.data import write_training_folder
from nnactive_nf.train.trainer import LEARNING_RATES, ActiveTrainer, Schedule
from nnactive_nf.train.usage import MUCH_PERCENT

CHECK = "training"
GB = 1e9

Out = TypeVar("Out")


def measure(
    plan: Path,
    folders: Mapping[str, Path],
    device: str,
    threads: int,
    gpus: int,
    out: Path,
    trainer_file: Path | None = None,
    begun: float | None = None,
    plans: Mapping[str, Path] | None = None,
) -> None:
    """Measure each kind of training in a plan, print a finding for each, and write down those that could be measured.

    Preparation and training run in processes of their own, so that the peak of memory is the training's.

    Args:
        plan: plan.json.
        folders: raw folder of each data set.
        device: `auto`, `cuda` or `cpu`.
        threads: CPU threads.
        gpus: GPUs that the task asked for.
        out: file to make; none where nothing could be measured.
        trainer_file: the user's trainer.
        begun: `time.monotonic()` at the start of Python.
        plans: the user's plans file of each data set that has one.
    """
    imported = 0.0 if begun is None else time.monotonic() - begun
    print(CHECK_LINE + CHECK, flush=True)
    trainings = []
    for row in kinds([group.row for group in read_plan(plan)]):
        try:
            with tempfile.TemporaryDirectory(prefix="measure-") as folder:
                few = in_own_process(
                    prepare_few, row, folders[row.dataset], Path(folder), (plans or {}).get(row.dataset)
                )
                if device == "auto" and gpus:
                    device = "cuda"  # asked for, so that it shall be there
                training = in_own_process(train_few, row, few, device, threads, trainer_file)
        except UserError as error:
            line = "; ".join(error.lines).replace(str(folders[row.dataset]), row.folder)
            finding = fault(f"{row.dataset}: {line}", "the run's trainings would end so too: mend it, then try again")
        else:
            trainings.append(replace(training, start_up_seconds=training.start_up_seconds + imported))
            finding = found(trainings[-1], row)
        print(finding_line(CHECK, finding), flush=True)
    if trainings:
        write_measured(out, trainings)


def kinds(rows: list[Row]) -> list[Row]:
    """The first row of each kind of training: rows of one data set and the same settings are trained alike."""
    firsts: dict[str, Row] = {}
    for row in rows:
        firsts.setdefault(f"{row.dataset} {settings_of(row)}", row)
    return list(firsts.values())


def in_own_process(work: Callable[..., Out], *arguments: Any) -> Out:
    """What a function returns in a process of its own; `UserError` where memory is too little for it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        try:
            return pool.submit(work, *arguments).result()
        except BrokenProcessPool:
            raise UserError(
                "the system has ended the process; most likely it wanted more memory than there is"
            ) from None
        except torch.OutOfMemoryError:
            raise UserError(
                "the GPU has too little memory for this training; ask for a larger one, or lower --train_patch_size, "
                "--features or --batch_size"
            ) from None
        except MemoryError:
            raise UserError("there is too little memory; ask for more for the label gpu") from None


def train_few(row: Row, few: Few, device: str, threads: int, trainer_file: Path | None = None) -> Training:
    """Train some iterations as TRAIN would, with the workflow's trainer or the user's, on all cases but one."""
    begin = time.monotonic()
    own = given_trainer(trainer_file)
    torch_device = resolve_device(device, threads)
    dataset: Dataset = few.dataset
    patch = as_shape(map(int, row.train_patch_size.split(","))) if row.train_patch_size else None
    plans = training_plans(dataset.plans, dataset.configuration, patch, row.features, row.batch_size)
    cases = sorted(few.labels.masks)
    schedule = Schedule(row.epochs, row.iterations, row.optimiser, LEARNING_RATES[row.optimiser])
    with nnunet_folders(), tempfile.TemporaryDirectory(prefix="train-") as name:
        settings = plans["configurations"][dataset.configuration]
        write_training_folder(Path(name), dataset, few.labels, tuple(settings["patch_size"]))
        trainer: ActiveTrainer = (own.trainer if own else ActiveTrainer)(
            dict(plans, continue_training=False), dataset.configuration, 0, dataset.nnunet_json, torch_device
        )
        trainer.set_up(Path(name), cases[1:], cases[:1], schedule, 0, 0)
        with trainer.loaders():
            made = time.monotonic() - begin
            steps = time_training(trainer)
            workers, _ = batches_ahead(trainer.dataloader_train)
            checks = time_validation(trainer)
    on_gpu = torch_device.type == "cuda"
    return Training(
        dataset=row.dataset,
        settings=settings_of(row),
        device=torch_device.type,
        device_name=torch.cuda.get_device_name(torch_device) if on_gpu else processor(),
        threads=threads,
        workers=workers,
        warm_up=steps.warm_up,
        iterations=steps.iterations,
        iteration_seconds=steps.seconds,
        validation_seconds=checks.seconds,
        start_up_seconds=made + steps.extra_seconds + checks.extra_seconds,
        loader_percent=steps.loader_percent,
        peak_gpu_memory_bytes=torch.cuda.max_memory_allocated(torch_device) if on_gpu else None,
        peak_host_memory_bytes=peak_resident(),
        patch_size=tuple(int(n) for n in settings["patch_size"]),
        planned_batch=int(settings["batch_size"]),
        cases=cases,
        labels="drawn" if few.drawn else "given",
    )


def found(training: Training, row: Row) -> Finding:
    """What the preflight's table says of a training."""
    gpu = training.peak_gpu_memory_bytes
    memory = (
        f"{training.peak_host_memory_bytes / GB:.1f} GB of memory"
        if gpu is None
        else f"{gpu / GB:.1f} GB of GPU memory"
    )
    waits = "the loader makes the GPU wait" if training.device == "cuda" else "batches are made"
    labels = "" if training.labels == "given" else "; on drawn labels, for want of others"
    what = (
        f"{row.dataset}: {training.iteration_seconds:.3g} s an iteration ({training.iterations}, after "
        f"{training.warm_up} to warm up) on {training.device_name}; {memory} at most; {waits} in "
        f"{training.loader_percent:.0f}% of the time; a training of {row.epochs} x {row.iterations} iterations takes "
        f"{training.minutes(row.epochs, row.iterations):.3g} min{labels}"
    )
    if training.device == "cuda" and training.loader_percent >= MUCH_PERCENT:
        return warning(what, "more `cpus` for the label gpu make batches faster")
    return ok(what)


def processor(path: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "") or "the CPU"


def peak_resident(path: Path = Path("/proc/self/status")) -> int:
    """Bytes of this process's largest resident set. `getrusage` counts that of the process that it was forked from."""
    (line,) = [line for line in path.read_text(encoding="ascii", errors="replace").splitlines() if "VmHWM:" in line]
    return int(line.split()[1]) * 1024
