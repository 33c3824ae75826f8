"""Assertions about the messages in a sandbox. The errors list what is there instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final

Message = Mapping[str, Any]
ApiCall = Mapping[str, Any]

KINDS: Final[Mapping[str, Callable[[Message], bool]]] = {
    "scheduled": lambda message: message["state"] == "scheduled",
    "sent": lambda message: message["sent_at"] is not None,
    "cancelled": lambda message: message["state"] == "cancelled",
}
MESSAGES_LISTED: Final = 20
"""At most, so that the error stays readable if a test sends thousands."""
LONGEST_TEXT: Final = 60


def exactly_one(
    kind: str,
    messages: Sequence[Message],
    calls: Sequence[ApiCall],
    *,
    to: str | None = None,
    at: datetime | str | None = None,
    text: str | None = None,
    channels: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return the one matching message.

    :param kind: ``scheduled``, ``sent`` or ``cancelled``.
    :param messages: all messages in the sandbox.
    :param calls: all API calls.
    :param to: the recipient; spaces, dashes, dots and brackets are ignored.
    :param at: its ``time_to_send``; UTC if it has no offset.
    :param text: part of the text on any of its channels.
    :param channels: its channels in order.
    :raises AssertionError: there is none, or more than one.
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    number = None if to is None else _without_punctuation(to)
    time = None if at is None else _utc(at)
    by = None if channels is None else list(channels)
    found = [message for message in messages if KINDS[kind](message) and _matches(message, number, time, text, by)]
    if len(found) == 1:
        return dict(found[0])
    criteria = [
        f"to {number}" if number is not None else "",
        f"for {_formatted(time)}" if time is not None else "",
        f"with the text {text!r}" if text is not None else "",
        f"by {', then '.join(by)}" if by is not None else "",
    ]
    expected = " ".join([kind, "message", *filter(None, criteria)])
    raise AssertionError("\n".join([f"Expected one {expected}, found {len(found)}.", *_listing(messages, calls)]))


def nothing(kind: str, messages: Sequence[Message], calls: Sequence[ApiCall]) -> None:
    """Raise if there is any message of a kind.

    :param kind: ``scheduled``, ``sent`` or ``cancelled``.
    :param messages: all messages in the sandbox.
    :param calls: all API calls.
    :raises AssertionError: there is one.
    """
    __tracebackhide__ = True
    found = [message for message in messages if KINDS[kind](message)]
    if found:
        raise AssertionError(
            "\n".join([f"Expected no {kind} message, found {len(found)}.", *_listing(messages, calls)])
        )


def no_unknown_fields(messages: Sequence[Message]) -> None:
    """Raise if any message has a field that Messente does not know.

    :param messages: all messages in the sandbox.
    :raises AssertionError: one has.
    """
    __tracebackhide__ = True
    found = [message for message in messages if message["unknown_fields"]]
    if found:
        lines = [f"  to {message['to']}: {', '.join(message['unknown_fields'])}" for message in found[:MESSAGES_LISTED]]
        more = [f"  … and {len(found) - MESSAGES_LISTED} more"] if len(found) > MESSAGES_LISTED else []
        raise AssertionError("\n".join(["Messente does not know these fields, and ignores them:", *lines, *more]))


def _matches(
    message: Message, to: str | None, at: datetime | None, text: str | None, channels: list[str] | None
) -> bool:
    contents = message["body"]["messages"]
    time = message["time_to_send"]
    return (
        (to is None or _without_punctuation(message["to"]) == to)
        and (at is None or (time is not None and _utc(time) == at))
        and (text is None or any(text in str(content.get("text", "")) for content in contents))
        and (channels is None or [content["channel"] for content in contents] == channels)
    )


def _listing(messages: Sequence[Message], calls: Sequence[ApiCall]) -> list[str]:
    failed = [call for call in calls if call["status"] is None or call["status"] >= 400]
    lines = [f"The sandbox has {_count(messages, 'message')}{':' if messages else '.'}"]
    for position, message in enumerate(messages[:MESSAGES_LISTED], 1):
        contents = message["body"]["messages"]
        time = message["time_to_send"]
        text = next((str(content["text"]) for content in contents if content.get("text")), "")
        shortened = text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "…"
        lines.append(
            f"  {position}. {message['state']}, to {message['to']}, "
            f"{'for ' + _formatted(_utc(time)) if time else 'sent immediately'}, "
            f"by {', then '.join(content['channel'] for content in contents)}"
            f"{': ' + repr(shortened) if text else ''}"
        )
    if len(messages) > MESSAGES_LISTED:
        lines.append(f"  … and {len(messages) - MESSAGES_LISTED} more")
    if failed:
        lines.append(f"{_count(failed, 'call').capitalize()} failed. The latest:")
        lines += [
            f"  {call['method']} {call['path']}: {call['status'] or 'no response'}"
            f"{' (fault: ' + call['fault'] + ')' if call['fault'] else ''}"
            for call in failed[-3:]
        ]
    if not calls:
        lines.append("No call has reached it. Does the task use a connection to this sandbox, and did it run?")
    return lines


def _count(items: Sequence[Any], noun: str) -> str:
    return f"{len(items) or 'no'} {noun}{'' if len(items) == 1 else 's'}"


def _utc(value: datetime | str) -> datetime:
    time = datetime.fromisoformat(value.replace("Z", "+00:00")) if isinstance(value, str) else value
    return time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time.astimezone(timezone.utc)


def _formatted(time: datetime) -> str:
    return time.isoformat(sep=" ").replace("+00:00", " UTC")


def _without_punctuation(number: str) -> str:
    return number.translate(dict.fromkeys(map(ord, " -.()\u00a0")))
