"""Where the rows of a bulk send meet the send window: when they are checked, and again just before they are posted."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, NamedTuple

from airflow_provider_omnimessage.api.send_times import ChosenTime, TimeChooser, Zones

#: How many reasons for another time the XCom holds.
REASONS_REPORTED = 20
_CHOICES_CACHED = 4096
_LATE = "its time had passed when it was posted, and the window was closed"


class RowWindow(NamedTuple):
    """
    What a checked row says about its window.

    :param zones: the number of its zones; ``-1``: it has no window.
    :param is_for_now: whether it has no time of its own, and only the window delays it.
    """

    zones: int = -1
    is_for_now: bool = False


NO_WINDOW = RowWindow()


class RowWindows:
    """
    The windows of all rows: few sets of zones, which the rows refer to by number; and what the windows changed.

    :param chooser: of this task.
    """

    def __init__(self, chooser: TimeChooser) -> None:
        self._chooser = chooser
        self._zones: list[Zones] = []
        self._marks: dict[tuple[Zones, bool], RowWindow] = {}
        #: Choices are shared by many rows, and hashing zones takes long.
        self._known: dict[int, tuple[ChosenTime, RowWindow]] = {}
        self._reasons: dict[str, dict[str, Any]] = {}
        self._openings: dict[tuple[int, str], str] = {}
        #: How many rows are sent at another time than the wanted one.
        self.moved = 0
        #: An entry of ``time_choices`` for the rows whose window was closed when they were posted.
        #: ``None``: there were none.
        self.late: dict[str, Any] | None = None

    def of(self, row: int, choice: ChosenTime) -> RowWindow:
        """
        Return the window of a row.

        :param row: its number, from 1.
        """
        if choice.reason:
            self._count(row, choice)
        if not choice.zones:
            return NO_WINDOW
        known, mark = self._known.get(id(choice), (None, NO_WINDOW))
        if known is choice:
            return mark
        mark = self._mark_of(choice)
        if len(self._known) < _CHOICES_CACHED:
            self._known[id(choice)] = (choice, mark)
        return mark

    def _mark_of(self, choice: ChosenTime) -> RowWindow:
        key = (choice.zones, choice.is_for_now)
        mark = self._marks.get(key)
        if mark is None:
            mark = self._marks[key] = RowWindow(len(self._zones), choice.is_for_now)
            self._zones.append(choice.zones)
        return mark

    def next_opening(self, window: RowWindow, now: str) -> str:
        """
        Return when the window next opens; empty: it is open.

        :param now: ISO 8601 in UTC, in whole seconds, as the result is.
        """
        if window.zones < 0:
            return ""
        key = (window.zones, now)
        found = self._openings.get(key)
        if found is None:
            opening = self._chooser.next_opening(
                datetime.fromisoformat(now).astimezone(timezone.utc), self._zones[window.zones]
            )
            found = opening.isoformat(timespec="seconds") if opening else ""
            if len(self._openings) > 10_000:
                self._openings.clear()
            self._openings[key] = found
        return found

    def note_late(self, row: int, wanted: str | None, chosen: str) -> None:
        """
        Note a row that was posted for another time than its own.

        :param row: its number, from 1.
        :param wanted: ISO 8601 in UTC; ``None``: now.
        :param chosen: the same.
        """
        self.moved += 1
        if self.late is None:
            self.late = {"wanted": wanted, "chosen": chosen, "reason": _LATE, "rows": 0, "first_row": row}
        self.late["rows"] += 1

    def as_dict(self) -> dict[str, Any]:
        """Return what the windows changed, for the XCom: each reason with the number of its rows, and the first one."""
        if not self.moved:
            return {}
        choices = [*self._reasons.values(), *([self.late] if self.late else [])]
        return {"moved": self.moved, "time_choices": choices}

    def _count(self, row: int, choice: ChosenTime) -> None:
        self.moved += 1
        known = self._reasons.get(choice.reason)
        if known is not None:
            known["rows"] += 1
        elif len(self._reasons) < REASONS_REPORTED:
            self._reasons[choice.reason] = {**choice.as_dict(), "rows": 1, "first_row": row}
