"""The trigger that turns message outcomes into asset events."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias, TypedDict

try:
    from airflow.triggers.base import BaseEventTrigger, TriggerEvent
except ImportError as error:
    raise ImportError("OmnimessageEventTrigger requires Airflow 3.0 or newer") from error

from airflow_provider_omnimessage.api import backoff
from airflow_provider_omnimessage.api.delivery import Outcome
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.hooks.lookup import look_up_settings
from airflow_provider_omnimessage.receiver.client import LONG_POLL, EventPage, ReceiverClient, ReceiverError
from airflow_provider_omnimessage.receiver.events import CONSUMER, FAILURES, EventJson, Kind
from airflow_provider_omnimessage.triggers.confirming import Confirmer
from airflow_provider_omnimessage.triggers.log_lines import LogLines

#: Seconds after which a fired event is assumed to be in Airflow's database: not all versions report that. An event that
#: is acknowledged earlier would be lost if the triggerer died.
PERSISTED_AFTER = 10.0
#: Seconds between the two polls that confirm a failure: another channel may follow.
CONFIRM_AFTER = 5.0
#: Longest pause between attempts in seconds.
MAX_RETRY_PAUSE = 60.0
#: Number of outcomes that may wait for their confirmation. Until there are fewer, no further ones are read.
MOST_PENDING = 500
#: Seconds that a confirmed outcome waits for an earlier one that is not confirmed yet.
PASS_AFTER = 600.0
#: Number of messages that the trigger remembers to have fired for.
REMEMBERED = 10_000

_DELIVERED = {"DELIVRD": Outcome.DELIVERED, "SEEN": Outcome.SEEN}
_ENDED = {"UNDELIV", "FAILED", "REJECTD", "EXPIRED", "NACK", "DELETED"}


class Payload(TypedDict):
    """The payload of a fired event.

    :param id: the ``omnimessage_id``, or a reply's ``msg_id``.
    """

    id: str
    kind: Kind
    outcome: str
    channel: str | None
    time: str | None
    price: str | None
    conn_id: str


#: What an event turns out to be: known at once, or once Messente has confirmed it.
_Result: TypeAlias = "asyncio.Future[Payload | None]"


class OmnimessageEventTrigger(BaseEventTrigger):
    """Fire once for each message's final outcome, for an ``AssetWatcher``. Needs the receiver.

    .. code-block:: python

        from airflow.sdk import DAG, Asset, AssetWatcher

        trigger = OmnimessageEventTrigger(consumer="delivery_stats")
        outcomes = Asset("message_outcomes", watchers=[AssetWatcher(name="outcomes", trigger=trigger)])

        with DAG("delivery_stats", schedule=[outcomes]):
            ...

    The event's payload is ``{"id", "kind", "outcome", "channel", "time", "price", "conn_id"}``. It contains neither
    phone number nor text. ``outcome`` is ``delivered``, ``seen``, ``failed`` or ``cancelled``, or ``replied`` for a
    reply.

    The receiver stores the trigger's position in the log, so a restarted triggerer loses no event. It may fire the
    events of the last ten seconds again, with the same payload: treat ``id`` as the key. Failures and cancellations
    fire once Messente has confirmed them.

    :param omnimessage_conn_id: the Airflow connection, with ``push_url`` or ``receiver_url``.
    :param consumer: name under which the receiver stores the position: 1 to 200 letters, digits and ``. : / @ _ -``.
        Triggers with different purposes need different names.
    :param replies: whether to fire for each reply, too; ``id`` is then the reply's ``msg_id``.
    """

    def __init__(
        self,
        *,
        omnimessage_conn_id: str = "omnimessage_default",
        consumer: str = "airflow",
        replies: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if not isinstance(consumer, str) or not CONSUMER.fullmatch(consumer):
            raise InvalidInputError.of(
                "consumer",
                f"{consumer!r} is not the name of a consumer; use 1 to 200 letters, digits and . : / @ _ -",
            )
        self.omnimessage_conn_id = omnimessage_conn_id
        self.consumer = consumer
        self.replies = replies

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that recreate this trigger."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "omnimessage_conn_id": self.omnimessage_conn_id,
            "consumer": self.consumer,
            "replies": self.replies,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Follow the log until the trigger is stopped."""
        reader = _Reader(self)
        reading = asyncio.create_task(reader.read())
        try:
            while True:
                payload = await reader.output.get()
                yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
                reader.output.task_done()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await reader.close()


