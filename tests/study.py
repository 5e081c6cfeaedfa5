"""Made-up results of a study in the workflow's own formats, for the tests of the analysis and the report."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.hdf5 import create_hdf5
from nnactive_nf.core.labels import PATCH_COLUMNS, Labels, class_column, write_labels
from nnactive_nf.core.query_table import write_query

SHAPE = (24, 32, 28)
PATCH = (8, 8, 7)
CLASSES = Classes(("background", "head", "tail"), (0, 1, 3))
CASES = [f"case_{number:02d}" for number in range(6)]
SPREAD = 0.05  # the first class lies this much above the mean Dice, the second this much below

STRATEGIES: dict[str, dict[str, Any]] = {
    "random": {"label": "Random", "paper_name": "Random"},
    "random_fg33": {"label": "Random 33% FG", "paper_name": "Random 33% FG", "oracle_aware": True},
    "predictive_entropy": {"label": "Predictive entropy", "paper_name": "Predictive Entropy", "needs_model": True},
    "bald": {"label": "BALD", "paper_name": "BALD", "needs_model": True},
    "power_bald:beta=10": {"label": "PowerBALD, beta 10", "paper_name": "PowerBALD", "needs_model": True},
}

# Dice per cycle, by (data set, regime), strategy and seed
Curves = Mapping[tuple[str, str], Mapping[str, Mapping[int, Sequence[float]]]]


def strategy_entry(name: str) -> dict[str, Any]:
    known = STRATEGIES.get(name, {"label": name, "paper_name": name, "needs_model": True})
    return {"name": name, "base": name.split(":")[0], "oracle_aware": False, "needs_model": False, **known}


def trajectory_id(dataset: str, regime: str, strategy: str, seed: int) -> str:
    return f"{dataset}-{regime}-{re.sub(r'[^A-Za-z0-9._-]', '_', strategy)}-s{seed}"


def make_design(curves: Curves, start_size: int = 6, query_size: int = 4) -> dict[str, Any]:
    """`design.json` for these curves."""
    strategies = list(dict.fromkeys(name for of_setting in curves.values() for name in of_setting))
    trajectories = []
    cycles = 1
    for (dataset, regime), of_setting in curves.items():
        for strategy, of_strategy in of_setting.items():
            for seed, values in of_strategy.items():
                name = trajectory_id(dataset, regime, strategy, seed)
                cycles = max(cycles, len(values))
                later = [f"{name}-c{cycle:02d}" for cycle in range(1, len(values))]
                trajectories.append(
                    {
                        "id": name,
                        "dataset": dataset,
                        "regime": regime,
                        "strategy": strategy,
                        "seed": seed,
                        "nodes": [f"{dataset}-{regime}-s{seed}-c00", *later],
                        "budgets": [start_size + query_size * cycle for cycle in range(len(values))],
                    }
                )
    groups = [
        {
            "dataset": dataset,
            "regime": regime,
            "start_size": start_size,
            "query_size": query_size,
            "patch_size": list(PATCH),
            "start_strategy": "random_fg33",
        }
        for dataset, regime in curves
    ]
    return {
        "cycles": cycles,
        "folds": 2,
        "strategies": [strategy_entry(name) for name in strategies],
        "groups": groups,
        "trajectories": trajectories,
    }


def make_metrics(node: str, trajectory: Mapping[str, Any], cycle: int, dice: float) -> dict[str, Any]:
    """`metrics.json` of a node whose mean Dice is `dice`."""
    of_class = {"head": dice + SPREAD, "tail": dice - SPREAD}
    mean = {
        name: {
            "dice": value,
            "iou": value / (2 - value),
            "nsd": min(1.0, value + 0.04),
            "hd95_mm": 10 * (1 - value),
            "cases": 2,
            "empty_reference": 0,
            "empty_prediction": 0,
        }
        for name, value in of_class.items()
    }
    foreground = {key: float(np.mean([row[key] for row in mean.values()])) for key in ("dice", "iou", "nsd", "hd95_mm")}
    cases = [
        {"case": f"test_{number}", "classes": {name: dict(row, reference_voxels=90) for name, row in mean.items()}}
        for number in range(2)
    ]
    bins = [
        {"confidence": 0.1 * place + 0.05, "accuracy": max(0.0, 0.1 * place + 0.02), "voxels": 100 * (place + 1)}
        for place in range(10)
    ]
    return {
        "node": node,
        "dataset": trajectory["dataset"],
        "regime": trajectory["regime"],
        "seed": trajectory["seed"],
        "cycle": cycle,
        "strategy": trajectory["strategy"] if cycle else "",
        "nsd_tolerance_mm": 2.0,
        "classes": ["head", "tail"],
        "cases": cases,
        "mean": {"classes": mean, "foreground": foreground},
        "calibration": {"ece": 0.03 + 0.1 * (1 - dice), "brier": 0.2 * (1 - dice), "bins": bins},
    }


@dataclass
class Made:
    """Where the files of a made-up study lie."""

    folder: Path
    design: dict[str, Any] = field(default_factory=dict)

    def analyse_arguments(self, out: Path) -> list[str]:
        optional = {"oracle": "oracle", "full-reference": "full", "training": "training"}
        extra = [text for key, name in optional.items() for text in (f"--{key}", str(self.folder / name))]
        required = [
            text for name in ("metrics", "labels", "queries") for text in (f"--{name}", str(self.folder / name))
        ]
        return ["--design", str(self.folder / "design.json"), *required, *extra, "--out", str(out)]

    def report_arguments(self, tables: Path, out: Path, figures: Path) -> list[str]:
        files = {name: self.folder / f"{name}.json" for name in ("design", "parameters", "versions")}
        folders = {"views": self.folder / "views", "labels": self.folder / "labels", "tables": tables}
        named = {**files, **folders, "out": out, "figures": figures}
        return [text for key, path in named.items() for text in (f"--{key}", str(path))]


def make_study(folder: Path, curves: Curves, view_patches: int = 0, full_dice: float | None = 0.9) -> Made:
    """Write all files of a made-up study with these Dice curves; patches and images are drawn at random.

    There are pictures of the first `view_patches` of each query.
    """
    design = make_design(curves)
    _write(folder / "design.json", design)
    volumes = {dataset: make_volumes(place) for place, dataset in enumerate(dict.fromkeys(d for d, _ in curves))}
    written: set[str] = set()
    for trajectory in design["trajectories"]:
        dataset, regime = trajectory["dataset"], trajectory["regime"]
        values = curves[dataset, regime][trajectory["strategy"]][trajectory["seed"]]
        images, masks = volumes[dataset]
        labels = Labels(dataset, "", -1, CLASSES)
        for cycle, (node, budget) in enumerate(zip(trajectory["nodes"], trajectory["budgets"], strict=True)):
            start = f"{dataset}-{regime}-random_fg33-start-s{trajectory['seed']}"
            owner = trajectory["id"] if cycle else start
            query = _draw_query(owner, cycle, budget - len(labels.patches), labels)
            labels = annotate(labels, query, masks, node, cycle, trajectory["strategy"] if cycle else "random_fg33")
            if node in written:
                continue
            written.add(node)
            _write(folder / "metrics" / f"{node}.json", make_metrics(node, trajectory, cycle, float(values[cycle])))
            write_labels(folder / "labels" / owner / f"labels_c{cycle:02d}.h5", labels)
            (folder / "queries" / owner).mkdir(parents=True, exist_ok=True)
            write_query(folder / "queries" / owner / f"query_c{cycle:02d}.csv", query)
            shown = strategy_entry(trajectory["strategy"])["needs_model"] and cycle > 0
            if view_patches:
                write_views(
                    folder / "views" / owner / f"views_c{cycle:02d}.h5",
                    {"dataset": dataset, "node": node, "cycle": cycle},
                    trajectory["strategy"] if cycle else "random_fg33",
                    query.head(view_patches),
                    images,
                    "predictive_entropy" if shown else "",
                )
            for fold in range(2):
                _write(folder / "training" / node / f"fold_{fold}.json", make_training(node, fold))
    for dataset, (_, masks) in volumes.items():
        oracle = Labels(dataset, "", -1, CLASSES, dict(masks))
        write_labels(folder / "oracle" / f"oracle_{dataset}.h5", oracle, kind="oracle")
        if full_dice is not None:
            fake = {"dataset": dataset, "regime": next(r for d, r in curves if d == dataset), "seed": 1}
            content = make_metrics(f"{dataset}-full", {**fake, "strategy": "full"}, 1, full_dice)
            _write(folder / "full" / f"{dataset}.json", content)
    (folder / "full").mkdir(exist_ok=True)
    _write(
        folder / "parameters.json", {"input": "made-up", "seeds": "1,2,3", "epochs": 200, "cycles": design["cycles"]}
    )
    _write(folder / "versions.json", {"nextflow": "25.04.4", "python": "3.11"})
    return Made(folder, design)


def make_volumes(seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Images (float) and masks of the pool: a large class with a small one in it, in smooth noise."""
    images, masks = {}, {}
    for place, case in enumerate(CASES):
        generator = np.random.default_rng([seed, place])
        z, y, x = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
        cz, cy, cx = (n / 2 + generator.uniform(-2, 2) for n in SHAPE)
        outer = ((z - cz) / 8) ** 2 + ((y - cy) / 11) ** 2 + ((x - cx) / 9) ** 2 < 1
        inner = ((z - cz) / 4) ** 2 + ((y - cy - 3) / 4) ** 2 + ((x - cx) / 3) ** 2 < 1
        mask = np.where(inner, 3, np.where(outer, 1, 0)).astype(np.uint8)
        noise = ndimage.gaussian_filter(generator.standard_normal(SHAPE), 1.2) * 40
        images[case] = 60.0 * (mask == 1) + 110.0 * (mask == 3) + noise + 50
        masks[case] = mask
    return images, masks


