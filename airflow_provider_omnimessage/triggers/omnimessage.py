"""The trigger that waits for delivery in the triggerer, and holds no worker while it does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage._compat import SHORTEST_ABSENCE
from airflow_provider_omnimessage.api.calls import delivery_report
from airflow_provider_omnimessage.api.errors import AuthenticationError, OmnimessageError
from airflow_provider_omnimessage.api.waiting import Awaited, Ending, Verdict, Wait
from airflow_provider_omnimessage.triggers.polling import polling

if TYPE_CHECKING:
    from airflow_provider_omnimessage.triggers.polling import Poller


class OmnimessageDeliveryTrigger(BaseTrigger):
    """
    Wait until messages have been delivered or read: ``GET /omnimessage/{omnimessage_id}/status``, asked rarely.

    It fires once. Its event's payload is ``{"ending", "reason", "reports"}``; ``ending`` is ``fulfilled``, ``failed``,
    ``cancelled``, ``refused`` or ``timed_out``, and ``reports`` holds a summary per message. What it serialises are
    ids, moments and settings; every moment is absolute, so that a restarted triggerer goes on where the last one was.

    :param messages: each message's id, and when it is sent: ISO 8601 with an offset, or ``None`` for sent before.
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``.
    :param wait_for: ``"delivered"`` or ``"seen"``.
    :param require: ``"all"`` of the messages, or ``"any"``.
    :param poke_interval: seconds, more than 0: the longest gap between two looks at one message.
    :param since: when the waiting began: ISO 8601 with an offset.
    :param deadline: when it ends: ISO 8601 with an offset.
    :param limit: what the deadline is called in the error.
    :param ends_task: whether success ends the task from here, without a worker.
    :param one: whether the XCom is then the only message's summary, and not a list of summaries.
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
        require: Literal["all", "any"] = "all",
        limit: str = "its time",
        ends_task: bool = False,
        one: bool = False,
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
        )
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire once."""
        begun = time.monotonic()
        # everything is let go of before the event is given away: nobody promises to come back after it
        event = self._event(await self._verdict())
        if self.trigger_id is not None and not isinstance(event, TaskSuccessEvent):
            await asyncio.sleep(max(0.0, begun + SHORTEST_ABSENCE - time.monotonic()))
        yield event

    def _event(self, verdict: Verdict) -> TriggerEvent:
        # Airflow's dag.test() runs triggers without a triggerer, and cannot end a task from one
        if self.ends_task and verdict.ending is Ending.FULFILLED and self.trigger_id is not None:
            metrics.count_reports(verdict.reports, getattr(self, "task_instance", None), in_triggerer=True)
            xcom: Any = verdict.reports[0] if self.one else verdict.reports
            return TaskSuccessEvent(xcoms={"return_value": xcom})
        return TriggerEvent(verdict.as_dict())  # type: ignore[no-untyped-call]

    async def _verdict(self) -> Verdict:
        wait = Wait(
            [Awaited(str(id_), moment and datetime.fromisoformat(moment)) for id_, moment in self.messages],  # type: ignore[arg-type]
            since=datetime.fromisoformat(self.since),
            poke_interval=self.poke_interval,
            wait_for=self.wait_for,
            require=self.require,
        )
        wait.plan(_now())
        async with polling(self.omnimessage_conn_id) as poller:
            try:
                return await self._follow(wait, poller)
            except OmnimessageError as error:  # for all who wait here: the connection, or its credentials
                return Verdict(Ending.REFUSED, str(error), [])

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
                await asyncio.gather(*(self._look(message, wait, poller) for message in due))
            verdict = wait.verdict or (wait.timed_out(self.limit) if last else None)
            if verdict:
                return verdict
            if not due:
                next_look = max(wait.next_look or now, now + timedelta(seconds=pause))
                await poller.rest((min(next_look, deadline) - now).total_seconds())

    async def _look(self, message: Awaited, wait: Wait, poller: Poller) -> None:
        try:
            report = await poller.ask(delivery_report(message.omnimessage_id))
        except AuthenticationError:
            raise
        except OmnimessageError as error:
            news = wait.heard_error(message, error, _now(), stays_due=True)
        else:
            news = wait.heard(message, report, _now())
        if news:
            self.log.info(news)


def _now() -> datetime:
    return datetime.now(timezone.utc)
