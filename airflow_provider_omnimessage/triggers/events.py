"""The trigger that turns message outcomes into asset events."""

from __future__ import annotations

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

try:
    from airflow.triggers.base import BaseEventTrigger, TriggerEvent
except ImportError as error:
    raise ImportError("OmnimessageEventTrigger requires Airflow 3.0 or newer") from error

from airflow_provider_omnimessage.api.calls import delivery_report
from airflow_provider_omnimessage.api.delivery import DeliveryReport, Outcome
from airflow_provider_omnimessage.api.errors import InvalidInputError, NotFoundError, OmnimessageError
from airflow_provider_omnimessage.receiver.client import LONG_POLL, EventPage, ReceiverClient, ReceiverError
from airflow_provider_omnimessage.receiver.events import CONSUMER, EventJson, Kind

if TYPE_CHECKING:
    from airflow_provider_omnimessage.hooks.aiohttp_transport import AiohttpTransport

#: Seconds after which a fired event is assumed to be in Airflow's database: not all versions report that. An event that
#: is acknowledged earlier would be lost if the triggerer died.
PERSISTED_AFTER = 10.0
#: Seconds between the two polls that confirm a failure: another channel may follow.
CONFIRM_AFTER = 5.0
#: Longest pause between attempts in seconds.
MAX_RETRY_PAUSE = 60.0
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


@dataclass
class _Unconfirmed:
    """A message whose reports look like a failure or a cancellation."""

    event: EventJson
    next_poll: float
    before: DeliveryReport | None = None
    failures: int = 0


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
    events of the last ten seconds again, with the same payload: treat ``id`` as the key.

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
        failures = 0
        fired = _Fired()
        while True:
            reader = _Reader(self, fired)
            try:
                await reader.open()
                async for payload in reader.payloads():
                    failures = 0
                    yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
            except Exception as error:  # Airflow would not restart a failed trigger before the triggerer restarts
                failures += 1
                if failures == 1:
                    self.log.warning(
                        "connection '%s': events cannot be read; trying again: %s", self.omnimessage_conn_id, error
                    )
            finally:
                await reader.close()
            await asyncio.sleep(min(MAX_RETRY_PAUSE, 2 ** min(failures, 6)) * random.uniform(0.5, 1.0))


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
    """Reads the log from the consumer's position, with one session to the receiver and one to Messente."""

    def __init__(self, trigger: OmnimessageEventTrigger, fired: _Fired) -> None:
        self._trigger = trigger
        self._conn_id = trigger.omnimessage_conn_id
        self._client: ReceiverClient | None = None
        self._transport: AiohttpTransport | None = None
        self._unconfirmed: list[_Unconfirmed] = []
        self._fired = fired
        self._position = -1
        self._read: list[tuple[float, int]] = []
        self._acknowledged = 0

    async def open(self) -> None:
        """Look up the connection and open the sessions.

        :raises ReceiverError: if the connection has no receiver.
        """
        from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

        settings = await OmnimessageHook(self._conn_id).look_up_connection()
        if not settings.receiver_url:
            raise ReceiverError(
                f"connection '{self._conn_id}', extra: push_url is missing; set push_url or receiver_url"
            )
        self._client = await ReceiverClient.open(settings, self._conn_id)
        from airflow_provider_omnimessage.hooks.aiohttp_transport import AiohttpTransport

        self._transport = await AiohttpTransport.open(settings, connections=4)

    async def close(self) -> None:
        """Close both sessions."""
        for session in (self._client, self._transport):
            if session is not None:
                await session.close()

    async def payloads(self) -> AsyncIterator[Payload]:
        """Yield the payload of each outcome.

        :raises ReceiverError: if the receiver does not respond, or its log was reset.
        """
        assert self._client is not None
        page = await self._client.events(consumer=self._trigger.consumer)
        log = page.log
        while True:
            for event in page.events:
                if payload := self._payload(event):
                    yield payload
            if page.position > self._position:
                self._position = page.position
                self._read.append((time.monotonic(), page.position))
            for unconfirmed in [one for one in self._unconfirmed if one.next_poll <= time.monotonic()]:
                if payload := await self._confirm(unconfirmed):
                    yield payload
            page = await self._next_page(page)
            if page.log != log:
                raise ReceiverError("the receiver's log was reset: it uses another database")

    async def _next_page(self, page: EventPage) -> EventPage:
        assert self._client is not None
        wait = LONG_POLL
        if self._unconfirmed:
            wait = min(one.next_poll for one in self._unconfirmed) - time.monotonic()
        if self._read:  # not acknowledged yet
            wait = min(wait, PERSISTED_AFTER)
        return await self._client.events(
            after=page.position,
            wait=max(0.0, round(wait, 2)),
            consumer=self._trigger.consumer,
            acknowledged=self._done(),
        )

    def _done(self) -> int:
        """Return the position up to which all events have fired and are in Airflow's database."""
        persisted = [seq for at, seq in self._read if time.monotonic() - at >= PERSISTED_AFTER]
        if persisted:
            self._read = self._read[len(persisted) :]
            self._acknowledged = persisted[-1]
        open_from = [int(one.event["seq"]) - 1 for one in self._unconfirmed]
        return min([self._acknowledged, *open_from])

    def _payload(self, event: EventJson) -> Payload | None:
        if event["kind"] == "reply":
            return self._fire(event, event["msg_id"], "replied") if self._trigger.replies else None
        status, id_ = event["status"], event["omnimessage_id"]
        if status is None:
            return None
        if status in _DELIVERED and event["first_delivery"]:
            return self._fire(event, id_, _DELIVERED[status].value)
        if status in _ENDED and ("report", id_) not in self._fired:
            self._unconfirmed.append(_Unconfirmed(event, time.monotonic()))
        return None

    async def _confirm(self, unconfirmed: _Unconfirmed) -> Payload | None:
        """Poll once for a message: only Messente knows whether another channel follows."""
        assert self._transport is not None
        id_ = unconfirmed.event["omnimessage_id"]
        try:
            report = await self._transport.make(delivery_report(id_))
        except OmnimessageError as error:
            self._record_error(unconfirmed, error)
            return None
        if report.outcome is Outcome.FAILED and unconfirmed.before is None:
            unconfirmed.before = report
            unconfirmed.next_poll = time.monotonic() + CONFIRM_AFTER
            return None
        self._unconfirmed.remove(unconfirmed)
        if report.outcome in (Outcome.FAILED, Outcome.CANCELLED):
            return self._fire(unconfirmed.event, id_, report.outcome.value, report.price)
        return None  # another channel follows or has delivered it, which has an event of its own

    def _record_error(self, unconfirmed: _Unconfirmed, error: OmnimessageError) -> None:
        if isinstance(error, NotFoundError) or not error.may_pass:
            id_ = unconfirmed.event["omnimessage_id"]
            self._trigger.log.warning("%s: its outcome is unknown: %s", id_, error)
            self._unconfirmed.remove(unconfirmed)
            return
        unconfirmed.failures += 1
        pause = min(MAX_RETRY_PAUSE, CONFIRM_AFTER * 2 ** min(unconfirmed.failures, 5))
        unconfirmed.next_poll = time.monotonic() + pause * random.uniform(0.5, 1.0)

    def _fire(self, event: EventJson, id_: str, outcome: str, price: str | None = None) -> Payload | None:
        key = (event["kind"], id_)
        if key in self._fired:
            return None
        self._fired.add(key)
        return {
            "id": id_,
            "kind": event["kind"],
            "outcome": outcome,
            "channel": event["channel"],
            "time": event["timestamp"],
            "price": price or event.get("price"),
            "conn_id": self._conn_id,
        }
