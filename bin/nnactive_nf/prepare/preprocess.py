"""Preprocessing of one case by nnU-Net: crop, normalise, resample; once, for all cycles."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import numpy.typing as npt
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnactive_nf.core.files import whole_file
from nnactive_nf.core.label_grid import labels_to_network_grid, resampled_in_part
from nnactive_nf.core.planning import planned_spacing
from nnactive_nf.core.raw import RawCase, RawDataset


@dataclass(frozen=True)
class PreparedCase:
    """What preprocessing leaves behind beside the image file.

    Masks are kept compressed, for those of all cases are in memory at once.

    Attributes:
        name: the case.
        mask: label values on the image grid, `Classes.ignore_value` where nobody has labelled; all background, and of
            no use, where there is no label file.
        empty: 1 in voxels of the image grid outside the filled mask of non-zero voxels, or in the user's free mask.
        original_mask: label values on the file's own grid.
        shape_zyx: shape of the image grid.
        spacing_mm: its voxel size (z, y, x).
        digest: SHA-256 of the preprocessed image and the free mask.
    """

    name: str
    mask: bytes
    empty: bytes
    original_mask: bytes
    shape_zyx: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    digest: str


def preprocess_case(
    raw: RawDataset, case: RawCase, plans: dict[str, Any], configuration: str, folder: Path
) -> PreparedCase:
    """Preprocess one case; writes `<case>.b2nd` (image) and `<case>.pkl` (nnU-Net's properties) to `folder`.

    The label goes through nnU-Net's resampling too, but only to the oracle: nothing of it, foreground locations
    included, is left in the folder that trainings read.
    """
    manager = PlansManager(plans)
    settings = manager.get_configuration(configuration)
    image_czyx, properties = raw.reader().read_images([str(path) for path in case.images])
    values_zyx = _label_values(raw, case, image_czyx.shape[1:])
    known_zyx = values_zyx != raw.classes.ignore_value
    index_1zyx = raw.classes.to_index(np.where(known_zyx, values_zyx, raw.classes.values[0]))[None]
    data, index, properties = settings.preprocessor_class(verbose=False).run_case_npy(
        image_czyx, index_1zyx, properties, manager, settings, raw.nnunet_json
    )
    del properties["class_locations"]
    data = data.astype(np.float32, copy=False)
    _save(folder, case.name, data, properties, tuple(settings.patch_size))
    free = _free_voxels(raw, case, manager, settings, properties, data.shape[1:])
    back = manager.transpose_backward
    index_zyx = index[0].transpose(back)
    mask_zyx = raw.classes.to_value(np.maximum(index_zyx, 0))
    if not known_zyx.all():
        on_grid = partial(
            labels_to_network_grid, properties=properties, manager=manager, settings=settings, shape=data.shape[1:]
        )
        mask_zyx = resampled_in_part(values_zyx, raw.classes, lambda labels: on_grid(labels)[0].transpose(back))
    return PreparedCase(
        name=case.name,
        mask=pack(mask_zyx),
        empty=pack(((index_zyx == -1) | free[0].transpose(back).astype(bool)).astype(np.uint8)),
        original_mask=pack(values_zyx),
        shape_zyx=tuple(int(n) for n in index_zyx.shape),
        spacing_mm=planned_spacing(plans, configuration, properties["spacing"]),
        digest=_digest(data, free),
    )


def _label_values(raw: RawDataset, case: RawCase, shape_zyx: tuple[int, ...]) -> npt.NDArray[np.unsignedinteger]:
    if not case.labelled:
        return np.full(shape_zyx, raw.classes.values[0], dtype=raw.classes.dtype)
    return raw.label_values(case)


def pack(mask_zyx: npt.NDArray[np.unsignedinteger]) -> bytes:
    """A mask as compressed bytes."""
    return bytes(blosc2.pack_array2(np.ascontiguousarray(mask_zyx)))


def unpack(packed: bytes) -> npt.NDArray[np.unsignedinteger]:
    """A mask `[z, y, x]` that `pack` compressed."""
    return np.asarray(blosc2.unpack_array2(packed))


def _digest(*arrays: npt.NDArray[Any]) -> str:
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.shape} {array.dtype.str} ".encode() + np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def _free_voxels(
    raw: RawDataset,
    case: RawCase,
    manager: PlansManager,
    settings: ConfigurationManager,
    properties: dict[str, Any],
    shape: tuple[int, ...],
) -> npt.NDArray[np.uint8]:
    """The user's free mask `[1, ...]` on the network grid, on the way that labels take; all 0 where there is none."""
    if case.free is None:
        return np.zeros((1, *shape), dtype=np.uint8)
    mask_zyx = (raw.reader().read_seg(str(case.free))[0][0] != 0).astype(np.int8)
    return labels_to_network_grid(mask_zyx, properties, manager, settings, shape).astype(np.uint8)


def _save(
    folder: Path, name: str, data: npt.NDArray[np.float32], properties: dict[str, Any], patch: tuple[int, ...]
) -> None:
    blocks, chunks = comp_blosc2_params(data.shape, patch, data.itemsize)
    no_seg = np.zeros((1, 1, 1, 1), dtype=np.int8)
    stem = folder / name
    nnUNetDatasetBlosc2.save_case(
        data,
        no_seg,
        properties,
        str(stem),
        chunks=chunks,
        blocks=blocks,
        chunks_seg=no_seg.shape,
        blocks_seg=no_seg.shape,
    )
    (folder / f"{name}_seg.b2nd").unlink()
    with whole_file(folder / f"{name}.pkl") as temporary:
        temporary.write_bytes(pickle.dumps(properties))
