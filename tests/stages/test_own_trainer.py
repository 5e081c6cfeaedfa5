"""Trainings with a trainer of one's own, on the phantom: those of docs/trainers.md, and some that fail."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import ROOT
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from pages import blocks

from nnactive_nf.core.dataset import Dataset
from nnactive_nf.core.ensemble import Ensemble
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json
from nnactive_nf.core.nnunet import load_fold, resolve_device
from nnactive_nf.core.trainer_file import load_trainer
from nnactive_nf.evaluate.run import evaluate
from nnactive_nf.export.run import of_task
from nnactive_nf.predict.run import predict
from nnactive_nf.train.run import Settings, train

pytestmark = pytest.mark.slow

FOCAL, DILATED = (block.text for block in blocks(ROOT / "docs" / "trainers.md", "python"))
IDS = {"node": "node", "dataset": "phantom", "regime": "main", "seed": 1, "cycle": 0, "strategy": None}


def written(folder: Path, code: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.py").write_text(code)
    return folder / "mine.py"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def trained(prepared: Path, labels_file: Path, store: Path, tmp_path: Path):
    """Train a fold with the code of a trainer, or with ours; its folder, its record."""

    def run(name: str, code: str | None = None, epochs: int = 1) -> tuple[Path, dict]:
        file = None if code is None else written(tmp_path / name, code)
        settings = Settings(1, 0, 0, 2, epochs, 2, (8, 16, 16), 4, 2, "adamw", None)
        out = tmp_path / name / "fold_0"
        train(prepared / "prepared", labels_file, settings, "node", "cpu", 1, store, "code", out, file)
        return out, read_json(out / "training.json")

    return run


def test_a_trainer_with_another_loss_has_a_place_of_its_own_in_the_store(
    trained, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, ours = trained("ours")
    out, focal = trained("focal", FOCAL)
    assert ours["digest"] != focal["digest"] and "trainer" not in ours
    assert ours["curve"][0]["train_loss"] != focal["curve"][0]["train_loss"]
    assert focal["trainer"] == "FocalTrainer" and len(focal["trainer_sha256"]) == 64
    assert load_fold(out / "checkpoint.pth").network_by == ""  # its network is the planned one: nobody needs the file
    assert "was trained before" not in capsys.readouterr().out
    assert trained("again", FOCAL)[1]["digest"] == focal["digest"]
    assert trained("ours again")[1]["digest"] == ours["digest"]
    assert capsys.readouterr().out.count("was trained before") == 2
    assert trained("changed", f"{FOCAL}\n# a remark\n")[1]["digest"] not in (focal["digest"], ours["digest"])
    assert len(list(store.glob("*/*/finished"))) == 3


def test_the_augmentation_of_the_docs_is_drawn(tmp_path: Path) -> None:
    trainer = load_trainer(written(tmp_path, FOCAL), "mine").trainer
    given = ((8, 16, 16), (-0.5, 0.5), None, (0, 1, 2), False)
    theirs = trainer.get_training_transforms(*given, use_mask_for_norm=[False], ignore_label=3)
    assert type(theirs.transforms[-1].transform).__name__ == "GaussianBlurTransform"


def test_a_network_of_ones_own_is_trained_predicted_measured_and_handed_over(
    trained, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared / "prepared"
    dataset = Dataset.open(folder)
    out, _ = trained("dilated", DILATED, epochs=2)
    checkpoints, file = [out / "checkpoint.pth"], tmp_path / "dilated" / "mine.py"
    maps = ("predictive_entropy", "prediction")

    def predicted(trainer_file: Path | None, names: tuple[str, ...] = maps) -> None:
        predict(folder, checkpoints, names, "node", 0, 0, 4, 0.75, "cpu", 1, tmp_path / "maps.h5", trainer_file)

    def measured(trainer_file: Path | None) -> None:
        evaluate(
            folder, prepared / "reference.h5", checkpoints, IDS, 0.5, False, 2.0, "cpu", 1, tmp_path / "metrics.json",
            trainer_file=trainer_file,
        )  # fmt: skip

    for work in (predicted, measured):
        with pytest.raises(UserError, match="its network is a trainer file's own; give that file with --trainer-file"):
            work(None)
    with pytest.raises(UserError, match="has no encoder with stages"):
        predicted(file, ("fold_features",))
    predicted(file)
    measured(file)
    assert (tmp_path / "maps.h5").is_file() and len(read_json(tmp_path / "metrics.json")["cases"]) == len(dataset.test)

    model = tmp_path / "model"
    of_task("model", folder, "node", [out], None, 0.5, True, False, "cpu", 1, model, file)
    told = (model / "predict.md").read_text()
    assert "    nnUNet_extTrainer=trainer PYTHONPATH=PROJECT/bin nnUNetv2_predict_from_modelfolder -i" in told
    assert (model / "trainer" / "trainer.py").read_text() == DILATED
    monkeypatch.setenv("nnUNet_extTrainer", str(model / "trainer"))
    theirs = nnUNetPredictor(
        tile_step_size=0.5, use_mirroring=True, device=torch.device("cpu"), perform_everything_on_device=False
    )
    theirs.initialize_from_trained_model_folder(str(model), (0,))
    assert type(theirs.network).__name__ == "_Dilated"
    image = dataset.network_image(dataset.test[0])
    ours = Ensemble(checkpoints, resolve_device("cpu", 1), 0.5, True, file).mean_logits(image)
    found = theirs.predict_logits_from_preprocessed_data(torch.from_numpy(image))
    np.testing.assert_allclose(ours.float(), found.float(), atol=2e-2)


def test_a_training_that_was_stopped_goes_on_with_the_trainers_own_optimiser(
    trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose state is of other shapes than the weights."""
    code = DILATED + (
        "\n\n    def configure_optimizers(self):\n"
        "        optimizer = torch.optim.Adafactor(self.network.parameters(), self.initial_lr)\n"
        "        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))\n"
    )
    whole = trained("whole", code, epochs=3)[1]
    changed = f"{code}\n# another place in the store\n"
    from nnactive_nf.train.trainer import ActiveTrainer

    epoch = ActiveTrainer._epoch

    def stops(trainer: ActiveTrainer, check: object) -> None:
        if trainer.current_epoch == 2:
            raise UserError("stopped")
        epoch(trainer, check)

    with monkeypatch.context() as patch:
        patch.setattr(ActiveTrainer, "_epoch", stops)
        with pytest.raises(UserError, match="stopped"):
            trained("stopped", changed, epochs=3)
    resumed = trained("resumed", changed, epochs=3)[1]
    assert resumed["resumed_from"] in ([1], [2]) and resumed["curve"] == whole["curve"]


