"""The command that follows messages until each is delivered, or has failed."""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from airflow_provider_omnimessage.api.delivery import CONFIRM_FAILED_AFTER, DeliveryReport, Outcome
from airflow_provider_omnimessage.api.errors import (
    DeadlineExceededError,
    InvalidInputError,
    NotFoundError,
    OmnimessageError,
    RejectedError,
)
from airflow_provider_omnimessage.api.ids import checked_id
from airflow_provider_omnimessage.api.waiting import is_transient
from airflow_provider_omnimessage.cli.messages import report_rows
from airflow_provider_omnimessage.cli.terminal import Exit, TerminalHook, command, exit_code, print_progress, print_rows
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

SHORTEST_INTERVAL = 1.0


@dataclass
class Followed:
    """
    What is known about one message.

    :param report: the last one; ``None``: there was none yet.
    :param error: why nothing more can be known.
    :param failing_since: when it first looked failed on these channels, in seconds since the beginning.
    :param is_over: whether it has its final outcome, or an error.
    """

    omnimessage_id: str
    report: DeliveryReport | None = None
    error: OmnimessageError | None = None
    failing_since: float | None = None
    is_over: bool = False

    def record(self, report: DeliveryReport, elapsed: float) -> None:
        """
        Record a report.

        :param elapsed: seconds since the beginning. A failure is final if it stays for a few seconds: a fallback
            channel may still be coming.
        """
        is_same = self.report is not None and self.report.channels == report.channels
        self.report = report
        if report.outcome is not Outcome.FAILED:
            self.failing_since = None
            self.is_over = report.outcome is not Outcome.IN_PROGRESS
            return
        if self.failing_since is None or not is_same:
            self.failing_since = elapsed
        self.is_over = elapsed - self.failing_since >= CONFIRM_FAILED_AFTER

    def fail(self, error: OmnimessageError) -> None:
        """End it with an error."""
        self.error, self.is_over = error, True

    @property
    def exit(self) -> Exit:
        """The exit code for it."""
        if self.error is not None:
            return exit_code(self.error, changes_something=False)
        if self.report is None or not self.is_over:
            return Exit.TIMED_OUT
        return Exit.NOT_DELIVERED if self.report.outcome in (Outcome.FAILED, Outcome.CANCELLED) else Exit.DONE


@command()
def watch(args: Namespace) -> Exit:
    """Look at messages again and again until each has its final outcome, or time is up."""
    for name, least in (("interval", SHORTEST_INTERVAL), ("timeout", 0.0)):
        seconds = getattr(args, name)
        if not least <= seconds < math.inf:
            raise InvalidInputError.of(name, f"{seconds:g} is too short or no number; use {least:g} s or more")
    ids = [checked_id(omnimessage_id) for omnimessage_id in dict.fromkeys(args.omnimessage_id)]
    with TerminalHook(args.conn_id) as hook:
        followed = follow(hook, ids, interval=args.interval, timeout=args.timeout)
    print_rows([row for each in followed if each.report for row in report_rows(each.report)], args.output)
    return max(each.exit for each in followed)


def follow(
    hook: OmnimessageHook,
    ids: Iterable[str],
    *,
    interval: float,
    timeout: float,
    pause: Callable[[float], object] = time.sleep,
) -> list[Followed]:
    """
    Look at messages until each has its final outcome or time is up, and print every change.

    :param interval: seconds between two looks.
    :param timeout: seconds that all of it may take.
    :param pause: waits for so many seconds.
    :return: what is known about each message, in order.
    """
    followed = [Followed(omnimessage_id) for omnimessage_id in ids]
    elapsed = 0.0
    hook.get_conn()  # looking the connection up takes none of the time
    # at least one look
    with hook.within(max(timeout, SHORTEST_INTERVAL)):
        while True:
            for each in followed:
                if not each.is_over:
                    _look(hook, each, elapsed, followed)
            if all(each.is_over for each in followed) or elapsed >= timeout or hook.seconds_left == 0:
                return followed
            seconds = min(interval, timeout - elapsed)
            pause(seconds)
            elapsed += seconds


def _look(hook: OmnimessageHook, message: Followed, elapsed: float, followed: Iterable[Followed]) -> None:
    """Look at one message, record what is found, and print what changed."""
    before = message.report
    try:
        report = hook.get_delivery_report(message.omnimessage_id)
    except DeadlineExceededError:
        return
    except OmnimessageError as error:
        if is_transient(error):
            print_progress(f"{message.omnimessage_id}  {error}; trying again")
        elif isinstance(error, (NotFoundError, RejectedError)):
            print_progress(f"{message.omnimessage_id}  {error}")
            message.fail(error)
        else:  # it concerns all of them
            print_progress(str(error))
            for each in followed:
                if not each.is_over:
                    each.fail(error)
        return
    if report != before:
        statuses = "; ".join(map(str, report.statuses)) or "no channel tried yet"
        print_progress(f"{datetime.now():%H:%M:%S}  {message.omnimessage_id}  {report.outcome}  {statuses}")
    message.record(report, elapsed)
