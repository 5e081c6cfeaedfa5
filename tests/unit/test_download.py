"""Data sets of the Decathlon: whole, checked and unpacked, or not there; once, whoever asks at the same time."""

from __future__ import annotations

import hashlib
import http.server
import importlib.util
import io
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT

from nnactive_nf.core.errors import UserError
from nnactive_nf.download import transfer
from nnactive_nf.download.archive import unpack
from nnactive_nf.download.run import fetch
from nnactive_nf.download.tasks import Task, bucket, task_named, tasks

NAME = "Task04_Hippocampus"
FILES = {
    f"{NAME}/dataset.json": b'{"name": "Hippocampus"}',
    f"{NAME}/imagesTr/hippocampus_001.nii.gz": b"image" * 1000,
    f"{NAME}/labelsTr/hippocampus_001.nii.gz": b"label" * 100,
}
HIDDEN = {
    f"._{NAME}": b"x",
    f"{NAME}/._dataset.json": b"x",
    f"{NAME}/imagesTr/._hippocampus_001.nii.gz": b"x",
    f"{NAME}/.DS_Store": b"x",
}


def tar_of(files: dict[str, bytes], others: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    """An archive like those of the bucket, with a folder entry first and macOS's hidden files."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        folder = tarfile.TarInfo(NAME)
        folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o700, 1_500_000_000
        tar.addfile(folder)
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime, member.uid = len(content), 1_500_000_000, 501
            tar.addfile(member, io.BytesIO(content))
        for member in others:
            tar.addfile(member)
    return stream.getvalue()


ARCHIVE = tar_of({**HIDDEN, **FILES})
TASK = Task(NAME, hashlib.md5(ARCHIVE).hexdigest())


@dataclass
class Bucket:
    """A server of archives that can break off, and what it was asked for."""

    address: str = ""
    content: bytes = ARCHIVE
    cut: list[int] = field(default_factory=list)  # bytes after which the next answers break off
    ranges: bool = True
    status: int = 200
    asked: list[str | None] = field(default_factory=list)  # the ranges that were asked for, None for all


@pytest.fixture
def server() -> Iterator[Bucket]:
    state = Bucket()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.asked.append(asked)
            if self.path != f"/{NAME}.tar" or state.status != 200:
                self.send_error(404 if state.status == 200 else state.status)
                return
            start = int(re.sub(r"\D", "", asked)) if asked and state.ranges else 0
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.cut.pop(0)] if state.cut else body)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        state.address = f"http://127.0.0.1:{httpd.server_address[1]}"
        yield state
        httpd.shutdown()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_table_holds_the_ten_tasks_and_their_sums() -> None:
    names = [task.name for task in tasks()]
    assert [name[:7] for name in names] == [f"Task{number:02d}_" for number in range(1, 11)]
    assert all(re.fullmatch(r"[0-9a-f]{32}", task.md5) for task in tasks())
    assert len({task.md5 for task in tasks()}) == 10
    assert bucket().startswith("https://") and not bucket().endswith("/")


def test_the_sums_are_those_that_monai_publishes() -> None:
    """Read as text, since the import takes many seconds."""
    monai = importlib.util.find_spec("monai")
    assert monai is not None and monai.submodule_search_locations
    text = (Path(monai.submodule_search_locations[0]) / "apps" / "datasets.py").read_text()
    pairs = dict(re.findall(r'"(Task\d\d_\w+)": "(\w{32})"', text))
    assert {task.name: task.md5 for task in tasks()} == pairs
    addresses = dict(re.findall(r'"(Task\d\d_\w+)": "(http\S+)"', text))
    assert {task.name: f"{bucket()}/{task.name}.tar" for task in tasks()} == addresses


def test_a_task_has_a_name_with_and_without_its_number() -> None:
    assert task_named("Task04_Hippocampus") == task_named("Hippocampus")
    with pytest.raises(UserError, match=r"task Task04_Hipocampus: .* did you mean Task04_Hippocampus\?"):
        task_named("Task04_Hipocampus")
    with pytest.raises(UserError, match=r"did you mean Spleen\?"):
        task_named("Spleeen")


def test_downloaded_checked_unpacked_without_hidden_files(server: Bucket, tmp_path: Path, capsys) -> None:
    folder = fetch(TASK, tmp_path / "new" / "downloads", server.address)
    assert folder == tmp_path / "new" / "downloads" / NAME
    assert contents(folder.parent) == FILES
    lines = capsys.readouterr().out.splitlines()
    assert "downloading http://" in lines[0] and "100%" in lines[1] and "MD5 sum is right" in lines[2]
    assert len(lines) == 4


def test_the_folder_has_the_times_of_the_archive_and_rights_of_ones_own(server: Bucket, tmp_path: Path) -> None:
    folder = fetch(TASK, tmp_path, server.address)
    paths = [folder, *(folder / name.removeprefix(f"{NAME}/") for name in FILES)]
    assert {path.stat().st_mtime for path in paths} == {1_500_000_000}
    assert {path.stat().st_uid for path in paths} == {os.getuid()}
    plain = tmp_path / "plain"
    plain.mkdir()
    assert folder.stat().st_mode == plain.stat().st_mode


def test_what_is_there_is_not_downloaded_again(server: Bucket, tmp_path: Path) -> None:
    first = fetch(TASK, tmp_path, server.address)
    assert fetch(TASK, tmp_path, server.address) == first
    assert server.asked == [None]
    assert fetch(TASK, tmp_path, f"http://127.0.0.1:{closed_port()}") == first


def test_a_broken_connection_is_taken_up_where_it_ended(server: Bucket, tmp_path: Path, capsys) -> None:
    server.cut = [5000, 1000]
    assert contents(fetch(TASK, tmp_path, server.address, pause_s=0)) == unprefixed(FILES)
    assert server.asked == [None, "bytes=5000-", "bytes=6000-"]
    assert "broke off after 0.0 MB; attempt 1 of 10" in capsys.readouterr().out


def test_a_server_without_ranges_sends_all_again(server: Bucket, tmp_path: Path) -> None:
    server.cut, server.ranges = [5000], False
    assert contents(fetch(TASK, tmp_path, server.address, pause_s=0)) == unprefixed(FILES)


def test_a_connection_that_breaks_off_again_and_again_leaves_nothing(server: Bucket, tmp_path: Path) -> None:
    server.cut = [1000] * 9
    with pytest.raises(UserError) as error:
        fetch(TASK, tmp_path, server.address, attempts=3, pause_s=0)
    assert one_line(error).startswith(f"{NAME}: cannot be downloaded (the connection broke off after 0.0 MB). ")
    assert len(server.asked) == 3
    assert list(tmp_path.iterdir()) == []


def test_without_network_one_line_says_what_to_do(tmp_path: Path) -> None:
    address = f"http://127.0.0.1:{closed_port()}"
    with pytest.raises(UserError) as error:
        fetch(TASK, tmp_path, address, pause_s=100)
    assert one_line(error) == (
        f"{NAME}: cannot be downloaded (Connection refused). Is there a network here? If not, download "
        f"{address}/{NAME}.tar elsewhere, put it at {tmp_path / NAME}.tar and run again"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("status", [403, 404, 503])
def test_a_server_that_refuses(server: Bucket, tmp_path: Path, status: int) -> None:
    server.status = status
    with pytest.raises(UserError, match=rf"\(the server answers {status} "):
        fetch(TASK, tmp_path, server.address)
    assert len(server.asked) == 1


def test_a_wrong_checksum_leaves_nothing(server: Bucket, tmp_path: Path) -> None:
    server.content = ARCHIVE[:-1] + b"\1"
    with pytest.raises(UserError) as error:
        fetch(TASK, tmp_path, server.address)
    assert re.search(rf"its MD5 sum is \w{{32}}, published is {TASK.md5}; it is not kept", one_line(error))
    assert list(tmp_path.iterdir()) == []


def test_an_archive_put_there_by_hand_is_taken_and_left(server: Bucket, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.tar").write_bytes(ARCHIVE)
    folder = fetch(TASK, tmp_path, server.address)
    assert contents(folder) == unprefixed(FILES)
    assert server.asked == []
    assert (tmp_path / f"{NAME}.tar").read_bytes() == ARCHIVE


def test_half_an_archive_put_there_by_hand(server: Bucket, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.tar").write_bytes(ARCHIVE[:5000])
    with pytest.raises(UserError, match=rf"{NAME}.tar: its MD5 sum is .* is it cut off\? Download it again from http"):
        fetch(TASK, tmp_path, server.address)
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.tar"]


def test_something_of_that_name_is_left_alone(server: Bucket, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "mine").write_text("")
    with pytest.raises(UserError, match=r"without a dataset\.json in it; move it away"):
        fetch(TASK, tmp_path, server.address)
    assert contents(tmp_path) == {f"{NAME}/mine": b""}
    assert server.asked == []


def test_a_folder_that_cannot_be_written(server: Bucket, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"download_dir .*/file/downloads: cannot be written"):
        fetch(TASK, tmp_path / "file" / "downloads", server.address)


def test_a_disk_that_is_too_small(server: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10_000))
    with pytest.raises(UserError, match=r"0\.0 MB are needed to download and unpack, 0\.0 MB are free"):
        fetch(TASK, tmp_path, server.address)
    assert list(tmp_path.iterdir()) == []


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize(
    ("archive", "message"),
    [
        (tar_of({"../evil": b"x", **FILES}), r"it holds '\.\./evil', which leads out"),
        (tar_of({f"{NAME}/../../evil": b"x"}), "which leads out"),
        (tar_of({"/tmp/evil": b"x"}), "it holds '/tmp/evil', which leads out"),
        (tar_of(FILES, (link(f"{NAME}/evil", "/etc/passwd"),)), "neither file nor folder"),
        (tar_of(FILES, (link(f"{NAME}/evil", "/etc/passwd", tarfile.LNKTYPE),)), "neither file nor folder"),
        (tar_of(FILES, (link(f"{NAME}/evil", "", tarfile.FIFOTYPE),)), "neither file nor folder"),
        (tar_of({"Task05_Prostate/dataset.json": b"{}"}), f"no {NAME}/dataset.json in it"),
        (tar_of({f"{NAME}/imagesTr": b""}), f"no {NAME}/dataset.json in it"),
        (b"no archive at all" * 100, "not a whole tar archive"),
        (ARCHIVE[: ARCHIVE.index(b"imageimage") + 600], "not a whole tar archive"),
    ],
    ids=["up", "up again", "absolute", "link", "hard link", "pipe", "other task", "no list", "no tar", "cut off"],
)
def test_archives_that_are_not_to_be_trusted(server: Bucket, tmp_path: Path, archive: bytes, message: str) -> None:
    server.content = archive
    folder = tmp_path / "a" / "b" / "downloads"
    with pytest.raises(UserError, match=message) as error:
        fetch(Task(NAME, hashlib.md5(archive).hexdigest()), folder, server.address)
    one_line(error)
    assert contents(tmp_path) == {}
    assert list(folder.iterdir()) == []


def test_a_hard_link_to_a_file_of_the_archive_is_refused_too(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(tar_of(FILES, (link(f"{NAME}/twin", f"{NAME}/dataset.json", tarfile.LNKTYPE),)))
    with pytest.raises(UserError, match="neither file nor folder"):
        unpack(archive, NAME, tmp_path / "out")


def test_several_at_the_same_time(server: Bucket, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        folders = list(threads.map(lambda _: fetch(TASK, tmp_path, server.address), range(4)))
    assert folders == [tmp_path / NAME] * 4
    assert contents(tmp_path) == FILES


def test_a_slower_run_takes_the_folder_of_the_faster(
    server: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nnactive_nf.download import run

    def slow(archive: Path, top: str, folder: Path) -> Path:
        monkeypatch.setattr(run, "unpack", unpack)
        fetch(TASK, tmp_path, server.address)
        return unpack(archive, top, folder)

    monkeypatch.setattr(run, "unpack", slow)
    fetch(TASK, tmp_path, server.address)
    assert "another run was faster" in capsys.readouterr().out
    assert contents(tmp_path) == FILES


def test_another_run_that_ends_between_two_looks_makes_no_error(
    server: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's folder gets its name right after this run's first look at it, whichever look that is."""
    seen: list[Path] = []

    def then_the_other_renames(look: Callable[[Path], bool]) -> Callable[[Path], bool]:
        def looked(path: Path) -> bool:
            found = look(path)
            if tmp_path / NAME in (path, *path.parents):
                seen.append(path)
                if len(seen) == 1:
                    fetch(TASK, tmp_path, server.address)
            return found

        return looked

    with monkeypatch.context() as patched:
        for name in ("exists", "is_file"):
            patched.setattr(Path, name, then_the_other_renames(getattr(Path, name)))
        assert fetch(TASK, tmp_path, server.address) == tmp_path / NAME
    assert len(seen) > 1
    assert contents(tmp_path) == FILES


def command(folder: Path, address: str, task: str = NAME) -> list[str]:
    return [sys.executable, str(ROOT / "bin/download.py"), "--task", task, "--folder", str(folder), "--bucket", address]


def test_the_command_says_in_one_line_what_is_wrong(server: Bucket, tmp_path: Path) -> None:
    def errors(*args: str) -> list[str]:
        done = subprocess.run(command(tmp_path, *args), capture_output=True, text=True, check=False)
        assert done.returncode == 2
        return done.stderr.splitlines()

    assert len(errors(server.address)) == 1  # the sum in the table is that of the real archive
    assert len(errors(f"http://127.0.0.1:{closed_port()}")) == 1
    assert errors(server.address, "Task4") == ["ERROR: " + message_of(lambda: task_named("Task4"))]


def test_a_run_that_is_stopped_tidies_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = subprocess.Popen(command(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}"))
        silent.settimeout(300)  # a command that fails never comes
        connection, _ = silent.accept()
        assert [path.name for path in tmp_path.glob(".*.part")]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=300) == 128 + signal.SIGTERM
        connection.close()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_killed_leaves_nothing_that_passes_for_a_data_set(server: Bucket, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = subprocess.Popen(command(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}"))
        silent.settimeout(300)  # a command that fails never comes
        connection, _ = silent.accept()
        process.kill()
        process.wait(timeout=300)
        connection.close()
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
    assert contents(fetch(TASK, tmp_path, server.address)) == unprefixed(FILES)


def unprefixed(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name.removeprefix(f"{NAME}/"): content for name, content in files.items()}


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    assert len(error.value.lines) == 1
    assert "\n" not in error.value.lines[0]
    return error.value.lines[0]


def message_of(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        call()
    return one_line(error)


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
