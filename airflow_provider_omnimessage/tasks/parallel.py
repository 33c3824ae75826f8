"""Run many calls a few at a time, and report the progress of long work."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

T = TypeVar("T")
R = TypeVar("R")

#: Calls in flight at the same time: as many as the HTTP session keeps connections.
IN_FLIGHT = 10
#: Seconds between two progress lines in the log, and between two progress updates for the UI.
PROGRESS_EVERY = 5.0


class Progress:
    """
    Report the progress of long work every few seconds.

    :param of: the total number of items.
    :param what: what the items are called.
    :param log: the task's logger.
    :param show: receives the same progress as data. If it raises, that is logged and it is not called again.
    :param clock: returns seconds.
    """

    def __init__(
        self,
        of: int,
        what: str,
        log: Logger,
        show: Callable[[dict[str, Any]], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._of = of
        self._what = what
        self._log = log
        self._show = show
        self._clock = clock
        self._begin = self._last = clock()

    def at(self, done: int) -> None:
        """Report that ``done`` items are done, unless the last report is too recent."""
        now = self._clock()
        is_over = done >= self._of
        if now - self._last < PROGRESS_EVERY and not (is_over and self._last > self._begin):
            return
        self._last = now
        rate = done / max(now - self._begin, 1e-9)
        left = round((self._of - done) / rate) if rate else None
        percent = round(100 * done / self._of) if self._of else 100
        self._log.info(
            "%s of %s %s (%d%%), %s per second, %s",
            f"{done:,}",
            f"{self._of:,}",
            self._what,
            percent,
            f"{rate:,.0f}",
            "done" if is_over else f"about {left:,} s left" if left is not None else "time left unknown",
        )
        if self._show is None:
            return
        try:
            self._show(
                {
                    "done": done,
                    "of": self._of,
                    "percent": percent,
                    "per_second": round(rate, 1),
                    "seconds_left": 0 if is_over else left,
                }
            )
        except Exception:
            self._log.warning("The progress could not be stored for the UI", exc_info=True)
            self._show = None


def a_few_at_a_time(work: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
    """
    Yield each item with its result, in order, while up to :data:`IN_FLIGHT` calls of ``work`` run in threads.

    Closing the generator, or an exception in it such as a timeout of the task, starts no further calls.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="omnimessage") as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) >= 2 * IN_FLIGHT:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            # leaving the pool waits for the calls that it has begun
            for _, future in waiting:
                future.cancel()
