"""What a task has scheduled, across its tries and clears, and how it schedules an alert so that it surely exists.

For an alert, two are better than none. So a request whose response was lost is repeated, a few times at most; and
everything that is known to be scheduled stays known until it is cancelled.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage._compat import TaskMemory
from airflow_provider_omnimessage.api import backoff
from airflow_provider_omnimessage.api.errors import LostResponseError, OmnimessageError
from airflow_provider_omnimessage.api.timing import as_time_to_send
from airflow_provider_omnimessage.tasks.memory import Mark, MessageRecord, Since, fingerprint
from airflow_provider_omnimessage.tasks.posting import keep_trying, post

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.timing import TimeToSend
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

#: Under which a task keeps its alerts: those with a deadline, and those that ``disarm`` sent ahead of it.
ALERTS, SENT = "alerts", "sent"
#: The XCom that stands in for the store where there is none.
XCOM = "scheduled_{}"
#: Maximum number of unconfirmed requests per alert and recipient.
MOST_IN_DOUBT = 3
#: Seconds to wait for Airflow's API server before a request, if the requests have no time limit.
PATIENCE = 30.0


@dataclass(eq=False)
class Alert:
    """One alert that a task has scheduled, or was about to.

    :param recipient: a keyed fingerprint of the number.
    :param message: its record; without an id if it is unknown whether it was accepted.
    :param step: the number of the step of its escalation; 0: the alert itself.
    """

    recipient: str
    message: MessageRecord
    step: int = 0


def kept_times(value: Any) -> dict[str, str | None]:
    """Return when each alert is sent, ISO 8601, by id, from what :class:`KnownAlerts` has stored.

    :raises InvalidInputError: if it is something else; also raises ``KeyError`` and ``TypeError``.
    """
    messages = [MessageRecord.read(row) for row in value["alerts"]]
    return {found.omnimessage_id: found.time_to_send for found in messages if found and found.omnimessage_id}


class KnownAlerts:
    """The alerts that a task instance has scheduled, across its tries and clears: Airflow's task state store.

    Before Airflow 3.3 there is no such store. Without one, or if it fails, only the alerts of this try are known. An
    XCom then names them for the commands that list and cancel what is scheduled.

    :param context: Airflow's context of the running task.
    :param key: under which they are stored.
    """

    def __init__(self, context: Mapping[str, Any], key: str = ALERTS) -> None:
        self._memory = TaskMemory.of(context, key)
        self._xcom = XCOM.format(key)
        self._ti = ti = context["ti"]
        self._log = ti.task.log
        self._tags = {"dag_id": ti.dag_id, "task_id": ti.task_id}
        self._mark = Mark.of(context)
        #: Whether the last change is stored anywhere, and whether a retry will know it.
        self._is_stored = self._is_remembered = True
        self._has_waited = False
        self.alerts = self._recall()

    def ids(self) -> list[str]:
        """List what is known to have been scheduled, and not known to be cancelled."""
        return [alert.message.omnimessage_id for alert in self.alerts if alert.message.omnimessage_id]

    def times(self) -> dict[str, datetime | None]:
        """Return when each alert of :meth:`ids` is sent, by id; ``None``: not known."""
        return {
            str(alert.message.omnimessage_id): alert.message.due
            for alert in self.alerts
            if alert.message.omnimessage_id
        }

    def is_of_this_attempt(self, message: MessageRecord) -> bool:
        """Return whether this task was surely not cleared since it scheduled a message.

        If that is unsure, it counts as cleared: two alerts are better than none.
        """
        return self._mark.since(message.mark) is Since.RETRY

    def take_over(self, message: MessageRecord) -> None:
        """Keep the alert of an earlier attempt as that of this one, so that a retry knows it."""
        for alert in self.alerts:
            if alert.message is message:
                alert.message = message.marked(self._mark)
                self._keep()

    def sent_at(self) -> datetime | None:
        """Return when the alert was sent, to the first of its recipients; ``None``: not yet, as far as is known."""
        messages = [alert.message for alert in self.alerts if not alert.step and alert.message.omnimessage_id]
        # one that is sent at once has the deadline as its time, which had passed
        times = [max(message.due, datetime.fromisoformat(message.since)) for message in messages if message.due]
        return min((time for time in times if time <= datetime.now(timezone.utc)), default=None)

    def in_doubt(self) -> list[MessageRecord]:
        """List the requests for which it is unknown whether they were accepted."""
        return [alert.message for alert in self.alerts if not alert.message.omnimessage_id]

    def step_times(self) -> dict[str, str]:
        """Return when each step is sent, and each alert that a window moves: ISO 8601, by id."""
        return {
            alert.message.omnimessage_id: alert.message.time_to_send
            for alert in self.alerts
            if (alert.step or alert.message.choice) and alert.message.omnimessage_id and alert.message.time_to_send
        }

    def of(self, recipient: str, step: int = 0) -> list[MessageRecord]:
        """List what is known to have been scheduled for one recipient, the newest first.

        :param recipient: a keyed fingerprint of the number.
        :param step: the number of the step; 0: the alert itself.
        """
        found = [alert.message for alert in self.alerts if (alert.recipient, alert.step) == (recipient, step)]
        return [message for message in reversed(found) if message.omnimessage_id]

    def drop(self, which: Iterable[Alert]) -> None:
        """Forget alerts that are cancelled, or were not scheduled after all."""
        gone = list(which)
        self.alerts = [alert for alert in self.alerts if alert not in gone]
        self._keep()

    def schedule(
        self,
        hook: OmnimessageHook,
        draft: dict[str, Any],
        due: datetime,
        send_at: TimeToSend | None,
        step: int = 0,
        *,
        choice: dict[str, str | None] | None = None,
    ) -> str:
        """Schedule an alert; repeat the request if its response was lost, since two are better than none.

        :param draft: the body, without its time.
        :param due: the deadline of the work; for a step, or if a window moves the alert, its own time.
        :param send_at: when the alert is sent; ``None``: now.
        :param step: the number of the step; 0: the alert itself.
        :param choice: the wanted and the chosen time, and the reason; ``None``: no window moves the alert.
        :return: the omnimessage_id of the alert that is known.
        :raises OmnimessageError: if none is known. With ``maybe_processed``, there may be some anyway.
        """
        password = hook.settings.password
        recipient = fingerprint({"to": draft["to"]}, password)
        body = {**draft, "time_to_send": as_time_to_send(send_at.utc)} if send_at else draft
        error: OmnimessageError = LostResponseError(
            f"earlier tries of this task have made {MOST_IN_DOUBT} requests, and ended before the responses came"
        )
        while (doubts := self._doubts(recipient, step)) < MOST_IN_DOUBT:
            intent = MessageRecord(
                fingerprint=fingerprint(draft, password),
                time_to_send=due.isoformat(),
                since=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                choice=choice,
                **asdict(self._mark),
            )
            left = hook.seconds_left
            place = _Place(self, Alert(recipient, intent, step), PATIENCE if left is None else left / 2)
            try:
                posted = post(hook, body, intent, place, self._log)
                metrics.count("scheduled" if send_at else "sent", self._tags)
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
                "not scheduling another one" if is_last else "scheduling another one, since two are better than none",
            )
            if is_last:
                break
            time.sleep(pause)
        raise error

    def put(self, alert: Alert) -> None:
        """Store an alert: a new one, or one that has changed."""
        if alert not in self.alerts:
            self.alerts.append(alert)
        self._keep()

    def await_store(self, patience: float) -> None:
        """Wait for Airflow's API server before a request, once: the retry of a task that is killed must know of it.

        If nothing can be stored, the alert is scheduled anyway: one that nobody cancels is better than none.

        :param patience: seconds.
        """
        if not self._is_stored and not self._has_waited:
            self._has_waited = True
            keep_trying(self._store, "That an alert is about to be scheduled", self._log, patience=patience)

    def has_stored_nothing(self) -> bool:
        """Return whether nothing is known of earlier tries since this task was cleared last."""
        return not any(self.is_of_this_attempt(alert.message) for alert in self.alerts)

    def settle(self) -> None:
        """Store what could not be stored while it was scheduled, when nothing else is left to do.

        In an outage of Airflow's API server, this waits for it, as everything else does that the run has to do.
        """
        if not self._is_stored:
            keep_trying(self._store, f"The alerts {', '.join(self.ids())}", self._log)
        if not self._is_remembered:
            self._keep()

    def _doubts(self, recipient: str, step: int) -> int:
        """Count the unconfirmed requests to a recipient since this task was cleared last."""
        return sum(
            (alert.recipient, alert.step) == (recipient, step)
            and alert.message.omnimessage_id is None
            and self.is_of_this_attempt(alert.message)
            for alert in self.alerts
        )

    def _recall(self) -> list[Alert]:
        try:
            kept = self._memory.recall() if self._memory is not None else None
            alerts = []
            for row in kept["alerts"] if kept else []:
                message = MessageRecord.read(row)
                if message is not None:
                    alerts.append(Alert(str(row["recipient"]), message, int(row.get("step", 0))))
        except Exception as error:
            self._log.warning("The alerts that this task scheduled earlier cannot be read: %s", error)
            return []
        return alerts

    def _keep(self) -> None:
        """Store the alerts if that is possible now; if it is not, :meth:`settle` does it later."""
        try:
            self._store()
        except Exception as error:
            # the alert itself is scheduled, and must not fail because of this
            self._log.warning("The commands alerts and disarm do not list this alert: %s", error)

    def _store(self) -> None:
        """Store the alerts: in the task state store, or if there is none, or it does not respond, in an XCom.

        :raises Exception: if neither responds, as in an outage of Airflow's API server.
        """
        rows = [{"recipient": alert.recipient, "step": alert.step, **alert.message.as_dict()} for alert in self.alerts]
        value = {"alerts": rows}
        self._is_stored = False
        if self._memory is not None:
            self._is_remembered = False
            try:
                self._memory.keep(value)
                self._is_stored = self._is_remembered = True
                return
            except Exception as error:
                self._log.warning(
                    "The task state store does not respond; a retry or a clear would not know this alert: %s", error
                )
        self._ti.xcom_push(key=self._xcom, value=value)
        self._is_stored = True


class _Place:
    """One alert's place among all that a task knows.

    :param patience: seconds to wait for Airflow's API server before a request.
    """

    def __init__(self, known: KnownAlerts, alert: Alert, patience: float) -> None:
        self._known = known
        self._alert = alert
        self._patience = patience

    def keep(self, value: dict[str, Any]) -> None:
        self._alert.message = MessageRecord.read(value) or self._alert.message
        self._known.put(self._alert)
        if self._alert.message.omnimessage_id is None:
            self._known.await_store(self._patience)

    def forget(self) -> None:
        self._known.drop([self._alert])
