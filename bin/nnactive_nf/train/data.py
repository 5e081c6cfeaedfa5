"""What a training reads: images of the labelled cases, their label maps, and where to place a patch."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.labels import Labels

# Windows that are tried for one voxel; a turned patch takes a quarter or more of the frame that they are drawn from.
TRIES = 64

Triple = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float64]


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
        Places in `Classes.named` with labelled voxels, per case.
    """
    classes_in = {}
    for case in sorted(labels.masks):
        index = dataset.to_network_grid(dataset.classes.to_index(labels.masks[case]))[None].astype(np.int16)
        # nnU-Net's keys: foreground labels or regions, and for "anywhere annotated" all labels with -1 in front.
        parts = dataset.classes.for_nnunet(ignore=False)["labels"].values()
        keys = [*(part for part in parts if part != 0), (-1, *range(len(dataset.classes)))]
        properties = dataset.properties(case)
        # Free voxels are background that was labelled for nothing: they count in the loss, but no patch goes there for
        # their sake, or large empty margins would take most of them.
        free = dataset.to_network_grid(dataset.empty_mask(case))[None]
        places = np.where(free, np.int16(dataset.classes.ignore_index), index)
        properties["class_locations"] = DefaultPreprocessor._sample_foreground_locations(places, keys)
        (folder / f"{case}.b2nd").symlink_to(dataset.network_file(case).resolve())
        _write_seg(folder, case, index, patch)
        (folder / f"{case}.pkl").write_bytes(pickle.dumps(properties))
        classes_in[case] = dataset.classes.held(labels.masks[case])
    return classes_in


def _write_seg(folder: Path, case: str, index: npt.NDArray[np.int16], patch: tuple[int, ...]) -> None:
    blocks, chunks = comp_blosc2_params(index.shape, patch, index.itemsize)
    nnUNetDatasetBlosc2.save_seg(index, str(folder / f"{case}_seg"), chunks_seg=chunks, blocks_seg=blocks)


class AnnotatedPatchLoader(nnUNetDataLoader):
    """nnU-Net's loader, but a patch not forced to foreground has an annotated voxel anywhere in it.

    nnU-Net centres such a patch on an annotated voxel. Queried patches are smaller than the network's, so their borders
    and surroundings would hardly ever be seen off-centre (design, section 5).

    The loader cuts a window, of which the spatial transform leaves a smaller patch, turned and scaled, for the network.
    The voxel is placed in that patch: how it will be turned is drawn before the window is placed.
    """

    def __init__(self, *args: Any, transforms: ComposeTransforms, **options: Any) -> None:
        steps = [_SpatialAhead(step) if isinstance(step, SpatialTransform) else step for step in transforms.transforms]
        super().__init__(*args, transforms=ComposeTransforms(steps), **options)
        self._spatial = next((step for step in steps if isinstance(step, _SpatialAhead)), None)

    def get_bbox(
        self, data_shape: Any, force_fg: bool, class_locations: Any, overwrite_class: Any = None, verbose: bool = False
    ) -> tuple[list[int], list[int]]:
        """Lower and upper corner of the next window, per axis."""
        annotated = None if force_fg else class_locations.get(self.annotated_classes_key)
        if force_fg or annotated is None or len(annotated) == 0:
            return super().get_bbox(data_shape, force_fg, class_locations, overwrite_class, verbose)  # type: ignore[no-any-return]
        voxel = np.asarray(annotated[np.random.choice(len(annotated))][1:])  # noqa: NPY002 (seeded per epoch)
        window, patch = np.asarray(self.patch_size), np.asarray(self.final_patch_size)
        turn = None if self._spatial is None else self._spatial.draw(window)
        lower, rest = place_window(voxel, np.asarray(data_shape), window, patch, turn)
        if self._spatial is not None and turn is not None:
            self._spatial.shift(rest, window)
        return lower.tolist(), (lower + window).tolist()


