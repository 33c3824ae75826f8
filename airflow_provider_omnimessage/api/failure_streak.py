"""When a series of calls should stop: further calls would fail like the ones before them."""

from __future__ import annotations

from airflow_provider_omnimessage.api.errors import (
    AuthenticationError,
    DeadlineExceededError,
    InvalidInputError,
    NotCancelledError,
    NotFoundError,
    OmnimessageError,
    RateLimitedError,
    RejectedError,
)

#: Failures of the same kind in a row after which a series of calls stops.
SAME_FAILURES = 3
#: Errors that concern one message and say nothing about the next.
_OF_ONE_MESSAGE = (InvalidInputError, NotCancelledError, NotFoundError, RejectedError)


class FailureStreak:
    """
    Count failures of the same kind in a row, and remember the error that stops the series.

    Rejected credentials stop it at once, and so do :data:`SAME_FAILURES` failures of the same kind in a row. Errors
    that concern one message only do not count.

    :param calls_are_repeated: whether each call waits and repeats by itself, as those of the hook do. If not, a 429 and
        the end of the time budget stop the series at once, too.
    """

    def __init__(self, *, calls_are_repeated: bool = False) -> None:
        self.stopped_by: OmnimessageError | None = None
        self._stop_at_once: tuple[type[OmnimessageError], ...] = (
            (AuthenticationError,)
            if calls_are_repeated
            else (AuthenticationError, RateLimitedError, DeadlineExceededError)
        )
        self._last: OmnimessageError | None = None
        self._in_a_row = 0

    def record_success(self) -> None:
        """Start counting again."""
        self._last, self._in_a_row = None, 0

    def record_failure(self, error: OmnimessageError) -> None:
        """Count a failure."""
        if isinstance(error, _OF_ONE_MESSAGE):
            return
        stops_at_once = isinstance(error, self._stop_at_once)
        if isinstance(error, DeadlineExceededError) and self._last is not None and not stops_at_once:
            error = self._last  # the earlier failures have used up the time
        self._in_a_row = self._in_a_row + 1 if type(error) is type(self._last) else 1
        self._last = error
        if self.stopped_by is None and (stops_at_once or self._in_a_row >= SAME_FAILURES):
            self.stopped_by = error
