"""The checkpoint store: what it goes on from, what passes for a finished fold, and what a task is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny
import torch

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.nnunet import FoldCheckpoint, load_fold
from nnactive_nf.train.store import TrainingStore, training_digest

FOLD, OTHER = tiny.some_fold(0), tiny.some_fold(1)


def same(one: FoldCheckpoint, other: FoldCheckpoint) -> bool:
    return all(torch.equal(one.weights[name], value) for name, value in other.weights.items())


def test_digest_follows_what_a_training_rests_on() -> None:
    base = {"labels": "a", "seed": 1, "plans": {"x": [1, 2]}}
    assert training_digest(base) == training_digest(dict(reversed(base.items())))
    for other in ({"labels": "b"}, {"seed": 2}, {"plans": {"x": [2, 1]}}):
        assert training_digest(base | other) != training_digest(base)


def test_store_goes_on_from_good_states_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = TrainingStore(tmp_path, "abc")
    assert not place.finished
    assert place.load_latest() is None
    place.save_latest({"epoch": 3, "weights": {"w": torch.ones(2)}})
    latest = place.load_latest()
    assert latest is not None
    assert latest["epoch"] == 3
    path = place.folder / "latest.pth"
    path.write_bytes(path.read_bytes()[:100])
    assert place.load_latest() is None
    assert "training starts anew" in capsys.readouterr().out


def test_a_finished_fold_takes_its_room_once_where_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = TrainingStore(tmp_path / "store", "abc")
    place.finish(FOLD, {"node": "", "seconds": 1.0})
    place.deliver(tmp_path / "linked", {"node": "n"})

    def refuse(*_: object) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    place.deliver(tmp_path / "copied", {"node": "n"})
    stored, linked, copied = (
        folder / "checkpoint.pth" for folder in (place.folder, tmp_path / "linked", tmp_path / "copied")
    )
    assert linked.samefile(stored) and not copied.samefile(stored)
    assert same(load_fold(copied), FOLD) and same(load_fold(linked), FOLD)


def test_trainings_lie_apart_by_digest(tmp_path: Path) -> None:
    one, other = TrainingStore(tmp_path, "abc"), TrainingStore(tmp_path, "abd")
    assert one.folder == tmp_path / "ab" / "abc"
    one.finish(FOLD, {})
    assert not other.finished
    assert TrainingStore(tmp_path, "abc").finished
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"checkpoint_store .*file: cannot be written \(Not a directory\)"):
        TrainingStore(tmp_path / "file", "abc")


@pytest.mark.parametrize("there", ["checkpoint.pth", "training.json"])
def test_a_half_finished_fold_is_trained_again(tmp_path: Path, there: str) -> None:
    """A task that was killed between the two files leaves the first, and the state to go on from."""
    place = TrainingStore(tmp_path / "store", "abc")
    place.save_latest({"epoch": 3})
    place.finish(FOLD, {"seconds": 1.0})
    for name in {"checkpoint.pth", "training.json"} - {there}:
        (place.folder / name).unlink()
    assert not place.finished
    latest = place.load_latest()
    assert latest is not None and latest["epoch"] == 3
    place.finish(OTHER, {"seconds": 2.0})
    assert place.finished
    place.deliver(tmp_path / "new" / "out", {})
    assert same(load_fold(tmp_path / "new" / "out" / "checkpoint.pth"), OTHER)
    assert json.loads((tmp_path / "new" / "out" / "training.json").read_text()) == {"seconds": 2.0}


def test_the_record_comes_last(tmp_path: Path) -> None:
    """A fold whose record cannot be written is not finished, though its checkpoint is there."""
    place = TrainingStore(tmp_path, "abc")
    with pytest.raises(ValueError, match="not JSON compliant"):
        place.finish(FOLD, {"seconds": float("nan")})
    assert (place.folder / "checkpoint.pth").is_file() and not place.finished


def test_a_leftover_state_goes_when_the_fold_is_delivered_and_not_before(tmp_path: Path) -> None:
    place = TrainingStore(tmp_path / "store", "abc")
    place.save_latest({"epoch": 3})
    place.finish(FOLD, {})
    assert (place.folder / "latest.pth").is_file()
    # As if the task had been killed here: the next one finds the fold finished
    again = TrainingStore(tmp_path / "store", "abc")
    assert again.finished
    again.deliver(tmp_path / "out", {})
    assert sorted(path.name for path in place.folder.iterdir()) == ["checkpoint.pth", "training.json"]
    again.deliver(tmp_path / "other", {})


@pytest.mark.parametrize("name", ["checkpoint.pth", "training.json"])
def test_a_damaged_fold_is_told_and_not_delivered(tmp_path: Path, name: str) -> None:
    place = TrainingStore(tmp_path / "store", "abc")
    place.save_latest({"epoch": 3})
    place.finish(FOLD, {"seconds": 1.0})
    (place.folder / name).write_bytes((place.folder / name).read_bytes()[:9])
    with pytest.raises(UserError, match=rf"{name}: .*; delete {place.folder}, and the fold is trained anew"):
        place.deliver(tmp_path / "out", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]
    assert (place.folder / "latest.pth").is_file()


def test_a_task_gets_its_own_ids_and_no_leftovers(tmp_path: Path) -> None:
    place = TrainingStore(tmp_path / "store", "abc")
    place.finish(FOLD, {"node": "first", "seconds": 1.0})
    part = tmp_path / ".out.part"
    part.mkdir()
    (part / "leftover").touch()
    place.deliver(tmp_path / "out", {"node": "second", "fold": 2})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["checkpoint.pth", "training.json"]
    assert not part.exists()
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record == {"node": "second", "fold": 2, "seconds": 1.0}
    assert json.loads((place.folder / "training.json").read_text())["node"] == "first"
