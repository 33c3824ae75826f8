"""The commands that send, schedule, cancel and follow messages, and the one that runs the sandbox."""

from __future__ import annotations

import json
import re
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage.api.errors import InvalidInputError, NotFoundError, OmnimessageError
from airflow_provider_omnimessage.cli.terminal import Exit, TerminalHook, command, exit_code, show, tell

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.delivery import DeliveryReport
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_SHORTEST_INTERVAL = 1.0


@command(changes_something=True)
def send(args: Namespace) -> Exit:
    """
    Send now: ``POST /omnimessage``.

    :param args: the command line.
    """
    return _send(args, None)


@command(changes_something=True)
def schedule(args: Namespace) -> Exit:
    """
    Schedule: ``POST /omnimessage`` with ``time_to_send``.

    :param args: the command line.
    """
    if bool(args.time_to_send) == bool(args.from_now):
        raise InvalidInputError.of("time-to-send", "say when with one of --time-to-send and --in")
    return _send(args, span(args.from_now) if args.from_now else args.time_to_send)


def _send(args: Namespace, when: Any) -> Exit:
    from airflow_provider_omnimessage.api import timing
    from airflow_provider_omnimessage.api.masking import mask_number
    from airflow_provider_omnimessage.hooks.omnimessage import require_future

    to, messages = _what(args)
    with TerminalHook(args.conn_id) as hook:
        moment = None
        if when is not None:
            zone = args.timezone or hook.settings.timezone
            moment = timing.resolve(when, zone=zone, now=datetime.now(timezone.utc))
            require_future(moment)
            if moment.warning:
                tell(moment.warning)
        accepted = hook.send(
            to,
            messages,
            time_to_send=moment,
            dlr_url=args.dlr_url,
            text_store=args.text_store,
            priority=args.priority,
        )
    row = {
        "omnimessage_id": accepted.omnimessage_id,
        "to": mask_number(accepted.to),
        "channels": ", ".join(accepted.message_ids),
        "time_to_send": moment.utc.isoformat() if moment else None,
    }
    show([row], args.output)
    return Exit.DONE


@command()
def cancel(args: Namespace) -> Exit:
    """
    Cancel: ``DELETE /omnimessage/{omnimessage_id}``, for each.

    :param args: the command line.
    """
    rows = []
    codes = []
    with TerminalHook(args.conn_id) as hook:
        for omnimessage_id in dict.fromkeys(args.omnimessage_id):
            code, result = _cancel(hook, omnimessage_id)
            codes.append(code)
            rows.append({"omnimessage_id": omnimessage_id, "result": result})
    show(rows, args.output)
    return max(codes)


def _cancel(hook: OmnimessageHook, omnimessage_id: str) -> tuple[Exit, str]:
    try:
        cancellation = hook.try_to_cancel(omnimessage_id)
    except OmnimessageError as error:
        return exit_code(error, changes_something=False), str(error)
    return Exit.DONE if cancellation.is_cancelled else Exit.NOT_FOUND, str(cancellation)


@command()
def status(args: Namespace) -> Exit:
    """
    Look once: ``GET /omnimessage/{omnimessage_id}/status``, for each.

    :param args: the command line.
    """
    code = Exit.DONE
    rows: list[dict[str, Any]] = []
    with TerminalHook(args.conn_id) as hook:
        for omnimessage_id in dict.fromkeys(args.omnimessage_id):
            try:
                rows += _rows(hook.get_delivery_report(omnimessage_id))
            except NotFoundError:
                tell(f"{omnimessage_id}: unknown to Messente, or belongs to another account")
                code = Exit.NOT_FOUND
    if rows:
        show(rows, args.output)
    return code


@command()
def watch(args: Namespace) -> Exit:
    """
    Look again and again until every message has come to its end.

    :param args: the command line.
    """
    if args.interval < _SHORTEST_INTERVAL:
        raise InvalidInputError.of("interval", f"{args.interval:g} is too short; Messente asks for 1 second or more")
    ids = list(dict.fromkeys(args.omnimessage_id))
    with TerminalHook(args.conn_id) as hook:
        reports = follow(hook, ids, interval=args.interval, timeout=args.timeout)
    show(
        [row for omnimessage_id in ids if (report := reports.get(omnimessage_id)) for row in _rows(report)], args.output
    )
    return judge(reports.get(omnimessage_id) for omnimessage_id in ids)


