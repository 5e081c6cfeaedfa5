"""Raw data sets as they come: nnU-Net raw folders and Medical Segmentation Decathlon folders."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_file_ending

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json
from nnactive_nf.core.labels import Mask
from nnactive_nf.core.names import name_errors

IGNORE = "ignore"  # nnU-Net's name, in `labels`, of the value of voxels that nobody has labelled

# An image's name without its ending: case and channel.
CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})", re.DOTALL)


@dataclass(frozen=True)
class RawCase:
    """One case: its image files (one per channel, or one that holds all channels) and its label file."""

    name: str
    images: tuple[Path, ...]
    label: Path
    free: Path | None = None  # mask of voxels that cost nobody time, not 0 there

    @property
    def labelled(self) -> bool:
        """Whether its label file is there; where people label, it may be missing."""
        return self.label.is_file()


@dataclass(frozen=True)
class RawDataset:
    """A raw data set that was listed, not yet read."""

    folder: Path
    classes: Classes
    channels: tuple[str, ...]
    file_ending: str
    reader: type[BaseReaderWriter]
    cases: tuple[RawCase, ...]
    held_out: tuple[str, ...] = ()  # cases of imagesTs, where that is the test set
    ignore: int | None = None  # value in label files of voxels that nobody has labelled, where there are such

    def label_values(self, case: RawCase) -> Mask:
        """A case's label file `[z, y, x]`: class values, and `classes.ignore_value` where nobody has labelled."""
        label_1zyx, _ = self.reader().read_seg(str(case.label))
        values_zyx = label_1zyx[0]
        if self.ignore is not None:
            values_zyx = np.where(values_zyx == self.ignore, self.classes.ignore_value, values_zyx)
        return values_zyx.astype(self.classes.dtype)  # type: ignore[no-any-return]

    @property
    def nnunet_json(self) -> dict[str, Any]:
        """`dataset.json` for nnU-Net: labels by index, no ignore label, every case's files named."""
        return {
            "channel_names": {str(i): name for i, name in enumerate(self.channels)},
            **self.classes.for_nnunet(ignore=False),
            "file_ending": self.file_ending,
            "numTraining": len(self.cases),
            "overwrite_image_reader_writer": self.reader.__name__,
        }


def list_raw(
    folder: Path, free_masks: Path | None = None, test_folder: bool = False, people: bool = False
) -> RawDataset:
    """List a raw folder as `list_with_problems` does; `UserError` for whatever is wrong, one line each."""
    raw, problems = list_with_problems(folder, free_masks, test_folder, people)
    if problems:
        raise UserError(*problems)
    return raw


