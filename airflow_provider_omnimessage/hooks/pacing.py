"""
Pace this process's requests to Messente: one rate limit and one pause after a 429 for all tasks and triggers.

Messente limits the requests from an address, not those of a connection. So the state is kept for each base URL, and
shared by all threads and event loops.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_omnimessage.api import pacing
from airflow_provider_omnimessage.api.errors import DeadlineExceededError, RateLimitedError
from airflow_provider_omnimessage.api.pacing import Pacing

#: Seconds: with less time left, a request is not made. It would only end without a response.
SHORTEST_REQUEST = 0.005

#: Seconds after which a lock is replaced. Only a holder that a timeout of the task interrupted keeps it for so long.
LONGEST_HOLD = 0.5


class Pace:
    """
    The pace of one base URL. It decides and never waits, so tasks and event loops use it alike.

    Example::

        wait = pace.take_turn("cancel", rate_limit=150, left=30)
        time.sleep(wait)  # or: await asyncio.sleep(wait)
        with pace.request("cancel"):
            ...  # raises RateLimitedError if Messente responds with 429
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all turns and the pause."""
        self._pacing = Pacing()
        # a new one: after a fork, the old one may be held by a thread that no longer exists
        self._lock = threading.Lock()

    def take_turn(self, call: str, *, rate_limit: float, left: float) -> float:
        """
        Take the next turn, and return the seconds until it comes.

        :param call: the name of the call, for errors.
        :param rate_limit: requests a second.
        :param left: seconds left for the call.
        :raises RateLimitedError: if all requests pause after a 429.
        :raises DeadlineExceededError: if the turn comes too late. Other calls may take it.
        """
        with self._locked():
            self._require_no_pause(call)
            wait, after = pacing.take_turn(self._pacing, time.monotonic(), rate_limit)
            if left - wait < SHORTEST_REQUEST:
                raise DeadlineExceededError.of(call)
            self._pacing = after
            return wait

    @contextmanager
    def request(self, call: str) -> Iterator[None]:
        """
        Make a request inside the ``with`` block; a ``RateLimitedError`` in it pauses all requests.

        :param call: the name of the call, for errors.
        :raises RateLimitedError: if a pause has started since the turn was taken. The block is not run.
        """
        self._require_no_pause(call)
        started = time.monotonic()
        try:
            yield
        except RateLimitedError as error:
            with self._locked():
                now = time.monotonic()
                self._pacing = pacing.pause(self._pacing, now, started, error.retry_after)
                # a repeat waits for the end of the pause, plus a jitter of its own
                error.retry_after = max(error.retry_after or 0.0, self._pacing.paused_until - now)
            raise
        with self._locked():
            self._pacing = pacing.succeed(self._pacing)

    def pause_left(self) -> float:
        """Return the seconds for which all requests still pause, 0 or more."""
        return max(0.0, self._pacing.paused_until - time.monotonic())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = self._lock
        if not lock.acquire(timeout=LONGEST_HOLD):
            lock = self._lock = threading.Lock()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _require_no_pause(self, call: str) -> None:
        left = self._pacing.paused_until - time.monotonic()
        if left > 0:
            raise RateLimitedError(
                f"{call}: all requests pause for another {left:.1f} s after a 429 from Messente; nothing was sent",
                status_code=429,
                retry_after=left,
            )


_paces: dict[str, Pace] = {}


def pace_of(base_url: str) -> Pace:
    """Return the pace that all requests of this process to a base URL share."""
    # dict.setdefault is atomic
    return _paces.setdefault(base_url, Pace())


def reset_paces() -> None:
    """Forget all turns and pauses, for tests and forked processes."""
    for pace in _paces.values():
        pace.reset()


os.register_at_fork(after_in_child=reset_paces)
