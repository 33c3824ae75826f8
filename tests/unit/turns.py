"""A clock of its own for threads: they run one at a time, in an order that only the clock decides."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterable


class Turns:
    """Runs functions at the same time, each in a thread that runs only while all others wait for the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._waiting: list[tuple[float, int, threading.Event]] = []
        self._number = 0
        self._ended = threading.Event()

    def monotonic(self) -> float:
        """Return the time, in seconds since the begin."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let the others run until so many seconds have passed."""
        turn = self._wake_at(self.now + seconds)
        self._next()
        turn.wait()

    def run(self, *functions: Callable[[], None]) -> None:
        """Run the functions until all have returned; raise the first exception."""
        errors: list[BaseException] = []

        def take_part(function: Callable[[], None], turn: threading.Event) -> None:
            turn.wait()
            try:
                function()
            except BaseException as error:
                errors.append(error)
            self._next()

        threads = [
            threading.Thread(target=take_part, args=(function, self._wake_at(self.now))) for function in functions
        ]
        for thread in threads:
            thread.start()
        self._next()
        self._ended.wait()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def _wake_at(self, time: float) -> threading.Event:
        turn = threading.Event()
        heapq.heappush(self._waiting, (time, self._number, turn))
        self._number += 1
        return turn

    def _next(self) -> None:
        if not self._waiting:
            self._ended.set()
            return
        self.now, _, turn = heapq.heappop(self._waiting)
        turn.set()


def one_after_the_other(functions: Iterable[Callable[[], None]]) -> Callable[[], None]:
    """Return a function that runs functions from a common source, as a worker takes tasks from a queue."""

    def work() -> None:
        for function in functions:
            function()

    return work
