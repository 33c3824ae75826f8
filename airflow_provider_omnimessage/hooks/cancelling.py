"""Cancel a message, and repeat that until its outcome is known: a DELETE, and a GET if the DELETE leaves doubts."""

from __future__ import annotations

import random
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Protocol, TypeVar

from airflow_provider_omnimessage.api import backoff, calls, cancelling
from airflow_provider_omnimessage.api.cancel_result import Cancellation, CancelResult
from airflow_provider_omnimessage.api.delivery import DeliveryReport
from airflow_provider_omnimessage.api.errors import AuthenticationError, NotCancelledError, OmnimessageError

if TYPE_CHECKING:
    import logging

    from airflow.sdk.types import Logger

    from airflow_provider_omnimessage.api.calls import Call

T = TypeVar("T")

#: How often a message is cancelled, at most, while it is unknown whether it is cancelled.
CANCEL_ATTEMPTS = 4


class Make(Protocol):
    """Makes a call and repeats it, as the hook does."""

    def __call__(self, call: Call[T], failures: list[OmnimessageError] | None = None) -> T:
        """
        Return the result of a call.

        :param failures: receives the error of each attempt that was repeated.
        """


def try_to_cancel(
    make: Make, omnimessage_id: str, *, due: datetime | None, end: float, log: Logger | logging.Logger
) -> Cancellation:
    """
    Cancel a message if it is still scheduled, and return the outcome.

    :param due: the message's time, with a zone; ``None`` if it is not known.
    :param end: the time on the monotonic clock after which the cancel is not repeated.
    :raises OmnimessageError: as :meth:`OmnimessageHook.try_to_cancel` does.
    """
    attempt = 0
    while True:
        attempt += 1
        is_early = None if due is None else datetime.now(timezone.utc) < due
        found = _cancel_once(make, omnimessage_id, is_early, log)
        if not isinstance(found, OmnimessageError):
            return found
        seconds = backoff.pause(found, attempt, random.random())
        if attempt == CANCEL_ATTEMPTS or time.monotonic() + seconds >= end:
            raise found
        log.warning("%s. Attempt %d; cancelling again in %.1f s", found, attempt, seconds)
        time.sleep(seconds)


def _cancel_once(
    make: Make, omnimessage_id: str, before_time: bool | None, log: Logger | logging.Logger
) -> Cancellation | OmnimessageError:
    """Return the outcome of a cancel, or the error to raise if it stays unknown."""
    errors: list[OmnimessageError] = []
    try:
        make(calls.cancel(omnimessage_id), errors)
        return Cancellation(CancelResult.CANCELLED)
    except OmnimessageError as error:
        errors.append(error)
    deletion = cancelling.read_deletion(errors)
    if deletion is None:
        raise errors[-1]
    report: DeliveryReport | OmnimessageError
    try:
        report = make(calls.delivery_report(omnimessage_id))
    except AuthenticationError:
        raise
    except OmnimessageError as error:
        report = error
    in_doubt = any(error.maybe_processed for error in errors)
    result = cancelling.decide(
        deletion, cancelling.read_finding(report), before_time=before_time, earlier_in_doubt=in_doubt
    )
    if result is CancelResult.CANCELLED:
        log.info("%s is cancelled, although a response was lost", omnimessage_id)
    if result is not None:
        return Cancellation(result, report if isinstance(report, DeliveryReport) else None)
    if deletion is not cancelling.Deletion.NOT_FOUND:
        return errors[-1]
    if isinstance(report, OmnimessageError):
        return report
    return NotCancelledError.of(omnimessage_id, str(report))