class _Fired:
    """The most recent messages and replies for which the trigger has fired."""

    def __init__(self) -> None:
        self._ids: OrderedDict[tuple[str, str], None] = OrderedDict()

    def __contains__(self, key: tuple[str, str]) -> bool:
        return key in self._ids

    def add(self, key: tuple[str, str]) -> None:
        self._ids[key] = None
        if len(self._ids) > REMEMBERED:
            self._ids.popitem(last=False)


class _Reader:
    """Reads the log twice, from two positions: for outcomes that are known at once, and for those to be confirmed.

    While Messente does not confirm a failure, deliveries do not wait for it, and a restart does not fire them again.
    """

    def __init__(self, trigger: OmnimessageEventTrigger) -> None:
        self.output: asyncio.Queue[Payload] = asyncio.Queue()
        self._trigger = trigger
        self._log = LogLines(trigger.log)
        self._conn_id = trigger.omnimessage_conn_id
        self._confirmer = Confirmer(self._conn_id, CONFIRM_AFTER)
        self._fired = _Fired()
        self._followers = [
            # first: if a new trigger is stopped after it has stored only one position, no failure is lost
            _Follower(trigger.consumer + FAILURES, self._failure, self._fire),
            _Follower(trigger.consumer, self._delivery_or_reply, self._fire),
        ]

    async def read(self) -> None:
        """Put the payload of each outcome into the output."""
        failures = 0
        while True:
            started = time.monotonic()
            try:
                await self._follow()
            except Exception as error:  # Airflow would not restart a failed trigger before the triggerer restarts
                if time.monotonic() - started > MAX_RETRY_PAUSE:
                    failures = 0
                failures += 1
                if failures == 1:
                    self._log.warning("connection '%s': events cannot be read; trying again: %s", self._conn_id, error)
            await asyncio.sleep(backoff.reconnect_pause(failures, 1.0, MAX_RETRY_PAUSE, random.random()))

    async def close(self) -> None:
        """Stop confirming outcomes."""
        for follower in self._followers:
            await follower.forget()
        await self._confirmer.close()

    async def _follow(self) -> None:
        settings = await look_up_settings(self._conn_id)
        if not settings.receiver_url:
            raise ReceiverError(
                f"connection '{self._conn_id}', extra: push_url is missing; set push_url or receiver_url"
            )
        client = await ReceiverClient.open(settings, self._conn_id)
        tasks = []
        try:
            for follower in self._followers:
                await follower.start(client)
                tasks.append(asyncio.create_task(follower.follow(client)))
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            await client.close()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    def _delivery_or_reply(self, event: EventJson) -> _Result | None:
        if event["kind"] == "reply":
            return _known(self._payload(event, event["msg_id"], "replied")) if self._trigger.replies else None
        status = event["status"]
        if status in _DELIVERED and event["first_delivery"]:
            return _known(self._payload(event, event["omnimessage_id"], _DELIVERED[status].value))
        return None

    def _failure(self, event: EventJson) -> _Result | None:
        if event["kind"] != "report" or event["status"] not in _ENDED:
            return None
        if ("report", event["omnimessage_id"]) in self._fired:
            return None
        return asyncio.create_task(self._confirm(event))

    async def _confirm(self, event: EventJson) -> Payload | None:
        report = await self._confirmer.failure(event["omnimessage_id"])
        if report is None:
            return None
        return self._payload(event, event["omnimessage_id"], report.outcome.value, report.price)

    async def _fire(self, payload: Payload | None) -> None:
        """Return once Airflow has taken the event."""
        if payload is not None and (key := (payload["kind"], payload["id"])) not in self._fired:
            self._fired.add(key)
            self.output.put_nowait(payload)
        await self.output.join()

    def _payload(self, event: EventJson, id_: str, outcome: str, price: str | None = None) -> Payload:
        return {
            "id": id_,
            "kind": event["kind"],
            "outcome": outcome,
            "channel": event["channel"],
            "time": event["timestamp"],
            "price": price or event.get("price"),
            "conn_id": self._conn_id,
        }