def follow(
    hook: OmnimessageHook,
    ids: Iterable[str],
    *,
    interval: float,
    timeout: float,
    pause: Callable[[float], object] = time.sleep,
) -> dict[str, DeliveryReport]:
    """
    Look at messages until each has come to its end or time is up, and tell every change.

    What has failed on all channels is looked at once more: a fallback channel can still be on its way.

    :param hook: asks.
    :param ids: which messages.
    :param interval: seconds between two looks.
    :param timeout: seconds after which to give up.
    :param pause: waits so many seconds.
    :return: the last report of each that had one.
    """
    from airflow_provider_omnimessage.api.delivery import Outcome

    waiting = list(ids)
    reports: dict[str, DeliveryReport] = {}
    left = timeout
    while True:
        for omnimessage_id in list(waiting):
            before = reports.get(omnimessage_id)
            try:
                report = hook.get_delivery_report(omnimessage_id)
            except OmnimessageError as error:
                if not error.may_pass:
                    raise
                tell(f"{omnimessage_id}  {error}; looking again")
                continue
            if report != before:
                tell(f"{datetime.now():%H:%M:%S}  {omnimessage_id}  {_in_words(report)}")
            reports[omnimessage_id] = report
            failed_before = before is not None and before.outcome is Outcome.FAILED
            if report.outcome not in (Outcome.IN_PROGRESS, Outcome.FAILED) or (
                report.outcome is Outcome.FAILED and failed_before
            ):
                waiting.remove(omnimessage_id)
        if not waiting or left <= 0:
            return reports
        pause(min(interval, left))
        left -= interval


def judge(reports: Iterable[DeliveryReport | None]) -> Exit:
    """
    Choose the exit code for what became of messages; the worst decides.

    :param reports: one of each message, where there is one.
    """
    from airflow_provider_omnimessage.api.delivery import Outcome

    outcomes = {report.outcome if report else Outcome.IN_PROGRESS for report in reports}
    if outcomes & {Outcome.FAILED, Outcome.CANCELLED}:
        return Exit.NOT_DELIVERED
    return Exit.TIME_IS_UP if Outcome.IN_PROGRESS in outcomes else Exit.DONE


def sandbox(args: Namespace) -> None:
    """
    Run the sandbox until Ctrl+C.

    :param args: the command line.
    """
    from airflow_provider_omnimessage.sandbox.__main__ import main

    given = {
        "--host": args.host,
        "--port": args.port,
        "--username": args.username,
        "--password": args.password,
        "--delivery-seconds": args.delivery_seconds,
        "--announce": args.announce,
    }
    sys.exit(main([f"{name}={value}" for name, value in given.items() if value is not None]))


def span(words: str) -> timedelta:
    """
    Read a span of time.

    :param words: a number and one of s, m, h and d: ``30m``.
    :raises InvalidInputError: for anything else.
    """
    match = re.fullmatch(r"(\d{1,6})\s*([smhd])", words.strip())
    if not match:
        raise InvalidInputError.of("in", f"'{words}' is not a span of time; give one as 90s, 30m, 2h or 1d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _what(args: Namespace) -> tuple[str, Any]:
    """Find out to whom and what: as given, from files, or asked for."""
    sources = [args.to_file, args.text_file, args.messages_file]
    if sources.count("-") > 1:
        raise InvalidInputError.of("stdin", "can be only one of recipient, text and messages; give the others as files")
    to = _given(args.to, args.to_file, "to", "Recipient (E.164, as +37255555555)").strip()
    if args.messages_file:
        if args.text or args.text_file:
            raise InvalidInputError.of("messages-file", "holds the texts itself; leave --text and --text-file out")
        try:
            return to, json.loads(_read(args.messages_file, "messages-file"))
        except ValueError as error:
            if isinstance(error, InvalidInputError):
                raise
            raise InvalidInputError.of("messages-file", f"is not JSON: {error}") from None
    text = _given(args.text, args.text_file, "text", "Text")
    return to, [_message(channel, text, args) for channel in args.channel]


def _message(channel: str, text: str, args: Namespace) -> dict[str, Any]:
    from airflow_provider_omnimessage.api import messages

    builder: Callable[..., dict[str, Any]] = getattr(messages, channel)
    return builder(text=text, ttl=args.ttl, sender=args.sender)


def _given(value: str | None, file: str | None, field: str, question: str) -> str:
    if value is not None and file is not None:
        raise InvalidInputError.of(field, f"is given twice; leave one of --{field} and --{field}-file out")
    if value is not None:
        return value
    if file is not None:
        return _read(file, f"{field}-file").rstrip("\r\n")
    if _at_a_terminal():
        print(f"{question}: ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().rstrip("\r\n")
    raise InvalidInputError.of(field, f"is missing; give --{field}-file, '-' for stdin, or --{field}")


def _at_a_terminal() -> bool:
    return sys.stdin.isatty()


def _read(file: str, field: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError.of(field, f"cannot be read: {error}") from None


def _rows(report: DeliveryReport) -> list[dict[str, Any]]:
    about = {"omnimessage_id": report.omnimessage_id, "outcome": str(report.outcome)}
    if not report.statuses:
        return [{**about, "channel": None, "status": None, "error": None, "timestamp": None, "price": None}]
    return [
        {
            **about,
            "channel": one.channel,
            "status": one.status,
            "error": one.error,
            "timestamp": one.timestamp,
            "price": one.price,
        }
        for one in report.statuses
    ]


def _in_words(report: DeliveryReport) -> str:
    return f"{report.outcome}  {'; '.join(map(str, report.statuses)) or 'no channel tried yet'}"
