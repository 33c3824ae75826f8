"""The trigger that waits for delivery in the triggerer, and holds no worker while it does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal

from airflow.triggers.base import BaseTaskEndEvent, BaseTrigger, TriggerEvent

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage._compat import SHORTEST_ABSENCE, success_in_triggerer
from airflow_provider_omnimessage.api.calls import delivery_report
from airflow_provider_omnimessage.api.errors import AuthenticationError, OmnimessageError
from airflow_provider_omnimessage.api.waiting import Awaited, Ending, Verdict, Wait
from airflow_provider_omnimessage.bulk.results import read_file
from airflow_provider_omnimessage.triggers.polling import IN_FLIGHT, polling

if TYPE_CHECKING:
    from airflow_provider_omnimessage.triggers.polling import Poller


#: Seconds at least between two looks at any of the thousands of messages of a bulk send.
TOGETHER = 0.5
#: How often the log says how far they are.
SAID_EVERY = timedelta(seconds=30)


class OmnimessageDeliveryTrigger(BaseTrigger):
    """
    Wait until messages have been delivered or read: ``GET /omnimessage/{omnimessage_id}/status``, asked rarely.

    It fires once. Its event's payload is ``{"ending", "reason", "reports"}``; ``ending`` is ``fulfilled``, ``failed``,
    ``cancelled``, ``refused`` or ``timed_out``, and ``reports`` holds a summary per message. What it serialises are
    ids, moments and settings; every moment is absolute, so that a restarted triggerer goes on where the last one was.

    :param messages: each message's id, and when it is sent: ISO 8601 with an offset, or ``None`` for sent before.
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``.
    :param wait_for: ``"delivered"`` or ``"seen"``.
    :param require: ``"all"`` of the messages, ``"any"``, or a share of them, more than 0 and at most 1.
    :param poke_interval: seconds, more than 0: the longest gap between two looks at one message.
    :param since: when the waiting began: ISO 8601 with an offset.
    :param deadline: when it ends: ISO 8601 with an offset.
    :param limit: what the deadline is called in the error.
    :param ends_task: whether success ends the task from here, without a worker.
    :param one: whether the XCom is then the only message's summary, and not a list of summaries.
    :param bulk: in the place of ``messages``, those of a bulk send, which are counted and not reported one by one:
        ``{"results"}``, the file that holds them; or ``{"ids", "moments"}``, with spaces between them, and one moment
        for all or one for each (``-``: sent before). ``None``: there are ``messages``.
    """

    def __init__(
        self,
        *,
        messages: Sequence[Sequence[str | None]],
        omnimessage_conn_id: str,
        since: str,
        deadline: str,
        poke_interval: float = 60.0,
        wait_for: Literal["delivered", "seen"] = "delivered",
        require: Literal["all", "any"] | float = "all",
        limit: str = "its time",
        ends_task: bool = False,
        one: bool = False,
        bulk: dict[str, str] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.messages = [list(message) for message in messages]
        self.omnimessage_conn_id = omnimessage_conn_id
        self.since = since
        self.deadline = deadline
        self.poke_interval = poke_interval
        self.wait_for = wait_for
        self.require = require
        self.limit = limit
        self.ends_task = ends_task
        self.one = one
        self.bulk = bulk
        self._next_say = datetime.min.replace(tzinfo=timezone.utc)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Say how to make this trigger again, in any triggerer."""
        names = (
            "messages",
            "omnimessage_conn_id",
            "since",
            "deadline",
            "poke_interval",
            "wait_for",
            "require",
            "limit",
            "ends_task",
            "one",
            "bulk",
        )
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire once."""
        begun = time.monotonic()
        # everything is let go of before the event is given away: nobody promises to come back after it
        event = await self._event(await self._verdict())
        if self.trigger_id is not None and not isinstance(event, BaseTaskEndEvent):
            await asyncio.sleep(max(0.0, begun + SHORTEST_ABSENCE - time.monotonic()))
        yield event

    async def _event(self, verdict: Verdict) -> TriggerEvent:
        task_instance = getattr(self, "task_instance", None)
        # Airflow's dag.test() runs triggers without a triggerer, and cannot end a task from one
        if self.ends_task and verdict.ending is Ending.FULFILLED and self.trigger_id is not None and task_instance:
            xcom: Any = verdict.counted or (verdict.reports[0] if self.one else verdict.reports)
            try:
                success: TriggerEvent = await success_in_triggerer(task_instance, xcom)
            except Exception:
                self.log.exception("The XCom could not be pushed from here; a worker ends the task")
            else:
                metrics.count_verdict(verdict, task_instance, in_triggerer=True)
                return success
        return TriggerEvent(verdict.as_dict())  # type: ignore[no-untyped-call]

    async def _verdict(self) -> Verdict:
        try:
            wait = await self._planned_aside() if self.bulk else self._planned()
        except (OSError, ValueError, LookupError, TypeError) as error:  # gone, cut off, or something else by now
            return Verdict(Ending.REFUSED, f"The results of the bulk send could not be read: {error}", [])
        async with polling(self.omnimessage_conn_id) as poller:
            try:
                return await self._follow(wait, poller)
            except OmnimessageError as error:  # for all who wait here: the connection, or its credentials
                return Verdict(Ending.REFUSED, str(error), [])

    async def _planned_aside(self) -> Wait:
        """Plan thousands, which takes a while, without the others on this loop noticing."""
        from asgiref.sync import sync_to_async  # knows the way back to this loop, where a connection is looked up

        return await sync_to_async(self._planned, thread_sensitive=False)()

    def _planned(self) -> Wait:
        wait = Wait(
            [Awaited(str(id_), moment and datetime.fromisoformat(moment)) for id_, moment in self._awaited()],  # type: ignore[arg-type]
            since=datetime.fromisoformat(self.since),
            poke_interval=self.poke_interval,
            wait_for=self.wait_for,
            require=self.require,
            only_count=self.bulk is not None,
        )
        wait.plan(_now())
        return wait

    def _awaited(self) -> Iterable[Sequence[str | None]]:
        if self.bulk is None:
            return self.messages
        if "results" in self.bulk:
            return list(read_file(self.bulk["results"]))
        ids, moments = self.bulk["ids"].split(), self.bulk["moments"].split()
        each = moments if len(moments) > 1 else moments * len(ids)
        return [(id_, None if moment == "-" else moment) for id_, moment in zip(ids, each, strict=True)]

    async def _follow(self, wait: Wait, poller: Poller) -> Verdict:
        deadline = datetime.fromisoformat(self.deadline)
        while True:
            now = _now()
            last = now >= deadline
            pause = 0.0 if last else poller.pause_left()
            due = [] if pause else wait.due(now, last=last)
            if len(due) == 1:
                await self._look(due[0], wait, poller)
            elif due:
                looks = iter(due)
                await asyncio.gather(
                    *(self._look_at_each(looks, wait, poller) for _ in range(min(len(due), IN_FLIGHT)))
                )
                self._say(wait)
            verdict = wait.verdict or (wait.timed_out(self.limit) if last else None)
            if verdict:
                return verdict
            if not due:
                next_look = max(wait.next_look or now, now + timedelta(seconds=pause))
                seconds = (min(next_look, deadline) - now).total_seconds()
                # of thousands, one or another is always due: together they cost less
                await poller.rest(max(seconds, TOGETHER) if self.bulk and deadline > now else seconds)

    async def _look_at_each(self, messages: Iterator[Awaited], wait: Wait, poller: Poller) -> None:
        for message in messages:
            await self._look(message, wait, poller)
            if self.bulk and (wait.is_over or poller.pause_left()):
                return

    def _say(self, wait: Wait) -> None:
        """Say of thousands how far they are, now and then, in the place of a line for each."""
        if self.bulk is None or _now() < self._next_say:
            return
        self._next_say = _now() + SAID_EVERY
        told = ", ".join(f"{count:,} {ending}" for ending, count in sorted(wait.endings.items()))
        self.log.info("Of %s messages: %s", f"{len(wait.messages):,}", told or "all in progress")

    async def _look(self, message: Awaited, wait: Wait, poller: Poller) -> None:
        try:
            report = await poller.ask(delivery_report(message.omnimessage_id))
        except AuthenticationError:
            raise
        except OmnimessageError as error:
            news = wait.heard_error(message, error, _now(), stays_due=True)
        else:
            news = wait.heard(message, report, _now())
        if news and self.bulk is None:
            self.log.info(news)


def _now() -> datetime:
    return datetime.now(timezone.utc)
