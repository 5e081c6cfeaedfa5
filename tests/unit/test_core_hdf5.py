"""HDF5 files from elsewhere: what points at other files, claims too much, or breaks the library is refused."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.hdf5 import create_hdf5, in_own_process, open_hdf5
from nnactive_nf.core.labels import Labels, each_mask, read_labels, read_mask, read_patches, write_labels

SHAPE = (4, 5, 6)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    classes = Classes(("background", "organ"), (0, 1))
    mask = np.random.default_rng(1).choice(np.array([0, 1, 255], np.uint8), size=SHAPE)
    write_labels(tmp_path / "labels.h5", Labels("x", "n-c00", 0, classes, {"a": mask}, spacings_mm={"a": (1, 1, 1)}))
    return tmp_path / "labels.h5"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Another file of the user's."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["cases/a/mask"] = np.zeros(SHAPE, np.uint8)
    (tmp_path / "secret.raw").write_bytes(b"s3cr3t" * 100)
    return tmp_path / "secret.h5"


def in_place_of_mask(file: h5py.File, **options: object) -> None:
    del file["cases/a/mask"]
    file["cases/a"].create_dataset("mask", **options)


def external_link(file: h5py.File, secret: Path) -> None:
    del file["cases/a"]
    file["cases/a"] = h5py.ExternalLink(str(secret), "cases/a")


def soft_link(file: h5py.File, _: Path) -> None:
    del file["cases/a/mask"]
    file["cases/a/mask"] = h5py.SoftLink("/patches/score")


def external_storage(file: h5py.File, secret: Path) -> None:
    in_place_of_mask(file, shape=SHAPE, dtype="u1", external=[(str(secret.with_suffix(".raw")), 0, 120)])


def virtual(file: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout(SHAPE, "u1")
    layout[...] = h5py.VirtualSource(str(secret), "cases/a/mask", SHAPE)
    del file["cases/a/mask"]
    file["cases/a"].create_virtual_dataset("mask", layout)


def packed(file: h5py.File, _: Path) -> None:
    in_place_of_mask(file, data=np.zeros(SHAPE, np.uint8), chunks=SHAPE, compression="lzf")


def compound(file: h5py.File, _: Path) -> None:
    in_place_of_mask(file, data=np.zeros(3, dtype=[("x", "u1"), ("y", "f4")]))


def reference(file: h5py.File, _: Path) -> None:
    file["cases/a"].attrs["spacing_mm_zyx"] = file["cases/a/mask"].ref


def empty_space(file: h5py.File, _: Path) -> None:
    file.attrs["class_names"] = h5py.Empty("f4")


def claims(*shape: int) -> Callable[[h5py.File, Path], None]:
    return lambda file, _: in_place_of_mask(file, shape=shape, dtype="u1", chunks=(32, 32, 32), compression="gzip")


REFUSED: dict[str, tuple[Callable[[h5py.File, Path], None], str]] = {
    "external link": (external_link, "/cases/a is a link, maybe to another file; links are not followed"),
    "soft link": (soft_link, "/cases/a/mask is a link"),
    "external storage": (external_storage, "/cases/a/mask: its values lie in another file, which is not read"),
    "virtual storage": (virtual, "/cases/a/mask: its values lie in another file, which is not read"),
    "another filter": (packed, "/cases/a/mask: it is packed by a filter that is not used here"),
    "compound values": (compound, "/cases/a/mask: it holds .*, neither numbers nor text"),
    "references": (reference, "attribute 'spacing_mm_zyx' of /cases/a is neither number nor text"),
    "an attribute without a value": (empty_space, "damaged labels file|class values must be whole numbers"),
    "a claim of 909 TiB": (claims(100_000, 100_000, 100_000), "it claims 1000000000000000 bytes where 0 are stored"),
    "a claim of 8 GB": (claims(2000, 2000, 2000), "it claims 8000000000 bytes where 0 are stored"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_file_may_not_hold(name: str, path: Path, secret: Path) -> None:
    breaks, message = REFUSED[name]
    with h5py.File(path, "a") as file:
        breaks(file, secret)
    readers = [read_labels, read_patches, lambda p: read_mask(p, "a"), lambda p: list(each_mask(p, CLASSES))]
    for read in readers[: 3 if name == "an attribute without a value" else 4]:
        with pytest.raises(UserError) as told:
            read(path)
        (line,) = told.value.lines
        assert re.match(f"{path}: .*({message})", line), line


CLASSES = Classes(("background", "organ"), (0, 1))


def test_a_ring_of_groups_is_walked_once(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["cases/a/round"] = file["cases"]
    with open_hdf5(path, "labels", 1) as file:
        assert "round" in file["cases/a"]


def test_shapes_and_types_are_held_against_the_data_set_before_anything_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda *_: pytest.fail("was read"))
    with open_hdf5(path, "labels", 1) as file:
        assert file["cases/a/mask"].shape == SHAPE
    monkeypatch.undo()
    read = h5py.Dataset.__getitem__

    def noted(item: h5py.Dataset, key: object) -> object:
        assert "mask" not in item.name, "was read"
        return read(item, key)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", noted)
    with pytest.raises(UserError, match=r"mask of case a has shape \(4, 5, 6\), the image has \(4, 5, 7\)"):
        read_labels(path, shapes={"a": (4, 5, 7)})
    with pytest.raises(UserError, match=r"mask of case a has shape \(4, 5, 6\), the image has \(4, 5, 7\)"):
        read_mask(path, "a", shape=(4, 5, 7))


@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, 1, np.nan), (-1, 1, 1), (1, np.inf, 1)])
def test_a_voxel_size_is_three_numbers_of_mm(spacing: tuple[float, ...], path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["cases/a"].attrs["spacing_mm_zyx"] = spacing
    with pytest.raises(UserError, match="voxel size of case a is"):
        read_labels(path)


def test_patches_lie_in_the_masks_of_their_cases(tmp_path: Path, path: Path) -> None:
    labels = read_labels(path)
    row = dict.fromkeys(labels.patches, 0) | {"case": "a", "dz": 1, "dy": 1, "dx": 1, "z": 4}
    labels.patches = pd.DataFrame([row]).astype(labels.patches.dtypes.to_dict())
    write_labels(path, labels)
    with pytest.raises(UserError, match=r"patch at \(4, 0, 0\) of size \(1, 1, 1\) in case a lies outside"):
        read_patches(path)
    labels.patches["case"] = "b"
    write_labels(path, labels)
    with pytest.raises(UserError, match="patches of case b are in it, but no mask"):
        read_labels(path)


def test_a_library_that_hangs_or_breaks_down_takes_nobody_along() -> None:
    assert in_own_process(lambda: "", 5) == ""
    assert in_own_process(lambda: "wrong ä", 5) == "wrong ä"
    begin = time.monotonic()
    assert in_own_process(lambda: time.sleep(60) or "", 0.2).endswith("did not come to an end within 0.2 s")
    assert time.monotonic() - begin < 30
    for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL):
        found = in_own_process(lambda number=number: os.kill(os.getpid(), number) or "", 5)
        assert found == "damaged HDF5 file, the HDF5 library broke down over it"
    assert in_own_process(lambda: 1 / 0, 5) == "damaged HDF5 file, the HDF5 library broke down over it"


def test_what_a_block_cannot_read_is_a_damaged_file(tmp_path: Path) -> None:
    with create_hdf5(tmp_path / "x.h5", "labels", 1, {}):
        pass
    with (
        pytest.raises(UserError, match=r"x\.h5: damaged labels file \(.*node"),
        open_hdf5(tmp_path / "x.h5", "labels", 1) as file,
    ):
        _ = file.attrs["node"]


@pytest.mark.parametrize("version", [[1, 1], "1", 1.5, np.nan])
def test_versions_are_numbers(version: object, tmp_path: Path) -> None:
    with create_hdf5(tmp_path / "x.h5", "labels", 1, {}) as file:
        file.attrs["version"] = version
    with pytest.raises(UserError, match="this code reads 1"), open_hdf5(tmp_path / "x.h5", "labels", 1):
        pass
