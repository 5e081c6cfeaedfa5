"""A plan of the user's own (`--plans`): what is refused, what is taken of it, and what follows it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from plan import make_row, write_plan

from nnactive_nf.check.run import Settings as CheckSettings
from nnactive_nf.check.run import check
from nnactive_nf.core.budget import Budget
from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.demands import Demands
from nnactive_nf.core.ensemble import Ensemble
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import write_json
from nnactive_nf.core.heads import Head
from nnactive_nf.core.nnunet import FoldCheckpoint, build_network, save_fold
from nnactive_nf.core.own_plans import INTENSITIES, OLD_INTENSITIES, load_plans, own_plans
from nnactive_nf.core.planning import fingerprint_of_heads, planned_gpu_gb, run_planner
from nnactive_nf.core.raw import list_raw
from nnactive_nf.core.training_plans import training_plans
from nnactive_nf.forecast.images import Unknown, images_of
from nnactive_nf.forecast.network import network_of
from nnactive_nf.forecast.plan import read_plan
from nnactive_nf.prepare.plan import keep_plans, kept_plans
from nnactive_nf.prepare.run import Settings, prepare

Change = Callable[[dict[str, Any]], object]
NNUNET = {
    "channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz",
    "overwrite_image_reader_writer": "SimpleITKIO",
}  # fmt: skip
PROPERTIES = {
    "mean": 1.0,
    "median": 1.0,
    "std": 2.0,
    "min": 0.0,
    "max": 9.0,
    "percentile_99_5": 8.0,
    "percentile_00_5": 0.0,
}


@pytest.fixture(scope="module")
def planned() -> dict[str, Any]:
    """nnU-Net's plans for large images, with a cascade."""
    heads = [Head(1, (150, 600, 600), (2.5, 0.8, 0.8))] * 20
    plans = run_planner(NNUNET, fingerprint_of_heads(heads), "large")
    assert list(plans["configurations"]) == ["2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"]
    return plans | {INTENSITIES: {"0": PROPERTIES}}


