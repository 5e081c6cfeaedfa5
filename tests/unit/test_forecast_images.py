"""What FORECAST knows of images, and nnU-Net's plans from that: held against those of PREPARE."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from decathlon import decathlon_head, write_decathlon_head
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from plan import Told, make_row, write_plan

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.heads import Head
from nnactive_nf.core.nnunet import build_network
from nnactive_nf.core.patients import case_groups
from nnactive_nf.core.raw import list_raw
from nnactive_nf.forecast.disk import Publishing
from nnactive_nf.forecast.images import Images, crop, evenly, images_of, readable
from nnactive_nf.forecast.network import network_of
from nnactive_nf.forecast.plan import Row, read_plan
from nnactive_nf.forecast.run import Times, forecast
from nnactive_nf.prepare.check import check_case
from nnactive_nf.prepare.plan import plan
from nnactive_nf.prepare.split import split_pool_test

Triple = tuple[float, float, float]


@pytest.fixture
def row_of(tmp_path: Path) -> Callable[..., Row]:
    """A row as FORECAST reads it."""

    def make(**values: Any) -> Row:
        return read_plan(write_plan(tmp_path / "plan.json", [make_row("random", **values)]))[0].row

    return make


def same_network(row: Row, images: Any, plans: dict[str, Any], channels: int, classes: int) -> None:
    """FORECAST's network is the one that nnU-Net builds from these plans."""
    assert isinstance(images, Images)
    told, planned = (each["configurations"][row.configuration] for each in (images.plans, plans))
    for name in ("patch_size", "batch_size", "architecture"):
        assert told[name] == planned[name], name
    assert told["spacing"] == pytest.approx(planned["spacing"], rel=0.05)  # PREPARE plans from the pool alone
    built = build_network(PlansManager(plans).get_configuration(row.configuration), channels, classes, True)
    found = network_of(row, images)
    assert found.parameters == sum(parameter.numel() for parameter in built.parameters())
    assert sorted(found.patch) == sorted(plans["configurations"][row.configuration]["patch_size"])


def test_plans_of_the_phantom_are_those_of_prepare(phantom: Path, prepared: Path, row_of: Callable[..., Row]) -> None:
    dataset = Dataset.open(prepared / "prepared")
    for configuration in ("3d_fullres", "2d"):
        row = row_of(source="phantom", phantom_cases=8, configuration=configuration)
        images = images_of(row, phantom)
        same_network(row, images, dataset.plans, len(dataset.channels), len(dataset.classes.names))
    row = row_of(source="phantom", phantom_cases=8)
    images = images_of(row, phantom)
    assert isinstance(images, Images)
    assert images.voxels == pytest.approx(sum(prod(shape) for shape in dataset.shapes.values()), rel=0.1)
    assert images.shape_zyx == pytest.approx(np.median(list(dataset.shapes.values()), axis=0), abs=2)
    # What stands in a row is what is trained
    small = network_of(row_of(train_patch_size="16,32,32", features=8, batch_size=5), images)
    assert (small.patch, small.batch_size) == ((16, 32, 32), 5)
    assert small.parameters < network_of(row, images).parameters / 10


@pytest.mark.hippocampus
def test_plans_of_hippocampus_are_those_of_prepare(hippocampus: Path, row_of: Callable[..., Row]) -> None:
    raw = list_raw(hippocampus)
    facts = [check_case(raw, case, 100) for case in raw.cases]
    groups = case_groups([fact.name for fact in facts], None, None)
    split = split_pool_test(
        groups, {fact.name: fact.class_voxels for fact in facts}, raw.classes.names, test_fraction=0.25, seed=12345
    )
    pool = [fact for fact in facts if split[fact.name] == "pool"]
    row = row_of()
    images = images_of(row, hippocampus)
    same_network(row, images, plan(raw, pool, "3d_fullres", "Hippocampus"), len(raw.channels), len(raw.classes))
    assert isinstance(images, Images)
    assert (images.cases, images.heads, images.read) == (200, 200, 200)
    assert not images.resampled


