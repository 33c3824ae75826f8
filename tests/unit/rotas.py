"""Calendars of who is on call, as tests write them."""

from __future__ import annotations

from datetime import datetime

from airflow_provider_omnimessage.alerts import OnCall

ANN, BOB, TEAM = "+37255555551", "+37255555552", "+37255555550"
PEOPLE = {"Ann": ANN, "bob@example.com": BOB}
ALWAYS = "DTSTART:20200101T000000Z\nDTEND:20990101T000000Z"


def calendar(*events: str, head: str = "X-WR-TIMEZONE:Europe/Tallinn") -> str:
    own = [event if "UID:" in event else f"UID:{number}\n{event}" for number, event in enumerate(events)]
    uids = [f"BEGIN:VEVENT\n{event}\nEND:VEVENT" for event in own]
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//test", head, *uids, "END:VCALENDAR", ""]
    return "\r\n".join("\n".join(lines).split("\n"))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def on_call(path: object, default: object = TEAM, **kwargs: object) -> OnCall:
    return OnCall(path, **{"people": PEOPLE, "default": default, **kwargs})
