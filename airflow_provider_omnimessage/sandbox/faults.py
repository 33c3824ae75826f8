"""Faults in API calls: what goes wrong, with which calls, and how often."""

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
"""Name of a fault, and whether the call is processed anyway if ``processed`` does not say."""

CALLS: Final = ("any", "send", "bulk", "cancel", "status")
DEFAULT_STATUS: Final = {"server_error": 500, "redirect": 307}


@dataclass
class Fault:
    """A fault that applies to the next matching calls.

    :param fault: the name, one of ``FAULTS``.
    :param call: ``send``, ``bulk``, ``cancel``, ``status`` or ``any``.
    :param method: applies only to this HTTP method; default: any.
    :param times: how many calls it applies to, or ``always``.
    :param after: how many matching calls pass first.
    :param status: the HTTP status of ``server_error`` (default: 500) and ``redirect`` (default: 307).
    :param retry_after: the ``Retry-After`` header of ``rate_limited`` and ``server_error``: seconds or an HTTP date.
    :param html: whether ``server_error`` has the HTML page of a gateway as its body.
    :param seconds: how long ``slow`` takes.
    :param location: where ``redirect`` points.
    :param processed: whether the call is processed (for example, the message stored) although it fails.
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
            self.status = DEFAULT_STATUS.get(self.fault)
        if self.processed is None:
            self.processed = FAULTS[self.fault]

    def _problem(self) -> str | None:
        if self.fault not in FAULTS:
            return f"fault: {self.fault!r} does not exist; use one of {', '.join(FAULTS)}"
        if self.call not in CALLS:
            return f"call: {self.call!r} does not exist; use one of {', '.join(CALLS)}"
        if self.times != "always" and (not isinstance(self.times, int) or self.times < 1):
            return f"times: {self.times!r} is not accepted; use a whole number from 1, or 'always'"
        if not isinstance(self.after, int) or self.after < 0:
            return f"after: {self.after!r} is not accepted; use a whole number from 0"
        if self.fault == "redirect" and not self.location:
            return "location: is missing; set where the redirect points"
        if self.fault == "server_error" and not 500 <= (self.status or 500) <= 599:
            return f"status: {self.status!r} is no server error; use 500 to 599"
        if self.fault == "redirect" and (self.status or 307) not in (301, 302, 303, 307, 308):
            return f"status: {self.status!r} is no redirect; use 301, 302, 303, 307 or 308"
        if self.seconds < 0:
            return f"seconds: {self.seconds!r} is negative; use 0 or more"
        return None

    def matches(self, call: str, method: str) -> bool:
        """Return whether the fault applies to this kind of call.

        :param call: ``send``, ``bulk``, ``cancel``, ``status``, or ``unknown`` for a path that does not exist.
        :param method: the HTTP method.
        """
        return self.call in ("any", call) and self.method in (None, method)

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Fault:
        """Build a fault from JSON.

        :raises ValueError: a field is unknown, missing or wrong.
        """
        known = {field.name for field in fields(cls)} - {"hits"}
        unknown = sorted(set(value) - known)
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no such field; use {', '.join(sorted(known))}")
        if "fault" not in value:
            raise ValueError(f"fault: is missing; use one of {', '.join(FAULTS)}")
        try:
            return cls(**value)
        except TypeError as error:
            raise ValueError(str(error)) from None


class Faults:
    """The faults for API calls. At most one applies to each call: the first that matches."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Add a fault after those already there."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Remove all faults."""
        self._faults.clear()

    def take(self, call: str, method: str) -> Fault | None:
        """Return the fault that applies to a call, if any, and count the call.

        :param call: ``send``, ``bulk``, ``cancel``, ``status``, or ``unknown`` for a path that does not exist.
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
        """Return the faults as plain data. ``hits`` counts the calls that each has applied to."""
        return [asdict(fault) for fault in self._faults]
