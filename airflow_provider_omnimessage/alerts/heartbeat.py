"""The heartbeat: a message that Messente sends when Airflow as a whole has stopped.

A DAG that runs every few minutes keeps one message scheduled ahead of itself. Each beat schedules the next message
before it cancels the last one, so that there always is one. When the beats stop, it goes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_omnimessage._compat import BaseOperator
from airflow_provider_omnimessage.alerts.content import alert_messages, check_alert_at_parse, check_alert_window
from airflow_provider_omnimessage.alerts.planning import PlannedNotice, Planner, moved_alert
from airflow_provider_omnimessage.alerts.recipients import as_recipients
from airflow_provider_omnimessage.alerts.steps import Notice, Step, notices, plan_escalation
from airflow_provider_omnimessage.alerts.variables import variable_of
from airflow_provider_omnimessage.api import timing
from airflow_provider_omnimessage.api.errors import InvalidInputError, Problem
from airflow_provider_omnimessage.api.masking import mask_number
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.tasks.failures import constructor_errors, task_failures
from airflow_provider_omnimessage.tasks.linking import MessageLinks
from airflow_provider_omnimessage.tasks.rendering import AlertTemplates

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_omnimessage.api.timing import TimeToSend

DEFAULT_TEXT = "Airflow may be down: no heartbeat from {{ dag.dag_id }} since {{ since }}"
SHORTEST_GRACE = timedelta(minutes=1)


class HeartbeatOperator(AlertTemplates, BaseOperator):
    """Keep one message scheduled ``grace`` ahead: ``POST /omnimessage``, then ``DELETE`` of the one before.

    Use it alone in a DAG that runs every few minutes with ``catchup=False`` and ``max_active_runs=1``. If no beat comes
    for ``grace``, because the scheduler, the workers, the database or the network is down, Messente sends the message.
    The first beat after that starts again.

    A beat that fails leaves the message of the beat before scheduled, for each recipient on its own. One message is
    scheduled at any time, and two while the older one is being cancelled; if it cannot be cancelled, no third is
    scheduled, and the beat fails. A request whose response was lost is not repeated: it may leave one message whose id
    is unknown, and the log of the beats says until when.

    The state is kept in an Airflow Variable, one for each mapped instance. After you pause the DAG, cancel the message
    with ``airflow omnimessage disarm``, or it is sent.

    Example::

        with DAG("heartbeat", schedule="*/5 * * * *", catchup=False, max_active_runs=1):
            HeartbeatOperator(task_id="beat", to="+37255555555", grace=timedelta(minutes=15))

    :param to: the recipient in E.164 format, or several: a list, JSON text, or separated by commas. Or a function
        ``(datetime) -> number(s)`` or an :class:`OnCall`, for the time at which the message goes out. (templated)
    :param grace: how long Airflow may be silent, a timedelta of at least one minute: more than the time between two
        runs plus their usual delay.
    :param text: the message, as one SMS. ``{{ since }}`` is the time of the last beat. Default: names the DAG and that
        time. (templated)
    :param messages: the message on any channels, instead of ``text``. (templated)
    :param timezone: IANA name of the zone of ``since``, and of a ``window`` without its own; default: the connection's,
        else UTC. (templated)
    :param escalate: further messages after that one: a list of :class:`Step`. Each beat schedules them anew, and
        cancels those of the last beat. Default: none. (templated)
    :param window: when the message may be sent, a :class:`~airflow_provider_omnimessage.api.windows.SendWindow` or its
        text form. Outside of it, the message is scheduled for the next time in it, and the steps follow from there. An
        outage that ends before the window opens alerts nobody. ``"connection"`` is the connection's window. Default:
        any time, even if the connection has a window. (templated)
    :param variable: name of the Airflow Variable; default: ``omnimessage_heartbeat__<dag_id>__<task_id>``.
    :param dlr_url: where Messente posts delivery reports; default: the connection's. (templated)
    :param text_store: ``"plaintext"``, ``"sha256"`` or ``"nostore"``; default: the connection's. (templated)
    :param priority: ``"low"``, ``"regular"`` or ``"high"``; default: the connection's, else regular. (templated)
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``. (templated)
    :raises InvalidInputError: while the DAG is parsed, names everything that is wrong by then.
    """

    template_fields: Sequence[str] = (
        "omnimessage_conn_id",
        "timezone",
        "to",
        "messages",
        "escalate",
        "window",
        "dlr_url",
        "text_store",
        "priority",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"messages": "json"}
    operator_extra_links = MessageLinks()
    ui_color = "#e3f0ff"

    def __init__(
        self,
        *,
        to: Any,
        grace: timedelta,
        text: Any = None,
        messages: Any = None,
        timezone: str | None = None,
        escalate: Sequence[Step] | None = None,
        window: Any = None,
        variable: str | None = None,
        dlr_url: str | None = None,
        text_store: Literal["plaintext", "sha256", "nostore"] | str | None = None,
        priority: Literal["low", "regular", "high"] | str | None = None,
        omnimessage_conn_id: str = OmnimessageHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        # two beats at a time would each cancel the other's message
        super().__init__(**{"max_active_tis_per_dag": 1, **kwargs})
        with constructor_errors(self):
            if not isinstance(grace, timedelta) or grace < SHORTEST_GRACE:
                raise InvalidInputError.of(
                    "grace", f"{grace!r} is not accepted; use a timedelta of at least one minute"
                )
            drafts = alert_messages(DEFAULT_TEXT if text is None and messages is None else text, messages)
            steps = plan_escalation(escalate)
            window_argument = check_alert_window(window, to, steps)
            check_alert_at_parse(
                to=to, messages=drafts, timezone=timezone, dlr_url=dlr_url, text_store=text_store, priority=priority
            )
        self.to = as_recipients(to)
        self.grace = grace
        self.messages = drafts
        self.escalate = steps
        self.window = window_argument
        self.timezone = timezone
        self.variable = variable
        self.dlr_url = dlr_url
        self.text_store = text_store
        self.priority = priority
        self.omnimessage_conn_id = omnimessage_conn_id

    def render_template(self, content: Any, context: Context, *args: Any, **kwargs: Any) -> Any:
        """Render, with ``since`` as the time of this beat. A step that cannot be rendered costs no other message."""
        # here and not in render_template_fields, which Airflow does not call on mapped tasks
        if isinstance(content, str) and "since" in content and "since" not in context:
            with_since: Any = {**context, "since": self._since(context)}
            return super().render_template(content, with_since, *args, **kwargs)
        if isinstance(content, Mapping) and content.keys() >= {"after", "to", "messages"}:
            try:
                return super().render_template(content, context, *args, **kwargs)
            except Exception as error:
                # only the type: the error may quote the template
                return {"unrendered": type(error).__name__}
        return super().render_template(content, context, *args, **kwargs)

    def execute(self, context: Context) -> list[str]:
        """Schedule the next message, cancel the last one, and return the ids that are scheduled now."""
        # its module needs the delivery reports, which parsing a DAG does not
        from airflow_provider_omnimessage.alerts.beats import Beat, HeartbeatStore

        now = _now()
        ti = context["ti"]
        store = HeartbeatStore(self._variable(ti.map_index), self.log)
        with (
            task_failures("The message of the last beat is still scheduled"),
            OmnimessageHook(self.omnimessage_conn_id) as hook,
            hook.within(hook.settings.deadline),
        ):
            due = hook.resolve_time_to_send(now + self.grace)
            planner = Planner(hook, self.log, self.window, self.timezone)
            rendered = [step for step in self.escalate if "unrendered" not in step]
            planned, wrong = planner.plan(notices(self.to, self.messages, rendered), due)
            if not any(each.notice.number == 0 for each in planned):
                raise wrong[0]
            moved = moved_alert(planned)
            if moved is not None:
                ti.xcom_push(key="time_choice", value=moved.as_dict())
            beat = Beat(hook, store, self.log, {"dag_id": ti.dag_id, "task_id": ti.task_id})
            drafts = [self._compose(hook, each, due) for each in planned if not each.notice.number]
            problems = [problem for error in wrong for problem in error.problems]
            problems += self._unrendered_steps()
            steps = self._compose_steps(hook, planned, due, problems)
            scheduled = beat.run(drafts, (moved and moved.chosen) or due, steps=steps)
            if problems:
                # after the beat: one wrong number must not cost the others theirs
                raise InvalidInputError(problems)
            return scheduled

    def _unrendered_steps(self) -> list[Problem]:
        return [
            Problem(f"escalate[{index}]", f"its template cannot be rendered ({step['unrendered']}); correct it")
            for index, step in enumerate(self.escalate)
            if "unrendered" in step
        ]

    def _compose(self, hook: OmnimessageHook, planned: PlannedNotice, due: TimeToSend) -> dict[str, Any]:
        return hook.compose(
            planned.to,
            planned.notice.messages,
            time_to_send=(planned.time.chosen or due).utc,
            dlr_url=self.dlr_url,
            text_store=self.text_store,
            priority=self.priority,
        )

    def _compose_steps(
        self, hook: OmnimessageHook, planned: Sequence[PlannedNotice], due: TimeToSend, problems: list[Problem]
    ) -> list[tuple[Notice, dict[str, Any]]]:
        """Return the bodies of the escalation; what is wrong with a step is added to ``problems``."""
        found = []
        for each in planned:
            if each.notice.number:
                try:
                    found.append((each.notice, self._compose(hook, each, due)))
                except InvalidInputError as error:
                    self.log.error("No %s for %s: %s", each.notice, mask_number(each.to), error)
                    problems += error.problems
        return found

    def _since(self, context: Context) -> str:
        zone = super().render_template(self.timezone, context)
        conn_id = super().render_template(self.omnimessage_conn_id, context)
        local = _now().astimezone(timing.resolve_zone(zone or OmnimessageHook(conn_id).settings.timezone))
        return f"{local:%Y-%m-%d %H:%M %Z}"

    def _variable(self, map_index: int | None) -> str:
        name = self.variable or variable_of("heartbeat", self.dag_id, self.task_id)
        return name if map_index is None or map_index < 0 else f"{name}__{map_index}"


def _now() -> datetime:
    return datetime.now(timezone.utc)
