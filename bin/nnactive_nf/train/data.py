"""What a training reads: images of the labelled cases, their label maps, and where to place a patch."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.labels import Labels


def write_training_folder(
    folder: Path, dataset: Dataset, labels: Labels, patch: tuple[int, ...]
) -> dict[str, list[int]]:
    """Make a folder as nnU-Net's data loader wants it: images linked, label maps and voxel locations written.

    Args:
        folder: an empty folder.
        dataset: the prepared data set.
        labels: label masks; every case in them is trained on.
        patch: the network's patch, for the chunks of the files.

    Returns:
        Class indices with labelled voxels, per case.
    """
    classes_in = {}
    for case in sorted(labels.masks):
        index = dataset.to_network_grid(dataset.classes.to_index(labels.masks[case]))[None].astype(np.int16)
        # nnU-Net's key for "anywhere annotated" is the tuple of all labels with -1 in front.
        keys = [*dataset.classes.foreground, (-1, *range(len(dataset.classes)))]
        properties = dataset.properties(case)
        # Free voxels are background that was labelled for nothing: they count in the loss, but no patch goes there for
        # their sake, or large empty margins would take most of them.
        free = dataset.to_network_grid(dataset.empty_mask(case))[None]
        places = np.where(free, np.int16(dataset.classes.ignore_index), index)
        properties["class_locations"] = DefaultPreprocessor._sample_foreground_locations(places, keys)
        (folder / f"{case}.b2nd").symlink_to(dataset.network_file(case).resolve())
        _write_seg(folder, case, index, patch)
        (folder / f"{case}.pkl").write_bytes(pickle.dumps(properties))
        found = np.unique(index).tolist()
        classes_in[case] = [value for value in found if value < dataset.classes.ignore_index]
    return classes_in


def _write_seg(folder: Path, case: str, index: npt.NDArray[np.int16], patch: tuple[int, ...]) -> None:
    blocks, chunks = comp_blosc2_params(index.shape, patch, index.itemsize)
    nnUNetDatasetBlosc2.save_seg(index, str(folder / f"{case}_seg"), chunks_seg=chunks, blocks_seg=blocks)


class AnnotatedPatchLoader(nnUNetDataLoader):
    """nnU-Net's loader, but a patch not forced to foreground has an annotated voxel anywhere in it.

    nnU-Net centres such a patch on an annotated voxel. Queried patches are smaller than the network's, so their borders
    and surroundings would hardly ever be seen off-centre (design, section 5).
    """

    def get_bbox(
        self, data_shape: Any, force_fg: bool, class_locations: Any, overwrite_class: Any = None, verbose: bool = False
    ) -> tuple[list[int], list[int]]:
        """Lower and upper corner of the next patch, per axis."""
        annotated = None if force_fg else class_locations.get(self.annotated_classes_key)
        if force_fg or annotated is None or len(annotated) == 0:
            return super().get_bbox(data_shape, force_fg, class_locations, overwrite_class, verbose)  # type: ignore[no-any-return]
        voxel = annotated[np.random.choice(len(annotated))][1:]  # noqa: NPY002 (seeded per epoch)
        lower = [
            _start(int(v), int(length), int(size), int(pad))
            for v, length, size, pad in zip(voxel, data_shape, self.patch_size, self.need_to_pad, strict=True)
        ]
        return lower, [start + int(size) for start, size in zip(lower, self.patch_size, strict=True)]


def _start(voxel: int, length: int, size: int, pad: int) -> int:
    """Uniform start of a window of `size` that holds `voxel`, within the padding that nnU-Net allows."""
    pad = max(pad, size - length)
    first, last = -(pad // 2), length + pad // 2 + pad % 2 - size
    low, high = max(first, voxel - size + 1), min(last, voxel)
    return int(np.random.randint(low, high + 1))  # noqa: NPY002 (nnU-Net's loaders draw from numpy's global stream)
