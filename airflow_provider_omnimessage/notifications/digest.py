"""Sends one message for many events, one digest for the rest, and one when it works again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from airflow_provider_omnimessage.api.errors import OmnimessageError
from airflow_provider_omnimessage.notifications.event_state import MOST_NAMES, Event, EventState, Scheduled
from airflow_provider_omnimessage.notifications.event_store import EventStore

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: A digest that goes out so soon is not replaced any more: both might be sent.
TOO_LATE = timedelta(seconds=10)


class Courier(Protocol):
    """Talks to Messente for an event."""

    def send(self) -> None:
        """Send the event's own message.

        :raises Exception: if nobody was notified.
        """

    def send_text(self, text: str) -> None:
        """Send a text in place of the event's own message."""

    def schedule_text(self, text: str, at: datetime) -> list[str]:
        """Schedule a text, and return the ids of what was scheduled."""

    def schedule_steps(self, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Schedule the steps of the escalation, and yield the id and the time of each."""

    def in_zone(self, time: datetime) -> str:
        """Return a time in words, in the zone of the recipients."""

    def cancel(self, omnimessage_id: str, at: datetime) -> None:
        """Cancel a message.

        :raises OmnimessageError: if it may still be scheduled.
        """


class Deduplicator:
    """Decides what is sent about events with the same key, and sends it.

    :param quiet_for: events within that time after the first are counted, and reported together at its end.
    :param is_tracked: whether failures are counted until something succeeds.
    """

    def __init__(
        self, store: EventStore, courier: Courier, log: Logger, *, quiet_for: timedelta, is_tracked: bool
    ) -> None:
        self._store = store
        self._courier = courier
        self._log = log
        self._quiet_for = quiet_for
        self._is_tracked = is_tracked

    def happened(self, event: Event, now: datetime) -> None:
        """Send the message of an event, or count it. If the state cannot be read or written: send it.

        :raises Exception: if a message that had to be sent was not.
        """
        own = uuid.uuid4().hex[:12]

        def with_event(state: EventState) -> EventState:
            return state.with_event(own, event.name, now, self._quiet_for, is_tracked=self._is_tracked)

        try:
            state = self._store.change(with_event, lambda state: state.holds(own))
        except Exception as error:
            self._log.warning(
                "Variable %s cannot be used; sending this event without deduplication: %s",
                self._store.variable,
                error,
            )
            self._courier.send()
            return
        if state.first == own:
            self._send_first(own, now)
        elif state.digest_by == own:
            self._schedule_digest(own, event, state, now)
        else:
            self._log.info("Counted: event %s since %s; a digest is sent at %s", state.count, state.since, state.until)

    def succeeded(self, event: Event, now: datetime, *, is_reported: bool) -> None:
        """Cancel what waits for failures that are over, and report, once, that it works again.

        :param is_reported: whether that is reported.
        """
        own = uuid.uuid4().hex[:12]
        state = self._store.read()
        try:
            if state.failing_since and self._close(state.failing_since, own):
                self._log.info("It works again, after %s failures since %s", state.failures, state.failing_since)
                if is_reported:
                    # before the cancels, which may use up the time; what they leave, the next success cancels
                    self._courier.send_text(recovered_text(event, state, now))
        finally:
            gone = self._cancel(state.scheduled, now)
            if gone:
                self._write(lambda current: current.without(*gone))

    def _close(self, since: str, own: str) -> bool:
        """End the failures since a time, and return whether no other success did."""

        def close(current: EventState) -> EventState:
            return current.closed(own) if current.failing_since == since else current

        return self._store.change(close, lambda current: current.failing_since != since).closed_by == own

    def _send_first(self, own: str, now: datetime) -> None:
        failure: Exception | None = None
        try:
            self._courier.send()
        except Exception as error:
            failure = error
        # a first message that was not sent is no reason not to escalate
        has_steps = self._escalate(own, now)
        if failure is None or getattr(failure, "maybe_processed", False) or has_steps:
            self._write(lambda state: replace(state, is_sent=True) if state.first == own else state)
        else:
            # the next event must be sent, and not be counted
            self._write(lambda state: state.unsent() if state.first == own else state)
        if failure is not None:
            raise failure

    def _escalate(self, own: str, now: datetime) -> bool:
        """Schedule the steps of the escalation, and return whether there are any. Each id is stored at once."""
        new: list[Scheduled] = []

        def with_steps(state: EventState) -> EventState:
            return replace(state, scheduled=tuple(dict.fromkeys((*state.scheduled, *new))))

        for omnimessage_id, at in self._courier.schedule_steps(now):
            new.append(Scheduled(omnimessage_id, at.isoformat(), own))
            self._write(with_steps)
        if new:
            try:
                self._store.change(with_steps, lambda state: set(new) <= set(state.scheduled))
            except Exception as error:
                self._log.warning("The escalation cannot be cancelled: its ids could not be stored: %s", error)
        return bool(new)

    def _schedule_digest(self, own: str, event: Event, state: EventState, now: datetime) -> None:
        at = datetime.fromisoformat(state.until)
        if at - now < TOO_LATE and any(one.count for one in state.scheduled):
            return
        since = self._courier.in_zone(datetime.fromisoformat(state.since))
        try:
            ids = self._courier.schedule_text(digest_text(event, state, since), at)
        except Exception:
            # the next event tries it again
            self._write(lambda current: replace(current, digest_count=0) if current.digest_by == own else current)
            raise
        count = state.digest_count
        new = tuple(Scheduled(omnimessage_id, state.until, own, count) for omnimessage_id in ids)

        def with_digest(current: EventState) -> EventState:
            return (
                current
                if set(new) <= set(current.scheduled)
                else replace(current, scheduled=(*current.scheduled, *new))
            )

        try:
            state = self._store.change(with_digest, lambda current: set(new) <= set(current.scheduled))
        except Exception as error:
            self._log.warning(
                "The digest %s cannot be replaced or cancelled, because its id could not be stored: %s",
                ", ".join(ids),
                error,
            )
            return
        # the new one first, so that there always is one
        gone = self._cancel(state.replaced_digests(), now)
        if gone:
            self._write(lambda current: current.without(*gone))

    def _cancel(self, which: list[Scheduled] | tuple[Scheduled, ...], now: datetime) -> list[Scheduled]:
        """Cancel, and return those that are not scheduled any more."""
        gone = []
        for one in which:
            at = datetime.fromisoformat(one.at)
            try:
                if at > now:
                    self._courier.cancel(one.omnimessage_id, at)
            except OmnimessageError as error:
                self._log.warning(
                    "%s could not be cancelled; it is sent at %s unless the next event cancels it: %s",
                    one.omnimessage_id,
                    one.at,
                    error,
                )
            else:
                gone.append(one)
        return gone

    def _write(self, change: Callable[[EventState], EventState]) -> None:
        try:
            self._store.write(change(self._store.read()))
        except Exception as error:
            self._log.warning("Variable %s could not be updated: %s", self._store.variable, error)


def digest_text(event: Event, state: EventState, since: str) -> str:
    """Return the text of a digest: how many more events there were, and of which tasks.

    :param since: when the first event happened. It makes the text differ from that of another digest.
    """
    names = ", ".join(state.names[:MOST_NAMES]) + (", ..." if len(state.names) > MOST_NAMES else "")
    count = state.count - 1
    noun = event.noun if count != 1 else event.noun.removesuffix("s")
    return f"... and at least {count} more {noun} of {event.scope}{f': {names}' if names else ''} (since {since})"


def recovered_text(event: Event, state: EventState, now: datetime) -> str:
    """Return the text of a recovery: after how long, and after how many failures."""
    what = f"{event.scope}.{event.name}" if event.name else event.scope
    failures = f"{state.failures} failure{'s' if state.failures != 1 else ''}"
    run = f" ({event.run})" if event.run else ""
    return f"{what} recovered after {in_words(now - datetime.fromisoformat(state.failing_since))}, {failures}{run}"


def in_words(span: timedelta) -> str:
    """Return a span of time in its two largest units: ``2 h 10 min``."""
    seconds = max(1, int(span.total_seconds()))
    for large, large_unit, small, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if seconds >= large:
            rest = seconds % large // small
            return f"{seconds // large} {large_unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{seconds // 60} min" if seconds >= 60 else f"{seconds} s"
