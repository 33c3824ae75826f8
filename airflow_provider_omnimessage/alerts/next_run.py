"""The alert for the run that never starts: scheduled when a run's work has ended, cancelled when the next run arms."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage import metrics
from airflow_provider_omnimessage._compat import core_timetable, has_fixed_times
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

    from airflow_provider_omnimessage.alerts.beats import HeartbeatState, HeartbeatStore

#: It names the group too: Messente blocks identical texts, and a DAG may have several switches.
DEFAULT_TEXT = "{{ dag.dag_id }} ({{ task.switch_id }}): no run has started that was expected {{ expected }}"
SHORTEST_GRACE = timedelta(minutes=1)
#: Requests, at most, for one alert whose response is lost: no other stands meanwhile, and two are better than none.
POSTS = 3
#: Types of the runs that a timetable starts. A person, or another DAG, starts all others.
TIMETABLE_RUNS = ("scheduled", "asset_triggered")
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
    """Return the type of a task's run: ``scheduled``, ``manual``, ``backfill``, ``operator_triggered`` and so on."""
    kind = context["dag_run"].run_type
    return str(getattr(kind, "value", kind))


def expected_run(
    context: Mapping[str, Any], after: datetime, last_run: Mapping[str, str] | None = None
) -> datetime | None:
    """
    Return when the next scheduled run is due; ``None`` if the DAG's timetable cannot tell (assets, no schedule).

    :param context: Airflow's context of a task.
    :param after: the run is due after this time.
    :param last_run: the newest scheduled run that has started, as the state keeps it.
    :raises NoFurtherRunError: if none follows: the DAG has an ``end_date``.
    """
    import pendulum
    from airflow.timetables.base import DataInterval, TimeRestriction

    dag = context["dag"]
    timetable = core_timetable(dag)
    if not timetable.periodic:
        return None
    # with catch-up: the run after this one, then the one after that, until one is not due yet
    restriction = TimeRestriction(earliest=None, latest=dag.end_date, catchup=True)
    known = _newest_interval(context, last_run)
    if known is not None:
        interval = DataInterval(*map(pendulum.instance, known))
        following = timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=restriction)
    else:
        # as the scheduler finds the first run of a DAG
        start = pendulum.instance(dag.start_date) if dag.start_date else None
        first = TimeRestriction(start, dag.end_date, catchup=bool(start and dag.catchup))
        following = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=first)
        # without catch-up, a timedelta counts from the time of this call
        after = max(after, now())
    steps = 0
    while following is not None:
        due = datetime.fromtimestamp(following.run_after.timestamp(), timezone.utc)
        if due > after:
            return due
        # a task that is cleared months later
        steps += 1
        interval = following.data_interval if steps != MOST_STEPS else DataInterval.exact(pendulum.instance(after))
        following = timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=restriction)
    raise NoFurtherRunError("no further run is due")


def _newest_interval(
    context: Mapping[str, Any], last_run: Mapping[str, str] | None
) -> tuple[datetime, datetime] | None:
    """Return the data interval of the newest scheduled run that is known. That of a manual run fits no schedule."""
    dag_run, due = context["dag_run"], run_time(context)
    last = {name: datetime.fromisoformat(time) for name, time in (last_run or {}).items()}
    if run_type(context) == "scheduled" and due is not None and (not last or due > last["due"]):
        start = dag_run.data_interval_start or due
        return start, dag_run.data_interval_end or start
    return (last["start"], last["end"]) if last else None


def awaited_run(context: Mapping[str, Any], last_run: Mapping[str, str]) -> datetime | None:
    """
    Return when the first run is due that has not started yet, which may be in the past: this run may have taken long.

    :param last_run: the newest scheduled run that has started; empty: unknown, and the first one after now counts.
    :raises NoFurtherRunError: if none follows.
    """
    due = run_time(context)
    if run_type(context) == "scheduled" and due is not None and last_run:
        return expected_run(context, max(due, datetime.fromisoformat(last_run["due"])), last_run)
    return expected_run(context, now(), last_run)


def started_run(context: Mapping[str, Any], last_run: dict[str, str]) -> dict[str, str]:
    """
    Return the newest scheduled run that has started, now that this one has.

    :param last_run: the newest one so far.
    """
    due = run_time(context)
    if run_type(context) != "scheduled" or due is None:
        return last_run
    # of a cleared run it is unknown whether others have started since
    is_newest = due > datetime.fromisoformat(last_run["due"]) if last_run else context["ti"].try_number == 1
    if not is_newest:
        return last_run
    start = context["dag_run"].data_interval_start or due
    end = context["dag_run"].data_interval_end or start
    return {"due": due.isoformat(), "start": start.isoformat(), "end": end.isoformat()}


