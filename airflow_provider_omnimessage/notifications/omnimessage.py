"""The notifier: sends a message about an event, in every place where Airflow takes a callback."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage._compat import BaseNotifier, in_thread
from airflow_provider_omnimessage.alerts.content import alert_messages, check_alert_at_parse, check_alert_window
from airflow_provider_omnimessage.alerts.recipients import TimedRecipients, as_recipients
from airflow_provider_omnimessage.alerts.steps import Step, plan_escalation
from airflow_provider_omnimessage.api.errors import InvalidInputError, PastTimeToSendError
from airflow_provider_omnimessage.api.fields import is_deferred
from airflow_provider_omnimessage.api.lists import plain_argument
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.notifications import once
from airflow_provider_omnimessage.tasks.arguments import RECIPIENT, check_time_at_parse, require_flag
from airflow_provider_omnimessage.tasks.rendering import AlertTemplates

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_omnimessage.notifications.sending import EventSender
    from airflow_provider_omnimessage.triggers.turns import Turn

#: How long the events after the first are counted instead of sent.
QUIET_FOR = timedelta(hours=1)
_SHORTEST_QUIET = timedelta(minutes=1)

#: The error by which Airflow 3.3 refuses to read a connection from its database; older versions do not have the class.
_DENIED = "AirflowSecretsBackendAccessDenied"


class OmnimessageNotifier(AlertTemplates, BaseNotifier):
    """Send a message about an event: ``POST /omnimessage`` for each recipient.

    Use it wherever Airflow takes a callback: ``on_success_callback``, ``on_failure_callback``, ``on_retry_callback``,
    ``on_skipped_callback``, ``on_execute_callback`` of tasks; ``on_success_callback``, ``on_failure_callback`` of DAGs;
    ``notifiers`` of human-in-the-loop operators; and, by its class, the ``AsyncCallback`` and ``SyncCallback`` of a
    ``DeadlineAlert``.

    It never blocks a pipeline: an error is logged, and the task goes on. In a deadline's callback, which holds nothing
    up, an error fails the callback, so that Airflow shows it.

    Example::

        with DAG("report", schedule="@daily", on_failure_callback=OmnimessageNotifier(to="+37255555555")): ...

    :param to: the recipient in E.164 format, or several: a list, JSON text, or separated by commas. Or a function
        ``(datetime) -> number(s)`` or an :class:`~airflow_provider_omnimessage.alerts.OnCall`, for the time at which
        the message goes out. (templated)
    :param text: one SMS. If its template does not fit the event, such as ``{{ ti }}`` in a deadline's, the default is
        sent, which names the task or DAG, the run, what happened and why. (templated)
    :param messages: messages on any channels, instead of ``text``. (templated)
    :param time_to_send: when; default: now. A time in the past means now. (templated)
    :param timezone: IANA name for a ``time_to_send`` without an offset, and for a ``window`` without its own; default:
        the connection's, else UTC. ``"recipient"`` is the zone of each recipient's number; if that is unknown, the
        connection's. (templated)
    :param dedup_key: events with the same key are one storm: the first is sent, those that follow within ``quiet_for``
        are counted, and one digest is sent at its end. Such as ``"{{ dag.dag_id }}"``. Default: each event is sent.
        (templated)
    :param quiet_for: with ``dedup_key``: how long, a timedelta of at least one minute; default: one hour.
    :param recovered: with ``dedup_key``: ``True`` sends, once, that it works again when something with the same key
        succeeds after a failure that was sent, and cancels a waiting digest. Use it with :meth:`callbacks`. Default:
        ``False``.
    :param escalate: with ``dedup_key``: further messages after the first failure; default: none. It is a list of
        ``Step`` (``from airflow_provider_omnimessage.alerts import Step``). All are scheduled at once, and cancelled by
        the first success with the same key, so use it with :meth:`callbacks`. (templated)
    :param window: when the message may be sent, a :class:`~airflow_provider_omnimessage.api.windows.SendWindow` or its
        text form; outside of it, the message is scheduled for the next time in it. ``"connection"`` is the connection's
        window, which is ignored by default: this is an alert. (templated)
    :param max_parts: most SMS parts, from 1. A longer text loses its middle, so that its end can still be read. Texts
        of other channels are cut to what these accept.
    :param dlr_url: where Messente posts delivery reports; default: the connection's. (templated)
    :param text_store: ``"plaintext"``, ``"sha256"`` or ``"nostore"``; default: the connection's. (templated)
    :param priority: ``"low"``, ``"regular"`` or ``"high"``; default: the connection's, else regular. (templated)
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``. (templated)
    :param kwargs: what Airflow passes to a notifier that it constructs itself: ``context``.
    :raises InvalidInputError: while the DAG is parsed, names everything that is wrong by then.
    """

    template_fields: Sequence[str] = (
        "omnimessage_conn_id",
        "to",
        "time_to_send",
        "timezone",
        "window",
        "dlr_url",
        "text_store",
        "priority",
        "dedup_key",
        "escalate",
        "messages",
    )

    def __init__(
        self,
        *,
        to: Any,
        text: Any = None,
        messages: Any = None,
        time_to_send: Any = None,
        timezone: str | None = None,
        window: Any = None,
        dedup_key: str | None = None,
        quiet_for: timedelta | None = None,
        recovered: bool = False,
        escalate: Sequence[Step] | None = None,
        max_parts: int = 2,
        dlr_url: str | None = None,
        text_store: str | None = None,
        priority: str | None = None,
        omnimessage_conn_id: str = OmnimessageHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not isinstance(max_parts, int) or isinstance(max_parts, bool) or max_parts < 1:
            raise InvalidInputError.of("max_parts", f"{max_parts!r} is not accepted; use a whole number from 1")
        drafts = None if text is None and messages is None else alert_messages(text, messages)
        if "context" not in kwargs:  # Airflow constructs it for a deadline that is missed: too late to be strict
            zone = None if timezone == RECIPIENT else timezone
            check_alert_at_parse(
                to=to, messages=drafts, timezone=zone, dlr_url=dlr_url, text_store=text_store, priority=priority
            )
        if time_to_send is not None:
            check_time_at_parse(time_to_send, timezone)
        _check_deduplication(dedup_key, quiet_for, recovered, escalate, time_to_send)
        self.to = as_recipients(to)
        self.messages = drafts
        self.time_to_send = time_to_send
        self.timezone = timezone
        self.window = check_alert_window(window, to)
        if window is not None and dedup_key is not None:
            raise InvalidInputError.of("window", "cannot be combined with dedup_key; leave one of them out")
        _check_zone_of_recipients(timezone, self.to, dedup_key)
        self.dedup_key = dedup_key
        self.quiet_for = quiet_for or QUIET_FOR
        self.recovered = recovered
        self.escalate = plan_escalation(escalate)
        # a success ends what failures have begun, even if each step is left out when it is rendered
        self._ends_with_success = recovered or bool(self.escalate)
        self.max_parts = max_parts
        self.dlr_url = dlr_url
        self.text_store = text_store
        self.priority = priority
        self.omnimessage_conn_id = omnimessage_conn_id
        # as passed: rendering changes them
        self._arguments = once.stable_text((to, drafts, time_to_send, omnimessage_conn_id))

    @classmethod
    def callbacks(cls, **kwargs: Any) -> dict[str, Any]:
        """Return both callbacks of a DAG or a task: one notifier for its failures and its successes.

        Example::

            DAG(
                "report",
                **OmnimessageNotifier.callbacks(to="+37255555555", dedup_key="{{ dag.dag_id }}", recovered=True),
            )

        :param kwargs: the notifier's parameters; ``recovered=True`` or ``escalate`` among them.
        """
        notifier = cls(**kwargs)
        if not notifier._ends_with_success:
            raise InvalidInputError.of(
                "recovered",
                "is not set, so each success would be sent; set recovered=True, or pass on_failure_callback",
            )
        return {"on_failure_callback": notifier, "on_success_callback": notifier}

    def __call__(self, *args: Any) -> None:
        """Notify, on a copy: rendering is for one event, and the next one has the same notifier."""
        BaseNotifier.__call__(copy.copy(self), *args)

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render; if a template does not fit this event, the default text is sent instead.

        A step of the escalation whose template does not fit is left out; the text and the other steps stay.
        """
        steps, self.escalate = self.escalate, []
        try:
            if jinja_env is None:
                # dag.test() passes a DAG's callbacks its serialized form, which has no Jinja environment
                dag = context.get("dag")
                jinja_env = self.get_template_env(dag=dag if hasattr(dag, "get_template_env") else None)
            super().render_template_fields(context, jinja_env)
        except Exception as error:
            self.log.warning("A template does not fit this event, sending the default text: %s", error)
            self.messages = None
        self.escalate = self._rendered_steps(steps, context, jinja_env)

    def _rendered_steps(self, steps: list[dict[str, Any]], context: Any, jinja_env: Any) -> list[dict[str, Any]]:
        rendered = []
        for number, step in enumerate(steps, 1):
            holder = SimpleNamespace(step=step)
            try:
                self._do_render_template_fields(holder, ["step"], context, jinja_env, set())
            except Exception as error:
                self.log.warning("Step %s of the escalation, after %s, is left out: %s", number, step["after"], error)
            else:
                rendered.append(holder.step)
        return rendered

    def notify(self, context: Context) -> None:
        """Send the message.

        :raises OmnimessageError: for a deadline only; elsewhere it is logged.
        """
        try:
            self._notify(context, self._sender(context))
        except Exception as error:
            if "deadline" not in context:
                self._log_failure(context, error)
            elif type(error).__name__ == _DENIED:
                denied = self._connection_denied()
                self._log_failure(context, denied)
                raise denied from error
            else:
                self._log_failure(context, error)
                raise

    async def async_notify(self, context: Context) -> None:
        """Send the message from the triggerer, without blocking its event loop.

        For a deadline, once per process. Of several triggerers in which Airflow starts the same callback, one sends it
        if the connection has a receiver; without one, each of them does.

        :raises OmnimessageError: for a deadline only; elsewhere it is logged.
        """
        deadline = context.get("deadline")
        deadline_id = deadline.get("id") if isinstance(deadline, Mapping) else None
        if deadline_id is None:
            await self._async_notify(context)
            return
        from airflow_provider_omnimessage.triggers.turns import in_turn

        key = f"{deadline_id} {self._arguments}"
        work = partial(self._async_notify, context)
        await once.run_once(key, lambda: in_turn(key, self.omnimessage_conn_id, work, self.log))

    async def _async_notify(self, context: Context, turn: Turn | None = None) -> None:
        sender = self._sender(context)
        try:
            if self._is_untracked_success(context):
                return
            if self._is_deduplicated():
                # Variables are read and written synchronously, with pauses in between
                await in_thread(partial(self._notify, context, sender))
            else:
                await self._notify_on_loop(context, sender)
        except Exception as error:
            self._log_failure(context, error)
            if "deadline" in context:
                raise
        finally:
            if turn is not None:
                turn.has_sent = bool(sender.notified)

    def _connection_denied(self) -> InvalidInputError:
        return InvalidInputError.of(
            "omnimessage_conn_id",
            f"a SyncCallback may not read the connection '{self.omnimessage_conn_id}' from Airflow's database; set "
            f"AIRFLOW_CONN_{self.omnimessage_conn_id.upper()} on the workers, keep it in a secrets backend, or use "
            "AsyncCallback",
        )

    def _log_failure(self, context: Mapping[str, Any], error: Exception) -> None:
        outcome = "No notification was sent" + ("" if "deadline" in context else "; the task goes on")
        self.log.error("%s. %s: %s", outcome, type(error).__name__, error)

    def _notify(self, context: Mapping[str, Any], sender: EventSender) -> None:
        if self._is_untracked_success(context):
            return
        with OmnimessageHook(self.omnimessage_conn_id) as hook, hook.within(hook.settings.deadline):
            if self._is_deduplicated():
                self._deduplicate(context, hook, sender)
            else:
                sender.post(hook, self._messages(context), self._resolve_time(hook))

    async def _notify_on_loop(self, context: Mapping[str, Any], sender: EventSender) -> None:
        from airflow_provider_omnimessage.hooks.lookup import import_transport

        await import_transport()
        hook = OmnimessageHook(self.omnimessage_conn_id)
        await hook.look_up_connection()
        notifications = sender.compose(hook, self._messages(context), self._resolve_time(hook))
        complete = [each for each in notifications if each.draft is not None]
        results = await hook.post_all([each.draft for each in complete if each.draft is not None])
        for each, result in zip(complete, results, strict=True):
            if isinstance(result, BaseException):
                each.error = result
            else:
                each.omnimessage_id = result.omnimessage_id
        sender.report(notifications)

    def _is_deduplicated(self) -> bool:
        # a template that does not fit the event is still there
        return bool(self.dedup_key) and not is_deferred(self.dedup_key)

    def _is_untracked_success(self, context: Mapping[str, Any]) -> bool:
        """Return whether this is a success that ends no failures, as its key is not known. It is no event by itself."""
        from airflow_provider_omnimessage.notifications.texts import is_success

        if not self._ends_with_success or self._is_deduplicated() or not is_success(context):
            return False
        self.log.warning("Nothing is sent about this success: dedup_key has no value here, so no failures are known")
        return True

    def _deduplicate(self, context: Mapping[str, Any], hook: OmnimessageHook, sender: EventSender) -> None:
        from airflow_provider_omnimessage.notifications.digest import Deduplicator
        from airflow_provider_omnimessage.notifications.event_store import EventStore
        from airflow_provider_omnimessage.notifications.sending import EventCourier
        from airflow_provider_omnimessage.notifications.texts import event_of, is_success

        courier = EventCourier(sender, hook, self._messages(context), self.escalate)
        store = EventStore(str(self.dedup_key), self.log)
        deduplicator = Deduplicator(
            store,
            courier,
            self.log,
            quiet_for=self.quiet_for,
            is_tracked=self._ends_with_success,
            is_reported=self.recovered,
        )
        now = datetime.now(timezone.utc)
        if self._ends_with_success and is_success(context):
            deduplicator.succeeded(event_of(context), now)
        else:
            deduplicator.happened(event_of(context), now)

    def _messages(self, context: Mapping[str, Any]) -> list[Any]:
        from airflow_provider_omnimessage.notifications.texts import default_text

        return [sms(default_text(context))] if self.messages is None else list(plain_argument(self.messages))

    def _sender(self, context: Mapping[str, Any]) -> EventSender:
        from airflow_provider_omnimessage.notifications.sending import EventSender

        options = {"dlr_url": self.dlr_url, "text_store": self.text_store, "priority": self.priority}
        return EventSender(self.to, self.max_parts, options, context, self.log, self.window, self.timezone)

    def _resolve_time(self, hook: OmnimessageHook) -> Any:
        """Return the time for all recipients; one in the time zone of each is resolved for each."""
        from airflow_provider_omnimessage.hooks.choosing import require_future

        if self.time_to_send is None or self.timezone == RECIPIENT:
            return self.time_to_send
        time_to_send = hook.resolve_time_to_send(self.time_to_send, timezone=self.timezone)
        try:
            require_future(time_to_send)
        except PastTimeToSendError:
            return None
        return time_to_send


