"""What a bulk send remembers of its batches across tries, and what a later try does with it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from enum import Enum
from typing import Any, Literal

from airflow_provider_omnimessage._compat import AirflowFailException, TaskMemory
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.bulk.results import RowResult
from airflow_provider_omnimessage.tasks.memory import KEY, Mark, Since

#: The key of the progress. Airflow's page sorts by key: this one comes before the batches, which fill a page each.
PROGRESS = "bulk_progress"
_NOT_SENT_BEFORE = "not sent by an earlier try of this task"
_LEFT_OUT_BEFORE = "left out by an earlier try of this task"
#: Attributes whose key in the store has another name. A stored key never changes: a retry may read it after an upgrade.
_STORED_NAMES = {"unknown_reason": "doubt"}


@dataclass(frozen=True)
class Plan:
    """
    A bulk send that an earlier try began.

    :param since: when its first try began, or the first one after a clear, ISO 8601 in UTC. Retries add a ``timedelta``
        to this time.
    :param max_tries: with ``try_number`` and ``clear_number``, the :class:`Mark` of the try that wrote this.
    :param batch_size: rows in a batch. Later tries keep it.
    :param batches: the number of batches.
    :param state: ``ended``: the task succeeded; ``replacing``: it was cleared after that, and cancels its messages.
    :param rows: the number of rows; ``None``: not stored, by an older version.
    """

    since: str
    max_tries: int
    batch_size: int
    batches: int
    state: Literal["sending", "ended", "replacing"]
    rows: int | None = None
    try_number: int | None = None
    clear_number: int | None = None

    @classmethod
    def read(cls, value: object) -> Plan | None:
        """
        Read a stored plan.

        :param value: from the store; ``None``: nothing is stored.
        :raises InvalidInputError: if it is anything else. To go on could send twice.
        """
        if value is None:
            return None
        try:
            plan = cls(**_stored_fields(cls, value))
            datetime.fromisoformat(plan.since)
            _require_numbers(plan.mark)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError):
            raise _not_readable(KEY) from None
        return plan

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return _as_stored(self)

    @property
    def mark(self) -> Mark:
        """The mark of the try that wrote the plan."""
        return Mark(self.max_tries, self.try_number, self.clear_number)

    def marked(self, mark: Mark) -> Plan:
        """Return the plan with the mark of another try."""
        return replace(self, **asdict(mark))

    def results(self, number: int, batch: Batch | None) -> list[RowResult]:
        """
        Return what is known of each row of a batch, without the rows themselves.

        :param number: of the batch, from 1.
        :param batch: what is stored of it.
        """
        first, after = (number - 1) * self.batch_size + 1, number * self.batch_size + 1
        rows = range(first, after if self.rows is None else min(after, self.rows + 1))
        if batch is None:
            return [RowResult(row, "not_sent", error=_NOT_SENT_BEFORE) for row in rows]
        left_out = set(batch.left_out)
        known = iter(batch.results([row for index, row in enumerate(rows) if index not in left_out]))
        results = (
            RowResult(row, "invalid", error=_LEFT_OUT_BEFORE) if index in left_out else next(known, None)
            for index, row in enumerate(rows)
        )
        # an older version did not store how many rows the last batch has
        return [result for result in results if result is not None]


@dataclass(frozen=True)
class Batch:
    """
    A batch that was posted, or was about to be. It holds no text, no phone number and no credentials.

    Positions count the rows that can be sent, from 0, in the order of the batch.

    :param fingerprint: of its recipients, see :func:`fingerprint_of_recipients`.
    :param max_tries: with ``try_number`` and ``clear_number``, the :class:`Mark` of the try that wrote this.
    :param at: when it was posted, ISO 8601 in UTC.
    :param ids: the omnimessage_id of each position, or ``None``.
    :param errors: why messages were rejected: each reason with its positions.
    :param unknown: positions that may have been accepted.
    :param unknown_reason: why that is unknown.
    :param times: when each position is sent, in seconds since 1970, ``None``: at once. One value if all are the same.
        ``"not stored"``: by an older version.
    :param left_out: indexes of the batch's rows that could not be sent and have no position.
    :param reported: whether a try has failed because of the unknown positions, and said what to check.
    """

    fingerprint: str
    max_tries: int
    at: str
    ids: list[str | None]
    errors: dict[str, list[int]]
    unknown: list[int]
    unknown_reason: str
    times: list[int | None] | int | str | None = "not stored"
    left_out: list[int] = field(default_factory=list)
    try_number: int | None = None
    clear_number: int | None = None
    reported: bool = True  # an older version did not store it, and posted everything again after a clear

    @classmethod
    def read(cls, value: object, key: str) -> Batch | None:
        """
        Read a stored batch.

        :param value: from the store; ``None``: nothing is stored.
        :param key: its key.
        :raises InvalidInputError: if it is anything else. To go on could send twice.
        """
        if value is None:
            return None
        try:
            batch = cls(**_stored_fields(cls, value))
            datetime.fromisoformat(batch.at)
            _require_numbers(batch.mark)
            ids = all(isinstance(id_, (str, type(None))) for id_ in batch.ids)
            if not ids or not all(0 <= position < len(batch.ids) for position in batch.unknown):
                raise ValueError
            if isinstance(batch.times, list) and len(batch.times) != len(batch.ids):
                raise ValueError
        except (TypeError, ValueError, KeyError, IndexError, AttributeError):
            raise _not_readable(key) from None
        return batch

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return _as_stored(self)

    @property
    def mark(self) -> Mark:
        """The mark of the try that wrote the batch."""
        return Mark(self.max_tries, self.try_number, self.clear_number)

    def marked(self, mark: Mark) -> Batch:
        """Return the batch with the mark of another try."""
        return replace(self, **asdict(mark))

    def rejected(self) -> dict[int, str]:
        """Return the reason for each rejected position."""
        return {position: reason for reason, positions in self.errors.items() for position in positions}

    def to_post(self, mark: Mark, *, at_least_once: bool) -> list[int]:
        """
        Decide which positions a later try posts again: never one that is known to be accepted.

        What may have been accepted is posted again with ``at_least_once``, or if the task was cleared after it had
        reported that. What was rejected is posted again if the task was cleared, or may have been.

        :param mark: of this try.
        """
        since = mark.since(self.mark)
        is_confirmed = since is Since.CLEAR and self.reported
        again = list(self.unknown) if is_confirmed or at_least_once else []
        return sorted(again + (list(self.rejected()) if since is not Since.RETRY else []))

    def has_other_recipients(self, fingerprint: str, count: int) -> bool:
        """
        Return whether the recipients changed since this batch was stored.

        :param fingerprint: of the recipients now. With another password only their number can be compared.
        :param count: their number.
        """
        is_changed = have_same_key(self.fingerprint, fingerprint) and self.fingerprint != fingerprint
        return is_changed or len(self.ids) != count

    def time_of(self, position: int) -> str | None:
        """Return when an accepted message is sent, ISO 8601 in UTC; ``None``: at once, or not stored."""
        due = self._due(position)
        return due.isoformat() if due else None

    def still_scheduled(self, now: datetime) -> dict[str, datetime | None]:
        """
        Return the accepted messages whose time is in the future, by id, with that time.

        The time is ``None`` if an older version did not store it: the message may be scheduled.
        """
        accepted = {id_: self._due(position) for position, id_ in enumerate(self.ids) if id_}
        if self.times == "not stored":
            return accepted
        return {id_: due for id_, due in accepted.items() if due and due > now}

    def results(self, rows: Sequence[int]) -> list[RowResult]:
        """
        Return what is known of each position.

        :param rows: the row number of each position.
        """
        rejected, unknown = self.rejected(), set(self.unknown)

        def result(position: int, row: int) -> RowResult:
            if omnimessage_id := self.ids[position]:
                return RowResult(row, "accepted", omnimessage_id, self.time_of(position))
            if position in unknown:
                return RowResult(row, "unknown", error=self.unknown_reason)
            if position in rejected:
                return RowResult(row, "rejected", error=rejected[position])
            return RowResult(row, "not_sent")

        return [result(position, row) for position, row in enumerate(rows[: len(self.ids)])]

    def _due(self, position: int) -> datetime | None:
        seconds = self.times[position] if isinstance(self.times, list) else self.times
        return datetime.fromtimestamp(seconds, timezone.utc) if isinstance(seconds, int) else None


def pack_times(times: Sequence[str | None]) -> list[int | None] | int | None:
    """
    Write times as :attr:`Batch.times`: small, since Airflow warns of values of 64 KB.

    :param times: of each position, ISO 8601 in UTC; ``None``: at once.
    """
    distinct: dict[str | None, int | None] = dict.fromkeys(times)
    for written in distinct:
        distinct[written] = int(datetime.fromisoformat(written).timestamp()) if written else None
    if len(distinct) <= 1:
        return next(iter(distinct.values()), None)
    return [distinct[written] for written in times]


class BulkStep(Enum):
    """What a try of a bulk send does, given what an earlier one began."""

    START = "nothing was begun: begin"
    RESUME = "it did not succeed, or this is a retry: keep what is known, and send the rest"
    REPLACE = "it succeeded and was cleared: cancel what is still scheduled, and begin again"
    FAIL = "it succeeded, and may be a retry: fail, and begin again at the next clear"


def next_bulk_step(plan: Plan | None, mark: Mark, *, at_least_once: bool) -> BulkStep:
    """
    Decide what a try of a bulk send does.

    :param plan: what is stored.
    :param mark: of this try.
    :param at_least_once: whether two messages are better than none.
    """
    if plan is None:
        return BulkStep.START
    if plan.state == "replacing":
        return BulkStep.REPLACE
    since = mark.since(plan.mark)
    if plan.state != "ended" or since is Since.RETRY:
        return BulkStep.RESUME
    return BulkStep.REPLACE if since is Since.CLEAR or at_least_once else BulkStep.FAIL


def batch_key(number: int) -> str:
    """
    Return the key of a batch. Each has its own, so that no value grows with the number of recipients.

    :param number: from 1.
    """
    return f"{KEY}.batch.{number:05}"


def fingerprint_of_recipients(numbers: Sequence[str], secret: str) -> str:
    """
    Return a keyed hash of a batch's recipients, so that two lists can be compared without storing either.

    :param numbers: each row's number and recipient.
    :param secret: the key: without it, nobody who reads the store can guess phone numbers until one fits.
    """
    key, digest = (
        hmac.new(secret.encode(), content.encode(), hashlib.sha256).hexdigest() for content in ("", "\n".join(numbers))
    )
    return f"{key[:8]}-{digest}"


def have_same_key(one: str, other: str) -> bool:
    """Return whether two fingerprints can be compared: a new password changes all of them."""
    return one.partition("-")[0] == other.partition("-")[0]


class ChangedRecipientsError(AirflowFailException):
    """
    A batch that was begun now has other recipients, so that it is unknown which of them have a message.

    :param batch: its number, from 1.
    :param row: its first row.
    """

    def __init__(self, batch: int, row: int) -> None:
        super().__init__(
            f"Batch {batch:,} (from row {row:,}) has other recipients, or another order, than when an earlier try sent "
            "it, so it is unknown who has a message already. Nothing more was sent. Provide the same recipients again "
            "and clear this task, or start a new run for the new ones"
        )


class BulkMemory:
    """
    Store a bulk send in ``task_state_store``: its plan, each batch, and the progress that Airflow's UI shows.

    :param context: the task's.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._context = context

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> BulkMemory | None:
        """Return the memory of a task; ``None`` if this Airflow has none."""
        return cls(context) if TaskMemory.of(context, KEY) is not None else None

    def plan(self) -> Plan | None:
        """Return the plan of an earlier try."""
        return Plan.read(self._at(KEY).recall())

    def keep_plan(self, plan: Plan) -> None:
        """Store the plan."""
        self._at(KEY).keep(plan.as_dict())

    def batch(self, number: int) -> Batch | None:
        """Return a stored batch, by its number from 1."""
        key = batch_key(number)
        return Batch.read(self._at(key).recall(), key)

    def keep_batch(self, number: int, batch: Batch) -> None:
        """Store a batch under its number from 1."""
        self._at(batch_key(number)).keep(batch.as_dict())

    def forget_batch(self, number: int) -> None:
        """Delete a batch, by its number from 1."""
        self._at(batch_key(number)).forget()

    def show(self, progress: dict[str, Any]) -> None:
        """Store the progress: Airflow's UI shows a task's state store while it runs."""
        self._at(PROGRESS).keep(progress)

    def _at(self, key: str) -> TaskMemory:
        return TaskMemory(self._context["task_state_store"], key)


def _stored_fields(kind: type, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError
    names = {each.name: _STORED_NAMES.get(each.name, each.name) for each in fields(kind)}
    # a missing field without a default raises when the object is built
    return {name: value[stored] for name, stored in names.items() if stored in value}


def _as_stored(record: Plan | Batch) -> dict[str, Any]:
    return {_STORED_NAMES.get(name, name): value for name, value in vars(record).items()}


def _require_numbers(mark: Mark) -> None:
    if not isinstance(mark.max_tries, int) or not all(
        isinstance(number, (int, type(None))) for number in (mark.try_number, mark.clear_number)
    ):
        raise ValueError


def _not_readable(key: str) -> InvalidInputError:
    return InvalidInputError.of(
        "task_state_store",
        f"the value of '{key}' was not written by this task; delete the keys that begin with '{KEY}', unless this task "
        "has messages that are still scheduled",
    )
