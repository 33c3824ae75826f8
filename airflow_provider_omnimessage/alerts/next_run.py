"""The alert for the run that never starts: scheduled when a run's work has ended, cancelled when the next run arms."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage._compat import core_timetable
from airflow_provider_omnimessage.alerts.alert_task import AlertTask, now
from airflow_provider_omnimessage.alerts.content import alert_messages
from airflow_provider_omnimessage.alerts.planning import moved_alert
from airflow_provider_omnimessage.api import timing
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.tasks.failures import task_failures

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import Logger

    from airflow_provider_omnimessage.alerts.beats import HeartbeatStore

DEFAULT_TEXT = "{{ dag.dag_id }}: no run has started that was expected {{ expected }}"
SHORTEST_GRACE = timedelta(minutes=1)
#: Requests, at most, for one alert whose response is lost: no other stands meanwhile, and two are better than none.
POSTS = 3
#: Runs after this one that are looked at one by one. Then the search goes on from the present.
MOST_STEPS = 10_000


class NoFurtherRunError(Exception):
    """The DAG's timetable has no further run."""


def next_run_messages(text: Any) -> Any:
    """Return the messages of the alert.

    :param text: what it says; ``None``: the default text.
    """
    return alert_messages(DEFAULT_TEXT if text is None else text, None)


def check_next_run(within: Any, dag: Any) -> None:
    """Raise while the DAG is parsed if its next run cannot be awaited.

    :param within: how late the next run may start.
    :raises InvalidInputError: if it is no timedelta of at least one minute, or if the DAG runs once only.
    """
    if not isinstance(within, timedelta) or within < SHORTEST_GRACE:
        raise InvalidInputError.of(
            "next_run_within", f"{within!r} is not accepted; use a timedelta of at least one minute"
        )
    if type(getattr(dag, "timetable", None)).__name__ == "OnceTimetable":
        raise InvalidInputError.of("next_run_within", "the DAG runs once only (@once), so no run follows; leave it out")


def run_time(context: Mapping[str, Any]) -> datetime | None:
    """Return when the run of a task was due: ``run_after``, else ``data_interval_end`` (Airflow 2); in UTC."""
    for name in ("run_after", "data_interval_end"):
        value = getattr(context["dag_run"], name, None)
        if isinstance(value, datetime):
            return datetime.fromtimestamp(value.timestamp(), timezone.utc)
    return None


def run_type(context: Mapping[str, Any]) -> str:
    """Return the type of a task's run: ``scheduled``, ``manual``, ``backfill`` or ``asset_triggered``."""
    kind = context["dag_run"].run_type
    return str(getattr(kind, "value", kind))


def expected_run(context: Mapping[str, Any], after: datetime) -> datetime | None:
    """
    Return when the next scheduled run is due; ``None`` if the DAG's timetable cannot tell (assets, no schedule).

    :param context: Airflow's context of a task.
    :param after: the run is due after this time.
    :raises NoFurtherRunError: if none follows: the DAG has an ``end_date``.
    """
    import pendulum
    from airflow.timetables.base import DataInterval, TimeRestriction

    timetable = core_timetable(context["dag"])
    if not timetable.periodic:
        return None
    dag_run = context["dag_run"]
    start = pendulum.instance(dag_run.data_interval_start or run_time(context) or after)
    interval = DataInterval(start, pendulum.instance(dag_run.data_interval_end or start))
    # with catch-up: the run after this one, then the one after that, until one is not due yet
    restriction = TimeRestriction(earliest=None, latest=context["dag"].end_date, catchup=True)
    steps = 0
    while True:
        following = timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=restriction)
        if following is None:
            raise NoFurtherRunError("no further run is due")
        due = datetime.fromtimestamp(following.run_after.timestamp(), timezone.utc)
        if due > after:
            return due
        # a task that is cleared months later
        steps += 1
        interval = following.data_interval if steps != MOST_STEPS else DataInterval.exact(pendulum.instance(after))


def is_awaited(context: Mapping[str, Any], expected: str | None) -> bool:
    """
    Return whether a run is the one that a scheduled alert waits for.

    :param context: Airflow's context of a task of the run.
    :param expected: when the awaited run is due, ISO 8601; ``None``: the timetable cannot tell, and any run counts.
    """
    kind = run_type(context)
    if kind == "backfill":
        return False
    if expected is None:
        return True
    due = run_time(context)
    return kind != "manual" and due is not None and due >= datetime.fromisoformat(expected)


def next_run_store(variable: str, log: Logger) -> HeartbeatStore:
    """Return the store of what is scheduled for a next run."""
    from airflow_provider_omnimessage.alerts.beats import HeartbeatStore

    return HeartbeatStore(variable, log, "the next run")


def cancel_next_run_alert(
    context: Mapping[str, Any], hook: OmnimessageHook, variable: str, log: Logger, tags: Mapping[str, str]
) -> None:
    """
    Cancel the alert that waited for this run, which has started. An error is logged only: the work goes first.

    :param hook: an open one.
    :param variable: name of the Airflow Variable that holds the alert's ids.
    """
    from airflow_provider_omnimessage.alerts.beats import Beat

    try:
        store = next_run_store(variable, log)
        state = store.read()
        if not (state.live or state.left) or not is_awaited(context, state.expected):
            return
        left = Beat(hook, store, log, tags).end()
    except Exception as error:
        log.warning("The alert that waits for this run is not cancelled yet; next_run tries again: %s", error)
        return
    if left:
        log.warning("The alert that waits for this run is not cancelled yet; next_run tries again: %s", ", ".join(left))
    else:
        log.info("This run has started: the alert that waited for it is cancelled")


