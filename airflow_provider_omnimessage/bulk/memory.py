"""What a bulk send remembers of its batches across tries, and what a later try does with them."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Any

from airflow_provider_omnimessage._compat import TaskMemory
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.tasks.memory import KEY

#: Under which the progress stands. Airflow's page sorts by key: before the batches, which fill a page each.
PROGRESS = "bulk_progress"


@dataclass(frozen=True)
class Plan:
    """
    A bulk send that was begun.

    :param since: when, ISO 8601 in UTC: what a ``timedelta`` is counted from, in each of its tries.
    :param max_tries: the task's, of the try that has written this.
    :param batch_size: rows in a batch; a later try keeps to it.
    :param batches: how many there are.
    :param last_moment: when the last of its messages is sent, ISO 8601 in UTC; ``None``: all were sent at once.
    :param state: ``sending``; ``ended``: with success; ``replacing``: it ended, and a clear is cancelling it.
    """

    since: str
    max_tries: int
    batch_size: int
    batches: int
    last_moment: str | None
    state: str

    @classmethod
    def read(cls, value: Any) -> Plan | None:
        """
        Read what was kept.

        :param value: from the store; ``None``: nothing.
        :raises InvalidInputError: where it is something else. To go on could send twice.
        """
        try:
            plan = None if value is None else cls(**{field.name: value[field.name] for field in fields(cls)})
            if plan is not None:
                datetime.fromisoformat(plan.since)
        except (TypeError, ValueError, KeyError, IndexError):
            raise _not_ours(KEY) from None
        return plan


@dataclass(frozen=True)
class Batch:
    """
    A batch that was posted, or was about to be. It holds no text, no number and no credentials.

    Positions count the rows that can be sent, from 0, in the order of the batch.

    :param fingerprint: of its recipients, in their order: see :func:`fingerprint_of_recipients`.
    :param max_tries: the task's, when it was posted.
    :param at: the moment by which it was judged which times had gone by, ISO 8601 in UTC.
    :param ids: for each row the omnimessage_id, or ``None``.
    :param errors: why rows were refused: each reason with its positions.
    :param unknown: positions that may have been accepted: no answer is known.
    :param doubt: why it is not known.
    """

    fingerprint: str
    max_tries: int
    at: str
    ids: list[str | None]
    errors: dict[str, list[int]]
    unknown: list[int]
    doubt: str

    @classmethod
    def read(cls, value: Any, key: str) -> Batch | None:
        """
        Read what was kept.

        :param value: from the store; ``None``: nothing.
        :param key: under which.
        :raises InvalidInputError: where it is something else. To go on could send twice.
        """
        try:
            batch = None if value is None else cls(**{field.name: value[field.name] for field in fields(cls)})
            if batch is not None:
                datetime.fromisoformat(batch.at)
                ids = all(isinstance(id_, (str, type(None))) for id_ in batch.ids)
                if not ids or not all(0 <= position < len(batch.ids) for position in batch.unknown):
                    raise ValueError
        except (TypeError, ValueError, KeyError, IndexError):
            raise _not_ours(key) from None
        return batch

    def as_dict(self) -> dict[str, Any]:
        """Write it as plain data."""
        return asdict(self)

    def refused(self) -> dict[int, str]:
        """Give the reason for each position that was refused."""
        return {position: reason for reason, positions in self.errors.items() for position in positions}

    def to_post(self, max_tries: int, *, at_least_once: bool) -> list[int]:
        """
        Decide which rows a later try posts again: never one that is known to be accepted.

        What may have been accepted is posted again where a second message is better than none, or where the task was
        cleared, for whoever clears it has been told to look first. What was refused is, after a clear.

        :param max_tries: the task's, now.
        :param at_least_once: whether a second message is better than none.
        :return: positions.
        """
        is_cleared = max_tries > self.max_tries
        again = list(self.unknown) if is_cleared or at_least_once else []
        return sorted(again + (list(self.refused()) if is_cleared else []))


class BulkStep(Enum):
    """What a later try of a bulk send does with what an earlier one has begun."""

    START = "nothing was begun: begin"
    RESUME = "it did not end, or this is a retry: keep what is known, and send the rest"
    REPLACE = "it had ended with success, and was cleared: cancel what still waits, and begin anew"


def next_bulk_step(plan: Plan | None, max_tries: int) -> BulkStep:
    """
    Decide what a try of a bulk send does.

    :param plan: what was kept.
    :param max_tries: the task's, now.
    """
    if plan is None:
        return BulkStep.START
    if plan.state == "replacing" or (plan.state == "ended" and max_tries > plan.max_tries):
        return BulkStep.REPLACE
    return BulkStep.RESUME


def batch_key(number: int) -> str:
    """
    Name the key under which a batch is kept: one each, so that no value grows with the number of recipients.

    :param number: from 1.
    """
    return f"{KEY}.batch.{number:05}"


def fingerprint_of_recipients(numbers: Sequence[str], secret: str) -> str:
    """
    Tell whether a batch still has the same recipients without keeping them.

    :param numbers: each row's position and recipient.
    :param secret: a key, so that nobody who reads the store can try numbers until one fits.
    """
    key, digest = (
        hmac.new(secret.encode(), content.encode(), hashlib.sha256).hexdigest() for content in ("", "\n".join(numbers))
    )
    return f"{key[:8]}-{digest}"


def are_of_one_key(one: str, other: str) -> bool:
    """
    Tell whether two fingerprints of recipients can be compared: a new password makes all of them others.

    :param one: of :func:`fingerprint_of_recipients`.
    :param other: of the same.
    """
    return one.partition("-")[0] == other.partition("-")[0]


class BulkMemory:
    """
    What a bulk send keeps in ``task_state_store``: its plan, each batch, and how far it is, for people to look at.

    :param context: the task's.
    """

    def __init__(self, context: Mapping[str, Any]) -> None:
        self._context = context

    @classmethod
    def of(cls, context: Mapping[str, Any]) -> BulkMemory | None:
        """
        Find a task's memory; ``None`` where this Airflow has none.

        :param context: the task's.
        """
        return cls(context) if TaskMemory.of(context, KEY) is not None else None

    def plan(self) -> Plan | None:
        """Recall the plan of an earlier try."""
        return Plan.read(self._at(KEY).recall())

    def keep_plan(self, plan: Plan) -> None:
        """
        Keep the plan.

        :param plan: the present one.
        """
        self._at(KEY).keep(dict(vars(plan)))

    def batch(self, number: int) -> Batch | None:
        """
        Recall a batch.

        :param number: from 1.
        """
        key = batch_key(number)
        return Batch.read(self._at(key).recall(), key)

    def keep_batch(self, number: int, batch: Batch) -> None:
        """
        Keep a batch.

        :param number: from 1.
        :param batch: what is known of it.
        """
        self._at(batch_key(number)).keep(batch.as_dict())

    def forget_batch(self, number: int) -> None:
        """
        Forget a batch.

        :param number: from 1.
        """
        self._at(batch_key(number)).forget()

    def show(self, progress: dict[str, Any]) -> None:
        """
        Let people see how far it is: Airflow's UI shows a task's state store while it runs.

        :param progress: plain data.
        """
        self._at(PROGRESS).keep(progress)

    def _at(self, key: str) -> TaskMemory:
        memory = TaskMemory.of(self._context, key)
        assert memory is not None
        return memory


def _not_ours(key: str) -> InvalidInputError:
    return InvalidInputError.of(
        "task_state_store",
        f"what stands there under '{key}' was not written by this task; delete the keys that begin with '{KEY}', "
        "unless this task has messages that are still scheduled",
    )