def annotate(
    before: Labels, query: pd.DataFrame, masks: Mapping[str, np.ndarray], node: str, cycle: int, strategy: str
) -> Labels:
    """Labels with the query's patches filled in from full masks."""
    filled = {case: mask.copy() for case, mask in before.masks.items()}
    rows = []
    for row in query.to_dict("records"):
        case = row["case"]
        filled.setdefault(case, np.full(SHAPE, CLASSES.ignore_value, dtype=np.uint8))
        box = tuple(slice(row[axis], row[axis] + row[f"d{axis}"]) for axis in "zyx")
        patch = masks[case][box]
        filled[case][box] = patch
        counts = {
            class_column(name): int((patch == value).sum())
            for name, value in zip(CLASSES.names, CLASSES.values, strict=True)
        }
        where = {name: row[name] for name in PATCH_COLUMNS if name in row}
        amounts = {"voxels": patch.size, "foreground_voxels": int((patch > 0).sum())}
        rows.append({**where, "cycle": cycle, "strategy": strategy, **amounts, **counts})
    patches = pd.concat([before.patches, pd.DataFrame(rows)[list(before.patches.columns)]], ignore_index=True)
    return Labels(before.dataset, node, cycle, CLASSES, filled, patches.astype(before.patches.dtypes.to_dict()))