class ExpectNextRunOperator(AlertTask):
    """
    Schedule the alert for the run that follows, which a :class:`DeadMansSwitch` with ``next_run_within`` makes.

    It runs when ``disarm`` has ended, whatever the outcome. The ids are kept in an Airflow Variable. An alert that
    waits for a run that has not started stays as it is: manual runs and backfills do not replace it.

    :param within: how late the next run may start, a timedelta of at least one minute. If the timetable cannot tell
        when it is due, the time counts from now.
    :param variable: name of the Airflow Variable.
    """

    ui_color = "#e3f0ff"

    def __init__(self, *, within: timedelta, variable: str, **kwargs: Any) -> None:
        # two runs that end together would each cancel the other's alert
        super().__init__(**{"max_active_tis_per_dag": 1, **kwargs})
        self.within = within
        self.variable = variable

    def render_template(self, content: Any, context: Context, *args: Any, **kwargs: Any) -> Any:
        """Render, with ``expected`` as the time at which the next run is due, in words."""
        if isinstance(content, str) and "expected" in content and "expected" not in context:
            with_expected: Any = {**context, "expected": self._in_words(context)}
            return super().render_template(content, with_expected, *args, **kwargs)
        return super().render_template(content, context, *args, **kwargs)

    def _execute(self, context: Mapping[str, Any]) -> list[str]:
        """Schedule the alert unless one waits already, and return the ids that are scheduled now."""
        try:
            return self._expect(context)
        except Exception as error:
            metrics.count("not_armed", {"dag_id": self.dag_id, "task_id": self.task_id})
            self.log.error("THE ALERT FOR THE NEXT RUN IS NOT SCHEDULED (as far as is known): %s", error)
            raise

    def _expect(self, context: Mapping[str, Any]) -> list[str]:
        from airflow_provider_omnimessage.alerts.beats import Beat

        if run_type(context) == "backfill":
            self.log.info("This is a backfill: no alert is scheduled for the next run")
            return []
        if self._unrendered is not None:
            raise self._unrendered
        store = next_run_store(self.variable, self.log)
        state = store.read()
        try:
            expected = expected_run(context, now())
        except NoFurtherRunError as error:
            self.log.info("No alert is scheduled for the next run: %s", error)
            expected, is_last = None, True
        else:
            is_last = False
        with (
            task_failures("Look for the alert in Messente's dashboard, then clear this task"),
            OmnimessageHook(self.omnimessage_conn_id) as hook,
            hook.within(hook.settings.deadline),
        ):
            beat = Beat(hook, store, self.log, {"dag_id": self.dag_id, "task_id": self.task_id}, posts=POSTS)
            if is_last:
                return self._end(beat, context, state.expected)
            waits = state.is_live() and _still_waits(context, state.expected, expected)
            if waits and not state.is_partial:
                self.log.info("An alert waits for the next run already: %s", ", ".join(state.live))
                return state.live
            if waits and state.expected is not None:
                # a recipient is missing
                expected = datetime.fromisoformat(state.expected)
            due = hook.resolve_time_to_send((expected or now()) + self.within)
            planned, problems = self._plan(hook, due)
            if not planned:
                raise problems[0]
            moved = moved_alert(planned)
            if moved is not None:
                context["ti"].xcom_push(key="time_choice", value=moved.as_dict())
            drafts = [self._compose(hook, each.to, (each.time.chosen or due).utc) for each in planned]
            scheduled = beat.run(drafts, (moved and moved.chosen) or due, expected=expected, only_missing=waits)
            if problems:
                raise problems[0]
            return scheduled

    def _end(self, beat: Any, context: Mapping[str, Any], expected: str | None) -> list[str]:
        if is_awaited(context, expected):
            beat.end()
        return []

    def _in_words(self, context: Mapping[str, Any]) -> str:
        """Say when the next run is due: ``at 2026-11-25 06:00 EET``."""
        try:
            expected = expected_run(context, now())
        except NoFurtherRunError:
            return "later"
        zone = super().render_template(self.timezone, context)
        conn_id = super().render_template(self.omnimessage_conn_id, context)
        resolved = timing.resolve_zone(zone or OmnimessageHook(conn_id).settings.timezone)
        if expected is None:
            return f"by {(now() + self.within).astimezone(resolved):%Y-%m-%d %H:%M %Z}"
        return f"at {expected.astimezone(resolved):%Y-%m-%d %H:%M %Z}"


def _still_waits(context: Mapping[str, Any], waiting_for: str | None, expected: datetime | None) -> bool:
    """
    Return whether a scheduled alert waits for a run that comes no later than the one that is expected now.

    :param waiting_for: when the run that the alert waits for is due; ``None``: any run.
    """
    if is_awaited(context, waiting_for):
        return False
    return waiting_for is None or expected is None or datetime.fromisoformat(waiting_for) <= expected
