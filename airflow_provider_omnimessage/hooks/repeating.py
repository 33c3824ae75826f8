"""The interface of a transport, and the loops that repeat its calls: one for tasks, one for event loops."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from airflow_provider_omnimessage.api import backoff
from airflow_provider_omnimessage.api.calls import Call
from airflow_provider_omnimessage.api.errors import DeadlineExceededError, OmnimessageError

T = TypeVar("T")

#: Called before each pause with the call, the error of the attempt, the attempt's number, and the seconds to wait.
OnRepeat = Callable[[Call[Any], OmnimessageError, int, float], None]


class Transport(Protocol):
    """Makes calls from a task."""

    def make(self, call: Call[T], timeout: float | None = None) -> T:
        """
        Make one attempt at a call, when its turn comes.

        :param timeout: seconds for the turn and the request; default: the connection's ``deadline``.
        :raises DeadlineExceededError: if no time is left; nothing was sent.
        :raises RateLimitedError: if Messente responds with 429, or all requests pause after a 429.
        :raises NotSentError: if the request surely did not reach Messente.
        :raises LostResponseError: if it may have been processed, but no complete response came back.
        :raises ApiError: if Messente responds with an error.
        """

    def close(self) -> None:
        """Close all connections."""


class AsyncTransport(Protocol):
    """Makes calls from an event loop."""

    async def make(self, call: Call[T], timeout: float | None = None) -> T:
        """
        Make one attempt at a call, as :meth:`Transport.make` does.

        :param timeout: seconds for the turn and the request; default: the connection's ``deadline``.
        """

    async def close(self) -> None:
        """Close all connections."""


def repeat(call: Call[T], transport: Transport, end: float, on_repeat: OnRepeat) -> T:
    """
    Make a call, and repeat it while that is safe and in time.

    :param transport: makes each attempt.
    :param end: the time on the monotonic clock by which the call ends.
    :param on_repeat: called before each pause.
    :raises OmnimessageError: the error of the last attempt.
    """
    failure: OmnimessageError | None = None
    attempt = 0
    while True:
        attempt += 1
        try:
            return transport.make(call, end - time.monotonic())
        except OmnimessageError as error:
            failure = _more_telling(error, failure)
            seconds = backoff.next_pause(call, error, attempt, random.random(), end - time.monotonic())
        if seconds is None:
            raise failure
        on_repeat(call, failure, attempt, seconds)
        time.sleep(seconds)


async def repeat_async(call: Call[T], transport: AsyncTransport, end: float, on_repeat: OnRepeat) -> T:
    """
    Make a call, and repeat it while that is safe and in time: :func:`repeat` on an event loop.

    :param transport: makes each attempt.
    :param end: the time on the monotonic clock by which the call ends.
    :param on_repeat: called before each pause.
    :raises OmnimessageError: the error of the last attempt.
    """
    failure: OmnimessageError | None = None
    attempt = 0
    while True:
        attempt += 1
        try:
            return await transport.make(call, end - time.monotonic())
        except OmnimessageError as error:
            failure = _more_telling(error, failure)
            seconds = backoff.next_pause(call, error, attempt, random.random(), end - time.monotonic())
        if seconds is None:
            raise failure
        on_repeat(call, failure, attempt, seconds)
        await asyncio.sleep(seconds)


def _more_telling(error: OmnimessageError, earlier: OmnimessageError | None) -> OmnimessageError:
    """Return the error to raise: running out of time does not hide what an earlier attempt may have done."""
    return earlier if isinstance(error, DeadlineExceededError) and earlier is not None else error
