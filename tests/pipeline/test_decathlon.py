"""`--input msd:<task>`: downloaded once, here and not on a node; a folder like any other from then on."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Run, copy_project, run_nextflow
from decathlon import decathlon_head

pytestmark = pytest.mark.pipeline

NAME = "Task04_Hippocampus"
STUB = ("-profile", "test,stub", "-stub-run")
PARAMS = {"strategies": "random", "cycles": 1, "download_dir": "my downloads"}
HANG = 600


def archive() -> bytes:
    """A Decathlon folder of eight cases, by its list."""
    content = json.dumps(decathlon_head(map(str, range(8)))).encode()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        member = tarfile.TarInfo(f"{NAME}/dataset.json")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """A server of that one archive, and the paths that it was asked for."""
    folder = tmp_path_factory.mktemp("bucket")
    (folder / f"{NAME}.tar").write_bytes(archive())
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            asked.append(self.path)

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}", asked
        httpd.shutdown()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, bucket: tuple[str, list[str]]) -> Path:
    """The workflow with that server as the bucket, and a DOWNLOAD that works in stub runs too."""
    folder = copy_project(tmp_path_factory.mktemp("download") / "project")
    table = folder / "bin/nnactive_nf/download/tasks.json"
    content = json.loads(table.read_text())
    content["bucket"] = bucket[0]
    next(task for task in content["tasks"] if task["name"] == NAME)["md5"] = hashlib.md5(archive()).hexdigest()
    table.write_text(json.dumps(content))
    module = folder / "modules" / "download.nf"
    module.write_text(module.read_text().split("    stub:")[0] + "}\n")
    (folder / ".venv").symlink_to(Path(__file__).parents[2] / ".venv")
    return folder


def test_downloaded_once_and_here(project: Path, bucket: tuple[str, list[str]], tmp_path: Path) -> None:
    """Under a scheduler whose commands refuse every job, the download is all that passes. The next run needs none."""
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "sbatch").write_text("#!/bin/sh\nexit 1\n")
    (commands / "sbatch").chmod(0o755)

    def run(profile: str, *args: str) -> Run:
        env = {"PATH": f"{commands}:{os.environ['PATH']}"}
        return run_nextflow(
            tmp_path, "-profile", profile, "-stub-run", *args, project=project, timeout=HANG, env=env,
            input=f"msd:{NAME}", **PARAMS,
        )  # fmt: skip

    first = run("slurm,test,stub")
    assert first.returncode != 0
    assert "sbatch .command.run" in first.output
    assert first.tasks("COMPLETED") == {"DOWNLOAD": 1}
    downloads = tmp_path / "my downloads"
    assert [path.name for path in downloads.iterdir()] == [NAME]
    assert len(bucket[1]) == 1

    second = run("test,stub", "-resume")
    assert second.returncode == 0, second.output
    assert "DOWNLOAD" not in second.tasks()
    assert second.tasks("COMPLETED")["PREPARE"] == 1
    assert (tmp_path / "results/metrics/Hippocampus-main-s12345-c00.json").is_file()
    raw = next(path for path in (tmp_path / "work").glob("*/*/raw"))
    assert raw.resolve() == (downloads / NAME).resolve()
    assert len(bucket[1]) == 1


def test_without_network_the_error_is_one_line(project: Path, tmp_path: Path) -> None:
    """Another task than that which the server has."""
    done = run_nextflow(tmp_path, *STUB, project=project, timeout=HANG, input="msd:Spleen", **PARAMS)
    assert done.returncode != 0
    assert set(done.tasks()) - {"PROTOCOL"} == {"DOWNLOAD"}  # the parameters are published meanwhile
    (line,) = {line.strip() for line in done.output.splitlines() if "ERROR: " in line}  # Nextflow's, and the last one
    assert line.startswith("ERROR: Task09_Spleen: cannot be downloaded (the server answers 404 ")
    assert line.endswith(f"put it at {tmp_path}/my downloads/Task09_Spleen.tar and run again")
    assert list((tmp_path / "my downloads").iterdir()) == []


def test_a_stub_run_downloads_nothing(tmp_path: Path) -> None:
    done = run_nextflow(tmp_path, *STUB, timeout=HANG, input="msd:Hippocampus", **PARAMS)
    assert done.returncode == 0, done.output
    assert done.tasks()["DOWNLOAD"] == done.tasks()["PREPARE"] == 1
    assert (tmp_path / "results/metrics/Hippocampus-main-s12345-c00.json").is_file()
    assert list((tmp_path / "my downloads").iterdir()) == []