def is_awaited(context: Mapping[str, Any], expected: str | None) -> bool:
    """
    Return whether a run is the one that a scheduled alert waits for.

    :param context: Airflow's context of a task of the run.
    :param expected: when the awaited run is due, ISO 8601; ``None``: the timetable cannot tell, and any run counts, as
        it does if the timetable has no due times any more.
    """
    kind = run_type(context)
    if kind == "backfill":
        return False
    if expected is None or not core_timetable(context["dag"]).periodic:
        return True
    due = run_time(context)
    return kind in TIMETABLE_RUNS and due is not None and due >= datetime.fromisoformat(expected)


def next_run_store(variable: str, log: Logger) -> HeartbeatStore:
    """Return the store of what is scheduled for a next run."""
    from airflow_provider_omnimessage.alerts.beats import HeartbeatStore

    return HeartbeatStore(variable, log, "the next run")


def cancel_next_run_alert(
    context: Mapping[str, Any], hook: OmnimessageHook, variable: str, log: Logger, tags: Mapping[str, str]
) -> None:
    """
    Cancel the alert that waited for this run, which has started, and store that. An error is logged only.

    :param hook: an open one.
    :param variable: name of the Airflow Variable that holds the alert's ids.
    """
    from airflow_provider_omnimessage.alerts.beats import Beat

    try:
        store = next_run_store(variable, log)
        state = store.read()
        last_run = started_run(context, state.last_run)
        if not (state.live or state.left) or not is_awaited(context, state.expected):
            if last_run != state.last_run:
                state.last_run, state.dag_id = last_run, tags["dag_id"]
                store.write(state)
            return
        left = Beat(hook, store, log, tags).end(last_run)
    except Exception as error:
        log.warning("The alert that waits for this run is not cancelled yet; next_run tries again: %s", error)
        return
    if left:
        log.warning("The alert that waits for this run is not cancelled yet; next_run tries again: %s", ", ".join(left))
    else:
        log.info("This run has started: no alert waits for it any more")


class ExpectNextRunOperator(AlertTask):
    """
    Schedule the alert for the run that follows, which a :class:`DeadMansSwitch` with ``next_run_within`` makes.

    It runs when ``disarm`` has ended, whatever the outcome. The ids are kept in an Airflow Variable. An alert that
    waits for a run that has not started stays as it is: manual runs and backfills do not replace it.

    :param within: how late the next run may start, a timedelta of at least one minute. If that run is due already, or
        the timetable cannot tell when it is due, the time counts from now.
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
            expected = awaited_run(context, state.last_run)
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
            waits = state.is_live() and _still_waits(context, state, expected)
            if waits and not state.is_partial:
                self.log.info("An alert waits for the next run already: %s", ", ".join(state.live))
                return state.live
            if waits and state.expected is not None:
                # a recipient is missing
                expected = datetime.fromisoformat(state.expected)
            # a run that is due already may have waited for the end of this one
            due = hook.resolve_time_to_send(max(expected or now(), now()) + self.within)
            planned, problems = self._plan(hook, due)
            if not planned:
                raise problems[0]
            moved = moved_alert(planned)
            if moved is not None:
                context["ti"].xcom_push(key="time_choice", value=moved.as_dict())
            drafts = [self._compose(hook, each.to, (each.time.chosen or due).utc) for each in planned]
            scheduled = beat.run(
                drafts,
                (moved and moved.chosen) or due,
                expected=expected,
                only_missing=waits,
                is_partial=bool(problems),
            )
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
            expected = awaited_run(context, next_run_store(self.variable, self.log).read().last_run)
        except NoFurtherRunError:
            return "later"
        zone = super().render_template(self.timezone, context)
        conn_id = super().render_template(self.omnimessage_conn_id, context)
        resolved = timing.resolve_zone(zone or OmnimessageHook(conn_id).settings.timezone)
        if expected is None:
            return f"by {(now() + self.within).astimezone(resolved):%Y-%m-%d %H:%M %Z}"
        return f"at {expected.astimezone(resolved):%Y-%m-%d %H:%M %Z}"


def _still_waits(context: Mapping[str, Any], state: HeartbeatState, expected: datetime | None) -> bool:
    """
    Return whether a scheduled alert waits for a run that comes no later than the one that is expected now.

    If the schedule was changed, and has no run at that time any more, it waits for nothing. Of a timedelta, this is
    known only after the first scheduled run: its due times count from that.
    """
    if is_awaited(context, state.expected):
        return False
    if state.expected is None or expected is None:
        return True
    waiting_for = datetime.fromisoformat(state.expected)
    is_unknown = _newest_interval(context, state.last_run) is None and not has_fixed_times(context["dag"])
    if is_unknown or not now() < waiting_for <= expected:
        return waiting_for <= expected
    return expected_run(context, waiting_for - timedelta(microseconds=1), state.last_run) == waiting_for
