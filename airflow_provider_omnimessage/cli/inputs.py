"""What a command sends, and to whom: from options, files, stdin, or typed at the prompt."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow_provider_omnimessage.api import messages
from airflow_provider_omnimessage.api.errors import InvalidInputError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_span(text: str) -> timedelta:
    """Return a span of time: a number and one of s, m, h and d, such as ``30m``.

    :raises InvalidInputError: for anything else.
    """
    match = re.fullmatch(r"(\d{1,6})\s*([smhd])", text.strip())
    if not match:
        raise InvalidInputError.of("in", f"'{text}' is not a span of time; use 90s, 30m, 2h or 1d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def read_message(args: Namespace) -> tuple[str, Any]:
    """Return the recipient and the messages.

    :raises InvalidInputError: if something is missing, passed twice, or cannot be read.
    """
    sources = [args.to_file, args.text_file, args.messages_file]
    if sources.count("-") > 1:
        raise InvalidInputError.of(
            "stdin", "only one of recipient, text and messages can come from it; pass the others as files"
        )
    to = _value(args.to, args.to_file, "to", "Recipient (E.164, such as +37255555555)").strip()
    if args.messages_file:
        if args.text or args.text_file:
            raise InvalidInputError.of("messages-file", "holds the texts; leave --text and --text-file out")
        return to, _read_json(args.messages_file, "messages-file")
    text = _value(args.text, args.text_file, "text", "Text")
    return to, [_build(channel, text, args) for channel in args.channel]


def read_messages(args: Namespace) -> Any:
    """Return the messages for all recipients of a file; ``None``: the file holds whole messages.

    :raises InvalidInputError: if texts are passed twice, or cannot be read.
    """
    if args.messages_file:
        if args.text or args.text_file:
            raise InvalidInputError.of("messages-file", "holds the texts; leave --text and --text-file out")
        return _read_json(args.messages_file, "messages-file")
    if args.text is None and args.text_file is None:
        return None
    text = _value(args.text, args.text_file, "text", "Text")
    return [_build(channel, text, args) for channel in args.channel]


def _build(channel: str, text: str, args: Namespace) -> dict[str, Any]:
    builder: Callable[..., dict[str, Any]] = getattr(messages, channel)
    return builder(text=text, ttl=args.ttl, sender=args.sender)


def _value(value: str | None, file: str | None, field: str, prompt: str) -> str:
    if value is not None and file is not None:
        raise InvalidInputError.of(field, f"is passed twice; leave out --{field} or --{field}-file")
    if value is not None:
        return value
    if file is not None:
        return _read(file, f"{field}-file").rstrip("\r\n")
    if _at_a_terminal():
        print(f"{prompt}: ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().rstrip("\r\n")
    raise InvalidInputError.of(field, f"is missing; pass --{field}-file ('-' for stdin) or --{field}")


def _at_a_terminal() -> bool:
    return sys.stdin.isatty()


@contextmanager
def reading(field: str) -> Iterator[None]:
    """Report a file that cannot be read inside a ``with`` block as an error of an option.

    :raises InvalidInputError: names the option.
    """
    try:
        yield
    except InvalidInputError:
        raise
    except (OSError, ValueError) as error:  # ValueError: the bytes are not UTF-8, or nothing reads such a URL
        raise InvalidInputError.of(field, f"cannot be read: {error}") from None


def _read(file: str, field: str) -> str:
    with reading(field):
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    # the mark that Windows programs put first would be sent, and would make an SMS a Unicode one
    return text.removeprefix("\ufeff")


def _read_json(file: str, field: str) -> Any:
    text = _read(file, field)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInputError.of(field, f"is not JSON: {error}") from None


def require_writable(file: str | None, field: str) -> None:
    """Raise unless a file can be written, or is ``None``. It is neither written nor changed.

    :raises InvalidInputError: names the option.
    """
    if file is None:
        return
    path = Path(file)
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), file)
        # what is announced is first written next to it
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.touch()
        draft.unlink()
    except (OSError, ValueError) as error:
        raise InvalidInputError.of(field, f"cannot be written: {error}; use a file in a writable directory") from None