def test_the_networks_size_is_that_of_one_with_weights(row_of: Callable[..., Row]) -> None:
    """As nnU-Net makes it for training, on the CPU."""
    row = row_of(train_patch_size="32,32,32", features=4)
    found = network_of(row, images_of(row, None))
    assert found.feature_width == 4 * 2**2
    assert found.feature_cell == (2**2) ** 3  # 32 -> 16 -> 8 -> 4 voxels: four stages, the last but one is the third
    assert not torch.empty(0).is_meta  # nothing is left behind


def raw_folder(folder: Path, images: list[tuple[tuple[int, int, int], Triple]], ending: str, air: int = 0) -> Path:
    """A Decathlon folder of two channels; sizes and spacings are (z, y, x), `air` is a rim of zeros."""
    labels = {0: "background", 1: "a", 2: "b"}
    cases = [f"c{i}" for i in range(len(images))]
    write_decathlon_head(folder, decathlon_head(cases, labels, ("T1", "T2"), ending))
    for case, (shape, spacing) in zip(cases, images, strict=True):
        values = np.zeros((*shape, 2), np.uint8)
        inside = tuple(slice(air, length - air) for length in shape)
        values[inside] = 1
        for name, array in (("imagesTr", values), ("labelsTr", values[..., 0])):
            image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
            if name == "imagesTr":
                image = sitk.JoinSeries([sitk.VectorIndexSelectionCast(image, channel) for channel in range(2)])
            image.SetSpacing((*spacing[::-1], *([1.0] if name == "imagesTr" else [])))
            sitk.WriteImage(image, str(folder / name / f"{case}{ending}"))
    return folder


# One case thinner: nnU-Net plans the 10th percentile of the thickness, 2.4 mm
THICK = [((20, 100, 80), (4.0, 1.0, 1.0)), ((20, 100, 80), (4.0, 1.0, 1.0)), ((40, 100, 80), (2.0, 1.0, 1.0))]


def test_images_of_several_kinds_and_the_disk_that_they_take(tmp_path: Path, phantom: Path) -> None:
    folders = {
        "one": raw_folder(tmp_path / "one", THICK, ".nii.gz"),
        "mha": raw_folder(tmp_path / "mha", [((20, 20, 20), (1.0, 1.0, 1.0))] * 3, ".mha"),
        "broken": raw_folder(tmp_path / "broken", [((20, 20, 20), (1.0, 1.0, 1.0))] * 2, ".nii.gz"),
        "four": phantom,
        "empty": tmp_path,
    }
    (tmp_path / "broken/imagesTr/c1.nii.gz").write_bytes(b"no image")
    rows = [
        make_row("random,bald", dataset=name, cycles=2, folds=2, **{"folder": f"/data/{name}", **values})
        for name, values in {
            "one": {},
            "mha": {"input": "mha"},
            "broken": {},
            "three": {"source": "download", "input": "msd:Spleen", "configuration": "2d"},
            "four": {"source": "phantom", "phantom_cases": 20},
            "there": {"folder": "s3://bucket/there"},
            "empty": {},
        }.items()
    ]
    path = write_plan(tmp_path / "plan.json", rows)
    told = Told(forecast(path, folders, Times(None, None, None, (1,)), Publishing("copy", True, False)))

    lines = {line.split()[0]: line for line in told.text.partition("\nImages\n")[2].partition("\n\n")[0].splitlines()}
    assert "3 cases of about 33 x 100 x 80 voxels, channels 2, classes 3; networks of" in lines["one"]
    assert "3 cases of about 20 x 20 x 20 voxels" in lines["mha"]
    assert "not known: c1.nii.gz cannot be read, it may be truncated" in lines["broken"]
    assert "not known: msd:Spleen is still to be downloaded; networks of" in lines["three"]
    assert "20 cases of about" in lines["four"]
    assert "not known: s3://bucket/there is not on this machine" in lines["there"]
    assert "not known: no dataset.json in /data/empty" in lines["empty"]
    assert "Not in it, for lack of images: images and maps of broken, three, there, empty." in told.text
    assert told.tasks()["DOWNLOAD"] == told.tasks()["PHANTOM"] == 1
    assert told.tables["Training"]["three"]["patch"] == "256 x 256"

    # Two channels, all resampled; as they are; and the phantom, scaled up from 8 cases
    voxels, plain, of_phantom = 3 * 33 * 100 * 80, 3 * 20**3, 20 * 25 * 42 * 38
    expected = voxels * (2 * 3.6 + 0.04) + plain * (2 * 2.0 + 0.04) + of_phantom * (3.6 + 0.04) + (3 + 3 + 20) * 1e4
    assert told.amount("Disk", "prepared images and masks", "work") == pytest.approx(expected, rel=0.05)
    # BALD wants both entropies of the node at cycle 0
    maps = 0.75 * (voxels + plain + of_phantom) * 2 * 3.4
    assert told.amount("Disk", "uncertainty maps", "work") == pytest.approx(maps, rel=0.1)
    assert told.amount("Disk", "uncertainty maps", "results") == told.amount("Disk", "uncertainty maps", "work")


