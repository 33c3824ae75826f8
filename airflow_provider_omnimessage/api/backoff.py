"""Which call may be made again, and after how long: decisions only, without a clock and without waiting."""

from __future__ import annotations

from typing import Any

from airflow_provider_omnimessage.api.calls import Call
from airflow_provider_omnimessage.api.errors import (
    DeadlineExceededError,
    LostResponseError,
    NotSentError,
    OmnimessageError,
    RateLimitedError,
    ServerError,
    UntrustedError,
)

#: Seconds: the longest pause after the first failure. It doubles with each further one, up to LONGEST_PAUSE.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0


def may_repeat(call: Call[Any], error: BaseException | None) -> bool:
    """
    Tell whether a call may be made again at once, with nobody asked.

    What was surely not processed always may be. What may have been processed may be only where it does no harm twice:
    a GET or a DELETE, never a POST, for there is no idempotency key. A refused certificate is refused again.

    :param call: which call.
    :param error: what became of it.
    """
    if isinstance(error, (NotSentError, RateLimitedError)) and not isinstance(
        error, (UntrustedError, DeadlineExceededError)
    ):
        return True
    return call.method in ("GET", "DELETE") and isinstance(error, (LostResponseError, ServerError))


def pause(error: OmnimessageError, attempt: int, share: float) -> float:
    """
    Tell how many seconds to wait before the next attempt: exponential backoff with full jitter.

    Where Messente asked for a time (``Retry-After``), it is waited for first and the jitter comes on top, so that
    callers which were all told the same do not come back at the same moment.

    :param error: what became of the attempt.
    :param attempt: how many attempts there have been, from 1.
    :param share: a random number from 0 to 1.
    """
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 1, 16))
    return (getattr(error, "retry_after", None) or 0.0) + share * longest
