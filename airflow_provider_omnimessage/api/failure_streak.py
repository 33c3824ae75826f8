"""When a series of calls should stop: further calls would fail like the ones before them."""

from __future__ import annotations

from airflow_provider_omnimessage.api.errors import (
    AuthenticationError,
    DeadlineExceededError,
    OmnimessageError,
    RateLimitedError,
)

#: Failures of the same kind in a row after which a series of calls stops.
SAME_FAILURES = 3


class FailureStreak:
    """Count failures of the same kind in a row, and remember the error that stops the series."""

    def __init__(self) -> None:
        self.stopped_by: OmnimessageError | None = None
        self._kind: type[OmnimessageError] | None = None
        self._in_a_row = 0

    def record_success(self) -> None:
        """Start counting again."""
        self._in_a_row = 0

    def record_failure(self, error: OmnimessageError) -> None:
        """Count a failure. Rejected credentials, a 429 and the end of the time budget stop at once."""
        if not (error.may_pass or error.maybe_processed or isinstance(error, AuthenticationError)):
            return  # it concerns one message only
        self._in_a_row = self._in_a_row + 1 if type(error) is self._kind else 1
        self._kind = type(error)
        stops_at_once = isinstance(error, (AuthenticationError, RateLimitedError, DeadlineExceededError))
        if self.stopped_by is None and (stops_at_once or self._in_a_row >= SAME_FAILURES):
            self.stopped_by = error
