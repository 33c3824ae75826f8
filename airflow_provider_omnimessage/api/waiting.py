"""
What a wait for delivery decides: when to poll, what a report means, and when the wait is over.

Nothing here does I/O, sleeps or reads a clock: a task or a trigger polls, and passes in reports and the current time.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

from airflow_provider_omnimessage.api.agenda import Agenda
from airflow_provider_omnimessage.api.awaited_message import AwaitedMessage
from airflow_provider_omnimessage.api.delivery import (
    CONFIRM_FAILED_AFTER,
    CONFIRM_UNKNOWN_AFTER,
    ChannelStatus,
    DeliveryReport,
    Outcome,
    total_price,
)
from airflow_provider_omnimessage.api.errors import (
    AuthenticationError,
    DeadlineExceededError,
    NotFoundError,
    OmnimessageError,
    RateLimitedError,
    UnexpectedResponseError,
)
from airflow_provider_omnimessage.api.poll_times import SHORTEST_GAP, next_poll, spread_of
from airflow_provider_omnimessage.api.wait_result import Ending, WaitResult

WaitFor = Literal["delivered", "seen"]
Require = Literal["all", "any"] | float

#: How many messages a reason names.
REASONS_SHOWN = 20
#: How many messages that were not delivered the counts of a bulk send list.
UNDELIVERED_LISTED = 100
#: Seconds of a message's age during which a 404 means that Messente has no report yet.
NOT_FOUND_PATIENCE = 60.0
#: How many times rarer polls are while delivery reports arrive by themselves.
POLLS_RARER_BY = 4
#: How many times later the first poll is then: 40 to 80 seconds after the message was sent.
FIRST_POLL_LATER_BY = 8
#: Seconds before the deadline at which every message is polled once more, at most; a tenth of a short wait.
LAST_POLL_MARGIN = 5.0


class Wait:
    """
    A wait for one or many messages.

    :param since: when the wait began. The age of a message without ``time_to_send`` counts from here.
    :param deadline: when the wait ends at the latest.
    :param poke_interval: seconds, more than 0: the longest gap between two polls for one message.
    :param require: ``all`` of the messages, ``any``, or a share of them, more than 0 and at most 1.
    :param only_count: whether the result counts the messages instead of reporting each.
    """

    def __init__(
        self,
        messages: Sequence[AwaitedMessage],
        *,
        since: datetime,
        deadline: datetime,
        poke_interval: float,
        wait_for: WaitFor = "delivered",
        require: Require = "all",
        only_count: bool = False,
    ) -> None:
        self.messages = messages
        self.deadline = deadline
        self.only_count = only_count
        self.endings: Counter[Ending] = Counter()
        self._agenda = Agenda()
        self._by_id: dict[str, AwaitedMessage] = {}
        self._since = since
        self._poke_interval = poke_interval
        self._wait_for = wait_for
        self._require = require
        self._rarer_by = 1
        self._margin = min(LAST_POLL_MARGIN, 0.1 * max(0.0, (deadline - since).total_seconds()))

    def start(self, now: datetime, *, poll_first: bool = False) -> None:
        """
        Start, or continue in another process.

        :param poll_first: whether messages that have been sent are due at once, and not at their next scheduled poll.
        """
        for message in self.messages:
            if self._sent_at(message) <= now and (poll_first or now >= self._last_poll(message)):
                self._agenda.schedule(message, now)
            else:
                self._schedule_next(message, now)

    def to_dict(self) -> dict[str, Any]:
        """Return what another process needs to continue, as plain data, without any recipient."""
        return {message.omnimessage_id: message.to_dict() for message in self.messages}

    def restore(self, data: object) -> None:
        """Continue with what :meth:`to_dict` returned. Messages whose data cannot be read are polled again."""
        if not isinstance(data, Mapping):
            return
        for message in self.messages:
            message.restore(data.get(message.omnimessage_id))
            if message.ending is None and message.next_poll:
                self._agenda.schedule(message, message.next_poll)
        self.endings = Counter(message.ending for message in self.messages if message.ending)

    def find(self, omnimessage_id: str) -> AwaitedMessage | None:
        """Return the message with this id, if the wait is for it."""
        if not self._by_id:
            self._by_id = {message.omnimessage_id: message for message in self.messages}
        return self._by_id.get(omnimessage_id)

    def make_due(self, message: AwaitedMessage, now: datetime) -> None:
        """Poll for a message at the next opportunity, unless it has ended or is sent later."""
        if message.ending is None and self._sent_at(message) <= now:
            self._agenda.schedule(message, now)

    def pause(self, until: datetime) -> None:
        """Let no message be due before ``until``, for example after a 429."""
        self._agenda.pause(until)

    def due(self, now: datetime) -> list[AwaitedMessage]:
        """Return the messages to poll for now. They stay due until something is recorded about them."""
        return self._agenda.due(now)

    @property
    def next_poll(self) -> datetime | None:
        """When the next message is due; ``None`` if all of them have ended."""
        return self._agenda.next_poll

    @property
    def first_time_to_send(self) -> datetime | None:
        """When the first message is sent; ``None`` if one was sent before the wait began."""
        times = [message.time_to_send for message in self.messages]
        return None if None in times else min(time for time in times if time is not None)

    @property
    def needs_confirmation(self) -> bool:
        """Whether a message looks failed on all channels, and a second poll, seconds later, decides."""
        return any(
            message.failing_since and message.report and message.report.seconds_to_confirm == CONFIRM_FAILED_AFTER
            for message in self._open
        )

    def record_report(self, message: AwaitedMessage, report: DeliveryReport, now: datetime) -> str | None:
        """
        Record a message's report.

        :return: what is new, in words; ``None`` if nothing is.
        """
        self._schedule_next(message, now)
        if report.omnimessage_id not in ("", message.omnimessage_id):
            return _news(message, f"no report yet, polling again: the response is about {report.omnimessage_id}")
        is_confirmed = self._is_confirmed_failure(message, report, now)
        message.report = report
        outcome = report.outcome
        if outcome is Outcome.SEEN or (outcome is Outcome.DELIVERED and self._wait_for == "delivered"):
            self._end(message, Ending.FULFILLED, f"{outcome} ({report})")
        elif outcome is Outcome.CANCELLED:
            self._end(message, Ending.CANCELLED, f"cancelled before it was sent ({report})")
        elif outcome is Outcome.DELIVERED and not report.may_be_seen:
            self._end(
                message, Ending.FAILED, f"delivered on a channel that cannot report whether it was read ({report})"
            )
        elif is_confirmed:
            self._end(message, Ending.FAILED, f"failed ({report})")
        elif message.failing_since and report.seconds_to_confirm:
            return self._await_confirmation(message, report, message.failing_since, report.seconds_to_confirm)
        return _news(message, message.reason or str(report))

    def rely_on_push(self, is_reliable: bool, now: datetime) -> None:
        """
        Poll less often while delivery reports arrive by themselves, and as often as usual when they do not.

        :param is_reliable: whether they arrive.
        """
        rarer_by = POLLS_RARER_BY if is_reliable else 1
        if rarer_by == self._rarer_by:
            return
        self._rarer_by = rarer_by
        for message in self._open:
            if message.failing_since is None and message.next_poll and message.next_poll > now:
                self._schedule_next(message, now)

    def record_push(
        self, message: AwaitedMessage, pushed: DeliveryReport, new: Iterable[ChannelStatus], now: datetime
    ) -> str | None:
        """
        Record what delivery reports have said. A delivery ends the wait for a message; after a failure, a poll decides.

        :param pushed: all that they have said about this message.
        :param new: what of it is new.
        :return: what is new, in words; ``None`` if nothing is.
        """
        if message.ending is not None:
            return None
        report = pushed.merged_over(message.report)
        if report.outcome is Outcome.SEEN or (report.outcome is Outcome.DELIVERED and self._wait_for == "delivered"):
            return self.record_report(message, report, now)
        if any(status.needs_poll for status in new):
            # also before its time to send: it may have been cancelled
            self._agenda.schedule(message, now)
        return None

    def record_error(self, message: AwaitedMessage, error: OmnimessageError, now: datetime) -> str | None:
        """
        Record that a poll brought no report.

        After a 429 the message stays due: whoever polls keeps the pause.

        :return: what is new, in words; ``None`` if nothing is.
        """
        if isinstance(error, AuthenticationError):
            self.fail(error)
            return None
        if isinstance(error, RateLimitedError):
            self._agenda.schedule(message, now)
        else:
            self._schedule_next(message, now)
        if isinstance(error, DeadlineExceededError):
            return None  # no request was made
        is_early = isinstance(error, NotFoundError) and self._age(message, now) < NOT_FOUND_PATIENCE
        if is_transient(error) or is_early:
            return _news(message, f"no report yet, polling again: {error}")
        if isinstance(error, NotFoundError):
            self._end(message, Ending.ERROR, f"unknown to Messente, or sent by another account ({error})")
        else:
            self._end(message, Ending.ERROR, str(error))
        return _news(message, message.reason)

    def fail(self, error: OmnimessageError) -> None:
        """End every message that has not ended: the error concerns the connection, and so all of them."""
        for message in self._open:
            self._end(message, Ending.ERROR, str(error))

    @property
    def is_over(self) -> bool:
        """Whether there is a result, without building it."""
        fulfilled = self.endings[Ending.FULFILLED]
        unfulfilled = sum(self.endings.values()) - fulfilled
        return fulfilled >= self._needed or unfulfilled > len(self.messages) - self._needed

    @property
    def result(self) -> WaitResult | None:
        """The result, once the wait is over."""
        if not self.is_over:
            return None
        fulfilled = [message for message in self.messages if message.ending is Ending.FULFILLED]
        if len(fulfilled) >= self._needed:
            return self._result(Ending.FULFILLED, fulfilled)
        lost = [message for message in self.messages if message.ending not in (None, Ending.FULFILLED)]
        return self._result(_most_severe(lost), lost)

    def timed_out(self, limit: str) -> WaitResult:
        """
        Return the result of a wait whose time is over.

        :param limit: the limit that was reached, in words.
        """
        still_open = self._open
        states = _joined(f"{message.omnimessage_id}: {message.state}" for message in still_open[:REASONS_SHOWN])
        reason = f"Not {self._wait_for} within {limit}: {states}{_rest(len(still_open))}"
        return WaitResult(Ending.TIMED_OUT, reason, self._summaries(), self._counts())

    @property
    def _needed(self) -> int:
        if self._require == "any":
            return 1
        share = 1.0 if self._require == "all" else float(self._require)
        return max(1, math.ceil(share * len(self.messages) - 1e-9))

    @property
    def _open(self) -> list[AwaitedMessage]:
        return [message for message in self.messages if message.ending is None]

    def _sent_at(self, message: AwaitedMessage) -> datetime:
        return message.time_to_send or self._since

    def _age(self, message: AwaitedMessage, now: datetime) -> float:
        return (now - self._sent_at(message)).total_seconds()

    def _last_poll(self, message: AwaitedMessage) -> datetime:
        # spread, since many waits may share a deadline
        seconds = self._margin * (1 - spread_of(message.omnimessage_id) / 2)
        return self.deadline - timedelta(seconds=seconds)

    def _schedule_next(self, message: AwaitedMessage, now: datetime) -> None:
        # a datetime holds whole microseconds: without this, a poll could be scheduled for the present
        spread, age = spread_of(message.omnimessage_id), self._age(message, now) + 0.001
        age = self._rarer_by * next_poll(age / self._rarer_by, self._poke_interval, spread)
        if self._rarer_by > 1:
            # most reports come in the first seconds: a poll in between would be for nothing
            age = max(age, FIRST_POLL_LATER_BY * min(SHORTEST_GAP, self._poke_interval) * (1 + spread))
        sent_at, last = self._sent_at(message), self._last_poll(message)
        time = sent_at + timedelta(seconds=age)
        self._agenda.schedule(message, last if max(now, sent_at) < last < time else time)

    def _is_confirmed_failure(self, message: AwaitedMessage, report: DeliveryReport, now: datetime) -> bool:
        """Return whether the message has looked failed for long enough: between two channels, it briefly does."""
        before, seconds = message.report, report.seconds_to_confirm
        if seconds is None:
            message.failing_since = None
            return False
        if before is None or before.channels != report.channels or before.seconds_to_confirm != seconds:
            message.failing_since = None
        since = message.failing_since = message.failing_since or now
        if seconds == CONFIRM_UNKNOWN_AFTER:
            # the report says since when, also to a process that has just started
            since = min(since, report.changed_at or since)
        return (now - since).total_seconds() >= seconds

    def _await_confirmation(
        self, message: AwaitedMessage, report: DeliveryReport, since: datetime, seconds: float
    ) -> str | None:
        time = since + timedelta(seconds=seconds)
        if seconds == CONFIRM_UNKNOWN_AFTER:
            self._agenda.schedule(message, min(time, message.next_poll or time))
            return _news(message, f"{report}: the carrier does not know yet whether it was delivered")
        self._agenda.schedule(message, time)
        return _news(message, f"{report}: not delivered; polling once more, since another channel may follow")

    def _end(self, message: AwaitedMessage, ending: Ending, reason: str) -> None:
        message.ending, message.reason = ending, reason
        self.endings[ending] += 1

    def _result(self, ending: Ending, messages: Sequence[AwaitedMessage]) -> WaitResult:
        if ending is Ending.ERROR and len({message.reason for message in messages}) == 1:
            reason = messages[0].reason
        else:
            reason = _joined(f"{message.omnimessage_id} {message.reason}" for message in messages[:REASONS_SHOWN])
            reason += _rest(len(messages))
        if len(messages) > 1 and ending is not Ending.FULFILLED and not isinstance(self._require, str):
            reason = f"{len(messages):,} of {len(self.messages):,} were not, and require={self._require}: {reason}"
        return WaitResult(ending, reason, self._summaries(), self._counts())

    def _summaries(self) -> list[dict[str, Any]]:
        return [] if self.only_count else [message.summary() for message in self.messages]

    def _counts(self) -> dict[str, Any] | None:
        if not self.only_count:
            return None
        outcomes: Counter[str] = Counter()
        undelivered: list[dict[str, str]] = []
        for message in sorted(self.messages, key=lambda each: each.ending is None):
            if message.ending is Ending.FULFILLED and message.report:
                outcomes[message.report.outcome.value] += 1
                continue
            outcomes[_COUNTED_AS.get(message.ending, "in_progress")] += 1
            if len(undelivered) < UNDELIVERED_LISTED:
                reason = message.reason or message.state
                undelivered.append({"omnimessage_id": message.omnimessage_id, "reason": reason})
        names = ("delivered", "seen", "failed", "cancelled", "unknown", "in_progress")
        return {
            "messages": len(self.messages),
            **{name: outcomes[name] for name in names},
            "undelivered": undelivered,
            "price": total_price(message.report.price for message in self.messages if message.report),
        }


_COUNTED_AS: dict[Ending | None, str] = {
    Ending.FAILED: "failed",
    Ending.CANCELLED: "cancelled",
    Ending.ERROR: "unknown",
}


def _joined(reasons: Iterator[str]) -> str:
    return "; ".join(reasons)


def _rest(count: int) -> str:
    return f"; and {count - REASONS_SHOWN:,} more" if count > REASONS_SHOWN else ""


def _news(message: AwaitedMessage, news: str) -> str | None:
    if news == message.last_news:
        return None
    message.last_news = news
    return f"{message.omnimessage_id}: {news}"


def _most_severe(messages: Iterable[AwaitedMessage]) -> Ending:
    endings = {message.ending for message in messages}
    return next(ending for ending in (Ending.ERROR, Ending.FAILED, Ending.CANCELLED) if ending in endings)


def is_transient(error: OmnimessageError) -> bool:
    """Return whether a poll that failed with this error may bring a report later."""
    # a success that cannot be read comes from a gateway, and passes; a redirect is a wrong base URL, and does not
    return error.may_pass or (isinstance(error, UnexpectedResponseError) and error.maybe_processed)
