"""What a task remembers of its message, and what a later try of the same task is to do with it: decisions only."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Any

from airflow_provider_omnimessage.api.errors import InvalidInputError

#: Under which it is kept in ``task_state_store``. A task that was begun before an upgrade reads it after it.
KEY = "omnimessage"


@dataclass(frozen=True)
class Remembered:
    """
    A message that a task was about to post, or has posted. It holds no text, no number and no credentials.

    :param fingerprint: of the message, without its time: see :func:`fingerprint`.
    :param max_tries: the task's, when it was posted: a clear makes it grow, a retry does not.
    :param time_to_send: ISO 8601 in UTC; ``None``: at once.
    :param since: when it was about to be posted, ISO 8601 in UTC.
    :param omnimessage_id: once Messente's answer is known.
    :param message_ids: by channel, with the id.
    """

    fingerprint: str
    max_tries: int
    time_to_send: str | None
    since: str
    omnimessage_id: str | None = None
    message_ids: dict[str, str] | None = None

    @classmethod
    def read(cls, value: Any) -> Remembered | None:
        """
        Read what was kept; fields of a newer version are left out.

        :param value: from the store; ``None``: nothing.
        :raises InvalidInputError: where it is something else, as when it was edited by hand. To go on could send twice.
        """
        if value is None:
            return None
        try:
            read = cls(**{field.name: value[field.name] for field in fields(cls) if field.name in value})
            moment = None if read.time_to_send is None else datetime.fromisoformat(read.time_to_send)
            is_sound = isinstance(read.max_tries, int) and isinstance(read.omnimessage_id, (str, type(None)))
        except (TypeError, ValueError, KeyError, IndexError):
            is_sound = False
        if is_sound and (moment is None or moment.tzinfo is not None):
            return read
        raise InvalidInputError.of(
            "task_state_store",
            f"what stands there under '{KEY}' was not written by this task; delete that key, unless this task has a "
            "message that is still scheduled",
        )

    def as_dict(self) -> dict[str, Any]:
        """Write it as plain data."""
        return asdict(self)

    def waits(self, now: datetime) -> bool:
        """
        Tell whether its time is still to come.

        :param now: with a zone.
        """
        return self.time_to_send is not None and datetime.fromisoformat(self.time_to_send) > now


class Step(Enum):
    """What a try is to do."""

    POST = "nothing is known of an earlier message: post one"
    KEEP = "the message of an earlier try is known: return it"
    FAIL = "an earlier try may have posted one, and a second must not go out: fail"
    POST_AGAIN = "an earlier try may have posted one: post another all the same"
    LOOK = "the task was cleared: what became of its message decides"


def next_step(earlier: Remembered | None, max_tries: int, *, at_least_once: bool) -> Step:
    """
    Decide what a try does, from what an earlier one has left.

    :param earlier: what was kept.
    :param max_tries: the task's, now.
    :param at_least_once: whether a second message is better than none.
    """
    if earlier is None:
        return Step.POST
    is_cleared = max_tries > earlier.max_tries
    if earlier.omnimessage_id is not None:
        return Step.LOOK if is_cleared else Step.KEEP
    # Whoever clears the task has been told to look for the message first.
    return Step.POST_AGAIN if is_cleared or at_least_once else Step.FAIL


def fingerprint(omnimessage: Mapping[str, Any], secret: str) -> str:
    """
    Tell whether two messages are the same without keeping either.

    :param omnimessage: the body that is posted; its ``time_to_send`` is left out.
    :param secret: a key, so that nobody who reads the store can try numbers and texts until one fits.
    """
    body = {name: value for name, value in omnimessage.items() if name != "time_to_send"}
    written = json.dumps(body, sort_keys=True).encode()
    return hmac.new(secret.encode(), written, hashlib.sha256).hexdigest()


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


class Again(Enum):
    """What a later try of a bulk send does with what an earlier one has begun."""

    BEGIN = "nothing was begun: begin"
    GO_ON = "it did not end, or this is a retry: keep what is known, and send the rest"
    REPLACE = "it had ended with success, and was cleared: cancel what still waits, and begin anew"


def next_bulk_step(plan: Plan | None, max_tries: int) -> Again:
    """
    Decide what a try of a bulk send does.

    :param plan: what was kept.
    :param max_tries: the task's, now.
    """
    if plan is None:
        return Again.BEGIN
    if plan.state == "replacing" or (plan.state == "ended" and max_tries > plan.max_tries):
        return Again.REPLACE
    return Again.GO_ON


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


def _not_ours(key: str) -> InvalidInputError:
    return InvalidInputError.of(
        "task_state_store",
        f"what stands there under '{key}' was not written by this task; delete the keys that begin with '{KEY}', "
        "unless this task has messages that are still scheduled",
    )
