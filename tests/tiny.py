"""A prepared data set of a few tiny random volumes, made in milliseconds, for tests of single stages."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pandas as pd

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.dataset import CASE_COLUMNS, FORMAT, VERSION, Dataset
from nnactive_nf.core.geometry import Box, as_shape
from nnactive_nf.core.grid import GRID_COLUMNS, CaseGrid, grid_row
from nnactive_nf.core.hdf5 import create_hdf5
from nnactive_nf.core.labels import Labels, write_labels
from nnactive_nf.core.uncertainty import create_uncertainty, write_case

CLASSES = Classes(("background", "head", "tail"), (0, 2, 7))


def classes(number: int) -> Classes:
    """Background and other classes, with their indices as values."""
    return Classes(("background", *(f"class {index}" for index in range(1, number))), tuple(range(number)))


def prepared(
    folder: Path,
    shapes: Mapping[str, Sequence[int]],
    *,
    test: Sequence[str] = (),
    classes: Classes = CLASSES,
    groups: Mapping[str, str] | None = None,
    empty: Mapping[str, np.ndarray] | None = None,
    images: Mapping[str, np.ndarray] | None = None,
    transpose: Sequence[int] = (0, 1, 2),
    seed: int = 0,
) -> Dataset:
    """Make and open a prepared folder.

    Args:
        folder: folder to make.
        shapes: image shape (z, y, x) per case.
        test: cases of the test set; the others are the pool.
        classes: class names and values.
        groups: patient per case; each its own by default.
        empty: voxels per case where nothing was imaged; nowhere by default.
        images: images `[channels, z, y, x]`; one channel of noise by default.
        transpose: the plan's axis order.
        seed: seed of the noise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "network").mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    with create_hdf5(folder / "empty.h5", "empty", VERSION, {}) as file:
        for case, shape in sorted(shapes.items()):
            split = "test" if case in test else "pool"
            grid = CaseGrid(as_shape(shape), Box((0, 0, 0), as_shape(shape)), as_shape(shape), (2.0, 1.0, 1.0))
            rows.append([
                case, (groups or {}).get(case, case), split, *shape, *grid.spacing_mm, *shape, *grid.file_spacing_mm,
                *grid_row(grid),
            ])  # fmt: skip
            nothing = np.zeros(shape, dtype=bool)
            file.create_dataset(case, data=(empty or {}).get(case, nothing).astype(np.uint8))
            image = (images or {}).get(case, rng.normal(size=(1, *shape)).astype(np.float32))
            network = np.ascontiguousarray(image.transpose(0, *(1 + a for a in transpose)).astype(np.float32))
            blosc2.asarray(network, urlpath=str(folder / "network" / f"{case}.b2nd"), mode="w")
            box = [[0, n] for n in network.shape[1:]]
            with (folder / "network" / f"{case}.pkl").open("wb") as properties:
                pickle.dump({"bbox_used_for_cropping": box, "spacing": [2.0, 1.0, 1.0]}, properties)
    pd.DataFrame(rows, columns=[*CASE_COLUMNS, *GRID_COLUMNS]).to_csv(folder / "cases.csv", index=False)
    channels = next(iter(images.values())).shape[0] if images else 1
    head = {
        "format": FORMAT, "version": VERSION, "name": "tiny", "digest": "0" * 64, "configuration": "3d_fullres",
        "class_names": list(classes.names), "class_values": list(classes.values), "regions": classes.regions,
        "channels": [f"channel {i}" for i in range(channels)],
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(head))
    back = [int(a) for a in np.argsort(transpose)]
    plans = {"transpose_forward": list(transpose), "transpose_backward": back}
    (folder / "plans.json").write_text(json.dumps(plans))
    nnunet = {"channel_names": {"0": "image"}, "file_ending": ".nii.gz", "numTraining": len(shapes)}
    nnunet |= classes.for_nnunet(ignore=True)
    (folder / "nnunet_dataset.json").write_text(json.dumps(nnunet))
    return Dataset.open(folder)


def fold(
    plans: Mapping[str, Any], nnunet_json: Mapping[str, Any], *, patch: Sequence[int], features: int, seed: int = 0
):
    """A fold with random weights: a U-Net of two stages whose plan is written by hand, added to the axes of `plans`."""
    import torch  # the tests of other stages do without
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnactive_nf.core.nnunet import FoldCheckpoint, build_network
    from nnactive_nf.core.plans import heads_of

    network = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": {
            "n_stages": 2, "features_per_stage": [features, features], "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * 2, "strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": [1, 1],
            "n_conv_per_stage_decoder": [1], "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": {"affine": True},
            "dropout_op": None, "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }  # fmt: skip
    settings = {"patch_size": list(patch), "spacing": [2.0, 1.0, 1.0], "architecture": network}
    whole = {**plans, "label_manager": "LabelManager", "configurations": {"3d_fullres": settings}}
    configuration = PlansManager(whole).get_configuration("3d_fullres")
    torch.manual_seed(seed)
    channels, heads = len(nnunet_json["channel_names"]), heads_of(nnunet_json)
    weights = build_network(configuration, channels, heads, False).state_dict()
    return FoldCheckpoint(weights, whole, "3d_fullres", dict(nnunet_json), (0, 1, 2), str(seed))


