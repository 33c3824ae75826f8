"""What a task remembers of its message, and what a later try of the same task is to do with it: decisions only."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from enum import Enum
from typing import Any

from airflow_provider_omnimessage.api.errors import InvalidInputError

#: Under which it is kept in ``task_state_store``. A task that was begun before an upgrade reads it after it.
KEY = "omnimessage"


@dataclass(frozen=True)
class MessageRecord:
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
    def read(cls, value: Any) -> MessageRecord | None:
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


class SendStep(Enum):
    """What a try is to do."""

    POST = "nothing is known of an earlier message: post one"
    KEEP = "the message of an earlier try is known: return it"
    FAIL = "an earlier try may have posted one, and a second must not go out: fail"
    POST_AGAIN = "an earlier try may have posted one: post another all the same"
    LOOK_UP = "the task was cleared: what became of its message decides"


def next_step(earlier: MessageRecord | None, max_tries: int, *, at_least_once: bool) -> SendStep:
    """
    Decide what a try does, from what an earlier one has left.

    :param earlier: what was kept.
    :param max_tries: the task's, now.
    :param at_least_once: whether a second message is better than none.
    """
    if earlier is None:
        return SendStep.POST
    is_cleared = max_tries > earlier.max_tries
    if earlier.omnimessage_id is not None:
        return SendStep.LOOK_UP if is_cleared else SendStep.KEEP
    # Whoever clears the task has been told to look for the message first.
    return SendStep.POST_AGAIN if is_cleared or at_least_once else SendStep.FAIL


def fingerprint(omnimessage: Mapping[str, Any], secret: str) -> str:
    """
    Tell whether two messages are the same without keeping either.

    :param omnimessage: the body that is posted; its ``time_to_send`` is left out.
    :param secret: a key, so that nobody who reads the store can try numbers and texts until one fits.
    """
    body = {name: value for name, value in omnimessage.items() if name != "time_to_send"}
    written = json.dumps(body, sort_keys=True).encode()
    return hmac.new(secret.encode(), written, hashlib.sha256).hexdigest()
