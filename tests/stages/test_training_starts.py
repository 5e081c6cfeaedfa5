"""Real trainings on the phantom that start from weights, go on from others, end early, or have a residual encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.ensemble import Ensemble
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json, write_json
from nnactive_nf.core.initial_weights import HEADS
from nnactive_nf.core.labels import Labels, read_labels, write_labels
from nnactive_nf.core.nnunet import load_fold, resolve_device
from nnactive_nf.export.model import write_model
from nnactive_nf.prepare.run import Settings as PrepareSettings
from nnactive_nf.prepare.run import prepare
from nnactive_nf.train.compiled import Compilation
from nnactive_nf.train.plateau import ending_of
from nnactive_nf.train.run import Settings, train
from nnactive_nf.train.trainer import PERTURB, SHRINK, ActiveTrainer

pytestmark = pytest.mark.slow

Training = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def labels(prepared: Path, labels_file: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Labels of two cycles of a trajectory: some of the patients, then all."""
    whole = read_labels(labels_file)
    groups = Dataset.open(prepared / "prepared").groups
    patients = sorted({groups[case] for case in whole.masks})
    folder = tmp_path_factory.mktemp("labels")
    paths = []
    for cycle, known in enumerate((patients[:2], patients)):
        masks = {case: mask for case, mask in whole.masks.items() if groups[case] in known}
        paths.append(folder / f"{cycle}.h5")
        write_labels(paths[-1], Labels("phantom", "node", cycle, whole.classes, masks))
    assert len(patients) > 2
    return paths


@pytest.fixture(scope="module")
def trained(prepared: Path, labels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Training]:
    """Train a fold in a few iterations; its folder, its record."""
    folder = tmp_path_factory.mktemp("trained")

    def run(name: str, cycle: int = 0, fold: int = 0, epochs: int = 1, code: str = "code", **options: Any) -> Training:
        asked = {key: options.pop(key) for key in ("stop_training", "training_start") if key in options}
        features = options.pop("features", 4)
        settings = Settings(1, cycle, fold, 2, epochs, 1, (8, 16, 16), features, 2, "adamw", None, **asked)
        out = folder / name
        train(
            options.pop("images", prepared / "prepared"), labels[cycle], settings, "node", "cpu", 1,
            folder / "store", code, out, **options,
        )  # fmt: skip
        return out, read_json(out / "training.json")

    return run


@pytest.fixture(scope="module")
def first(trained: Callable[..., Training]) -> Training:
    return trained("first")


