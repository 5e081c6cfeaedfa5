"""How much room a plan takes. How well files pack was measured on Hippocampus and the phantom (docs/planning.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod

from nnactive_nf.core.budget import labelled_patches
from nnactive_nf.forecast.counts import all_tasks
from nnactive_nf.forecast.images import Images, Unknown
from nnactive_nf.forecast.network import Network
from nnactive_nf.forecast.plan import Group, Node, Row

# Bytes of a voxel in PREPARE's images per channel: as they were, or resampled, whose values are no whole numbers.
IMAGE_BYTES = {False: 2.0, True: 3.6}
# Bytes of a voxel in masks and label masks.
MASK_BYTES = 0.02
# Bytes of a data set in an HDF5 file beside its values.
HDF5_BYTES = 5e3
# Bytes of a task's scripts, logs and folders; of Nextflow's reports, and for each task in them.
TASK_BYTES = 45e3
PROTOCOL_BYTES = 3e6
PROTOCOL_BYTES_OF_TASK = 2.5e3
# Bytes of the report, for each trajectory in it, and at most.
REPORT_BYTES = 5.5e6
REPORT_BYTES_OF_TRAJECTORY = 0.35e6
REPORT_BYTES_AT_MOST = 30e6
# Bytes of a training curve, and for each epoch in it; of the measures of a class in a test case.
CURVE_BYTES = 1500
CURVE_BYTES_OF_EPOCH = 170
MEASURES_BYTES = 330
# Bytes of a voxel in a picture of a query: its image, and the map that it was chosen by.
PICTURE_BYTES = {False: 1.0, True: 2.5}
# Of large surroundings a coarser picture is stored; a patch has a margin of at least so many voxels (views/run.py).
PICTURE_LENGTH = 128
PICTURE_MARGIN = 12


@dataclass(frozen=True)
class Part:
    """Bytes of one kind of file in the three places where files lie."""

    name: str
    work: float = 0
    results: float = 0
    store: float = 0


@dataclass(frozen=True)
class Disk:
    """What a plan writes; `maps` are bytes of uncertainty maps, `largest_maps` those of the node that has the most."""

    parts: Sequence[Part]
    maps: float
    largest_maps: float


@dataclass(frozen=True)
class Publishing:
    """What is copied into the results; names as in `nextflow_schema.json`."""

    publish_mode: str
    publish_uncertainty: bool
    publish_models: bool

    @property
    def copies(self) -> bool:
        """Whether published files take room of their own."""
        return self.publish_mode in ("copy", "copyNoFollow")


def disk_of(
    groups: Sequence[Group],
    images: Mapping[str, Images | Unknown],
    networks: Mapping[tuple[str, str], Network],
    publishing: Publishing,
) -> Disk:
    """What a plan writes. Of data sets without images only the networks are known.

    Args:
        groups: the plan.
        images: by data set.
        networks: by (data set, regime).
        publishing: what is copied.
    """
    tasks = all_tasks(groups)
    maps = [
        size for group in groups for size in _maps_by_node(group, images[group.row.dataset], networks[group.row.key])
    ]
    weights = sum(group.trainings * 4 * networks[group.row.key].parameters for group in groups)
    curves = sum(group.trainings * (CURVE_BYTES + CURVE_BYTES_OF_EPOCH * group.row.epochs) for group in groups)
    nodes = sum(_node_bytes(group, node, images[group.row.dataset]) for group in groups for node in group.nodes)
    others = nodes + curves + _report_bytes(groups)
    prepared = sum(_prepared_bytes(seen) for seen in images.values() if isinstance(seen, Images))
    copied = publishing.copies
    parts = [
        Part("prepared images and masks", work=prepared),
        Part("uncertainty maps", sum(maps), results=sum(maps) if copied and publishing.publish_uncertainty else 0),
        Part("networks", results=weights if copied and publishing.publish_models else 0, store=weights + curves),
        Part("labels, pictures, measures, report", others + curves, results=others if copied else 0),
        Part("scripts and logs of tasks", tasks * TASK_BYTES, PROTOCOL_BYTES + tasks * PROTOCOL_BYTES_OF_TASK),
    ]
    return Disk(parts, sum(maps), max(maps, default=0))


def map_bytes(name: str, classes: int, folds: int, network: Network) -> float:
    """Bytes of a voxel of the pool in a map of PREDICT's. Probabilities are in half precision, the rest in single."""
    sizes = {
        "predictive_entropy": 3.4,
        "expected_entropy": 3.4,
        "prediction": 0.2,
        "mean_probability": 1.5 * classes,
        "fold_probability": 1.5 * classes * folds,
        "fold_features": 4.2 * folds * network.feature_width / network.feature_cell,
    }
    return sizes[name]


def _prepared_bytes(images: Images) -> float:
    """Images; masks of classes and of free voxels."""
    voxel = images.channels * IMAGE_BYTES[images.resampled] + 2 * MASK_BYTES
    return images.voxels * voxel + images.cases * 2 * HDF5_BYTES


def _maps_by_node(group: Group, images: Images | Unknown, network: Network) -> Iterable[float]:
    if isinstance(images, Unknown):
        return []
    row = group.row
    pool = 1 - images.test_share
    of_map = {
        name: pool * (images.voxels * map_bytes(name, images.classes, row.folds, network) + images.cases * HDF5_BYTES)
        for name in {name for node in group.nodes for maps in node.asked for name in maps.split(",")}
    }
    return [sum(of_map[name] for maps in node.asked for name in maps.split(",")) for node in group.nodes]


def _node_bytes(group: Group, node: Node, images: Images | Unknown) -> float:
    """A node's labels, query with its pictures, and measures. Where images are unknown, a patch in each case."""
    row = group.row
    patches = labelled_patches(row.start_size, row.query_size, node.cycle)
    if isinstance(images, Unknown):
        measures, pool, labelled, voxels = 0.0, 0.0, float(patches), prod(_patch_in(row, images, 0))
    else:
        pool = (1 - images.test_share) * images.cases
        measures = (images.cases - pool) * images.targets * MEASURES_BYTES
        labelled, voxels = min(patches, pool), images.voxels / images.cases
    if row.whole_pool:
        return measures + pool * (HDF5_BYTES + voxels * MASK_BYTES)
    by_model = any(strategy.name == node.strategy and strategy.needs_model for strategy in row.strategies)
    picture = prod(_coarser(length) for length in _patch_in(row, images, PICTURE_MARGIN))
    pictures = row.view_patches * picture * PICTURE_BYTES[by_model]
    return measures + pictures + labelled * (HDF5_BYTES + voxels * MASK_BYTES)


def _coarser(length: float) -> float:
    return length / max(1, ceil(length / PICTURE_LENGTH))


def _patch_in(row: Row, images: Images | Unknown, least: int) -> tuple[float, ...]:
    """A patch with a margin of its own size, or of `least`, on each side (none for 0), cut at the image."""
    if row.patch_size == "whole_image":
        return (0.0, 0.0, 0.0) if isinstance(images, Unknown) else images.shape_zyx
    patch = [int(length) for length in row.patch_size.split(",")]
    wide = [length + (2 * max(length, least) if least else 0) for length in patch]
    return tuple(wide if isinstance(images, Unknown) else map(min, wide, images.shape_zyx))


def _report_bytes(groups: Sequence[Group]) -> float:
    trajectories = sum(len(group.row.strategies) * len(group.row.seeds) for group in groups)
    return min(REPORT_BYTES_AT_MOST, REPORT_BYTES + REPORT_BYTES_OF_TRAJECTORY * trajectories)
