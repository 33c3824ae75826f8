"""The command that follows messages until each is delivered, or has failed."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from datetime import datetime

from airflow_provider_omnimessage.api.delivery import DeliveryReport, Outcome
from airflow_provider_omnimessage.api.errors import InvalidInputError, OmnimessageError
from airflow_provider_omnimessage.api.ids import checked_id
from airflow_provider_omnimessage.cli.messages import report_rows
from airflow_provider_omnimessage.cli.terminal import Exit, TerminalHook, command, print_progress, print_rows
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

SHORTEST_INTERVAL = 1.0


@command()
def watch(args: Namespace) -> Exit:
    """Look at messages again and again until each has its final outcome, or time is up."""
    if args.interval < SHORTEST_INTERVAL:
        raise InvalidInputError.of("interval", f"{args.interval:g} is too short; use {SHORTEST_INTERVAL:g} s or more")
    ids = [checked_id(omnimessage_id) for omnimessage_id in dict.fromkeys(args.omnimessage_id)]
    with TerminalHook(args.conn_id) as hook:
        reports = follow(hook, ids, interval=args.interval, timeout=args.timeout)
    rows = [row for omnimessage_id in ids if (found := reports.get(omnimessage_id)) for row in report_rows(found)]
    print_rows(rows, args.output)
    return overall_exit(reports.get(omnimessage_id) for omnimessage_id in ids)


def follow(
    hook: OmnimessageHook,
    ids: Iterable[str],
    *,
    interval: float,
    timeout: float,
    pause: Callable[[float], object] = time.sleep,
) -> dict[str, DeliveryReport]:
    """Look at messages until each has its final outcome or time is up, and print every change.

    A message that has failed on all channels is looked at once more: a fallback channel may still be coming.

    :param interval: seconds between two looks.
    :param timeout: seconds that all of it may take.
    :param pause: waits for so many seconds.
    :return: the last report of each message that had one.
    """
    waiting = list(ids)
    reports: dict[str, DeliveryReport] = {}
    left = timeout
    # at least one look
    with hook.within(max(timeout, SHORTEST_INTERVAL)):
        while True:
            waiting = [each for each in waiting if not _look(hook, each, reports)]
            if hook.seconds_left == 0:
                return reports
            if not waiting or left <= 0:
                return reports
            pause(min(interval, left))
            left -= interval


def _look(hook: OmnimessageHook, omnimessage_id: str, reports: dict[str, DeliveryReport]) -> bool:
    """Look at one message, print what changed, and return whether it has its final outcome."""
    before = reports.get(omnimessage_id)
    try:
        report = hook.get_delivery_report(omnimessage_id)
    except OmnimessageError as error:
        if not error.may_pass:
            raise
        print_progress(f"{omnimessage_id}  {error}; trying again")
        return False
    if report != before:
        statuses = "; ".join(map(str, report.statuses)) or "no channel tried yet"
        print_progress(f"{datetime.now():%H:%M:%S}  {omnimessage_id}  {report.outcome}  {statuses}")
    reports[omnimessage_id] = report
    if report.outcome is Outcome.FAILED:
        return before is not None and before.outcome is Outcome.FAILED
    return report.outcome is not Outcome.IN_PROGRESS


def overall_exit(reports: Iterable[DeliveryReport | None]) -> Exit:
    """Return the exit code for the outcomes of several messages; the worst decides.

    :param reports: one for each message; ``None`` if it never had one.
    """
    outcomes = {report.outcome if report else Outcome.IN_PROGRESS for report in reports}
    if outcomes & {Outcome.FAILED, Outcome.CANCELLED}:
        return Exit.NOT_DELIVERED
    return Exit.TIMED_OUT if Outcome.IN_PROGRESS in outcomes else Exit.DONE
