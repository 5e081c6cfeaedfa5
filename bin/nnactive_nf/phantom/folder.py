"""Writes the phantom as an nnU-Net raw folder: dataset.json, imagesTr, labelsTr, and the patients in groups.csv."""

from __future__ import annotations

import csv
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import write_json
from nnactive_nf.phantom.variants import DEFAULT_VARIANT, Variant, variant_named
from nnactive_nf.phantom.volumes import CASES_PER_PATIENT, Case, draw_case

FILE_ENDING = ".nii.gz"


def write_phantom(out: Path, seed: int, cases: int, variant: str = DEFAULT_VARIANT) -> None:
    """Write a phantom data set, whole or not at all.

    Args:
        out: folder to make; it must not be there yet.
        seed: the same seed gives the same voxels, and a case is the same for any number of `cases`.
        cases: number of cases; every patient has two.
        variant: a name from `variants.VARIANTS`.

    Raises:
        UserError: `out` is there already, cannot be written, or the variant is unknown.
    """
    kind = variant_named(variant)
    out = Path(out)
    if out.exists():
        raise UserError(f"{out}: is there already and is not overwritten; choose another folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=".part"))
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from None
    try:
        _fill(part, seed, cases, kind)
        part.chmod(0o755)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _fill(folder: Path, seed: int, cases: int, kind: Variant) -> None:
    (folder / "imagesTr").mkdir()
    (folder / "labelsTr").mkdir()
    patients = []
    for number in range(cases):
        name = f"phantom_{number + 1:03d}"
        patient, visit = divmod(number, CASES_PER_PATIENT)
        patients.append((name, f"patient_{patient + 1:03d}"))
        case = draw_case(seed, kind, patient, visit)
        for channel, values in enumerate(case.image):
            _write_volume(folder / "imagesTr" / f"{name}_{channel:04d}{FILE_ENDING}", values, case)
        _write_volume(folder / "labelsTr" / f"{name}{FILE_ENDING}", case.mask_zyx, case)
    with (folder / "groups.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("case", "group"), *patients])
    write_json(
        folder / "dataset.json",
        {
            "name": "phantom",
            "description": f"Generated volumes, seed {seed}. No person was scanned.",
            "channel_names": {str(number): name for number, name in enumerate(kind.channels)},
            "labels": dict(kind.labels),
            **({"regions_class_order": list(kind.regions_class_order)} if kind.regions_class_order else {}),
            "numTraining": cases,
            "file_ending": FILE_ENDING,
        },
        sort_keys=not kind.regions_class_order,
    )


def _write_volume(path: Path, values_zyx: npt.NDArray[Any], case: Case) -> None:
    image = sitk.GetImageFromArray(values_zyx)
    image.SetSpacing(case.spacing_mm_zyx[::-1])
    image.SetOrigin(case.origin_mm_zyx[::-1])
    sitk.WriteImage(image, str(path), useCompression=True)
