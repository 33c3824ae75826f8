"""All parts of one sandbox, connected."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

from airflow_provider_omnimessage.sandbox.clock import Clock
from airflow_provider_omnimessage.sandbox.faults import Faults
from airflow_provider_omnimessage.sandbox.journal import Journal
from airflow_provider_omnimessage.sandbox.messages import STATES
from airflow_provider_omnimessage.sandbox.messente_api import MessenteApi
from airflow_provider_omnimessage.sandbox.posting import SignedPoster
from airflow_provider_omnimessage.sandbox.report_faults import ReportFaults
from airflow_provider_omnimessage.sandbox.reports import ReportPoster
from airflow_provider_omnimessage.sandbox.simulation import Simulation
from airflow_provider_omnimessage.sandbox.timeline import Timeline


class SandboxState:
    """All parts of one sandbox. It belongs to one event loop.

    :param username: the API username.
    :param password: the API password.
    :param delivery_seconds: how long a channel takes from the first try to its final status.
    :param allow_remote_callbacks: whether ``dlr_url`` may be on another machine.
    :param block_repeated_text: whether the same text to the same number within an hour is rejected for all numbers.
    """

    def __init__(
        self,
        username: str,
        password: str,
        *,
        delivery_seconds: float,
        allow_remote_callbacks: bool,
        block_repeated_text: bool,
    ) -> None:
        self.username = username
        self.password = password
        self.clock = Clock()
        self.simulation = Simulation(delivery_seconds, block_repeated_text=block_repeated_text)
        self.api = MessenteApi(self.simulation, username, password)
        self.faults = Faults()
        self.report_faults = ReportFaults()
        self.journal = Journal()
        self.poster = SignedPoster(allow_remote=allow_remote_callbacks)
        reports = ReportPoster(self.simulation, self.clock, self.report_faults, self.poster, password)
        self.timeline = Timeline(self.simulation, self.clock, reports)
        self.stopping = asyncio.Event()
        self.run_id = uuid.uuid4().hex
        self.readers: set[asyncio.Event] = set()
        self.simulation.on_change = self.changed

    def changed(self) -> None:
        """Wake the readers of the event stream."""
        for reader in self.readers:
            reader.set()

    async def reset(self) -> None:
        """Start over: no messages, no calls, no faults, real time."""
        async with self.timeline.lock:
            self.run_id = uuid.uuid4().hex
            self.simulation.clear()
            self.journal.clear()
            self.clear_faults()
            self.timeline.reset()
        self.changed()

    def clear_faults(self) -> None:
        """Remove the faults of API calls and of reports."""
        self.faults.clear()
        self.report_faults.clear()

    def stop(self) -> None:
        """Release everything that waits, so that the server can stop."""
        self.stopping.set()
        self.timeline.close()
        self.poster.close()
        self.changed()

    def clock_as_dict(self) -> dict[str, Any]:
        """Return the clock, and when the next scheduled message is sent."""
        next_time = self.simulation.next_time_to_send
        return {
            "now": self.clock.now.isoformat(),
            "frozen": self.clock.frozen,
            "next_time_to_send": next_time.isoformat() if next_time else None,
        }

    def overview(self) -> dict[str, Any]:
        """Return the content of one event: counters that tell a reader whether to fetch more."""
        return {
            "revision": self.simulation.revision,
            "run": self.run_id,
            "clock": self.clock_as_dict(),
            "messages": len(self.simulation.messages),
            "states": {state: self.simulation.states[state] for state in STATES},
            "requests": self.journal.total,
            "faults": len(self.faults.as_dicts()) + len(self.report_faults.as_dicts()),
        }
