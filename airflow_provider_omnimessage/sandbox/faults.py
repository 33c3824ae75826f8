"""Failures to order: what goes wrong with which calls, and how often."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

FAULTS: Final[dict[str, bool]] = {
    "rate_limited": False,
    "server_error": False,
    "unauthorized": False,
    "broken_json": True,
    "html": False,
    "redirect": False,
    "cut": False,
    "lost_answer": True,
    "slow": False,
}
"""Name of a fault, and whether the call is carried out first where ``processed`` does not say."""

CALLS: Final = ("any", "send", "bulk", "cancel", "status")


@dataclass
class Fault:
    """One failure that waits for its calls.

    :param fault: the name, from ``FAULTS``.
    :param call: which calls it hits: ``send``, ``bulk``, ``cancel``, ``status`` or ``any``.
    :param method: an HTTP method, if only that one is to be hit.
    :param times: how many calls it hits, or ``always``.
    :param after: how many matching calls it lets pass first.
    :param status: the HTTP status of ``server_error`` (500) and ``redirect`` (307).
    :param retry_after: the ``Retry-After`` header of ``rate_limited`` and ``server_error``: seconds or an HTTP date.
    :param html: ``server_error`` answers as a gateway would.
    :param seconds: how long ``slow`` takes.
    :param location: where ``redirect`` leads.
    :param processed: whether the call is carried out (a message stored) all the same.
    """

    fault: str
    call: str = "any"
    method: str | None = None
    times: int | Literal["always"] = 1
    after: int = 0
    status: int | None = None
    retry_after: float | str | None = None
    html: bool = False
    seconds: float = 0
    location: str | None = None
    processed: bool | None = None
    hits: int = 0

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ValueError(problem)
        self.method = self.method.upper() if self.method else None
        if self.status is None:
            self.status = {"server_error": 500, "redirect": 307}.get(self.fault)
        if self.processed is None:
            self.processed = FAULTS[self.fault]

    def _problem(self) -> str | None:
        if self.fault not in FAULTS:
            return f"fault must be one of {', '.join(FAULTS)}, not {self.fault!r}"
        if self.call not in CALLS:
            return f"call must be one of {', '.join(CALLS)}, not {self.call!r}"
        if self.times != "always" and (not isinstance(self.times, int) or self.times < 1):
            return f"times must be a whole number from 1 or 'always', not {self.times!r}"
        if not isinstance(self.after, int) or self.after < 0:
            return f"after must be a whole number from 0, not {self.after!r}"
        if self.fault == "redirect" and not self.location:
            return "redirect needs a location"
        if self.fault == "server_error" and not 500 <= (self.status or 500) <= 599:
            return f"status must be from 500 to 599, not {self.status!r}"
        if self.fault == "redirect" and (self.status or 307) not in (301, 302, 303, 307, 308):
            return f"status must be a redirect's, not {self.status!r}"
        if self.seconds < 0:
            return f"seconds must not be negative, not {self.seconds!r}"
        return None

    def matches(self, call: str, method: str) -> bool:
        """Tell whether a call is of the kind that this fault hits.

        :param call: ``send``, ``bulk``, ``cancel``, ``status``, or another word for a call that does not exist.
        :param method: the HTTP method.
        """
        return self.call in ("any", call) and self.method in (None, method)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Fault:
        """Build a fault from JSON.

        :param value: the fields by name.
        :raises ValueError: a field is unknown, missing or wrong.
        """
        known = {field.name for field in fields(cls)} - {"hits"}
        unknown = sorted(set(value) - known)
        if unknown:
            raise ValueError(f"unknown fields {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        if "fault" not in value:
            raise ValueError(f"fault is required: one of {', '.join(FAULTS)}")
        try:
            return cls(**value)
        except TypeError as error:
            raise ValueError(str(error)) from None


class Faults:
    """The faults on order; each call meets at most one, the first that is due."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Put a fault at the end of the order.

        :param fault: what is to go wrong.
        """
        self._faults.append(fault)

    def clear(self) -> None:
        """Forget all of them."""
        self._faults.clear()

    def take(self, call: str, method: str) -> Fault | None:
        """Tell what goes wrong with a call that has just come in, and count it.

        :param call: ``send``, ``bulk``, ``cancel``, ``status``, or another word for a call that does not exist.
        :param method: the HTTP method.
        """
        for fault in self._faults:
            if not fault.matches(call, method):
                continue
            if fault.after > 0:
                fault.after -= 1
            elif fault.times == "always" or fault.hits < fault.times:
                fault.hits += 1
                return fault
        return None

    def as_dicts(self) -> list[dict[str, Any]]:
        """Tell the order as plain data; ``hits`` is how many calls each has met."""
        return [asdict(fault) for fault in self._faults]
