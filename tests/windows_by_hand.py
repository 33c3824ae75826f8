"""A second reading of send windows, for tests: slow, and written without the code that it checks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo

import holidays

from airflow_provider_omnimessage.api.windows import SendWindow

NAMES = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
ESTONIA = holidays.country_holidays("EE")


def is_open_by_hand(window: SendWindow, time: datetime, zones: Sequence[tzinfo]) -> bool:
    """Return whether the clock on the wall shows a time of the window, in each of the zones."""
    return all(_is_open(window, time.astimezone(zone).replace(tzinfo=None)) for zone in zones)


def _is_open(window: SendWindow, wall: datetime) -> bool:
    midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0)
    for start_of_day in (midnight, midnight - timedelta(days=1)):
        if window.days and NAMES[start_of_day.weekday()] not in window.days:
            continue
        if window.holidays and start_of_day.date() in (ESTONIA if window.holidays == "EE" else window.holidays):
            continue
        for span in window.hours.split(","):
            start, end = (start_of_day + _clock(part) for part in span.split("-"))
            if end <= start:
                end += timedelta(days=1)
            if start <= wall < end:
                return True
    return False


def _clock(text: str) -> timedelta:
    hours, minutes = text.strip().split(":")
    return timedelta(hours=int(hours), minutes=int(minutes))
