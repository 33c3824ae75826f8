"""Estimate what a send will cost before it is sent: SMS parts, prices by country prefix, messages per hour and zone."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.fields import describe
from airflow_provider_omnimessage.api.lists import plain_argument
from airflow_provider_omnimessage.api.masking import mask_number
from airflow_provider_omnimessage.api.send_times import ChosenTime
from airflow_provider_omnimessage.api.sms_parts import count_parts

#: How many recipients a summary lists one by one: those with the most SMS parts.
LISTED = 20
_PRICES_WANTED = 'map country prefixes to the price of an SMS part, such as {"372": 0.05}'


class Prices:
    """The price of an SMS part, by country prefix. The longest prefix of a number counts.

    :param prices: such as ``{"372": 0.05, "1": 0.01}``; prefixes with or without ``+``.
    :raises InvalidInputError: names the entry that is wrong.
    """

    def __init__(self, prices: Mapping[str, Any]) -> None:
        self._prices: dict[str, float] = {}
        for prefix, price in prices.items():
            digits = str(prefix).strip().removeprefix("+")
            try:
                number = float(price)
            except (TypeError, ValueError):
                number = -1.0
            if not digits.isdigit() or not 0 <= number < 1_000_000 or isinstance(price, bool):
                raise InvalidInputError.of(
                    "prices", f"{str(prefix)[:20]!r}: {str(price)[:20]!r} is not a price; {_PRICES_WANTED}"
                )
            self._prices[digits] = number
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
    """What a send will cost, as far as that is known before it is sent.

    Every channel before the last may fail, so the SMS of a message counts if there is one, wherever it stands.

    :param prices: ``None``: nothing is priced.
    :param parts: the SMS parts of each row, in order; ``None``: it cannot be sent.
    :param most: a heap of the rows with the most SMS parts, each with its rank.
    """

    prices: Prices | None = None
    recipients: int = 0
    sms_parts: int = 0
    price: float = 0.0
    unpriced: int = 0
    parts: list[int | None] = field(default_factory=list)
    hours: Counter[tuple[str, str]] = field(default_factory=Counter)
    most: list[tuple[tuple[int, int], dict[str, Any]]] = field(default_factory=list)

    def add(self, row: int, body: Mapping[str, Any], choice: ChosenTime) -> None:
        """Count one message.

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
                self.unpriced += 1
            else:
                self.price += cost
        self.hours[_hour(choice), _zone(choice)] += 1
        rank = (parts, -row)  # of rows with as many parts, the first
        if len(self.most) < LISTED or rank > self.most[0][0]:
            listed = {"row": row, "to": mask_number(body["to"]), "sms_parts": parts, "price": cost, **choice.as_dict()}
            if len(self.most) < LISTED:
                heapq.heappush(self.most, (rank, listed))
            else:
                heapq.heapreplace(self.most, (rank, listed))

    def as_dict(self) -> dict[str, Any]:
        """Return the summary, for an XCom or as JSON."""
        return {
            "recipients": self.recipients,
            "sms_parts": self.sms_parts,
            "parts": self.parts,
            "per_parts": [
                {"sms_parts": parts, "recipients": count}
                for parts, count in sorted(Counter(each for each in self.parts if each is not None).items())
            ],
            "price": None if self.prices is None else round(self.price, 6),
            "unpriced": self.unpriced,
            "per_hour": [
                {"hour": hour, "zone": zone, "messages": count} for (hour, zone), count in sorted(self.hours.items())
            ],
            "most_parts": [listed for _, listed in sorted(self.most, key=lambda each: each[0], reverse=True)],
        }

    def require_within(self, budget: float) -> None:
        """Raise if the send may cost more than ``budget``.

        :raises InvalidInputError: also if a recipient has no price: then the cost is unknown.
        """
        if self.unpriced:
            raise InvalidInputError.of(
                "budget", f"{self.unpriced:,} recipients have no price; add their country prefixes to prices"
            )
        if round(self.price, 6) > budget:
            raise InvalidInputError.of(
                "budget",
                f"the estimate of {self.price:,.2f} is higher than {budget:,.2f} ({self.sms_parts:,} SMS parts to "
                f"{self.recipients:,} recipients); nothing was sent",
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


def _hour(choice: ChosenTime) -> str:
    time = choice.chosen.local if choice.chosen else datetime.now(timezone.utc)
    return "now" if choice.chosen is None else f"{time:%Y-%m-%dT%H:00}"


def _zone(choice: ChosenTime) -> str:
    if choice.chosen is None:
        return "UTC"
    return str(choice.chosen.local.tzinfo) if len(choice.zones) < 2 else f"{len(choice.zones)} zones"
