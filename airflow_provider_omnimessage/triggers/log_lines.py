"""Log lines of triggers, written off the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import logging

    from airflow.sdk.types import Logger


class LogLines:
    """
    Write log lines in a thread, in order.

    Airflow 3 sends the lines of triggers through a socket to the process that supervises them. While that process sends
    new triggers, it reads no lines. If the event loop then waited for the socket, it would not read the new triggers,
    and both processes would wait for each other until the triggerer is restarted: seen with thousands of waits.

    :param log: of a trigger, or of a module whose code runs on the triggerer's event loop.
    """

    def __init__(self, log: Logger | logging.Logger) -> None:
        self._log = log
        self._last: asyncio.Future[None] | None = None

    def info(self, message: str, *args: Any) -> None:
        """Write a line, at once or soon."""
        self._write(partial(self._log.info, message, *args))

    def warning(self, message: str, *args: Any) -> None:
        """Write a warning, at once or soon."""
        self._write(partial(self._log.warning, message, *args))

    def error(self, message: str, error: Exception) -> None:
        """Write a line with the traceback of an error."""
        self._write(partial(self._log.error, message, exc_info=error))

    async def written(self) -> None:
        """Return once all lines are written, or could not be."""
        if self._last is not None:
            await asyncio.wait([self._last])

    def _write(self, line: partial[None]) -> None:
        # the context says to which task a line belongs
        run = contextvars.copy_context().run
        self._last = asyncio.get_running_loop().run_in_executor(_thread(), run, line)


@cache
def _thread() -> ThreadPoolExecutor:
    """Return the thread for all triggers: it keeps their order, and waits alone."""
    return ThreadPoolExecutor(1, thread_name_prefix="omnimessage-log")


# the thread does not exist in a forked process, which would wait for its lines forever
os.register_at_fork(after_in_child=_thread.cache_clear)
