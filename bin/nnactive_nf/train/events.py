"""A training's scalars as an event file for TensorBoard, which grows while it trains (`--tensorboard`)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nnactive_nf.core.errors import one_line
from nnactive_nf.core.online_dice import mean_dice, moving_dice

Epoch = Mapping[str, Any]


class Events:
    """Times of a training's epochs, and its event file where there is a folder for one.

    `begin` writes all that was trained before into a file of its own, and what earlier attempts have written goes then:
    so no epoch stands there twice, whatever was lost with them. Nothing here ends a training: what cannot be written is
    told in one line, and no more is written then.

    Args:
        folder: the training's own folder; None for no file.
        classes: names of what `pseudo_dice` of a curve is of.
    """

    def __init__(self, folder: Path | None, classes: Sequence[str]) -> None:
        self.times: list[dict[str, float]] = []
        self._folder, self._classes = folder, tuple(classes)
        self._loop_seconds = self._loader_seconds = 0.0
        self._writer: Any = None

    def begin(self, curve: Sequence[Epoch], times: Sequence[Mapping[str, float]]) -> None:
        """Write the epochs that are trained; `times` are those of `self.times` in an earlier attempt."""
        with _Unharmed(self):
            self.times = [dict(one) for one in times]
            if self._folder is not None:
                self._open(curve)

    def _open(self, curve: Sequence[Epoch]) -> None:
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.record_writer import RecordWriter

        assert self._folder is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        before = list(self._folder.glob("*.tfevents.*"))
        # TensorBoard reads a folder's files in the order of their names, and goes on to the next one when it comes.
        path = self._folder / f"events.out.tfevents.{time.time_ns():020d}"
        self._writer = RecordWriter(str(path))
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))
        # One that is open forgets what it has read of the files before.
        self._write(Event(wall_time=time.time(), session_log=SessionLog(status=SessionLog.START)))
        for entry, moving in zip(curve, moving_dice(curve), strict=True):
            self._write(self._event(entry, moving))
        self._writer.flush()
        for old in before:
            with suppress(OSError):
                old.unlink()

    def epoch_ended(self, curve: Sequence[Epoch], loop_seconds: float, loader_seconds: float) -> None:
        """Take the last epoch of a curve; `*_seconds` are those of the trainer since this process trains."""
        spent = {"seconds": loop_seconds - self._loop_seconds, "loader_seconds": loader_seconds - self._loader_seconds}
        self.times.append({"at": round(time.time(), 3), **{name: round(value, 3) for name, value in spent.items()}})
        self._loop_seconds, self._loader_seconds = loop_seconds, loader_seconds
        if self._writer is not None:
            with _Unharmed(self):
                self._write(self._event(curve[-1], moving_dice(curve)[-1]))
                self._writer.flush()

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())

    def _event(self, entry: Epoch, moving: float | None) -> Any:
        """An epoch, at the time when it ended."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        step = int(entry["epoch"])
        spent = self.times[step] if step < len(self.times) else {}
        values = scalars(entry, moving, spent, self._classes)
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        return Event(wall_time=spent.get("at", time.time()), step=step, summary=summary)

    def close(self) -> None:
        """End the file."""
        with suppress(Exception):
            if self._writer is not None:
                self._writer.close()
        self._writer = None

    def give_up(self, error: BaseException) -> None:
        """Say why no more is written."""
        print(
            f"{self._folder}: cannot be written ({one_line(error)}); the training goes on without --tensorboard",
            flush=True,
        )
        self.close()


class _Unharmed:
    """A block whose failure ends the writing, not the training."""

    def __init__(self, events: Events) -> None:
        self._events = events

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, Exception):
            return False
        self._events.give_up(error)
        return True


def scalars(entry: Epoch, moving: float | None, spent: Mapping[str, float], classes: Sequence[str]) -> dict[str, float]:
    """What TensorBoard shows of an epoch, by tag; what is not known is left out.

    Args:
        entry: of a trainer's curve.
        moving: the moving mean of the online Dice after it.
        spent: `seconds` of the epoch, and `loader_seconds` of them that it waited for batches.
        classes: names of what its `pseudo_dice` is of.
    """
    seconds = spent.get("seconds")
    found = {
        "loss/train": entry["train_loss"],
        "loss/validation": entry["val_loss"],
        **{f"dice/{name}": dice for name, dice in zip(classes, entry["pseudo_dice"], strict=True)},
        "dice_mean/epoch": mean_dice(entry["pseudo_dice"]),
        "dice_mean/moving": moving,
        "learning_rate": entry.get("learning_rate"),
        "time/seconds_per_epoch": seconds,
        "time/share_waiting_for_batches": spent["loader_seconds"] / seconds if seconds else None,
    }
    return {tag: float(value) for tag, value in found.items() if value is not None}
