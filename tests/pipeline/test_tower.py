"""Seqera Platform: every pattern of tower.yml matches a published file, and every task arrives with -with-tower."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import NEXTFLOW_VERSIONS, ROOT, Run, lacks, nextflow_program, nextflow_release, run_nextflow

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

HANG = 900
PLUGINS = {"25.04.4": "nf-tower-1.11.3", "26.04.6": "nf-tower-1.28.2"}


def test_every_pattern_of_tower_yml_matches_a_published_file(phantom_run: Run) -> None:
    results = phantom_run.folder / "results"
    published = [str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()]
    reports = yaml.safe_load((ROOT / "tower.yml").read_text())["reports"]
    assert reports
    for pattern, settings in reports.items():
        assert any(fnmatchcase(path, pattern) for path in published), pattern
        assert settings["display"]


class Platform(ThreadingHTTPServer):
    """Answers as a Platform does, and keeps the last record of each task, by run and number."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.runs: list[dict[int, dict[str, Any]]] = []
        self.ended: list[bool] = []  # runs whose end was told, and whether it was a success

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Platform

    def do_GET(self) -> None:
        self.tell({"user": {"id": 1, "userName": "somebody"}, "serviceInfo": {"version": "1"}})

    def do_POST(self) -> None:
        self.body()
        if self.path.startswith("/trace/create"):
            self.server.runs.append({})
        self.tell({"workflowId": f"run{len(self.server.runs)}", "watchUrl": self.server.address})

    def do_PUT(self) -> None:
        told = self.body()
        if "/progress" in self.path:
            self.server.runs[-1].update({task["taskId"]: task for task in told["tasks"]})
        if "/complete" in self.path:
            self.server.ended.append(told["workflow"]["success"])
        self.tell({"watchUrl": self.server.address})

    def body(self) -> Any:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = b""
        while size := int(self.rfile.readline(), 16):
            text += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return json.loads(text)

    def tell(self, answer: dict[str, Any]) -> None:
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def platform() -> Iterator[Platform]:
    with Platform() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def nextflow_with_plugin(version: str) -> Path:
    """A Nextflow whose plugin for Platform is there: the one that `make setup` takes from Maven, or a newer one."""
    plugin = NEXTFLOW_VERSIONS / "plugins" / PLUGINS[version]
    if not plugin.is_dir():
        lacks("nextflow-versions", f"no plugin {plugin}")
    if version != "25.04.4":
        return nextflow_release(version)
    program = nextflow_program()
    if program.is_symlink():
        pytest.skip("make setup has taken the Nextflow that it found")
    return program


@pytest.mark.parametrize("version", PLUGINS)
def test_every_task_arrives_and_again_as_cached(version: str, platform: Platform, tmp_path: Path) -> None:
    program = nextflow_with_plugin(version)
    env = {"NXF_OFFLINE": "true", "NXF_PLUGINS_DIR": str(NEXTFLOW_VERSIONS / "plugins"), "TOWER_ACCESS_TOKEN": "token"}
    if program.parent.parent == NEXTFLOW_VERSIONS:
        env["NXF_PLUGINS_MODE"] = "prod"  # as released ones do by themselves; the launcher of `make setup` must too
    args = ("-profile", "test,stub", "-stub-run", "-with-tower", platform.address)

    for number, (status, more) in enumerate([("COMPLETED", ()), ("CACHED", ("-resume",))]):
        done = run_nextflow(
            tmp_path, *args, *more, program=program, timeout=HANG, env=env, strategies="random,bald", cycles=2
        )
        assert done.returncode == 0, done.output
        assert platform.ended == [True] * (number + 1), done.output
        arrived = platform.runs[number].values()
        assert {task["name"]: task["status"] for task in arrived} == {row["name"]: status for row in done.trace}
        assert len(arrived) == len(done.trace) == 2 + 3 * 5 + 1 + 2
        for task in arrived:
            assert task["name"] == f"{task['process']} ({task['tag']})"
            assert task["cpus"] >= 1
            assert task["hash"]
            assert status == "CACHED" or "code" in task["script"] or task["process"].endswith("PHANTOM")
