"""What the two tasks of a dead man's switch that talk to Messente share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_omnimessage._compat import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSkipException,
    stops_on_failure,
)
from airflow_provider_omnimessage.alerts.markers import SwitchTask
from airflow_provider_omnimessage.alerts.planning import PlannedNotice, Planner
from airflow_provider_omnimessage.alerts.recipients import as_recipients
from airflow_provider_omnimessage.alerts.steps import StepTemplates, notices
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.tasks.linking import MessageLinks

if TYPE_CHECKING:
    from airflow_provider_omnimessage.alerts.known import Alert, KnownAlerts
    from airflow_provider_omnimessage.api.timing import TimeToSend


class AlertTask(StepTemplates, SwitchTask):
    """What ``arm`` and ``disarm`` share: the alert, and its recipients."""

    template_fields: Sequence[str] = (
        "to",
        "messages",
        "escalate",
        "window",
        "timezone",
        "dlr_url",
        "text_store",
        "priority",
        "omnimessage_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"messages": "json"}
    operator_extra_links = MessageLinks()
    #: Whether the run stops where this task fails.
    may_stop_work = False

    def __init__(
        self,
        *,
        to: Any,
        messages: Any,
        dlr_url: str | None,
        text_store: str | None,
        priority: str | None,
        omnimessage_conn_id: str,
        escalate: Sequence[Mapping[str, Any]] = (),
        window: Any = None,
        timezone: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.to = as_recipients(to)
        self.messages = messages
        self.escalate = list(escalate)
        self.window = window
        self.timezone = timezone
        self.dlr_url = dlr_url
        self.text_store = text_store
        self.priority = priority
        self.omnimessage_conn_id = omnimessage_conn_id
        self._unrendered: Exception | None = None

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render the templates; :meth:`execute` decides what an error in one of them stops."""
        try:
            super().render_template_fields(context, jinja_env)
        except Exception as error:
            self._unrendered = error

    def execute(self, context: Any) -> list[str]:
        """
        Do the task's work; where the DAG has ``fail_fast``, end as skipped instead of failed.

        A failed task would stop all others of the run there, and the alert must not stop the work.
        """
        if not stops_on_failure(self.dag) or self.may_stop_work:
            return self._execute(context)
        try:
            return self._execute(context)
        except (AirflowRescheduleException, AirflowSkipException):
            raise
        except Exception as error:
            ti = context["ti"]
            if not isinstance(error, AirflowFailException) and ti.try_number <= ti.max_tries:
                raise
            self.log.error("Shown as skipped because a failed task would stop this DAG, which has fail_fast: %s", error)
            raise AirflowSkipException(str(error)) from error

    def _execute(self, context: Mapping[str, Any]) -> list[str]:
        raise NotImplementedError

    @property
    def _tags(self) -> dict[str, str]:
        """The tags of this task's metrics."""
        return {"dag_id": self.dag_id, "task_id": self.task_id}

    def _compose(
        self, hook: OmnimessageHook, to: str, time_to_send: datetime | None = None, messages: Any = None
    ) -> dict[str, Any]:
        return hook.compose(
            to,
            self.messages if messages is None else messages,
            time_to_send=time_to_send,
            dlr_url=self.dlr_url,
            text_store=self.text_store,
            priority=self.priority,
        )

    def _plan(
        self, hook: OmnimessageHook, begin: TimeToSend, sent_at: datetime | None = None
    ) -> tuple[list[PlannedNotice], list[Exception]]:
        """
        Return the alert and its steps with each of their recipients, and what is wrong with the rest.

        One wrong number must not cost the others theirs.

        :param begin: when the alert is due; a time in the past means now.
        :param sent_at: when an earlier attempt has sent it; ``None``: it has not.
        """
        planner = Planner(hook, self.log, self.window, self.timezone)
        planned, problems = planner.plan(notices(self.to, self.messages, self.escalate), begin, sent_at)
        return planned, list(problems)

    def _cancel_replaced(self, replaced: Sequence[Alert], hook: OmnimessageHook, known: KnownAlerts) -> None:
        """Cancel what is replaced, after its successor is scheduled, so that there always is an alert.

        :param replaced: of ``known``, with their ids.
        """
        from airflow_provider_omnimessage.tasks.cancelling import cancel_each

        times = known.times()
        waiting = [str(alert.message.omnimessage_id) for alert in replaced if alert.message.waits(now())]
        left = set()
        for outcome in cancel_each(
            hook, waiting, times=times, log=self.log, tags=self._tags, seconds=hook.seconds_left
        ):
            if outcome.cancellation is not None:
                self.log.info("The alert was replaced: %s", outcome)
                continue
            left.add(outcome.omnimessage_id)
            self.log.error("The alert that was replaced is still scheduled; disarm tries again: %s", outcome)
        if len(left) < len(replaced):
            known.drop(alert for alert in replaced if alert.message.omnimessage_id not in left)


def first_that_may_pass(errors: Sequence[Exception]) -> Exception:
    """
    Choose the error that ends a task with several recipients: one that a retry may get past, so that it is retried.

    :param errors: at least one.
    """
    return next((error for error in errors if getattr(error, "may_pass", False)), errors[0])


def now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(timezone.utc)
