"""TRAIN's parts: plans, loss, checkpoints."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.heads import Head
from nnactive_nf.core.labels import read_labels, write_labels
from nnactive_nf.core.nnunet import FoldCheckpoint, build_network, load_fold, save_fold
from nnactive_nf.core.planning import PLANNERS, fingerprint_of_heads, planned_gpu_gb, run_planner
from nnactive_nf.core.training_plans import training_plans
from nnactive_nf.train import run
from nnactive_nf.train.store import TrainingStore
from nnactive_nf.train.trainer import ActiveTrainer, copied_to_cpu


def test_a_class_that_a_training_does_not_see_is_told(
    prepared: Path,
    labels_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One class is labelled in the two cases of one patient, which are in one fold, and one nowhere."""
    dataset, labels = Dataset.open(prepared / "prepared"), read_labels(labels_file)
    organ, tail, lesion = dataset.classes.values[1:]
    patient = dataset.groups[dataset.pool[0]]
    for case, mask in labels.masks.items():
        mask[(mask == tail) | (mask == lesion)] = organ
        mask[0, 0, 0] = tail if dataset.groups[case] == patient else organ
    write_labels(tmp_path / "labels.h5", labels)
    trained: list[dict[str, int]] = []
    monkeypatch.setattr(
        run, "_train_fold", lambda folder, dataset, plans, settings, fold_of, *rest: trained.append(fold_of)
    )
    monkeypatch.setattr(TrainingStore, "deliver", lambda *_: None)
    settings = run.Settings(1, 0, 0, 2, 1, 1, None, None, None, "sgd", None)
    run.train(
        prepared / "prepared",
        tmp_path / "labels.h5",
        settings,
        "node",
        "cpu",
        1,
        tmp_path / "store",
        "code",
        tmp_path / "o",
    )
    (fold_of,) = trained
    assert capsys.readouterr().out.splitlines() == [
        "class 'lesion' is labelled in no case: no training sees it",
        f"class 'tail' is labelled in fold {fold_of[dataset.pool[0]]} alone (2 cases of 1 patients): "
        "the training that leaves this fold out does not see it",
    ]


def test_plans_follow_the_asked_for_patch_and_width(prepared: Path) -> None:
    plans = Dataset.open(prepared / "prepared").plans
    before = deepcopy(plans)
    changed = training_plans(plans, "3d_fullres", (16, 32, 32), 8, 3)["configurations"]["3d_fullres"]
    architecture = changed["architecture"]["arch_kwargs"]
    assert changed["patch_size"] == [16, 32, 32]
    assert changed["batch_size"] == 3
    assert architecture["features_per_stage"][:2] == [8, 16]
    stages = architecture["n_stages"]
    strides = np.prod(architecture["strides"], axis=0)
    assert (np.array(changed["patch_size"]) % strides == 0).all()
    assert [len(architecture[key]) for key in ("strides", "kernel_sizes", "features_per_stage")] == [stages] * 3
    assert plans == before
    same = training_plans(plans, "3d_fullres", None, None, None)["configurations"]["3d_fullres"]
    assert same == plans["configurations"]["3d_fullres"]
    flat = training_plans(plans, "2d", (1, 32, 24), 4, None)["configurations"]["2d"]
    assert flat["patch_size"] == [32, 24]


