"""A server on loopback that receives what the sandbox posts."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ReportReceiver(ThreadingHTTPServer):
    """Keeps the posts. Use it in a with statement.

    :ivar statuses: the HTTP statuses of the next responses; 200 after that.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[bytes] = []
        self.headers: list[Any] = []
        self.paths: list[str] = []
        self.statuses: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_port}/reports?from=sandbox"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def reports(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]

    def signed_with(self, key: str) -> list[bool]:
        """Return for each post whether it was signed with a key."""
        return [
            headers["X-Messente-Signature"] == hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
            for headers, body in zip(self.headers, self.bodies, strict=True)
        ]

    def __enter__(self) -> ReportReceiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
            self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: ReportReceiver

    def do_POST(self) -> None:
        self.server.paths.append(self.path)
        self.server.headers.append(self.headers)
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        if 300 <= status <= 399:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass
