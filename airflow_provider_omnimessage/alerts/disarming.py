"""The task ``disarm`` of a dead man's switch, which cancels the alert if the work is done."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_omnimessage._compat import (
    AirflowFailException,
    AirflowRescheduleException,
    SelfRescheduling,
    stops_on_failure,
)
from airflow_provider_omnimessage.alerts.alert_task import AlertTask, first_that_may_pass, now
from airflow_provider_omnimessage.alerts.markers import SwitchTask
from airflow_provider_omnimessage.alerts.work import DONE, FAILED, Instance, describe, work_states
from airflow_provider_omnimessage.api.errors import NotFoundError, OmnimessageError
from airflow_provider_omnimessage.api.masking import mask_number
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.tasks.failures import task_failures

if TYPE_CHECKING:
    from airflow_provider_omnimessage.alerts.known import KnownAlerts
    from airflow_provider_omnimessage.alerts.planning import PlannedNotice
    from airflow_provider_omnimessage.api.timing import TimeToSend
    from airflow_provider_omnimessage.tasks.cancelling import CancelOutcome

#: Task instances that a log line or an error names, at most.
SHOWN = 5


class DisarmDeadMansSwitchOperator(SelfRescheduling, AlertTask):
    """
    Cancel the alert of a :class:`DeadMansSwitch`, which makes this task: ``DELETE /omnimessage/{omnimessage_id}``.

    It runs when all work has ended, and decides by the states of the task instances alone. If any of them is not done,
    the alert stands and this task fails. It is a teardown, so the state of the run stays that of the work, and clearing
    the failed tasks of a run clears this one too.

    :param omnimessage_id: the ids that arming returned. (templated)
    :param arm_id: the id of the task that arms.
    :param work: the ids of the tasks that must be done: successful, skipped or removed.
    :param on_failure: ``"wait"`` or ``"send_now"``.
    """

    # the ids first: what else fails to render must not keep them from being cancelled
    template_fields: Sequence[str] = ("omnimessage_id", *AlertTask.template_fields)
    ui_color = "#ffeee3"
    #: Seconds between two looks at work that still runs.
    poke_interval = 30.0

    def __init__(
        self,
        *,
        omnimessage_id: Any,
        arm_id: str,
        work: Iterable[str] = (),
        on_failure: str,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.arm_id = arm_id
        self.omnimessage_id = omnimessage_id
        self.work = list(work)
        self.on_failure = on_failure
        #: Between the switch and the work: ids of tasks. They are set anew whenever Airflow validates the DAG.
        self.edges: frozenset[tuple[str, str]] = frozenset()

    def _execute(self, context: Mapping[str, Any]) -> list[str]:
        """Cancel the alert or let it stand, and return the ids that are cancelled now."""
        from airflow_provider_omnimessage.alerts.known import KnownAlerts

        if self._unrendered is not None and not isinstance(self.omnimessage_id, (list, tuple, type(None))):
            raise self._unrendered
        ids = [str(item) for item in self.omnimessage_id or ()]
        states = work_states(context["ti"], self.work)
        undone = {instance: state for instance, state in states.items() if state not in DONE}
        self._wait_for_the_rest(context, undone)
        if not undone and "skipped" in states.values() and stops_on_failure(self.dag):
            undone = self._failures_that_stopped_the_run(context)
        if undone:
            self._let_stand(context, ids, undone)
        deadline = self._deadline(context)
        times = dict.fromkeys(ids, deadline)
        times |= self._step_times(context)
        times |= KnownAlerts(context).times()
        if not times:
            self.log.info("No alert to cancel")
            return []
        return self._disarm(times)

    def _wait_for_the_rest(self, context: Mapping[str, Any], undone: Mapping[Instance, str]) -> None:
        """
        Come back later if some of the work still runs.

        Nearly always, all of it has ended before this task starts. But a task that may skip what is behind it, or that
        waits for it in the next run, is not directly before this one.
        """
        running = [instance for instance, state in undone.items() if state not in FAILED and state != "missing"]
        sent_at = self._sent_at(context)
        if not running or (sent_at is not None and sent_at <= now()):
            return
        self.log.info("Waiting for %s", ", ".join(describe(instance) for instance in running[:SHOWN]))
        raise AirflowRescheduleException(  # type: ignore[no-untyped-call]
            now() + timedelta(seconds=self.poke_interval)
        )

    def _failures_that_stopped_the_run(self, context: Mapping[str, Any]) -> dict[Instance, str]:
        """Return the failed tasks of a DAG with ``fail_fast``, which skips the work when another task fails."""
        others = [task.task_id for task in self.dag.tasks if not isinstance(task, SwitchTask)]
        states = work_states(context["ti"], others)
        return {instance: state for instance, state in states.items() if state in FAILED}

    def _let_stand(self, context: Mapping[str, Any], ids: list[str], undone: Mapping[Instance, str]) -> NoReturn:
        from airflow_provider_omnimessage.alerts.known import KnownAlerts

        shown = ", ".join(f"{describe(instance)} is {state}" for instance, state in sorted(undone.items())[:SHOWN])
        reason = f"the work is not done ({shown})"
        silent = self._pull(context, "silent")
        if silent and not ids:
            raise AirflowFailException(f"No alert, since {silent}; {reason}")
        if self._unrendered is not None:
            raise AirflowFailException(f"The alert that arm scheduled, if any, is sent at its time: {self._unrendered}")
        own = KnownAlerts(context)
        with task_failures("Scheduled alerts stay scheduled"), OmnimessageHook(self.omnimessage_conn_id) as hook:
            problems = self._schedule_what_is_missing(context, ids, hook, own)
            if self.on_failure == "send_now":
                sent = KnownAlerts(context, "sent")
                problems += self._send_now(context, ids, hook, sent)
                sent.settle()
            own.settle()
            if problems:
                raise first_that_may_pass(problems)
        if self.on_failure == "send_now":
            raise AirflowFailException(f"The alert is sent: {reason}")
        raise AirflowFailException(
            f"The alert is sent at its time: {reason}. A run that is repaired by then still cancels it"
        )

    def _disarm(self, times: Mapping[str, datetime | None]) -> list[str]:
        """Cancel alerts.

        :param times: when each is sent, by id; ``None``: not known.
        """
        from airflow_provider_omnimessage.tasks.cancelling import cancel_each

        cancelled: list[str] = []
        problems: list[Exception] = []
        with task_failures(), OmnimessageHook(self.omnimessage_conn_id) as hook:
            for outcome in cancel_each(hook, list(times), times=times, log=self.log, tags=self._tags):
                problem = self._problem_of(outcome)
                if problem is not None:
                    problems.append(problem)
                elif outcome.is_cancelled:
                    cancelled.append(outcome.omnimessage_id)
            if problems:
                raise first_that_may_pass(problems)
        return cancelled

    def _problem_of(self, outcome: CancelOutcome) -> Exception | None:
        """Log the outcome of a cancel, and return what is wrong with it."""
        from airflow_provider_omnimessage.api.cancel_result import CancelResult

        if outcome.cancellation is None:
            self.log.warning("Not cancelled yet: %s", outcome)
            return outcome.error
        if outcome.is_cancelled:
            self.log.info("Done in time: the alert %s is cancelled", outcome.omnimessage_id)
        elif outcome.cancellation.result is CancelResult.ALREADY_SENT:
            self.log.warning("Done, but late: the alert %s was already sent", outcome.omnimessage_id)
        else:
            # another account may have scheduled it, where it cannot be cancelled from here
            return NotFoundError(
                f"The alert {outcome}: it is not cancelled; check the connection's account", status_code=404
            )
        return None

    def _schedule_what_is_missing(
        self, context: Mapping[str, Any], ids: list[str], hook: OmnimessageHook, own: KnownAlerts
    ) -> list[Exception]:
        """
        Schedule the alert if there is none: ``arm`` could not, or an earlier attempt of the work was done in time.

        :return: what kept it from that.
        """
        deadline, sent_at = self._deadline(context), self._sent_at(context)
        if deadline is None or sent_at is None:
            return []
        if sent_at <= now():
            is_missing = not ids and not own.ids()
        else:
            try:
                is_missing = not any(self._is_live(item, hook) for item in [*reversed(own.ids()), *ids])
            except OmnimessageError as error:
                self.log.warning("The state of the scheduled alert is unknown: %s", error)
                return [error]
        if not is_missing:
            return []
        begin = hook.resolve_time_to_send(deadline) if sent_at > now() else self._now(hook)
        return self._send(own, deadline, begin, hook, again=True)

    def _is_live(self, omnimessage_id: str, hook: OmnimessageHook) -> bool:
        from airflow_provider_omnimessage.api.delivery import Outcome

        try:
            return hook.get_delivery_report(omnimessage_id).outcome is not Outcome.CANCELLED
        except NotFoundError:
            return False

    def _send_now(
        self, context: Mapping[str, Any], ids: list[str], hook: OmnimessageHook, sent: KnownAlerts
    ) -> list[Exception]:
        """
        Send the alert to everyone who has not got it.

        What ``arm`` has scheduled stays: it covers a repaired run that hangs, and is cancelled if that run is done in
        time. The steps of an alert that was sent before a clear are replaced, as they count from the new failure.
        """
        if self._is_sent(context, ids, hook):
            self.log.info("The alert was already sent: %s", ", ".join(ids))
            return []
        deadline = self._deadline(context)
        pending = self._plan(hook, hook.resolve_time_to_send(deadline))[0] if self.window and deadline else []
        alerted = self._alerted(context, ids, hook) if self.window else set()
        begin = self._now(hook)
        return self._send(sent, begin.utc, begin, hook, again=False, pending=pending, alerted=alerted)

    def _send(
        self,
        known: KnownAlerts,
        due: datetime,
        begin: TimeToSend,
        hook: OmnimessageHook,
        *,
        again: bool,
        pending: Sequence[PlannedNotice] = (),
        alerted: Collection[str] = (),
    ) -> list[Exception]:
        """
        Send the alert, and schedule its steps.

        :param begin: when the alert is due; a time in the past means now.
        :param again: whether a retry sends it again.
        :param pending: what is scheduled: nothing is sent beside it that does not go out before it.
        :param alerted: the numbers that have got the alert already.
        """
        from airflow_provider_omnimessage.tasks.memory import fingerprint

        scheduled = {
            (each.notice.number, each.to): each.time.chosen.utc
            for each in pending
            if each.time.chosen and each.time.chosen.utc > now()
        }
        planned, problems = self._plan(hook, begin)
        renewed: set[tuple[str, int]] = set()
        for each in planned:
            notice, to, at = each.notice, each.to, each.time.chosen
            goes_out = scheduled.get((notice.number, to))
            if not notice.number and to in alerted:
                self.log.info("The %s to %s was already sent", notice, mask_number(to))
                continue
            if goes_out is not None and at is not None and at.utc >= goes_out:
                self.log.info("The window is closed: the %s to %s is sent at %s", notice, mask_number(to), at)
                continue
            try:
                draft = self._compose(hook, to, messages=notice.messages)
                recipient = fingerprint({"to": draft["to"]}, hook.settings.password)
                # a retry does not send twice; after a clear, a new failure is news
                if not again and any(map(known.is_of_this_attempt, known.of(recipient, notice.number))):
                    renewed.add((recipient, notice.number))
                    continue
                choice = each.time.as_dict() if each.time.reason else None
                omnimessage_id = known.schedule(hook, draft, at.utc if at else due, at, notice.number, choice=choice)
            except Exception as error:
                # the other recipients must be alerted anyway
                self.log.error("No %s for %s: %s", notice, mask_number(to), error)
                problems.append(error)
            else:
                when = f"at {at}" if at else "now"
                self.log.warning("The %s to %s is sent %s: %s", notice, mask_number(to), when, omnimessage_id)
                renewed.add((recipient, notice.number))
        if not again:
            is_whole = len(renewed) == len(planned) and not problems
            self._replace_steps(known, renewed, hook, is_whole=is_whole)
        return problems

    def _replace_steps(
        self, known: KnownAlerts, renewed: Collection[tuple[str, int]], hook: OmnimessageHook, *, is_whole: bool
    ) -> None:
        """
        Cancel the steps that earlier attempts have scheduled, now that those of this attempt stand.

        :param renewed: recipient and number of each message of this attempt that is sent or scheduled.
        :param is_whole: whether that is all of them, so that no earlier one is needed.
        """
        replaced = [
            alert
            for alert in known.alerts
            if alert.step
            and alert.message.omnimessage_id
            and alert.message.waits(now())
            and not known.is_of_this_attempt(alert.message)
            and (is_whole or (alert.recipient, alert.step) in renewed)
        ]
        self._cancel_replaced(replaced, hook, known)

    def _now(self, hook: OmnimessageHook) -> TimeToSend:
        """Return the current time in whole seconds: rounded up, it would be a time in the future."""
        return hook.resolve_time_to_send(now().replace(microsecond=0))

    def _step_times(self, context: Mapping[str, Any]) -> dict[str, datetime | None]:
        """Return when that is sent, by id, which ``arm`` or this task scheduled for another time than the deadline."""
        from airflow_provider_omnimessage.alerts.known import KnownAlerts

        steps = self._pull(context, "step_times")
        known = {**(steps if isinstance(steps, Mapping) else {}), **KnownAlerts(context, "sent").step_times()}
        times = {str(omnimessage_id): datetime.fromisoformat(str(at)) for omnimessage_id, at in known.items()}
        return dict(times)

    def _is_sent(self, context: Mapping[str, Any], ids: list[str], hook: OmnimessageHook) -> bool:
        """Return whether the alert went out at its time. If that is unknown, it did not: two are better than none."""
        from airflow_provider_omnimessage.api.delivery import Outcome

        sent_at = self._sent_at(context)
        if not ids or sent_at is None or sent_at > now():
            return False
        try:
            outcomes = [hook.get_delivery_report(item).outcome for item in ids]
        except OmnimessageError as error:
            self.log.warning("The state of the scheduled alert is unknown: %s", error)
            return False
        return Outcome.CANCELLED not in outcomes

    def _alerted(self, context: Mapping[str, Any], ids: list[str], hook: OmnimessageHook) -> set[str]:
        """Return the numbers that got the alert at its time, while others wait for the window: steps follow later."""
        from airflow_provider_omnimessage.api.delivery import Outcome

        times = {**dict.fromkeys(ids, self._deadline(context)), **self._step_times(context)}
        found = set()
        for omnimessage_id in ids:
            at = times[omnimessage_id]
            try:
                report = hook.get_delivery_report(omnimessage_id) if at is not None and at <= now() else None
            except OmnimessageError as error:
                self.log.warning("The state of the scheduled alert is unknown: %s", error)
                continue
            if report is not None and report.outcome is not Outcome.CANCELLED:
                found.add(report.to)
        return found

    def _deadline(self, context: Mapping[str, Any]) -> datetime | None:
        value = self._pull(context, "time_to_send")
        return datetime.fromisoformat(value) if isinstance(value, str) else None

    def _sent_at(self, context: Mapping[str, Any]) -> datetime | None:
        """Return when the alert is sent: at the deadline, unless a window moves it."""
        choice = self._pull(context, "time_choice")
        chosen = choice.get("chosen") if isinstance(choice, Mapping) else None
        return datetime.fromisoformat(chosen) if isinstance(chosen, str) else self._deadline(context)

    def _pull(self, context: Mapping[str, Any], key: str) -> Any:
        return context["ti"].xcom_pull(task_ids=self.arm_id, key=key)
