"""The stage as a whole: train one fold, go on from where it was stopped, or return what was done before."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch._dynamo.exc import TorchDynamoException

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError, one_line
from nnactive_nf.core.files import read_json
from nnactive_nf.core.folds import assign_folds, classes_in_one_fold
from nnactive_nf.core.given_folds import read_folds
from nnactive_nf.core.gpu_lease import current_lease
from nnactive_nf.core.labels import Labels, read_labels
from nnactive_nf.core.nnunet import FoldCheckpoint, nnunet_folders, resolve_device
from nnactive_nf.core.seeds import stream
from nnactive_nf.core.trainer_file import TrainerFile, given_trainer
from nnactive_nf.core.training_plans import training_plans
from nnactive_nf.train.compiled import Compilation, compilation
from nnactive_nf.train.data import write_training_folder
from nnactive_nf.train.events import Events
from nnactive_nf.train.start import Start, previous_start, users_start
from nnactive_nf.train.store import Given, TrainingStore, training_digest
from nnactive_nf.train.trainer import LEARNING_RATES, ActiveTrainer, Schedule
from nnactive_nf.train.usage import Usage

# A checkpoint is written when this many times what the last one took has passed, so writing costs 5% at most.
CHECKPOINT_SPACING = 20
SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
# Settings that came later: a training that is asked for none of them has the digest that it had before there were any.
LATER = ("stop_training", "training_start")


@dataclass(frozen=True)
class Settings:
    """What a training rests on beside data and labels; names as in `nextflow_schema.json`."""

    seed: int
    cycle: int
    fold: int
    folds: int
    epochs: int
    iterations: int
    train_patch_size: tuple[int, int, int] | None
    features: int | None
    batch_size: int | None
    optimiser: str
    learning_rate: float | None
    stop_training: str | None = None
    training_start: str | None = None

    @property
    def patience(self) -> int | None:
        """Epochs without a better online Dice after which a training ends."""
        return None if self.stop_training is None else int(self.stop_training.removeprefix("plateau:"))

    def rests_on(self) -> dict[str, Any]:
        """What a training's digest counts of them."""
        return {name: value for name, value in asdict(self).items() if value is not None or name not in LATER}


class CannotCompileError(Exception):
    """Torch could not compile the network; nothing of the training is lost."""