def place_window(
    voxel: Triple, shape: Triple, window: Triple, patch: Triple, turn: Matrix | None
) -> tuple[Triple, npt.NDArray[np.float64]]:
    """Lower corner of a window whose final patch shows `voxel`; each such corner is as likely as another.

    Corners are those at which the unturned patch lies in the image, or in its middle along an axis on which the image
    is smaller. Where a turned or magnified patch reaches the voxel from none of them (in a corner of the image, say),
    the window lies as little outside as was found.

    Args:
        voxel: index `[3]` in the image.
        shape: the image's shape `[3]`.
        window: shape `[3]` of what is cut out; the patch lies around its centre.
        patch: shape `[3]` of what the network sees.
        turn: matrix `[3, 3]` from positions in the patch to positions in the window, both from their centres; None
            where the patch is the middle of the window as it is.

    Returns:
        The corner `[3]`, and by how much `[3]` the turned patch is to be shifted in the window, about a voxel at most,
        so that one of its voxels is read right at `voxel`: between its voxels a single one could get lost.
    """
    margin = window // 2 - patch // 2
    first = np.minimum(0, (shape - patch) // 2) - margin
    last = np.maximum(first, shape - patch - margin)
    if turn is None:
        low, high = voxel - margin - patch + 1, voxel - margin
        return _uniform(np.maximum(first, low), np.minimum(last, high), 1)[0], np.zeros(len(voxel))
    offset, middle = voxel - (window - 1) / 2, (patch - 1) / 2

    def in_patch(corners: Triple) -> npt.NDArray[np.float64]:
        return (offset - corners) @ np.linalg.inv(turn).T + middle

    def that_show_it(corners: Triple) -> Triple:
        return corners[(np.abs(in_patch(corners) - middle) <= patch / 2).all(axis=1)]

    # The turned patch may reach beyond the window; what lies in both is seen.
    reach = np.minimum(np.abs(turn) @ middle, (window - 1) / 2)
    low, high = np.ceil(offset - reach).astype(np.int64), np.floor(offset + reach).astype(np.int64)
    corners = that_show_it(_uniform(np.maximum(first, low), np.minimum(last, high), TRIES))
    if len(corners) == 0:
        corners = np.vstack([that_show_it(_uniform(low, high, TRIES)), np.round(offset).astype(np.int64)])
    outside = (np.maximum(first - corners, 0) + np.maximum(corners - last, 0)).sum(axis=1)
    corner = corners[np.argmin(outside)]
    seen = np.clip(np.round(in_patch(corner)), 0, patch - 1)
    return corner, offset - corner - turn @ (seen - middle)


def _uniform(low: Triple, high: Triple, count: int) -> Triple:
    """Corners `[count, 3]` from `low` to `high`, both included; none where there are none."""
    if (low > high).any():
        return np.empty((0, len(low)), np.int64)
    # nnU-Net's loaders draw from numpy's global stream, which is seeded per epoch
    return np.random.randint(low, high + 1, (count, len(low)))  # noqa: NPY002


class _SpatialAhead(BasicTransform):
    """nnU-Net's spatial transform, whose next parameters can be drawn before there is an image."""

    def __init__(self, spatial: SpatialTransform) -> None:
        super().__init__()
        self._spatial = spatial
        self._drawn: dict[str, Any] | None = None

    def draw(self, window: Triple) -> Matrix | None:
        """Draw what comes next for a window `[3]`: the matrix `[3, 3]` of `place_window`, None if nothing is turned.

        Slices, of 2D networks and of patches turned in their plane only, leave the first axis as it is.
        """
        axes = len(self._spatial.patch_size)
        self._drawn = self._spatial.get_parameters(image=torch.empty((1, *window[-axes:]), device="meta"))
        if self._drawn["affine"] is None:
            return None
        turn = np.eye(len(window))
        turn[-axes:, -axes:] = self._drawn["affine"]
        return turn

    def shift(self, by: npt.NDArray[np.float64], window: Triple) -> None:
        """Read what was drawn elsewhere in the window `[3]`, by this many of its voxels `[3]`."""
        assert self._drawn is not None
        grid = self._drawn["grid"]  # as torch's `grid_sample` wants it: last axis first, the window from -1 to 1
        grid += torch.from_numpy((2 * by / window)[: -grid.shape[-1] - 1 : -1].copy()).to(grid.dtype)

    def get_parameters(self, **data: Any) -> dict[str, Any]:
        """What was drawn ahead, for one image; else what nnU-Net draws."""
        drawn, self._drawn = self._drawn, None
        return self._spatial.get_parameters(**data) if drawn is None else drawn  # type: ignore[no-any-return]

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        """As nnU-Net."""
        return self._spatial.apply(data_dict, **params)  # type: ignore[no-any-return]
