"""Faults in posted delivery reports: which report is lost, doubled, late, out of order or wrongly signed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

REPORT_FAULTS: Final[dict[str, str]] = {
    "dropped": "it is never posted",
    "doubled": "it is posted twice in a row",
    "reordered": "it is posted after the next report on the same message",
    "delayed": "it is posted seconds later",
    "wrong_signature": "its signature fits no password",
    "old_password": "it is signed with another password",
}
"""Name of a fault, and what happens to the report."""


@dataclass
class ReportFault:
    """A fault that applies to the next matching reports.

    :param fault: one of ``REPORT_FAULTS``.
    :param status: applies only to reports with this status, such as ``DELIVRD``; default: any.
    :param times: how many reports it applies to, or ``always``.
    :param after: how many matching reports pass first.
    :param every: applies to every second (2), third (3), ... matching report only.
    :param seconds: how late a ``delayed`` report is, on the sandbox's clock; for ``reordered``, how long to wait for a
        next report (default: 10).
    :param password: signs an ``old_password`` report.
    """

    fault: str
    status: str | None = None
    times: int | Literal["always"] = 1
    after: int = 0
    every: int = 1
    seconds: float | None = None
    password: str | None = None
    hits: int = 0
    matched: int = 0

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ValueError(problem)
        if self.fault == "reordered" and self.seconds is None:
            self.seconds = 10

    def _problem(self) -> str | None:
        if self.fault not in REPORT_FAULTS:
            return f"fault: {self.fault!r} does not exist; use one of {', '.join(REPORT_FAULTS)}"
        if self.times != "always" and not _is_whole(self.times, least=1):
            return f"times: {self.times!r} is not accepted; use a whole number from 1, or 'always'"
        if not _is_whole(self.after, least=0):
            return f"after: {self.after!r} is not accepted; use a whole number from 0"
        if not _is_whole(self.every, least=1):
            return f"every: {self.every!r} is not accepted; use a whole number from 1"
        if self.fault == "delayed" and self.seconds is None:
            return "seconds: is missing; set how late the report is"
        if self.seconds is not None and not 0 <= self.seconds <= 1e9:
            return f"seconds: {self.seconds!r} is not accepted; use a number from 0 to 1000000000"
        if self.fault == "old_password" and not self.password:
            return "password: is missing; set the password that signs the report"
        return None

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> ReportFault:
        """Build a fault from JSON.

        :raises ValueError: a field is unknown, missing or wrong.
        """
        known = {field.name for field in fields(cls)} - {"hits", "matched"}
        unknown = sorted(set(value) - known)
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: no such field; use {', '.join(sorted(known))}")
        if "fault" not in value:
            raise ValueError(f"fault: is missing; use one of {', '.join(REPORT_FAULTS)}")
        try:
            return cls(**value)
        except TypeError as error:
            raise ValueError(str(error)) from None

    def applies(self, status: str) -> bool:
        """Return whether the fault applies to a report with this status, and count the report."""
        if self.status not in (None, status) or (self.times != "always" and self.hits >= self.times):
            return False
        self.matched += 1
        if self.matched <= self.after or (self.matched - self.after) % self.every:
            return False
        self.hits += 1
        return True


def _is_whole(value: Any, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


class ReportFaults:
    """The faults for delivery reports. At most one applies to each report: the first that matches."""

    def __init__(self) -> None:
        self._faults: list[ReportFault] = []

    def add(self, fault: ReportFault) -> None:
        """Add a fault after those already there."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Remove all faults."""
        self._faults.clear()

    def take(self, status: str) -> ReportFault | None:
        """Return the fault that applies to a report with this status, if any."""
        return next((fault for fault in self._faults if fault.applies(status)), None)

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the faults as plain data. ``hits`` counts the reports that each has changed."""
        return [asdict(fault) for fault in self._faults]
