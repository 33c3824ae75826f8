"""The state of a wait within one process of a sensor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_omnimessage.api.waiting import Wait
    from airflow_provider_omnimessage.sensors.polling import WorkerPoller
    from airflow_provider_omnimessage.triggers.awaited import Awaited


@dataclass(frozen=True)
class Progress:
    """
    A wait in this process.

    :param limit: what ends it at its deadline, in words.
    """

    awaited: Awaited
    wait: Wait
    poller: WorkerPoller
    since: datetime
    limit: str

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline, 0 or more."""
        return max(0.0, (self.wait.deadline - _now()).total_seconds())

    @property
    def seconds_to_next_poll(self) -> float:
        """Seconds until the next message is due, or until the deadline."""
        now = _now()
        return max(0.0, (min(self.wait.next_poll or now, self.wait.deadline) - now).total_seconds())

    def poll(self, *, seconds: float, most: int | None = None, log_endings_only: bool = False) -> None:
        """Poll once for the messages that are due."""
        self.poller.poll(self.wait.due(_now())[:most], seconds=seconds, log_endings_only=log_endings_only)

    def log_start(self, log: Logger) -> None:
        """Log what the task waits for, and how long."""
        ids = [message.omnimessage_id for message in self.wait.messages]
        what = ", ".join(ids) if len(ids) <= 5 else f"{len(ids):,} messages"
        log.info("Waiting for %s until %s UTC at most", what, f"{self.wait.deadline:%Y-%m-%d %H:%M:%S}")
        start = self.wait.first_time_to_send
        if start and start > _now():
            log.info("Polling starts at %s UTC", f"{start:%Y-%m-%d %H:%M:%S}")


def _now() -> datetime:
    return datetime.now(timezone.utc)
