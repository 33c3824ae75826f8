"""Report the provider's metrics through Airflow's own stats: no setup, and almost no cost if they are off."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_omnimessage._compat import airflow_stats, triggerer_stats

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol as RuntimeTaskInstance

    from airflow_provider_omnimessage.api.delivery import Outcome
    from airflow_provider_omnimessage.api.wait_result import WaitResult

PREFIX = "omnimessage"


def count(
    event: Literal[
        "sent",
        "scheduled",
        "cancelled",
        "delivered",
        "failed",
        "retried",
        "not_armed",
        "push_received",
        "push_missed",
    ],
    tags: Mapping[str, str],
    times: int = 1,
    *,
    in_triggerer: bool = False,
) -> None:
    """
    Count an event as ``omnimessage.<event>``.

    :param tags: for backends that support them.
    :param times: 0 counts nothing.
    :param in_triggerer: whether this runs in the triggerer, and not in a task.
    """
    if times:
        more = {"count": times} if times > 1 else {}
        _stats(in_triggerer).incr(f"{PREFIX}.{event}", **more, tags=dict(tags))


def count_outcome(
    outcome: Outcome, seconds: float | None, tags: Mapping[str, str], *, in_triggerer: bool = False
) -> None:
    """
    Count the outcome of a message: ``omnimessage.delivered`` (also for seen) or ``omnimessage.failed``.

    For a delivered message, ``omnimessage.delivery_duration`` is reported too.

    :param outcome: nothing is counted if it is not final.
    :param seconds: from its time to send to its delivery, if known.
    :param tags: for backends that support them.
    :param in_triggerer: whether this runs in the triggerer, and not in a task.
    """
    from airflow_provider_omnimessage.api.delivery import Outcome

    if outcome is Outcome.FAILED:
        count("failed", tags, in_triggerer=in_triggerer)
    if outcome in (Outcome.DELIVERED, Outcome.SEEN):
        count("delivered", tags, in_triggerer=in_triggerer)
        if seconds is not None:
            duration = timedelta(seconds=seconds)
            _stats(in_triggerer).timing(f"{PREFIX}.delivery_duration", duration, tags=dict(tags))


def count_wait(result: WaitResult, task_instance: RuntimeTaskInstance | None, *, in_triggerer: bool = False) -> None:
    """
    Count the outcomes of a wait's messages; for a bulk send by their numbers, without durations.

    :param task_instance: its DAG and task become the tags.
    :param in_triggerer: whether this runs in the triggerer, and not in a task.
    """
    from airflow_provider_omnimessage.api.delivery import Outcome

    tags = {"dag_id": task_instance.dag_id, "task_id": task_instance.task_id} if task_instance else {}
    if result.counts is not None:
        count("delivered", tags, result.counts["delivered"] + result.counts["seen"], in_triggerer=in_triggerer)
        count("failed", tags, result.counts["failed"], in_triggerer=in_triggerer)
        return
    known = {outcome.value: outcome for outcome in Outcome}
    for report in result.reports:
        if outcome := known.get(report["outcome"]):
            count_outcome(outcome, report["seconds_to_delivery"], tags, in_triggerer=in_triggerer)


def _stats(in_triggerer: bool) -> Any:
    return triggerer_stats() if in_triggerer else airflow_stats()
