"""
The heartbeat: an alert that goes out when all of Airflow has fallen silent.

A DAG that runs every few minutes keeps one message scheduled ahead of itself. Each beat schedules the next message
before it cancels the last, so that there is always one; when the beats stop, it goes out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_omnimessage._compat import BaseOperator, Variable
from airflow_provider_omnimessage.alerts.known import alert_messages, recipients
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.links import OmnimessageLink
from airflow_provider_omnimessage.tasks.failures import task_failures
from airflow_provider_omnimessage.tasks.rendering import PlainStrings

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.errors import OmnimessageError
    from airflow_provider_omnimessage.api.timing import TimeToSend

DEFAULT_TEXT = "Airflow is silent: nothing heard from {{ dag.dag_id }} since {{ since }}"


@dataclass
class Known:
    """
    What the beats know of their messages; it is kept in an Airflow Variable.

    :param live: the ids of the last whole beat, one for each recipient.
    :param left: ids that are to be cancelled: of beats before it, or of one that did not come to its end.
    :param in_doubt: when messages go out of which nobody knows whether they were accepted, ISO 8601 in UTC.
    """

    live: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    in_doubt: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, value: Any) -> Known:
        """
        Read what was kept.

        :param value: of the Variable.
        :raises ValueError: where a moment in it is none.
        :raises TypeError: where it is something else.
        """
        known = cls(**{name: [str(item) for item in items] for name, items in value.items()})
        if any(datetime.fromisoformat(due).tzinfo is None for due in known.in_doubt):
            raise ValueError("a moment without an offset")
        return known


class HeartbeatOperator(PlainStrings, BaseOperator):
    """
    Keep one message scheduled ``grace`` ahead: ``POST /omnimessage``, then ``DELETE`` of the one before.

    Put it, alone, into a DAG that runs every few minutes with ``catchup=False``, ``max_active_runs=1``. When no beat
    has come for ``grace``, because the scheduler, the workers, the database or the network is down, Messente sends the
    message. The first beat after that begins anew.

    A beat that fails leaves the message of the one before in place, and the next beat cleans up whatever is left. There
    is one message at any time, and two while the one before is being cancelled; where it cannot be, no third is
    scheduled, and the beat fails. A request whose answer was lost is not made again: it can leave one message that
    nobody knows of, and the log of the beats says until when.

    What is scheduled is known from an Airflow Variable. Before you pause the DAG, cancel what that names, or the pause
    is told, too.

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
    operator_extra_links = (OmnimessageLink(),)
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
        self._tell_doubts(known)
        with (
            task_failures("The message of the beat before this one stands"),
            OmnimessageHook(self.omnimessage_conn_id) as hook,
        ):
            self._clean_up(known, hook)
            moment = hook.resolve_time_to_send(self._beat + self.grace)
            fresh: list[str] = []
            try:
                for to in recipients(self.to):
                    fresh.append(self._schedule(to, moment, hook, known))
            except Exception:
                # the last beat's messages stand, so this one's are too many
                known.left = self._cancel(fresh, hook)
                self._keep(known)
                raise
            self.log.info("Without another beat, the message goes out at %s: %s", moment, ", ".join(fresh))
            # First the change of roles, then the cancel: what is killed in between leaves a live one to the next beat.
            known.live, known.left = fresh, known.live
            self._keep(known)
            known.left = self._cancel(known.left, hook)
            self._keep(known)
        if known.left:
            self.log.warning("Still to be cancelled, by the next beat: %s", ", ".join(known.left))
        return fresh

    def _clean_up(self, known: Known, hook: OmnimessageHook) -> None:
        """Cancel what a beat before this one could not, or did not live to: there are never more than two messages."""
        if not known.left:
            return
        unanswered: list[OmnimessageError] = []
        known.left = self._cancel(known.left, hook, unanswered)
        self._keep(known)
        if unanswered:
            self.log.error(
                "No message is scheduled while %s cannot be cancelled: more would only be more false alarms",
                ", ".join(known.left),
            )
            raise unanswered[0]

    def _schedule(self, to: str, moment: TimeToSend, hook: OmnimessageHook, known: Known) -> str:
        from airflow_provider_omnimessage import metrics
        from airflow_provider_omnimessage.api.errors import OmnimessageError

        draft = hook.compose(
            to,
            self.messages,
            time_to_send=moment.utc,
            dlr_url=self.dlr_url,
            text_store=self.text_store,
            priority=self.priority,
        )
        due = moment.utc.isoformat()
        known.in_doubt.append(due)
        self._keep(known)
        try:
            accepted = hook.post(draft)
        except OmnimessageError as error:
            if error.maybe_processed:
                self._tell_doubts(known)
            else:
                known.in_doubt.remove(due)
            raise
        known.in_doubt.remove(due)
        metrics.count("scheduled", self._tags)
        # at once, so that the next beat finds what this one did not live to cancel
        known.left.append(accepted.omnimessage_id)
        self._keep(known)
        return accepted.omnimessage_id

    def _tell_doubts(self, known: Known) -> None:
        known.in_doubt = [due for due in known.in_doubt if datetime.fromisoformat(due) > datetime.now(timezone.utc)]
        for due in known.in_doubt:
            self.log.warning(
                "A beat did not learn whether its message was accepted. If it was, that goes out at %s although "
                "Airflow is alive; nobody knows its id: look for it in Messente's dashboard",
                due,
            )

    def _cancel(
        self, ids: Sequence[str], hook: OmnimessageHook, unanswered: list[OmnimessageError] | None = None
    ) -> list[str]:
        """Cancel, and return the ids that are still scheduled, as far as is known."""
        from airflow_provider_omnimessage import metrics
        from airflow_provider_omnimessage.api.delivery import CancelResult
        from airflow_provider_omnimessage.api.errors import InvalidInputError, OmnimessageError

        left = []
        for omnimessage_id in ids:
            try:
                cancellation = hook.try_to_cancel(omnimessage_id)
            except InvalidInputError as error:
                self.log.warning("Variable %s names what cannot be cancelled: %s", self.variable, error)
                continue
            except OmnimessageError as error:
                self.log.warning("%s is not cancelled: %s", omnimessage_id, error)
                left.append(omnimessage_id)
                if unanswered is not None:
                    unanswered.append(error)
                continue
            if cancellation.result is CancelResult.CANCELLED:
                metrics.count("cancelled", self._tags)
            elif cancellation.result is CancelResult.ALREADY_SENT:
                self.log.warning("Airflow is heard again; %s had gone out", omnimessage_id)
            elif cancellation.result is CancelResult.UNKNOWN:
                self.log.warning("%s %s", omnimessage_id, cancellation)
        return left

    @property
    def _tags(self) -> dict[str, str]:
        return {"dag_id": self.dag_id, "task_id": self.task_id}

    def _recall(self) -> Known:
        value = Variable.get(self.variable, None)
        try:
            return Known.read(json.loads(value)) if value else Known()
        except (ValueError, TypeError, AttributeError):
            self.log.warning("Variable %s holds something else: it is written anew", self.variable)
            return Known()

    def _keep(self, known: Known) -> None:
        Variable.set(
            self.variable, json.dumps(asdict(known)), description="Messages that the heartbeat keeps scheduled"
        )

    def _since(self, context: Any, jinja_env: Any) -> str:
        from airflow_provider_omnimessage.api.timing import resolve_zone

        zone = self.render_template(self.timezone, context, jinja_env)
        conn_id = self.render_template(self.omnimessage_conn_id, context, jinja_env)
        local = self._beat.astimezone(resolve_zone(zone or OmnimessageHook(conn_id).settings.timezone))
        return f"{local:%Y-%m-%d %H:%M %Z}"