def some_fold(seed: int = 0, digest: str = "digest"):
    """A fold of no data set in particular: background and one class, one channel."""
    plans = {"transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2]}
    nnunet_json = {"channel_names": {"0": "image"}, "labels": {"background": 0, "organ": 1, "ignore": 2}}
    return replace(fold(plans, nnunet_json, patch=(4, 4, 4), features=2, seed=seed), digest=digest)


def checkpoints(folder: Path, dataset: Dataset, folds: int, *, patch: Sequence[int], features: int) -> list[Path]:
    """Files of folds with random weights for a data set."""
    from nnactive_nf.core.nnunet import save_fold

    nnunet_json = dataset.nnunet_json | {"channel_names": {str(i): name for i, name in enumerate(dataset.channels)}}
    paths = [folder / f"fold_{number}.pth" for number in range(folds)]
    for number, path in enumerate(paths):
        save_fold(path, fold(dataset.plans, nnunet_json, patch=patch, features=features, seed=number))
    return paths


def oracle(path: Path, dataset: Dataset, masks: Mapping[str, np.ndarray] | None = None, seed: int = 0) -> Path:
    """Complete masks of the pool: those given, or random ones whose foreground is a tenth of the voxels."""
    rng = np.random.default_rng(seed)
    classes = dataset.classes
    chance = [0.9, *[0.1 / (len(classes) - 1)] * (len(classes) - 1)]
    complete = {
        case: (masks or {})
        .get(case, rng.choice(classes.values, p=chance, size=dataset.shapes[case]))
        .astype(classes.dtype)
        for case in dataset.pool
    }
    write_labels(path, Labels(dataset.name, "oracle", -1, classes, complete), kind="oracle")
    return path


def uncertainty(
    path: Path, dataset: Dataset, maps: Mapping[str, Mapping[str, np.ndarray]], *, cycle: int = 0, folds: int = 2
) -> Path:
    """One shard with these maps per case."""
    names = sorted({name for of_case in maps.values() for name in of_case})
    with create_uncertainty(
        path, dataset=dataset.name, node="tiny-c00", cycle=cycle, folds=folds, classes=len(dataset.classes.channels),
        maps=names, checkpoints=["0" * 64] * folds,
    ) as file:  # fmt: skip
        for case in sorted(maps):
            write_case(file, case, maps[case])
            if "fold_features" in maps[case]:
                file["cases"][case]["fold_features"].attrs["cell_zyx"] = (4, 4, 4)
    return path


def probabilities(
    rng: np.random.Generator, folds: int, classes: int, shape: Sequence[int], regions: bool = False
) -> np.ndarray:
    """Random probabilities `[fold, class or region, z, y, x]`, float16 as in files."""
    logits = rng.normal(scale=3, size=(folds, classes, *shape))
    if regions:
        return (1 / (1 + np.exp(-logits))).astype(np.float16)
    return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float16)


def maps_of(
    rng: np.random.Generator, folds: int, classes: int, shape: Sequence[int], regions: bool = False
) -> dict[str, np.ndarray]:
    """All maps of a case from random probabilities; of regions (the prediction is none that is looked at)."""
    fold = probabilities(rng, folds, classes, shape, regions)
    mean = fold.mean(axis=0, dtype=np.float64)

    def entropy(p: np.ndarray, axis: int) -> np.ndarray:
        def terms(q: np.ndarray) -> np.ndarray:
            return -np.where(q > 0, q * np.log(np.maximum(q, 1e-30)), 0)

        return (terms(p) + terms(1 - p)).mean(axis=axis) if regions else terms(p).sum(axis=axis)

    cells = [-(-n // 4) for n in shape]
    return {
        "predictive_entropy": entropy(mean, 0).astype(np.float32),
        "expected_entropy": entropy(fold.astype(np.float64), 1).mean(axis=0).astype(np.float32),
        "prediction": mean.argmax(axis=0).astype(np.uint8),
        "mean_probability": mean.astype(np.float16),
        "fold_probability": fold,
        "fold_features": rng.normal(size=(3 * folds, *cells)).astype(np.float32),
    }