@pytest.mark.parametrize("planner", PLANNERS)
def test_planners_of_nnunet_with_another_patch_or_width(planner: str) -> None:
    """The planned patch asked for again is nnU-Net's own network; another one has its depths, whatever the planner."""
    heads = [Head(1, (150, 300, 300), (2.5, 1.0, 1.0))] * 100
    nnunet_json = {
        "channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "SimpleITKIO",
    }  # fmt: skip
    plans = run_planner(nnunet_json, fingerprint_of_heads(heads), "x", planner_name=planner)
    assert plans["experiment_planner_used"] == planner
    planned = plans["configurations"]["3d_fullres"]
    z, y, x = (planned["patch_size"][axis] for axis in plans["transpose_backward"])
    again = training_plans(plans, "3d_fullres", (z, y, x), None, None)["configurations"]["3d_fullres"]
    assert again == json.loads(json.dumps(planned))
    small = training_plans(plans, "3d_fullres", (8, 16, 16), 4, 2)
    architecture = small["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    kind = "n_conv_per_stage" if planner == "ExperimentPlanner" else "n_blocks_per_stage"
    stages = architecture["n_stages"]
    assert stages < planned["architecture"]["arch_kwargs"]["n_stages"]
    assert architecture[kind] == planned["architecture"]["arch_kwargs"][kind][:stages]
    network = build_network(PlansManager(small).get_configuration("3d_fullres"), 1, 2, deep_supervision=False)
    assert network(torch.zeros(1, 1, 8, 16, 16)).shape == (1, 2, 8, 16, 16)
    assert network.encoder.output_channels[0] == 4
    reference = {
        "ExperimentPlanner": 8,
        "nnUNetPlannerResEncM": 8,
        "nnUNetPlannerResEncL": 24,
        "nnUNetPlannerResEncXL": 40,
    }
    assert planned_gpu_gb(plans, "3d_fullres", 1, 2) == pytest.approx(reference[planner], rel=0.35)
    schema = json.loads((Path(__file__).parents[2] / "nextflow_schema.json").read_text())
    assert planner in schema["$defs"]["input_output"]["properties"]["planner"]["enum"]


def test_dice_loss_has_no_smoothing_term_and_ignores_unlabelled_voxels() -> None:
    trainer = SimpleNamespace(
        label_manager=LabelManager({"background": 0, "a": 1, "b": 2, "ignore": 3}, None),
        configuration_manager=SimpleNamespace(batch_dice=False),
        is_ddp=False, enable_deep_supervision=False, _do_i_compile=lambda: False,
    )  # fmt: skip
    loss = ActiveTrainer._build_loss(trainer)
    target = torch.full((1, 1, 4, 4, 4), 3)
    target[0, 0, 0, 0, :2] = torch.tensor([0, 1])  # two labelled voxels, none of class b
    sure = torch.full((1, 3, 4, 4, 4), -30.0)
    sure[:, 0] = 30  # background everywhere: class a is missed, class b is rightly not there, so 0 / 0
    sure[0, 1, 1:] = 60  # what is predicted where nothing is labelled counts for nothing

    def value(logits: torch.Tensor) -> float:
        p = logits.softmax(1)[:, :, 0, 0, :2].double()
        truth = torch.tensor([[1.0, 0], [0, 1], [0, 0]]).double()
        entropy = -(truth * logits.log_softmax(1)[0, :, 0, 0, :2].double()).sum() / 2
        overlap, size = 2 * (p[0] * truth).sum(1), (p[0] + truth).sum(1).clamp_min(1e-8)
        return float(entropy - (overlap / size)[1:].mean())

    for logits in (sure, torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(1)) * 1e-3 + sure / 20):
        logits.requires_grad_()
        found = loss(logits, target)
        found.backward()
        assert found.item() == pytest.approx(value(logits.detach()), abs=1e-7)
        assert logits.grad is not None and torch.isfinite(logits.grad).all()
        assert not logits.grad[0, :, 1:].any()
    # A probability of 1e-6 for a class that is not there: 1e-5 of smoothing would make it a Dice of 0.83.
    faint = torch.zeros(1, 3, 4, 4, 4)
    faint[:, 2] = float(np.log(1e-6))
    assert float(loss(faint, target)) == pytest.approx(value(faint), abs=1e-5)
    nothing = loss(sure, torch.full_like(target, 3))
    assert nothing.item() == 0


