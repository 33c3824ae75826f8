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
#: First and last year of a time that is stored; others are damaged.
_YEARS = (2000, 2999)


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
    :param step: number of that step, from 1; 0: a digest.
    """

    omnimessage_id: str
    at: str
    by: str
    count: int = 0
    step: int = 0

    @property
    def is_usable(self) -> bool:
        """Whether it can be cancelled."""
        texts = (self.omnimessage_id, self.by)
        numbers = (self.count, self.step)
        has_types = all(isinstance(text, str) for text in texts) and all(type(number) is int for number in numbers)
        return has_types and _is_time(self.at)


@dataclass(frozen=True)
class Recovery:
    """A recovery that is not reported yet.

    :param since: when the first failure happened, ISO 8601 in UTC, as all times.
    :param failures: how many there were.
    :param at: when something succeeded.
    :param claimed_at: when a success began to report it; empty: none does, so the next one must.
    """

    since: str
    failures: int
    at: str
    claimed_at: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether it can be reported."""
        times = (self.since, self.at, *filter(None, (self.claimed_at,)))
        return type(self.failures) is int and all(map(_is_time, times))

    def is_free(self, now: datetime) -> bool:
        """Return whether nobody reports it: the process that should may have died."""
        return not self.claimed_at or now - datetime.fromisoformat(self.claimed_at) >= PATIENCE


