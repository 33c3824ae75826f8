"""Run many calls a few at a time, and report the progress of long work."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")

#: Calls under way at a time, where many are made: as many as the session keeps connections.
IN_FLIGHT = 10
#: Seconds between two lines of progress in the log, and two writes of it for the UI.
PROGRESS_EVERY = 5.0


class Progress:
    """
    Says how far a long work is, every few seconds.

    :param of: how many there are.
    :param what: what they are called.
    :param log: where it is said.
    :param show: told the same as data; what it raises is logged, and no reason to stop. ``None``: nobody.
    :param clock: seconds.
    """

    def __init__(
        self,
        of: int,
        what: str,
        log: Any,
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
        """
        Tell how many are done; said if the last time is long enough ago, or it is over.

        :param done: how many.
        """
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
    Do something to many things, in their order, several of them at a time. Whoever stops looking stops it.

    :param work: what to do; called in threads.
    :param items: with what.
    """
    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="omnimessage") as pool:
        with suppress(GeneratorExit):
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) >= 2 * IN_FLIGHT:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        for _, future in waiting:
            future.cancel()
