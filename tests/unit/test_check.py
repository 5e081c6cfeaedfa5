"""CHECK: what it tells of data and settings without a voxel, all at once, and the sizes that it hands on."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import ROOT
from decathlon import decathlon_head, write_decathlon_head

from nnactive_nf.check.memory import memory
from nnactive_nf.check.run import Settings, check
from nnactive_nf.core.budget import Budget, PoolSize, budget_errors
from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.demands import Demands
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.patients import case_groups
from nnactive_nf.phantom.folder import write_phantom

BUDGET = Budget(folds=2, start_size=8, query_size=8, patch_size="8,8,8", patches_per_image=20)
ROW = Demands("", BUDGET, "random_fg33", ("random", "bald"))
SETTINGS = Settings("data", "3d_fullres", 0.25, None, None, None, None, "", (ROW,))


def errors_of(folder: Path, out: Path, **changes: Any) -> list[str]:
    """What CHECK says; it writes nothing then."""
    with pytest.raises(UserError) as told:
        check(folder, replace(SETTINGS, **changes), out / "check.json")
    assert not (out / "check.json").exists()
    return list(told.value.lines)


def row(where: str = "", strategies: str = "random", **budget: Any) -> Demands:
    return Demands(where, replace(BUDGET, **budget), "random", tuple(strategies.split(",")))


@pytest.fixture
def raw(phantom: Path, tmp_path: Path) -> Path:
    """The phantom, for a test to break: eight cases of four patients."""
    return Path(shutil.copytree(phantom, tmp_path / "raw"))


def label_of(folder: Path, case: int = 0) -> Path:
    return sorted((folder / "labelsTr").iterdir())[case]


def image_of(folder: Path, case: int = 0) -> Path:
    return sorted((folder / "imagesTr").iterdir())[case]


def change(path: Path, change: Callable[[sitk.Image], sitk.Image | None]) -> None:
    image = sitk.ReadImage(str(path))
    sitk.WriteImage(change(image) or image, str(path))


def test_sizes_bound_what_prepare_makes(phantom: Path, prepared: Path, tmp_path: Path) -> None:
    sizes = check(phantom, replace(SETTINGS, groups=phantom / "groups.csv"), tmp_path / "check.json")
    assert json.loads((tmp_path / "check.json").read_text()) == {**sizes, "memory": memory(sizes)}
    dataset = Dataset.open(prepared / "prepared")
    planned = {case: int(np.prod(shape)) for case, shape in dataset.shapes.items()}
    own = dataset.cases.set_index("case")[["original_z", "original_y", "original_x"]].prod(axis=1)
    assert (sizes["cases"], sizes["channels"], sizes["classes"]) == (8, 1, 4)
    assert sizes["largest_file"] == own.max()
    assert max(planned.values()) <= sizes["largest"] <= 2 * max(planned.values())
    assert sum(planned.values()) <= sizes["pool_voxels"] <= 2 * sum(planned.values())
    assert own[dataset.test].sum() <= sizes["test_voxels"] <= own.nlargest(2).sum()
    assert sizes["largest_resampled"] in (0, sizes["largest"])


def test_one_patient_with_many_cases_can_be_the_whole_test_set(phantom: Path, tmp_path: Path) -> None:
    cases = [path.name.removesuffix(".nii.gz") for path in sorted((phantom / "labelsTr").iterdir())]
    (tmp_path / "groups.csv").write_text(
        "case,group\n" + "".join(f"{case},{'a' if place < 5 else case}\n" for place, case in enumerate(cases))
    )
    alone = check(phantom, SETTINGS, tmp_path / "alone.json")
    grouped = check(phantom, replace(SETTINGS, groups=tmp_path / "groups.csv"), tmp_path / "grouped.json")
    shapes = [sitk.ReadImage(str(image_of(phantom, case))).GetSize() for case in range(5)]
    assert grouped["test_voxels"] == sum(int(np.prod(shape)) for shape in shapes) > alone["test_voxels"]


def test_images_of_the_planned_spacing_are_not_resampled(raw: Path, tmp_path: Path) -> None:
    for path in [*(raw / "imagesTr").iterdir(), *(raw / "labelsTr").iterdir()]:
        change(path, lambda image: image.SetSpacing((1, 1, 1)))
    assert check(raw, SETTINGS, tmp_path / "check.json")["largest_resampled"] == 0
    for path in (image_of(raw), label_of(raw)):
        change(path, lambda image: image.SetSpacing((1, 1, 2)))
    size = sitk.ReadImage(str(image_of(raw))).GetSize()
    assert check(raw, SETTINGS, tmp_path / "check.json")["largest_resampled"] == 2 * np.prod(size)


def test_a_2d_configuration_and_one_that_is_not_planned(phantom: Path, tmp_path: Path) -> None:
    fine = check(phantom, SETTINGS, tmp_path / "a.json")
    flat = check(phantom, replace(SETTINGS, configuration="2d"), tmp_path / "b.json")
    assert flat["pool_voxels"] != fine["pool_voxels"]
    # whether a coarse network is planned depends on the cropped images, so PREPARE tells it
    assert check(phantom, replace(SETTINGS, configuration="3d_lowres"), tmp_path / "c.json") == fine


def with_channel(folder: Path, change: Callable[[sitk.Image], sitk.Image | None]) -> None:
    """A second channel for all cases, another than the first in the first case."""
    head = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(head | {"channel_names": {"0": "a", "1": "b"}}))
    for place, path in enumerate(sorted((folder / "imagesTr").iterdir())):
        image = sitk.ReadImage(str(path))
        changed = change(image) if place == 0 else image
        sitk.WriteImage(changed or image, str(path).replace("_0000", "_0001"))


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing label": (lambda f: label_of(f).unlink(), r"^case \S+: label is missing \(data/labelsTr/\S+\)$"),
    "missing image": (lambda f: image_of(f).unlink(), r"^case \S+: image of channel 0 is missing \(data/imagesTr/"),
    "no cases": (
        lambda f: [shutil.rmtree(f / n) for n in ("imagesTr", "labelsTr")],
        "^--input data: no training cases in it; an nnU-Net raw or a Decathlon folder is wanted$",
    ),
    "one case": (
        lambda f: [p.unlink() for n in ("imagesTr", "labelsTr") for p in sorted((f / n).iterdir())[1:]],
        "^--input data: one case only; a pool and a test set need more$",
    ),
    "no dataset.json": (lambda f: (f / "dataset.json").unlink(), "^--input data: no dataset.json in it"),
    "dataset.json is no JSON": (
        lambda f: (f / "dataset.json").write_text("{"), "^--input data/dataset.json: not a JSON file"
    ),
    "other shape": (
        lambda f: change(label_of(f), lambda image: image[1:, :, :]),
        r"^case \S+: label has shape \(\d+, \d+, \d+\), image has \(\d+, \d+, \d+\) \(z, y, x\)$",
    ),
    "other spacing": (
        lambda f: change(label_of(f), lambda image: image.SetSpacing((3, 3, 3))),
        r"^case \S+: label has spacing \(3, 3, 3\) mm, image has \(.+\) mm \(z, y, x\)$",
    ),
    "other origin": (
        lambda f: change(label_of(f), lambda image: image.SetOrigin((50, 0, 0))),
        r"^case \S+: label has origin \(50, 0, 0\), image has \(.+\) \(x, y, z\)$",
    ),
    "other direction": (
        lambda f: change(label_of(f), lambda image: image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))),
        r"^case \S+: label has direction \(-1, .*\), image has \(1, ",
    ),
    "channels of other shapes": (
        lambda f: with_channel(f, lambda image: image[1:, :, :]),
        r"^case \S+: image of channel 1 has shape \(\d+, \d+, \d+\), image has",
    ),
    "channels of other spacings": (
        lambda f: with_channel(f, lambda image: image.SetSpacing([v * 1.0005 for v in image.GetSpacing()])),
        r"^case \S+: image of channel 1 has spacing",
    ),
    "too many channels": (
        lambda f: change(image_of(f), lambda image: sitk.JoinSeries([image, image])),
        r"^case \S+: image has 2 channels, dataset.json declares 1$",
    ),
    "no image": (
        lambda f: image_of(f).write_bytes(b"no image"),
        r"^case \S+: image \S+_0000.nii.gz cannot be read, it may be truncated \(.+\)$",
    ),
    "no image as a label": (
        lambda f: label_of(f).write_bytes(b""), r"^case \S+: label \S+.nii.gz cannot be read, it may be truncated"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_data_are_told_in_one_line(name: str, raw: Path, tmp_path: Path) -> None:
    breaks, message = BROKEN[name]
    breaks(raw)
    (line,) = errors_of(raw, tmp_path)
    assert re.search(message, line), line


def test_missing_labels_are_counted_and_the_other_faults_told_with_them(raw: Path, tmp_path: Path) -> None:
    for path in (label_of(raw, 0), label_of(raw, 2), label_of(raw, 5)):
        path.unlink()
    change(label_of(raw), lambda image: image[1:, :, :])
    lines = errors_of(raw, tmp_path, rows=(row(start_size=1),))
    told = [
        r"--start_size 1: ",
        r"labels are missing for 3 of 8 cases, the first is case \S+ \(data/labelsTr/\S+\); a study wants all",
        r"case \S+: label has shape",
    ]
    for message in told:
        assert sum(re.match(message, line) is not None for line in lines) == 1, (message, lines)


def test_origins_half_a_voxel_apart_are_one_grid(raw: Path, tmp_path: Path) -> None:
    """Label tools round."""
    change(label_of(raw), lambda image: image.SetOrigin([v + 0.3 for v in image.GetOrigin()]))
    change(label_of(raw, 1), lambda image: image.SetSpacing([v * 1.0005 for v in image.GetSpacing()]))
    assert check(raw, SETTINGS, tmp_path / "check.json")["cases"] == 8


def test_free_masks_lie_on_the_images_grids(raw: Path, tmp_path: Path) -> None:
    shutil.copytree(raw / "labelsTr", tmp_path / "free")
    assert check(raw, replace(SETTINGS, free_masks=tmp_path / "free"), tmp_path / "free.json")["cases"] == 8
    first = sorted((tmp_path / "free").iterdir())[0]
    change(first, lambda image: image[:, 1:, :])
    (line,) = errors_of(raw, tmp_path, free_masks=tmp_path / "free")
    assert re.match(r"case \S+: free mask has shape", line)
    first.rename(first.with_name("stranger.nii.gz"))
    (line,) = errors_of(raw, tmp_path, free_masks=tmp_path / "free")
    assert line.endswith("stranger.nii.gz belongs to no case; a mask is named as its case")


def test_pipes_and_devices_are_not_waited_for(raw: Path, tmp_path: Path) -> None:
    pipe, device, strange = label_of(raw), image_of(raw, 1), raw / "imagesTr" / "zz_0000.nii.gz"
    pipe.unlink()
    os.mkfifo(pipe)
    device.unlink()
    device.symlink_to("/dev/zero")
    os.mkfifo(strange)
    *images, labels = errors_of(raw, tmp_path)
    assert [line.partition(": ")[2] for line in images] == [
        f"image of channel 0 is no file (data/imagesTr/{path.name})" for path in (device, strange)
    ]
    assert f"labels are missing for 2 of 9 cases, the first is case phantom_001 (data/labelsTr/{pipe.name})" in labels


def test_file_names_that_are_no_text_end_in_lines(raw: Path, tmp_path: Path) -> None:
    """SimpleITK would end the process."""
    for path in (image_of(raw), label_of(raw)):
        path.rename(path.with_name(path.name.replace("phantom_001", "caf\udce9")))  # the byte 0xe9 alone
    name, image, label = errors_of(raw, tmp_path)
    assert name.endswith("case 'caf\\udce9': a name must be UTF-8")
    assert all("a path must be UTF-8" in line for line in (image, label))


@pytest.mark.parametrize(("variable", "ended"), [("PYTHONUTF8=1", 0), ("PYTHONUTF8=0", 2)])
def test_a_locale_without_letters(variable: str, ended: int, raw: Path, tmp_path: Path) -> None:
    """A POSIX locale gets UTF-8 from Python, unless it is told not to."""
    for path in (image_of(raw), label_of(raw)):
        path.rename(path.with_name(path.name.replace("phantom_001", "K\xf6rper")))
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from test_check import SETTINGS;"
        "from nnactive_nf.check.run import check; from nnactive_nf.core.errors import reports_user_errors;"
        "reports_user_errors(check)(Path(sys.argv[2]), SETTINGS, Path(sys.argv[3]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, Path(__file__).parent, raw, tmp_path / "check.json"],
        capture_output=True, check=False, env={
            **os.environ, "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", **dict([variable.split("=")]),
            "PYTHONPATH": os.pathsep.join([str(ROOT / "bin"), str(ROOT / "tests")]),
        },
    )  # fmt: skip
    assert done.returncode == ended, done.stderr
    assert b"Traceback" not in done.stderr and (b"a path must be UTF-8" in done.stderr) == bool(ended)


def test_patients_are_looked_up(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("case,group\n")
    (line,) = errors_of(raw, tmp_path, groups=tmp_path / "groups.csv")
    assert line.endswith("is not in it with a group (8 such cases)")
    (line,) = errors_of(raw, tmp_path, group_pattern="(z)")
    assert line.startswith("group_pattern '(z)': does not match case")


def test_what_the_pool_cannot_give(phantom: Path, tmp_path: Path) -> None:
    """Eight cases, two of them held out, four classes."""
    assert errors_of(phantom, tmp_path, rows=(row(folds=7, start_size=6, query_size=13, patches_per_image=2),)) == [
        "--folds 7: more folds than cases; the pool has 6 of 8 cases",
        "--query_size 13: the pool can give 12 patches at most, 2 of each of 6 cases (--patches_per_image)",
        "--start_size 6: 7 folds and 4 classes (background included) need at least 8 patches",
    ]
    whole = row(start_size=8, query_size=6, patch_size="whole_image")
    assert errors_of(phantom, tmp_path, rows=(whole,)) == [
        "--start_size 8: the pool can give 6 patches at most, 1 of each of 6 cases (--patch_size whole_image)"
    ]
    assert errors_of(phantom, tmp_path, test_fraction=0.99) == [
        "--test_fraction 0.99: it leaves none of 8 cases for the pool"
    ]


def test_rules_to_stop_by_are_told_with_their_row(phantom: Path, tmp_path: Path) -> None:
    first, second = (
        replace(row(where), stop=stop) for where, stop in (("", "dise:1"), ("study.csv, row 2", "minutes:5"))
    )
    told = "study.csv, row 2: stop minutes: nobody counts minutes here; it is for --oracle people"
    unknown = "--stop dise:1: unknown rule 'dise'; did you mean 'dice'?"
    assert errors_of(phantom, tmp_path, rows=(first, second)) == [unknown, told]
    people = errors_of(phantom, tmp_path, rows=(first, second), people=True, strategy_file=None)
    assert unknown in people and told not in people
    content = {**asdict(BUDGET), "start_strategy": "random", "strategies": ["random"]}
    assert [Demands.of(content | more).stop for more in ({}, {"stop": None}, {"stop": "dice:1"})] == ["", "", "dice:1"]


def test_the_start_holds_each_region_twice(tmp_path: Path) -> None:
    """Four names to two labels and background."""
    write_phantom(tmp_path / "raw", seed=1, cases=8, variant="regions")
    head = json.loads((tmp_path / "raw" / "dataset.json").read_text())
    labels = {"background": 0, "whole": [2, 5], "organ": 2, "lesion": 5}
    (tmp_path / "raw" / "dataset.json").write_text(
        json.dumps(head | {"labels": labels, "regions_class_order": [2, 2, 5]})
    )
    assert errors_of(tmp_path / "raw", tmp_path, rows=(row(start_size=7),)) == [
        "--start_size 7: 2 folds and 4 classes (background included) need at least 8 patches"
    ]


def test_the_largest_of_growing_queries_is_what_the_pool_must_give() -> None:
    content = {**asdict(BUDGET), "query_size": [4, 13, 8], "start_strategy": "random", "strategies": ["random"]}
    assert Demands.of(content).budget == replace(BUDGET, query_size=13)
    assert Demands.of(content | {"query_size": 4}).budget == replace(BUDGET, query_size=4)
    files = {"start_queries": ["/data/q.csv", "given_1"]}
    assert Demands.of(content | {"given": files}).given == {"start_queries": ("/data/q.csv", Path("given_1"))}


def test_where_patients_have_several_cases_the_pool_may_be_larger(phantom: Path, tmp_path: Path) -> None:
    groups = phantom / "groups.csv"
    rows = (row(folds=3, start_size=9, query_size=14, patches_per_image=2),)
    assert check(phantom, replace(SETTINGS, groups=groups, rows=rows), tmp_path / "right.json")["cases"] == 8
    assert errors_of(phantom, tmp_path, groups=groups, rows=(row(folds=4),)) == [
        "--folds 4: more folds than patients; the pool has at most 3 of 4 patients"
    ]
    assert errors_of(phantom, tmp_path, groups=groups, rows=(row(folds=8),)) == [
        "--folds 8: more folds than cases; the pool has 7 of 8 cases"
    ]


def test_as_many_cases_are_held_out_as_prepare_holds_out() -> None:
    """A quarter of ten is two there, as Python rounds halves to even."""
    pool = PoolSize.drawn(0.25, 10, 10)
    assert not budget_errors(replace(BUDGET, folds=8), pool)
    assert budget_errors(replace(BUDGET, folds=9), pool)


def cases_of(folder: Path) -> list[str]:
    return [path.name.removesuffix(".nii.gz") for path in sorted((folder / "labelsTr").iterdir())]


def given(names: Sequence[str], **changes: Any) -> dict[str, Any]:
    return {"test_cases": tuple(names), "shown_test_cases": "test.txt", **changes}


def test_a_given_test_set_counts_and_is_not_drawn(phantom: Path, tmp_path: Path) -> None:
    """The fraction has no say in it, and its images are the largest that are tested."""
    cases = cases_of(phantom)
    test = cases[:4]
    sizes = check(phantom, replace(SETTINGS, **given(test), test_fraction=0.99), tmp_path / "sizes.json")
    shapes = [sitk.ReadImage(str(image_of(phantom, case))).GetSize() for case in range(4)]
    assert sizes["test_voxels"] == sum(int(np.prod(shape)) for shape in shapes)
    rows = (row(folds=5, start_size=9, patches_per_image=2),)
    assert errors_of(phantom, tmp_path, rows=rows, **given(test)) == [
        "--folds 5: more folds than cases; the pool has 4 of 8 cases",
        "--start_size 9: the pool can give 8 patches at most, 2 of each of 4 cases (--patches_per_image)",
    ]
    assert errors_of(phantom, tmp_path, **given(cases)) == [
        "--test_cases test.txt: it leaves none of 8 cases for the pool"
    ]


def test_what_is_wrong_with_a_given_test_set(phantom: Path, tmp_path: Path) -> None:
    """Names, patients on both sides, and the patients that are left; by the row of a table."""
    groups, cases = phantom / "groups.csv", cases_of(phantom)
    patient = case_groups(cases, groups, None)
    first = [case for case in cases if patient[case] == patient[cases[0]]]
    assert len(first) == 2
    rows = (row("study.csv, row 2", folds=4),)
    assert errors_of(phantom, tmp_path, groups=groups, rows=rows, **given(first)) == [
        "study.csv, row 2: folds 4: more folds than patients; the pool has 3 of 4 patients"
    ]
    wrong = [first[0], "nobody", first[0], "none", "nobody"]
    assert errors_of(phantom, tmp_path, groups=groups, rows=rows, **given(wrong)) == [
        "study.csv, row 2: test_cases test.txt: the data set has no case nobody (2 such names)",
        f"study.csv, row 2: test_cases test.txt: case {first[0]} stands in it twice (2 such cases)",
        f"study.csv, row 2: test_cases test.txt: patient {patient[first[0]]} is on both sides, with case {first[0]} in "
        f"the test set and case {first[1]} in the pool; name all cases of a patient or none (1 such patients)",
    ]


def test_first_patches_and_folds_that_are_given(phantom: Path, tmp_path: Path) -> None:
    """What is wrong with them is said by the file's path as the user knows it, and by the row of a table."""
    cases = cases_of(phantom)
    table = "rank,case,z,y,x,dz,dy,dx,score,component\n"
    start, folds = tmp_path / "given_1", tmp_path / "given_2"
    files = {"start_queries": ("old/query_c00.csv", start), "folds_file": ("splits.json", folds)}
    rows = (replace(row("study.csv, row 1", start_size=8), given=files),)

    def write(patches: Sequence[str], of_folds: Mapping[str, int]) -> None:
        start.write_text(table + "".join(f"{i},{case},0,0,0,8,8,8,0,all\n" for i, case in enumerate(patches, start=1)))
        folds.write_text("case,fold\n" + "".join(f"{case},{fold}\n" for case, fold in of_folds.items()))

    pool = {case: place % 2 for place, case in enumerate(cases[1:])}
    write([*cases[1:], cases[1], cases[0]], pool)  # the ninth is none of the first eight
    assert check(phantom, replace(SETTINGS, rows=rows, **given(cases[:1])), tmp_path / "sizes.json")["cases"] == 8
    write(["nobody", *cases[1:], cases[0]], dict(list(pool.items())[1:]))
    assert errors_of(
        phantom, tmp_path, rows=(replace(rows[0], budget=replace(BUDGET, start_size=9)),), **given(cases[:1])
    ) == [
        "study.csv, row 1: start_queries old/query_c00.csv: the data set has no case nobody (1 such cases)",
        f"study.csv, row 1: start_queries old/query_c00.csv: its patches lie in test case {cases[0]} (1 such cases)",
        f"study.csv, row 1: folds_file splits.json: no fold is given for case {cases[1]} (1 such cases)",
    ]
    write(cases[1:], dict.fromkeys(pool, 0))
    assert errors_of(phantom, tmp_path, rows=rows) == [
        "study.csv, row 1: start_queries old/query_c00.csv: holds 7 patches, --start_size wants 8",
        "study.csv, row 1: folds_file splits.json: holds 1 folds, --folds wants 2",
    ]
    start.write_text("rank,case\n1,a\n")
    folds.write_text("case,fold\na,0\nb,1\n")
    first, second = errors_of(phantom, tmp_path, rows=(replace(rows[0], where=""),))
    assert first.startswith("--start_queries old/query_c00.csv: not a query table")
    assert second.startswith("--folds_file splits.json: give the test set too (--test_cases), since folds are of the ")


