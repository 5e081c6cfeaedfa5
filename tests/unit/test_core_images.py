"""Voxels are those that nnU-Net reads, of files that are whole: one bit or one byte less, and a file is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_file_ending

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.images import BEHIND_BYTES, _by_nibabel, read_voxels

COMPRESSED = (".nii.gz", ".nrrd", ".mha")


def reader_of(ending: str) -> type[BaseReaderWriter]:
    return determine_reader_writer_from_file_ending(ending, verbose=False)


def written(folder: Path, ending: str, shape: tuple[int, ...] = (20, 24, 28)) -> tuple[Path, np.ndarray]:
    """A file of noise over a slope, compressed where the format can be."""
    rng = np.random.default_rng(3)
    values = (rng.integers(0, 9, shape) + np.arange(shape[-1])).astype(np.int16)
    path = folder / f"a{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path), useCompression=True)
    return path, values


@pytest.mark.parametrize("ending", COMPRESSED)
def test_one_bit_that_has_changed_is_told_or_changes_no_voxel(ending: str, tmp_path: Path) -> None:
    path, values = written(tmp_path, ending)
    whole = path.read_bytes()
    rng = np.random.default_rng(4)
    refused = 0
    for place in [*rng.integers(0, len(whole), 60), *range(len(whole) - 9, len(whole))]:
        content = bytearray(whole)
        content[place] ^= 1 << rng.integers(8)
        path.write_bytes(bytes(content))
        try:
            found = read_voxels(path, reader_of(ending))
        except UserError as error:
            assert str(error).startswith(f"a{ending} ") and "\n" not in str(error)
            refused += 1
        else:  # a remark of the head, or the spacing, which heads tell
            assert found.shape == (1, *values.shape) and (found[0] == values).all(), place
    assert refused > 50


@pytest.mark.parametrize("ending", [*COMPRESSED, ".nii", ".gipl"])
@pytest.mark.parametrize("lacking", [*range(1, 9), 9000])
def test_a_file_that_lacks_its_last_bytes_is_told(ending: str, lacking: int, tmp_path: Path) -> None:
    path, values = written(tmp_path, ending)
    assert (read_voxels(path, reader_of(ending))[0] == values).all()
    path.write_bytes(path.read_bytes()[:-lacking])
    with pytest.raises(UserError, match=f"^a{ending} cannot be read, it may be truncated \\(.+\\)$"):
        read_voxels(path, reader_of(ending))


def test_a_tiff_that_lacks_voxels_is_told(tmp_path: Path) -> None:
    """Its last bytes are remarks."""
    path, values = written(tmp_path, ".tiff")
    whole = path.read_bytes()
    path.write_bytes(whole[:-2])
    assert (read_voxels(path, reader_of(".tiff"))[0] == values).all()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"^a\.tiff cannot be read, it may be truncated"):
        read_voxels(path, reader_of(".tiff"))


def test_a_stream_that_goes_on_behind_its_voxels_is_not_read_to_its_end(tmp_path: Path) -> None:
    path, values = written(tmp_path, ".nii.gz")
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content + bytes(100)))
    assert (read_voxels(path, reader_of(".nii.gz"))[0] == values).all()
    path.write_bytes(gzip.compress(content + bytes(50 * BEHIND_BYTES)))
    with pytest.raises(UserError, match="it goes on behind the 27232 bytes that its head tells"):
        read_voxels(path, reader_of(".nii.gz"))


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_told(ending: str, value: float, tmp_path: Path) -> None:
    values = np.zeros((4, 5, 6), np.float32)
    values[1, 2, 3] = value
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"a{ending}"))
    with pytest.raises(UserError, match=f"^a{ending} holds 1 voxels that are NaN or infinite$"):
        read_voxels(tmp_path / f"a{ending}", reader_of(ending))


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("pixels", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_voxels_are_those_that_nnunet_reads(tmp_path: Path, ending: str, pixels: type) -> None:
    reader = reader_of(ending)
    values = np.random.default_rng(1).normal(60, 20, (4, 5, 6)).astype(pixels)
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    assert _by_nibabel(path) is not None
    images = {path: False}
    if ending == ".nii.gz":  # all channels in one file; slices of one voxel
        for name, image in {
            "b": sitk.JoinSeries([sitk.GetImageFromArray(values), sitk.GetImageFromArray(values[::-1].copy())]),
            "c": sitk.GetImageFromArray(values[:1]),
            "d": sitk.GetImageFromArray(values[0]),
        }.items():
            sitk.WriteImage(image, str(tmp_path / f"{name}{ending}"))
            images[tmp_path / f"{name}{ending}"] = name != "b"
    for path, again in images.items():
        assert (_by_nibabel(path) is None) == again
        read, _ = reader().read_images([str(path)])
        found = read_voxels(path, reader)
        assert found.shape == read.shape
        np.testing.assert_array_equal(found.astype(np.float32), read)


def test_scaled_files_are_left_to_nnunets_reader(tmp_path: Path) -> None:
    reader = reader_of(".nii.gz")
    image = nibabel.Nifti1Image(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    image.header.set_slope_inter(0.1, 7)
    nibabel.save(image, tmp_path / "a.nii.gz")
    assert _by_nibabel(tmp_path / "a.nii.gz") is None
    read, _ = reader().read_images([str(tmp_path / "a.nii.gz")])
    np.testing.assert_array_equal(read_voxels(tmp_path / "a.nii.gz", reader), read)
