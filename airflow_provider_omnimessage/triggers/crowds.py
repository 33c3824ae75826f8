"""Waits that start or end at the same time take turns, so that the triggerer does other things in between."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

#: Waits that start in the same iteration of the event loop. More would block everything else on it: a triggerer that
#: restarts starts all of its waits at once.
STARTS_TOGETHER = 10
#: Tasks that end at the same time. The triggerer stores their XComs one after another, so two keep it busy.
ENDS_TOGETHER = 2


class _Turns:
    """Lets so many at a time go on, on each event loop."""

    def __init__(self, at_a_time: int) -> None:
        self._at_a_time = at_a_time
        self._semaphores: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    def turn(self) -> asyncio.Semaphore:
        """Return what to hold for one's turn."""
        return self._semaphores.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self._at_a_time))


_starts = _Turns(STARTS_TOGETHER)
_ends = _Turns(ENDS_TOGETHER)


async def turn_to_start() -> None:
    """Return when this wait may start."""
    async with _starts.turn():
        await asyncio.sleep(0)


def turn_to_end() -> asyncio.Semaphore:
    """
    Return what to hold while the triggerer ends a task.

    Storing an XCom occupies a thread of the event loop's executor. Airflow needs these threads too, among others before
    it passes on the event of a trigger: thousands of XComs in their queue would hold back all events until the last one
    is stored.
    """
    return _ends.turn()