def test_weights_under_several_names_are_written_once(prepared: Path, tmp_path: Path) -> None:
    """nnU-Net's networks name the encoder's convolutions four times in their state."""
    dataset = Dataset.open(prepared / "prepared")
    plans = training_plans(dataset.plans, "3d_fullres", (16, 32, 32), 8, None)
    network = build_network(PlansManager(plans).get_configuration("3d_fullres"), 1, 3, deep_supervision=True)
    state = copied_to_cpu(network.state_dict())
    bytes_of_parameters = sum(value.numel() * value.element_size() for value in network.parameters())
    assert sum(value.numel() * value.element_size() for value in state.values()) > 2 * bytes_of_parameters
    nnunet_json = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1, "b": 2, "ignore": 3}}
    save_fold(tmp_path / "fold.pth", FoldCheckpoint(state, plans, "3d_fullres", nnunet_json, (0, 1, 2), "digest"))
    assert bytes_of_parameters < (tmp_path / "fold.pth").stat().st_size < bytes_of_parameters + 100_000
    back = load_fold(tmp_path / "fold.pth").weights
    assert list(back) == list(state) and all(torch.equal(back[name], state[name]) for name in state)
    network.load_state_dict(back)

    # A copy, and one that goes along with nothing that comes after
    first = next(iter(state))
    with torch.no_grad():
        network.state_dict()[first].add_(1)
    assert not torch.equal(network.state_dict()[first], state[first])


def test_checkpoints_come_back_and_damaged_ones_are_told(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    fold = tiny.some_fold()
    save_fold(path, fold)
    back = load_fold(path)
    assert list(back.weights) == list(fold.weights)
    assert all(torch.equal(back.weights[name], value) for name, value in fold.weights.items())
    assert replace(back, weights={}) == replace(fold, weights={})
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match="may be truncated"):
        load_fold(path)
    torch.save({"format": "other"}, path)
    with pytest.raises(UserError, match="not a checkpoint of format"):
        load_fold(path)
    with pytest.raises(UserError, match="no such file"):
        load_fold(tmp_path / "nothing.pth")


@pytest.mark.parametrize("where", ["training", "validation"])
@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_training_at_once(where: str, loss: float) -> None:
    trainer = ActiveTrainer.__new__(ActiveTrainer)
    trainer.network = torch.nn.Linear(1, 1)
    trainer.fold, trainer.current_epoch, trainer.initial_lr, trainer.curve = 1, 7, 0.01, []
    trainer.grad_scaler = trainer.ending = None
    trainer.loader_seconds = trainer.loop_seconds = 0.0
    trainer.num_iterations_per_epoch = trainer.num_val_iterations_per_epoch = 5
    trainer.lr_scheduler = SimpleNamespace(step=lambda _: None)
    trainer.dataloader_train = trainer.dataloader_val = iter(range(100))
    steps: list[str] = []

    def step(name: str) -> dict[str, float]:
        steps.append(name)
        return {"loss": loss if name == where and steps.count(name) == 3 else 0.5}

    trainer.train_step = lambda _: step("training")
    trainer.validation_step = lambda _: step("validation")
    with pytest.raises(UserError, match=r"^fold 1, epoch 7: the loss is no longer a number \((nan|inf)\)"):
        trainer._epoch(lambda: None)
    assert steps.count(where) == 3 and trainer.curve == []


def test_half_precision_may_lose_a_single_loss_and_no_more() -> None:
    trainer = ActiveTrainer.__new__(ActiveTrainer)
    trainer.network = torch.nn.Linear(1, 1)
    trainer.fold, trainer.current_epoch, trainer.initial_lr, trainer.grad_scaler = 0, 3, 0.01, object()
    losses = [0.5]
    trainer._with_loss(losses, float("nan"))
    trainer._with_loss(losses, 0.25)
    assert losses == [0.5, 0.25]
    with pytest.raises(UserError, match="epoch 3"):
        trainer._with_loss([], float("nan"))
    with torch.no_grad():
        trainer.network.weight.fill_(float("inf"))
    with pytest.raises(UserError, match="epoch 3"):
        trainer._with_loss(losses, float("nan"))
