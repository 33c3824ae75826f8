"""Limit the time that the calls of a hook may take together. Of several limits, the earliest counts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """
    The time that calls may take, shared by all threads that use the same hook.

    Without a limit, only the connection's ``deadline`` bounds a call.
    """

    def __init__(self) -> None:
        # without a lock: a timeout of the task could leave it held. Each use of the list is atomic
        self._ends: list[float] = []

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """
        Limit every call made inside the ``with`` block. If limits are nested, the earliest end counts.

        :param seconds: from now; if 0 or less, no call is made.
        """
        end = time.monotonic() + seconds
        self._ends.append(end)
        try:
            yield
        finally:
            self._ends.remove(end)

    def remaining(self) -> float | None:
        """Return the seconds that are left, 0 or more; ``None`` if there is no limit."""
        end = min(tuple(self._ends), default=None)
        return None if end is None else max(0.0, end - time.monotonic())

    def end_of_call(self, deadline: float) -> float:
        """
        Return the time on the monotonic clock by which a call that starts now must end.

        :param deadline: seconds for the call if there is no earlier limit.
        """
        return min([time.monotonic() + deadline, *self._ends])
