"""What can happen to one call: faults of the sandbox, and of the connection."""

from __future__ import annotations

import socket
from datetime import datetime, timedelta, timezone
from typing import Any


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


#: Faults of the connection, not of the sandbox.
CONNECTIONS: dict[str, Any] = {
    "refused": lambda sandbox, server: {"host": f"http://127.0.0.1:{closed_port()}"},
    "DNS failure": lambda sandbox, server: {"host": "https://api.invalid"},
    "TLS failure": lambda sandbox, server: {"host": sandbox.url.replace("http:", "https:")},
    "certificate refused": lambda sandbox, server: {"host": server.host},
    "wrong password": lambda sandbox, server: {"password": "wrong"},
    "slower than the timeout": lambda sandbox, server: {"extra": {"timeout": 0.3}},
}

#: Faults of the sandbox. Each hits one request unless ``times`` differs.
FAULTS: dict[str, dict[str, Any]] = {
    "refused": {},
    "DNS failure": {},
    "TLS failure": {},
    "certificate refused": {},
    "wrong password": {},
    "cut before processing": {"fault": "cut"},
    "cut after it": {"fault": "lost_answer"},
    "cut after it, each time": {"fault": "lost_answer", "times": "always"},
    "slower than the timeout": {"fault": "slow", "seconds": 0.8, "processed": True},
    "429": {"fault": "rate_limited"},
    "429, Retry-After 7": {"fault": "rate_limited", "retry_after": 7},
    "429, Retry-After a date": {
        "fault": "rate_limited",
        "retry_after": datetime.now(timezone.utc) + timedelta(hours=9),
    },
    "429, Retry-After past the deadline": {"fault": "rate_limited", "retry_after": 500, "times": "always"},
    "500": {"fault": "server_error"},
    "502 as HTML": {"fault": "server_error", "status": 502, "html": True},
    "503": {"fault": "server_error", "status": 503},
    "200 with broken JSON": {"fault": "broken_json"},
    "200 with a page": {"fault": "html"},
    "redirect to another host": {"fault": "redirect", "location": "https://evil.example/"},
}