@pytest.fixture(scope="module")
def theirs(first: Training, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder's checkpoint, as nnU-Net takes it."""
    folder = tmp_path_factory.mktemp("model")
    write_model(folder, [first[0] / "checkpoint.pth"], Dataset.open(prepared / "prepared").classes, "n", 0.5, True)
    return folder / "fold_0" / "checkpoint_final.pth"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """The weights with which trainings began."""
    seen: list[dict[str, torch.Tensor]] = []
    run = ActiveTrainer.run

    def look(trainer: ActiveTrainer, *arguments: Any) -> None:
        seen.append(trainer.state()["weights"])
        run(trainer, *arguments)

    monkeypatch.setattr(ActiveTrainer, "run", look)
    return seen


def test_a_training_starts_from_the_users_weights_but_for_the_heads(
    trained: Callable[..., Training],
    first: Training,
    theirs: Path,
    drawn: list[Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained("untouched", code="other")
    _, record = trained("from weights", initial_weights=theirs)
    fresh, begun = drawn
    given = load_fold(first[0] / "checkpoint.pth").weights
    for name, value in begun.items():
        assert torch.equal(value, fresh[name] if HEADS in name else given[name]), name
    assert not all(torch.equal(value, fresh[name]) for name, value in given.items())
    assert "; starts from the weights of checkpoint_final.pth, but for its heads (" in capsys.readouterr().out
    assert record["digest"] != first[1]["digest"] and record["start"] == "initial_weights"
    again = trained("again", initial_weights=theirs)[1]
    assert again["digest"] == record["digest"] and "was trained before" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"checkpoint_final.pth: its weights do not fit the network: encoder"):
        trained("does not fit", initial_weights=theirs, features=2)


@pytest.mark.parametrize("start", ["previous", "shrink_perturb"])
def test_a_fold_goes_on_from_the_same_fold_and_leaves_out_what_that_one_left_out(
    start: str, trained: Callable[..., Training], first: Training, drawn: list[Any], prepared: Path
) -> None:
    folder, before = first
    _, record = trained(start, cycle=1, training_start=start, before=folder)
    given = load_fold(folder / "checkpoint.pth").weights
    (begun,) = drawn
    if start == "previous":
        assert all(torch.equal(value, given[name]) for name, value in begun.items())
    else:
        noise = torch.cat([(begun[name] - SHRINK * value).flatten() for name, value in given.items()]) / PERTURB
        assert float(noise.mean()) == pytest.approx(0, abs=0.05) and float(noise.std()) == pytest.approx(1, abs=0.05)
    assert set(before["fold_of"]) < set(record["fold_of"])
    assert {case: record["fold_of"][case] for case in before["fold_of"]} == before["fold_of"]
    assert set(before["val_cases"]) <= set(record["val_cases"])
    assert not set(record["val_cases"]) & set(before["train_cases"])
    groups = Dataset.open(prepared / "prepared").groups
    assert {groups[case] for case in record["val_cases"]}.isdisjoint(groups[case] for case in record["train_cases"])
    assert (record["start"], len(record["start_sha256"])) == (start, 64)
    assert record["start_sha256"] == before["checkpoint_sha256"]


def test_what_a_training_goes_on_from_is_part_of_what_it_rests_on(
    trained: Callable[..., Training], first: Training, tmp_path: Path
) -> None:
    other = trained("elsewhere", code="other code", epochs=2)[0]
    ways: list[dict[str, Any]] = [
        {"training_start": "previous", "before": first[0]}, {"training_start": "shrink_perturb", "before": first[0]},
        {"training_start": "previous", "before": other}, {},
    ]  # fmt: skip
    records = [trained(f"way {number}", cycle=1, **options)[1] for number, options in enumerate(ways)]
    assert len({record["digest"] for record in records}) == 4
    with pytest.raises(UserError, match=r"--training-start previous: --before must name the fold to go on from"):
        trained("none", cycle=1, training_start="previous")
    with pytest.raises(UserError, match=r"checkpoint.pth: not fold 1 of the same network, from which this training is"):
        trained("another fold", cycle=1, fold=1, training_start="previous", before=first[0])
    with pytest.raises(UserError, match=r"checkpoint.pth: not fold 0 of the same network, from which this training is"):
        trained("another network", cycle=1, features=2, training_start="previous", before=first[0])
    (tmp_path / "checkpoint.pth").hardlink_to(first[0] / "checkpoint.pth")
    for wrong in ({}, {"fold_of": {}}, {"fold_of": dict.fromkeys(first[1]["fold_of"], 0)}, {"fold_of": {"a": "0"}}):
        write_json(tmp_path / "training.json", {k: v for k, v in first[1].items() if k != "fold_of"} | wrong)
        with pytest.raises(UserError, match=r"training.json: does not tell the folds that its network"):
            trained("no folds", cycle=1, training_start="previous", before=tmp_path)


def test_given_folds_stay(trained: Callable[..., Training], labels: list[Path], tmp_path: Path) -> None:
    cases = sorted(read_labels(labels[1]).masks)
    folds = {case: place % 2 for place, case in enumerate(cases)}

    def written(name: str, of: dict[str, int]) -> Path:
        (tmp_path / name).write_text("case,fold\n" + "".join(f"{case},{fold}\n" for case, fold in of.items()))
        return tmp_path / name

    before = trained("given", folds_file=written("folds.csv", folds))[0]
    options = {"cycle": 1, "training_start": "previous", "before": before}
    assert trained("stay", folds_file=tmp_path / "folds.csv", **options)[1]["fold_of"] == folds
    moved = {case: 1 - fold for case, fold in folds.items()}
    with pytest.raises(UserError, match=r"--folds-file: case .* was in fold [01] for the node before"):
        trained("moved", folds_file=written("moved.csv", moved), **options)


@pytest.fixture
def told_dice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Dice on the validation batches is told, best in the second epoch, so that an end is where it is expected."""
    step = ActiveTrainer.validation_step

    def told(trainer: ActiveTrainer, batch: Any) -> dict[str, Any]:
        found = step(trainer, batch)
        rest = np.full_like(found["tp_hard"], 5)
        hits = np.full_like(rest, 10 if trainer.current_epoch == 1 else 1)
        return found | {"tp_hard": hits, "fp_hard": rest, "fn_hard": rest}

    monkeypatch.setattr(ActiveTrainer, "validation_step", told)


WAYS: dict[str, dict[str, Any]] = {
    "plateau": {"stop_training": "plateau:2"},
    "shrink_perturb": {"training_start": "shrink_perturb", "cycle": 1},
    "initial_weights": {},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_training_that_was_killed_comes_out_equal(
    way: str,
    trained: Callable[..., Training],
    first: Training,
    theirs: Path,
    told_dice: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    more = {"plateau": {}, "shrink_perturb": {"before": first[0]}, "initial_weights": {"initial_weights": theirs}}[way]
    options = WAYS[way] | more | {"epochs": 12 if way == "plateau" else 3}
    whole, record = trained(f"{way} whole", **options)
    epochs = len(record["curve"])
    assert epochs == {"plateau": 6}.get(way, 3)
    epoch = ActiveTrainer._epoch

    def stops(trainer: ActiveTrainer, check: Any) -> None:
        if trainer.current_epoch == epochs - 1:
            raise UserError("stopped")
        epoch(trainer, check)

    with monkeypatch.context() as patch:
        patch.setattr(ActiveTrainer, "_epoch", stops)
        patch.setattr("nnactive_nf.train.run.CHECKPOINT_SPACING", 0)
        with pytest.raises(UserError, match="stopped"):
            trained(f"{way} stopped", code="killed", **options)
    resumed, again = trained(f"{way} resumed", code="killed", **options)
    assert again["resumed_from"] == [epochs - 1]
    assert again["curve"] == record["curve"] and again["epochs"] == record["epochs"]
    one, other = (load_fold(folder / "checkpoint.pth").weights for folder in (whole, resumed))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_training_ends_early_and_its_learning_rate_with_it(
    trained: Callable[..., Training], first: Training, told_dice: None
) -> None:
    _, record = trained("early", epochs=10, stop_training="plateau:2")
    assert (len(record["curve"]), record["epochs"], record["plateau"]) == (6, 6, 4)
    rates = [epoch["learning_rate"] for epoch in record["curve"]]
    assert rates == pytest.approx([0.003 * (1 - at / 10) ** 0.9 for at in (0, 1, 2, 3, 4, 7)])
    assert record["digest"] != first[1]["digest"] and "plateau" not in first[1]
    assert ending_of(record["curve"], 2, 10) == ending_of(record["curve"][:4], 2, 10)


def test_a_residual_encoder_is_trained_with_another_width_patch_and_batch_and_has_features(
    phantom: Path, trained: Callable[..., Training], tmp_path: Path
) -> None:
    planner = "nnUNetPlannerResEncM"
    settings = PrepareSettings(
        "phantom", "3d_fullres", 0.25, 1, phantom / "groups.csv", None, folds=2, start_size=8, planner=planner
    )
    images = tmp_path / "prepared"
    prepare(phantom, settings, 1, images, tmp_path / "oracle.h5", tmp_path / "reference.h5")
    out, _ = trained("residual", images=images)
    fold = load_fold(out / "checkpoint.pth")
    planned = fold.plans["configurations"]["3d_fullres"]
    architecture = planned["architecture"]
    assert architecture["network_class_name"].endswith(".ResidualEncoderUNet")
    assert (planned["patch_size"], planned["batch_size"]) == ([8, 16, 16], 2)
    assert architecture["arch_kwargs"]["features_per_stage"][0] == 4
    ensemble = Ensemble([out / "checkpoint.pth"], resolve_device("cpu", 1), 0.5, False)
    ensemble.check_features()
    dataset = Dataset.open(images)
    image = dataset.network_image(dataset.pool[0])
    features = ensemble.fold_features(image)
    cells = [-(-n // cell) for n, cell in zip(image.shape[1:], ensemble.feature_cell, strict=True)]
    assert features.shape == (architecture["arch_kwargs"]["features_per_stage"][-2], *cells)
    assert np.isfinite(features).all() and features.std() > 0


def test_a_plan_of_the_users_own_is_prepared_and_trained(
    phantom: Path, prepared: Path, labels: list[Path], tmp_path: Path
) -> None:
    """The phantom's plan by hand: other patch, residual encoder, batch of three; and once more from its product."""
    plans = read_json(prepared / "prepared" / "plans.json")
    settings = plans["configurations"]["3d_fullres"]
    network = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    changed = {
        "n_stages": 3, "features_per_stage": [4, 6, 8], "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        "kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]], "n_blocks_per_stage": [1, 2, 1],
        "n_conv_per_stage_decoder": [1, 1],
    }  # fmt: skip
    keywords = {
        key: value for key, value in settings["architecture"]["arch_kwargs"].items() if key != "n_conv_per_stage"
    }
    settings["architecture"] |= {"network_class_name": network, "arch_kwargs": keywords | changed}
    settings |= {"patch_size": [8, 16, 16], "batch_size": 3}
    write_json(tmp_path / "mine.json", plans)

    def made(file: Path, name: str) -> tuple[Path, Path]:
        asked = PrepareSettings(
            "phantom", "3d_fullres", 0.25, 1, phantom / "groups.csv", None, folds=2, start_size=8, plans=file
        )
        folder = tmp_path / name
        folder.mkdir()
        prepare(phantom, asked, 1, folder / "prepared", folder / "oracle.h5", folder / "reference.h5")
        training = Settings(1, 0, 0, 2, 1, 1, None, None, None, "adamw", None)
        train(folder / "prepared", labels[0], training, "node", "cpu", 1, tmp_path / "store", "code", folder / "fold")
        return folder / "prepared", folder / "fold" / "checkpoint.pth"

    images, checkpoint = made(tmp_path / "mine.json", "first")
    fold = load_fold(checkpoint)
    assert fold.plans["configurations"] == {"3d_fullres": settings}
    dataset = Dataset.open(images)
    ensemble = Ensemble([checkpoint], resolve_device("cpu", 1), 0.5, mirroring=False)
    assert np.isfinite(ensemble.fold_features(dataset.network_image(dataset.pool[0]))).all()
    write_model(tmp_path / "model", [checkpoint], dataset.classes, "node", 0.5, False)
    again, same = made(tmp_path / "model" / "plans.json", "second")
    assert Dataset.open(again).digest == dataset.digest
    assert load_fold(same).digest == fold.digest  # taken from the store


