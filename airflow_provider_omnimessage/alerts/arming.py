"""The two tasks of a dead man's switch: ``arm`` schedules the alert, ``disarm`` cancels it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_omnimessage._compat import (
    AirflowFailException,
    BaseOperator,
    task_states,
)
from airflow_provider_omnimessage.alerts.known import KnownAlerts, recipients
from airflow_provider_omnimessage.alerts.late_starts import silent_because
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.links import OmnimessageLink
from airflow_provider_omnimessage.tasks.failures import task_failures
from airflow_provider_omnimessage.tasks.rendering import PlainStrings

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.timing import TimeToSend
    from airflow_provider_omnimessage.tasks.posting import MessageState


DONE = frozenset({"success", "skipped", "removed"})
"""States that work may end in without being late: what is skipped is not late."""


class _Alert(PlainStrings, BaseOperator):
    """What arming and disarming have in common: the alert, and whom it goes to."""

    template_fields: Sequence[str] = ("to", "messages", "dlr_url", "text_store", "priority", "omnimessage_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"messages": "json"}
    operator_extra_links = (OmnimessageLink(),)

    def __init__(
        self,
        *,
        to: Any,
        messages: Any,
        dlr_url: str | None,
        text_store: str | None,
        priority: str | None,
        omnimessage_conn_id: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.to = to
        self.messages = messages
        self.dlr_url = dlr_url
        self.text_store = text_store
        self.priority = priority
        self.omnimessage_conn_id = omnimessage_conn_id
        self._unrendered: Exception | None = None

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render; an error waits for :meth:`execute`, which knows what it may stop."""
        try:
            super().render_template_fields(context, jinja_env)
        except Exception as error:
            self._unrendered = error

    def _compose(self, hook: OmnimessageHook, to: str) -> dict[str, Any]:
        return hook.compose(to, self.messages, dlr_url=self.dlr_url, text_store=self.text_store, priority=self.priority)

    def _recipients(self) -> list[str]:
        return recipients(self.to)


