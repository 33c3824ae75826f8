"""One batch of a bulk send from the time it is opened until the results of its rows are complete."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Literal

from airflow_provider_omnimessage.api.errors import OmnimessageError
from airflow_provider_omnimessage.api.responses import Accepted, NotAccepted
from airflow_provider_omnimessage.bulk.memory import Batch, pack_times
from airflow_provider_omnimessage.bulk.results import RowResult
from airflow_provider_omnimessage.bulk.rows import CheckedRow
from airflow_provider_omnimessage.bulk.windows import RowWindows
from airflow_provider_omnimessage.tasks.memory import Mark

OnPast = Literal["fail", "skip", "send_now"]
Entry = Accepted | NotAccepted

#: Later than any time that can be written.
_NEVER = "A"


@dataclass(frozen=True)
class SendSettings:
    """
    How a bulk send posts its batches.

    :param on_past: what to do with a row whose time has passed when it is posted.
    :param at_least_once: whether two messages are better than none.
    :param batch_size: rows in a batch.
    :param parallel: calls in flight at the same time.
    :param mark: of this try.
    :param windows: of the rows; ``None``: they have none.
    """

    on_past: OnPast
    at_least_once: bool
    batch_size: int
    parallel: int
    mark: Mark
    windows: RowWindows | None = None


class NothingToPostError(OmnimessageError):
    """The times of all messages of a batch passed while it waited to be posted."""


class PendingBatch:
    """
    A batch that is being sent. Positions count the rows that can be sent, from 0.

    :param number: from 1.
    :param rows: all rows of the batch, including those that are left out.
    :param fingerprint: of its recipients.
    :param stored: what an earlier try stored.
    """

    def __init__(
        self,
        number: int,
        rows: Sequence[CheckedRow],
        fingerprint: str,
        stored: Batch | None,
        settings: SendSettings,
    ) -> None:
        self.number = number
        self.rows = rows
        self.stored = stored
        #: The call in flight.
        self.response: Future[list[Entry]] | None = None
        #: Positions of the next attempt, or of the last one once there is a response.
        self.posted: list[int] = []
        #: When each position is sent, ISO 8601 in UTC; ``None``: at once.
        self.times: list[str | None]
        self._on_past = settings.on_past
        self._windows = settings.windows
        self._sendable = [row for row in rows if not row.problem]
        self._past: dict[int, str] = {}
        self._bodies: list[bytes] = []
        self._valid_until = ""
        self._chosen_at = ""
        self._reason = ""
        #: The state of rows of which nothing is stored.
        self._unread: Literal["not_sent", "unknown"] = "not_sent"
        self._was_read = False
        if stored is None:
            self.times = [None] * len(self._sendable)
            self._candidates = list(range(len(self._sendable)))
        else:
            self.times = self._stored_times(stored)
            self._candidates = self._still_to_post(stored, settings)
        self._choose()
        self.record = self._about_to_be_posted(fingerprint, settings.mark)

    def __str__(self) -> str:
        return f"Batch {self.number:,} (rows {self.rows[0].row:,} to {self.rows[-1].row:,})"

    def next_attempt(self) -> list[bytes]:
        """
        Return the messages to post now, as JSON. Called again before each attempt, for time passes between two.

        :raises NothingToPostError: if none is left.
        """
        self._choose()
        if not self.posted:
            raise NothingToPostError
        return self._bodies

    def read(self, entries: Sequence[Entry]) -> None:
        """
        Update :attr:`record` with the response.

        :param entries: for each posted position, in order.
        """
        record, posted = self.record, set(self.posted)
        ids, unknown, reason = list(record.ids), set(), record.unknown_reason
        if self.stored:
            unknown, reason = set(self.stored.unknown) - posted, self.stored.unknown_reason
        errors = {error: list(positions) for error, positions in record.errors.items()}
        for position, entry in zip(self.posted, entries, strict=True):
            if isinstance(entry, Accepted):
                ids[position] = entry.omnimessage_id
                self._note_if_late(position)
            elif entry.maybe_processed:
                unknown.add(position)
                reason = entry.reason
            else:
                errors.setdefault(entry.reason, []).append(position)
        self.record = replace(
            record,
            at=self._chosen_at,
            ids=ids,
            errors=errors,
            unknown=sorted(unknown),
            unknown_reason=reason,
            times=pack_times(self.times),
        )
        self._was_read = True

    def _note_if_late(self, position: int) -> None:
        row, time = self._sendable[position], self.times[position]
        if self._windows is not None and time and time != row.time_to_send:
            self._windows.note_late(row.row, row.time_to_send or None, time)

    def leave(self, reason: BaseException) -> None:
        """Note why the batch is not posted."""
        self._reason = str(reason) or type(reason).__name__

    def give_up(self, reason: BaseException) -> None:
        """Note that it cannot be known what an earlier try did with the batch."""
        self._candidates, self.posted, self._past = [], [], {}
        self._unread = "unknown"
        self.leave(reason)

    def results(self) -> list[RowResult]:
        """Return the result of each row, in order."""
        numbers = [row.row for row in self._sendable]
        source = self.record if self._was_read else self.stored
        known = source.results(numbers) if source else [RowResult(number, self._unread) for number in numbers]
        for position, time in self._past.items():
            if known[position].state != "unknown":
                state: Literal["skipped", "invalid"] = "skipped" if self._on_past == "skip" else "invalid"
                known[position] = RowResult(numbers[position], state, error=f"time_to_send: {time} is in the past")
        if self._reason:
            known = [each._replace(error=self._reason) if each.state == self._unread else each for each in known]
        sendable = iter(known)
        return [
            RowResult(row.row, row.left_out_as, error=row.problem) if row.problem else next(sendable)
            for row in self.rows
        ]

    def _still_to_post(self, stored: Batch, settings: SendSettings) -> list[int]:
        again = set(stored.to_post(settings.mark, at_least_once=settings.at_least_once))
        known = stored.results([row.row for row in self._sendable])
        return [position for position, each in enumerate(known) if each.state == "not_sent" or position in again]

    def _stored_times(self, stored: Batch) -> list[str | None]:
        if stored.times != "not stored":
            return [stored.time_of(position) for position in range(len(stored.ids))]
        # An older version stored only when it posted the batch. It scheduled later times, and sent the others.
        posted_at = f"{stored.at[:19]}+00:00"
        times = [row.time_to_send if row.time_to_send > posted_at else None for row in self._sendable]
        self.stored = replace(stored, times=pack_times(times))
        return times

    def _choose(self) -> None:
        """Choose what to post at this time, by ``on_past``."""
        # All times have the same form, so they can be compared as texts.
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._chosen_at = now
        if now < self._valid_until:
            return
        self.posted, self._bodies, self._past = [], [], {}
        self._valid_until = _NEVER
        for position in self._candidates:
            row = self._sendable[position]
            time = row.time_to_send
            if time and time <= now and self._on_past != "send_now" and not row.window.is_for_now:
                self._past[position] = time
                continue
            if time <= now:  # also for the empty text: at once, if its window is still open
                time = self._windows.next_opening(row.window, now) if self._windows else ""
                if row.window.zones >= 0:
                    self._valid_until = min(self._valid_until, _next_minute(now))
            if time:
                self._valid_until = min(self._valid_until, time)
            self.posted.append(position)
            self._bodies.append(row.json(time))
            self.times[position] = time or None

    def _about_to_be_posted(self, fingerprint: str, mark: Mark) -> Batch:
        posted = set(self.posted)
        stored = self.stored
        left_out = [index for index, row in enumerate(self.rows) if row.problem]
        return Batch(
            fingerprint=fingerprint,
            **asdict(mark),
            reported=False,
            at=self._chosen_at,
            ids=list(stored.ids) if stored else [None] * len(self._sendable),
            errors=_without(stored.errors, posted) if stored else {},
            unknown=sorted(posted | set(stored.unknown if stored else ())),
            unknown_reason=f"an earlier try was about to post it at {self._chosen_at}, and ended before the response",
            times=pack_times(self.times),
            left_out=left_out,
        )


def _next_minute(now: str) -> str:
    """Return the next time at which a window may close: they close at whole minutes."""
    minute = datetime.fromisoformat(now).replace(second=0) + timedelta(minutes=1)
    return minute.isoformat(timespec="seconds")


def _without(errors: dict[str, list[int]], positions: set[int]) -> dict[str, list[int]]:
    kept = {reason: [each for each in found if each not in positions] for reason, found in errors.items()}
    return {reason: found for reason, found in kept.items() if found}