def test_a_compiled_training_is_another_ones_to_the_last_digits_and_either_goes_on_from_the_other(
    trained: Callable[..., Training], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Compiled, killed, on without, killed, and on compiled: one form of checkpoint, one place in the store.

    By torch's backend that traces and differentiates, and leaves kernels as they are: to compile them for a CPU takes
    minutes (a few of them are compiled in tests/unit/test_train_compiled.py).
    """
    whole = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: whole(module, backend="aot_eager"))
    monkeypatch.setattr("nnactive_nf.train.compiled.lacking", lambda device: "")
    plain, record = trained("not compiled", epochs=3, code="plain")
    assert (record["compiled"], record["compiled_why"]) == (False, "--compile off")
    epoch = ActiveTrainer._epoch
    compiled: list[bool] = []

    def stops(trainer: ActiveTrainer, check: Any) -> None:
        if compiled:
            raise UserError("stopped")
        epoch(trainer, check)
        compiled.append(hasattr(trainer.network, "_orig_mod"))

    for way in ("on", "off"):
        compiled.clear()
        with monkeypatch.context() as patch:
            patch.setattr(ActiveTrainer, "_epoch", stops)
            patch.setattr("nnactive_nf.train.run.CHECKPOINT_SPACING", 0)
            with pytest.raises(UserError, match="stopped"):
                trained(f"killed {way}", epochs=3, code="compiled", compile=way)
        assert compiled == [way == "on"]
    out, last = trained("compiled", epochs=3, code="compiled", compile="on")
    assert last["resumed_from"] == [1, 2] and (last["compiled"], last["compiled_why"]) == (True, "--compile on")
    assert "the network is compiled: --compile on" in capsys.readouterr().out
    for name in ("train_loss", "val_loss"):
        assert [e[name] for e in last["curve"]] == pytest.approx([e[name] for e in record["curve"]], rel=1e-3)
    one, other = (load_fold(folder / "checkpoint.pth").weights for folder in (plain, out))
    assert list(one) == list(other)
    trained("compiled again", epochs=3, code="compiled", compile="auto")
    assert "was trained before, taken from the store" in capsys.readouterr().out


def test_a_network_that_torch_cannot_compile(
    trained: Callable[..., Training], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`on` says so in one line; `auto` trains as if nobody had asked."""
    plain, _ = trained("plain", code="cannot, plain")

    def cannot(*_: Any) -> None:
        raise RuntimeError("no kernel\nfor this")

    def compile_network(trainer: ActiveTrainer) -> None:
        trainer.network = torch.compile(trainer.network, backend=cannot)

    monkeypatch.setattr(ActiveTrainer, "compile_network", compile_network)
    monkeypatch.setattr("nnactive_nf.train.run.compilation", lambda asked, *_: Compilation(True, f"--compile {asked}"))
    with pytest.raises(UserError, match=r"^--compile on: torch cannot compile this network .*; use --compile off$"):
        trained("on", code="cannot", compile="on")
    out, record = trained("auto", code="cannot", compile="auto")
    assert not record["compiled"] and record["compiled_why"].startswith("--compile auto: torch cannot compile this ne")
    assert f"the network is not compiled: {record['compiled_why']}" in capsys.readouterr().out.splitlines()
    one, other = (load_fold(folder / "checkpoint.pth").weights for folder in (plain, out))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