def test_air_is_cut_off_as_nnunet_does(tmp_path: Path, row_of: Callable[..., Row]) -> None:
    folder = raw_folder(tmp_path / "one", [((20, 30, 40), (1.0, 1.0, 1.0))] * 3, ".nii.gz", air=5)
    images = images_of(row_of(), folder)
    assert isinstance(images, Images)
    assert images.shape_zyx == (10, 20, 30)
    assert images.voxels == 3 * 10 * 20 * 30


def test_of_large_images_a_few_stand_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = raw_folder(tmp_path / "one", [((20, 30, 40), (1.0, 1.0, 1.0))] * 4, ".nii.gz", air=5)
    dataset = list_raw(folder)
    heads = [Head(2, (20, 30, 40), (1.0, 1.0, 1.0))] * 3 + [Head(2, (40, 30, 40), (1.0, 1.0, 1.0))]
    monkeypatch.setattr("nnactive_nf.forecast.images.VOXELS_READ", 2 * 30_000)
    assert readable(heads) == 2
    assert [head.shape_zyx for head in crop(heads, dataset.cases, dataset)] == [(10, 20, 30)] * 3 + [(20, 20, 30)]
    monkeypatch.setattr("nnactive_nf.forecast.images.VOXELS_READ", 100)
    assert crop(heads, dataset.cases, dataset) == heads
    assert evenly(range(10), 3) == [0, 3, 6]


def test_a_given_test_set_is_what_the_pool_goes_by(phantom: Path, row_of: Callable[..., Row]) -> None:
    drawn, given = (images_of(row_of(held_out=names), phantom) for names in ([], ["a", "b", "c"]))
    assert isinstance(drawn, Images) and isinstance(given, Images)
    assert (drawn.held_out, drawn.test_share, given.held_out, given.test_share) == (0, 0.25, 3, 3 / 8)


def test_a_configuration_that_nnunet_does_not_plan_is_named(phantom: Path, row_of: Callable[..., Row]) -> None:
    with pytest.raises(UserError, match="one: configuration 3d_lowres: nnU-Net plans none for these images"):
        images_of(row_of(source="phantom", configuration="3d_lowres"), phantom)
    row = row_of(configuration="3d_lowres")  # which may be, where nobody knows the images
    assert network_of(row, images_of(row, None)).patch == (128, 128, 128)


def test_sizes_that_the_pool_cannot_give_are_refused(phantom: Path, tmp_path: Path) -> None:
    """As CHECK does: patients that are not known may leave a larger pool, a given test set leaves what it leaves."""
    held_out = {"held_out": ["a", "b", "c"], "test_cases": "test.txt", "group_pattern": "(.*)"}
    for patients, most in (({}, 2 * 6), ({"group_pattern": "(.*)"}, 2 * 7), (held_out, 2 * 5)):
        row = make_row(
            "random",
            start_size=4,
            query_size=most + 1,
            patches_per_image=2,
            folds=2,
            where="study.csv, row 1",
            **patients,
        )
        plan = write_plan(tmp_path / "plan.json", [row])
        with pytest.raises(UserError) as refused:
            forecast(plan, {"one": phantom}, Times(None, None, None, (1,)), Publishing("copy", False, False))
        (line,) = refused.value.lines
        assert line.startswith(f"study.csv, row 1: query_size {most + 1}: the pool can give {most} patches at most")
