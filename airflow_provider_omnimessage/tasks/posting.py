"""
Post a message so that a later try finds it: store the intent before the request, and the id after it.

Operators and alerts share this. Where they store it, and what a later try does with it, is up to them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_omnimessage.api.errors import NotFoundError, OmnimessageError

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
    from airflow_provider_omnimessage.tasks.memory import MessageRecord


#: Seconds for which a task keeps trying to store the id of an accepted message: longer than a restart of Airflow's API
#: server takes. The SDK makes several attempts within each try.
PATIENCE = 600.0


class Place(Protocol):
    """Where one message is stored: a :class:`~airflow_provider_omnimessage._compat.TaskMemory`, or a part of one."""

    def keep(self, value: dict[str, Any]) -> None:
        """
        Store a value in place of the earlier one.

        :param value: plain data, as JSON can hold it.
        """

    def forget(self) -> None:
        """Delete the value."""


class MessageState(Enum):
    """State of a posted message."""

    SCHEDULED = "is still scheduled"
    CANCELLED = "was cancelled"
    SENT = "was sent"
    UNKNOWN = "is unknown to Messente"


def post(
    hook: OmnimessageHook, omnimessage: dict[str, Any], intent: MessageRecord, place: Place | None, log: Logger
) -> MessageRecord:
    """
    Post a message, and store the intent before and the id after. Delete the intent if nothing was processed.

    :param omnimessage: the whole body, as the hook's ``compose`` returns it.
    :param intent: the record of the message, without its id.
    :param place: where to store it; ``None``: nowhere.
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


def remember(place: Place, posted: MessageRecord, log: Logger) -> None:
    """Store the id of an accepted message, if need be by :func:`keep_trying`: a later try must know it."""
    keep_trying(lambda: place.keep(posted.as_dict()), f"omnimessage_id {posted.omnimessage_id}", log)


def keep_trying(
    store: Callable[[], object],
    what: str,
    log: Logger,
    wait: Callable[[float], object] | None = None,
    patience: float | None = None,
) -> None:
    """
    Store what was done, and keep trying for :data:`PATIENCE` seconds, an outage of Airflow's API server long.

    It does not raise, because what was done is done. Airflow may end the task before that, since heartbeats fail, too.

    :param store: stores it, or raises.
    :param what: what is stored, for the log.
    :param wait: waits some seconds; returns something true if the task is interrupted, which ends the tries.
    :param patience: other seconds.
    """
    end = time.monotonic() + (PATIENCE if patience is None else patience)
    pause = 1.0
    while True:
        try:
            store()
            return
        except Exception:
            if time.monotonic() + pause >= end:
                log.exception("%s could not be stored: a retry will not know it", what)
                return
            log.warning("%s could not be stored yet; trying again", what)
        if (wait or time.sleep)(pause):
            return
        pause = min(2 * pause, 30.0)


def forget(place: Place, log: Logger) -> None:
    """Delete the record of a message that was not posted."""
    try:
        place.forget()
    except Exception:
        # the error of the request matters more; a retry is only more careful than needed
        log.exception("Nothing was posted, but that could not be stored: a retry may assume that it was")


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
