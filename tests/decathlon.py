"""The head of a Decathlon folder, for tests that fill it as far as they need."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

LABELS = {0: "background", 1: "a"}


def decathlon_head(
    cases: Iterable[str],
    labels: Mapping[int, str] = LABELS,
    channels: Sequence[str] = ("MRI",),
    ending: str = ".nii.gz",
) -> dict[str, Any]:
    """`dataset.json` as the Decathlon writes it: images in `imagesTr`, labels of the same names in `labelsTr`."""
    return {
        "modality": {str(i): name for i, name in enumerate(channels)},
        "labels": {str(value): name for value, name in labels.items()},
        "training": [{"image": f"./imagesTr/{case}{ending}", "label": f"./labelsTr/{case}{ending}"} for case in cases],
    }


def write_decathlon_head(folder: Path, head: Mapping[str, Any]) -> Path:
    """Make a folder with `imagesTr`, `labelsTr` and this `dataset.json`."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(head))
    return folder