def full(plans: dict[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = plans["configurations"]["3d_fullres"]
    return settings


def setting(**changes: Any) -> Change:
    return lambda plans: full(plans).update(changes)


def keyword(**changes: Any) -> Change:
    return lambda plans: full(plans)["architecture"]["arch_kwargs"].update(changes)


def whole(**changes: Any) -> Change:
    return lambda plans: plans.update(changes)


WRONG: dict[str, tuple[Change, str]] = {
    "no configuration": (
        lambda p: p["configurations"].pop("3d_fullres"),
        "it has no configuration 3d_fullres, only 2d, 3d_cascade_fullres, 3d_lowres; name one",
    ),
    "no plans": (lambda p: p.pop("configurations"), "no plans of nnU-Net's, which hold 'configurations'; take its"),
    "a cascade": (setting(previous_stage="3d_lowres"), "is the second stage of a cascade .*; take a configuration"),
    "a circle": (setting(inherits_from="3d_fullres"), "configuration 3d_fullres is none of nnU-Net's .RuntimeError"),
    "a part of it": (lambda p: full(p).pop("batch_dice"), "it has no batch_dice, which .* take a whole plans file"),
    "no transposition": (lambda p: p.pop("transpose_forward"), "it has no transpose_forward, which"),
    "two channels": (
        setting(normalization_schemes=["ZScoreNormalization"] * 2),
        "normalization_schemes of 3d_fullres is for 2 channels, the data set has 1; give one for each",
    ),
    "masks of two channels": (setting(use_mask_for_norm=[False, False]), "use_mask_for_norm of 3d_fullres is for 2"),
    "a mask of text": (setting(use_mask_for_norm=["False"]), "use_mask_for_norm .* true or false is wanted"),
    "batch Dice of text": (setting(batch_dice="no"), "batch_dice of 3d_fullres is no; true or false is wanted"),
    "a program as a normalization": (setting(normalization_schemes=["os.system"]), "'os.system' is none of nnU-Net's"),
    "a function as a normalization": (
        setting(normalization_schemes=["get_normalization_scheme"]), "normalization_schemes get_normalization_scheme of"
    ),
    "the base class of normalizations": (setting(normalization_schemes=["ImageNormalization"]), "is no ImageNormaliz"),
    "a function as the preprocessor": (
        setting(preprocessor_name="compute_new_shape"), "preprocessor_name compute_new_shape .* no DefaultPreprocessor"
    ),
    "a function as labels": (whole(label_manager="convert_labelmap_to_one_hot"), "label_manager .* give LabelManager"),
    "a program as resampling": (setting(resampling_fn_seg="system"), "resampling_fn_seg 'system' is none of nnU-Net's"),
    "another function as resampling": (
        setting(resampling_fn_data="get_lowres_axis", resampling_fn_data_kwargs={}), "resampling_fn_data of 3d_fullres "
    ),
    "no resampling": (
        setting(resampling_fn_data="no_resampling_hack", resampling_fn_data_kwargs={}), "does not resample .it makes"
    ),
    "an option of no resampling": (
        setting(resampling_fn_probabilities_kwargs={"nothing": 1}), "fn_probabilities .*TypeError.*; give one"
    ),
    "a network elsewhere": (
        lambda p: full(p)["architecture"].update(network_class_name="os.system"), "'os.system' is no network of torch"
    ),
    "a layer as the network": (
        lambda p: full(p)["architecture"].update(network_class_name="torch.nn.Sequential"), "makes no network for"
    ),
    "a layer of another program": (keyword(nonlin="subprocess.Popen"), "nonlin 'subprocess.Popen' is no network"),
    "another network": (
        lambda p: full(p)["architecture"].update(
            network_class_name="dynamic_network_architectures.architectures.primus.PrimusM"
        ),
        "makes no network for patches",
    ),
    "layers of two axes": (keyword(conv_op="torch.nn.modules.conv.Conv2d"), "makes no network for patches"),
    "a patch that strides do not divide": (setting(patch_size=[64, 70, 128]), r"no network for patches of \(64, 70, 1"),
    "a stage less": (
        lambda p: full(p)["architecture"]["arch_kwargs"]["features_per_stage"].pop(),
        "features_per_stage of 3d_fullres wants a list of 6 entries for 6 stages; give one",
    ),
    "a stride of one number": (
        lambda p: full(p)["architecture"]["arch_kwargs"].update(strides=[2] * 6), "strides .* wants 3 numbers"
    ),
    "a flat patch": (setting(patch_size=[64, 64], spacing=[1, 1]), "3d_fullres wants a patch of 3 axes, patch_size is"),
    "no whole batch": (setting(batch_size=2.0), "batch_size 2.0"),
    "a folder elsewhere": (whole(plans_name="../../x"), "the name '../../x' in it .* none for a folder; give"),
    "images elsewhere": (setting(data_identifier="/tmp/x"), "the name '/tmp/x' in it"),
    "intensities of two channels": (
        lambda p: p[INTENSITIES].update({"1": PROPERTIES}), "holds 2 channels, the data set has 1; give all by"
    ),
    "intensities of text": (
        lambda p: p[INTENSITIES].update({"0": PROPERTIES | {"mean": "1"}}), "of channel 0 wants a number each for mean"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused_in_one_line(name: str, planned: dict[str, Any], tmp_path: Path) -> None:
    breaks, message = WRONG[name]
    plans = copy.deepcopy(planned)
    breaks(plans)
    write_json(tmp_path / "plans.json", plans)
    with pytest.raises(UserError) as told:
        load_plans(tmp_path / "plans.json", "--plans mine.json", "3d_fullres", 1)
    (line,) = told.value.lines
    assert line.startswith("--plans mine.json: ") and "\n" not in line
    assert re.search(message, line), line


def test_a_file_that_is_none(tmp_path: Path, planned: dict[str, Any]) -> None:
    path = tmp_path / "plans.json"
    for text, message in {"{": "not a JSON file", "[]": "a JSON object is wanted"}.items():
        path.write_text(text)
        with pytest.raises(UserError, match=f"^--plans mine.json: {message}"):
            load_plans(path, "--plans mine.json", "2d")
    write_json(path, planned)
    with pytest.raises(UserError, match="3d_cascade_fullres is the second stage of a cascade"):
        load_plans(path, "--plans mine.json", "3d_cascade_fullres")


def test_the_configuration_alone_is_taken_and_the_others_have_no_say(planned: dict[str, Any], tmp_path: Path) -> None:
    """What it inherits is written out; the data set's name and reader are its own, intensities the file's."""
    plans = copy.deepcopy(planned)
    base = plans["configurations"].pop("3d_fullres")
    plans["configurations"] |= {"base": base, "3d_fullres": {"inherits_from": "base", "batch_size": 7}}
    plans["configurations"]["2d"] = {"architecture": "nothing"}
    write_json(tmp_path / "plans.json", plans)
    found = load_plans(tmp_path / "plans.json", "x", "3d_fullres", 1, 4)
    assert found["configurations"] == {"3d_fullres": {**base, "batch_size": 7}}
    assert found[INTENSITIES] == {"0": PROPERTIES}
    write_json(tmp_path / "plans.json", {"state": "s", "plans": planned})  # as people's runs keep them
    low = load_plans(tmp_path / "plans.json", "x", "3d_lowres")["configurations"]["3d_lowres"]
    assert low == {key: value for key, value in planned["configurations"]["3d_lowres"].items() if key != "next_stage"}
    old = {key: value for key, value in planned.items() if key != INTENSITIES}
    for intensities, expected in (({"0": PROPERTIES}, {"0": PROPERTIES}), ({}, None)):
        write_json(tmp_path / "plans.json", old | {OLD_INTENSITIES: intensities})
        assert load_plans(tmp_path / "plans.json", "x", "2d").get(INTENSITIES) == expected


@pytest.fixture
def mine(prepared: Path, tmp_path: Path) -> Path:
    """The phantom's own plans with other voxels, patch, depth and batch, of another data set."""
    plans = copy.deepcopy(Dataset.open(prepared / "prepared").plans)
    settings = full(plans)
    plans["dataset_name"], plans["image_reader_writer"] = "../elsewhere", "NibabelIO"
    plans[INTENSITIES]["0"]["mean"] = 17.0
    settings |= {"spacing": [2 * mm for mm in settings["spacing"]], "patch_size": [8, 16, 16], "batch_size": 3}
    settings["architecture"]["arch_kwargs"] |= {
        "n_stages": 2, "features_per_stage": [6, 10], "strides": [[1, 1, 1], [2, 2, 2]],
        "kernel_sizes": [[3, 3, 3]] * 2, "n_conv_per_stage": [1, 3], "n_conv_per_stage_decoder": [1],
    }  # fmt: skip
    path = tmp_path / "mine.json"
    write_json(path, plans)
    return path


ASKED = Settings("phantom", "3d_fullres", 0.25, 1, None, None, folds=2, start_size=8)


def test_prepare_follows_it(mine: Path, phantom: Path, prepared: Path, tmp_path: Path) -> None:
    def made(plans: Path, name: str) -> Dataset:
        settings = replace(ASKED, plans=plans, groups=phantom / "groups.csv")
        prepare(phantom, settings, 1, tmp_path / name, tmp_path / "oracle.h5", tmp_path / "reference.h5")
        return Dataset.open(tmp_path / name)

    before, after = Dataset.open(prepared / "prepared"), made(mine, "mine")
    content = json.loads(mine.read_text())
    assert full(after.plans) == full(content)
    assert after.plans[INTENSITIES] == content[INTENSITIES]
    assert (after.plans["dataset_name"], after.plans["image_reader_writer"]) == ("Dataset001_phantom", "SimpleITKIO")
    case = before.pool[0]
    assert after.grids[case].spacing_mm == pytest.approx([2 * mm for mm in before.grids[case].spacing_mm], rel=0.05)
    assert after.digest != before.digest and after.digest_of([case]) != before.digest_of([case])
    del content[INTENSITIES]
    write_json(mine, content)
    assert made(mine, "without").plans[INTENSITIES] == before.plans[INTENSITIES]


def test_check_tells_it_by_the_row_and_sizes_follow_it(
    mine: Path, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = Budget(folds=2, start_size=8, query_size=8, patch_size="4,4,4", patches_per_image=20)
    given = {"plans": ("my plans.json", mine)}
    row = Demands("study.csv, row 1", budget, "random", ("random",), given)
    settings = CheckSettings("data", "3d_fullres", 0.25, None, None, None, None, "", (row,))
    fine = check(phantom, replace(settings, rows=(replace(row, given={}),)), tmp_path / "a.json")
    coarse = check(phantom, settings, tmp_path / "b.json")
    assert coarse["pool_voxels"] == pytest.approx(fine["pool_voxels"] / 8, rel=0.3)
    content = json.loads(mine.read_text())
    full(content)["normalization_schemes"] = ["ZScoreNormalization"] * 2
    write_json(mine, content)
    with pytest.raises(UserError) as told:
        check(phantom, settings, tmp_path / "c.json")
    assert told.value.lines == (
        "study.csv, row 1: plans my plans.json: normalization_schemes of 3d_fullres is for 2 channels, the data set "
        "has 1; give one for each, in their order",
    )


def test_the_forecast_tells_its_network(mine: Path, phantom: Path, tmp_path: Path) -> None:
    rows = [make_row("random", source="phantom", phantom_cases=8, plans="mine.json")]
    row = read_plan(write_plan(tmp_path / "plan.json", rows))[0].row
    found = network_of(row, images_of(row, phantom, mine))
    assert (found.patch, found.batch_size, found.feature_width) == ((8, 16, 16), 3, 6)
    unknown = images_of(row, None, mine)
    assert isinstance(unknown, Unknown) and network_of(row, unknown).patch == (8, 16, 16)
    content = json.loads(mine.read_text()) | {"experiment_planner_used": "nnUNetPlannerResEncL_torchres"}
    assert 0 < planned_gpu_gb(content, "3d_fullres", 1, 2) < 1
    mine.write_text("{}")
    with pytest.raises(UserError, match=r"^--plans mine.json: no plans of nnU-Net's"):
        images_of(row, phantom, mine)


def test_plans_that_patches_were_handed_out_by(mine: Path, phantom: Path, tmp_path: Path) -> None:
    own = own_plans(mine, "x", "3d_fullres", list_raw(phantom), "phantom")
    keep_plans(tmp_path / "kept.json", own, "state")
    asked = tmp_path / "kept.json", "3d_fullres", "nnUNetPlannerResEncM", 1
    assert kept_plans(*asked, own) == own
    assert kept_plans(*asked, {key: value for key, value in own.items() if key != INTENSITIES}) == own
    other = copy.deepcopy(own)
    full(other)["batch_size"] = 4
    with pytest.raises(UserError, match=r"^--plans: patches were handed out by other plans"):
        kept_plans(*asked, other)


def test_patch_and_width_change_a_plan_as_little_as_they_must(mine: Path) -> None:
    """Stages that the plan has keep their width and depth; further ones are as nnU-Net's planner makes them."""
    plans = load_plans(mine, "x", "3d_fullres")

    def architecture(*changes: Any) -> dict[str, Any]:
        found: dict[str, Any] = full(training_plans(plans, "3d_fullres", *changes))["architecture"]["arch_kwargs"]
        return found

    large = architecture((32, 32, 32), None, None)
    assert large["features_per_stage"] == [6, 10, 24, 48]
    assert (large["n_conv_per_stage"], large["n_conv_per_stage_decoder"]) == ([1, 3, 2, 2], [2, 2, 1])
    assert architecture(None, 5, 4)["features_per_stage"] == [5, 10]
    assert architecture((4, 8, 8), None, None)["n_conv_per_stage"][:2] == [1, 3]


@pytest.mark.parametrize("planner", ["ExperimentPlanner", "nnUNetPlannerResEncM", "nnUNetPlannerResEncL"])
def test_features_of_the_last_but_one_stage(planner: str, tmp_path: Path) -> None:
    """Of plain networks and of those with residual encoders, with another patch and width than planned."""
    heads = [Head(1, (60, 60, 60), (1.0, 1.0, 1.0))] * 20
    plans = training_plans(
        run_planner(NNUNET, fingerprint_of_heads(heads), "x", planner_name=planner), "3d_fullres", (16, 16, 16), 4, 2
    )
    settings = PlansManager(plans).get_configuration("3d_fullres")
    assert (settings.batch_size, settings.patch_size) == (2, [16, 16, 16])
    classes = {"labels": {"background": 0, "a": 1, "ignore": 2}, "channel_names": {"0": "MRI"}}
    paths = [tmp_path / f"{fold}.pth" for fold in range(2)]
    for path in paths:
        weights = build_network(settings, 1, 2, False).state_dict()
        save_fold(path, FoldCheckpoint(weights, plans, "3d_fullres", classes, (0, 1, 2), path.stem))
    ensemble = Ensemble(paths, torch.device("cpu"), 0.5, mirroring=False)
    ensemble.check_features()
    image = np.random.default_rng(0).normal(size=(1, 20, 16, 18)).astype(np.float32)
    cells = [-(-n // 2) for n in (20, 16, 18)]
    assert ensemble.feature_cell == (2, 2, 2)
    features = ensemble.fold_features(image)
    assert features.shape == (2 * 8, *cells) and np.isfinite(features).all()
    with torch.inference_mode():  # a window without a neighbour, by the encoder itself
        network = build_network(settings, 1, 2, False)
        network.load_state_dict(torch.load(paths[0], weights_only=True)["weights"])
        corner = network.eval().encoder(torch.from_numpy(image[None, :, :16, :16, :16]))[-2]
    np.testing.assert_allclose(ensemble.fold_features(image[:, :16, :, :16])[:8], corner[0], atol=1e-5)
