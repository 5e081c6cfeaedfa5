"""Event files for TensorBoard: what is in them, what a second attempt leaves, that nothing of it ends a training."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import pytest
from tfevents import events_in, scalars_in

from nnactive_nf.core.online_dice import moving_dice
from nnactive_nf.train.events import Events, scalars


def epoch(number: int, *dices: float | None) -> dict[str, Any]:
    loss = 1 - number / 8
    return {
        "epoch": number, "train_loss": loss, "val_loss": loss + 0.5, "pseudo_dice": list(dices), "learning_rate": 0.25,
    }  # fmt: skip


CURVE = [epoch(0, None, None), epoch(1, 0.5, None), epoch(2, 0.5, 1.0)]


def test_scalars_by_hand():
    assert scalars(CURVE[-1], moving_dice(CURVE)[-1], {"seconds": 4, "loader_seconds": 1}, ("organ", "lesion")) == {
        "loss/train": 0.75, "loss/validation": 1.25, "dice/organ": 0.5, "dice/lesion": 1.0, "dice_mean/epoch": 0.75,
        "dice_mean/moving": pytest.approx(0.9 * 0.5 + 0.1 * 0.75), "learning_rate": 0.25,
        "time/seconds_per_epoch": 4, "time/share_waiting_for_batches": 0.25,
    }  # fmt: skip
    assert scalars(CURVE[0], moving_dice(CURVE[:1])[-1], {}, ("organ", "lesion")) == {
        "loss/train": 1,
        "loss/validation": 1.5,
        "learning_rate": 0.25,
    }


def test_a_file_grows_with_each_epoch(tmp_path: Path):
    events = Events(tmp_path / "node" / "fold_0", ("organ", "lesion"))
    events.begin([], [])
    for number in range(3):
        events.epoch_ended(CURVE[: number + 1], 4.0 * (number + 1), 1.0 * (number + 1))
        found = scalars_in(tmp_path / "node" / "fold_0")  # before it is closed
        assert list(found["loss/train"]) == list(range(number + 1))
    events.close()
    assert found["time/seconds_per_epoch"] == {0: 4, 1: 4, 2: 4} and found["dice/lesion"] == {2: 1}
    assert [time["seconds"] for time in events.times] == [4, 4, 4]
    (path,) = (tmp_path / "node" / "fold_0").iterdir()
    written = events_in(path)
    assert written[0].file_version == "brain.Event:2" and written[1].HasField("session_log")
    assert [event.wall_time for event in written[2:]] == [time["at"] for time in events.times]


def test_a_training_that_goes_on_has_each_epoch_once(tmp_path: Path):
    """The first attempt was killed at epoch 2, and its last checkpoint is that of epoch 0."""
    first = Events(tmp_path, ("organ", "lesion"))
    first.begin([], [])
    for number in range(3):
        first.epoch_ended(CURVE[: number + 1], 4.0 * (number + 1), 0.0)
    killed = next(tmp_path.iterdir())
    second = Events(tmp_path, ("organ", "lesion"))
    second.begin(CURVE[:1], first.times[:1])
    assert scalars_in(tmp_path)["time/seconds_per_epoch"] == {0: 4}
    (new,) = tmp_path.iterdir()
    assert new.name > killed.name  # TensorBoard goes from file to file by name
    for number in (1, 2):
        second.epoch_ended(CURVE[: number + 1], 6.0 * number, 0.0)
    second.close()
    assert scalars_in(tmp_path)["time/seconds_per_epoch"] == {0: 4, 1: 6, 2: 6}
    assert second.times[0] == first.times[0] and len(second.times) == 3


def test_a_finished_training_of_an_earlier_version_is_written_without_times(tmp_path: Path):
    events = Events(tmp_path, ("organ", "lesion"))
    events.begin(CURVE, [])
    events.close()
    found = scalars_in(tmp_path)
    assert list(found["loss/validation"]) == [0, 1, 2] and "time/seconds_per_epoch" not in found


def test_without_a_folder_times_alone_are_kept(tmp_path: Path):
    events = Events(None, ())
    events.begin([], [])
    events.epoch_ended([epoch(0)], 2.0, 0.5)
    assert [(one["seconds"], one["loader_seconds"]) for one in events.times] == [(2.0, 0.5)]


def test_what_cannot_be_written_is_told_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    nowhere = Events(tmp_path / "file" / "fold_0", ("organ", "lesion"))
    nowhere.begin([], [])
    nowhere.epoch_ended(CURVE[:1], 1.0, 0.0)
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 1 and "Not a directory" in told[0] and "goes on without --tensorboard" in told[0]

    full = Events(tmp_path / "full", ("organ", "lesion"))
    full.begin([], [])
    full.epoch_ended(CURVE[:1], 1.0, 0.0)

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tensorboardX.record_writer.RecordWriter.write", no_room)
    for number in (1, 2):
        full.epoch_ended(CURVE[: number + 1], 1.0, 0.0)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{tmp_path}/full: cannot be written (") and "No space left on device" in line
    assert len(full.times) == 3
    again = Events(tmp_path / "full", ("organ", "lesion"))
    again.begin(CURVE[:2], full.times[:2])  # what stood there stays where nothing new can be written
    monkeypatch.undo()
    assert sum(len(events_in(path)) for path in (tmp_path / "full").iterdir()) >= 3


def test_without_the_library_a_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """An image that was made before."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboardX"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    events = Events(tmp_path / "fold_0", ("organ", "lesion"))
    events.begin([], [])
    events.epoch_ended(CURVE[:1], 1.0, 0.0)
    (line,) = capsys.readouterr().out.splitlines()
    assert "tensorboardX" in line
