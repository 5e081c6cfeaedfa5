"""The fold ensemble of a node: probabilities and features of an image fold by fold, and what nnU-Net makes of all."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.geometry import SLAB_VOXELS, slabs
from nnactive_nf.core.nnunet import load_fold, network_of
from nnactive_nf.core.plans import label_order
from nnactive_nf.core.trainer_file import given_trainer

# Windows that the network sees at once. On one CPU thread torch convolves single images five times slower than batches.
WINDOWS_AT_ONCE = 4


class BatchedPredictor(nnUNetPredictor):
    """nnU-Net's sliding window, several windows at a time, summed in float32.

    nnU-Net sums in half, which rounds the small weights in the corners of a window (docs/design.md).
    """

    sums = torch.float32

    @torch.inference_mode()
    def _internal_predict_sliding_window_return_logits(
        self, data: torch.Tensor, slicers: Sequence[tuple[slice | int, ...]], do_on_device: bool = True
    ) -> torch.Tensor:
        home = self.device if do_on_device else torch.device("cpu")
        data = data.to(home)
        heads = self.label_manager.num_segmentation_heads
        logits = torch.zeros((heads, *data.shape[1:]), dtype=self.sums, device=home)
        weight = torch.zeros(data.shape[1:], dtype=self.sums, device=home)
        gaussian = compute_gaussian(
            tuple(self.configuration_manager.patch_size), sigma_scale=1 / 8, value_scaling_factor=10,
            dtype=self.sums, device=home,
        )  # fmt: skip
        for start in range(0, len(slicers), WINDOWS_AT_ONCE):
            batch = slicers[start : start + WINDOWS_AT_ONCE]
            windows = torch.stack([data[window] for window in batch]).to(self.device)
            if len(batch) == 1 and self.device.type == "cpu":
                windows = windows.expand(2, *windows.shape[1:]).contiguous()  # see WINDOWS_AT_ONCE
            found = self._internal_maybe_mirror_and_predict(windows).to(home)
            for window, values in zip(batch, found[: len(batch)], strict=True):
                logits[window] += values * gaussian
                weight[window[1:]] += gaussian
        return logits.div_(weight)


class NnunetPredictor(BatchedPredictor):
    """What `nnUNetv2_predict` sums, to the bit but for the last digits of the network's own output.

    On a CPU windows go through the network several at a time, and each is added in half as nnU-Net adds it. On a GPU it
    is nnU-Net's own loop.
    """

    sums = torch.half

    def _internal_predict_sliding_window_return_logits(
        self, data: torch.Tensor, slicers: Sequence[tuple[slice | int, ...]], do_on_device: bool = True
    ) -> torch.Tensor:
        own = nnUNetPredictor if self.device.type != "cpu" else BatchedPredictor
        logits: torch.Tensor = own._internal_predict_sliding_window_return_logits(self, data, slicers, do_on_device)
        if torch.isinf(logits).any():
            raise RuntimeError("Encountered inf in predicted array")  # as nnU-Net
        return logits


def _classes_of(nnunet_json: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a network's outputs stand for."""
    return nnunet_json["labels"], label_order(nnunet_json), nnunet_json.get("regions_class_order")


def probability_in_place(logits: torch.Tensor, regions: bool) -> None:
    """Turn logits `[C, ...]` into probabilities, slab by slab: softmax of classes, or sigmoid of regions."""
    for slab in slabs(logits.shape[1:], SLAB_VOXELS):
        part = logits[(slice(None), *slab)]
        part.copy_(torch.sigmoid(part) if regions else torch.softmax(part, dim=0))


