"""How long to wait before asking again: decisions only, without a clock or a pause of its own."""

from __future__ import annotations

from airflow_provider_omnimessage.api.errors import OmnimessageError

#: Seconds: the longest pause after the first failure. It doubles with each further one, up to LONGEST_PAUSE.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0


def pause(error: OmnimessageError, attempt: int, share: float) -> float:
    """
    Tell how many seconds to wait: what Messente asked for (``Retry-After``), and exponential backoff with full jitter.

    :param error: what became of the attempt.
    :param attempt: how many attempts have failed in a row, from 1.
    :param share: a random number from 0 to 1.
    """
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 1, 16))
    return (getattr(error, "retry_after", None) or 0.0) + share * longest
