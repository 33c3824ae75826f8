"""The end of tasks in the triggerer, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

#: Tasks that end at the same time. The triggerer stores their XComs one after another, so two keep it busy.
ENDS_TOGETHER = 2

_ends: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()


@asynccontextmanager
async def turn_to_end() -> AsyncIterator[None]:
    """
    Wait until the triggerer may end this task.

    Storing an XCom occupies a thread of the event loop's executor. Airflow needs these threads too, among others before
    it passes on the event of a trigger: thousands of XComs in their queue would hold back all events until the last one
    is stored.
    """
    async with _ends.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(ENDS_TOGETHER)):
        yield
