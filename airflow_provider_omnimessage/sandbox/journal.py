"""Every API call that reached the sandbox, in order, so that tests can look at them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

CALLS_KEPT: Final = 100_000
"""Older calls are dropped, so that a load test does not fill the memory."""


@dataclass(slots=True)
class ApiCall:
    """One call as received. ``status`` is None until the response, and stays so if the connection is cut."""

    at: datetime
    call: str
    method: str
    path: str
    user_agent: bytes
    body: bytes
    fault: str | None = None
    status: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the call as plain data, with the body as text."""
        return {
            "at": self.at.isoformat(),
            "call": self.call,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "fault": self.fault,
            "user_agent": self.user_agent.decode("latin-1"),
            "body": self.body.decode(errors="replace"),
        }


class Journal:
    """The latest calls, and the number of all calls."""

    def __init__(self) -> None:
        self.calls: deque[ApiCall] = deque(maxlen=CALLS_KEPT)
        self.total = 0

    def add(self, call: ApiCall) -> None:
        """Add a call. Its status is set when it is answered."""
        self.calls.append(call)
        self.total += 1

    def clear(self) -> None:
        """Remove all calls."""
        self.calls.clear()
        self.total = 0
