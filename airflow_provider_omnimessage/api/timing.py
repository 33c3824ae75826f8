"""
Resolve a ``time_to_send`` in any accepted form to one time in UTC.

An offset in the value wins. A naive value is in the given time zone, else in UTC, which is Messente's own rule.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pendulum

from airflow_provider_omnimessage.api.errors import InvalidInputError, PastTimeToSendError

FIELD = "time_to_send"

_ACCEPTED = (
    "use an ISO 8601 date and time such as '2026-11-23T09:00' or '2026-11-23T09:00+02:00', "
    "a datetime, or a timedelta from now"
)


class TimeToSend(NamedTuple):
    """
    A resolved time to send.

    :param utc: in UTC, in whole seconds: a fraction is rounded up, so that nothing is sent early.
    :param local: the same time in the zone of the value.
    :param warning: set if a clock change moved the time, or made it ambiguous.
    """

    utc: datetime
    local: datetime
    warning: str | None = None

    def __str__(self) -> str:
        """Return the time in its own zone and in UTC, for people."""
        utc = f"{self.utc:%Y-%m-%d %H:%M:%S} UTC"
        zone = _zone_name(self.local)
        return utc if zone == "UTC" else f"{self.local:%Y-%m-%d %H:%M:%S} {zone} ({utc})"


def resolve(value: object, *, zone: object = None, now: datetime) -> TimeToSend:
    """
    Return the time that a value stands for.

    :param value: an ISO 8601 date and time (also as Jinja renders a datetime), a datetime, or a timedelta (from now).
        Dates, times, durations and numbers are ambiguous, and rejected.
    :param zone: time zone of a value without an offset: an IANA name or a tzinfo; default: UTC.
    :param now: the current time, with a zone.
    :raises InvalidInputError: for ``time_to_send`` or ``timezone``, with what would be accepted.
    """
    local_zone = resolve_zone(zone)
    try:
        if isinstance(value, timedelta):
            later = _in_zone(pendulum.instance(now.astimezone(timezone.utc)) + value, local_zone).utc
            return TimeToSend(later, later.astimezone(local_zone))
        if isinstance(value, str):
            value = _parse(value)
        if isinstance(value, datetime):
            return _in_zone(value, local_zone)
    except (OverflowError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError.of(FIELD, f"{_shown(value)} is outside the calendar; {_ACCEPTED}") from None
    raise InvalidInputError.of(FIELD, f"{_shown(value)} is {_kind(value)}, not a date and time; {_ACCEPTED}")


def later(moment: TimeToSend, span: timedelta) -> TimeToSend:
    """Return the time that is a span after another one, in the same zone.

    :param moment: the other one.
    :param span: how much later.
    """
    utc = moment.utc + span
    return TimeToSend(utc, utc.astimezone(moment.local.tzinfo))


def zone_of(time: TimeToSend) -> tzinfo:
    """Return the time zone of a time: one with a name, or a fixed offset that equals any other one of its size."""
    zone = time.local.tzinfo
    if isinstance(zone, ZoneInfo):  # also those of Pendulum
        return zone
    name = getattr(zone, "zone", None)  # of pytz
    return resolve_zone(name) if isinstance(name, str) else timezone(time.local.utcoffset() or timedelta(0))


def is_local(value: object) -> bool:
    """Return whether a time has no offset, so that it means another time in each time zone."""
    if isinstance(value, str):
        value = _parse(value)
    return isinstance(value, datetime) and value.utcoffset() is None


def resolve_zone(zone: object) -> tzinfo:
    """
    Return a time zone.

    :param zone: an IANA name such as ``"Europe/Tallinn"``, a tzinfo, or ``None`` for UTC.
    :raises InvalidInputError: if there is no such zone.
    """
    if zone is None:
        return timezone.utc
    if isinstance(zone, tzinfo):
        return zone
    try:
        return pendulum.timezone(str(zone))
    except (ValueError, LookupError, OSError):
        shown = repr(zone) if len(str(zone)) <= 40 else f"a text of {len(str(zone))} characters"
        raise InvalidInputError.of(
            "timezone", f"{shown} is not a time zone; use an IANA name such as 'Europe/Tallinn'"
        ) from None


def as_time_to_send(time: datetime) -> str:
    """
    Return a time as it is sent: ISO 8601 in UTC, with an explicit offset.

    :param time: with a zone.
    """
    return time.astimezone(timezone.utc).isoformat(timespec="seconds")


def require_after(time_to_send: TimeToSend, now: datetime) -> None:
    """
    Raise if a time has passed.

    :param now: with a zone.
    :raises PastTimeToSendError: with how long ago it was.
    """
    late = now - time_to_send.utc
    if late > timedelta(0):
        raise PastTimeToSendError.of(
            FIELD,
            f"{time_to_send} is in the past ({_in_words(late)} ago); use a future time, or set on_past to 'skip' or "
            "'send_now'",
        )


def _in_words(span: timedelta) -> str:
    seconds = max(1, int(span.total_seconds()))
    # for a time that is weeks old, as in a backfill, the seconds do not matter
    for unit in (86400, 3600, 60):
        if seconds >= 2 * unit:
            seconds -= seconds % unit
            break
    return pendulum.duration(seconds=seconds).in_words(locale="en")


def _parse(value: str) -> object:
    stripped = value.strip()
    if not stripped or stripped.lower() in ("none", "null", "now", "nan", "nat"):
        raise InvalidInputError.of(FIELD, f"{stripped!r} is not a time; {_ACCEPTED}")
    try:
        return pendulum.parse(stripped, exact=True, tz=None)
    except (ValueError, OverflowError, AttributeError, TypeError):
        raise InvalidInputError.of(FIELD, f"{_shown(value)} is not ISO 8601; {_ACCEPTED}") from None


def _in_zone(value: datetime, zone: tzinfo) -> TimeToSend:
    # Pendulum's datetimes move a skipped time either way, and take a repeated one for the later, as their fold says.
    # The standard library follows PEP 495: fold=0 moves a skipped time forward, and is the earlier of a repeated one.
    is_naive = value.utcoffset() is None
    local = datetime(
        *value.timetuple()[:6],
        value.microsecond,
        tzinfo=zone if is_naive else value.tzinfo,
        fold=0 if is_naive else value.fold,
    )
    written = local.replace(tzinfo=None)
    if local.fold and _in_whole_seconds(local).local.replace(tzinfo=None) < written - timedelta(seconds=1):
        local = local.replace(fold=0)
    resolved = _in_whole_seconds(local)
    if resolved.local.replace(tzinfo=None) - written >= timedelta(minutes=1):
        return resolved._replace(
            warning=f"{FIELD}: {written:%Y-%m-%d %H:%M} does not exist in {_zone_name(local)}, where the clock is put "
            f"forward; the message is sent at {resolved.local:%H:%M} there",
        )
    if is_naive and local.utcoffset() != local.replace(fold=1).utcoffset():
        return resolved._replace(
            warning=f"{FIELD}: {written:%Y-%m-%d %H:%M} occurs twice in {_zone_name(local)}, where the clock is put "
            "back; the message is sent at the earlier of the two",
        )
    return resolved


def _in_whole_seconds(local: datetime) -> TimeToSend:
    utc = local.astimezone(timezone.utc)
    if utc.microsecond:
        utc = utc.replace(microsecond=0) + timedelta(seconds=1)
    return TimeToSend(utc, utc.astimezone(local.tzinfo))


def _zone_name(time: datetime) -> str:
    name = getattr(time.tzinfo, "name", None) or getattr(time.tzinfo, "key", None) or str(time.tzinfo)
    return "UTC" if name in ("UTC", "+00:00", "Etc/UTC", "utc") else str(name)


def _shown(value: object) -> str:
    shown = repr(value) if isinstance(value, (str, int, float)) else str(value)
    return shown if len(shown) <= 40 else f"{shown[:39]}…"


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, date):
        return "a date without a time"
    if isinstance(value, time):
        return "a time without a date"
    if isinstance(value, timedelta):  # parsed from a text; a timedelta object is accepted
        return "a duration"
    return "a number" if isinstance(value, (int, float)) else f"a {type(value).__name__}"
