"""Polls for delivery reports on a worker, within a time limit."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage.api import backoff
from airflow_provider_omnimessage.api.calls import delivery_report
from airflow_provider_omnimessage.api.errors import OmnimessageError, RateLimitedError
from airflow_provider_omnimessage.api.failure_streak import FailureStreak
from airflow_provider_omnimessage.tasks.parallel import a_few_at_a_time

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_omnimessage.api.awaited_message import AwaitedMessage
    from airflow_provider_omnimessage.api.delivery import DeliveryReport
    from airflow_provider_omnimessage.api.waiting import Wait
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook


class WorkerPoller:
    """
    Polls for the messages of one wait. After a 429, the whole wait pauses.

    :param log: the task's logger; receives what is new about a message, unless messages are only counted.
    """

    def __init__(self, hook: OmnimessageHook, wait: Wait, log: Logger) -> None:
        self._hook = hook
        self._wait = wait
        self._log = log
        self._rate_limited_in_a_row = 0
        self._has_warned = False

    def poll(self, messages: Sequence[AwaitedMessage], *, seconds: float, log_endings_only: bool = False) -> None:
        """
        Poll once for each message: the first alone, the others a few at a time.

        Rejected credentials, a 429, or a few failures of the same kind in a row stop it. Messages that are left out
        are polled at their next time.

        :param seconds: how long all requests may take together.
        :param log_endings_only: whether to log only messages that have ended.
        """
        with self._hook.within(seconds):
            messages = self._without_reported(messages)
            if not messages:
                return
            self._hook.get_conn()  # opened here, and shared by the threads
            for message, response in self._responses(messages):
                if isinstance(response, OmnimessageError):
                    news = self._wait.record_error(message, response, _now())
                else:
                    news = self._wait.record_report(message, response, _now())
                if news and not self._wait.only_count and (message.ending or not log_endings_only):
                    self._log.info(news)
                if self._wait.only_count and self._wait.is_over:
                    break

    def _without_reported(self, messages: Sequence[AwaitedMessage]) -> Sequence[AwaitedMessage]:
        """Record what the receiver has stored, if there is one, and return the messages that have not ended by it.

        This takes half of the time at most, so that the others can be polled.
        """
        settings = self._hook.settings
        if not messages or not settings.receiver_url:
            return messages
        from airflow_provider_omnimessage.receiver.client import ReceiverError, each_stored_report

        by_id = {message.omnimessage_id: message for message in messages}
        seconds = (self._hook.seconds_left or 0.0) / 2
        try:
            for id_, report in each_stored_report(
                settings, self._hook.omnimessage_conn_id, list(by_id), timeout=seconds
            ):
                news = self._wait.record_push(by_id[id_], report, (), _now())
                if news and not self._wait.only_count:
                    self._log.info(news)
        except ReceiverError as error:
            if not self._has_warned:
                self._has_warned = True
                self._log.warning("No delivery reports from the receiver, polling Messente instead: %s", error)
        unreported = [message for message in messages if message.ending is None]
        metrics.count("push_received", {"conn_id": self._hook.omnimessage_conn_id}, len(messages) - len(unreported))
        return unreported

    def _responses(
        self, messages: Sequence[AwaitedMessage]
    ) -> Iterator[tuple[AwaitedMessage, DeliveryReport | OmnimessageError]]:
        streak = FailureStreak()

        def get(message: AwaitedMessage) -> DeliveryReport | OmnimessageError:
            if streak.stopped_by is not None:
                return streak.stopped_by
            try:
                report = self._get_once(message.omnimessage_id)
            except OmnimessageError as error:
                streak.record_failure(error)
                return error
            streak.record_success()
            return report

        first, *others = messages
        yield first, get(first)
        if streak.stopped_by is None and others:
            yield from a_few_at_a_time(get, others)
        else:
            yield from ((message, get(message)) for message in others)
        self._pause_if_rate_limited(streak.stopped_by)

    def _get_once(self, omnimessage_id: str) -> DeliveryReport:
        # without repeats: the next poll is the repeat
        return self._hook.get_conn().make(delivery_report(omnimessage_id), self._hook.seconds_left)

    def _pause_if_rate_limited(self, error: OmnimessageError | None) -> None:
        if not isinstance(error, RateLimitedError):
            self._rate_limited_in_a_row = 0
            return
        self._rate_limited_in_a_row += 1
        seconds = backoff.pause(error, self._rate_limited_in_a_row, random.random())
        self._wait.pause(_now() + timedelta(seconds=seconds))


def _now() -> datetime:
    return datetime.now(timezone.utc)
