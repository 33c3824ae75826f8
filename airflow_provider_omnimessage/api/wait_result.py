"""The result of a wait for delivery, as data that a trigger hands to a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from airflow_provider_omnimessage.api.errors import InvalidInputError


class Ending(str, Enum):
    """How a wait ended."""

    FULFILLED = "fulfilled"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: The outcome cannot be determined: rejected credentials, an unknown message.
    ERROR = "error"
    TIMED_OUT = "timed_out"

    __str__ = str.__str__


#: Values that events of older versions hold.
_FORMER_ENDINGS = {"refused": Ending.ERROR}


@dataclass(frozen=True)
class WaitResult:
    """
    The result of a wait.

    :param ending: how it ended.
    :param reason: why, for a person on call.
    :param reports: one summary for each message, in the order of the ids; empty if messages were only counted.
    :param counts: for a bulk send, the number of messages by outcome, and the first that were not delivered.
    """

    ending: Ending
    reason: str
    reports: list[dict[str, Any]]
    counts: dict[str, Any] | None = None

    def output(self, *, single: bool) -> Any:
        """
        Return what the task returns: the counts of a bulk send, else the reports.

        :param single: whether the task waits for one id, and not for a list of ids: it then returns the one report.
        """
        if self.counts is not None:
            return self.counts
        return self.reports[0] if single and self.reports else self.reports

    def to_event(self) -> dict[str, Any]:
        """Return the payload of the trigger's event."""
        counts = {"counts": self.counts} if self.counts is not None else {}
        return {"ending": self.ending.value, "reason": self.reason, "reports": self.reports, **counts}

    @classmethod
    def from_event(cls, event: object) -> WaitResult:
        """
        Read the payload of a trigger's event.

        :raises InvalidInputError: if it is not what :meth:`to_event` returns.
        """
        if not isinstance(event, Mapping):
            raise _invalid("event", event)
        ending = event.get("ending")
        if not isinstance(ending, str) or ending not in {*Ending, *_FORMER_ENDINGS}:
            raise _invalid("event.ending", ending)
        reason, reports = event.get("reason"), event.get("reports")
        if not isinstance(reason, str):
            raise _invalid("event.reason", reason)
        if not isinstance(reports, list) or not all(isinstance(report, Mapping) for report in reports):
            raise _invalid("event.reports", reports)
        counts = event.get("counts", event.get("counted"))
        if counts is not None and not isinstance(counts, Mapping):
            raise _invalid("event.counts", counts)
        return cls(
            _FORMER_ENDINGS.get(ending) or Ending(ending),
            reason,
            [dict(report) for report in reports],
            None if counts is None else dict(counts),
        )


def _invalid(field: str, value: object) -> InvalidInputError:
    shown = repr(value) if isinstance(value, str) and len(value) <= 20 else type(value).__name__
    return InvalidInputError.of(field, f"{shown} is not what the delivery trigger sends; clear the task to wait again")
