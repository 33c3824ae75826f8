"""What is known of the events with one deduplication key: a storm, its digest, and since when something fails.

Plain data and pure decisions. :mod:`.event_store` keeps it, :mod:`.digest` acts on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any

#: Events of one storm whose ids are kept, at most; more are only counted.
MOST_EVENTS = 500
#: Names of tasks that a digest lists.
MOST_NAMES = 3
#: If the first message of a storm is not confirmed by then, the process that should send it has died.
PATIENCE = timedelta(minutes=1)


@dataclass(frozen=True)
class Event:
    """What happened.

    :param scope: the DAG.
    :param name: the task; empty for an event of a run.
    :param run: the run's id; empty if it is not known.
    :param noun: what such events are, in the plural: ``"failures"``.
    """

    scope: str
    name: str = ""
    run: str = ""
    noun: str = "failures"


@dataclass(frozen=True)
class Scheduled:
    """A message that is scheduled at Messente, and is cancelled by what follows.

    :param at: when it goes out, ISO 8601 in UTC.
    :param by: id of the event that scheduled it.
    :param count: events in a digest; 0: a step of an escalation.
    """

    omnimessage_id: str
    at: str
    by: str
    count: int = 0


@dataclass(frozen=True)
class EventState:
    """The state that is shared by all tasks whose events have the same key.

    :param first: id of the event whose own message is sent; the others of this storm are counted.
    :param is_sent: whether that message was sent.
    :param since: when it happened, ISO 8601 in UTC, as all times.
    :param until: end of the storm; an event after it begins another.
    :param events: ids of the events of this storm.
    :param more: events that are not in ``events`` because there are too many.
    :param names: of the tasks that the events came from.
    :param digest_count: number of events in the digest that was scheduled last, or that ``digest_by`` schedules now.
    :param scheduled: all that must be cancelled sooner or later.
    :param failing_since: the first failure that was sent, until something succeeds.
    :param earlier: failures since then, before this storm.
    :param closed_by: id of the last success that ended failures.
    """

    first: str = ""
    is_sent: bool = False
    since: str = ""
    until: str = ""
    events: tuple[str, ...] = ()
    more: int = 0
    names: tuple[str, ...] = ()
    digest_count: int = 0
    digest_by: str = ""
    scheduled: tuple[Scheduled, ...] = field(default=())
    failing_since: str = ""
    earlier: int = 0
    closed_by: str = ""

    @classmethod
    def read(cls, value: Any) -> EventState:
        """Return the state that was stored.

        :raises ValueError: if it is something else. So do ``TypeError`` and ``KeyError``.
        """
        if not isinstance(value, Mapping):
            raise TypeError("not a mapping")
        kept = {one.name: value[one.name] for one in fields(cls) if one.name in value}
        for name in ("events", "names"):
            kept[name] = tuple(str(item) for item in kept.get(name, ()))
        kept["scheduled"] = tuple(Scheduled(**item) for item in kept.get("scheduled", ()))
        state = cls(**kept)
        for time in filter(None, (state.since, state.until, state.failing_since, *(one.at for one in state.scheduled))):
            if datetime.fromisoformat(time).tzinfo is None:
                raise ValueError("a time without an offset")
        return state

    def as_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @property
    def count(self) -> int:
        """Number of events of this storm, its first one included."""
        return len(self.events) + self.more

    @property
    def failures(self) -> int:
        """Number of events since the first failure that was sent."""
        return self.earlier + self.count

    def holds(self, event: str) -> bool:
        """Return whether an event is counted."""
        return event in self.events or self.more > 0

    def is_storm(self, now: datetime) -> bool:
        """Return whether an event at this time is counted instead of sent."""
        if not self.first or datetime.fromisoformat(self.until) <= now:
            return False
        return self.is_sent or now - datetime.fromisoformat(self.since) < PATIENCE

    def with_event(self, event: str, name: str, now: datetime, quiet_for: timedelta, *, is_tracked: bool) -> EventState:
        """Return the state with one more event: it begins a storm, or is counted in the one that there is.

        :param event: its id.
        :param name: of its task; empty if it is a run's.
        :param is_tracked: whether failures are counted until something succeeds.
        """
        if event in self.events:
            return self
        state = self.without_past(now)
        if not state.is_storm(now):
            return replace(
                state,
                first=event,
                is_sent=False,
                since=now.isoformat(),
                until=(now + quiet_for).isoformat(),
                events=(event,),
                more=0,
                names=(name,) if name else (),
                digest_count=0,
                digest_by="",
                failing_since=(state.failing_since or now.isoformat()) if is_tracked else "",
                earlier=state.failures if is_tracked and state.failing_since else 0,
            )
        is_new_name = name and name not in state.names and len(state.names) <= MOST_NAMES
        is_full = len(state.events) >= MOST_EVENTS
        state = replace(
            state,
            events=state.events if is_full else (*state.events, event),
            more=state.more + is_full,
            names=(*state.names, name) if is_new_name else state.names,
        )
        followers = state.count - 1
        if followers >= max(1, 2 * state.digest_count):
            return replace(state, digest_count=followers, digest_by=event)
        return state

    def without_past(self, now: datetime) -> EventState:
        """Return the state without the messages that have gone out."""
        pending = tuple(one for one in self.scheduled if datetime.fromisoformat(one.at) > now)
        return replace(self, scheduled=pending)

    def without(self, *gone: Scheduled) -> EventState:
        """Return the state without messages that are cancelled."""
        return replace(self, scheduled=tuple(one for one in self.scheduled if one not in gone))

    def replaced_digests(self) -> list[Scheduled]:
        """List the digests of this storm that a later one replaces. Of two that were scheduled at once, one stays."""
        digests = [one for one in self.scheduled if one.count and one.at == self.until]
        latest = max(((one.count, one.by) for one in digests), default=None)
        return [one for one in digests if (one.count, one.by) != latest]

    def unsent(self) -> EventState:
        """Return the state after the first message could not be sent, so that the next event is sent."""
        return replace(self, until=self.since, failing_since=self.failing_since if self.earlier else "")

    def closed(self, success: str) -> EventState:
        """Return what is left after a success: only what is still to be cancelled.

        :param success: id of that event.
        """
        return EventState(scheduled=self.scheduled, closed_by=success)
