"""The commands that send, schedule, cancel and look up messages."""

from __future__ import annotations

import functools
from argparse import Namespace
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow_provider_omnimessage.api import timing
from airflow_provider_omnimessage.api.delivery import DeliveryReport
from airflow_provider_omnimessage.api.errors import (
    InvalidInputError,
    OmnimessageError,
    PastTimeToSendError,
    UnknownZoneError,
)
from airflow_provider_omnimessage.api.masking import mask_number
from airflow_provider_omnimessage.api.responses import Accepted
from airflow_provider_omnimessage.cli.inputs import parse_span, read_message
from airflow_provider_omnimessage.cli.many import call_each
from airflow_provider_omnimessage.cli.terminal import (
    Exit,
    TerminalHook,
    TerminalLog,
    command,
    print_progress,
    print_rows,
)
from airflow_provider_omnimessage.hooks.choosing import choose_time, require_future, rules_of
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.hooks.rescheduling import reschedule_with


def _drops_unknown_zones(function: Callable[[Namespace], Exit]) -> Callable[[Namespace], Exit]:
    """Let a command do nothing, with ``--on-unknown-zone drop``, if the time zone of the recipient is unknown."""

    @functools.wraps(function)
    def run(args: Namespace) -> Exit:
        try:
            return function(args)
        except UnknownZoneError as error:
            if args.on_unknown_zone != "drop":
                raise
            print_progress(f"Nothing was done, because of --on-unknown-zone drop: {error}")
            return Exit.DONE

    return run


@command(changes_something=True)
@_drops_unknown_zones
def send(args: Namespace) -> Exit:
    """Send now: ``POST /omnimessage``."""
    return _send(args, None)


@command(changes_something=True)
@_drops_unknown_zones
def schedule(args: Namespace) -> Exit:
    """Schedule: ``POST /omnimessage`` with ``time_to_send``."""
    if bool(args.time_to_send) == bool(args.from_now):
        raise InvalidInputError.of("time-to-send", "pass exactly one of --time-to-send and --in")
    return _send(args, parse_span(args.from_now) if args.from_now else args.time_to_send)


def _send(args: Namespace, when: str | timedelta | None) -> Exit:
    to, messages = read_message(args)
    with TerminalHook(args.conn_id) as hook:
        time_to_send = _choose_time(hook, args, to, messages, when, "use the command send")
        accepted = hook.send(
            to,
            messages,
            time_to_send=time_to_send,
            window=args.window,
            on_unknown_zone="fail" if args.on_unknown_zone == "drop" else args.on_unknown_zone,
            dlr_url=args.dlr_url,
            text_store=args.text_store,
            priority=args.priority,
        )
    row = {
        "omnimessage_id": accepted.omnimessage_id,
        "to": mask_number(accepted.to),
        "channels": ", ".join(accepted.message_ids),
        "time_to_send": time_to_send.utc.isoformat() if time_to_send else None,
    }
    print_rows([row], args.output)
    return Exit.DONE


def _choose_time(
    hook: OmnimessageHook, args: Namespace, to: str, messages: Any, when: str | timedelta | None, instead: str
) -> timing.TimeToSend | None:
    """Return when a message is sent, and print why then; ``None``: now.

    :param instead: what to do instead of passing a future time.
    :raises InvalidInputError: also if the message is invalid, or if the time is in the past.
    """
    number = hook.compose(to, messages)["to"]
    rules = rules_of(
        hook.settings,
        time_to_send=when,
        timezone=None if when is None else args.timezone,
        window=args.window,
        on_unknown_zone=args.on_unknown_zone,
    )
    time_to_send = choose_time(rules, number, TerminalLog()).chosen
    if time_to_send is None:
        return None
    try:
        require_future(time_to_send)
    except PastTimeToSendError:
        raise InvalidInputError.of(
            "time-to-send", f"{time_to_send} is in the past; pass a future time, or {instead}"
        ) from None
    return time_to_send


