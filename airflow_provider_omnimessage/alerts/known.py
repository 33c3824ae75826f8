"""
What the alerts share: whom they go to, what they say, and scheduling one so that it is there.

For an alert, two are better than none. So a request whose answer was lost is made again, a few times at most; and
everything that is known to be scheduled stays known until it is cancelled.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage._compat import TaskMemory

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.timing import TimeToSend
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
    from airflow_provider_omnimessage.tasks.memory import MessageRecord

#: Requests of which nobody knows whether they were accepted, at most, for one alert to one recipient.
MOST_IN_DOUBT = 3


@dataclass(eq=False)
class Alert:
    """
    One alert that a task has scheduled, or was about to.

    :param recipient: a keyed fingerprint of the number.
    :param message: what is known of it; without an id where nobody knows whether it was accepted.
    """

    recipient: str
    message: MessageRecord


class KnownAlerts:
    """
    The alerts that a task instance has scheduled, across its tries and clears: Airflow's task state store.

    Where there is none (before Airflow 3.3), or it fails, only this try's are known, and the work goes on.

    :param context: Airflow's context of the running task.
    :param key: under which they are kept.
    """

    def __init__(self, context: Mapping[str, Any], key: str = "alerts") -> None:
        self._memory = TaskMemory.of(context, key)
        ti = context["ti"]
        self._log = ti.task.log
        self._tags = {"dag_id": ti.dag_id, "task_id": ti.task_id}
        self.max_tries = ti.max_tries
        self.alerts = self._recall()

    def ids(self) -> list[str]:
        """List what is known to have been scheduled, and not known to be cancelled."""
        return [alert.message.omnimessage_id for alert in self.alerts if alert.message.omnimessage_id]

    def in_doubt(self) -> list[MessageRecord]:
        """List the requests of which nobody knows whether they were accepted."""
        return [alert.message for alert in self.alerts if not alert.message.omnimessage_id]

    def of(self, recipient: str) -> list[MessageRecord]:
        """
        List what is known to have been scheduled for somebody, the newest first.

        :param recipient: a keyed fingerprint of the number.
        """
        found = [alert.message for alert in self.alerts if alert.recipient == recipient]
        return [message for message in reversed(found) if message.omnimessage_id]

    def drop(self, which: Iterable[Alert]) -> None:
        """
        Forget alerts.

        :param which: those that are cancelled, or were not scheduled after all.
        """
        gone = list(which)
        self.alerts = [alert for alert in self.alerts if alert not in gone]
        self._keep()

    def schedule(self, hook: OmnimessageHook, draft: dict[str, Any], due: datetime, moment: TimeToSend | None) -> str:
        """
        Schedule an alert, again where the answer was lost: two are better than none.

        :param hook: makes the calls.
        :param draft: the body, without its time.
        :param due: the deadline of the work.
        :param moment: when it is to be sent; ``None``: now.
        :return: the omnimessage_id of the one that is known.
        :raises OmnimessageError: where none is known. With ``maybe_processed``, there may be some all the same.
        """
        from airflow_provider_omnimessage import metrics
        from airflow_provider_omnimessage.api import backoff
        from airflow_provider_omnimessage.api.errors import LostResponseError, OmnimessageError
        from airflow_provider_omnimessage.api.timing import as_time_to_send
        from airflow_provider_omnimessage.tasks.memory import MessageRecord, fingerprint
        from airflow_provider_omnimessage.tasks.posting import post

        password = hook.settings.password
        recipient = fingerprint({"to": draft["to"]}, password)
        body = {**draft, "time_to_send": as_time_to_send(moment.utc)} if moment else draft
        error: OmnimessageError = LostResponseError(
            f"earlier tries of this task have made {MOST_IN_DOUBT} requests, and ended before they knew the answers"
        )
        while (doubts := self._doubts(recipient)) < MOST_IN_DOUBT:
            intent = MessageRecord(
                fingerprint=fingerprint(draft, password),
                max_tries=self.max_tries,
                time_to_send=due.isoformat(),
                since=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            )
            place = _Place(self, Alert(recipient, intent))
            try:
                posted = post(hook, body, intent, place, self._log)
                metrics.count("scheduled" if moment else "sent", self._tags)
                return str(posted.omnimessage_id)
            except OmnimessageError as failure:
                error = failure
                if not (error.maybe_processed and error.may_pass):
                    break
            pause = backoff.pause(error, doubts + 1, random.random())
            left = hook.seconds_left
            is_last = doubts + 1 >= MOST_IN_DOUBT or (left is not None and pause >= left)
            self._log.warning(
                "%s. The alert may be scheduled, but its id is unknown: %s",
                error,
                "scheduling no other one" if is_last else "scheduling another one, since two are better than none",
            )
            if is_last:
                break
            time.sleep(pause)
        raise error

    def put(self, alert: Alert) -> None:
        """
        Keep an alert.

        :param alert: a new one, or one of which more is known now.
        """
        if alert not in self.alerts:
            self.alerts.append(alert)
        self._keep()

    def _doubts(self, recipient: str) -> int:
        """Count what this task has in doubt, since it was cleared last."""
        return sum(
            alert.recipient == recipient
            and alert.message.omnimessage_id is None
            and alert.message.max_tries == self.max_tries
            for alert in self.alerts
        )

    def _recall(self) -> list[Alert]:
        from airflow_provider_omnimessage.tasks.memory import MessageRecord

        try:
            kept = self._memory.recall() if self._memory is not None else None
            alerts = []
            for row in kept["alerts"] if kept else []:
                message = MessageRecord.read(row)
                if message is not None:
                    alerts.append(Alert(str(row["recipient"]), message))
        except Exception as error:
            self._log.warning("What this task has scheduled before cannot be read: %s", error)
            return []
        return alerts

    def _keep(self) -> None:
        if self._memory is None:
            return
        rows = [{"recipient": alert.recipient, **alert.message.as_dict()} for alert in self.alerts]
        try:
            self._memory.keep({"alerts": rows})
        except Exception as error:
            self._log.warning("The task state store does not answer, and a retry would not know this alert: %s", error)


class _Place:
    """One alert's place among all that a task knows."""

    def __init__(self, known: KnownAlerts, alert: Alert) -> None:
        self._known = known
        self._alert = alert

    def keep(self, value: dict[str, Any]) -> None:
        from airflow_provider_omnimessage.tasks.memory import MessageRecord

        self._alert.message = MessageRecord.read(value) or self._alert.message
        self._known.put(self._alert)

    def forget(self) -> None:
        self._known.drop([self._alert])
