"""Every API call that the sandbox has seen, in order, for tests that ask what reached the API."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

KEPT: Final = 100_000
"""Older calls are forgotten: a load test must not fill the memory."""


@dataclass(slots=True)
class Call:
    """One call as it came in, and how it was answered: no status while it waits or if its connection was cut."""

    at: datetime
    call: str
    method: str
    path: str
    user_agent: bytes
    body: bytes
    fault: str | None = None
    status: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Write it as plain data, the body as the text that came in."""
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
    """The last calls, and how many there have been in all."""

    def __init__(self) -> None:
        self.calls: deque[Call] = deque(maxlen=KEPT)
        self.total = 0

    def add(self, call: Call) -> None:
        """Keep a call.

        :param call: what came in; its status is filled in when it is answered.
        """
        self.calls.append(call)
        self.total += 1

    def clear(self) -> None:
        """Forget all calls."""
        self.calls.clear()
        self.total = 0
