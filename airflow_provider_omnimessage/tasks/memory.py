"""What a task remembers about its message, and what a later try does about it: decisions only, no I/O."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage.api.errors import InvalidInputError

if TYPE_CHECKING:
    from airflow.sdk import Context

#: The key in ``task_state_store``. A task that starts before an upgrade reads it after the upgrade.
KEY = "omnimessage"


class Since(Enum):
    """What happened to a task between an earlier try and this one."""

    RETRY = "the task was not cleared"
    CLEAR = "the task was cleared"
    UNSURE = "something in the run was cleared: this task or another one"


@dataclass(frozen=True)
class Mark:
    """
    The numbers by which a later try recognizes that the task was cleared, whatever became of ``retries``.

    Airflow changes them as follows:

    - ``try_number`` grows with each try.
    - ``max_tries`` changes only with a clear of this task, to ``try_number + retries``. It stays the same if
      ``retries`` was lowered by just as much, or if the task is cleared while it runs.
    - ``clear_number`` of the run grows with each clear of any of its tasks.

    :param try_number: ``None`` in a record that an older version wrote. So is ``clear_number``.
    """

    max_tries: int
    try_number: int | None = None
    clear_number: int | None = None

    @classmethod
    def of(cls, context: Context | Mapping[str, Any]) -> Mark:
        """Return the mark of the running try."""
        ti = context["ti"]
        return cls(
            max_tries=ti.max_tries,
            try_number=getattr(ti, "try_number", None),
            clear_number=getattr(context.get("dag_run"), "clear_number", None),
        )

    def since(self, earlier: Mark) -> Since:
        """
        Return what happened between an earlier try and the try of this mark.

        A clear by Airflow's API with ``reset_dag_runs=False`` does not change ``clear_number``. If ``max_tries`` stays
        the same as well, such a clear looks like a retry.
        """
        if self.max_tries != earlier.max_tries:
            return Since.CLEAR
        if None in (self.clear_number, earlier.clear_number, self.try_number, earlier.try_number):
            return Since.RETRY
        if self.clear_number == earlier.clear_number:
            return Since.RETRY
        # Airflow retries a try only if its number is not above max_tries.
        assert self.try_number is not None
        return Since.CLEAR if self.try_number - 1 > self.max_tries else Since.UNSURE


@dataclass(frozen=True)
class MessageRecord:
    """
    A message that a task was about to post, or has posted. It holds no text, no number and no credentials.

    :param fingerprint: of the message, without its time: see :func:`fingerprint`.
    :param max_tries: with ``try_number`` and ``clear_number``, the :class:`Mark` of the try that wrote the record.
    :param time_to_send: ISO 8601 in UTC; ``None``: sent at once.
    :param since: when it was about to be posted, ISO 8601 in UTC.
    :param omnimessage_id: ``None`` until Messente's response is known.
    :param message_ids: by channel.
    :param reported: whether a task has failed because it is unknown if the message was accepted, and said so.
    :param choice: the wanted and the chosen time, and why they differ; ``None``: no window or recipient's zone counted.
    """

    fingerprint: str
    max_tries: int
    time_to_send: str | None
    since: str
    omnimessage_id: str | None = None
    message_ids: dict[str, str] | None = None
    try_number: int | None = None
    clear_number: int | None = None
    reported: bool = False
    choice: dict[str, str | None] | None = None

    @classmethod
    def read(cls, value: object) -> MessageRecord | None:
        """
        Read a stored value; ignore fields that a newer version wrote.

        :param value: from the store; ``None``: nothing is stored.
        :raises InvalidInputError: if it is something else, such as a value edited by hand. Going on could send twice.
        """
        if value is None:
            return None
        try:
            if not isinstance(value, Mapping):
                raise TypeError
            read = cls(**{field.name: value[field.name] for field in fields(cls) if field.name in value})
            time = None if read.time_to_send is None else datetime.fromisoformat(read.time_to_send)
            is_sound = all(
                isinstance(number, (int, type(None))) for number in (read.try_number, read.clear_number)
            ) and (isinstance(read.max_tries, int) and isinstance(read.omnimessage_id, (str, type(None))))
        except (TypeError, ValueError, KeyError, IndexError):
            is_sound = False
        if is_sound and (time is None or time.tzinfo is not None):
            return read
        raise InvalidInputError.of(
            "task_state_store",
            f"the value under '{KEY}' was not written by this task; delete that key, unless this task has a message "
            "that is still scheduled",
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return asdict(self)

    @property
    def mark(self) -> Mark:
        """The mark of the try that wrote the record."""
        return Mark(self.max_tries, self.try_number, self.clear_number)

    def marked(self, mark: Mark) -> MessageRecord:
        """Return the record with the mark of another try."""
        return replace(self, **asdict(mark))

    @property
    def due(self) -> datetime | None:
        """The ``time_to_send``; ``None``: sent at once."""
        return None if self.time_to_send is None else datetime.fromisoformat(self.time_to_send)

    def waits(self, now: datetime) -> bool:
        """Return whether ``time_to_send`` is in the future."""
        return self.due is not None and self.due > now


class SendStep(Enum):
    """What a try does about the message of an earlier try."""

    POST = "nothing is known about an earlier message: post one"
    KEEP = "the message of an earlier try is known: return it"
    FAIL = "an earlier try may have posted one, and a second must not be sent: fail"
    POST_AGAIN = "an earlier try may have posted one: post another anyway"
    LOOK_UP = "the task may have been cleared: the state of its message decides"


def next_step(earlier: MessageRecord | None, mark: Mark, *, at_least_once: bool) -> SendStep:
    """
    Decide what a try does, from the record of an earlier try.

    :param mark: of this try.
    :param at_least_once: whether a second message is better than none.
    """
    if earlier is None:
        return SendStep.POST
    since = mark.since(earlier.mark)
    if earlier.omnimessage_id is not None:
        return SendStep.KEEP if since is Since.RETRY else SendStep.LOOK_UP
    # Only a person who was told to look for the message first may have it posted again.
    is_confirmed = since is Since.CLEAR and earlier.reported
    return SendStep.POST_AGAIN if is_confirmed or at_least_once else SendStep.FAIL


def fingerprint(omnimessage: Mapping[str, Any], secret: str) -> str:
    """
    Return a value by which two messages are recognized as the same, without storing either.

    :param omnimessage: the body that is posted; its ``time_to_send`` is left out.
    :param secret: a key, so that nobody who reads the store can try numbers and texts until one fits.
    """
    body = {name: value for name, value in omnimessage.items() if name != "time_to_send"}
    written = json.dumps(body, sort_keys=True).encode()
    return hmac.new(secret.encode(), written, hashlib.sha256).hexdigest()