@command(changes_something=True)
@_drops_unknown_zones
def reschedule(args: Namespace) -> Exit:
    """Reschedule: ``DELETE /omnimessage/{omnimessage_id}`` and ``POST /omnimessage``, in either order."""
    if bool(args.time_to_send) == bool(args.from_now):
        raise InvalidInputError.of("time-to-send", "pass exactly one of --time-to-send and --in")
    to, messages = read_message(args)
    with TerminalHook(args.conn_id) as hook:
        when = parse_span(args.from_now) if args.from_now else args.time_to_send
        time_to_send = _choose_time(hook, args, to, messages, when, "use the commands cancel and send")
        options = {
            "time_to_send": time_to_send,
            "dlr_url": args.dlr_url,
            "text_store": args.text_store,
            "priority": args.priority,
        }
        posted: list[Accepted] = []
        try:
            done = reschedule_with(
                hook,
                args.omnimessage_id,
                to,
                messages,
                order=args.order,
                options=options,
                log=TerminalLog(),
                on_posted=posted.append,
            )
        except OmnimessageError as error:
            if not posted:
                raise
            print_progress(str(error))
            return Exit.UNCONFIRMED  # whatever failed: to repeat the command would schedule another message
    row = {
        "omnimessage_id": done.new.omnimessage_id if done.new and done.stands else None,
        "old_omnimessage_id": args.omnimessage_id,
        "result": str(done.old),
        "time_to_send": time_to_send.utc.isoformat() if time_to_send and done.stands else None,
    }
    print_rows([row], args.output)
    return Exit.NOT_FOUND if done.is_too_late else Exit.DONE


@command()
def cancel(args: Namespace) -> Exit:
    """Cancel: ``DELETE /omnimessage/{omnimessage_id}``, for each id."""
    with TerminalHook(args.conn_id) as hook:

        def cancel_one(omnimessage_id: str) -> tuple[Exit, list[dict[str, Any]]]:
            cancellation = hook.try_to_cancel(omnimessage_id)
            code = Exit.DONE if cancellation.is_cancelled else Exit.NOT_FOUND
            return code, [{"omnimessage_id": omnimessage_id, "result": str(cancellation)}]

        def failed(omnimessage_id: str, reason: str) -> list[dict[str, Any]]:
            return [{"omnimessage_id": omnimessage_id, "result": reason}]

        return _for_each(args, hook, cancel_one, failed)


@command()
def status(args: Namespace) -> Exit:
    """Look once: ``GET /omnimessage/{omnimessage_id}/status``, for each id."""
    with TerminalHook(args.conn_id) as hook:

        def look(omnimessage_id: str) -> tuple[Exit, list[dict[str, Any]]]:
            return Exit.DONE, report_rows(hook.get_delivery_report(omnimessage_id))

        def failed(omnimessage_id: str, reason: str) -> list[dict[str, Any]]:
            print_progress(f"{omnimessage_id}: {reason}")
            return []

        return _for_each(args, hook, look, failed)


def _for_each(
    args: Namespace,
    hook: OmnimessageHook,
    call: Callable[[str], tuple[Exit, list[dict[str, Any]]]],
    failed: Callable[[str, str], list[dict[str, Any]]],
) -> Exit:
    """Make a call for each id, print what all of them gave, and return the highest exit code."""
    rows: list[dict[str, Any]] = []
    codes: list[Exit] = []
    hook.get_conn()  # a connection that cannot be used is one error, and not one for each id
    for called in call_each(hook, list(dict.fromkeys(args.omnimessage_id)), call):
        code, its_rows = called.result or (called.code, failed(called.item, called.reason))
        codes.append(code)
        rows += its_rows
    if rows:
        print_rows(rows, args.output)
    return max(codes)


def report_rows(report: DeliveryReport) -> list[dict[str, Any]]:
    """Return a row for each channel of a report; one row if no channel has been tried yet."""
    about = {"omnimessage_id": report.omnimessage_id, "outcome": str(report.outcome)}
    if not report.statuses:
        return [{**about, "channel": None, "status": None, "error": None, "timestamp": None, "price": None}]
    return [
        {
            **about,
            "channel": each.channel,
            "status": each.status,
            "error": each.error,
            "timestamp": each.timestamp,
            "price": each.price,
        }
        for each in report.statuses
    ]
