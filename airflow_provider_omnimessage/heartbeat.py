"""
The heartbeat: an alert that goes out when all of Airflow has fallen silent.

A DAG that runs every few minutes keeps one message scheduled ahead of itself. Each beat schedules the next message
before it cancels the last, so that there is always one; when the beats stop, it goes out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, ClassVar

from airflow_provider_omnimessage._compat import BaseOperator, Variable
from airflow_provider_omnimessage.alerts import alert_messages, recipients
from airflow_provider_omnimessage.failures import task_failures
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

DEFAULT_TEXT = "Airflow is silent: nothing heard from {{ dag.dag_id }} since {{ since }}"


class HeartbeatOperator(BaseOperator):
    """
    Keep one message scheduled ``grace`` ahead: ``POST /omnimessage``, then ``DELETE`` of the one before.

    Put it, alone, into a DAG that runs every few minutes with ``catchup=False``, ``max_active_runs=1``. When no beat
    has come for ``grace``, because the scheduler, the workers, the database or the network is down, Messente sends the
    message. The first beat after that begins anew.

    A beat that fails leaves the message of the one before in place; it takes the task's retries, and the next beat
    cleans up whatever is left. What is scheduled is known from an Airflow Variable. Before you pause the DAG, cancel
    what that names, or the pause is told, too.

    :param to: the recipient in E.164, or a list of them: each gets a message. (templated)
    :param grace: how long Airflow may be silent, a timedelta: more than the time between two runs, and what they may be
        late.
    :param text: the message, as one SMS. ``{{ since }}`` is when Airflow was last heard. Default: says that nothing was
        heard of the DAG since then. (templated)
    :param messages: the message on any channels, instead of ``text``. (templated)
    :param timezone: IANA name of the zone in which ``since`` is told; default: the connection's, else UTC. (templated)
    :param variable: the Airflow Variable that names what is scheduled; default:
        ``omnimessage_heartbeat__<dag_id>__<task_id>``.
    :param dlr_url: where Messente posts delivery reports; default: the connection's. (templated)
    :param text_store: ``"plaintext"``, ``"sha256"`` or ``"nostore"``; default: the connection's. (templated)
    :param priority: ``"low"``, ``"regular"`` or ``"high"``; default: the connection's, else regular. (templated)
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``. (templated)
    :raises InvalidInputError: while the DAG is parsed, for what can be seen to be wrong by then.
    """

    template_fields: Sequence[str] = (
        "omnimessage_conn_id",
        "timezone",
        "to",
        "messages",
        "dlr_url",
        "text_store",
        "priority",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"messages": "json"}
    ui_color = "#e3f0ff"

    def __init__(
        self,
        *,
        to: Any,
        grace: timedelta,
        text: Any = None,
        messages: Any = None,
        timezone: str | None = None,
        variable: str | None = None,
        dlr_url: str | None = None,
        text_store: str | None = None,
        priority: str | None = None,
        omnimessage_conn_id: str = OmnimessageHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        # two beats at a time would each take the other's message for the last
        super().__init__(**{"max_active_tis_per_dag": 1, **kwargs})
        if not isinstance(grace, timedelta) or grace < timedelta(minutes=1):
            from airflow_provider_omnimessage.api.errors import InvalidInputError

            raise InvalidInputError.of("grace", f"{grace!r} is not accepted; give a timedelta of at least one minute")
        self.to = to
        self.grace = grace
        self.messages = alert_messages(DEFAULT_TEXT if text is None and messages is None else text, messages)
        self.timezone = timezone
        self.variable = variable or f"omnimessage_heartbeat__{self.dag_id}__{self.task_id}"
        self.dlr_url = dlr_url
        self.text_store = text_store
        self.priority = priority
        self.omnimessage_conn_id = omnimessage_conn_id

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render, with ``since`` for the moment of this beat."""
        self._beat = datetime.now(timezone.utc)
        told: Any = {**context, "since": self._since(context, jinja_env)}
        super().render_template_fields(told, jinja_env)

    def execute(self, context: Mapping[str, Any]) -> list[str]:
        """Schedule the next message, cancel the last, and return the ids that are scheduled now."""
        known = self._recall()
        fresh: list[str] = []
        with task_failures("The beat before this one stands"), OmnimessageHook(self.omnimessage_conn_id) as hook:
            moment = hook.resolve_time_to_send(self._beat + self.grace)
            try:
                for to in recipients(self.to):
                    accepted = hook.send(
                        to,
                        self.messages,
                        time_to_send=moment,
                        dlr_url=self.dlr_url,
                        text_store=self.text_store,
                        priority=self.priority,
                    )
                    fresh.append(accepted.omnimessage_id)
                    # at once, so that the next beat finds what this one did not live to cancel
                    self._keep([*known, *fresh])
            except Exception:
                # the last beat's messages stand, so this one's are too many
                self._keep([*known, *self._cancel(fresh, hook)])
                raise
            self.log.info("Without another beat, the message goes out at %s: %s", moment, ", ".join(fresh))
            left = self._cancel(known, hook)
            self._keep([*left, *fresh])
        if left:
            self.log.warning("Still to be cancelled, by the next beat: %s", ", ".join(left))
        return fresh

    def _cancel(self, ids: Sequence[str], hook: OmnimessageHook) -> list[str]:
        """Cancel, and return the ids that are still scheduled, as far as is known."""
        from airflow_provider_omnimessage.api.delivery import Cancelled
        from airflow_provider_omnimessage.api.errors import OmnimessageError

        left = []
        for omnimessage_id in ids:
            try:
                cancellation = hook.try_to_cancel(omnimessage_id)
            except OmnimessageError as error:
                self.log.warning("%s is not cancelled: %s", omnimessage_id, error)
                left.append(omnimessage_id)
                continue
            if cancellation.result is Cancelled.SENT:
                self.log.warning("Airflow is heard again; %s had gone out", omnimessage_id)
            elif cancellation.result is Cancelled.UNKNOWN:
                self.log.warning("%s %s", omnimessage_id, cancellation)
        return left

    def _recall(self) -> list[str]:
        value = Variable.get(self.variable, None)
        try:
            known = json.loads(value) if value else []
        except ValueError:
            known = None
        if not isinstance(known, list):
            self.log.warning("Variable %s holds something else: it is written anew", self.variable)
            return []
        return [str(item) for item in known]

    def _keep(self, ids: Sequence[str]) -> None:
        Variable.set(self.variable, json.dumps(ids), description="Messages that the heartbeat keeps scheduled")

    def _since(self, context: Any, jinja_env: Any) -> str:
        from airflow_provider_omnimessage.api.timing import resolve_zone

        zone = self.render_template(self.timezone, context, jinja_env)
        conn_id = self.render_template(self.omnimessage_conn_id, context, jinja_env)
        local = self._beat.astimezone(resolve_zone(zone or OmnimessageHook(conn_id).settings.timezone))
        return f"{local:%Y-%m-%d %H:%M %Z}"