class StoppedError(Exception):
    """The task was told to end; `number` is the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


def train(
    prepared: Path,
    labels_file: Path,
    settings: Settings,
    node: str,
    device: str,
    threads: int,
    store: Path,
    code: str,
    out: Path,
    trainer_file: Path | None = None,
    folds_file: Path | None = None,
    initial_weights: Path | None = None,
    before: Path | None = None,
    tensorboard: Path | None = None,
    compile: str = "off",
) -> None:
    """Train one fold of a node, or fetch it from the store.

    Args:
        prepared: PREPARE's folder.
        labels_file: labels file of the node.
        settings: see `Settings`.
        node: id of the node, for the record.
        device: `auto`, `cuda` or `cpu`.
        threads: CPU threads.
        store: the checkpoint store.
        code: digest of the code that a training rests on.
        out: folder to make: `checkpoint.pth`, `training.json`.
        trainer_file: the user's trainer, a subclass of ours; None trains with ours.
        folds_file: folds that are given, see `nnactive_nf.core.given_folds`; without it they are dealt.
        initial_weights: nnU-Net's checkpoint to start from, see `nnactive_nf.core.initial_weights`.
        before: TRAIN's folder of this fold of the node before, from which `training_start` goes on.
        tensorboard: folder for event files, by node and fold, written while it trains; None for none.
        compile: `off`, `auto` or `on`, see `nnactive_nf.train.compiled`. As the device it is no part of what a training
            rests on.

    Raises:
        UserError: data, labels or settings do not allow a training.
        StoppedError: a signal ended it; the state is in the store.
    """
    dataset = Dataset.open(prepared)
    labels = read_labels(labels_file, shapes=dataset.shapes)
    dataset.check_owner(labels_file, labels.dataset, labels.classes)
    if (labels.node, labels.cycle) != (node, settings.cycle):
        wanted = f"asked for is {node}, cycle {settings.cycle}"
        raise UserError(f"{labels_file}: labels of node {labels.node}, cycle {labels.cycle}; {wanted}")
    plans = training_plans(
        dataset.plans, dataset.configuration, settings.train_patch_size, settings.features, settings.batch_size
    )
    rests_on = settings.rests_on() | {
        "labels": labels.digest(), "dataset": dataset.digest_of(labels.masks), "plans": plans, "code": code,
        "groups": {case: dataset.groups[case] for case in labels.masks},
    }  # fmt: skip
    own = given_trainer(trainer_file)
    if own is not None:  # without one, a training's digest is what it was before there were such files
        rests_on["trainer"] = own.digest
    given_folds = None if folds_file is None else _given_folds(folds_file, settings.folds, labels.masks)
    if given_folds is not None:
        rests_on["fold_of"] = given_folds
    asked = Given(plans, dataset.configuration, dataset.nnunet_json, own.network_by if own else "")
    start = _start(settings, initial_weights, before, asked, own)
    if start is not None:
        rests_on["start"] = start.digest
    fold_of = given_folds
    if start is not None and start.fold_of:
        fold_of = rests_on["fold_of"] = _folds_that_stay(dataset, labels, settings, start.fold_of, given_folds)
    place = TrainingStore(store, training_digest(rests_on))
    events = Events(
        None if tensorboard is None else tensorboard / node / f"fold_{settings.fold}", dataset.classes.targets
    )
    ids = {"node": node, "fold": settings.fold}
    if place.finished(asked, own):
        print(f"fold {settings.fold} of {node}: was trained before, taken from the store ({place.digest[:12]})")
        place.deliver(out, ids)
        if tensorboard is not None:
            record = read_json(out / "training.json")
            events.begin(record.get("curve", []), record.get("times", []))
            events.close()
        return
    torch_device = resolve_device(device, threads)
    with nnunet_folders(), tempfile.TemporaryDirectory(prefix="train-") as folder:
        classes_in = write_training_folder(
            Path(folder), dataset, labels, tuple(plans["configurations"][dataset.configuration]["patch_size"])
        )
        fold_of = fold_of or assign_folds(
            classes_in, dataset.groups, settings.folds, stream(settings.seed, settings.cycle, "folds")
        )
        for line in unseen_classes(classes_in, fold_of, dataset.groups, [*dataset.classes.named]):
            print(line, flush=True)
        arguments = Path(folder), dataset, plans, settings, fold_of, torch_device, place, own, start, events
        try:
            _train_fold(*arguments, partial(compilation, compile, torch_device.type))
        except CannotCompileError as error:
            if compile == "on":
                raise UserError(f"--compile on: {error}; use --compile off") from None
            without = Compilation(False, f"--compile {compile}: {error}")
            print(without.told, flush=True)
            _train_fold(*arguments, lambda _: without)
    events.close()
    place.deliver(out, ids)


def _start(
    settings: Settings, initial_weights: Path | None, before: Path | None, asked: Given, own: TrainerFile | None
) -> Start | None:
    """Where the weights come from; None where they are drawn."""
    if settings.training_start is not None:
        if before is None:
            raise UserError(f"--training-start {settings.training_start}: --before must name the fold to go on from")
        return previous_start(before, settings.fold, settings.training_start == "shrink_perturb", asked, own)
    return None if initial_weights is None else users_start(initial_weights)


def _folds_that_stay(
    dataset: Dataset, labels: Labels, settings: Settings, before: Mapping[str, int], given: Mapping[str, int] | None
) -> dict[str, int]:
    """Fold of each labelled case where those of the node before keep theirs; `UserError` where given ones differ."""
    if given is not None:
        if moved := sorted(case for case in before.keys() & given.keys() if before[case] != given[case]):
            raise UserError(f"--folds-file: case {moved[0]} was in fold {before[moved[0]]} for the node before")
        return dict(given)
    classes_in = {case: dataset.classes.held(labels.masks[case]) for case in sorted(labels.masks)}
    rng = stream(settings.seed, settings.cycle, "folds")
    return assign_folds(classes_in, dataset.groups, settings.folds, rng, before)


def _given_folds(path: Path, folds: int, labelled: Iterable[str]) -> dict[str, int]:
    """Given fold of each labelled case; `UserError` where a training would have no case."""
    fold_of = read_folds(path, folds)
    cases = sorted(labelled)
    if missing := [case for case in cases if case not in fold_of]:
        raise UserError(f"{path}: no fold is given for case {missing[0]} ({len(missing)} such cases)")
    found = {case: fold_of[case] for case in cases}
    if len(set(found.values())) == 1:
        fold = found[cases[0]]
        raise UserError(f"{path}: all labelled cases are in fold {fold}, whose training has none; raise --start_size")
    return found


def cases_of_fold(fold_of: Mapping[str, int], fold: int) -> tuple[list[str], list[str]]:
    """Cases to train on and to validate on.

    A given fold may hold no labelled case. Its training sees all that are labelled then, and validates on the same, as
    nnU-Net's fold `all` does; validation decides nothing.
    """
    train = [case for case, other in fold_of.items() if other != fold]
    return train, [case for case, other in fold_of.items() if other == fold] or train


def unseen_classes(
    classes_in: Mapping[str, Sequence[int]], fold_of: Mapping[str, int], groups: Mapping[str, str], names: Sequence[str]
) -> list[str]:
    """A line for each class that a training of the ensemble does not see.

    Args:
        classes_in: class indices with labelled voxels, per labelled case.
        fold_of: fold of each labelled case.
        groups: patient of each case.
        names: names of the classes, by index.
    """
    lines = [
        f"class '{name}' is labelled in no case: no training sees it"
        for index, name in enumerate(names) if not any(index in found for found in classes_in.values())
    ]  # fmt: skip
    for index, fold in classes_in_one_fold(classes_in, fold_of).items():
        cases = [case for case, found in classes_in.items() if index in found]
        lines.append(
            f"class '{names[index]}' is labelled in fold {fold} alone ({len(cases)} cases of "
            f"{len({groups[case] for case in cases})} patients): the training that leaves this fold out does not see it"
        )
    return lines


def _train_fold(
    folder: Path,
    dataset: Dataset,
    plans: dict[str, Any],
    settings: Settings,
    fold_of: Mapping[str, int],
    device: torch.device,
    place: TrainingStore,
    own: TrainerFile | None,
    start: Start | None,
    events: Events,
    choose: Callable[[int], Compilation],
) -> None:
    train_cases, val_cases = cases_of_fold(fold_of, settings.fold)
    if settings.fold not in fold_of.values():
        print(f"fold {settings.fold}: no case of it is labelled; its training sees all that are and validates on them")
    schedule = Schedule(
        settings.epochs, settings.iterations, settings.optimiser,
        settings.learning_rate or LEARNING_RATES[settings.optimiser], settings.patience,
    )  # fmt: skip

    def untrained() -> ActiveTrainer:
        trainer: ActiveTrainer = (own.trainer if own else ActiveTrainer)(
            dict(plans, continue_training=False), dataset.configuration, settings.fold, dataset.nnunet_json, device
        )
        trainer.set_up(folder, train_cases, val_cases, schedule, settings.seed, settings.cycle)
        if start is not None:
            start.give(trainer)
        return trainer

    with _blamed(own):
        trainer = untrained()
        if own is not None and own.network_by:
            check_own_network(own, trainer)
    print(
        f"fold {settings.fold}: {len(train_cases)} cases to train on, {len(val_cases)} to validate, on {device.type}, "
        f"patch {trainer.configuration_manager.patch_size}, batch {trainer.configuration_manager.batch_size}"
        + ("" if start is None else f"; {start.told}")
    )
    resumed_from: list[int] = []
    seconds_before = 0.0
    usage = Usage(device)
    times: list[dict[str, float]] = []
    latest = place.load_latest()
    if latest is not None:
        try:
            trainer.load_state(latest)
            resumed_from = [*latest["resumed_from"], trainer.current_epoch]
            seconds_before = float(latest["seconds"])
            usage = Usage(device, latest.get("usage"))
            times = [dict(one) for one in latest.get("times", [])]
            print(f"goes on from epoch {trainer.current_epoch} of {settings.epochs}", flush=True)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            place.refuse_latest(f"not a state of this training ({type(error).__name__}: {one_line(error)})")
            trainer, resumed_from, seconds_before, usage = untrained(), [], 0.0, Usage(device)
    events.begin(trainer.curve, times)
    left = (trainer.num_epochs - trainer.current_epoch) * settings.iterations
    choice = choose(left)
    if choice.compiled:
        trainer.compile_network()
    if choice.told:
        print(choice.told, flush=True)
    clock = time.monotonic()

    def seconds() -> float:
        return seconds_before + time.monotonic() - clock

    keeper = _Keeper(place, trainer, resumed_from, seconds, usage, events)
    with _signals(keeper), usage, _blamed(own):
        try:
            trainer.run(keeper.epoch_ended, keeper.check)
        except TorchDynamoException as error:  # when the first batches come
            raise CannotCompileError(f"torch cannot compile this network ({one_line(error)[:200]})") from None
    if advice := usage.advice():
        print(advice, flush=True)
    lease = current_lease()
    place.finish(
        FoldCheckpoint(
            weights=trainer.state()["weights"], plans=plans, configuration=dataset.configuration,
            nnunet_json=dataset.nnunet_json, mirror_axes=tuple(trainer.inference_allowed_mirroring_axes),
            digest=place.digest, network_by=own.network_by if own else "",
        ),
        {
            "digest": place.digest, "device": device.type, "epochs": trainer.num_epochs, "train_cases": train_cases,
            "val_cases": val_cases, "seconds": round(seconds(), 1), "resumed_from": resumed_from,
            "curve": trainer.curve, "times": events.times, "fold_of": dict(fold_of),
        }
        | ({} if trainer.ending is None else {"plateau": trainer.ending.at})
        | ({} if start is None else {"start": start.kind, "start_sha256": start.digest})
        | ({"trainer": own.trainer.__name__, "trainer_sha256": own.digest} if own else {})
        | choice.record()
        | ({"gpu_lease": lease.record()} if lease else {})
        | usage.record(),
    )  # fmt: skip


def check_own_network(own: TrainerFile, trainer: ActiveTrainer) -> None:
    """Hold the network of a user's trainer, as it will predict, against what is trained, before hours are spent on it.

    Raises:
        UserError: it has other weights, or does not turn a patch into as many channels as there are classes.
    """
    configuration = trainer.configuration_manager
    heads = trainer.label_manager.num_segmentation_heads
    network = own.network(trainer.plans_manager, configuration, trainer.num_input_channels, heads)
    trained, predicting = (
        {name: tuple(value.shape) for name, value in weights.items()}
        for weights in (trainer.state()["weights"], network.state_dict())
    )
    if trained != predicting:
        names = sorted(name for name, _ in trained.items() ^ predicting.items())
        raise UserError(
            f"{own.where}: the network of {own.trainer.__name__} has other weights with enable_deep_supervision=False, "
            f"with which it predicts, than it is trained with ({names[0]}); build the same ones, whether used or not"
        )
    patch = tuple(int(n) for n in configuration.patch_size)
    with torch.inference_mode():
        found = network.eval()(torch.zeros(1, trainer.num_input_channels, *patch))
    shape = tuple(getattr(found, "shape", ())) or type(found).__name__
    if shape != (1, heads, *patch):
        raise UserError(
            f"{own.where}: the network of {own.trainer.__name__} turns a patch of {patch} voxels into {shape}, "
            f"wanted are logits of shape {(1, heads, *patch)}"
        )


@contextmanager
def _blamed(own: TrainerFile | None) -> Iterator[None]:
    """Tell what goes wrong under a user's trainer in one line, with the line of its file that it went through."""
    try:
        yield
    except (UserError, StoppedError, CannotCompileError, OSError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if own is None:
            raise
        raise own.failed("has failed", error) from error


class _Keeper:
    """Keeps the last epoch's state, writes it now and then, and at once when the task is told to end."""

    def __init__(
        self,
        place: TrainingStore,
        trainer: ActiveTrainer,
        resumed_from: list[int],
        seconds: Any,
        usage: Usage,
        events: Events,
    ) -> None:
        self._place, self._resumed_from, self._seconds, self._usage = place, resumed_from, seconds, usage
        self._events = events
        self._state: dict[str, Any] | None = None
        self._written_epoch = trainer.current_epoch
        self._cost = self._at = 0.0
        self.signal_number: int | None = None

    def epoch_ended(self, trainer: ActiveTrainer) -> None:
        """Take the state; write it if the last write is long enough ago."""
        last = trainer.curve[-1]
        print(
            f"epoch {last['epoch']}: loss {last['train_loss']:.4f}, validation {last['val_loss']:.4f}, Dice "
            + " ".join("-" if dice is None else f"{dice:.3f}" for dice in last["pseudo_dice"]),
            flush=True,
        )
        self._usage.loader_seconds, self._usage.loop_seconds = trainer.loader_seconds, trainer.loop_seconds
        self._events.epoch_ended(trainer.curve, trainer.loop_seconds, trainer.loader_seconds)
        self._state = trainer.state() | {
            "resumed_from": self._resumed_from, "seconds": self._seconds(), "usage": self._usage.totals(),
            "times": list(self._events.times),
        }  # fmt: skip
        done = trainer.current_epoch >= trainer.num_epochs
        if not done and time.monotonic() - self._at >= CHECKPOINT_SPACING * self._cost:
            self._write()

    def check(self) -> None:
        """Between iterations: end where a signal came, after writing the last epoch's state."""
        if self.signal_number is not None:
            if self._state is not None and self._state["epoch"] != self._written_epoch:
                self._write()
            raise StoppedError(self.signal_number)

    def _write(self) -> None:
        assert self._state is not None
        begin = time.monotonic()
        self._place.save_latest(self._state)
        self._at = time.monotonic()
        self._cost = self._at - begin
        self._written_epoch = self._state["epoch"]


class _signals:  # noqa: N801 (a context manager, used like a function)
    """While a training runs, signals to end are only noted; `_Keeper.check` acts on them."""

    def __init__(self, keeper: _Keeper) -> None:
        self._keeper = keeper
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> None:
        def note(number: int, _frame: FrameType | None) -> None:
            self._keeper.signal_number = number

        self._before = {number: signal.signal(number, note) for number in SIGNALS}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
