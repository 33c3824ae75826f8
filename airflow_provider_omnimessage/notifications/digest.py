"""Sends one message for many events, one digest for the rest, and one when it works again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from airflow_provider_omnimessage.api.errors import OmnimessageError
from airflow_provider_omnimessage.notifications.event_state import MOST_NAMES, Event, EventState, Recovery, Scheduled
from airflow_provider_omnimessage.notifications.event_store import EventStore

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: A digest that goes out so soon is not replaced any more: both might be sent.
TOO_LATE = timedelta(seconds=10)


class Courier(Protocol):
    """Talks to Messente for an event."""

    def send(self) -> None:
        """Send the event's own message.

        :raises Exception: if nobody was notified; in a deadline's callback, if anybody was not.
        """

    def send_text(self, text: str) -> None:
        """Send a text in place of the event's own message."""

    def schedule_text(self, text: str, at: datetime) -> list[str]:
        """Schedule a text, and return the ids of what was scheduled."""

    @property
    def has_notified(self) -> bool:
        """Whether anybody was, or may have been, notified of the event itself."""

    @property
    def has_steps(self) -> bool:
        """Whether there is an escalation."""

    def schedule_steps(self, now: datetime, done: frozenset[int]) -> Iterator[tuple[int, str, datetime]]:
        """Schedule the steps of the escalation, and yield the number, the id and the time of each.

        :param done: numbers of those that are scheduled already.
        """

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
    :param is_reported: whether it is reported that something succeeds. If not, only a digest tells of the failures
        after the first, so a success does not cancel it.
    """

    def __init__(
        self,
        store: EventStore,
        courier: Courier,
        log: Logger,
        *,
        quiet_for: timedelta,
        is_tracked: bool,
        is_reported: bool,
    ) -> None:
        self._store = store
        self._courier = courier
        self._log = log
        self._quiet_for = quiet_for
        self._is_tracked = is_tracked
        self._is_reported = is_reported

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
            if self._courier.has_steps:
                # an alarm that nobody can call off is a false one as soon as it works again
                self._log.warning("The escalation is not scheduled: without the Variable, no success could cancel it")
            self._courier.send()
            return
        if state.first == own:
            self._send_first(own, state, now)
        elif state.digest_by == own:
            self._schedule_digest(own, event, state, now)
        else:
            self._log.info("Counted: event %s since %s; a digest is sent at %s", state.count, state.since, state.until)

    def succeeded(self, event: Event, now: datetime) -> None:
        """Cancel what waits for failures that are over, and report, once, that it works again."""
        own = uuid.uuid4().hex[:12]
        state = self._store.read()
        over = state.left_over()
        try:
            if state.is_closable(now, is_reported=self._is_reported):
                over = state.scheduled
                state = self._close(state, own, now)
                # a failure that came meanwhile is not over, and what it has scheduled stays
                over = state.left_over()
                if state.closed_by == own and state.recovery is not None:
                    # before the cancels, which may use up the time; what they leave, the next success cancels
                    self._report(own, event, state.recovery)
        finally:
            self._cancel_and_forget(filter(self._ends_with_success, over), now)

    def _ends_with_success(self, one: Scheduled) -> bool:
        """Return whether it is not sent any more once something has succeeded."""
        return self._is_reported or not one.count

    def _close(self, seen: EventState, own: str, now: datetime) -> EventState:
        """End the failures that were seen, unless another success does, and return the state after that."""

        def is_same(current: EventState) -> bool:
            return (current.failing_since, current.recovery) == (seen.failing_since, seen.recovery)

        def close(current: EventState) -> EventState:
            return current.closed(own, now, is_reported=self._is_reported) if is_same(current) else current

        state = self._store.change(close, lambda current: not is_same(current))
        if state.closed_by == own and seen.failing_since:
            self._log.info("It works again, after %s failures since %s", seen.failures, seen.failing_since)
        return state

    def _report(self, own: str, event: Event, recovery: Recovery) -> None:
        """Report a recovery. If that surely was not sent, the next success reports it.

        :raises Exception: if it was not sent.
        """
        try:
            self._courier.send_text(recovered_text(event, recovery))
        except Exception:
            if self._courier.has_notified:
                self._record_report(own)
            else:
                self._write(lambda current: current.unreported(own))
            raise
        self._record_report(own)

    def _record_report(self, own: str) -> None:
        """Store that a recovery is reported. It is looked for after a pause: it would be reported twice without it."""
        self._settle(lambda current: current.reported(own), lambda current: current.is_reported_by(own))

    def _send_first(self, own: str, state: EventState, now: datetime) -> None:
        failure: Exception | None = None
        try:
            self._courier.send()
        except Exception as error:
            failure = error
        # a first message that was not sent is no reason not to escalate
        self._escalate(own, state, now)
        if failure is None or self._courier.has_notified:
            self._settle(
                lambda state: replace(state, is_sent=True) if state.first == own else state,
                lambda state: state.is_sent or state.first != own,
                must_last=True,
            )
        else:
            # the next event must be sent, and not be counted; it takes over the steps
            self._write(lambda state: state.unsent() if state.first == own else state)
        if failure is not None:
            raise failure

    def _escalate(self, own: str, state: EventState, now: datetime) -> None:
        """Schedule the steps of the escalation that no earlier event has scheduled. Each id is stored at once."""
        new: list[Scheduled] = []
        for step, omnimessage_id, at in self._courier.schedule_steps(now, state.steps_by(own)):
            new.append(Scheduled(omnimessage_id, at.isoformat(), own, step=step))
            self._write(lambda current: current.with_scheduled(*new))
        if new:
            try:
                self._keep(new, state, now)
            except Exception as error:
                self._log.warning("The escalation cannot be cancelled: its ids could not be stored: %s", error)

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
        new = [Scheduled(omnimessage_id, state.until, own, state.digest_count) for omnimessage_id in ids]
        try:
            state = self._keep(new, state, now)
        except Exception as error:
            self._log.warning(
                "The digest %s cannot be replaced or cancelled, because its id could not be stored: %s",
                ", ".join(ids),
                error,
            )
            return
        # the new one first, so that there always is one
        self._cancel_and_forget(state.replaced_digests(), now)

    def _keep(self, new: list[Scheduled], seen: EventState, now: datetime) -> EventState:
        """Store what was scheduled, and return the state. Cancel it if a success has ended the failures meanwhile.

        A success that ends them later sees what is stored, and cancels it itself.

        :param seen: the state before it was scheduled.
        """
        state = self._store.change(
            lambda current: current.with_scheduled(*new),
            lambda current: set(new) <= set(current.scheduled),
            must_last=True,
        )
        if state.closed_by != seen.closed_by:
            self._log.info("It works again since this failure; cancelling what was scheduled for it")
            self._cancel_and_forget(filter(self._ends_with_success, new), now)
        return state

    def _cancel_and_forget(self, which: Iterable[Scheduled], now: datetime) -> None:
        gone = self._cancel(which, now)
        if gone:
            self._write(lambda current: current.without(*gone))

    def _cancel(self, which: Iterable[Scheduled], now: datetime) -> list[Scheduled]:
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

    def _settle(
        self,
        change: Callable[[EventState], EventState],
        is_there: Callable[[EventState], bool],
        *,
        must_last: bool = False,
    ) -> None:
        """Store a change without which a message would be sent twice. Parameters: as of the store."""
        try:
            self._store.change(change, is_there, must_last=must_last)
        except Exception as error:
            self._log.warning("Variable %s could not be updated: %s", self._store.variable, error)

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


def recovered_text(event: Event, recovery: Recovery) -> str:
    """Return the text of a recovery: after how long, and after how many failures."""
    what = f"{event.scope}.{event.name}" if event.name else event.scope
    failures = f"{recovery.failures} failure{'s' if recovery.failures != 1 else ''}"
    run = f" ({event.run})" if event.run else ""
    span = datetime.fromisoformat(recovery.at) - datetime.fromisoformat(recovery.since)
    return f"{what} recovered after {in_words(span)}, {failures}{run}"


def in_words(span: timedelta) -> str:
    """Return a span of time in its two largest units: ``2 h 10 min``."""
    seconds = max(1, int(span.total_seconds()))
    for large, large_unit, small, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if seconds >= large:
            rest = seconds % large // small
            return f"{seconds // large} {large_unit}" + (f" {rest} {small_unit}" if rest else "")
    return f"{seconds // 60} min" if seconds >= 60 else f"{seconds} s"
