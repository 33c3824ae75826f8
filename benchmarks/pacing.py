"""Cancelling many messages behind a server that takes as many requests a second as Messente does."""

from __future__ import annotations

import http.server
import json
import logging
import os
import sys
import threading
import time
from collections import deque

from figure import Figure

MESSAGES = 2000
LIMIT = 150


class _Limited(http.server.BaseHTTPRequestHandler):
    """Responds with 429 to every request beyond the limit in any second."""

    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    taken: deque[float] = deque()
    rejected = 0

    def do_DELETE(self) -> None:
        now = time.monotonic()
        with self.lock:
            while self.taken and self.taken[0] <= now - 1:
                self.taken.popleft()
            is_taken = len(self.taken) < LIMIT
            if is_taken:
                self.taken.append(now)
            else:
                type(self).rejected += 1
        self.send_response(202 if is_taken else 429)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        """Log nothing."""


def measure() -> list[Figure]:
    """Cancel, and compare with the shortest possible time."""
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
    from airflow_provider_omnimessage.tasks.cancelling import cancel_each

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Limited)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["AIRFLOW_CONN_OMNIMESSAGE_DEFAULT"] = json.dumps(
        {
            "conn_type": "omnimessage",
            "login": "u",
            "password": "p",
            "host": f"http://127.0.0.1:{server.server_address[1]}",
        }
    )
    begin = time.monotonic()
    with OmnimessageHook() as hook:
        ids = [f"message-{number}" for number in range(MESSAGES)]
        outcomes = list(cancel_each(hook, ids, log=logging.getLogger("bench"), tags={}))
    took = time.monotonic() - begin
    server.shutdown()
    cancelled = sum(outcome.is_cancelled for outcome in outcomes)
    print(f"  {cancelled} of {len(ids)} cancelled, {_Limited.rejected} responses with 429", file=sys.stderr)
    possible = MESSAGES / LIMIT
    return [
        Figure(
            what=f"Cancelling {MESSAGES:,} messages at {LIMIT} requests a second, without a 429",
            unit="s",
            ours=took,
            peer="the shortest possible time",
            theirs=possible,
            aim="at most 1.2 of it",
            holds=took <= 1.2 * possible and not _Limited.rejected and cancelled == MESSAGES,
        )
    ]
