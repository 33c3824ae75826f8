"""Estimate what a send will cost before it is sent: SMS parts, prices by country prefix, messages per hour and zone."""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.fields import describe
from airflow_provider_omnimessage.api.lists import plain_argument
from airflow_provider_omnimessage.api.masking import country_code, mask_number
from airflow_provider_omnimessage.api.send_times import ChosenTime
from airflow_provider_omnimessage.api.sms_parts import count_parts
from airflow_provider_omnimessage.api.timing import zone_of

#: How many recipients a summary lists one by one: those with the most SMS parts.
LISTED = 20
#: How many country codes without a price are named.
CODES_NAMED = 5
_PRICES_WANTED = 'map country prefixes to the price of an SMS part, such as {"372": 0.05}'
_PREFIX = re.compile("[1-9][0-9]{0,14}")


class Prices:
    """The price of an SMS part, by country prefix. The longest prefix of a number counts.

    :param prices: such as ``{"372": 0.05, "1": 0.01}``, or its items; prefixes with or without ``+``.
    :raises InvalidInputError: names the entry that is wrong, or the prefix that has two prices.
    """

    def __init__(self, prices: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        self._prices: dict[str, float] = {}
        for prefix, price in prices.items() if isinstance(prices, Mapping) else prices:
            digits = str(prefix).strip().removeprefix("+")
            if not _PREFIX.fullmatch(digits):
                raise InvalidInputError.of("prices", f"{str(prefix)[:20]!r} is not a country prefix; {_PRICES_WANTED}")
            try:
                number = float(price)
            except (TypeError, ValueError):
                number = -1.0
            if not 0 <= number < 1_000_000 or isinstance(price, bool):
                raise InvalidInputError.of(
                    "prices", f"{str(prefix)[:20]!r}: {str(price)[:20]!r} is not a price; {_PRICES_WANTED}"
                )
            if self._prices.setdefault(digits, number) != number:
                raise InvalidInputError.of("prices", f"'{digits}' has two prices; leave one of them out")
        self._longest = max(map(len, self._prices), default=0)

    @classmethod
    def of(cls, prices: object) -> Prices:
        """Return the prices of a mapping, or of its text: JSON, or what a template renders from a dict."""
        prices = plain_argument(prices)
        if not isinstance(prices, Mapping):
            raise InvalidInputError.of("prices", f"{describe(prices)} is not accepted; {_PRICES_WANTED}")
        return cls(prices)

    def of_part(self, to: str) -> float | None:
        """Return the price of one part to a number; ``None``: it is unknown."""
        digits = to[1:]
        return next(
            (self._prices[digits[:end]] for end in range(self._longest, 0, -1) if digits[:end] in self._prices), None
        )


@dataclass
class Estimate:
    """What a send will cost, as far as that is known before it is sent. Only rows that would be sent are added.

    Every channel before the last may fail, so the SMS of a message counts if there is one, wherever it stands. A text
    is counted as it is: which characters Messente replaces for ``autoconvert`` is not published.

    :param prices: ``None``: nothing is priced.
    :param price: of all recipients with a price.
    :param unpriced: how many recipients have no price, by country code.
    :param parts: the SMS parts of each row up to the last that is sent, in order; ``None``: it is not sent.
    :param hours: how many messages are sent in each hour, with the zone in which that hour is.
    :param most: a heap of the rows with the most SMS parts, each with its rank.
    """

    prices: Prices | None = None
    recipients: int = 0
    sms_parts: int = 0
    price: float = 0.0
    unpriced: Counter[str] = field(default_factory=Counter)
    parts: list[int | None] = field(default_factory=list)
    hours: Counter[tuple[str, str]] = field(default_factory=Counter)
    most: list[tuple[tuple[int, int], dict[str, Any]]] = field(default_factory=list)

    def add(self, row: int, body: Mapping[str, Any], choice: ChosenTime) -> None:
        """Count one message that would be sent.

        :param row: its number, from 1.
        :param body: the checked omnimessage.
        """
        parts = sms_parts_of(body)
        cost = None
        self.recipients += 1
        self.sms_parts += parts
        self.parts += [None] * (row - 1 - len(self.parts))
        self.parts.append(parts)
        if self.prices is not None and parts:
            part_price = self.prices.of_part(body["to"])
            cost = None if part_price is None else parts * part_price
            if cost is None:
                self.unpriced[country_code(body["to"])] += 1
            else:
                self.price += cost
        self.hours[_hour(choice)] += 1
        rank = (parts, -row)  # of rows with as many parts, the first
        if len(self.most) < LISTED or rank > self.most[0][0]:
            listed = {"row": row, "to": mask_number(body["to"]), "sms_parts": parts, "price": cost, **choice.as_dict()}
            if len(self.most) < LISTED:
                heapq.heappush(self.most, (rank, listed))
            else:
                heapq.heapreplace(self.most, (rank, listed))

    def as_dict(self, rows: int) -> dict[str, Any]:
        """Return the summary, for an XCom or as JSON.

        :param rows: how many rows there are in total.
        """
        return {
            "recipients": self.recipients,
            "sms_parts": self.sms_parts,
            "parts": self.parts + [None] * (rows - len(self.parts)),
            "per_parts": [
                {"sms_parts": parts, "recipients": count}
                for parts, count in sorted(Counter(each for each in self.parts if each is not None).items())
            ],
            "price": None if self.prices is None else round(self.price, 6),
            "unpriced": self.unpriced.total(),
            "unpriced_codes": dict(self.unpriced.most_common()),
            "per_hour": [
                {"hour": hour, "zone": zone, "messages": count} for (hour, zone), count in sorted(self.hours.items())
            ],
            "most_parts": [listed for _, listed in sorted(self.most, key=lambda each: each[0], reverse=True)],
        }

    def require_within(self, budget: float) -> None:
        """Raise if the send may cost more than ``budget``.

        :raises InvalidInputError: also if there are no prices, or a recipient has none: then the cost is unknown.
        """
        check_budget(budget, self.prices)
        if self.unpriced:
            recipients = unpriced_in_words(self.unpriced)
            raise InvalidInputError.of(
                "budget",
                f"{recipients}; add its country prefix to prices"
                if self.unpriced.total() == 1
                else f"{recipients}; add their country prefixes to prices",
            )
        if round(self.price, 6) > budget:
            raise InvalidInputError.of(
                "budget",
                f"the estimate of {price_as_text(self.price)} is higher than {price_as_text(budget)} "
                f"({counted(self.sms_parts, 'SMS part')} to {counted(self.recipients, 'recipient')}); nothing was sent",
            )


def sms_parts_of(body: Mapping[str, Any]) -> int:
    """Return the SMS parts of a message, 0 if it has no SMS."""
    return sum(count_parts(str(each.get("text", ""))) for each in body["messages"] if each.get("channel") == "sms")


def check_budget(budget: object, prices: object) -> None:
    """Raise unless ``budget`` is ``None``, or a positive number for which prices are set."""
    if budget is None:
        return
    if isinstance(budget, bool) or not isinstance(budget, (int, float)) or not budget > 0:
        raise InvalidInputError.of("budget", f"{describe(budget)} is not accepted; use a number greater than 0")
    if prices is None:
        raise InvalidInputError.of("budget", "needs prices; set prices to what an SMS part costs, by country prefix")


def price_as_text(price: float) -> str:
    """Return a price with two decimals, or with up to six if it has more: ``1,234.50``, ``0.0045``."""
    rounded = f"{price:,.6f}".rstrip("0")
    return rounded if len(rounded.partition(".")[2]) > 2 else f"{price:,.2f}"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, in the singular or plural: ``1 recipient``, ``2,000 recipients``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def unpriced_in_words(unpriced: Mapping[str, int]) -> str:
    """Return how many recipients have no price, with the most frequent of their country codes.

    :param unpriced: recipients by country code, the most frequent first.
    """
    count = sum(unpriced.values())
    codes = sorted(unpriced, key=lambda code: unpriced[code], reverse=True)
    more = ["…"] if len(codes) > CODES_NAMED else []
    named = ", ".join(codes[:CODES_NAMED] + more)
    return f"{counted(count, 'recipient')} {'has' if count == 1 else 'have'} no price ({named})"


def _hour(choice: ChosenTime) -> tuple[str, str]:
    """Return the hour of a message, and the zone in which that hour is."""
    if choice.chosen is None:
        return "now", "UTC"
    if len(choice.places) > 1:  # none of them is the recipient's for certain
        time, zone = choice.chosen.utc, f"UTC (numbers in {len(choice.places)} zones)"
    else:
        time, zone = choice.chosen.local, str(zone_of(choice.chosen))
    return f"{time:%Y-%m-%dT%H:00}", zone
