"""nnU-Net's trainer, subclassed thinly: our folds and patches, seeded epochs, checkpoints at any moment."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgenerators.dataloading.single_threaded_augmenter import SingleThreadedAugmenter
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.variants.loss.nnUNetTrainerDiceLoss import nnUNetTrainerDiceCELoss_noSmooth
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.seeds import seed_sequence
from nnactive_nf.core.training_plans import validation_iterations
from nnactive_nf.train.data import AnnotatedPatchLoader
from nnactive_nf.train.plateau import Ending, ending_of

# Learning rates where none is given: nnU-Net's own, and one at which AdamW learns small data sets in minutes.
LEARNING_RATES = {"sgd": 1e-2, "adamw": 3e-3}
# Shrink and perturb (Ash & Adams 2020): what is left of a weight, and the standard deviation of what is added to it.
SHRINK, PERTURB = 0.6, 0.01


@dataclass(frozen=True)
class Schedule:
    """How long and how a training runs; names as in `nextflow_schema.json`.

    Attributes:
        patience: epochs without a better online Dice that end a training; None runs all epochs.
    """

    epochs: int
    iterations: int
    optimiser: str
    learning_rate: float
    patience: int | None = None


class ActiveTrainer(nnUNetTrainerDiceCELoss_noSmooth):
    """One fold of one node; nnU-Net's trainer whose Dice loss has no smoothing term, as in the reference.

    A `--trainer_file` extends it (docs/trainers.md).

    Set up by `set_up` before `run`; the constructor is nnU-Net's, since nnU-Net reads its arguments' names.
    """

    patience: int | None = None
    ending: Ending | None = None

    def __init__(
        self,
        plans: dict[str, Any],
        configuration: str,
        fold: int,
        dataset_json: dict[str, Any],
        device: torch.device = torch.device("cuda"),  # noqa: B008 (nnU-Net's own signature)
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)

    def set_up(
        self,
        folder: Path,
        train_cases: Sequence[str],
        val_cases: Sequence[str],
        schedule: Schedule,
        seed: int,
        cycle: int,
    ) -> None:
        """Say what to train on and how; draws the initial weights from the seed."""
        self.preprocessed_dataset_folder = str(folder)
        self.train_cases, self.val_cases = list(train_cases), list(val_cases)
        self.num_epochs, self.patience = schedule.epochs, schedule.patience
        self.num_iterations_per_epoch = schedule.iterations
        self.num_val_iterations_per_epoch = validation_iterations(schedule.iterations)
        self.initial_lr = schedule.learning_rate
        self.optimiser = schedule.optimiser
        self.seed, self.cycle = seed, cycle
        self.curve: list[dict[str, Any]] = []
        self.loader_seconds = self.loop_seconds = 0.0  # waited for batches, and in all, since this process trains
        self._seed("weights")
        self.initialize()
        if self.device.type == "cpu" and self._unchanged("build_network_architecture"):
            self._channels_last()

    def _do_i_compile(self) -> bool:
        """Nothing is compiled where nnU-Net would: `compile_network` does so once all weights are in place."""
        return False

    def compile_network(self) -> None:
        """Have torch compile the network when it first sees a batch; its weights and their names stay."""
        compiled: Any = torch.compile(self._module())
        self.network = compiled

    def start_from(self, weights: Mapping[str, torch.Tensor], shrink: bool = False) -> None:
        """Put weights in place of those that were drawn, which stay where there are none.

        Args:
            weights: tensors by their names in the network.
            shrink: shrink all of the network's weights and add noise to them, w <- SHRINK w + N(0, PERTURB^2), which is
                drawn on the CPU, so that it is the same wherever the training runs.
        """
        module = self._module()
        module.load_state_dict(module.state_dict() | dict(weights))
        if not shrink:
            return
        sequence = seed_sequence(self.seed, self.cycle, "train", self.fold, "shrink_perturb")
        noise = torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))
        with torch.no_grad():
            for parameter in module.parameters():
                drawn = torch.randn(parameter.shape, generator=noise)
                parameter.mul_(SHRINK).add_(drawn.to(parameter), alpha=PERTURB)

    def _unchanged(self, name: str) -> bool:
        """Whether a method is the one that this class has, not that of a user's trainer."""
        return getattr(type(self), name) is getattr(ActiveTrainer, name)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Told to networks with a decoder as nnU-Net's; a trainer's own network may have none."""
        if hasattr(self._module(), "decoder"):
            super().set_deep_supervision_enabled(enabled)

    def _channels_last(self) -> None:
        """Lay the weights out channels last: few channels, which oneDNN then convolves a third faster."""
        formats = {2: torch.channels_last, 3: torch.channels_last_3d}
        self.network.to(memory_format=formats[len(self.configuration_manager.patch_size)])

    def _seed(self, *keys: str | int) -> None:
        """Seed every generator that nnU-Net draws from; the only place where process-wide ones are seeded."""
        words = seed_sequence(self.seed, self.cycle, "train", self.fold, *keys).generate_state(3)
        random.seed(int(words[0]))
        np.random.seed(int(words[1]))  # noqa: NPY002 (nnU-Net's loaders and transforms draw from it)
        torch.manual_seed(int(words[2]))

    def print_to_log_file(self, *args: Any, also_print_to_console: bool = True, add_timestamp: bool = True) -> None:
        """Leave nnU-Net's chatter out: the curve goes to training.json, a line per epoch to standard output."""

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, Any]:
        """nnU-Net's SGD, or AdamW; both on nnU-Net's polynomial schedule."""
        if self.optimiser == "sgd":
            return super().configure_optimizers()  # type: ignore[no-any-return]
        optimizer = torch.optim.AdamW(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def do_split(self) -> tuple[list[str], list[str]]:
        """The folds of `nnactive_nf.core.folds`."""
        return self.train_cases, self.val_cases

    def get_dataloaders(self) -> tuple[Any, Any]:
        """nnU-Net's loaders and transforms, with patches placed on annotated voxels.

        With no worker processes (on a CPU) batches are made in this process from the streams that `_seed` sets, so that
        a training is the same however often it was interrupted.
        """
        patch = self.configuration_manager.patch_size
        rotation, dummy_2d, initial_patch, mirror_axes = (
            self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        scales = self._get_deep_supervision_scales()
        labels = self.label_manager
        regions = labels.foreground_regions if labels.has_regions else None
        train_transforms = self.get_training_transforms(
            patch, rotation, scales, mirror_axes, dummy_2d,
            use_mask_for_norm=self.configuration_manager.use_mask_for_norm,
            foreground_labels=labels.foreground_labels, regions=regions, ignore_label=labels.ignore_label,
        )  # fmt: skip
        val_transforms = self.get_validation_transforms(
            scales, foreground_labels=labels.foreground_labels, regions=regions, ignore_label=labels.ignore_label
        )
        loaders = [
            AnnotatedPatchLoader(
                nnUNetDatasetBlosc2(self.preprocessed_dataset_folder, list(cases)),
                self.batch_size,
                size,
                patch,
                labels,
                oversample_foreground_percent=self.oversample_foreground_percent,
                transforms=transforms,
            )
            for cases, size, transforms in (
                (self.train_cases, initial_patch, train_transforms),
                (self.val_cases, patch, val_transforms),
            )
        ]
        workers = 0 if self.device.type == "cpu" else get_allowed_n_proc_DA()
        if workers == 0:
            return SingleThreadedAugmenter(loaders[0], None), SingleThreadedAugmenter(loaders[1], None)
        train, val = (
            NonDetMultiThreadedAugmenter(
                data_loader=loader,
                transform=None,
                num_processes=count,
                num_cached=max(3, count),
                seeds=None,
                pin_memory=True,
                wait_time=0.002,
            )
            for loader, count in zip(loaders, (workers, max(1, workers // 2)), strict=True)
        )
        return train, val

    def run(self, on_epoch_end: Callable[[ActiveTrainer], None], check_interrupt: Callable[[], None]) -> None:
        """Train from the current epoch to the last.

        Args:
            on_epoch_end: called after each epoch; `state()` is then what to go on from.
            check_interrupt: called between iterations; may raise to end the training.
        """
        with self.loaders():
            while self.current_epoch < self.num_epochs:
                self._seed("epoch", self.current_epoch)
                self._epoch(check_interrupt)
                on_epoch_end(self)

    @contextmanager
    def loaders(self) -> Iterator[None]:
        """The loaders, which make batches while the block runs."""
        self.set_deep_supervision_enabled(self.enable_deep_supervision)
        self.dataloader_train, self.dataloader_val = self.get_dataloaders()
        try:
            yield
        finally:
            for loader in (self.dataloader_train, self.dataloader_val):
                if isinstance(loader, NonDetMultiThreadedAugmenter):
                    loader._finish()

    def iteration(self) -> float:
        """Take the next batch and a step; its loss, which has come from the GPU when this returns."""
        return float(self.train_step(self._next(self.dataloader_train))["loss"])

    def validation(self) -> dict[str, Any]:
        """What nnU-Net tells of the next validation batch."""
        return self.validation_step(self._next(self.dataloader_val))  # type: ignore[no-any-return]

    def _next(self, loader: Any) -> Any:
        """A loader's next batch. A step ends when its loss has come from the GPU, so the GPU idles meanwhile."""
        begin = time.monotonic()
        batch = next(loader)
        self.loader_seconds += time.monotonic() - begin
        return batch

    def _epoch(self, check_interrupt: Callable[[], None]) -> None:
        begin = time.monotonic()
        self.network.train()
        epoch = self.current_epoch
        self.lr_scheduler.step(epoch if self.ending is None else self.ending.position(epoch))
        train: list[float] = []
        for _ in range(self.num_iterations_per_epoch):
            check_interrupt()
            self._with_loss(train, self.iteration())
        self.network.eval()
        val: list[dict[str, Any]] = []
        val_losses: list[float] = []
        with torch.no_grad():
            for _ in range(self.num_val_iterations_per_epoch):
                check_interrupt()
                val.append(self.validation())
                self._with_loss(val_losses, float(val[-1]["loss"]))
        hits, false_hits, misses = (
            np.sum([step[key] for step in val], axis=0) for key in ("tp_hard", "fp_hard", "fn_hard")
        )
        total = 2 * hits + false_hits + misses
        self.curve.append(
            {
                "epoch": self.current_epoch,
                "train_loss": float(np.mean(train)),
                "val_loss": float(np.mean(val_losses)),
                # nnU-Net's online Dice over the validation batches; null for a class that is not in them
                "pseudo_dice": [2 * float(h) / float(t) if t > 0 else None for h, t in zip(hits, total, strict=True)],
                "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
            }
        )
        self.current_epoch += 1
        self.loop_seconds += time.monotonic() - begin
        self._end_early()

    def _end_early(self) -> None:
        """Bring the end nearer where the curve says that the training no longer improves."""
        if self.patience is None or self.ending is not None:
            return
        self.ending = ending_of(self.curve, self.patience, self.num_epochs)
        if self.ending is not None:
            self.num_epochs = self.ending.epochs

    def _with_loss(self, losses: list[float], loss: float) -> None:
        """Add a loss, if it is a number. Once it is none the network's weights are none either, whatever comes after.

        In half precision on a GPU a single one may be none: the step is left out then, and the weights stay.

        Raises:
            UserError: it is none, and the training cannot mend it.
        """
        if math.isfinite(loss):
            losses.append(loss)
            return
        weights = self.network.parameters()
        if self.grad_scaler is not None and losses and all(bool(torch.isfinite(value).all()) for value in weights):
            return
        raise UserError(
            f"fold {self.fold}, epoch {self.current_epoch}: the loss is no longer a number ({loss}), so the training "
            f"has ended; lower --learning_rate (it is {self.initial_lr:g}), or look for extreme values in the images"
        )

    def state(self) -> dict[str, Any]:
        """All that going on needs, copied to the CPU: weights, optimiser, scaler, curve, next epoch."""
        return {
            "epoch": self.current_epoch,
            "weights": copied_to_cpu(self._module().state_dict()),
            "optimizer": copied_to_cpu(self.optimizer.state_dict()),
            "scaler": None if self.grad_scaler is None else self.grad_scaler.state_dict(),
            "curve": list(self.curve),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state()`.

        Raises:
            KeyError, TypeError, ValueError, AttributeError, RuntimeError: it is no state of this training; this trainer
                cannot be used any more then.
        """
        if not all(bool(torch.isfinite(value).all()) for value in state["weights"].values()):
            raise ValueError("its weights are not finite")
        self._module().load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self._unchanged("configure_optimizers"):  # others may keep tensors of other shapes
            self._check_optimizer()
        if self.grad_scaler is not None and state["scaler"] is not None:
            self.grad_scaler.load_state_dict(state["scaler"])
        self.curve = [dict(epoch) for epoch in state["curve"]]
        self.current_epoch = int(state["epoch"])
        self._end_early()
        if [epoch["epoch"] for epoch in self.curve] != list(range(self.current_epoch)):
            raise ValueError("its curve is not that of its epochs")
        if not 0 < self.current_epoch <= self.num_epochs:
            raise ValueError(f"it stands at epoch {self.current_epoch} of {self.num_epochs}")

    def _check_optimizer(self) -> None:
        for parameter, values in self.optimizer.state.items():
            for value in values.values():
                if isinstance(value, torch.Tensor) and value.ndim > 0 and value.shape != parameter.shape:
                    raise ValueError("its optimiser is another network's")

    def _module(self) -> torch.nn.Module:
        module: Any = getattr(self.network, "_orig_mod", self.network)
        return module  # type: ignore[no-any-return]


def copied_to_cpu(value: Any, copies: dict[tuple[Any, ...], torch.Tensor] | None = None) -> Any:
    """A copy of nested tensors on the CPU.

    What shares its memory shares it in the copy, so that it is written once: nnU-Net's networks name a convolution of
    the encoder four times, one of the decoder twice.
    """
    copies = {} if copies is None else copies
    if isinstance(value, torch.Tensor):
        place = (value.data_ptr(), value.shape, value.stride(), value.dtype, value.device)
        if place not in copies:
            copies[place] = value.detach().cpu().clone()
        return copies[place]
    if isinstance(value, Mapping):
        return {key: copied_to_cpu(item, copies) for key, item in value.items()}
    if isinstance(value, list):
        return [copied_to_cpu(item, copies) for item in value]
    return value
