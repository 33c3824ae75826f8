"""Decide when a message is sent: the wanted time, in the zone of whoever gets it, moved into the send window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Any

from airflow_provider_omnimessage.api import timing
from airflow_provider_omnimessage.api.errors import InvalidInputError, UnknownZoneError
from airflow_provider_omnimessage.api.fields import is_deferred
from airflow_provider_omnimessage.api.masking import mask_number
from airflow_provider_omnimessage.api.number_zones import require_library, zones_of_number
from airflow_provider_omnimessage.api.timing import TimeToSend
from airflow_provider_omnimessage.api.windows import RECIPIENT, SendWindow

#: How many chosen times are cached.
_CACHED = 4096
_UNSET = ("", "None")  # a template renders None as text

Zones = tuple[tzinfo, ...]


@dataclass(frozen=True)
class ChosenTime:
    """When a message is sent, and why then.

    :param wanted: the time that was asked for; ``None``: now.
    :param chosen: the time at which it is sent; ``None``: now.
    :param reason: why ``chosen`` is not simply ``wanted``, in words; empty if it is.
    :param zones: the zones in which the window must be open; empty without a window.
    :param places: the zones in which the recipient may be; empty if they did not count.
    """

    wanted: TimeToSend | None = None
    chosen: TimeToSend | None = None
    reason: str = ""
    zones: Zones = ()
    places: Zones = ()

    @property
    def is_for_now(self) -> bool:
        """Whether the message was to be sent at once, and only the window delays it."""
        return self.wanted is None

    def as_dict(self) -> dict[str, str | None]:
        """Return it for an XCom: both times in UTC, ISO 8601, and the reason."""
        wanted, chosen = (time.utc.isoformat() if time else None for time in (self.wanted, self.chosen))
        return {"wanted": wanted, "chosen": chosen, "reason": self.reason or None}


@dataclass(frozen=True)
class TimeRules:
    """What a task, or a call, says about times.

    :param time_to_send: an ISO 8601 date and time, a datetime, or a timedelta from now; ``None``: now.
    :param timezone: the zone of a time without an offset, and of a window without its own: an IANA name, or
        ``"recipient"``; ``None``: UTC, and for the window the zone of the time.
    :param window: ``None``: any time.
    :param on_unknown_zone: if the zone of a recipient is unknown: ``"fail"``, ``"drop"`` or the IANA name to use.
    """

    time_to_send: Any = None
    timezone: str | None = None
    window: SendWindow | None = None
    on_unknown_zone: str = "fail"

    @property
    def asks_for_zones(self) -> bool:
        """Whether the zones of the recipients matter."""
        return RECIPIENT in (self.timezone, self.window.timezone if self.window else None)


def check_on_unknown_zone(value: object) -> None:
    """Raise unless ``value`` says what to do with a recipient whose zone is unknown, or is a template."""
    if value in ("fail", "drop") or is_deferred(value):
        return
    try:
        if not isinstance(value, str):
            raise TypeError
        timing.resolve_zone(value)
    except (TypeError, InvalidInputError):
        raise InvalidInputError.of(
            "on_unknown_zone", f"{str(value)[:40]!r} is not accepted; use 'fail', 'drop' or a time zone"
        ) from None


class TimeChooser:
    """Choose the time of each message, by the rules of one task.

    Example::

        rules = TimeRules("2026-11-24T09:00", "recipient", SendWindow("09:00-20:00", days="mon-fri"))
        TimeChooser(rules, now=now).choose("+12025550142").chosen

    :param now: a timedelta is added to it.
    :raises InvalidInputError: if the rules are wrong for every recipient, or need a library that is not installed.
    """

    def __init__(self, rules: TimeRules, *, now: datetime) -> None:
        check_on_unknown_zone(rules.on_unknown_zone)
        if rules.asks_for_zones:
            require_library()
        if rules.window is not None:
            rules.window.load_holidays()
        self._rules = rules
        self._now = now
        self._cache: dict[tuple[Any, ...], tuple[Zones | None, ChosenTime]] = {}
        self._openings: dict[tuple[datetime, Zones], datetime | InvalidInputError] = {}
        self._zones_matter: dict[tuple[str | None, str | None], bool] = {}
        #: What clock changes do to some of the times, each once.
        self.warnings: dict[str, None] = {}
        if rules.time_to_send is not None and rules.timezone != RECIPIENT:
            self._resolve(rules.time_to_send, self._named(rules.timezone))

    def choose(self, to: str, own_time: Any = None, own_zone: str | None = None) -> ChosenTime:
        """Return when a message is sent.

        :param to: the recipient in E.164 format.
        :param own_time: instead of the rules' ``time_to_send``.
        :param own_zone: instead of every zone that the rules leave open, or take from the number.
        :raises UnknownZoneError: if the zone of the recipient matters and is unknown.
        :raises InvalidInputError: if a time or zone is wrong, or if the window never opens.
        """
        value = self._rules.time_to_send if own_time is None else own_time
        own_zone = None if own_zone in _UNSET else own_zone
        # Only texts are cached: two datetimes can be equal and still mean different times, in an hour that a clock
        # change repeats.
        if not isinstance(own_time, (str, type(None))) or not isinstance(own_zone, (str, type(None))):
            return self._choose(value, to, own_zone)
        zones = self._zones_of(to) if self._needs_zones(own_time, own_zone) else None
        key = (own_time, own_zone, id(zones))  # few tuples are shared by many numbers; hashing zones takes long
        known_zones, found = self._cache.get(key, (None, None))
        if found is None or known_zones is not zones:
            found = self._choose(value, to, own_zone)
            if len(self._cache) < _CACHED:
                self._cache[key] = (zones, found)
        return found

    def _needs_zones(self, own_time: str | None, own_zone: str | None) -> bool:
        """Return whether the time of a row depends on the zones of its recipient."""
        key = (own_time, own_zone)
        found = self._zones_matter.get(key)
        if found is None:
            value = self._rules.time_to_send if own_time is None else own_time
            zone = own_zone or self._rules.timezone
            window = self._rules.window
            is_local = zone == RECIPIENT and value is not None and timing.is_local(value)
            found = is_local or (window is not None and _zone_of(window, own_zone, zone) == RECIPIENT)
            if len(self._zones_matter) < _CACHED:
                self._zones_matter[key] = found
        return found

    def next_opening(self, now: datetime, zones: Zones) -> datetime | None:
        """Return when the window next opens; ``None``: it is open, or there is none.

        :param now: the current time, in whole seconds.
        :param zones: of a :class:`ChosenTime`.
        """
        if self._rules.window is None or not zones:
            return None
        opening = self._open(now, zones)
        return None if opening == now else opening

    def send_now(self, choice: ChosenTime, now: datetime) -> ChosenTime:
        """Return when a message is sent whose time has passed: now, or when its window opens next.

        :param choice: of that time.
        """
        late = replace(choice, chosen=None, reason="its time has passed")
        opening = self.next_opening(now.replace(microsecond=0), choice.zones)
        return late if opening is None else self._moved(late, opening)

    def _choose(self, value: Any, to: str, own_zone: str | None) -> ChosenTime:
        zone = own_zone or self._rules.timezone
        wanted, among, places = self._wanted(value, zone, to)
        window = self._rules.window
        if window is None:
            return ChosenTime(wanted, wanted, among, places=places)
        window_zone = _zone_of(window, own_zone, zone)
        if window_zone == RECIPIENT:
            zones = places = self._zones_of(to)
        elif window_zone is None and wanted is not None:
            zones = (timing.zone_of(wanted),)
        else:
            zones = self._named(window_zone)
        start = wanted.utc if wanted else self._now.replace(microsecond=0)
        opening = self._open(start, zones)
        if opening == start:
            return ChosenTime(wanted, wanted, among, zones, places)
        return self._moved(ChosenTime(wanted, None, among, zones, places), opening)

    def _moved(self, choice: ChosenTime, opening: datetime) -> ChosenTime:
        """Return the choice of the time at which the window opens next."""
        reason = f"outside the window '{self._rules.window}' ({_in_words(choice.zones)})"
        chosen = TimeToSend(opening, opening.astimezone(choice.zones[0]))
        return replace(choice, chosen=chosen, reason="; ".join(filter(None, (choice.reason, reason))))

    def _wanted(self, value: Any, zone: str | None, to: str) -> tuple[TimeToSend | None, str, Zones]:
        """Return the wanted time; and, if it is in the zones of the recipient, whether it is the latest, and they."""
        if value is None:
            return None, "", ()
        if zone != RECIPIENT or not timing.is_local(value):
            return self._resolve(value, self._named(None if zone == RECIPIENT else zone)), "", ()
        zones = self._zones_of(to)
        times = self._times(value, zones)
        latest = self._latest(times)
        is_earlier_elsewhere = any(time.utc < latest.utc for time in times)
        among = f"the latest of {len(zones)} time zones of the recipient" if is_earlier_elsewhere else ""
        return latest, among, zones

    def _resolve(self, value: Any, zones: Zones) -> TimeToSend:
        return self._latest(self._times(value, zones))

    def _times(self, value: Any, zones: Zones) -> list[TimeToSend]:
        return [timing.resolve(value, zone=zone, now=self._now) for zone in zones]

    def _latest(self, times: Sequence[TimeToSend]) -> TimeToSend:
        time = max(times, key=lambda time: time.utc)
        if time.warning and len(self.warnings) < _CACHED:
            self.warnings[time.warning] = None
        return time

    def _open(self, start: datetime, zones: Zones) -> datetime:
        assert self._rules.window is not None
        found = self._openings.get((start, zones))
        if found is None:
            try:
                found = self._rules.window.earliest(start, zones)
            except InvalidInputError as error:  # the search takes long, so it is not repeated for each row
                found = error
            if len(self._openings) < _CACHED:
                self._openings[start, zones] = found
        if isinstance(found, InvalidInputError):
            raise InvalidInputError(found.problems)
        return found

    def _zones_of(self, to: str) -> Zones:
        try:
            return zones_of_number(to)
        except UnknownZoneError:
            if self._rules.on_unknown_zone == "fail":
                raise
            if self._rules.on_unknown_zone == "drop":  # there is nothing to set
                raise UnknownZoneError.of("timezone", f"the time zone of {mask_number(to)} is unknown") from None
            return self._named(self._rules.on_unknown_zone)

    def _named(self, zone: str | None) -> Zones:
        return (timing.resolve_zone(zone),)


def _zone_of(window: SendWindow, own_zone: str | None, zone: str | None) -> str | None:
    """Return in which zone a window is: its own; if it is the recipient's or has none, the row's comes first."""
    if window.timezone not in (None, RECIPIENT):
        return window.timezone
    return own_zone or window.timezone or zone


def _in_words(zones: Sequence[tzinfo]) -> str:
    return str(zones[0]) if len(zones) == 1 else f"in {len(zones)} time zones, of which {zones[0]} is one"


def window_of(value: object, default: SendWindow | None) -> SendWindow | None:
    """Return the window of a task.

    :param value: what the task says, as :meth:`SendWindow.of` takes it; ``None`` or a text that a template renders from
        it: ``default``.
    :param default: the connection's.
    """
    if value is None or value in _UNSET:
        return default
    return SendWindow.of(value)


def window_as_argument(window: object) -> Any:
    """Return a window as an operator keeps it: plain data, so that Airflow renders, maps, stores and shows it.

    :raises InvalidInputError: for what is known to be wrong while the DAG is parsed.
    """
    if window is None or (is_deferred(window) and not isinstance(window, Mapping)):
        return window
    return SendWindow.of(window).as_dict()
