"""Checks of the sensor's arguments."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_omnimessage.api.errors import InvalidInputError

if TYPE_CHECKING:
    from airflow_provider_omnimessage._compat import BaseSensorOperator

#: Options of Airflow's sensors that would have no effect here, and what to use instead.
_UNUSED_OPTIONS = {
    "exponential_backoff": "the gap between two polls grows with the message's age by itself; leave it out",
    "max_wait": "poke_interval is the longest gap between two polls; set that instead",
    "silent_fail": "errors that may pass are retried until the timeout by themselves; leave it out",
}


def require_share(require: object) -> None:
    """Raise unless ``require`` is ``all``, ``any`` or a share of the messages."""
    is_share = isinstance(require, (int, float)) and not isinstance(require, bool) and 0 < require <= 1
    if require not in ("all", "any") and not is_share:
        raise InvalidInputError.of("require", f"{require!r} is not accepted; pass 'all', 'any' or a share such as 0.95")


def reject_timedelta(time_to_send: object) -> None:
    """Raise if the time is relative to a now that differs at each poll."""
    if isinstance(time_to_send, timedelta):
        raise InvalidInputError.of(
            "time_to_send",
            "a timedelta would be re-evaluated at every poll; pass the absolute time, such as "
            "schedule.output['time_to_send']",
        )


def reject_unused_options(sensor: BaseSensorOperator) -> None:
    """Raise if an option of Airflow's sensors is set that has no effect on this one."""
    for name, reason in _UNUSED_OPTIONS.items():
        if getattr(sensor, name, None):
            raise InvalidInputError.of(name, f"has no effect here: {reason}")