class ArmDeadMansSwitchOperator(_Alert):
    """
    Schedule the alert of a :class:`DeadMansSwitch`, which makes this task: ``POST /omnimessage`` per recipient.

    XCom: the ids of the alerts; ``time_to_send`` (UTC, ISO 8601). What was scheduled is also kept in the task's state
    store (Airflow 3.3), so that a retry or a cleared task finds its own alerts again: one that still waits for the same
    moment is kept, any other is replaced, and one that has gone out is not repeated. All that is known and not
    cancelled is in the XCom, whatever else fails: the disarming cancels it.

    A request whose answer was lost is made again, two more times at most: two alerts are better than none.

    :param time_to_send: the deadline, in every form that the schedule operator takes. (templated)
    :param timezone: IANA name for a ``time_to_send`` without an offset. (templated)
    :param required: fail where the alert cannot be scheduled, and so keep the work from running.
    :param guarded: the ids of the tasks with which the work begins.
    """

    template_fields: Sequence[str] = (*_Alert.template_fields, "time_to_send", "timezone")
    ui_color = "#e3f0ff"

    def __init__(
        self, *, time_to_send: Any, timezone: str | None, required: bool, guarded: Iterable[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.time_to_send = time_to_send
        self.timezone = timezone
        self.required = required
        self.guarded = list(guarded)

    def execute(self, context: Mapping[str, Any]) -> list[str]:
        """Schedule what is missing, and return the ids of this run's alerts."""
        known = KnownAlerts(context)
        ti = context["ti"]
        try:
            if self.guarded and set(_states(context, self.guarded).values()) == {"skipped"}:
                self.log.info("The whole group is skipped, and what is skipped is not late: no alert is scheduled")
                return known.ids()
            if not self.required and ti.try_number > max(1, ti.max_tries):
                raise _Ended("all tries but this last one were ended from outside, so this one leaves it at that")
            if self._unrendered is not None:
                raise self._unrendered
            self._arm(context, known)
        except Exception as error:
            if self.required:
                with task_failures("Look for the alert in Messente's dashboard, then clear this task"):
                    raise
            if not known.ids():
                self.log.error(
                    "THE ALERT IS NOT SCHEDULED, as far as is known, and the work runs without it; required=True would "
                    "stop it instead. %s: %s",
                    type(error).__name__,
                    error,
                )
            else:
                self.log.error("The alert of an earlier try or run of this task stands: %s", error)
        self._tell_doubts(known)
        return known.ids()

    def _tell_doubts(self, known: KnownAlerts) -> None:
        for message in known.in_doubt():
            if message.waits(_now()):
                self.log.warning(
                    "An alert may have been scheduled at %s of which nobody knows the id. If it was, it goes out at "
                    "%s, even if the work is done by then: look for it in Messente's dashboard",
                    message.since,
                    message.time_to_send,
                )

    def _arm(self, context: Mapping[str, Any], known: KnownAlerts) -> None:
        from airflow_provider_omnimessage.api.masking import mask_number

        problems: list[Exception] = []
        wanted: list[str] = []
        with OmnimessageHook(self.omnimessage_conn_id) as hook:
            moment = self._moment(hook, known)
            context["ti"].xcom_push(key="time_to_send", value=moment.utc.isoformat())
            until = time.monotonic() + hook.settings.deadline
            for to in self._recipients():
                try:
                    if problems and time.monotonic() > until:
                        raise _Ended(f"nobody answered for {hook.settings.deadline:g} seconds, and the work waits")
                    omnimessage_id = self._arm_for(to, moment, hook, known, context)
                except Exception as error:
                    self.log.error("No alert for %s: %s", mask_number(to), error)
                    problems.append(error)
                else:
                    wanted += [omnimessage_id] if omnimessage_id else []
            if not problems:
                # where one could not be scheduled, the one that it was to replace is better than none
                self._cancel_others(wanted, hook, known)
        if problems and (self.required or not wanted):
            raise problems[0]

    def _moment(self, hook: OmnimessageHook, known: KnownAlerts) -> TimeToSend:
        """Tell the deadline. A retry keeps that of the first try: a timedelta would begin anew."""
        for alert in known.alerts:
            if alert.message.max_tries == known.max_tries and alert.message.time_to_send:
                return hook.resolve_time_to_send(alert.message.time_to_send)
        return hook.resolve_time_to_send(self.time_to_send, timezone=self.timezone)

    def _arm_for(
        self, to: str, moment: TimeToSend, hook: OmnimessageHook, known: KnownAlerts, context: Mapping[str, Any]
    ) -> str | None:
        from airflow_provider_omnimessage.api.masking import mask_number
        from airflow_provider_omnimessage.tasks.memory import fingerprint
        from airflow_provider_omnimessage.tasks.posting import MessageState

        draft = self._compose(hook, to)
        password = hook.settings.password
        earlier = known.of(fingerprint({"to": draft["to"]}, password))
        if moment.utc > _now():
            for message in earlier:
                is_retry = message.max_tries == known.max_tries
                is_same = message.fingerprint == fingerprint(draft, password)
                if is_same and (
                    is_retry
                    or (
                        message.time_to_send == moment.utc.isoformat()
                        and self._state(hook, message) is MessageState.SCHEDULED
                    )
                ):
                    self.log.info("The alert to %s is scheduled already: %s", mask_number(to), message.omnimessage_id)
                    return message.omnimessage_id
            omnimessage_id = known.schedule(hook, draft, moment.utc, moment)
            self.log.info(
                "The alert to %s goes out at %s unless it is cancelled: %s", mask_number(to), moment, omnimessage_id
            )
            return omnimessage_id
        if earlier:
            state = self._state(hook, earlier[0])
            self.log.warning(
                "%s has gone by; the alert of this run, %s, %s, and is not repeated",
                moment,
                earlier[0].omnimessage_id,
                state.value if state else "may have gone out",
            )
            return earlier[0].omnimessage_id
        reason = silent_because(context, moment.utc, _now())
        if reason:
            self.log.info("%s has gone by, and nobody is alerted: %s", moment, reason)
            return None
        omnimessage_id = known.schedule(hook, draft, moment.utc, None)
        self.log.warning(
            "%s had gone by before the work began: the alert to %s goes out now: %s",
            moment,
            mask_number(to),
            omnimessage_id,
        )
        return omnimessage_id

    def _state(self, hook: OmnimessageHook, message: Any) -> MessageState | None:
        from airflow_provider_omnimessage.api.errors import OmnimessageError
        from airflow_provider_omnimessage.tasks.posting import message_state

        try:
            return message_state(hook, message, _now())
        except OmnimessageError as error:
            self.log.warning("What became of %s could not be found out: %s", message.omnimessage_id, error)
            return None

    def _cancel_others(self, wanted: Sequence[str], hook: OmnimessageHook, known: KnownAlerts) -> None:
        """Cancel what is replaced: after its successor is scheduled, so that there is no moment without an alert."""
        from airflow_provider_omnimessage.api.errors import OmnimessageError

        gone = []
        for alert in known.alerts:
            omnimessage_id = alert.message.omnimessage_id
            if not omnimessage_id or omnimessage_id in wanted:
                continue
            if alert.message.waits(_now()):
                try:
                    cancellation = hook.try_to_cancel(omnimessage_id)
                except OmnimessageError as error:
                    self.log.error(
                        "The alert %s that was replaced is still scheduled; the disarming tries again: %s",
                        omnimessage_id,
                        error,
                    )
                    continue
                self.log.info("%s, which was replaced, %s", omnimessage_id, cancellation)
            gone.append(alert)
        if gone:
            known.drop(gone)


class _Ended(Exception):
    """What keeps the arming from going on, although nothing is wrong with the alert."""


class DisarmDeadMansSwitchOperator(_Alert):
    """
    Cancel the alert of a :class:`DeadMansSwitch`, which makes this task: ``DELETE /omnimessage/{omnimessage_id}``.

    It runs when all work has ended. Where a task of it has failed, the alert stands, and this task fails to say so:
    as a teardown it leaves the run's state alone, and clearing the failed tasks of a run clears it, too.

    :param omnimessage_id: the ids that arming returned. (templated)
    :param arm_id: the id of the task that arms.
    :param work: the ids of the tasks that must have succeeded or been skipped.
    :param on_failure: ``"wait"`` or ``"send_now"``.
    """

    # the ids first: what else fails to render must not keep them from being cancelled
    template_fields: Sequence[str] = ("omnimessage_id", *_Alert.template_fields)
    ui_color = "#ffeee3"

    def __init__(
        self,
        *,
        omnimessage_id: Any,
        arm_id: str,
        work: Iterable[str] = (),
        on_failure: Literal["wait", "send_now"],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.arm_id = arm_id
        self.omnimessage_id = omnimessage_id
        self.work = list(work)
        self.on_failure = on_failure

    def execute(self, context: Mapping[str, Any]) -> list[str]:
        """Cancel the alert, or let it stand, and return the ids that are cancelled now."""
        if self._unrendered is not None and not isinstance(self.omnimessage_id, (list, tuple, type(None))):
            raise self._unrendered
        ids = [str(item) for item in self.omnimessage_id or ()]
        undone = {task: state for task, state in _states(context, self.work).items() if state not in DONE}
        if undone:
            reason = ", ".join(f"{task} is {state}" for task, state in sorted(undone.items())[:5])
            if self.on_failure == "send_now":
                self._send_now(context, ids)
                raise AirflowFailException(f"The work is not done ({reason}): the alert has gone out")
            raise AirflowFailException(
                f"The work is not done ({reason}): the alert stands and goes out at its time; "
                "a repaired run still cancels it"
                if ids
                else f"The work is not done ({reason}), and no alert was scheduled"
            )
        if not ids:
            self.log.info("There is no alert to cancel")
            return []
        return self._disarm(ids)

    def _disarm(self, ids: list[str]) -> list[str]:
        cancelled: list[str] = []
        unanswered: list[Exception] = []
        with task_failures(), OmnimessageHook(self.omnimessage_conn_id) as hook:
            for omnimessage_id in ids:
                self._cancel(omnimessage_id, hook, cancelled, unanswered)
            if unanswered:
                raise unanswered[0]
        return cancelled

    def _cancel(
        self, omnimessage_id: str, hook: OmnimessageHook, cancelled: list[str], unanswered: list[Exception]
    ) -> None:
        from airflow_provider_omnimessage import metrics
        from airflow_provider_omnimessage.api.delivery import CancelResult
        from airflow_provider_omnimessage.api.errors import OmnimessageError

        try:
            cancellation = hook.try_to_cancel(omnimessage_id)
        except OmnimessageError as error:
            # the others are to be cancelled all the same
            self.log.warning("%s is not cancelled yet: %s", omnimessage_id, error)
            unanswered.append(error)
            return
        if cancellation.is_cancelled:
            if cancellation.result is CancelResult.CANCELLED:
                metrics.count("cancelled", {"dag_id": self.dag_id, "task_id": self.task_id})
            cancelled.append(omnimessage_id)
            self.log.info("Done in time: the alert %s is cancelled", omnimessage_id)
        elif cancellation.result is CancelResult.ALREADY_SENT:
            self.log.warning("Done, but late: the alert %s has already gone out", omnimessage_id)
        else:
            self.log.warning("The alert %s %s", omnimessage_id, cancellation)

    def _send_now(self, context: Mapping[str, Any], ids: list[str]) -> None:
        """Send, then cancel what waits: were it the other way round, a crash in between would leave silence."""
        from airflow_provider_omnimessage.api.masking import mask_number
        from airflow_provider_omnimessage.tasks.memory import fingerprint

        if self._unrendered is not None:
            raise AirflowFailException(f"The alert stands and goes out at its time: {self._unrendered}")
        moment = self._moment(context)
        if ids and moment is not None and moment <= _now():
            self.log.info("The alert has already gone out: %s", ", ".join(ids))
            return
        # for these ids, of these alerts: another arming, another alert
        sent = KnownAlerts(context, f"sent-{_print_of(ids)}")
        problems: list[Exception] = []
        with task_failures("The alert that is scheduled stands"), OmnimessageHook(self.omnimessage_conn_id) as hook:
            for to in self._recipients():
                try:
                    draft = self._compose(hook, to)
                    before = sent.of(fingerprint({"to": draft["to"]}, hook.settings.password))
                    if any(ids or message.max_tries == sent.max_tries for message in before):
                        continue
                    omnimessage_id = sent.schedule(hook, draft, _now(), None)
                except Exception as error:
                    # the others are to hear of it all the same
                    self.log.error("No alert for %s: %s", mask_number(to), error)
                    problems.append(error)
                else:
                    self.log.warning("The alert to %s goes out now: %s", mask_number(to), omnimessage_id)
            if problems:
                raise problems[0]
            for item in ids:
                self.log.info("%s %s", item, hook.try_to_cancel(item))

    def _moment(self, context: Mapping[str, Any]) -> datetime | None:
        ti = context["ti"]
        value = ti.xcom_pull(task_ids=self.arm_id, key="time_to_send", map_indexes=ti.map_index)
        return datetime.fromisoformat(value) if isinstance(value, str) else None


def _states(context: Mapping[str, Any], task_ids: Sequence[str]) -> dict[str, Any]:
    """Ask Airflow how the given tasks of this run have ended, those of its own map index where it is mapped."""
    ti = context["ti"]
    own_index = ti.map_index if ti.map_index is not None and ti.map_index >= 0 else None
    return {
        task: str(getattr(state, "value", state)) if state is not None else "not done"
        for task, state in task_states(ti, task_ids, own_index).items()
    }


def _rule(task: Any) -> str:
    return str(getattr(task.trigger_rule, "value", task.trigger_rule))


def _print_of(ids: Sequence[str]) -> str:
    import hashlib

    return hashlib.sha256(" ".join(ids).encode()).hexdigest()[:16]


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _invalid(field: str, reason: str) -> Exception:
    from airflow_provider_omnimessage.api.errors import InvalidInputError

    return InvalidInputError.of(field, reason)
