"""The task ``arm`` of a dead man's switch, which schedules the alert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage._compat import AirflowFailException
from airflow_provider_omnimessage.alerts.alert_task import AlertTask, first_that_may_pass, now
from airflow_provider_omnimessage.alerts.deadlines import Deadline, due_time
from airflow_provider_omnimessage.alerts.late_starts import silent_because
from airflow_provider_omnimessage.alerts.next_run import cancel_next_run_alert
from airflow_provider_omnimessage.alerts.planning import PlannedNotice, moved_alert
from airflow_provider_omnimessage.alerts.work import work_states
from airflow_provider_omnimessage.api.errors import OmnimessageError
from airflow_provider_omnimessage.api.masking import mask_number
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.tasks.failures import task_failures

if TYPE_CHECKING:
    from airflow_provider_omnimessage.alerts.known import KnownAlerts
    from airflow_provider_omnimessage.alerts.xcoms import XComs
    from airflow_provider_omnimessage.api.timing import TimeToSend
    from airflow_provider_omnimessage.tasks.memory import MessageRecord
    from airflow_provider_omnimessage.tasks.posting import MessageState


class ArmDeadMansSwitchOperator(AlertTask):
    """
    Schedule the alert of a :class:`DeadMansSwitch`, which makes this task: ``POST /omnimessage`` per recipient.

    XCom: the ids of the alerts and of the steps of their escalation; ``time_to_send``, the deadline (UTC, ISO 8601);
    ``step_times``, by id, of the steps and of alerts that a window moves; ``time_choice``, if a window moves the alert:
    its ``wanted`` and its ``chosen`` time, and the ``reason``; ``silent``, the reason why nobody is alerted. What was
    scheduled is also kept in the task's state store (Airflow 3.3), so that a retry or a cleared task finds its own
    alerts again: one that is still scheduled for the same time is kept, any other is replaced, and one that was sent
    is not repeated. The XCom holds all that is known and not cancelled, whatever else fails: ``disarm`` cancels it.

    A request whose response was lost is repeated, twice at most: two alerts are better than none. All requests together
    take no longer than the connection's ``deadline``. If an alert cannot be scheduled, this task is shown as failed; it
    is a teardown, so the work runs, and the state of the run is that of the work.

    The parameters of the deadline are those of the switch.

    :param required: whether the work must not run if the alert cannot be scheduled.
    :param next_run_variable: name of the Airflow Variable with the alert that waits for this run; ``None``: there is
        none.
    """

    template_fields: Sequence[str] = (*AlertTask.template_fields, "by", "within", "time_to_send", "days")
    ui_color = "#e3f0ff"

    def __init__(
        self,
        *,
        by: Any,
        within: Any,
        time_to_send: Any,
        days: Any,
        required: bool,
        disarm_id: str,
        next_run_variable: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.by = by
        self.within = within
        self.time_to_send = time_to_send
        self.days = days
        self.required = required
        self.disarm_id = disarm_id
        self.may_stop_work = required
        self.next_run_variable = next_run_variable

    def _execute(self, context: Mapping[str, Any]) -> list[str]:
        """Schedule what is missing, and return the ids of this run's alerts."""
        from airflow_provider_omnimessage.alerts.known import KnownAlerts
        from airflow_provider_omnimessage.alerts.xcoms import XComs

        known = KnownAlerts(context)
        ti = context["ti"]
        xcoms = XComs(ti, self.log)
        failure: Exception | None = None
        try:
            if not self.required and ti.try_number > max(1, ti.max_tries):
                self._accept_earlier_tries(known)
            elif ti.try_number > 1 and self._is_disarmed(ti):
                self.log.info("The work of this run is done, and %s was not cleared: no alert", self.disarm_id)
            elif self._unrendered is not None:
                raise self._unrendered
            else:
                if ti.try_number > ti.max_tries - self.retries + 1 and known.has_stored_nothing():
                    self.log.warning(
                        "No earlier try of this task has stored anything. If the log of one names an omnimessage_id, "
                        "that alert may have been scheduled, and is sent even if the work is done by then: cancel it"
                    )
                self._arm(context, known, xcoms)
        except Exception as error:
            failure = error
        self._log_doubts(known)
        steps = known.step_times()
        if steps:
            xcoms.push("step_times", steps)
        if failure is not None:
            # a task that fails returns nothing, and disarm must know what is scheduled
            xcoms.push("return_value", known.ids())
        known.settle()
        xcoms.settle()
        if failure is not None:
            self._fail(failure, known)
        return known.ids()

    def _is_disarmed(self, ti: Any) -> bool:
        """Return whether only this task was cleared after the work was done: nothing would cancel a new alert."""
        try:
            return work_states(ti, [self.disarm_id])[self.disarm_id, -1] == "success"
        except Exception as error:
            # an alert too many is better than none
            self.log.warning("The state of %s is unknown: %s", self.disarm_id, error)
            return False

    def _accept_earlier_tries(self, known: KnownAlerts) -> None:
        """Return what earlier tries have scheduled: each of them was killed, so its result is lost."""
        if not known.ids():
            raise RuntimeError(
                "all tries but the last one were killed or could not start, and none had scheduled an alert"
            )
        self.log.warning("Earlier tries were killed; keeping the alert that one of them scheduled")

    def _fail(self, failure: Exception, known: KnownAlerts) -> NoReturn:
        """Show this task as failed. The work runs anyway unless the alert is required."""
        if self.required:
            with task_failures("Look for the alert in Messente's dashboard, then clear this task"):
                raise failure
        metrics.count("not_armed", self._tags)
        reason = f"{type(failure).__name__}: {failure}"
        if known.ids():
            self.log.error("Not all alerts are scheduled; %s stay scheduled. %s", ", ".join(known.ids()), reason)
            raise AirflowFailException(f"Not all alerts are scheduled: {failure}") from failure
        self.log.error(
            "THE ALERT IS NOT SCHEDULED (as far as is known); the work runs without it. "
            "Set required=True to stop the work instead. %s",
            reason,
        )
        raise AirflowFailException(f"The alert is not scheduled: {failure}") from failure

    def _log_doubts(self, known: KnownAlerts) -> None:
        for message in known.in_doubt():
            if message.waits(now()):
                self.log.warning(
                    "An alert whose id is unknown may have been scheduled at %s. If it was, it is sent at %s, even if "
                    "the work is done by then: look for it in Messente's dashboard",
                    message.since,
                    message.time_to_send,
                )

    def _arm(self, context: Mapping[str, Any], known: KnownAlerts, xcoms: XComs) -> None:
        with (
            OmnimessageHook(self.omnimessage_conn_id) as hook,
            # one budget for all requests: the work waits for them
            hook.within(hook.settings.deadline),
        ):
            deadline = self._deadline(context, hook, known)
            xcoms.push("time_to_send", deadline.utc.isoformat())
            pending, problems = self._plan(hook, deadline, known.sent_at())
            moved = moved_alert(pending)
            if moved is not None:
                xcoms.push("time_choice", moved.as_dict())
            wanted: list[str] = []
            run_is_guarded = False
            while pending:
                planned = pending.pop(0)
                # a request that hangs must not use up the time of those that follow
                share = (hook.seconds_left or 0.0) / (len(pending) + 1)
                try:
                    with hook.within(share):
                        omnimessage_id = self._arm_for(planned, deadline, hook, known, context, xcoms)
                        wanted += [omnimessage_id] if omnimessage_id else []
                        if omnimessage_id and not planned.notice.number and not run_is_guarded:
                            # one recipient is enough: what fails after that must not cause a false alarm
                            run_is_guarded = True
                            self._end_wait_for_this_run(context, hook)
                except Exception as error:
                    self.log.error("No %s for %s: %s", planned.notice, mask_number(planned.to), error)
                    problems.append(error)
            if not problems:
                # an alert that could not be replaced is better than none
                self._cancel_others(wanted, hook, known)
                if not run_is_guarded:
                    self._end_wait_for_this_run(context, hook)
        if problems:
            raise first_that_may_pass(problems)

    def _end_wait_for_this_run(self, context: Mapping[str, Any], hook: OmnimessageHook) -> None:
        """Cancel the alert that waited for this run; an error is logged only."""
        if self.next_run_variable is not None:
            cancel_next_run_alert(context, hook, self.next_run_variable, self.log, self._tags)

    def _deadline(self, context: Mapping[str, Any], hook: OmnimessageHook, known: KnownAlerts) -> TimeToSend:
        """Return the deadline of the run. A retry keeps that of the first try: a timedelta would start again."""
        for alert in known.alerts:
            if not alert.step and known.is_of_this_attempt(alert.message) and alert.message.time_to_send:
                choice = alert.message.choice or {}
                return hook.resolve_time_to_send(choice.get("wanted") or alert.message.time_to_send)
        due = due_time(context, now())
        wanted = Deadline(self.by, self.within, self.time_to_send, self.days, self.timezone)
        deadline = wanted.resolve(due, now(), hook.settings.timezone)
        self.log.info("The run was due at %s UTC; its deadline (%s) is %s", f"{due:%Y-%m-%d %H:%M}", wanted, deadline)
        if deadline.warning:
            self.log.warning(deadline.warning)
        if deadline.utc <= due:
            self.log.error(
                "The deadline %s is not after the time at which the run was due (%s UTC), so such runs alert at once; "
                "use by= or within=",
                deadline,
                f"{due:%Y-%m-%d %H:%M}",
            )
        return deadline

    def _arm_for(
        self,
        planned: PlannedNotice,
        deadline: TimeToSend,
        hook: OmnimessageHook,
        known: KnownAlerts,
        context: Mapping[str, Any],
        xcoms: XComs,
    ) -> str | None:
        from airflow_provider_omnimessage.tasks.memory import fingerprint

        notice, to, time = planned.notice, planned.to, planned.time
        draft = self._compose(hook, to, messages=notice.messages)
        password = hook.settings.password
        earlier = known.of(fingerprint({"to": draft["to"]}, password), notice.number)
        at = time.chosen if time.chosen and time.chosen.utc > now() else None
        if at is not None:
            kept = self._still_scheduled(earlier, fingerprint(draft, password), at, hook, known)
            if kept is not None:
                self.log.info("The %s to %s is scheduled already: %s", notice, mask_number(to), kept.omnimessage_id)
                return kept.omnimessage_id
        if earlier and time.wanted is not None and time.wanted.utc <= now():
            state = self._state(hook, earlier[0])
            self.log.warning(
                "The deadline %s has passed; the alert of this run, %s, %s, and is not repeated",
                time.wanted,
                earlier[0].omnimessage_id,
                state.value if state else "may have been sent",
            )
            return earlier[0].omnimessage_id
        reason = None if earlier or deadline.utc > now() else silent_because(context, deadline.utc, now())
        if reason:
            xcoms.push("silent", reason)
            self.log.info("The deadline %s has passed, and nobody is alerted: %s", deadline, reason)
            return None
        if at is not None:
            omnimessage_id = known.schedule(
                hook, draft, at.utc, at, notice.number, choice=time.as_dict() if time.reason else None
            )
            self.log.info(
                "The %s to %s goes out at %s unless it is cancelled: %s", notice, mask_number(to), at, omnimessage_id
            )
            return omnimessage_id
        omnimessage_id = known.schedule(hook, draft, deadline.utc, None)
        self.log.warning(
            "The deadline %s passed before the work started: the alert to %s is sent now: %s",
            deadline,
            mask_number(to),
            omnimessage_id,
        )
        return omnimessage_id

    def _still_scheduled(
        self,
        earlier: Sequence[MessageRecord],
        wanted: str,
        deadline: TimeToSend,
        hook: OmnimessageHook,
        known: KnownAlerts,
    ) -> MessageRecord | None:
        """Return the alert that an earlier try scheduled, or an attempt before a clear, if it is still what is wanted.

        :param wanted: the fingerprint of the alert.
        """
        from airflow_provider_omnimessage.tasks.posting import MessageState

        for message in earlier:
            if message.fingerprint != wanted:
                continue
            if known.is_of_this_attempt(message):
                return message
            is_same_time = message.time_to_send == deadline.utc.isoformat()
            if is_same_time and self._state(hook, message) is MessageState.SCHEDULED:
                known.take_over(message)
                return message
        return None

    def _state(self, hook: OmnimessageHook, message: MessageRecord) -> MessageState | None:
        from airflow_provider_omnimessage.tasks.posting import message_state

        try:
            return message_state(hook, message, now())
        except OmnimessageError as error:
            self.log.warning("The state of %s is unknown: %s", message.omnimessage_id, error)
            return None

    def _cancel_others(self, wanted: Sequence[str], hook: OmnimessageHook, known: KnownAlerts) -> None:
        """Cancel what no longer belongs to this run's alert."""
        replaced = [alert for alert in known.alerts if alert.message.omnimessage_id not in (None, *wanted)]
        self._cancel_replaced(replaced, hook, known)