def list_with_problems(
    folder: Path, free_masks: Path | None = None, test_folder: bool = False, people: bool = False
) -> tuple[RawDataset, list[str]]:
    """List a raw folder in either layout, whatever is wrong with its cases.

    Args:
        folder: nnU-Net raw or Decathlon folder.
        free_masks: folder of masks `<case><file ending>` on the images' grids, for all cases or some.
        test_folder: list the cases of nnU-Net's `imagesTs` and `labelsTs` too, as `held_out`.
        people: people label, so label files may be missing but in `imagesTs`, and there may be an ignore value.

    Returns:
        The data set with all of its cases, and what is wrong with their names and files, one line each.

    Raises:
        UserError: the folder or its `dataset.json` is missing or cannot be understood, or there is no case in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; --input wants an nnU-Net raw or a Decathlon folder")
    if not (folder / "dataset.json").is_file():
        raise UserError(f"{folder}: no dataset.json in it; --input wants an nnU-Net raw or a Decathlon folder")
    head = read_json(folder / "dataset.json")
    if not isinstance(head, dict) or "labels" not in head:
        raise UserError(f"{folder}/dataset.json: 'labels' is missing")
    if not isinstance(head["labels"], dict):
        raise UserError(f"{folder}/dataset.json: 'labels' wants classes with their values, like {{\"background\": 0}}")
    classes, ignore = _classes(head["labels"], head.get("regions_class_order"), folder)
    if "modality" in head and "training" in head:
        channels, cases, problems = _decathlon(folder, head)
        ending = _ending(cases)
    elif "channel_names" in head and "file_ending" in head:
        channels, cases, problems = _nnunet(folder, head)
        ending = str(head["file_ending"])
    else:
        raise UserError(
            f"{folder}/dataset.json: neither nnU-Net's ('channel_names', 'file_ending') nor the Decathlon's "
            "('modality', 'training') keys are in it"
        )
    if not cases:
        raise UserError(
            *problems or [f"{folder}: no training cases in it; an nnU-Net raw or a Decathlon folder is wanted"]
        )
    test_cases: list[RawCase] = []
    if test_folder:
        test_cases, more = _test_folder(folder, head, channels)
        cases, problems = sorted([*cases, *test_cases], key=lambda case: case.name), problems + more
    problems += _missing_labels(test_cases if people else cases)
    if ignore is not None and not people:
        problems.append(
            f"{folder}/dataset.json: 'labels' has 'ignore', so label files hold voxels without a label: that is for "
            "--oracle people; a study wants whole labels"
        )
    names = [case.name for case in cases]
    problems += [f"case {name}: stands in it twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    problems += [f"{folder}: {line}" for line in name_errors("case", names)]
    reader = _reader(ending, folder)
    cases = _with_free_masks(cases, free_masks, ending)
    held_out = tuple(case.name for case in test_cases)
    return RawDataset(folder, classes, channels, ending, reader, tuple(cases), held_out, ignore), problems


def _classes(labels: Mapping[str, Any], order: Any, folder: Path) -> tuple[Classes, int | None]:
    """Classes and the ignore value, which is no class; nnU-Net wants it to be the highest."""
    # nnU-Net writes name -> value or list of values, the Decathlon value -> name; both may write numbers as text.
    pairs: dict[str, int | Sequence[int]] = {}
    for key, value in labels.items():
        listed: bool = isinstance(value, list)
        swapped = str(key).isdigit() and not str(value).isdigit() and not listed
        name: str = str(value if swapped else key)
        number: Any = key if swapped else value
        if not listed and (isinstance(number, bool) or not str(number).strip().isdecimal()):
            raise UserError(f"{folder}/dataset.json: value of class '{name}' is {number!r}, not a whole number")
        if name in pairs:
            raise UserError(f"{folder}/dataset.json: class '{name}' stands in it twice")
        pairs[name] = number if listed else int(number)
    ignore = pairs.pop(IGNORE, None)
    classes = Classes.of(pairs, f"{folder}/dataset.json", order)
    if ignore is not None and not (isinstance(ignore, int) and ignore > classes.values[-1]):
        raise UserError(
            f"{folder}/dataset.json: 'ignore' is {ignore}; one value above all classes' ({classes.values[-1]} is their "
            "highest) is wanted"
        )
    return classes, ignore


def _channels(folder: Path, head: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = head[key]
    if not isinstance(names, dict) or not names or not all(str(number).isdecimal() for number in names):
        raise UserError(f'{folder}/dataset.json: \'{key}\' wants channels by their numbers, like {{"0": "MRI"}}')
    return tuple(str(names[number]) for number in sorted(names, key=int))


def _decathlon(folder: Path, head: Mapping[str, Any]) -> tuple[tuple[str, ...], list[RawCase], list[str]]:
    channels = _channels(folder, head, "modality")
    cases, problems = [], []
    if not isinstance(head["training"], list):
        raise UserError(f"{folder}/dataset.json: 'training' wants a list of cases with 'image' and 'label'")
    for entry in head["training"]:
        if not isinstance(entry, dict) or not all(isinstance(entry.get(role), str) for role in ("image", "label")):
            problems.append(f"{folder}/dataset.json: an entry of 'training' lacks 'image' or 'label'")
            continue
        image, label = folder / entry["image"], folder / entry["label"]
        name = _without_ending(image.name)
        problems += _missing(name, {"image": image})
        cases.append(RawCase(name, (image,), label))
    return channels, sorted(cases, key=lambda case: case.name), problems


def _nnunet(folder: Path, head: Mapping[str, Any]) -> tuple[tuple[str, ...], list[RawCase], list[str]]:
    channels = _channels(folder, head, "channel_names")
    ending = str(head["file_ending"])
    images: dict[Path, re.Match[str] | None] = {}
    if "dataset" in head:  # nnU-Net's own way to name files elsewhere
        _check_listed(folder, head["dataset"])
        listed = {
            str(name): (tuple(folder / file for file in files["images"]), folder / files["label"])
            for name, files in head["dataset"].items()
        }
    else:
        images, listed = _of_folders(folder, "Tr", ending, len(channels))
    return channels, *_listed_cases(images, listed, len(channels))


# Files of a case: images by channel, label.
_Listed = dict[str, tuple[tuple[Path, ...], Path]]


def _of_folders(
    folder: Path, side: str, ending: str, channels: int
) -> tuple[dict[Path, re.Match[str] | None], _Listed]:
    """The images in `images<side>` with case and channel, and each case's files."""
    images_folder, labels_folder = folder / f"images{side}", folder / f"labels{side}"
    images = {path: CHANNEL.fullmatch(path.name.removesuffix(ending)) for path in _files(images_folder, ending)}
    listed: _Listed = {
        name: (
            tuple(images_folder / f"{name}_{channel:04d}{ending}" for channel in range(channels)),
            labels_folder / f"{name}{ending}",
        )
        for name in sorted({match["case"] for match in images.values() if match})
    }
    for path in _files(labels_folder, ending):
        name = path.name[: -len(ending)]
        if name not in listed:
            listed[name] = ((images_folder / f"{name}_0000{ending}",), path)
    return images, listed


