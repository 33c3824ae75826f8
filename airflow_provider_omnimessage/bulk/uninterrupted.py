"""Let work finish although Airflow interrupts its task."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")


def run_uninterrupted(work: Callable[[], T], on_interrupt: Callable[[BaseException], None]) -> T:
    """
    Run ``work`` to its end, in a thread.

    Airflow interrupts a task by an exception at any line of its main thread, for example at its ``execution_timeout``.
    In the middle of reading a response, that would lose the ids in it.

    :param on_interrupt: receives such an exception. It should make ``work`` end soon.
    :return: the result of ``work``. Its exceptions are raised.
    """
    outcome: Future[T] = Future()
    begin = threading.Event()
    context = copy_context()

    def run() -> None:
        begin.wait()
        try:
            outcome.set_result(context.run(work))
        except BaseException as error:
            outcome.set_exception(error)

    # An interruption before begin.set() leaves a thread that waits for ever, and nothing done: a daemon lets the
    # process end.
    thread = threading.Thread(target=run, name="omnimessage-bulk", daemon=True)
    thread.start()
    while True:
        try:
            begin.set()
            thread.join()
            return outcome.result()
        except BaseException as error:
            if outcome.done() and error is outcome.exception():
                raise
            on_interrupt(error)