class Ensemble:
    """The trained folds of one node.

    Args:
        checkpoints: one file per fold, in the order of the folds.
        device: where to predict.
        tile_step: step of the sliding window as a share of the network's patch.
        mirroring: average over mirrored copies of each window.
        trainer_file: the user's trainer, where the folds were trained with one: it may have built their network.

    Raises:
        UserError: no fold is given, a checkpoint is damaged, or folds were trained with different plans.
    """

    def __init__(
        self,
        checkpoints: Sequence[Path],
        device: torch.device,
        tile_step: float,
        mirroring: bool,
        trainer_file: Path | None = None,
    ) -> None:
        if not checkpoints:
            raise UserError("no checkpoint is given; an ensemble needs at least one fold")
        trainer = given_trainer(trainer_file)
        folds = [load_fold(path, trainer) for path in checkpoints]
        first = folds[0]
        for path, fold in zip(checkpoints, folds, strict=True):
            if fold.trained_with != first.trained_with:
                raise UserError(f"{path}: was trained with other plans or classes than {checkpoints[0]}")
        self._first, self._where = first, checkpoints[0]
        self.device = device
        self.nnunet_json = first.nnunet_json
        self.plans = PlansManager(first.plans)
        self.configuration = self.plans.get_configuration(first.configuration)
        self.digests = [fold.digest for fold in folds]
        self._weights = [fold.weights for fold in folds]
        self.label_manager = self.plans.get_label_manager(first.nnunet_json)
        self.channels = int(self.label_manager.num_segmentation_heads)
        self.regions = bool(self.label_manager.has_regions)
        self._network: Any = network_of(first, trainer)
        self._predictor, self._as_nnunet = (
            kind(
                tile_step_size=tile_step, use_gaussian=True, use_mirroring=mirroring,
                perform_everything_on_device=device.type == "cuda", device=device, verbose=False, allow_tqdm=False,
            )
            for kind in (BatchedPredictor, NnunetPredictor)
        )  # fmt: skip
        for predictor in (self._predictor, self._as_nnunet):
            predictor.manual_initialization(
                self._network, self.plans, self.configuration, self._weights, first.nnunet_json, "", first.mirror_axes
            )

    def check_features(self) -> None:
        """Whether its network has the stages that `fold_features` are taken from; `UserError` where it has none."""
        encoder = getattr(self._network, "encoder", None)
        if not all(hasattr(encoder, name) for name in ("stages", "strides")):
            raise UserError(
                f"{self._where}: its network has no encoder with stages as nnU-Net's networks have, so there are no "
                "features (fold_features) of it; take a strategy that reads other maps"
            )

    def check_fits(self, dataset: Dataset) -> None:
        """Whether it was trained on this data set's classes, channels and axes; `UserError` where it was not."""
        theirs, ours = self._first.nnunet_json, dataset.nnunet_json
        if _classes_of(theirs) != _classes_of(ours):
            known, here = [name for name in theirs["labels"] if name != "ignore"], [*dataset.classes.named]
            differ = " of other labels, or in another order" if set(known) == set(here) else ""
            raise UserError(f"{self._where}: was trained on classes {known}, {dataset.folder} has {here}{differ}")
        if len(theirs["channel_names"]) != len(dataset.channels):
            channels = len(theirs["channel_names"])
            raise UserError(
                f"{self._where}: was trained on {channels} channels, {dataset.folder} has {len(dataset.channels)}"
            )
        if self._first.plans["transpose_forward"] != dataset.plans["transpose_forward"]:
            raise UserError(f"{self._where}: was trained on other axes than those of {dataset.folder}")

    def __len__(self) -> int:
        return len(self._weights)

    @torch.inference_mode()
    def probabilities(self, fold: int, image: npt.NDArray[np.float32]) -> torch.Tensor:
        """Probabilities `[C, ...]` (float32, on the device or the CPU) of one fold: softmax, or sigmoid of regions.

        Nothing is kept of them here: at most C volumes and the windows' weights are held.

        Args:
            fold: number of the fold, from 0.
            image: preprocessed image `[channels, ...]` on the network grid.
        """
        self._network.load_state_dict(self._weights[fold])
        logits: torch.Tensor = self._predictor.predict_sliding_window_return_logits(torch.from_numpy(image))
        probability_in_place(logits, self.regions)
        return logits

    def label_indices(self, probability: torch.Tensor) -> torch.Tensor:
        """Label indices `[...]` of probabilities `[C, ...]`: the likeliest class, or regions as nnU-Net paints them."""
        if not self.regions:
            return probability.argmax(0)
        return self.label_manager.convert_probabilities_to_segmentation(probability)

    def mean_logits(self, image: npt.NDArray[np.float32]) -> torch.Tensor:
        """Logits `[C, ...]` (half, on the CPU) averaged over the folds as nnU-Net does it.

        Where they are too large for half, of which nnU-Net makes an error, they are float32.

        Args:
            image: preprocessed image `[channels, ...]` on the network grid.
        """
        try:
            return self._as_nnunet.predict_logits_from_preprocessed_data(torch.from_numpy(image))
        except RuntimeError as error:
            if "Encountered inf" not in str(error):
                raise
        print("logits are too large for half precision; nnU-Net would refuse to predict with this ensemble", flush=True)
        return self._predictor.predict_logits_from_preprocessed_data(torch.from_numpy(image))

    def segment(
        self, image: npt.NDArray[np.float32], properties: dict[str, Any]
    ) -> tuple[npt.NDArray[np.unsignedinteger], npt.NDArray[np.float32]]:
        """What `nnUNetv2_predict` writes of an image: the folds' mean logits, brought to the file's grid by nnU-Net.

        Args:
            image: preprocessed image `[channels, ...]` on the network grid.
            properties: nnU-Net's properties of the case.

        Returns:
            Label indices `[z, y, x]`, and the softmax (of regions: sigmoid) of the resampled logits float32
            `[C, z, y, x]`. Outside the crop box nothing was imaged, and nnU-Net is certain of background: there no
            region has any probability.
        """
        index_zyx, probability = convert_predicted_logits_to_segmentation_with_correct_shape(
            self.mean_logits(image), self.plans, self.configuration, self.label_manager, properties,
            return_probabilities=True, num_threads_torch=torch.get_num_threads(),
        )  # fmt: skip
        return index_zyx, probability

    @property
    def feature_cell(self) -> tuple[int, ...]:
        """Voxels of the network grid, per axis, that one cell of the features covers."""
        cell = np.prod(self._network.encoder.strides[:-1], axis=0).astype(int).tolist()
        return (1, *cell) if len(cell) == 2 else tuple(cell)

    @torch.inference_mode()
    def fold_features(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Features of the last but one encoder stage, folds side by side.

        Windows overlap by half and start at multiples of the cell, so that cells of neighbouring windows fall together;
        where windows overlap their features are averaged.

        Args:
            image: preprocessed image `[channels, ...]` on the network grid.

        Returns:
            float32 `[folds x features, cells along each axis]`; cell 0 begins at voxel 0.
        """
        return np.concatenate([self._features(weights, image) for weights in self._weights])

    def _encoder_parts(self) -> list[torch.nn.Module]:
        """What an image goes through up to the last but one stage; a residual encoder has a stem before the stages."""
        encoder = self._network.encoder
        stem = getattr(encoder, "stem", None)
        return [*([] if stem is None else [stem]), *encoder.stages[:-1]]

    def _features(self, weights: dict[str, torch.Tensor], image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self._network.load_state_dict(weights)
        self._network.to(self.device).eval()
        cell = self.feature_cell
        window = [int(n) for n in self.configuration.patch_size]
        flat = len(window) == 2  # a 2D network looks at slices
        window = [1, *window] if flat else window
        shape = image.shape[1:]
        padded_shape = [max(w, -(-n // c) * c) for w, n, c in zip(window, shape, cell, strict=True)]
        padding = [(0, 0), *((0, p - n) for p, n in zip(padded_shape, shape, strict=True))]
        data = torch.from_numpy(np.pad(image, padding))
        steps = compute_steps_for_sliding_window(tuple(padded_shape), tuple(window), 0.5)
        starts = [sorted({start // c * c for start in axis}) for axis, c in zip(steps, cell, strict=True)]
        if flat:
            starts[0] = list(range(padded_shape[0]))
        total: torch.Tensor | None = None
        count = torch.zeros([n // c for n, c in zip(padded_shape, cell, strict=True)])
        for corner in itertools.product(*starts):
            box = tuple(slice(a, a + w) for a, w in zip(corner, window, strict=True))
            x = data[(slice(None), *box)].to(self.device)
            x = (x[:, 0] if flat else x).expand(2, *(x[:, 0] if flat else x).shape).contiguous()  # see WINDOWS_AT_ONCE
            for part in self._encoder_parts():
                x = part(x)
            found = x[0].float().cpu()
            if flat:
                found = found[:, None]
            if total is None:
                total = torch.zeros((len(found), *count.shape))
            cells = tuple(slice(a // c, a // c + n) for a, c, n in zip(corner, cell, found.shape[1:], strict=True))
            total[(slice(None), *cells)] += found
            count[cells] += 1
        assert total is not None
        inside = tuple(slice(0, -(-n // c)) for n, c in zip(shape, cell, strict=True))
        return (total / count)[(slice(None), *inside)].numpy()
