"""
What a wait for delivery decides: when to look, what was learnt from a look, and when it is over.

Nothing here asks, sleeps or knows the time: whoever waits, a task or a trigger, brings answers and the current moment.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
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
    UnexpectedResponseError,
)

#: Seconds: the shortest gap between two looks at one message.
FLOOR = 5.0
#: The gap between two looks, as a share of the message's age.
GROWTH = 0.5
#: Of many messages, so many are told in a reason.
TOLD = 20
#: Of a bulk send, so many that were not delivered are listed.
LISTED = 100
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
    :param reports: a summary per message, in the order in which they were given; none where they were only counted.
    :param counted: of a bulk send, how its messages have ended, and the first that were not delivered.
    """

    ending: Ending
    reason: str
    reports: list[dict[str, Any]]
    counted: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Write it as plain data."""
        counted = {"counted": self.counted} if self.counted is not None else {}
        return {"ending": self.ending.value, "reason": self.reason, "reports": self.reports, **counted}

    @classmethod
    def of(cls, data: dict[str, Any]) -> Verdict:
        """
        Read what :meth:`as_dict` wrote.

        :param data: plain data.
        """
        return cls(Ending(data["ending"]), data["reason"], data["reports"], data.get("counted"))


@dataclass(slots=True)
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
    :param require: ``all`` of the messages, ``any``, or a share of them, more than 0 and at most 1.
    :param only_count: whether the verdict counts the messages, and does not report each.
    """

    def __init__(
        self,
        messages: Sequence[Awaited],
        *,
        since: datetime,
        poke_interval: float,
        wait_for: Literal["delivered", "seen"] = "delivered",
        require: Literal["all", "any"] | float = "all",
        only_count: bool = False,
    ) -> None:
        self.messages = messages
        self.endings: Counter[Ending] = Counter()
        self._only_count = only_count
        # of thousands of messages, few are due at a time: they are not all asked whether they are
        self._agenda: list[tuple[datetime, int, Awaited]] = []
        self._entries = 0
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
                self._plan(message, now)
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
                if message.ending is None and message.next_look:
                    self._plan(message, message.next_look)
            self.endings = Counter(message.ending for message in self.messages if message.ending)

    def due(self, now: datetime, *, last: bool = False) -> list[Awaited]:
        """
        Tell which messages are to be looked at.

        :param now: the current moment.
        :param last: whether this is the last chance: then all of them, but none before its time.
        """
        if last:
            return [message for message in self._open if self._sent_at(message) <= now]
        entries = []
        while self._agenda and self._agenda[0][0] <= now:
            entry = heapq.heappop(self._agenda)
            if _is_current(entry):
                entries.append(entry)
        for entry in entries:  # until it is heard of, it stays due
            heapq.heappush(self._agenda, entry)
        return [message for _, _, message in entries]

    @property
    def next_look(self) -> datetime | None:
        """When the next message is due; ``None`` when all of them have ended."""
        while self._agenda and not _is_current(self._agenda[0]):
            heapq.heappop(self._agenda)
        return self._agenda[0][0] if self._agenda else None

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
            self._end(message, Ending.FULFILLED, f"{outcome} ({report})")
        elif outcome is Outcome.FAILED:
            self._end(message, Ending.FAILED, f"failed ({report})")
        elif outcome is Outcome.CANCELLED:
            self._end(message, Ending.CANCELLED, f"cancelled before it was sent ({report})")
        elif outcome is Outcome.DELIVERED and not report.may_be_seen:
            self._end(message, Ending.FAILED, f"delivered on a channel that cannot tell whether it was read ({report})")
        elif report.outcome is Outcome.FAILED:
            message.doubted = True
            self._plan(message, now + timedelta(seconds=min(FLOOR, self._poke_interval)))
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
            self._plan(message, now if stays_due else max(message.next_look or now, asked_for))
        if _is_transient(error) or (isinstance(error, NotFoundError) and self._age(message, now) < NOT_FOUND_PATIENCE):
            return _news(message, f"no report yet, asking again: {error}")
        if isinstance(error, NotFoundError):
            self._end(message, Ending.REFUSED, f"unknown to Messente, or another account's ({error})")
        else:
            self._end(message, Ending.REFUSED, str(error))
        return _news(message, message.reason)

    def refused(self, error: AuthenticationError) -> None:
        """
        Take in that Messente refuses the credentials, which ends everything.

        :param error: what a call raised, for these messages or for others.
        """
        for message in self._open:
            self._end(message, Ending.REFUSED, str(error))

    @property
    def verdict(self) -> Verdict | None:
        """The end of the wait, once there is one."""
        if not self.is_over:
            return None
        fulfilled = [message for message in self.messages if message.ending is Ending.FULFILLED]
        if len(fulfilled) >= self._needed:
            return self._verdict(Ending.FULFILLED, fulfilled)
        lost = [message for message in self.messages if message.ending not in (None, Ending.FULFILLED)]
        return self._verdict(_gravest(lost), lost)

    @property
    def is_over(self) -> bool:
        """Whether there is a verdict, without making it."""
        fulfilled = self.endings[Ending.FULFILLED]
        unfulfilled = sum(self.endings.values()) - fulfilled
        return fulfilled >= self._needed or unfulfilled > len(self.messages) - self._needed

    @property
    def _needed(self) -> int:
        if self._require == "any":
            return 1
        share = 1.0 if self._require == "all" else float(self._require)
        return max(1, math.ceil(share * len(self.messages) - 1e-9))

    def timed_out(self, limit: str) -> Verdict:
        """
        End the wait because its time is over.

        :param limit: which limit was reached, in words.
        """
        still_open = self._open
        states = _told(f"{message.omnimessage_id}: {_state(message)}" for message in still_open[: TOLD + 1])
        reason = f"Not {self._wait_for} within {limit}: {states}{_untold(len(still_open))}"
        return Verdict(Ending.TIMED_OUT, reason, self._summaries(), self._counted())

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
        self._plan(message, self._sent_at(message) + timedelta(seconds=age))

    def _plan(self, message: Awaited, moment: datetime) -> None:
        message.next_look = moment
        self._entries += 1
        heapq.heappush(self._agenda, (moment, self._entries, message))

    def _end(self, message: Awaited, ending: Ending, reason: str) -> None:
        message.ending, message.reason = ending, reason
        self.endings[ending] += 1

    def _verdict(self, ending: Ending, messages: Sequence[Awaited]) -> Verdict:
        if ending is Ending.REFUSED and len({message.reason for message in messages}) == 1:
            reason = messages[0].reason
        else:
            reason = _told(f"{message.omnimessage_id} {message.reason}" for message in messages[: TOLD + 1])
            reason += _untold(len(messages))
        if len(messages) > 1 and ending is not Ending.FULFILLED and not isinstance(self._require, str):
            reason = f"{len(messages):,} of {len(self.messages):,} were not, and require={self._require}: {reason}"
        return Verdict(ending, reason, self._summaries(), self._counted())

    def _counted(self) -> dict[str, Any] | None:
        if not self._only_count:
            return None
        outcomes: Counter[str] = Counter()
        listed: list[dict[str, str]] = []
        for message in sorted(self.messages, key=lambda each: each.ending is None):
            if message.ending is Ending.FULFILLED and message.report:
                outcomes[message.report.outcome.value] += 1
                continue
            outcomes[_COUNTED_AS.get(message.ending, "in_progress")] += 1
            if len(listed) < LISTED:
                listed.append({"omnimessage_id": message.omnimessage_id, "reason": message.reason or _state(message)})
        names = ("delivered", "seen", "failed", "cancelled", "unknown", "in_progress")
        return {
            "messages": len(self.messages),
            **{name: outcomes[name] for name in names},
            "undelivered": listed,
        }

    def _summaries(self) -> list[dict[str, Any]]:
        if self._only_count:
            return []
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


_COUNTED_AS: dict[Ending | None, str] = {
    Ending.FAILED: "failed",
    Ending.CANCELLED: "cancelled",
    Ending.REFUSED: "unknown",
}


def _is_current(entry: tuple[datetime, int, Awaited]) -> bool:
    moment, _, message = entry
    return message.ending is None and message.next_look is moment


def _state(message: Awaited) -> str:
    return str(message.report) if message.report else message.last_news or _not_asked(message)


def _told(reasons: Iterator[str]) -> str:
    return "; ".join(list(reasons)[:TOLD])


def _untold(count: int) -> str:
    return f"; and {count - TOLD:,} more" if count > TOLD else ""


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
    return error.may_pass or (isinstance(error, UnexpectedResponseError) and error.maybe_processed)