class _Pending:
    """A position in the log, and what the event there turns out to be.

    :ivar confirmed_at: since when it could fire, if it is to fire.
    """

    def __init__(self, position: int, result: _Result) -> None:
        self.position = position
        self.result = result
        self.confirmed_at = math.inf
        result.add_done_callback(self._settle)

    def _settle(self, result: _Result) -> None:
        if not result.cancelled() and result.result() is not None:
            self.confirmed_at = time.monotonic()


class _Follower:
    """Follows the log from one position, which the receiver stores, and fires in the order of the log.

    It survives a lost connection to the receiver, with all that is pending.

    :param consumer: name under which the receiver stores the position.
    :param result: returns what an event turns out to be; ``None`` if this follower does not fire for it.
    :param fire: fires, and returns once Airflow has taken the event.
    """

    def __init__(
        self,
        consumer: str,
        result: Callable[[EventJson], _Result | None],
        fire: Callable[[Payload | None], Awaitable[None]],
    ) -> None:
        self._consumer = consumer
        self._result = result
        self._fire = fire
        self._log: str | None = None
        self._read_to = -1
        self._pending: deque[_Pending] = deque()
        self._fired_to = 0
        self._unacknowledged: deque[tuple[float, int]] = deque()
        self._acknowledged = 0

    async def start(self, client: ReceiverClient) -> None:
        """Read from the stored position, unless this has happened. The position of a new consumer is the end."""
        if self._log is None:
            await self._take(await client.events(consumer=self._consumer))

    async def follow(self, client: ReceiverClient) -> None:
        """Read and fire until this is cancelled.

        :raises ReceiverError: if the receiver does not respond, or its log was reset.
        """
        polling: asyncio.Task[EventPage] | None = None
        try:
            while True:
                await self._fire_settled()
                if polling is None and len(self._pending) < MOST_PENDING:
                    polling = asyncio.create_task(self._next_page(client))
                awaited = {polling} if polling else set()
                head = {self._pending[0].result} if self._pending else set()
                await asyncio.wait(awaited | head, timeout=LONG_POLL, return_when=asyncio.FIRST_COMPLETED)
                if polling is not None and polling.done():
                    page, polling = polling.result(), None
                    await self._take(page)
        finally:
            if polling is not None:
                polling.cancel()
                await asyncio.gather(polling, return_exceptions=True)

    async def forget(self) -> None:
        """Forget the position and all that is pending."""
        for pending in self._pending:
            pending.result.cancel()
        await asyncio.gather(*(pending.result for pending in self._pending), return_exceptions=True)
        self._pending.clear()
        self._unacknowledged.clear()
        self._log, self._read_to, self._fired_to, self._acknowledged = None, -1, 0, 0

    async def _take(self, page: EventPage) -> None:
        if self._log not in (None, page.log):
            await self.forget()
            raise ReceiverError("the receiver's log was reset: it uses another database")
        self._log = page.log
        for event in page.events:
            if (result := self._result(event)) is not None:
                self._pending.append(_Pending(int(event["seq"]), result))
        if page.position > self._read_to:
            self._read_to = page.position
            self._pending.append(_Pending(page.position, _known(None)))

    async def _fire_settled(self) -> None:
        while self._pending:
            first = self._pending[0]
            if first.result.done():
                await self._fire(first.result.result())
                self._pending.popleft()
                self._fired_to = max(self._fired_to, first.position)
                self._unacknowledged.append((time.monotonic(), self._fired_to))
            elif any(time.monotonic() - later.confirmed_at > PASS_AFTER for later in self._pending):
                # Messente reports others, but not this one: they do not wait for it any longer
                self._pending.rotate(-1)
            else:
                return

    async def _next_page(self, client: ReceiverClient) -> EventPage:
        now = time.monotonic()
        while self._unacknowledged and now - self._unacknowledged[0][0] >= PERSISTED_AFTER:
            self._acknowledged = self._unacknowledged.popleft()[1]
        wait = LONG_POLL
        if self._unacknowledged:
            wait = self._unacknowledged[0][0] + PERSISTED_AFTER - now
        elif self._pending:
            wait = PERSISTED_AFTER  # what fires meanwhile is acknowledged in time
        return await client.events(
            after=self._read_to,
            wait=max(0.01, round(min(wait, LONG_POLL), 2)),
            consumer=self._consumer,
            acknowledged=self._acknowledged,
        )


def _known(payload: Payload | None) -> _Result:
    result: _Result = asyncio.get_running_loop().create_future()
    result.set_result(payload)
    return result
