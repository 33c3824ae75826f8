"""What a notification says about an event, and how a text is cut to what a channel accepts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_omnimessage._compat import mask_secrets
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.api.sms_parts import cut_to_length, cut_to_parts
from airflow_provider_omnimessage.notifications.event_state import Event

#: Most characters of a text, by channel, except for SMS, whose parts are counted.
LONGEST_TEXTS = {"viber": 1000, "whatsapp": 4096, "rcs": 3072}

_VERBS = {"success": "succeeded", "skipped": "was skipped", "running": "has started"}


def default_text(context: Mapping[str, Any]) -> str:
    """Return what has happened, in one line, from what Airflow's context holds; it differs from event to event.

    :param context: of a task's or a DAG's callback, a missed deadline, or a request for a person's input.
    """
    return _sendable(_describe(context))


def cut_message(message: Any, parts: int) -> Any:
    """Return a message whose text is cut to what its channel accepts; what holds no text comes back as it is.

    Secrets that Airflow knows are masked, since texts quote exceptions.

    :param parts: most SMS parts.
    """
    if not isinstance(message, Mapping):
        return message
    channel, text = message.get("channel"), message.get("text")
    if isinstance(text, Mapping) and isinstance(text.get("body"), str):
        body = cut_to_length(_sendable(text["body"]), LONGEST_TEXTS["whatsapp"])
        return {**message, "text": {**text, "body": body}}
    if not isinstance(text, str):
        return message
    text = _sendable(text)
    if channel == "sms":
        return {**message, "text": cut_to_parts(text, parts)}
    return {**message, "text": cut_to_length(text, LONGEST_TEXTS[channel])} if channel in LONGEST_TEXTS else message


def with_text(messages: Sequence[Any], text: str) -> list[Any]:
    """Return messages on the same channels with another text; an SMS, if none of them has a plain text."""
    plain = ("channel", "sender", "ttl", "validity", "autoconvert")
    found: list[Any] = []
    for message in messages:
        if isinstance(message, Mapping) and message.get("text"):
            own: Any = {**message["text"], "body": text} if isinstance(message["text"], Mapping) else text
            found.append({**{name: message[name] for name in plain if name in message}, "text": own})
    return found or [sms(text)]


def is_success(context: Mapping[str, Any]) -> bool:
    """Return whether a task or a run has succeeded."""
    if context.get("reason") is not None:
        return str(context["reason"]) == "success"
    ti = _first(context.get("ti"), context.get("task_instance"))
    return ti is not None and _state(ti) == "success"


def event_of(context: Mapping[str, Any]) -> Event:
    """Return what a digest says about an event."""
    dag_run = context.get("dag_run")
    ti = None if context.get("reason") is not None else _first(context.get("ti"), context.get("task_instance"))
    state = _state(ti) if ti is not None else "failed"
    return Event(
        scope=str(_first(_attribute(context.get("dag"), "dag_id"), _attribute(dag_run, "dag_id"), "Airflow")),
        name=str(_attribute(ti, "task_id") or ""),
        run=str(_first(context.get("run_id"), _attribute(dag_run, "dag_run_id", "run_id"), "")),
        noun="events" if state in _VERBS or is_success(context) else "failures",
    )


def event_tags(context: Mapping[str, Any]) -> dict[str, str]:
    """Return the metric tags of an event: those of ``dag_id`` and ``task_id`` that its context holds."""
    ti = _first(context.get("ti"), context.get("task_instance"))
    tags = {
        "dag_id": _first(_attribute(ti, "dag_id"), _attribute(context.get("dag"), "dag_id")),
        "task_id": _attribute(ti, "task_id"),
    }
    return {name: str(tag) for name, tag in tags.items() if tag}


def _describe(context: Mapping[str, Any]) -> str:
    dag_run = context.get("dag_run")
    run_id = _first(context.get("run_id"), _attribute(dag_run, "dag_run_id", "run_id"))
    dag_id = _first(_attribute(context.get("dag"), "dag_id"), _attribute(dag_run, "dag_id"))
    where = str(_first(dag_id, "Airflow"))
    in_run = f" ({run_id})" if run_id else ""
    if "deadline" in context:
        due = _attribute(context["deadline"], "deadline_time")
        return f"{where}{in_run} missed its deadline{f' of {due}' if due else ''}"
    if context.get("reason") is not None:
        reason = str(context["reason"])
        outcome = "succeeded" if reason == "success" else f"failed: {reason.replace('_', ' ')}"
        return f"{where}{in_run} {outcome}"
    return _describe_task(context, where, in_run)


def _describe_task(context: Mapping[str, Any], where: str, in_run: str) -> str:
    ti, task = _first(context.get("ti"), context.get("task_instance")), context.get("task")
    name = f"{where}.{_attribute(ti, 'task_id')}" if ti is not None else where
    subject = _attribute(task, "subject")
    state = _state(ti)
    if state == "running" and subject and hasattr(task, "options"):
        return f"{name}{in_run} is waiting for an answer: {subject}"
    if state == "up_for_retry":
        verb = f"failed and will be retried, after try {_attribute(ti, 'try_number')}"
    else:
        verb = _VERBS.get(state, "failed")
    return f"{name}{in_run} {verb}{_cause(context.get('exception')) if 'failed' in verb else ''}"


def _state(ti: Any) -> str:
    state = _attribute(ti, "state")
    if state is not None:
        return str(getattr(state, "value", state))
    # the DAG processor does not know it if the task's process was killed
    tries, most = _attribute(ti, "try_number"), _attribute(ti, "max_tries")
    is_retried = isinstance(tries, int) and isinstance(most, int) and tries <= most
    return "up_for_retry" if is_retried else "failed"


def _cause(exception: Any) -> str:
    if exception is None:
        return ""
    if isinstance(exception, str):
        return f": {exception}"
    try:
        lines = str(exception).strip().splitlines()
    except Exception:  # an exception of somebody's own, whose __str__ is broken
        lines = []
    return f": {type(exception).__name__}{f': {lines[0]}' if lines else ''}"


def _sendable(text: str) -> str:
    """Mask the secrets that Airflow knows, and replace halves of surrogate pairs, which no channel can carry."""
    return mask_secrets(text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _attribute(owner: Any, *names: str) -> Any:
    for name in names:
        value = owner.get(name) if isinstance(owner, Mapping) else getattr(owner, name, None)
        if value is not None:
            return value
    return None


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)