def test_weights_that_trainings_start_from(phantom: Path, tmp_path: Path) -> None:
    """Whether it is a checkpoint of nnU-Net's; whether it fits a network, PREPARE knows."""
    path = tmp_path / "given_1"
    rows = (replace(row("study.csv, row 1"), given={"initial_weights": ("mine.pth", path)}),)
    torch.save({"network_weights": {"w": torch.ones(1)}, "trainer_name": "nnUNetTrainer"}, path)
    assert check(phantom, replace(SETTINGS, rows=rows), tmp_path / "sizes.json")["cases"] == 8
    torch.save({"state_dict": {"w": torch.ones(1)}}, path)
    assert errors_of(phantom, tmp_path, rows=rows) == [
        "study.csv, row 1: initial_weights mine.pth: not a checkpoint of nnU-Net's, which holds network_weights and "
        "trainer_name"
    ]


def test_the_test_folder_of_nnunet(raw: Path, tmp_path: Path) -> None:
    test_set: dict[str, Any] = {"test_folder": True, "shown_test_cases": "imagesTs"}
    assert errors_of(raw, tmp_path, **test_set) == [
        "--test_cases imagesTs: the data set has no imagesTs with files *.nii.gz (data/imagesTs)"
    ]
    moved = cases_of(raw)[2:4]
    for side in ("images", "labels"):
        (raw / f"{side}Ts").mkdir()
        for path in [path for path in (raw / f"{side}Tr").iterdir() if path.name.startswith(tuple(moved))]:
            path.rename(raw / f"{side}Ts" / path.name)
    shapes = [sitk.ReadImage(str(path)).GetSize() for path in (raw / "imagesTs").iterdir()]
    sizes = check(raw, replace(SETTINGS, **test_set), tmp_path / "sizes.json")
    assert (sizes["cases"], sizes["test_voxels"]) == (8, sum(int(np.prod(shape)) for shape in shapes))
    assert check(raw, SETTINGS, tmp_path / "sizes.json")["cases"] == 6
    assert errors_of(raw, tmp_path, rows=(row(folds=7),), **test_set) == [
        "--folds 7: more folds than cases; the pool has 6 of 8 cases"
    ]
    (raw / "labelsTs" / f"{moved[0]}.nii.gz").unlink()
    shutil.copy(image_of(raw), raw / "imagesTs")
    shutil.copy(label_of(raw), raw / "labelsTs")
    assert errors_of(raw, tmp_path, **test_set) == [
        f"case {moved[0]}: label is missing (data/labelsTs/{moved[0]}.nii.gz)",
        f"case {cases_of(raw)[0]}: stands in it twice",
    ]
    shutil.rmtree(raw / "labelsTs")
    (line,) = [line for line in errors_of(raw, tmp_path, **test_set) if "labels" in line]
    assert line.startswith("labels are missing for 3 of 9 cases, the first is case")
    write_decathlon_head(tmp_path / "Task99", decathlon_head(["a"], {0: "background", 1: "x"}, ("T1",)))
    (line,) = errors_of(tmp_path / "Task99", tmp_path, **test_set)
    assert line == "--test_cases imagesTs: it wants an nnU-Net raw folder; the Decathlon's imagesTs has no labels"


