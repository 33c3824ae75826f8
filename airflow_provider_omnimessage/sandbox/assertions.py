"""What tests ask of the messages in a sandbox; where it is not so, the error shows what is there instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final

Message = Mapping[str, Any]

KINDS: Final[Mapping[str, Callable[[Message], bool]]] = {
    "scheduled": lambda message: message["state"] == "scheduled",
    "sent": lambda message: message["sent_at"] is not None,
    "cancelled": lambda message: message["state"] == "cancelled",
}
SHOWN: Final = 20
"""Messages; a test that sends thousands gets an error that can still be read."""
TEXT_SHOWN: Final = 60


def one(
    kind: str,
    messages: Sequence[Message],
    calls: Sequence[Mapping[str, Any]],
    *,
    to: str | None = None,
    at: datetime | str | None = None,
    text: str | None = None,
    channels: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Find the one message that is meant.

    :param kind: ``scheduled``, ``sent`` or ``cancelled``.
    :param messages: all that the sandbox has.
    :param calls: all API calls that it has seen.
    :param to: its recipient; spaces, dashes, dots and brackets do not count.
    :param at: its ``time_to_send``; UTC if it has no zone.
    :param text: what the text of one of its channels contains.
    :param channels: its channels, in the order in which they are tried.
    :raises AssertionError: there is none, or more than one.
    """
    __tracebackhide__ = True  # pytest shows the caller's line, and not these
    number = None if to is None else _tidy(to)
    moment = None if at is None else _moment(at)
    by = None if channels is None else list(channels)
    found = [message for message in messages if KINDS[kind](message) and _fits(message, number, moment, text, by)]
    if len(found) == 1:
        return dict(found[0])
    words = [
        f"to {number}" if number is not None else "",
        f"for {_shown(moment)}" if moment is not None else "",
        f"with the text {text!r}" if text is not None else "",
        f"by {', then '.join(by)}" if by is not None else "",
    ]
    described = " ".join(["one message", kind, *filter(None, words)])
    count = f"there are {len(found)}" if found else "there is none"
    raise AssertionError("\n".join([f"Expected {described}, and {count}.", *_what_is_there(messages, calls)]))


def none(kind: str, messages: Sequence[Message], calls: Sequence[Mapping[str, Any]]) -> None:
    """Demand that there is no such message.

    :param kind: ``scheduled``, ``sent`` or ``cancelled``.
    :param messages: all that the sandbox has.
    :param calls: all API calls that it has seen.
    :raises AssertionError: there is one.
    """
    __tracebackhide__ = True
    found = [message for message in messages if KINDS[kind](message)]
    if found:
        count = "1 is" if len(found) == 1 else f"{len(found)} are"
        raise AssertionError("\n".join([f"Expected no message {kind}, and {count}.", *_what_is_there(messages, calls)]))


def _fits(message: Message, to: str | None, at: datetime | None, text: str | None, channels: list[str] | None) -> bool:
    contents = message["body"]["messages"]
    moment = message["time_to_send"]
    return (
        (to is None or _tidy(message["to"]) == to)
        and (at is None or (moment is not None and _moment(moment) == at))
        and (text is None or any(text in str(content.get("text", "")) for content in contents))
        and (channels is None or [content["channel"] for content in contents] == channels)
    )


def _what_is_there(messages: Sequence[Message], calls: Sequence[Mapping[str, Any]]) -> list[str]:
    refused = [call for call in calls if call["status"] is None or call["status"] >= 400]
    lines = [f"The sandbox has {_count(messages, 'message')}{':' if messages else '.'}"]
    for position, message in enumerate(messages[:SHOWN], 1):
        contents = message["body"]["messages"]
        moment = message["time_to_send"]
        text = next((str(content["text"]) for content in contents if content.get("text")), "")
        lines.append(
            f"  {position}. {message['state']}, to {message['to']}, "
            f"{'for ' + _shown(_moment(moment)) if moment else 'at once'}, "
            f"by {', then '.join(content['channel'] for content in contents)}"
            f"{': ' + repr(text if len(text) <= TEXT_SHOWN else text[:TEXT_SHOWN] + '…') if text else ''}"
        )
    if len(messages) > SHOWN:
        lines.append(f"  … and {len(messages) - SHOWN} more")
    if refused:
        lines.append(f"It did not carry out {_count(refused, 'call')}; the last:")
        lines += [
            f"  {call['method']} {call['path']}: {call['status'] or 'no answer'}"
            f"{' (' + call['fault'] + ', as ordered)' if call['fault'] else ''}"
            for call in refused[-3:]
        ]
    if not calls:
        lines.append("No call has reached it: does the task use a connection that leads here, and did it run?")
    return lines


def _count(what: Sequence[Any], noun: str) -> str:
    return f"{len(what) or 'no'} {noun}{'' if len(what) == 1 else 's'}"


def _moment(value: datetime | str) -> datetime:
    moment = datetime.fromisoformat(value.replace("Z", "+00:00")) if isinstance(value, str) else value
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


def _shown(moment: datetime) -> str:
    return moment.isoformat(sep=" ").replace("+00:00", " UTC")


def _tidy(number: str) -> str:
    return number.translate(dict.fromkeys(map(ord, " -.()\u00a0")))
