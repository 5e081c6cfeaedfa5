"""A user's trainer file: which class of it trains, what is refused, and who may read a network that it has built."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from nnactive_nf.core.ensemble import Ensemble
from nnactive_nf.core.errors import UserError
from nnactive_nf.core.nnunet import load_fold, save_fold
from nnactive_nf.core.trainer_file import load_trainer, trainer_errors
from nnactive_nf.train.store import Given, TrainingStore

BASE = "nnactive_nf.train.trainer.ActiveTrainer"
HEAD = "import torch\nfrom nnactive_nf.train.trainer import ActiveTrainer\n"
ARGUMENTS = "plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision"
NETWORK = f"""{HEAD}
class Mine(ActiveTrainer):
    @staticmethod
    def build_network_architecture({ARGUMENTS}=True):
        return torch.nn.Conv3d(num_input_channels, num_output_channels, 3, padding=1)
"""

GOOD = {
    "one": (f"{HEAD}class Mine(ActiveTrainer):\n    pass\n", "Mine"),
    "one beside others": (f"{HEAD}class Loss:\n    pass\nclass Mine(ActiveTrainer):\n    pass\n", "Mine"),
    "one beside a hidden one": (
        f"{HEAD}class _Base(ActiveTrainer):\n    pass\nclass Mine(_Base):\n    pass\n", "Mine",
    ),
    "one of two": (
        f"{HEAD}class A(ActiveTrainer):\n    pass\nclass B(ActiveTrainer):\n    pass\nTRAINER = A\n", "A",
    ),
}  # fmt: skip

BAD = {
    "nothing": ("", f"no subclass of {BASE} is defined in it"),
    "another class": ("class Mine:\n    pass\n", f"no subclass of {BASE} is defined in it (Mine: none)"),
    "nnU-Net's": (
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        "class Mine(nnUNetTrainer):\n    pass\n",
        f"no subclass of {BASE} is defined in it (Mine: none)",
    ),
    "imported alone": (HEAD, f"no subclass of {BASE} is defined in it"),
    "two": (
        f"{HEAD}class A(ActiveTrainer):\n    pass\nclass B(ActiveTrainer):\n    pass\n",
        "2 trainers are defined in it, A, B; say which is meant by a line TRAINER = B",
    ),
    "TRAINER is another class": (
        f"{HEAD}class Mine(ActiveTrainer):\n    pass\nTRAINER = dict\n", f"TRAINER is dict, no subclass of {BASE}",
    ),
    "TRAINER is a name": (
        f"{HEAD}class Mine(ActiveTrainer):\n    pass\nTRAINER = 'Mine'\n", f"TRAINER is 'Mine', no subclass of {BASE}",
    ),
    "import": ("import nowhere\n", "cannot be loaded (ModuleNotFoundError: No module named 'nowhere')"),
    "syntax": ("class Mine(:\n", "cannot be loaded (SyntaxError: invalid syntax (mine.py, line 1))"),
    "several lines": ("raise ValueError('a\\nb')\n", "cannot be loaded (ValueError: a\\nb)"),
    "exit": ("raise SystemExit(3)\n", "cannot be loaded (SystemExit: 3)"),
    "a method": (
        NETWORK.replace("    @staticmethod\n", ""),
        f"build_network_architecture of Mine must be a @staticmethod ({ARGUMENTS})",
    ),
    "nnU-Net's older arguments": (
        NETWORK.replace("plans_manager", "architecture_class_name"),
        f"build_network_architecture of Mine must be a @staticmethod ({ARGUMENTS})",
    ),
}  # fmt: skip


def written(folder: Path, code: str) -> Path:
    path = folder / "mine.py"
    path.write_text(code)
    return path


@pytest.mark.parametrize("name", GOOD)
def test_the_class_that_trains(name: str, tmp_path: Path) -> None:
    code, wanted = GOOD[name]
    path = written(tmp_path, code)
    found = load_trainer(path, "mine")
    assert (found.trainer.__name__, found.network_by) == (wanted, "")
    assert found.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert trainer_errors(path, "mine.py") == trainer_errors(None, None) == []


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_will_not_do(name: str, tmp_path: Path) -> None:
    code, message = BAD[name]
    assert trainer_errors(written(tmp_path, code), "mine.py") == [f"--trainer_file mine.py: {message}"]


@pytest.mark.parametrize(("name", "message"), [("no.py", "no such file"), ("folder.py", "not a file")])
def test_a_file_that_is_none(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    assert trainer_errors(tmp_path / name, name) == [f"--trainer_file {name}: {message}"]


def test_a_file_with_another_ending(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.touch()
    assert trainer_errors(path, "mine.txt") == [
        "--trainer_file mine.txt: is not a Python file; its name must end in .py"
    ]


def own_fold(folder: Path, code: str = NETWORK):
    """A trainer file with a network, and a fold of that network."""
    trainer = load_trainer(written(folder, code), "mine.py")
    network = torch.nn.Conv3d(1, 2, 3, padding=1)
    return trainer, replace(tiny.some_fold(), weights=network.state_dict(), network_by=trainer.network_by)


def test_a_network_of_the_file_is_read_with_that_file_alone(tmp_path: Path) -> None:
    trainer, fold = own_fold(tmp_path)
    path = tmp_path / "fold.pth"
    assert trainer.network_by == trainer.digest
    save_fold(path, fold)
    back = load_fold(path, trainer)
    assert back.network_by == trainer.digest and torch.equal(back.weights["weight"], fold.weights["weight"])
    with pytest.raises(UserError, match=r"fold.pth: its network is a trainer file's own; give that file with"):
        load_fold(path)
    (tmp_path / "other").mkdir()
    other = load_trainer(written(tmp_path / "other", f"{NETWORK}\n# later\n"), "later.py")
    with pytest.raises(UserError, match=r"its network is that of another trainer file than later.py, or of an older"):
        load_fold(path, other)
    save_fold(path, replace(fold, weights=tiny.some_fold().weights))
    with pytest.raises(UserError, match=r"its weights are not those of the network of mine.py"):
        load_fold(path, trainer)


def test_a_planned_network_is_read_with_a_trainer_file_and_without(tmp_path: Path) -> None:
    """A trainer with another loss; and a fold from before there was one with a network."""
    path, fold = tmp_path / "fold.pth", tiny.some_fold()
    save_fold(path, fold)
    assert "network_by" not in torch.load(path, weights_only=True)
    for trainer in (None, load_trainer(written(tmp_path, GOOD["one"][0]), "mine.py"), own_fold(tmp_path)[0]):
        assert load_fold(path, trainer).weights.keys() == fold.weights.keys()


def test_the_store_takes_no_fold_of_another_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer, fold = own_fold(tmp_path)
    planned = tiny.some_fold(digest="abc")
    place = TrainingStore(tmp_path / "store", "abc")
    given = Given(fold.plans, fold.configuration, fold.nnunet_json, trainer.network_by)
    place.finish(replace(fold, digest="abc"), {})
    assert place.finished(given, trainer)
    assert not place.finished(replace(given, network_by=""))
    assert "its network is a trainer file's own" in capsys.readouterr().out
    place.finish(planned, {})
    assert not place.finished(given, trainer)
    assert "was trained with other plans or classes, or another network" in capsys.readouterr().out


def test_a_network_that_cannot_be_built(tmp_path: Path) -> None:
    trainer, fold = own_fold(tmp_path)
    save_fold(tmp_path / "fold.pth", fold)
    last = NETWORK.strip().rpartition("\n")[2]
    for line, message in [
        ("        return 1 / 0", r"Mine builds no network \(ZeroDivisionError in line 7: division by zero\)"),
        ("        return None", "build_network_architecture returned NoneType, a torch.nn.Module is wanted"),
    ]:
        broken = load_trainer(written(tmp_path, NETWORK.replace(last, line)), "mine.py")
        with pytest.raises(UserError, match=f"^mine.py: {message}"):
            load_fold(tmp_path / "fold.pth", replace(broken, digest=trainer.digest))


def test_features_want_stages(tmp_path: Path) -> None:
    trainer, fold = own_fold(tmp_path)
    path = tmp_path / "fold.pth"
    save_fold(path, fold)
    ensemble = Ensemble([path], torch.device("cpu"), 0.5, False, trainer.path)
    with pytest.raises(UserError, match=re.escape(f"{path}: its network has no encoder with stages")):
        ensemble.check_features()
    save_fold(path, tiny.some_fold())
    Ensemble([path], torch.device("cpu"), 0.5, False, trainer.path).check_features()
