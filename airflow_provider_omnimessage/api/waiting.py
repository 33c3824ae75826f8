"""
What a wait for delivery decides: when to look, what was learnt from a look, and when it is over.

Nothing here asks, sleeps or knows the time: whoever waits, a task or a trigger, brings answers and the current moment.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Literal

from airflow_provider_omnimessage.api.delivery import ChannelStatus, DeliveryReport, Outcome, confirmed_outcome
from airflow_provider_omnimessage.api.errors import (
    AuthenticationError,
    NotFoundError,
    OmnimessageError,
    RateLimitedError,
    UnexpectedAnswerError,
)

#: Seconds: the shortest gap between two looks at one message.
FLOOR = 5.0
#: The gap between two looks, as a share of the message's age.
GROWTH = 0.5
#: Seconds of a message's age in which a 404 means that Messente's report is not there yet.
NOT_FOUND_PATIENCE = 60.0


def next_look(age: float, poke_interval: float, spread: float) -> float:
    """
    Tell at which age of a message it is looked at next.

    The ages follow from the arguments alone, whoever asks and however often: a restarted triggerer goes on where it
    was, and many waits for one moment, each with a spread of its own, do not ask at the same time.

    :param age: seconds since its ``time_to_send``; negative before.
    :param poke_interval: seconds, more than 0: the longest gap.
    :param spread: from 0 to 1, the same for every look at one message.
    """
    floor = min(FLOOR, poke_interval)
    look = floor * (1 + spread)
    while look <= age:
        gap = max(look * GROWTH, floor)
        if gap >= poke_interval:
            return look + poke_interval * (math.floor((age - look) / poke_interval) + 1)
        look += gap
    return look


def spread_of(omnimessage_id: str) -> float:
    """
    Give a message its share of the spread, the same in every process.

    :param omnimessage_id: the message.
    """
    return int.from_bytes(hashlib.blake2b(omnimessage_id.encode(), digest_size=4).digest(), "big") / 2**32


class Ending(str, Enum):
    """How a wait ended."""

    FULFILLED = "fulfilled"
    FAILED = "failed"
    CANCELLED = "cancelled"
    #: Messente does not tell: wrong credentials, an unknown message.
    REFUSED = "refused"
    TIMED_OUT = "timed_out"

    __str__ = str.__str__


@dataclass(frozen=True)
class Verdict:
    """
    The end of a wait, as data that can leave the triggerer.

    :param ending: how it ended.
    :param reason: why, for a person on call.
    :param reports: a summary per message, in the order in which they were given.
    """

    ending: Ending
    reason: str
    reports: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """Write it as plain data."""
        return {"ending": self.ending.value, "reason": self.reason, "reports": self.reports}

    @classmethod
    def of(cls, data: dict[str, Any]) -> Verdict:
        """
        Read what :meth:`as_dict` wrote.

        :param data: plain data.
        """
        return cls(Ending(data["ending"]), data["reason"], data["reports"])


@dataclass
class Awaited:
    """
    One message that is waited for.

    :param omnimessage_id: its id.
    :param time_to_send: when it is sent, with a zone; ``None``: it was sent before the waiting began.
    """

    omnimessage_id: str
    time_to_send: datetime | None = None
    report: DeliveryReport | None = field(default=None, init=False)
    next_look: datetime | None = field(default=None, init=False)
    ending: Ending | None = field(default=None, init=False)
    reason: str = field(default="", init=False)
    doubted: bool = field(default=False, init=False)
    last_news: str = field(default="", init=False)

    def as_dict(self) -> dict[str, Any]:
        """Write what is known of it as plain data, without the recipient."""
        return {
            "statuses": self.report and [asdict(status) for status in self.report.statuses],
            "next_look": self.next_look and self.next_look.isoformat(),
            "ending": self.ending and self.ending.value,
            "reason": self.reason,
            "last_news": self.last_news,
        }

    def recall(self, kept: Any) -> None:
        """
        Go on with what :meth:`as_dict` wrote; with nothing, where that cannot be read.

        :param kept: plain data.
        """
        try:
            statuses = kept["statuses"]
            report = statuses and DeliveryReport(
                self.omnimessage_id, "", tuple(ChannelStatus(**status) for status in statuses)
            )
            next_look = kept["next_look"] and datetime.fromisoformat(kept["next_look"])
            ending = kept["ending"] and Ending(kept["ending"])
            reason, last_news = str(kept["reason"]), str(kept["last_news"])
        except (KeyError, TypeError, ValueError):
            return
        self.report, self.next_look, self.ending = report or None, next_look or self.next_look, ending or None
        self.reason, self.last_news = reason, last_news


class Wait:
    """
    A wait for one or many messages.

    :param messages: which.
    :param since: when the waiting began: the age of a message without ``time_to_send`` counts from there.
    :param poke_interval: seconds, more than 0: the longest gap between two looks at one message.
    :param wait_for: ``delivered`` or ``seen``.
    :param require: ``all`` of the messages, or ``any``.
    """

    def __init__(
        self,
        messages: Sequence[Awaited],
        *,
        since: datetime,
        poke_interval: float,
        wait_for: Literal["delivered", "seen"] = "delivered",
        require: Literal["all", "any"] = "all",
    ) -> None:
        self.messages = messages
        self._since = since
        self._poke_interval = poke_interval
        self._wait_for = wait_for
        self._require = require

    def plan(self, now: datetime, *, look_first: bool = False) -> None:
        """
        Begin, or go on in another process.

        :param now: the current moment.
        :param look_first: whether messages whose time has come are due at once, and not with their next look.
        """
        for message in self.messages:
            if look_first and self._sent_at(message) <= now:
                message.next_look = now
            else:
                self._plan_next(message, now)

    def as_dict(self) -> dict[str, Any]:
        """Write what a later process needs to go on where this one was; no recipient is part of it."""
        return {message.omnimessage_id: message.as_dict() for message in self.messages}

    def recall(self, kept: Any) -> None:
        """
        Go on where another process was.

        :param kept: what :meth:`as_dict` wrote; what cannot be read of it is asked for anew.
        """
        if isinstance(kept, dict):
            for message in self.messages:
                message.recall(kept.get(message.omnimessage_id))

    def due(self, now: datetime, *, last: bool = False) -> list[Awaited]:
        """
        Tell which messages are to be looked at.

        :param now: the current moment.
        :param last: whether this is the last chance: then all of them, but none before its time.
        """
        return [
            message for message in self._open if (self._sent_at(message) if last else message.next_look or now) <= now
        ]

    @property
    def next_look(self) -> datetime | None:
        """When the next message is due; ``None`` when all of them have ended."""
        return min((message.next_look for message in self._open if message.next_look), default=None)

    @property
    def first_time_to_send(self) -> datetime | None:
        """The earliest moment at which a message is sent; ``None`` where one has been sent before."""
        moments = [message.time_to_send for message in self.messages]
        return None if None in moments else min(moment for moment in moments if moment is not None)

    @property
    def in_doubt(self) -> bool:
        """Whether a message seems to have failed on all channels, and a second look is to come."""
        return any(message.doubted for message in self._open)

    def heard(self, message: Awaited, report: DeliveryReport, now: datetime) -> str | None:
        """
        Take in a report.

        :param message: which message it is about.
        :param report: what was found.
        :param now: the current moment.
        :return: what is new, in words; ``None`` if nothing is.
        """
        outcome = confirmed_outcome(report, message.report)
        message.report = report
        message.doubted = False
        self._plan_next(message, now)
        if outcome is Outcome.SEEN or (outcome is Outcome.DELIVERED and self._wait_for == "delivered"):
            _end(message, Ending.FULFILLED, f"{outcome} ({report})")
        elif outcome is Outcome.FAILED:
            _end(message, Ending.FAILED, f"failed ({report})")
        elif outcome is Outcome.CANCELLED:
            _end(message, Ending.CANCELLED, f"cancelled before it was sent ({report})")
        elif outcome is Outcome.DELIVERED and not report.may_be_seen:
            _end(message, Ending.FAILED, f"delivered on a channel that cannot tell whether it was read ({report})")
        elif report.outcome is Outcome.FAILED:
            message.doubted = True
            message.next_look = now + timedelta(seconds=min(FLOOR, self._poke_interval))
            return _news(message, f"{report}: nothing has delivered it; looking once more, a fallback may be coming")
        return _news(message, message.reason or str(report))

    def heard_error(
        self, message: Awaited, error: OmnimessageError, now: datetime, *, stays_due: bool = False
    ) -> str | None:
        """
        Take in that there is no report.

        :param message: which message was asked for.
        :param error: what the call raised.
        :param now: the current moment.
        :param stays_due: whether whoever waits keeps the pause after a 429, and then asks at once.
        :return: what is new, in words; ``None`` if nothing is.
        """
        if isinstance(error, AuthenticationError):
            self.refused(error)
            return None
        self._plan_next(message, now)
        if isinstance(error, RateLimitedError):
            asked_for = now + timedelta(seconds=error.retry_after or 0.0)
            message.next_look = now if stays_due else max(message.next_look or now, asked_for)
        if _is_transient(error) or (isinstance(error, NotFoundError) and self._age(message, now) < NOT_FOUND_PATIENCE):
            return _news(message, f"no report yet, asking again: {error}")
        if isinstance(error, NotFoundError):
            _end(message, Ending.REFUSED, f"unknown to Messente, or another account's ({error})")
        else:
            _end(message, Ending.REFUSED, str(error))
        return _news(message, message.reason)

    def refused(self, error: AuthenticationError) -> None:
        """
        Take in that Messente refuses the credentials, which ends everything.

        :param error: what a call raised, for these messages or for others.
        """
        for message in self._open:
            _end(message, Ending.REFUSED, str(error))

    @property
    def verdict(self) -> Verdict | None:
        """The end of the wait, once there is one."""
        fulfilled = [message for message in self.messages if message.ending is Ending.FULFILLED]
        unfulfilled = [message for message in self.messages if message.ending not in (None, Ending.FULFILLED)]
        if self._require == "any":
            if fulfilled:
                return self._verdict(Ending.FULFILLED, fulfilled)
            return None if self._open else self._verdict(_gravest(unfulfilled), unfulfilled)
        if unfulfilled:
            return self._verdict(_gravest(unfulfilled), unfulfilled)
        return None if self._open else self._verdict(Ending.FULFILLED, fulfilled)

    def timed_out(self, limit: str) -> Verdict:
        """
        End the wait because its time is over.

        :param limit: which limit was reached, in words.
        """
        states = "; ".join(
            f"{message.omnimessage_id}: "
            + (str(message.report) if message.report else message.last_news or _not_asked(message))
            for message in self._open
        )
        return Verdict(Ending.TIMED_OUT, f"Not {self._wait_for} within {limit}: {states}", self._summaries())

    @property
    def _open(self) -> list[Awaited]:
        return [message for message in self.messages if message.ending is None]

    def _sent_at(self, message: Awaited) -> datetime:
        return message.time_to_send or self._since

    def _age(self, message: Awaited, now: datetime) -> float:
        return (now - self._sent_at(message)).total_seconds()

    def _plan_next(self, message: Awaited, now: datetime) -> None:
        # a moment is kept in whole microseconds: without this, a look could find itself to be the next one
        age = next_look(self._age(message, now) + 0.001, self._poke_interval, spread_of(message.omnimessage_id))
        message.next_look = self._sent_at(message) + timedelta(seconds=age)

    def _verdict(self, ending: Ending, messages: Sequence[Awaited]) -> Verdict:
        reasons = {message.omnimessage_id: message.reason for message in messages}
        if len(set(reasons.values())) == 1 and ending is Ending.REFUSED:
            reason = next(iter(reasons.values()))
        else:
            reason = "; ".join(f"{omnimessage_id} {reason}" for omnimessage_id, reason in reasons.items())
        return Verdict(ending, reason, self._summaries())

    def _summaries(self) -> list[dict[str, Any]]:
        return [
            {
                **(message.report or DeliveryReport("", "", ())).summary(message.time_to_send),
                "omnimessage_id": message.omnimessage_id,
            }
            for message in self.messages
        ]


def _not_asked(message: Awaited) -> str:
    before = f"{message.time_to_send:%Y-%m-%d %H:%M:%S} UTC" if message.time_to_send else "its first look"
    return f"not asked for, as nobody asks before {before}"


def _end(message: Awaited, ending: Ending, reason: str) -> None:
    message.ending, message.reason = ending, reason


def _news(message: Awaited, news: str) -> str | None:
    if news == message.last_news:
        return None
    message.last_news = news
    return f"{message.omnimessage_id}: {news}"


def _gravest(messages: Iterable[Awaited]) -> Ending:
    endings = {message.ending for message in messages}
    return next(ending for ending in (Ending.REFUSED, Ending.FAILED, Ending.CANCELLED) if ending in endings)


def _is_transient(error: OmnimessageError) -> bool:
    # a success that cannot be read is a gateway's doing, and passes; a redirect is a wrong base URL, and does not
    return error.may_pass or (isinstance(error, UnexpectedAnswerError) and error.maybe_processed)
