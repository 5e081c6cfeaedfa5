"""The checkpoint store: what it goes on from, what passes for a finished fold, and what a task is given."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch

from nnactive_nf.core.errors import UserError
from nnactive_nf.core.files import read_json, write_json
from nnactive_nf.core.nnunet import FoldCheckpoint, load_fold, save_fold
from nnactive_nf.train.store import Given, TrainingStore, training_digest

FOLD, OTHER = tiny.some_fold(0, "abc"), tiny.some_fold(1, "abc")
GIVEN = Given(FOLD.plans, FOLD.configuration, FOLD.nnunet_json)


def same(one: FoldCheckpoint, other: FoldCheckpoint) -> bool:
    return all(torch.equal(one.weights[name], value) for name, value in other.weights.items())


def test_digest_follows_what_a_training_rests_on() -> None:
    base = {"labels": "a", "seed": 1, "plans": {"x": [1, 2]}}
    assert training_digest(base) == training_digest(dict(reversed(base.items())))
    for other in ({"labels": "b"}, {"seed": 2}, {"plans": {"x": [2, 1]}}):
        assert training_digest(base | other) != training_digest(base)


def test_a_finished_fold_takes_its_room_once_where_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = TrainingStore(tmp_path / "store", "abc")
    place.finish(FOLD, {"node": "", "seconds": 1.0})
    place.deliver(tmp_path / "linked", {"node": "n"})

    def refuse(*_: object) -> None:
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    place.deliver(tmp_path / "copied", {"node": "n"})
    stored, linked, copied = (
        folder / "checkpoint.pth" for folder in (place.folder / "finished", tmp_path / "linked", tmp_path / "copied")
    )
    assert linked.samefile(stored) and not copied.samefile(stored)
    assert same(load_fold(copied), FOLD) and same(load_fold(linked), FOLD)


def test_trainings_lie_apart_by_digest(tmp_path: Path) -> None:
    one, other = TrainingStore(tmp_path, "abc"), TrainingStore(tmp_path, "abd")
    assert one.folder == tmp_path / "ab" / "abc"
    one.finish(FOLD, {})
    assert not other.finished(GIVEN)
    assert TrainingStore(tmp_path, "abc").finished(GIVEN)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"checkpoint_store .*file: cannot be written \(Not a directory\)"):
        TrainingStore(tmp_path / "file", "abc")


def test_a_fold_that_cannot_be_written_whole_is_not_finished_and_leaves_nothing(tmp_path: Path) -> None:
    place = TrainingStore(tmp_path, "abc")
    with pytest.raises(ValueError, match="not JSON compliant"):
        place.finish(FOLD, {"seconds": float("nan")})
    assert list(place.folder.iterdir()) == [] and not place.finished(GIVEN)


def test_of_two_runs_that_train_one_fold_the_first_is_kept_whole(tmp_path: Path) -> None:
    place = TrainingStore(tmp_path / "store", "abc")
    place.finish(FOLD, {"seconds": 1.0})
    place.finish(OTHER, {"seconds": 2.0})
    assert place.finished(GIVEN)
    place.deliver(tmp_path / "out", {})
    assert same(load_fold(tmp_path / "out" / "checkpoint.pth"), FOLD)
    assert read_json(tmp_path / "out" / "training.json")["seconds"] == 1.0
    assert [path.name for path in place.folder.iterdir()] == ["finished"]


def test_a_leftover_state_goes_when_the_fold_is_delivered_and_not_before(tmp_path: Path) -> None:
    place = TrainingStore(tmp_path / "store", "abc")
    place.save_latest({"epoch": 3})
    place.finish(FOLD, {})
    assert (place.folder / "latest.pth").is_file()
    # As if the task had been killed here: the next one finds the fold finished
    again = TrainingStore(tmp_path / "store", "abc")
    assert again.finished(GIVEN)
    again.deliver(tmp_path / "out", {})
    assert [path.name for path in place.folder.iterdir()] == ["finished"]
    again.deliver(tmp_path / "other", {})


def flip(path: Path) -> None:
    """Change one bit of the largest part of a file: of a checkpoint, in its weights."""
    content = bytearray(path.read_bytes())
    place = content.index(FOLD.weights["encoder.stages.0.0.convs.0.conv.weight"].numpy().tobytes())
    content[place + 1] ^= 1
    path.write_bytes(bytes(content))


def other_record(folder: Path, **changes: object) -> None:
    write_json(folder / "training.json", read_json(folder / "training.json") | changes)


def foreign(folder: Path, fold: FoldCheckpoint) -> None:
    """Another fold under this digest, as if it had been written here."""
    place = TrainingStore(folder.parents[3] / "elsewhere", fold.digest)
    place.finish(fold, {})
    for name in ("checkpoint.pth", "training.json"):
        (place.folder / "finished" / name).replace(folder / name)
    other_record(folder, digest="abc")


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated checkpoint": (
        lambda f: (f / "checkpoint.pth").write_bytes((f / "checkpoint.pth").read_bytes()[:99]),
        "checkpoint.pth: not the file that its training wrote",
    ),
    "one bit of the weights": (
        lambda f: flip(f / "checkpoint.pth"), "checkpoint.pth: not the file that its training wrote"
    ),
    "another fold's checkpoint": (
        lambda f: save_fold(f / "checkpoint.pth", OTHER), "checkpoint.pth: not the file that its training wrote"
    ),
    "another fold with its own record": (
        lambda f: foreign(f, replace(FOLD, digest="abd")), r"checkpoint.pth: the checkpoint of another training \(abd\)"
    ),
    "another's plans": (
        lambda f: foreign(f, replace(FOLD, plans=FOLD.plans | {"more": 1})),
        "checkpoint.pth: was trained with other plans or classes",
    ),
    "another's classes": (
        lambda f: foreign(f, replace(FOLD, nnunet_json=FOLD.nnunet_json | {"channel_names": {"0": "CT"}})),
        "checkpoint.pth: was trained with other plans or classes",
    ),
    "another's record": (lambda f: other_record(f, digest="abd"), "training.json: the record of another training"),
    "record without digest": (lambda f: write_json(f / "training.json", {}), "the record of another training"),
    "record that is a list": (lambda f: write_json(f / "training.json", []), "the record of another training"),
    "truncated record": (lambda f: (f / "training.json").write_text("{"), "training.json: not a JSON file"),
    "no record": (lambda f: (f / "training.json").unlink(), "training.json: no such file"),
    "no checkpoint": (lambda f: (f / "checkpoint.pth").unlink(), "checkpoint.pth: no such file"),
    "a folder as checkpoint": (
        lambda f: [(f / "checkpoint.pth").unlink(), (f / "checkpoint.pth").mkdir()], "checkpoint.pth: a folder, a file"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_fold_that_cannot_be_trusted_is_put_aside_and_trained_anew(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    breaks, message = REFUSED[name]
    place = TrainingStore(tmp_path / "store", "abc")
    place.finish(FOLD, {"seconds": 1.0})
    breaks(place.folder / "finished")
    before = sorted(path.name for path in (place.folder / "finished").iterdir())
    assert not place.finished(GIVEN)
    (line,) = capsys.readouterr().out.splitlines()
    (aside,) = place.folder.iterdir()
    assert re.fullmatch(
        rf"{place.folder}/finished/.*{message}.*; put aside as {aside.name}, the fold is trained anew", line
    )
    assert sorted(path.name for path in aside.iterdir()) == before, "nothing is deleted"
    place.finish(OTHER, {"seconds": 2.0})
    assert place.finished(GIVEN)
    place.deliver(tmp_path / "out", {})
    assert same(load_fold(tmp_path / "out" / "checkpoint.pth"), OTHER)


def test_store_goes_on_from_good_states_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = TrainingStore(tmp_path, "abc")
    assert place.load_latest() is None
    path = place.folder / "latest.pth"

    def refused(message: str) -> None:
        assert place.load_latest() is None
        assert re.search(
            f"{message}.*; put aside as latest.pth.refused-.*, the fold is trained anew", capsys.readouterr().out
        )
        assert not path.exists()

    place.save_latest({"epoch": 3, "weights": {"w": torch.ones(2)}})
    latest = place.load_latest()
    assert latest is not None and latest["epoch"] == 3
    path.write_bytes(path.read_bytes()[:100])
    refused("latest.pth: cannot be read as a checkpoint, it may be truncated")

    place.save_latest({"epoch": 3, "weights": {"w": FOLD.weights["encoder.stages.0.0.convs.0.conv.weight"]}})
    flip(path)
    refused("the checksum of .* is wrong")

    torch.save({"epoch": 3, "digest": "abd"}, path)
    refused("latest.pth: the state of another training")


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
    assert (record["node"], record["fold"], record["seconds"]) == ("second", 2, 1.0)
    assert json.loads((place.folder / "finished" / "training.json").read_text())["node"] == "first"
