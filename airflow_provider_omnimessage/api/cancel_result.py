"""The result of a cancel. It stands alone because tasks need it while a DAG is parsed."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.delivery import DeliveryReport


class CancelResult(str, Enum):
    """What a cancel found out about a message. It is a text, so that a task can return it as its XCom."""

    CANCELLED = "cancelled"
    ALREADY_CANCELLED = "was cancelled before"
    ALREADY_SENT = "has been sent already"
    UNKNOWN = "is unknown to Messente, or belongs to another account"

    __str__ = str.__str__


class Cancellation(NamedTuple):
    """
    The outcome of a cancel.

    :param result: cancelled now or before, too late, or unknown.
    :param report: the message's delivery report, if it was requested.
    """

    result: CancelResult
    report: DeliveryReport | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether the message is cancelled, now or before, so that nobody gets it."""
        return self.result in (CancelResult.CANCELLED, CancelResult.ALREADY_CANCELLED)

    def __str__(self) -> str:
        """Return words that follow the message's id: ``has been sent already (sms: DELIVRD)``."""
        return f"{self.result.value} ({self.report})" if self.result is CancelResult.ALREADY_SENT else self.result.value