@dataclass(frozen=True)
class EventState:
    """The state that is shared by all tasks whose events have the same key.

    :param first: id of the event whose own message is sent; the others of this storm are counted.
    :param is_sent: whether that message was sent.
    :param since: when it happened, ISO 8601 in UTC, as all times.
    :param until: end of the storm; an event after it begins another.
    :param events: ids of the events of this storm.
    :param more: events that are not in ``events`` because there are too many.
    :param names: of the tasks that the events came from, without the first event.
    :param digest_count: number of events in the digest that was scheduled last, or that ``digest_by`` schedules now.
    :param scheduled: all that must be cancelled sooner or later.
    :param failing_since: the first failure that was sent, until something succeeds.
    :param earlier: failures since then, before this storm.
    :param closed_by: id of the last success that ended failures, or began to report that.
    :param recovery: what it reports; ``None`` once that is sent, or if a failure comes first.
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
    recovery: Recovery | None = None

    @classmethod
    def read(cls, value: Any) -> EventState:
        """Return the state that was stored.

        :raises ValueError: if it is something else, or damaged. So does ``TypeError``.
        """
        kept = _known(cls, value)
        for name in ("events", "names", "scheduled"):
            kept[name] = _tuple(kept.get(name, []))
        kept["scheduled"] = tuple(Scheduled(**_known(Scheduled, item)) for item in kept["scheduled"])
        if kept.get("recovery") is not None:
            kept["recovery"] = Recovery(**_known(Recovery, kept["recovery"]))
        state = cls(**kept)
        if not state._is_usable:
            raise ValueError("not the state of events")
        return state

    @property
    def _is_usable(self) -> bool:
        """Whether all that is done with a state can be done with this one."""
        has_types = all(
            type(getattr(self, one.name)) is type(one.default) for one in fields(self) if one.name != "recovery"
        )
        texts = (*self.events, *self.names)
        if not has_types or not all(isinstance(text, str) for text in texts) or min(self.more, self.digest_count) < 0:
            return False
        if not all(one.is_usable for one in self.scheduled) or not (self.recovery is None or self.recovery.is_usable):
            return False
        # a storm without its times, or without its events, would be counted and never reported
        required = (self.since, self.until) if self.first else ()
        optional = filter(None, (self.since, self.until, self.failing_since))
        return all(map(_is_time, (*required, *optional))) and (not self.first or bool(self.events))

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

    def is_storm(self, now: datetime, quiet_for: timedelta) -> bool:
        """Return whether an event at this time is counted instead of sent.

        :param quiet_for: longest duration of a storm, whatever is stored.
        """
        if not self.first or datetime.fromisoformat(self.until) <= now:
            return False
        # the clock of another worker may be ahead
        age = abs(now - datetime.fromisoformat(self.since))
        return age < (quiet_for if self.is_sent else PATIENCE)

    def with_event(self, event: str, name: str, now: datetime, quiet_for: timedelta, *, is_tracked: bool) -> EventState:
        """Return the state with one more event: it begins a storm, or is counted in the one that there is.

        :param event: its id.
        :param name: of its task; empty if it is a run's.
        :param is_tracked: whether failures are counted until something succeeds.
        """
        if event in self.events:
            return self
        state = self.without_past(now)
        if not state.is_storm(now, quiet_for):
            return replace(
                state,
                first=event,
                is_sent=False,
                scheduled=state._handed_over(event),
                recovery=None,
                since=now.isoformat(),
                until=(now + quiet_for).isoformat(),
                events=(event,),
                more=0,
                names=(),
                digest_count=0,
                digest_by="",
                # another notifier with this key may track failures although this one does not
                failing_since=state.failing_since or (now.isoformat() if is_tracked else ""),
                earlier=state.failures if state.failing_since else 0,
            )
        is_new_name = name and name not in state.names and len(state.names) <= MOST_NAMES
        is_full = len(state.events) >= MOST_EVENTS
        state = replace(
            state,
            events=state.events if is_full else (*state.events, event),
            more=state.more + is_full,
            names=(*state.names, name) if is_new_name else state.names,
            failing_since=state.failing_since or (state.since if is_tracked else ""),
        )
        followers = state.count - 1
        if followers >= max(1, 2 * state.digest_count):
            return replace(state, digest_count=followers, digest_by=event)
        return state

    def without_past(self, now: datetime) -> EventState:
        """Return the state without the messages that have gone out."""
        pending = tuple(one for one in self.scheduled if datetime.fromisoformat(one.at) > now)
        return replace(self, scheduled=pending)

    def with_scheduled(self, *new: Scheduled) -> EventState:
        """Return the state with messages that were scheduled."""
        return replace(self, scheduled=tuple(dict.fromkeys((*self.scheduled, *new))))

    def without(self, *gone: Scheduled) -> EventState:
        """Return the state without messages that are cancelled."""
        return replace(self, scheduled=tuple(one for one in self.scheduled if one not in gone))

    def left_over(self) -> tuple[Scheduled, ...]:
        """Return what was scheduled for failures that are over: whatever does not belong to the storm that there is."""
        # of a storm with very many events, not all ids are kept
        return tuple(one for one in self.scheduled if one.by not in (*self.events, self.digest_by))

    def replaced_digests(self) -> list[Scheduled]:
        """List the digests of this storm that a later one replaces. Of two that were scheduled at once, one stays.

        If two storms began within a moment, because many tasks wrote at once, one digest of both stays.
        """
        digests = [one for one in self.scheduled if one.count and self._is_of_this_storm(one)]
        latest = max(((one.count, one.by) for one in digests), default=None)
        return [one for one in digests if (one.count, one.by) != latest]

    def _is_of_this_storm(self, digest: Scheduled) -> bool:
        if not self.until:
            return False
        return abs(datetime.fromisoformat(digest.at) - datetime.fromisoformat(self.until)) <= 2 * PATIENCE

    def steps_by(self, event: str) -> frozenset[int]:
        """Return the numbers of the steps that are scheduled for a first event."""
        return frozenset(one.step for one in self.scheduled if not one.count and one.by == event)

    def unsent(self) -> EventState:
        """Return the state after the first message could not be sent, so that the next event is sent.

        Steps that are scheduled will notify somebody, so what they are about has failed since then.
        """
        is_failing = bool(self.earlier or self.steps_by(self.first))
        return replace(self, is_sent=False, until=self.since, failing_since=self.failing_since if is_failing else "")

    def _handed_over(self, event: str) -> tuple[Scheduled, ...]:
        """Return what is scheduled; steps of a first event whose message was not sent belong to the next one."""
        if self.is_sent:
            return self.scheduled
        return tuple(
            replace(one, by=event) if not one.count and one.by == self.first else one for one in self.scheduled
        )

    def is_closable(self, now: datetime, *, is_reported: bool) -> bool:
        """Return whether a success ends failures, or has to report that an earlier one did.

        :param is_reported: whether successes report that.
        """
        is_owed = is_reported and self.recovery is not None and self.recovery.is_free(now)
        return bool(self.failing_since) or is_owed

    def closed(self, success: str, now: datetime, *, is_reported: bool) -> EventState:
        """Return what is left after a success: what is still to be cancelled, and to be reported by it.

        :param success: id of that event.
        """
        if not self.failing_since and self.recovery is not None:
            return replace(self, closed_by=success, recovery=replace(self.recovery, claimed_at=now.isoformat()))
        recovery = Recovery(self.failing_since, self.failures, now.isoformat(), now.isoformat())
        return EventState(scheduled=self.scheduled, closed_by=success, recovery=recovery if is_reported else None)

    def reported(self, success: str) -> EventState:
        """Return the state after a success has reported the recovery."""
        return replace(self, recovery=None) if self.closed_by == success else self

    def is_reported_by(self, success: str) -> bool:
        """Return whether nothing is left to report for a success."""
        return self.recovery is None or self.closed_by != success

    def unreported(self, success: str) -> EventState:
        """Return the state after a success could not report the recovery: the next one must."""
        if self.recovery is None or self.closed_by != success:
            return self
        return replace(self, recovery=replace(self.recovery, claimed_at=""))


def _known(cls: type[EventState | Scheduled | Recovery], value: Any) -> dict[str, Any]:
    """Return the fields that this version knows: a later one may have written more."""
    if not isinstance(value, Mapping):
        raise TypeError("not a mapping")
    return {one.name: value[one.name] for one in fields(cls) if one.name in value}


def _tuple(items: Any) -> tuple[Any, ...]:
    if not isinstance(items, list):
        raise TypeError("not a list")
    return tuple(items)


def _is_time(value: Any) -> bool:
    """Return whether a value is a time that can be compared, and shown in any zone."""
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return time.tzinfo is not None and _YEARS[0] <= time.year <= _YEARS[1]