def _check_zone_of_recipients(timezone: Any, to: Any, dedup_key: Any) -> None:
    """Raise, while the DAG is parsed, if the time zone of each recipient cannot be used."""
    if timezone != RECIPIENT:
        return
    if dedup_key is not None:
        raise InvalidInputError.of("timezone", "'recipient' cannot be combined with dedup_key; leave one of them out")
    if isinstance(to, TimedRecipients):
        raise InvalidInputError.of(
            "timezone",
            "'recipient' cannot be combined with recipients that depend on the time; use an IANA name",
        )


def _check_deduplication(dedup_key: Any, quiet_for: Any, recovered: Any, escalate: Any, time_to_send: Any) -> None:
    """Raise for a deduplication that cannot work, while the DAG is parsed."""
    require_flag("recovered", recovered)
    if dedup_key is None:
        for name, value in (("quiet_for", quiet_for), ("recovered", recovered), ("escalate", escalate)):
            if value:
                raise InvalidInputError.of(
                    name, "works with dedup_key only; set dedup_key, such as '{{ dag.dag_id }}', or leave it out"
                )
        return
    if not isinstance(dedup_key, str) or not dedup_key.strip():
        raise InvalidInputError.of(
            "dedup_key", f"{dedup_key!r} is not accepted; use a text, such as '{{{{ dag.dag_id }}}}'"
        )
    if quiet_for is not None and (not isinstance(quiet_for, timedelta) or quiet_for < _SHORTEST_QUIET):
        raise InvalidInputError.of(
            "quiet_for", f"{quiet_for!r} is not accepted; use a timedelta of at least one minute"
        )
    if time_to_send is not None:
        raise InvalidInputError.of("time_to_send", "cannot be combined with dedup_key; leave one of them out")
