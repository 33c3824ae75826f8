"""One message of a wait, and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_provider_omnimessage.api.delivery import ChannelStatus, DeliveryReport, Outcome
from airflow_provider_omnimessage.api.wait_result import Ending


@dataclass(slots=True)
class AwaitedMessage:
    """
    One message of a wait, and what is known about it.

    :param time_to_send: when it is sent, with a zone; ``None``: it was sent before the wait began.
    """

    omnimessage_id: str
    time_to_send: datetime | None = None
    report: DeliveryReport | None = field(default=None, init=False)
    next_poll: datetime | None = field(default=None, init=False)
    ending: Ending | None = field(default=None, init=False)
    reason: str = field(default="", init=False)
    #: Since when its reports have looked failed, on the same channels.
    failing_since: datetime | None = field(default=None, init=False)
    last_news: str = field(default="", init=False)

    def to_dict(self) -> dict[str, Any]:
        """Return what is known as plain data, without the recipient."""
        return {
            "statuses": self.report and [status._asdict() for status in self.report.statuses],
            "next_poll": self.next_poll and self.next_poll.isoformat(),
            "ending": self.ending and self.ending.value,
            "reason": self.reason,
            "failing_since": self.failing_since and self.failing_since.isoformat(),
            "last_news": self.last_news,
        }

    def restore(self, data: object) -> None:
        """Continue with what :meth:`to_dict` returned. Data that cannot be read is ignored."""
        if not isinstance(data, Mapping):
            return
        try:
            statuses = data["statuses"]
            report = statuses and DeliveryReport(
                self.omnimessage_id, "", tuple(ChannelStatus(**status) for status in statuses)
            )
            next_poll = data["next_poll"] and datetime.fromisoformat(data["next_poll"])
            failing_since = data["failing_since"] and datetime.fromisoformat(data["failing_since"])
            ending = data["ending"] and Ending(data["ending"])
            reason, last_news = str(data["reason"]), str(data["last_news"])
        except (KeyError, TypeError, ValueError):
            return
        self.report, self.next_poll, self.ending = report or None, next_poll or self.next_poll, ending or None
        self.failing_since, self.reason, self.last_news = failing_since or None, reason, last_news

    @property
    def state(self) -> str:
        """What is known about it, in words."""
        if self.report:
            return str(self.report)
        start = f"{self.time_to_send:%Y-%m-%d %H:%M:%S} UTC" if self.time_to_send else "the first poll"
        return self.last_news or f"not polled before {start}"

    def summary(self) -> dict[str, Any]:
        """Return its report as small plain data, without the recipient: what the sensor returns."""
        report = self.report or DeliveryReport("", "", ())
        summary = {**report.summary(self.time_to_send), "omnimessage_id": self.omnimessage_id}
        if self.ending is Ending.ERROR:
            summary["outcome"] = "unknown"
        elif self.ending is Ending.FAILED and report.outcome is Outcome.IN_PROGRESS:
            summary["outcome"] = Outcome.FAILED.value
        elif self.ending is None and report.outcome is Outcome.FAILED:
            summary["outcome"] = Outcome.IN_PROGRESS.value  # not confirmed
        return summary
