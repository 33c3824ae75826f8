"""The trigger that waits for delivery in the triggerer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Literal

from airflow.triggers.base import BaseTaskEndEvent, BaseTrigger, TriggerEvent

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage._compat import SHORTEST_ABSENCE, in_thread, success_in_triggerer
from airflow_provider_omnimessage.api.awaited_message import AwaitedMessage
from airflow_provider_omnimessage.api.calls import delivery_report
from airflow_provider_omnimessage.api.errors import AuthenticationError, OmnimessageError
from airflow_provider_omnimessage.api.failure_streak import FailureStreak
from airflow_provider_omnimessage.api.wait_result import Ending, WaitResult
from airflow_provider_omnimessage.api.waiting import Require, Wait, WaitFor
from airflow_provider_omnimessage.triggers.awaited import BulkSource, awaited_of_row
from airflow_provider_omnimessage.triggers.crowds import turn_to_end, turn_to_start
from airflow_provider_omnimessage.triggers.log_lines import LogLines
from airflow_provider_omnimessage.triggers.polling import IN_FLIGHT, Poller, polling
from airflow_provider_omnimessage.triggers.pushed import PushedWait

#: Seconds, at least, between two rounds of polls for the thousands of messages of a bulk send.
SHORTEST_ROUND = 0.5
#: Seconds between two log lines on the progress of a bulk send.
PROGRESS_EVERY = 30.0
#: Seconds for the last polls of a trigger that starts at its deadline or later, for example after a restart.
LATE_START = 5.0


class OmnimessageDeliveryTrigger(BaseTrigger):
    """
    Wait until messages have been delivered or read, and fire one event.

    The event's payload is ``{"ending", "reason", "reports"}``: ``ending`` is ``fulfilled``, ``failed``, ``cancelled``,
    ``error`` or ``timed_out``; ``reports`` holds a summary for each message; ``counts`` is there for bulk sends. What
    it serialises are ids, times and settings. Every time is absolute, so that a restarted triggerer continues where it
    stopped.

    :param messages: each message's id, and when it is sent: ISO 8601 with an offset, or ``None`` if it was sent before.
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``.
    :param since: when the wait began: ISO 8601 with an offset.
    :param deadline: when it ends: ISO 8601 with an offset.
    :param poke_interval: seconds, more than 0: the longest gap between two polls for one message.
    :param wait_for: ``"delivered"`` or ``"seen"``.
    :param require: ``"all"`` of the messages, ``"any"``, or a share of them, more than 0 and at most 1.
    :param limit: what the deadline is called in the error.
    :param ends_task: whether the trigger may end the task as a success, without a worker.
    :param returns: the endings with which the task succeeds.
    :param one: whether the task then returns one report, and not a list.
    :param bulk: instead of ``messages``, those of bulk sends, which are counted: for each, ``{"results", "accepted",
        "first_omnimessage_id"}``, the results file and what it must hold; or ``{"ids", "moments"}``, separated by
        spaces, with one time for all or one for each (``-``: ``None``).
    """

    def __init__(
        self,
        *,
        messages: Sequence[Sequence[str | None]],
        omnimessage_conn_id: str,
        since: str,
        deadline: str,
        poke_interval: float = 60.0,
        wait_for: WaitFor = "delivered",
        require: Literal["all", "any"] | float = "all",
        limit: str = "its time",
        ends_task: bool = False,
        returns: Sequence[str] = ("fulfilled",),
        one: bool = False,
        bulk: BulkSource | Sequence[BulkSource] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.awaited = awaited_of_row(messages, one, bulk)
        self.omnimessage_conn_id = omnimessage_conn_id
        self.since = since
        self.deadline = deadline
        self.poke_interval = poke_interval
        self.wait_for: WaitFor = wait_for
        self.require: Require = require
        self.limit = limit
        self.ends_task = ends_task
        self.returns = list(returns)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments from which any triggerer can make this trigger again."""
        names = (
            "omnimessage_conn_id",
            "since",
            "deadline",
            "poke_interval",
            "wait_for",
            "require",
            "limit",
            "ends_task",
            "returns",
        )
        arguments = {**self.awaited.to_row(), **{name: getattr(self, name) for name in names}}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire once."""
        started = time.monotonic()
        # everything is closed before the event is yielded: a triggerer may never resume a generator after it
        log = LogLines(self.log)
        event = await self._event(await self._result(log), log)
        await log.written()
        if self.trigger_id is not None and not isinstance(event, BaseTaskEndEvent):
            await asyncio.sleep(max(0.0, started + SHORTEST_ABSENCE - time.monotonic()))
        yield event

    async def _event(self, result: WaitResult, log: LogLines) -> TriggerEvent:
        task_instance = getattr(self, "task_instance", None)
        # dag.test() runs triggers without a triggerer, and cannot end a task from one
        is_in_triggerer = self.trigger_id is not None and task_instance is not None
        if self.ends_task and is_in_triggerer and result.ending.value in self.returns:
            try:
                async with turn_to_end():
                    success: TriggerEvent = await success_in_triggerer(
                        task_instance, result.output(single=self.awaited.single)
                    )
            except Exception as error:
                log.error("The XCom could not be pushed from the triggerer; a worker ends the task", error)
            else:
                metrics.count_wait(result, task_instance, in_triggerer=True)
                return success
        return TriggerEvent(result.to_event())  # type: ignore[no-untyped-call]

    async def _result(self, log: LogLines) -> WaitResult:
        await turn_to_start()
        try:
            wait = await self._start()
        except (OSError, ValueError, LookupError, TypeError) as error:  # gone, cut off, or something else by now
            return WaitResult(Ending.ERROR, f"The results of the bulk send could not be read: {error}", [])
        async with polling(self.omnimessage_conn_id, wait) as poller:
            subscriber = PushedWait(wait, poller, log)
            poller.listener.join(subscriber)
            try:
                return await _Following(wait, poller, self.limit, log).result()
            except OmnimessageError as error:  # it concerns everybody here: the connection, or its credentials
                wait.fail(error)
                return wait.result or WaitResult(Ending.ERROR, str(error), [])
            finally:
                poller.listener.leave(subscriber)

    async def _start(self) -> Wait:
        if not self.awaited.only_count:
            return self._plan()
        # thousands take a while, during which the other triggers on this loop go on
        return await in_thread(self._plan)

    def _plan(self) -> Wait:
        wait = Wait(
            self.awaited.messages(),
            since=datetime.fromisoformat(self.since),
            deadline=datetime.fromisoformat(self.deadline),
            poke_interval=self.poke_interval,
            wait_for=self.wait_for,
            require=self.require,
            only_count=self.awaited.only_count,
        )
        wait.start(_now())
        return wait


class _Following:
    """Polls for the messages of one wait until it is over."""

    def __init__(self, wait: Wait, poller: Poller, limit: str, log: LogLines) -> None:
        self._wait = wait
        self._poller = poller
        self._limit = limit
        self._log = log
        self._next_progress = time.monotonic()
        now = _now()
        self._end = wait.deadline if now < wait.deadline else now + timedelta(seconds=LATE_START)

    async def result(self) -> WaitResult:
        wait = self._wait
        while True:
            if due := self._due():
                await self._poll(due)
                self._log_progress()
            if result := wait.result:
                return result
            now = _now()
            if now >= self._end or (now >= wait.deadline and not self._due()):
                self._record_pause(now)
                return wait.timed_out(self._limit)
            await self._rest(now)

    def _due(self) -> list[AwaitedMessage]:
        return [] if self._poller.pause_left() or _now() >= self._end else self._wait.due(_now())

    def _record_pause(self, now: datetime) -> None:
        """Note the pause of all waits as the reason why messages that were due were not polled."""
        if error := self._poller.paused_by:
            for message in self._wait.due(now):
                self._wait.record_error(message, error, now)

    async def _rest(self, now: datetime) -> None:
        next_poll = max(self._wait.next_poll or now, now + timedelta(seconds=self._poller.pause_left()))
        seconds = (next_poll - now).total_seconds()
        if self._wait.only_count:
            # of thousands, there is always one due: polled together they cost less
            seconds = max(seconds, SHORTEST_ROUND)
        await self._poller.rest(min(seconds, max(0.0, (self._end - now).total_seconds())), self._wait)

    async def _poll(self, due: Sequence[AwaitedMessage]) -> None:
        if len(due) == 1:
            await self._poll_one(due[0], FailureStreak())
            return
        messages, streak = iter(due), FailureStreak()
        polls = (self._poll_each(messages, streak) for _ in range(min(len(due), IN_FLIGHT)))
        # all of them end before the first error is raised, so that none is left running
        errors = [error for error in await asyncio.gather(*polls, return_exceptions=True) if error is not None]
        if errors:
            raise errors[0]

    async def _poll_each(self, messages: Iterator[AwaitedMessage], streak: FailureStreak) -> None:
        for message in messages:
            await self._poll_one(message, streak)
            if self._wait.is_over or self._poller.pause_left():
                return

    async def _poll_one(self, message: AwaitedMessage, streak: FailureStreak) -> None:
        try:
            if streak.stopped_by is not None:
                raise streak.stopped_by
            left = (self._end - _now()).total_seconds()
            report = await self._poller.make(delivery_report(message.omnimessage_id), timeout=left)
        except AuthenticationError:
            raise
        except OmnimessageError as error:
            streak.record_failure(error)
            news = self._wait.record_error(message, error, _now())
        else:
            streak.record_success()
            self._poller.listener.record_poll(message.omnimessage_id, report)
            news = self._wait.record_report(message, report, _now())
        if news and not self._wait.only_count:
            self._log.info(news)

    def _log_progress(self) -> None:
        """Log the progress of a bulk send from time to time, instead of a line for each message."""
        if not self._wait.only_count or time.monotonic() < self._next_progress:
            return
        self._next_progress = time.monotonic() + PROGRESS_EVERY
        endings = ", ".join(f"{count:,} {ending}" for ending, count in sorted(self._wait.endings.items()))
        self._log.info("%s messages: %s", f"{len(self._wait.messages):,}", endings or "all in progress")


def _now() -> datetime:
    return datetime.now(timezone.utc)
