"""A server that answers `-with-tower` as Seqera Platform does, and keeps what it was sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORKFLOW = "made-up-1"


class PlatformServer(ThreadingHTTPServer):
    """Listens on a free port of this machine; `received` are (path, body) of all requests with a body."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.received: list[tuple[str, Any]] = []

    @property
    def address(self) -> str:
        """What `-with-tower` takes."""
        return f"http://127.0.0.1:{self.server_port}"

    def tasks(self) -> list[dict[str, Any]]:
        """The last that was said of each task."""
        said = [task for _, body in self.received for task in body.get("tasks") or []]
        return list({task["taskId"]: task for task in said}.values())


class _Handler(BaseHTTPRequestHandler):
    server: PlatformServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer({"user": {"id": 1, "userName": "test"}, "serviceInfo": {"version": "25"}})

    def do_POST(self) -> None:
        self.server.received.append((self.path, json.loads(self._body() or b"{}")))
        self._answer({"workflowId": WORKFLOW, "watchUrl": f"{self.server.address}/watch"})

    do_PUT = do_POST

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _answer(self, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@contextmanager
def platform_server() -> Iterator[PlatformServer]:
    """A server for the time of a test."""
    server = PlatformServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
