"""The stage as a whole: the ensemble looks at every image of a shard, and what was asked for is written down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.ensemble import Ensemble
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.nnunet import resolve_device
from nnactive_nf.core.uncertainty import MAPS, create_uncertainty, write_case
from nnactive_nf.predict.entropy import EnsembleAccumulator, predictive_entropy


def predict(
    prepared: Path,
    checkpoints: Sequence[Path],
    maps: Sequence[str],
    node: str,
    cycle: int,
    shard: int,
    shards: int,
    tile_step: float,
    device: str,
    threads: int,
    out: Path,
    trainer_file: Path | None = None,
) -> None:
    """Write the uncertainty maps of one shard of the pool.

    Args:
        prepared: PREPARE's folder.
        checkpoints: one checkpoint file per fold, in the order of the folds.
        maps: names of `nnactive_nf.core.uncertainty.MAPS` to write.
        node: id of the node.
        cycle: its cycle.
        shard: number of this shard, from 0; it takes every `shards`-th case of the sorted pool.
        shards: how many there are.
        tile_step: step of the sliding window as a share of the network's patch.
        device: `auto`, `cuda` or `cpu`.
        threads: CPU threads.
        out: file to make.
        trainer_file: the user's trainer, with which the folds were trained.

    Raises:
        UserError: a checkpoint is damaged, a map has no such name, or no such shard.
    """
    unknown = [name for name in maps if name not in MAPS]
    if unknown:
        raise UserError(f"maps: {unknown} are not known; known are {list(MAPS)}")
    if not 0 <= shard < shards:
        raise UserError(f"shard {shard}: there are {shards}, numbered from 0")
    dataset = Dataset.open(prepared)
    ensemble = Ensemble(checkpoints, resolve_device(device, threads), tile_step, False, trainer_file)
    ensemble.check_fits(dataset)
    if "fold_features" in maps:
        ensemble.check_features()
    cases = dataset.pool[shard::shards]
    print(
        f"{node}: {len(ensemble)} folds, {len(cases)} of {len(dataset.pool)} cases, maps {', '.join(maps)}", flush=True
    )
    with create_uncertainty(
        out, dataset=dataset.name, node=node, cycle=cycle, folds=len(ensemble), classes=ensemble.channels, maps=maps,
        checkpoints=ensemble.digests,
    ) as file:  # fmt: skip
        for number, case in enumerate(cases, start=1):
            write_case(file, case, case_maps(ensemble, dataset, case, maps))
            if "fold_features" in maps:
                _write_features(file["cases"][case], ensemble, dataset, case)
            if number % 25 == 0 or number == len(cases):
                print(f"{number} of {len(cases)} cases", flush=True)


def case_maps(ensemble: Ensemble, dataset: Dataset, case: str, maps: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    """The asked-for maps of one case on the image grid (without `fold_features`, which have a grid of their own).

    Volumes of float32 that are held at the peak: one fold's logits (C), which become its probabilities, and beside them
    the sum (C), the expected entropy and the windows' weights. No generator hands the folds on: its frame would keep
    one while the next is made.
    """
    image = dataset.network_image(case)
    accumulator = EnsembleAccumulator(regions=ensemble.regions)
    folds: npt.NDArray[np.float16] | None = None
    for number in range(len(ensemble)):
        probability = ensemble.probabilities(number, image)
        accumulator.add(probability)
        if "fold_probability" in maps:
            if folds is None:
                folds = np.empty((len(ensemble), len(probability), *dataset.shapes[case]), dtype=np.float16)
            dataset.as_network_grid(folds)[number] = probability.cpu().numpy()
        del probability
    mean, expected = accumulator.finish()
    found: dict[str, npt.NDArray[Any]] = {}

    def put(name: str, values: torch.Tensor) -> None:
        found[name] = dataset.to_image_grid(values.cpu().numpy())

    if "expected_entropy" in maps:
        put("expected_entropy", expected)
    del expected
    if "predictive_entropy" in maps:
        put("predictive_entropy", predictive_entropy(mean, regions=ensemble.regions))
    if "prediction" in maps:
        put("prediction", ensemble.label_indices(mean).to(torch.uint8))
    if "mean_probability" in maps:
        put("mean_probability", mean.half())
    if folds is not None:
        found["fold_probability"] = folds
    return found


def _write_features(group: Any, ensemble: Ensemble, dataset: Dataset, case: str) -> None:
    features = dataset.to_image_grid(ensemble.fold_features(dataset.network_image(case)))
    stored = group.create_dataset("fold_features", data=features, compression="gzip", compression_opts=1, shuffle=True)
    stored.attrs["cell_zyx"] = [ensemble.feature_cell[axis] for axis in dataset.plans["transpose_backward"]]
