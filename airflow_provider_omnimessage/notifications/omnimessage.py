"""The notifier: tells people of what has happened, in every place where Airflow takes a callback."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage._compat import BaseNotifier
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.tasks.rendering import PlainStrings

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.timing import TimeToSend

#: What a text may have at most, where it is not counted in SMS parts.
LENGTHS = {"viber": 1000, "whatsapp": 4096, "rcs": 3072}


@dataclass
class _Notification:
    """A message to one recipient: what is posted, and what came of it."""

    to: str
    moment: TimeToSend | None
    draft: dict[str, Any] | None = None
    omnimessage_id: str | None = None
    problem: BaseException | None = None


class OmnimessageNotifier(PlainStrings, BaseNotifier):
    """
    Send a message about an event: ``POST /omnimessage`` per recipient.

    It fits wherever Airflow takes a callback: ``on_success_callback``, ``on_failure_callback``, ``on_retry_callback``,
    ``on_skipped_callback``, ``on_execute_callback`` of tasks; ``on_success_callback``, ``on_failure_callback`` of DAGs;
    ``notifiers`` of human-in-the-loop operators; and, by its class, the ``AsyncCallback`` and ``SyncCallback`` of a
    ``DeadlineAlert``.

    An alert never blocks a pipeline: what goes wrong is logged, and the task goes on. The callback of a deadline, which
    holds nothing up, fails instead, so that Airflow shows it.

    :param to: the recipient in E.164, or a list of them. (templated)
    :param text: one SMS. A template that does not fit the event, as ``{{ ti }}`` in a deadline's, gives way to the
        default, which says what happened to which task or DAG, in which run, and why. (templated)
    :param messages: messages on any channels, instead of ``text``. (templated)
    :param time_to_send: when; default: now. A moment that has gone by means now. (templated)
    :param timezone: IANA name for a ``time_to_send`` without an offset; default: the connection's, else UTC.
        (templated)
    :param max_parts: a longer SMS is cut to so many parts, from 1: something is taken out of its middle, so that the
        end can still be read. Other channels' texts are cut to what these accept.
    :param dlr_url: where Messente posts delivery reports; default: the connection's. (templated)
    :param text_store: ``"plaintext"``, ``"sha256"`` or ``"nostore"``; default: the connection's. (templated)
    :param priority: ``"low"``, ``"regular"`` or ``"high"``; default: the connection's, else regular. (templated)
    :param omnimessage_conn_id: the Airflow connection, of type ``omnimessage``. (templated)
    :param kwargs: what Airflow gives a notifier that it makes itself: ``context``.
    :raises InvalidInputError: while the DAG is parsed, for what can be seen to be wrong by then.
    """

    template_fields: Sequence[str] = (
        "omnimessage_conn_id",
        "to",
        "time_to_send",
        "timezone",
        "dlr_url",
        "text_store",
        "priority",
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
        max_parts: int = 2,
        dlr_url: str | None = None,
        text_store: str | None = None,
        priority: str | None = None,
        omnimessage_conn_id: str = OmnimessageHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        from airflow_provider_omnimessage.alerts.known import alert_messages

        super().__init__(**kwargs)
        if not isinstance(max_parts, int) or isinstance(max_parts, bool) or max_parts < 1:
            from airflow_provider_omnimessage.api.errors import InvalidInputError

            raise InvalidInputError.of("max_parts", f"{max_parts!r} is not accepted; give a whole number from 1")
        self.to = to
        self.messages = None if text is None and messages is None else alert_messages(text, messages)
        self.time_to_send = time_to_send
        self.timezone = timezone
        self.max_parts = max_parts
        self.dlr_url = dlr_url
        self.text_store = text_store
        self.priority = priority
        self.omnimessage_conn_id = omnimessage_conn_id

    def __call__(self, *args: Any) -> None:
        """Notify, on a copy: rendering is for one event, and the next one has the same notifier."""
        BaseNotifier.__call__(copy.copy(self), *args)

    def render_template_fields(self, context: Any, jinja_env: Any = None) -> None:
        """Render; a message that cannot be rendered for this event gives way to the default text."""
        try:
            if jinja_env is None and not hasattr(context.get("dag"), "get_template_env"):
                # dag.test() gives a DAG's callbacks its serialized form, which has no Jinja environment to offer
                jinja_env = self.get_template_env()
            super().render_template_fields(context, jinja_env)
        except Exception as error:
            self.log.warning("A template does not fit this event (%s): its default text is sent", error)
            self.messages = None

    def notify(self, context: Any) -> None:
        """
        Send the message.

        :param context: Airflow's context of the event.
        :raises OmnimessageError: for a deadline only; elsewhere it is logged.
        """
        try:
            self._notify(context)
        except Exception as error:
            self._tell(context, error)
            if "deadline" in context:
                raise

    async def async_notify(self, context: Any) -> None:
        """
        Send the message from the triggerer, without holding up its event loop.

        :param context: Airflow's context of the event.
        :raises OmnimessageError: as :meth:`notify` does.
        """
        try:
            await self._notify_on_loop(context)
        except Exception as error:
            self._tell(context, error)
            if "deadline" in context:
                raise

    def _tell(self, context: Mapping[str, Any], error: Exception) -> None:
        self.log.error(
            "%s. %s: %s",
            "Not notified" if "deadline" in context else "Nobody was notified, and the work goes on",
            type(error).__name__,
            error,
        )

    def _notify(self, context: Mapping[str, Any]) -> None:
        with OmnimessageHook(self.omnimessage_conn_id) as hook:
            letters = self._letters(context, hook)
            for letter in letters:
                try:
                    if letter.draft is not None:
                        letter.omnimessage_id = hook.post(letter.draft).omnimessage_id
                except Exception as error:
                    # the others are to hear of it all the same
                    letter.problem = error
        self._account(context, letters)

    async def _notify_on_loop(self, context: Mapping[str, Any]) -> None:
        import asyncio

        # importing takes a quarter of a second, once: too long to hold up everybody else on this loop
        await asyncio.to_thread(_import_what_is_needed)
        hook = OmnimessageHook(self.omnimessage_conn_id)
        await hook.look_up_connection()
        letters = self._letters(context, hook)
        whole = [letter for letter in letters if letter.draft is not None]
        answers = await hook.post_all([letter.draft for letter in whole if letter.draft is not None])
        for letter, answer in zip(whole, answers, strict=True):
            if isinstance(answer, BaseException):
                letter.problem = answer
            else:
                letter.omnimessage_id = answer.omnimessage_id
        self._account(context, letters)

    def _letters(self, context: Mapping[str, Any], hook: OmnimessageHook) -> list[_Notification]:
        from airflow_provider_omnimessage.alerts.known import recipients
        from airflow_provider_omnimessage.api.messages import sms

        given = [sms(default_text(context))] if self.messages is None else self.messages
        messages = [cut_message(message, self.max_parts) for message in given]
        moment = self._moment(hook)
        letters = []
        for to in recipients(self.to):
            letter = _Notification(to, moment)
            try:
                letter.draft = hook.compose(
                    to,
                    messages,
                    time_to_send=moment.utc if moment else None,
                    dlr_url=self.dlr_url,
                    text_store=self.text_store,
                    priority=self.priority,
                )
            except Exception as error:
                letter.problem = error
            letters.append(letter)
        return letters

    def _account(self, context: Mapping[str, Any], letters: Sequence[_Notification]) -> None:
        from airflow_provider_omnimessage import metrics
        from airflow_provider_omnimessage.api.masking import mask_number

        ti, dag = (_first(context.get("ti"), context.get("task_instance")), context.get("dag"))
        tags = {"dag_id": _of(ti, "dag_id") or _of(dag, "dag_id"), "task_id": _of(ti, "task_id")}
        for letter in letters:
            if letter.problem is None:
                metrics.count(
                    "scheduled" if letter.moment else "sent", {name: str(tag) for name, tag in tags.items() if tag}
                )
                when = f"is notified at {letter.moment}" if letter.moment else "was notified"
                self.log.info("%s %s: omnimessage_id %s", mask_number(letter.to), when, letter.omnimessage_id)
            elif len(letters) > 1:
                self.log.error("%s was not notified: %s", mask_number(letter.to), letter.problem)
        problems = [letter.problem for letter in letters if letter.problem is not None]
        if problems and (len(problems) == len(letters) or "deadline" in context):
            raise problems[0]

    def _moment(self, hook: OmnimessageHook) -> TimeToSend | None:
        from airflow_provider_omnimessage.api.errors import PastTimeToSendError
        from airflow_provider_omnimessage.hooks.omnimessage import require_future

        if self.time_to_send is None:
            return None
        moment = hook.resolve_time_to_send(self.time_to_send, timezone=self.timezone)
        try:
            require_future(moment)
        except PastTimeToSendError:
            return None
        return moment


def _import_what_is_needed() -> None:
    import airflow_provider_omnimessage.api.messages
    import airflow_provider_omnimessage.hooks.aiohttp_transport
    import airflow_provider_omnimessage.hooks.settings  # noqa: F401


def default_text(context: Mapping[str, Any]) -> str:
    """
    Say what has happened, from what Airflow's context holds; it differs from event to event.

    :param context: of a task's or a DAG's callback, a missed deadline, or a request for a person's input.
    """
    run_id = _first(context.get("run_id"), _of(context.get("dag_run"), "dag_run_id", "run_id"))
    dag_id = _first(_of(context.get("dag"), "dag_id"), _of(context.get("dag_run"), "dag_id"))
    where = str(_first(dag_id, "Airflow"))
    in_run = f" ({run_id})" if run_id else ""
    if "deadline" in context:
        due = _of(context["deadline"], "deadline_time")
        return f"{where}{in_run} has missed its deadline{f' of {due}' if due else ''}"
    if context.get("reason") is not None:
        reason = str(context["reason"])
        done = "succeeded" if reason == "success" else f"failed: {reason.replace('_', ' ')}"
        return f"{where}{in_run} {done}"
    ti = _first(context.get("ti"), context.get("task_instance"))
    task = f"{where}.{_of(ti, 'task_id')}" if ti is not None else where
    subject = _of(context.get("task"), "subject")
    state = _state_of(ti)
    if state == "running" and subject and hasattr(context.get("task"), "options"):
        return f"{task}{in_run} waits for an answer: {subject}"
    verb = {
        "success": "succeeded",
        "skipped": "was skipped",
        "up_for_retry": f"failed and is tried again, after try {_of(ti, 'try_number')}",
        "running": "has begun",
    }.get(state, "failed")
    return f"{task}{in_run} {verb}{_cause(context.get('exception')) if 'failed' in verb else ''}"


def cut_message(message: Any, parts: int) -> Any:
    """
    Cut the text of a message to what is accepted.

    :param message: for any channel; what holds no text is returned as it is.
    :param parts: SMS parts at most.
    """
    from airflow_provider_omnimessage.api.sms_parts import cut_to_length, cut_to_parts

    if not isinstance(message, Mapping):
        return message
    channel, text = message.get("channel"), message.get("text")
    if isinstance(text, Mapping) and isinstance(text.get("body"), str):
        return {**message, "text": {**text, "body": cut_to_length(text["body"], LENGTHS["whatsapp"])}}
    if not isinstance(text, str):
        return message
    if channel == "sms":
        return {**message, "text": cut_to_parts(text, parts)}
    return {**message, "text": cut_to_length(text, LENGTHS[channel])} if channel in LENGTHS else message


def _state_of(ti: Any) -> str:
    state = _of(ti, "state")
    if state is not None:
        return str(getattr(state, "value", state))
    # the DAG processor does not say, where the task's process was killed
    tries, most = _of(ti, "try_number"), _of(ti, "max_tries")
    is_retried = isinstance(tries, int) and isinstance(most, int) and tries <= most
    return "up_for_retry" if is_retried else "failed"


def _cause(exception: Any) -> str:
    if exception is None:
        return ""
    if isinstance(exception, str):
        return f": {exception}"
    said = str(exception).strip().splitlines()
    return f": {type(exception).__name__}{f': {said[0]}' if said else ''}"


def _of(owner: Any, *names: str) -> Any:
    for name in names:
        value = owner.get(name) if isinstance(owner, Mapping) else getattr(owner, name, None)
        if value is not None:
            return value
    return None


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
