"""
Decide the outcome of a cancel, from the responses to a DELETE and to the GET after it.

Messente answers 404 to a DELETE in three cases: the message was cancelled before, it was sent, or it is unknown. A
response can also get lost. The delivery report and the message's time distinguish these cases, but not always: then
the message is not known to be cancelled, and the caller must cancel again.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from airflow_provider_omnimessage.api.cancel_result import CancelResult
from airflow_provider_omnimessage.api.delivery import DeliveryReport, Outcome
from airflow_provider_omnimessage.api.errors import (
    NotFoundError,
    OmnimessageError,
    ServerError,
    UnexpectedResponseError,
)


class Deletion(Enum):
    """The outcome of a DELETE, its repeats included."""

    ACCEPTED = "2xx"
    CONTRADICTORY = "2xx, but an error or a web page in the body"
    NOT_FOUND = "Messente's 404"
    FOREIGN_NOT_FOUND = "a 404 that is not Messente's"
    LOST = "no response"
    SERVER_ERROR = "5xx"


class Finding(Enum):
    """What the delivery report shows."""

    CANCELLED = "DELETED on every channel"
    PENDING = "in progress; no carrier has accepted it"
    UNDER_WAY = "a carrier has accepted it"
    PARTLY_DELETED = "DELETED on some channels, in progress on others"
    DELIVERED = "delivered or seen"
    FAILED = "every channel has ended, none delivered"
    UNRECOGNIZED = "a status that this package does not know"
    EMPTY = "no channel at all"
    NOT_FOUND = "Messente's 404"
    LOST = "no report"


_CARRIER_HAS_IT = frozenset({"ACK", "ACCEPTD", "UNKNOWN"})
_KNOWN = _CARRIER_HAS_IT | {None, "DELETED", "DELIVRD", "SEEN", "UNDELIV", "FAILED", "REJECTD", "EXPIRED", "NACK"}

#: A DELETE with one of these outcomes may have cancelled the message.
_IN_DOUBT = (Deletion.CONTRADICTORY, Deletion.LOST, Deletion.SERVER_ERROR)


def decide(
    deletion: Deletion, finding: Finding, *, before_time: bool | None, earlier_in_doubt: bool = False
) -> CancelResult | None:
    """
    Return the result of a cancel, or ``None`` if the message is not known to be cancelled, sent or unknown.

    :param deletion: the outcome of the DELETE. If it was accepted, the report does not count.
    :param finding: what the report shows that was requested afterwards.
    :param before_time: whether the message's time is in the future; ``None`` if it is not known.
    :param earlier_in_doubt: whether an earlier attempt of the same DELETE may have been processed.
    """
    if deletion is Deletion.ACCEPTED:
        return CancelResult.CANCELLED
    if finding is Finding.CANCELLED:
        by_this_call = earlier_in_doubt or deletion in _IN_DOUBT
        return CancelResult.CANCELLED if by_this_call else CancelResult.ALREADY_CANCELLED
    if finding in (Finding.DELIVERED, Finding.FAILED):
        return CancelResult.ALREADY_SENT
    if finding is Finding.NOT_FOUND:
        return CancelResult.UNKNOWN
    # It exists. If it can no longer be cancelled, it was sent, unless its time is in the future.
    if deletion is Deletion.NOT_FOUND and (
        (finding is Finding.UNDER_WAY and before_time is not True)
        or (finding is Finding.PENDING and before_time is False)
    ):
        return CancelResult.ALREADY_SENT
    return None


def read_deletion(errors: Sequence[OmnimessageError]) -> Deletion | None:
    """
    Return the outcome of a DELETE, or ``None`` if it was surely not processed, and no report would explain that.

    :param errors: the error of each attempt, in order; empty if the first was accepted.
    """
    if not errors:
        return Deletion.ACCEPTED
    if isinstance(errors[-1], NotFoundError):
        return Deletion.NOT_FOUND
    in_doubt = next((error for error in reversed(errors) if error.maybe_processed), None)
    if isinstance(in_doubt, UnexpectedResponseError):
        return Deletion.CONTRADICTORY
    if isinstance(in_doubt, ServerError):
        return Deletion.SERVER_ERROR
    if in_doubt is not None:
        return Deletion.LOST
    is_foreign = isinstance(errors[-1], UnexpectedResponseError) and errors[-1].status_code == 404
    return Deletion.FOREIGN_NOT_FOUND if is_foreign else None


def read_finding(report: DeliveryReport | OmnimessageError) -> Finding:
    """
    Return what a delivery report shows about a cancel.

    :param report: the report, or the error of the request for it.
    """
    if isinstance(report, OmnimessageError):
        return Finding.NOT_FOUND if isinstance(report, NotFoundError) else Finding.LOST
    words = {status.status for status in report.statuses}
    if report.outcome in (Outcome.DELIVERED, Outcome.SEEN):
        return Finding.DELIVERED
    if not words:
        return Finding.EMPTY
    if report.outcome is Outcome.CANCELLED:
        return Finding.CANCELLED
    if report.outcome is Outcome.FAILED:
        return Finding.FAILED
    if not words <= _KNOWN:
        return Finding.UNRECOGNIZED
    if "DELETED" in words:
        return Finding.PARTLY_DELETED
    return Finding.UNDER_WAY if words & _CARRIER_HAS_IT else Finding.PENDING
