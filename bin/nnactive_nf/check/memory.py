"""Memory that each stage's tasks ask for, by the sizes that `nnactive_nf.check.sizes` gives.

The factors were measured on images of 12 million voxels (docs/cluster.md) and hold a margin. V stands for the voxels of
the largest image, C for the number of classes, background included, or of regions.
"""

from __future__ import annotations

from collections.abc import Mapping

GIB = 2**30
SCORES = 512 * 2**20  # QUERY's scores of all classes, which it makes in parts


def memory(sizes: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Bytes that a task of each stage needs: `bytes`, and `each` for as many times as its module says.

    Args:
        sizes: see `nnactive_nf.check.sizes`.

    Returns:
        stage (in small letters) -> `bytes`, `each`. `each` counts the workers of `prepare` and `query` (cores), and the
        folds that `predict` keeps for the map `fold_probability`.
    """
    channels, classes = sizes["channels"], sizes["classes"]
    volume, file = sizes["largest"], sizes["largest_file"]
    predicted = _volumes(channels, classes) * volume
    # the folds' mean logits in float64, on the planned grid (12 C) and on the file's (4 C and 40)
    exported = 12 * classes * volume + (4 * classes + 40) * file
    # calibration, or distances between surfaces in the box of what was predicted, at worst the whole image
    measured = max(8 * classes + 80, 240) * file
    needs = {
        # a case's channels as read, cropped and normalised (22 V); resampled in float64, with the result (30 V)
        "prepare": _need(GIB, GIB + channels * (22 * file + 30 * sizes["largest_resampled"])),
        # all labelled masks; the places of all voxels of an image that is labelled wholly; the network, CUDA and the
        # processes that make batches
        "train": _need(6 * GIB + sizes["pool_voxels"] + 80 * volume),
        # one fold's probabilities and the folds' sum, entropies, weights; every fold in float16 where all are kept
        "predict": _need(1.25 * GIB + predicted, 2 * classes * volume),
        # what PREDICT holds, then one of the two, beside all masks of the test set
        "evaluate": _need(1.25 * GIB + sizes["test_voxels"] + max(predicted, exported, measured)),
        # an image's maps, sums and scores (24 V), scores by class; the image itself, for strategies that look at it
        "query": _need(0.25 * GIB + (8 + 4 * channels) * volume, 24 * volume + min(8 * classes * volume, SCORES)),
        # the image as it is read, its first channel and a copy; two maps
        "views": _need(0.25 * GIB + (16 + 4 * channels) * volume),
        # a map of a case, and the same on the file's grid while it is compressed; or the folds' networks
        "export": _need(GIB + 16 * volume + 32 * file),
        # all that people have labelled, patches and what lies outside of them; a case's files, read and resampled
        "receive": _need(GIB + 2 * sizes["pool_voxels"] + 16 * volume + 32 * file),
        # all labelled masks and one case's true mask
        "annotate": _need(0.5 * GIB + sizes["pool_voxels"] + 8 * volume),
    }
    # one case after the other is prepared, then trained on, beside the process that waits for both
    prepared = needs["prepare"]["bytes"] + needs["prepare"]["each"]
    return needs | {"measure": _need(0.5 * GIB + max(prepared, needs["train"]["bytes"]))}


def _volumes(channels: int, classes: int) -> int:
    """Bytes per voxel: two folds' float32 (one and the sum), eight volumes beside them, the image twice."""
    return 4 * (2 * classes + 8 + 2 * channels)


def _need(all_tasks: float, each: float = 0) -> dict[str, int]:
    return {"bytes": int(all_tasks), "each": int(each)}
