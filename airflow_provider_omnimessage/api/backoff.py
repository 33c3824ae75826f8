"""Decide whether a call may be repeated, and after how long. Nothing here reads a clock or waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage.api.errors import (
    ApiError,
    DeadlineExceededError,
    LostResponseError,
    NotSentError,
    OmnimessageError,
    RateLimitedError,
    ServerError,
    UntrustedError,
)

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.calls import Call

#: Seconds: the longest pause after the first failure. It doubles with each further one, up to LONGEST_PAUSE.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0


def may_repeat(call: Call[Any], error: BaseException | None) -> bool:
    """
    Return whether a call may be repeated right away.

    A request that was surely not processed may always be repeated. One that may have been processed is repeated only if
    that does no harm: a GET or a DELETE, never a POST, since there is no idempotency key. An untrusted certificate and
    a call without time left are not repeated: waiting changes neither.

    :param error: of the last attempt.
    """
    if isinstance(error, (UntrustedError, DeadlineExceededError)):
        return False
    if isinstance(error, (NotSentError, RateLimitedError)):
        return True
    return call.method in ("GET", "DELETE") and isinstance(error, (LostResponseError, ServerError))


def pause(error: OmnimessageError, attempt: int, share: float) -> float:
    """
    Return the seconds to wait before the next attempt: exponential backoff with full jitter.

    If Messente sent a ``Retry-After``, the jitter is added to it, so that callers with the same ``Retry-After`` do not
    repeat at the same time.

    :param error: of the last attempt.
    :param attempt: the number of attempts so far, from 1.
    :param share: a random number from 0 to 1.
    """
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 1, 16))
    return (error.retry_after if isinstance(error, ApiError) and error.retry_after else 0.0) + share * longest


def reconnect_pause(failures: int, first: float, longest: float, share: float) -> float:
    """
    Return the seconds before something that runs all the time tries again: at least half of what doubles.

    :param failures: in a row, from 1.
    :param first: seconds; the pause after the first failure is at most twice as long.
    :param longest: seconds.
    :param share: a random number from 0 to 1.
    """
    return min(longest, first * 2.0 ** min(failures, 6)) * (0.5 + share / 2)


def next_pause(call: Call[Any], error: OmnimessageError, attempt: int, share: float, left: float) -> float | None:
    """
    Return the seconds to wait before a call is repeated, or ``None`` to raise its error instead.

    A pause that would use up the time left is not started: an error now is more useful than the same error later.

    :param error: of the last attempt.
    :param attempt: the number of attempts so far, from 1.
    :param share: a random number from 0 to 1.
    :param left: seconds left for the call.
    """
    if not may_repeat(call, error):
        return None
    seconds = pause(error, attempt, share)
    return seconds if seconds < left else None