def _listed_cases(
    images: Mapping[Path, re.Match[str] | None], listed: _Listed, channels: int
) -> tuple[list[RawCase], list[str]]:
    problems = _strange_images(images, channels)
    for name, (files, _label) in sorted(listed.items()):
        problems += _missing(name, {f"image of channel {i}": path for i, path in enumerate(files)})
    return [RawCase(name, *files) for name, files in sorted(listed.items())], problems


def _test_folder(folder: Path, head: Mapping[str, Any], channels: Sequence[str]) -> tuple[list[RawCase], list[str]]:
    if "file_ending" not in head:
        raise UserError("--test_cases imagesTs: it wants an nnU-Net raw folder; the Decathlon's imagesTs has no labels")
    ending = str(head["file_ending"])
    cases, problems = _listed_cases(*_of_folders(folder, "Ts", ending, len(channels)), len(channels))
    if not cases:
        problems.append(f"--test_cases imagesTs: the data set has no imagesTs with files *{ending} ({folder}/imagesTs)")
    return cases, problems


def _strange_images(images: Mapping[Path, re.Match[str] | None], channels: int) -> list[str]:
    """Files among the images that no declared channel is read from."""
    problems = []
    for path, match in images.items():
        if match is None:
            problems.append(f"{path.name}: its name does not end in the number of a channel, like _0000 ({path})")
        elif int(match["channel"]) >= channels:
            problems.append(
                f"case {match['case']}: image of channel {int(match['channel'])} is there ({path}), declared are "
                f"{channels} channels, counted from 0 (dataset.json)"
            )
    return problems


def _check_listed(folder: Path, listed: Any) -> None:
    if not isinstance(listed, dict):
        raise UserError(f"{folder}/dataset.json: 'dataset' wants cases by their names, each with 'images' and 'label'")
    for name, files in listed.items():
        images, label = (files.get(role) if isinstance(files, dict) else None for role in ("images", "label"))
        if not isinstance(label, str) or not isinstance(images, list) or not all(isinstance(i, str) for i in images):
            raise UserError(f"{folder}/dataset.json: case '{name}' of 'dataset' wants a list 'images' and a 'label'")


def _with_free_masks(cases: list[RawCase], folder: Path | None, ending: str) -> list[RawCase]:
    if folder is None:
        return cases
    if not folder.is_dir():
        raise UserError(f"free_masks {folder}: no such folder")
    files = {path.name.removesuffix(ending): path for path in _files(folder, ending)}
    strangers = sorted(set(files) - {case.name for case in cases})
    if strangers or not files:
        found = f"{strangers[0]}{ending} belongs to no case" if strangers else f"no file *{ending} in it"
        raise UserError(f"free_masks {folder}: {found}; a mask is named as its case")
    return [replace(case, free=files.get(case.name)) for case in cases]


def _files(folder: Path, ending: str) -> list[Path]:
    # Without hidden files: macOS puts a `._name` beside each.
    paths = sorted(folder.glob(f"*{ending}")) if folder.is_dir() else []
    return [path for path in paths if not path.name.startswith(".")]


def _missing_labels(cases: list[RawCase]) -> list[str]:
    lacking = [case for case in cases if not case.label.is_file()]
    if len(lacking) < 2:
        return [line for case in lacking for line in _missing(case.name, {"label": case.label})]
    first = f"the first is case {lacking[0].name} ({lacking[0].label})"
    return [f"labels are missing for {len(lacking)} of {len(cases)} cases, {first}; a study wants all of them labelled"]


def _missing(case: str, files: Mapping[str, Path]) -> list[str]:
    return [f"case {case}: {role} {_absence(path)} ({path})" for role, path in files.items() if not path.is_file()]


def _absence(path: Path) -> str:
    """A pipe or a device would be waited for, or read, for ever."""
    return "is no file" if path.exists() else "is missing"


def _ending(cases: list[RawCase]) -> str:
    name = cases[0].images[0].name if cases else ".nii.gz"
    return name[len(_without_ending(name)) :]


def _without_ending(name: str) -> str:
    return name[: -len(".nii.gz")] if name.endswith(".nii.gz") else name.rsplit(".", 1)[0]


def _reader(ending: str, folder: Path) -> type[BaseReaderWriter]:
    try:
        return determine_reader_writer_from_file_ending(ending, verbose=False)
    except RuntimeError:
        raise UserError(f"{folder}/dataset.json: nnU-Net has no reader for the file ending '{ending}'") from None
