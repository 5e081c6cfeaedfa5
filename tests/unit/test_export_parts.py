"""EXPORT's parts on tiny data: maps as NIfTI, label values, raw folders, and what a results folder is asked for."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tiny
from click.testing import CliRunner

from nnactive_nf.core.classes import Classes
from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json, write_json
from nnactive_nf.core.geometry import Box
from nnactive_nf.core.grid import CaseGrid
from nnactive_nf.core.label_values import read_label_values, write_label_values
from nnactive_nf.core.labels import Labels, write_labels
from nnactive_nf.export.labels import write_label_maps, write_raw_folder
from nnactive_nf.export.maps import write_maps
from nnactive_nf.export.model import write_model
from nnactive_nf.export.relabel import relabel
from nnactive_nf.export.sources import Results

COMMAND = runpy.run_path(str(Path(__file__).parents[2] / "bin" / "export.py"))["main"]
SHAPE = (4, 5, 6)
# Cropped, and twice as fine as the image grid along z.
TURNED = (0, 1, 0, 1, 0, 0, 0, 0, -1)
GRID = CaseGrid(SHAPE, Box((1, 0, 2), (8, 5, 6)), (10, 5, 9), (0.5, 1.0, 1.0), (5.0, 6.0, 7.0), TURNED)


def voxels(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return tiny.prepared(tmp_path / "prepared", {"a": SHAPE, "b": SHAPE, "t": SHAPE}, test=["t"])


def test_maps_lie_on_the_files_grid(dataset: Dataset, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    mean = rng.dirichlet([1, 1, 1], SHAPE).transpose(3, 0, 1, 2)
    maps = {
        "predictive_entropy": np.full(SHAPE, 0.75, np.float32), "expected_entropy": np.full(SHAPE, 0.5, np.float32),
        "prediction": mean.argmax(0).astype(np.uint8), "mean_probability": mean.astype(np.float16),
    }  # fmt: skip
    path = tiny.uncertainty(tmp_path / "uncertainty_0.h5", dataset, {"a": maps})
    out = tmp_path / "maps"
    assert write_maps(out, [path], {"a": GRID}, tiny.CLASSES) == 7
    names = ("predictive_entropy", "expected_entropy", "mutual_information", "prediction", *(
        f"mean_probability_{index}" for index in range(3)
    ))  # fmt: skip
    assert {file.name for file in out.iterdir()} == {f"a_{name}.nii.gz" for name in names}
    image = sitk.ReadImage(str(out / "a_mutual_information.nii.gz"))
    assert image.GetOrigin() == GRID.origin_mm and image.GetSpacing() == GRID.file_spacing_mm[::-1]
    np.testing.assert_allclose(image.GetDirection(), GRID.direction, atol=1e-6)
    cropped = np.zeros(GRID.file_shape_zyx, bool)
    cropped[GRID.crop.slices] = True
    information = sitk.GetArrayFromImage(image)
    np.testing.assert_allclose(information[cropped], 0.25)
    assert (information[~cropped] == 0).all()
    prediction = voxels(out / "a_prediction.nii.gz")
    np.testing.assert_array_equal(prediction[1:9:2, :, 2:8], np.array(tiny.CLASSES.values)[maps["prediction"]])
    assert (prediction[~cropped] == 0).all()
    total = sum(voxels(out / f"a_mean_probability_{index}.nii.gz") for index in range(3))
    np.testing.assert_allclose(total, 1, atol=2e-3)
    assert (voxels(out / "a_mean_probability_0.nii.gz")[~cropped] == 1).all()
    with pytest.raises(UserError, match="is of 3 classes, the data set has 2"):
        write_maps(out, [path], {"a": GRID}, tiny.classes(2))


def test_label_values_come_back(tmp_path: Path) -> None:
    classes = Classes(("background", "liver", "tumour"), (0, 2, 7))
    write_label_values(tmp_path / "labels.json", classes, ".nii.gz")
    assert read_label_values(tmp_path / "labels.json") == (classes, ".nii.gz")
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    index = np.random.default_rng(1).integers(0, 3, SHAPE).astype(np.uint8)
    image = sitk.GetImageFromArray(index)
    image.SetOrigin((1.0, 2.0, 3.0))
    sitk.WriteImage(image, str(source / "a.nii.gz"))
    (source / "dataset.json").write_text("{}")  # nnU-Net leaves such files beside
    assert relabel(tmp_path / "labels.json", source, target) == 1
    np.testing.assert_array_equal(voxels(target / "a.nii.gz"), np.array([0, 2, 7])[index])
    assert sitk.ReadImage(str(target / "a.nii.gz")).GetOrigin() == (1.0, 2.0, 3.0)
    np.testing.assert_array_equal(voxels(source / "a.nii.gz"), index)


def test_what_cannot_be_relabelled_is_told(tmp_path: Path) -> None:
    labels, source = tmp_path / "labels.json", tmp_path / "in"
    write_json(labels, {})
    with pytest.raises(UserError, match="not a table of label values"):
        relabel(labels, source, tmp_path)
    write_label_values(labels, tiny.classes(2), ".nii.gz")
    with pytest.raises(UserError, match="no such folder"):
        relabel(labels, source, tmp_path)
    source.mkdir()
    with pytest.raises(UserError, match="is the folder of the segmentations themselves"):
        relabel(labels, source, source)
    with pytest.raises(UserError, match=r"no file \*\.nii\.gz in it"):
        relabel(labels, source, tmp_path)
    (source / "a.nii.gz").write_text("no image")
    with pytest.raises(UserError, match="cannot be read, it may be truncated"):
        relabel(labels, source, tmp_path)
    sitk.WriteImage(sitk.GetImageFromArray(np.full(SHAPE, 5, np.uint8)), str(source / "a.nii.gz"))
    with pytest.raises(UserError, match=r"holds 5, and .*labels\.json knows 0 to 1"):
        relabel(labels, source, tmp_path)


def test_a_raw_folder_takes_images_apart(tmp_path: Path) -> None:
    """A Decathlon folder, whose images hold both channels in one file."""
    raw = tmp_path / "Task"
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    both = np.random.default_rng(1).integers(1, 99, (2, *GRID.file_shape_zyx)).astype(np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(both, isVector=False), str(raw / "imagesTr" / "a.nii.gz"))
    sitk.WriteImage(sitk.GetImageFromArray(both[0].astype(np.uint8)), str(raw / "labelsTr" / "a.nii.gz"))
    write_json(raw / "dataset.json", {
        "modality": {"0": "T1", "1": "T2"}, "labels": {"0": "background", "2": "head", "7": "tail"},
        "training": [{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}],
    })  # fmt: skip
    mask = np.full(SHAPE, 255, np.uint8)
    mask[0], mask[1] = 2, 7
    write_labels(tmp_path / "l.h5", Labels("x", "x-c00", 0, tiny.CLASSES, {"a": mask}))
    out = tmp_path / "out"
    assert write_raw_folder(out, tmp_path / "l.h5", {"a": GRID}, raw) == 1
    for channel in range(2):
        np.testing.assert_array_equal(voxels(out / "imagesTr" / f"a_000{channel}.nii.gz"), both[channel])
    labels = voxels(out / "labelsTr" / "a.nii.gz")
    assert (labels[1:3, :, 2:8] == 1).all() and (labels[3:5, :, 2:8] == 2).all() and (labels[5:] == 3).all()
    assert read_json(out / "dataset.json")["channel_names"] == {"0": "T1", "1": "T2"}
    write_labels(tmp_path / "l.h5", Labels("x", "x-c00", 0, tiny.CLASSES, {"b": mask}))
    with pytest.raises(UserError, match=r"case b of .* is not in it"):
        write_raw_folder(tmp_path / "other", tmp_path / "l.h5", {"b": GRID}, raw)
    with pytest.raises(UserError, match="the table of cases has None"):
        write_label_maps(tmp_path / "other", tmp_path / "l.h5", {"a": GRID})


def test_a_model_of_other_classes_or_folds_is_told(dataset: Dataset, tmp_path: Path) -> None:
    paths = tiny.checkpoints(tmp_path / "folds", dataset, 2, patch=(4, 4, 4), features=2)
    with pytest.raises(UserError, match=r"trained on the classes \['background', 'head', 'tail'\], not"):
        write_model(tmp_path / "model", paths, tiny.classes(3), "x", 0.5, True)
    other = tiny.checkpoints(tmp_path / "others", dataset, 1, patch=(4, 4, 8), features=2)
    with pytest.raises(UserError, match="other plans or classes than the first fold"):
        write_model(tmp_path / "model", [paths[0], *other], dataset.classes, "x", 0.5, True)
    assert not (tmp_path / "model").exists()
    write_model(tmp_path / "model", paths, dataset.classes, "x", 0.5, True)
    text = (tmp_path / "model" / "predict.md").read_text()
    assert "| tail | 2 | 7 |" in text and "`CASE_0000.nii.gz` (channel 0)" in text and "-f 0 1 -step_size 0.5\n" in text


def test_results_are_asked_by_node_or_trajectory(dataset: Dataset, tmp_path: Path) -> None:
    results = tmp_path / "results"
    for node in ("tiny-main-s1-c00", "tiny-main-bald-s1-c01", "tiny-main-bald-s1-c10", "tiny-main-bald-s11-c01"):
        trajectory, cycle = node.rsplit("-", 1)
        path = results / "labels" / trajectory / f"labels_{cycle}.h5"
        write_labels(path, Labels("tiny", node, int(cycle[1:]), dataset.classes))
    (results / "cases_tiny.csv").write_bytes((dataset.folder / "cases.csv").read_bytes())
    assert Results.of(results, "tiny-main-bald-s1").node == "tiny-main-bald-s1-c10"
    found = Results.of(results, "tiny-main-bald-s1-c01")
    assert found.node == "tiny-main-bald-s1-c01" and found.classes == dataset.classes
    assert found.cases_of("pool") == ["a", "b"] and found.cases_of("test") == ["t"]
    assert set(found.grids) == {"a", "b", "t"}
    models = results / "models" / found.node
    for fold in range(11):
        path = models / f"fold_{fold}" / "checkpoint.pth"
        path.parent.mkdir(parents=True)
        path.touch()
    assert [path.parent.name for path in found.checkpoints(None)] == [f"fold_{fold}" for fold in range(11)]
    with pytest.raises(UserError, match="no training of tiny-main-s1-c00 is recorded"):
        Results.of(results, "tiny-main-s1").checkpoints(None)
    with pytest.raises(UserError, match="no results of a run"):
        Results.of(tmp_path, "x")


def test_the_command_exports_queries_and_maps_of_results(dataset: Dataset, tmp_path: Path) -> None:
    results, node = tmp_path / "results", "tiny-main-bald-s1-c01"
    write_labels(results / "labels" / node[:-4] / "labels_c01.h5", Labels("tiny", node, 1, dataset.classes))
    (results / "cases.csv").write_bytes((dataset.folder / "cases.csv").read_bytes())
    queries = results / "queries" / node[:-4]
    queries.mkdir(parents=True)
    for cycle in (1, 2):
        (queries / f"query_c0{cycle}.csv").write_text(
            "rank,case,z,y,x,dz,dy,dx,score,component\n1,a,0,1,2,2,2,2,0,all\n"
        )
    maps = {"a": {"predictive_entropy": np.ones(SHAPE, np.float32)}}
    tiny.uncertainty(results / "uncertainty" / node / "uncertainty_0.h5", dataset, maps)

    def export(what: str, out: Path):
        return CliRunner().invoke(
            COMMAND, ["--what", what, "--results", str(results), "--node", node[:-4], "--out", str(out)]
        )

    done = export("queries", tmp_path / "q")
    assert done.exit_code == 0 and node in done.stdout, done.output
    assert {path.relative_to(tmp_path / "q").as_posix() for path in (tmp_path / "q").rglob("*.*")} == {
        "query_c01_mm.csv", "rois_c01/a.mrk.json"
    }  # fmt: skip
    assert export("uncertainty", tmp_path / "u").exit_code == 0
    assert [path.name for path in (tmp_path / "u").iterdir()] == ["a_predictive_entropy.nii.gz"]
    again = export("uncertainty", tmp_path / "u")
    assert again.exit_code == 2 and "holds files already; give a new folder" in again.stderr
    neither = CliRunner().invoke(COMMAND, ["--what", "model", "--node", node, "--out", "x"])
    assert neither.exit_code == 2 and "give --results" in neither.stderr


def test_nnunet_gets_the_name_that_it_wants_for_background(tmp_path: Path) -> None:
    classes = Classes(("nothing", "head", "tail"), (0, 2, 7))
    dataset = tiny.prepared(tmp_path / "prepared", {"a": SHAPE, "t": SHAPE}, test=["t"], classes=classes)
    paths = tiny.checkpoints(tmp_path / "folds", dataset, 1, patch=(4, 4, 4), features=2)
    write_model(tmp_path / "model", paths, classes, "x", 0.5, True)
    assert [*read_json(tmp_path / "model" / "dataset.json")["labels"]] == ["background", "head", "tail", "ignore"]
    assert read_label_values(tmp_path / "model" / "labels.json")[0] == classes
