"""Checks of the arguments that several operators share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from datetime import timezone as utc_offset
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.fields import choice, is_deferred, require

if TYPE_CHECKING:
    from airflow.sdk import Context

#: As a time zone: that of each recipient's number.
RECIPIENT = "recipient"
ON_PAST = ("fail", "skip", "send_now")
IF_ALREADY_SENT = ("fail", "skip", "ignore")
ORDERS = ("cancel_first", "schedule_first")


def task_tags(context: Context | Mapping[str, Any]) -> dict[str, str]:
    """Return the metric tags of a running task."""
    task_instance = context["ti"]
    return {"dag_id": task_instance.dag_id, "task_id": task_instance.task_id}


def check_time_at_parse(time_to_send: object, timezone: object) -> None:
    """Check, while the DAG is parsed, the parts of a time that are known by then."""
    from airflow_provider_omnimessage.api.timing import resolve

    known_zone = None if is_deferred(timezone) or timezone == RECIPIENT else timezone
    known_time = timedelta(0) if is_deferred(time_to_send) else time_to_send
    resolve(known_time, zone=known_zone, now=datetime.now(utc_offset.utc))


def require_time(time_to_send: object) -> None:
    """Raise if a template or an XCom has made ``None`` of a time: a message without one would be sent at once."""
    if time_to_send is None:
        raise InvalidInputError.of(
            "time_to_send",
            "None is not a time; pass one, or use SendOmnimessageOperator to send now. The XCom or the template has no "
            "value",
        )


def require_flag(field: str, value: object) -> None:
    """Raise unless a value is ``True`` or ``False``."""
    if not isinstance(value, bool):
        raise InvalidInputError.of(field, f"{value!r} is not accepted; use True or False")


def check_zone_at_parse(timezone: object) -> None:
    """Check, while the DAG is parsed, a time zone that is known by then."""
    if timezone is not None:
        check_time_at_parse(timedelta(0), timezone)


def check_budget_at_parse(budget: object, prices: object) -> None:
    """Check, while the DAG is parsed, that a budget can be judged."""
    if budget is not None:
        from airflow_provider_omnimessage.api.estimate import check_budget

        check_budget(budget, prices)


def check_window_at_parse(window: object, on_unknown_zone: object) -> Any:
    """Check, while the DAG is parsed, what is known of a window by then; return it as plain data."""
    if on_unknown_zone == "fail" and window is None:
        return None
    from airflow_provider_omnimessage.api.send_times import check_on_unknown_zone, window_as_argument

    check_on_unknown_zone(on_unknown_zone)
    return window_as_argument(window)


def require_choice(field: str, value: object, accepted: Sequence[str], *, rendered: bool = False) -> None:
    """Raise unless ``value`` is one of ``accepted``, or a template that is not rendered yet."""
    require(field, value, choice(*accepted), rendered=rendered)