def _draw_query(owner: str, cycle: int, size: int, labels: Labels) -> pd.DataFrame:
    """Patches on a grid that are not labelled yet."""
    taken = set(labels.patches[["case", "z", "y", "x"]].itertuples(index=False, name=None))
    steps = [range(0, n - p + 1, p) for n, p in zip(SHAPE, PATCH, strict=True)]
    free = [
        (case, z, y, x)
        for case in CASES
        for z in steps[0]
        for y in steps[1]
        for x in steps[2]
        if (case, z, y, x) not in taken
    ]
    generator = np.random.default_rng([cycle, *owner.encode()])
    chosen = [free[place] for place in generator.permutation(len(free))[:size]]
    scores = np.sort(generator.random(size))[::-1]
    rows = [
        dict(zip(("rank", "case", "z", "y", "x"), (rank, *place), strict=True))
        | dict(zip(("dz", "dy", "dx"), PATCH, strict=True))
        | {"score": float(score), "component": "all"}
        for rank, (place, score) in enumerate(zip(chosen, scores, strict=True), start=1)
    ]
    return pd.DataFrame(rows)


def write_views(
    path: Path,
    where: Mapping[str, Any],
    strategy: str,
    query: pd.DataFrame,
    images: Mapping[str, np.ndarray],
    shown_map: str,
) -> None:
    """`views.h5` of a query: crops with a margin of 12 voxels around the patches."""
    with create_hdf5(path, "views", 1, {**where, "strategy": strategy, "map": shown_map}) as file:
        patches = file.create_group("patches")
        for row in query.to_dict("records"):
            start = np.array([row[axis] for axis in "zyx"])
            size = np.array([row[f"d{axis}"] for axis in "zyx"])
            low, high = np.maximum(start - 12, 0), np.minimum(start + size + 12, SHAPE)
            crop = images[row["case"]][tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
            group = patches.create_group(f"{row['rank']:04d}")
            group.attrs.update(
                {
                    "case": row["case"],
                    "start_zyx": start,
                    "size_zyx": size,
                    "score": row["score"],
                    "component": row["component"],
                    "crop_start_zyx": low,
                    "spacing_mm_zyx": (1.5, 1.0, 1.0),
                }
            )
            group["image"] = np.clip(crop, 0, 255).astype(np.uint8)
            if shown_map:
                edges = ndimage.gaussian_gradient_magnitude(crop.astype(float), 1)
                group["uncertainty"] = (edges / max(edges.max(), 1) * 0.69).astype(np.float16)


def make_training(node: str, fold: int) -> dict[str, Any]:
    """`training.json` of a fold."""
    return {
        "node": node,
        "fold": fold,
        "digest": "0" * 64,
        "device": "cpu",
        "epochs": 200,
        "train_cases": 4,
        "val_cases": 2,
        "seconds": 60.0 + fold,
        "resumed_from": [],
        "gpu_percent_mean": None,
        "gpu_percent_max": None,
        "peak_gpu_memory_bytes": None,
        "peak_host_memory_bytes": 2**30 + fold,
        "cpu_seconds": 90.0 + fold,
        "loader_percent": 20.0 + fold,
        "curve": make_curve(fold),
    }


def make_curve(fold: int, epochs: int = 100) -> list[dict[str, Any]]:
    """A training's curve, whose validation loss rises in the second half where the fold is odd; no Dice at first."""
    at = np.linspace(0, 1, epochs)
    rise = 0.8 * np.clip(at - 0.5, 0, None) * (fold % 2)
    return [
        {
            "epoch": epoch,
            "train_loss": float(1 - 1.8 * share),
            "val_loss": float(1 - 1.5 * share + more),
            "pseudo_dice": [None, None] if epoch == 0 else [float(0.9 * share), None if epoch == 1 else float(share)],
            "learning_rate": 0.01 * (1 - epoch / epochs) ** 0.9,
        }
        for epoch, (share, more) in enumerate(zip(1 - np.exp(-6 * at), rise, strict=True))
    ]


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def known_winner(
    settings: Sequence[tuple[str, str]] = (("phantom", "low"),),
    strategies: Sequence[str] = ("random", "random_fg33", "predictive_entropy", "bald"),
    seeds: Sequence[int] = (1, 2, 3),
    cycles: int = 3,
) -> dict[tuple[str, str], dict[str, dict[int, list[float]]]]:
    """Curves in which each strategy of the list gains 0.03 per cycle more than the one before it, nearly no noise."""
    curves: dict[tuple[str, str], dict[str, dict[int, list[float]]]] = {}
    for place, setting in enumerate(settings):
        curves[setting] = {}
        for order, strategy in enumerate(strategies):
            curves[setting][strategy] = {}
            for seed in seeds:
                generator = np.random.default_rng([place, order, seed])
                base = 0.5 + 0.02 * place + 0.004 * (seed - np.mean(seeds))
                noise = generator.normal(0, 0.001, cycles)
                values = [
                    base + cycle * (0.03 + 0.03 * order) + (noise[cycle] if cycle else 0) for cycle in range(cycles)
                ]
                curves[setting][strategy][seed] = [float(value) for value in values]
    return curves