def test_all_that_is_wrong_is_said_at_once_and_by_row_of_a_table(raw: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("MAPS = []\n\ndef mine(image, margin=1):\n    pass\n")
    image_of(raw).write_bytes(b"no image")
    change(label_of(raw, 1), lambda image: image.SetSpacing((3, 3, 3)))
    rows = (
        row("study.csv, row 1", "random,mine,mine:margin=2"),
        row("study.csv, row 3", "mino,bald:cap=0", folds=7, start_size=8),
        Demands("study.csv, row 4", BUDGET, "mine:x=1", ("random",)),
    )
    case_0, case_1 = (label_of(raw, case).name.removesuffix(".nii.gz") for case in (0, 1))
    found = errors_of(raw, tmp_path, rows=rows, strategy_file=own, shown_strategy_file="own.py")
    starts = [
        "study.csv, row 3: strategies: unknown strategy 'mino'; did you mean 'mine'?",
        "study.csv, row 3: strategies bald:cap=0: cap 0: must be at least 1",
        "study.csv, row 4: strategy_file own.py: options of strategy 'mine' do not fit mine(image, margin=1)",
        "study.csv, row 3: folds 7: more folds than cases; the pool has 6 of 8 cases",
        f"case {case_0}: image {image_of(raw).name} cannot be read",
        f"case {case_1}: label has spacing",
    ]
    assert len(found) == len(starts), found
    assert all(line.startswith(start) for line, start in zip(found, starts, strict=True)), found


def test_a_strategy_file_that_cannot_be_loaded_leaves_its_names_open(phantom: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("MAPS = []\n1 / 0\n")
    rows = (row(strategies="mine,bald"),)
    assert errors_of(phantom, tmp_path, rows=rows, strategy_file=own, shown_strategy_file="own.py") == [
        "--strategy_file own.py: cannot be loaded (ZeroDivisionError: division by zero)"
    ]


def test_the_command(stage, tmp_path: Path) -> None:
    write_phantom(tmp_path / "raw", seed=1, cases=4, variant="two_channels")
    rows = {"folds": 2, "start_size": 8, "query_size": 4, "patch_size": "8,8,8", "patches_per_image": 9}
    named = {"start_strategy": "random", "strategies": ["random"]}
    test = ["--test-case", "phantom_001", "--test-case", "phantom_001", "--shown-test-cases", "mine.txt"]
    arguments = ["--input", "raw", "--shown", "/data/mine", "--name", "x", "--out", "check.json", "--rows"]
    done = stage("check", *test, *arguments, json.dumps([rows | named]), cwd=tmp_path)
    assert (done.returncode, "mine.txt: case phantom_001 stands in it twice" in done.stderr) == (2, True), done.output
    done = stage("check", *arguments, json.dumps([rows | named]), cwd=tmp_path)
    assert done.returncode == 0, done.output
    assert json.loads((tmp_path / "check.json").read_text())["channels"] == 2
    (tmp_path / "check.json").unlink()
    (tmp_path / "raw" / "dataset.json").write_text("{")
    (tmp_path / "own.py").write_text("import nowhere\n")
    faulty = json.dumps([rows | named | {"strategies": ["randon"]}])
    own = ["--trainer-file", "own.py", "--shown-trainer-file", "/my/own.py"]
    done = stage("check", *arguments, faulty, *own, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.output
    first, trainer, second = done.stderr.splitlines()
    assert first == "ERROR: --strategies: unknown strategy 'randon'; did you mean 'random'?"
    assert trainer == (
        "ERROR: --trainer_file /my/own.py: cannot be loaded (ModuleNotFoundError: No module named 'nowhere')"
    )
    assert second.startswith("ERROR: --input /data/mine/dataset.json: not a JSON file")
    assert not (tmp_path / "check.json").exists()
