"""Segmentations that nnU-Net wrote, with the values of the user's own label files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_file_ending

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.heads import one_line
from nnactive_nf.core.image_files import write_segmentation
from nnactive_nf.core.label_values import read_label_values


def relabel(labels: Path, source: Path, target: Path) -> int:
    """Write each segmentation of a folder anew, class indices replaced by the label files' values.

    Args:
        labels: `labels.json` of the model folder.
        source: folder of nnU-Net's segmentations, which is left alone.
        target: folder to make.

    Returns:
        How many files were written.

    Raises:
        UserError: there are no such files, one cannot be read, or one holds values that are no class index.
    """
    classes, ending = read_label_values(labels)
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    if source.resolve() == target.resolve():
        raise UserError(f"{target}: is the folder of the segmentations themselves; give another")
    paths = sorted(path for path in source.glob(f"*{ending}") if not path.name.startswith("."))
    if not paths:
        raise UserError(f"{source}: no file *{ending} in it")
    reader = determine_reader_writer_from_file_ending(ending, verbose=False)
    for path in paths:
        try:
            index_1zyx, properties = reader().read_seg(str(path))
        except Exception as error:  # each library raises kinds of its own
            raise UserError(f"{path}: cannot be read, it may be truncated ({one_line(error)})") from None
        unknown = sorted(set(np.unique(index_1zyx).tolist()) - set(range(len(classes))))
        if unknown:
            raise UserError(f"{path}: holds {unknown[0]:g}, and {labels} knows 0 to {len(classes) - 1}")
        write_segmentation(target / path.name, classes.to_value(index_1zyx[0].astype(np.int64)), reader, properties)
    return len(paths)
