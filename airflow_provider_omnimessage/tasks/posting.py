"""
Posts a message so that a later try finds it: what is about to be posted is kept before the request, its id after it.

What the operators that send share with the alerts. What is kept where, and what a later try makes of it, is theirs.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_omnimessage.api.errors import NotFoundError, OmnimessageError

if TYPE_CHECKING:
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
    from airflow_provider_omnimessage.tasks.memory import MessageRecord


#: Seconds for which a task keeps trying to store the id of an accepted message: longer than a restart of Airflow's API
#: server takes. The SDK makes several attempts within each of them.
PATIENCE = 600.0


class Place(Protocol):
    """Where one message is remembered: a :class:`~airflow_provider_omnimessage._compat.TaskMemory`, or a part of it."""

    def keep(self, value: dict[str, Any]) -> None:
        """
        Keep a value, in place of the one before.

        :param value: what JSON can hold.
        """

    def forget(self) -> None:
        """Forget it."""


class MessageState(Enum):
    """State of a posted message."""

    SCHEDULED = "is still scheduled"
    CANCELLED = "was cancelled"
    SENT = "has gone out"
    UNKNOWN = "is unknown to Messente"


def post(
    hook: OmnimessageHook, omnimessage: dict[str, Any], intent: MessageRecord, place: Place | None, log: Any
) -> MessageRecord:
    """
    Post a message, and keep the intent before and the id after. What surely was not processed is forgotten again.

    :param hook: makes the call.
    :param omnimessage: the whole body, as the hook's ``compose`` builds it.
    :param intent: what is known of it before.
    :param place: where it is kept; ``None``: nowhere.
    :param log: of the task.
    :return: the intent, with the ids.
    :raises OmnimessageError: as the hook's ``post`` does. Where it may have been accepted, the intent stays.
    """
    if place is not None:
        place.keep(intent.as_dict())
    posted: MessageRecord | None = None
    try:
        accepted = hook.post(omnimessage)
        posted = replace(intent, omnimessage_id=accepted.omnimessage_id, message_ids=accepted.message_ids)
        # Before it is stored, so that the log names it even if the task is killed now.
        log.info("Messente has accepted it: omnimessage_id %s", accepted.omnimessage_id)
        if place is not None:
            remember(place, posted, log)
    except OmnimessageError as error:
        if place is not None and not error.maybe_processed:
            forget(place, log)
        raise
    except BaseException:
        if place is not None and posted is not None:
            with suppress(Exception):
                place.keep(posted.as_dict())
        raise
    return posted


def remember(place: Place, posted: MessageRecord, log: Any) -> None:
    """
    Store the id of an accepted message, and keep trying for :data:`PATIENCE` seconds: a later try must know it.

    It does not raise: the message was accepted, whatever becomes of its record.
    """
    end = time.monotonic() + PATIENCE
    pause = 1.0
    while True:
        try:
            place.keep(posted.as_dict())
            return
        except Exception:
            if time.monotonic() + pause >= end:
                log.exception("omnimessage_id %s could not be stored: a retry will not know it", posted.omnimessage_id)
                return
            log.warning("omnimessage_id %s could not be stored yet; trying again", posted.omnimessage_id)
        time.sleep(pause)
        pause = min(2 * pause, 30.0)


def forget(place: Place, log: Any) -> None:
    """
    Forget what was not posted after all.

    :param place: where.
    :param log: of the task.
    """
    try:
        place.forget()
    except Exception:
        # What became of the request is the news; without this, a retry is only more careful than it need be.
        log.exception("Nothing was posted, but that could not be stored: a retry may take it for a doubt")


def message_state(hook: OmnimessageHook, message: MessageRecord, now: datetime) -> MessageState:
    """Query the state of a posted message by its id.

    :raises OmnimessageError: if no response came.
    """
    from airflow_provider_omnimessage.api.delivery import Outcome

    try:
        outcome = hook.get_delivery_report(str(message.omnimessage_id)).outcome
    except NotFoundError:
        return MessageState.UNKNOWN
    if outcome is Outcome.CANCELLED:
        return MessageState.CANCELLED
    return MessageState.SCHEDULED if outcome is Outcome.IN_PROGRESS and message.waits(now) else MessageState.SENT