LOSS = FOCAL.partition("class FocalTrainer")[0]
FAULTS = {
    "the loss": (
        FOCAL.replace("loss.loss.ce =", "1 / 0\n        loss.loss.ce ="),
        r"FocalTrainer has failed \(ZeroDivisionError in line \d+: division by zero\)",
    ),
    "a step": (
        FOCAL.replace("target = target.long()", "target = target.longer()"),
        r"FocalTrainer has failed \(AttributeError in line \d+: 'Tensor' object has no attribute 'longer'\)",
    ),
    "the constructor": (
        f"{LOSS}class T(ActiveTrainer):\n    def __init__(self, *args):\n        super().__init__(*args)\n",
        r"T has failed \(KeyError in line \d+: 'args'\)",
    ),
    "no network": (
        DILATED.replace("return _Dilated", "_Dilated"), r"DilatedTrainer has failed \(AttributeError: 'NoneType' .*",
    ),
    "other classes": (
        DILATED.replace("num_output_channels)", "7)"),
        r"the network of DilatedTrainer turns a patch of \(8, 16, 16\) voxels into \(1, 7, 8, 16, 16\), wanted are .*",
    ),
    "a list": (
        DILATED.replace("return _Dilated", "return _Two").replace(
            "class Dil", "class _Two(_Dilated):\n    def forward(self, x):\n        return [x, x]\n\n\nclass Dil"
        ),
        r"the network of DilatedTrainer turns a patch of \(8, 16, 16\) voxels into list, wanted are .*",
    ),
    "other weights in predictions": (
        DILATED.replace("        self.enable_deep_supervision = False\n", "").replace(
            "num_output_channels)", "num_output_channels, 4 if enable_deep_supervision else 8)"
        ),
        r"the network of DilatedTrainer has other weights with enable_deep_supervision=False, .* \(0.bias\); .*",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_what_goes_wrong_under_it_is_told_in_one_line(name: str, trained, tmp_path: Path) -> None:
    code, message = FAULTS[name]
    with pytest.raises(UserError) as told:
        trained("faulty", code)
    (line,) = told.value.lines
    start = f"--trainer-file {tmp_path}/faulty/mine.py: "
    assert line.startswith(start)
    assert re.fullmatch(message, line.removeprefix(start)), line
    assert not (tmp_path / "faulty" / "fold_0").exists()


def test_the_command(prepared: Path, labels_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "fold_0"
    file = written(tmp_path / "it's $(odd)", FOCAL)
    words = [
        "--prepared", prepared / "prepared", "--labels", labels_file, "--node", "node", "--seed", 1, "--cycle", 0,
        "--fold", 0, "--folds", 2, "--epochs", 1, "--iterations", 1, "--train-patch-size", "8,16,16", "--features", 4,
        "--batch-size", 2, "--device", "cpu", "--store", tmp_path / "store", "--code", "code", "--out", out,
    ]  # fmt: skip
    command = runpy.run_path(str(ROOT / "bin" / "train.py"))["main"]
    done = CliRunner().invoke(command, [str(word) for word in (*words, "--trainer-file", file)])
    assert done.exit_code == 0, done.output
    assert read_json(out / "training.json")["trainer"] == "FocalTrainer"
