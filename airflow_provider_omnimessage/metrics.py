"""What the provider counts, through Airflow's own stats: nothing to set up, and next to nothing where they are off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_omnimessage._compat import airflow_stats, triggerer_stats

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.delivery import Outcome
    from airflow_provider_omnimessage.api.waiting import Verdict

PREFIX = "omnimessage"


def count(
    event: Literal["sent", "scheduled", "cancelled", "delivered", "failed", "retried", "push_received", "push_missed"],
    tags: Mapping[str, str],
    times: int = 1,
    *,
    in_triggerer: bool = False,
) -> None:
    """
    Count an event as ``omnimessage.<event>``.

    :param event: what happened.
    :param tags: for the backends that know them.
    :param times: how often; 0 counts nothing.
    :param in_triggerer: whether a trigger counts, and not a task.
    """
    if times:
        more = {"count": times} if times > 1 else {}
        _stats(in_triggerer).incr(f"{PREFIX}.{event}", **more, tags=dict(tags))


def count_outcome(
    outcome: Outcome, seconds: float | None, tags: Mapping[str, str], *, in_triggerer: bool = False
) -> None:
    """
    Count how a message ended: ``omnimessage.delivered`` (seen included) or ``omnimessage.failed``.

    A delivered one is also timed, as ``omnimessage.delivery_duration``.

    :param outcome: what its delivery report adds up to; one that is not an end counts as nothing.
    :param seconds: from its time to send to its delivery, where that is known.
    :param tags: for the backends that know them.
    :param in_triggerer: whether a trigger counts, and not a task.
    """
    from airflow_provider_omnimessage.api.delivery import Outcome

    if outcome is Outcome.FAILED:
        count("failed", tags, in_triggerer=in_triggerer)
    if outcome in (Outcome.DELIVERED, Outcome.SEEN):
        count("delivered", tags, in_triggerer=in_triggerer)
        if seconds is not None:
            duration = timedelta(seconds=seconds)
            _stats(in_triggerer).timing(f"{PREFIX}.delivery_duration", duration, tags=dict(tags))


def count_verdict(verdict: Verdict, task_instance: Any, *, in_triggerer: bool = False) -> None:
    """
    Count how awaited messages ended; those of a bulk send by their numbers, without a duration for each.

    :param verdict: of the wait.
    :param task_instance: whose DAG and task become the tags.
    :param in_triggerer: whether a trigger counts, and not a task.
    """
    counted = verdict.counted
    if counted is None:
        count_reports(verdict.reports, task_instance, in_triggerer=in_triggerer)
        return
    tags = {"dag_id": task_instance.dag_id, "task_id": task_instance.task_id} if task_instance else {}
    count("delivered", tags, counted["delivered"] + counted["seen"], in_triggerer=in_triggerer)
    count("failed", tags, counted["failed"], in_triggerer=in_triggerer)


def count_reports(reports: Iterable[Mapping[str, Any]], task_instance: Any, *, in_triggerer: bool = False) -> None:
    """
    Count how awaited messages ended.

    :param reports: their summaries, as the sensor leaves them in its XCom.
    :param task_instance: whose DAG and task become the tags.
    :param in_triggerer: whether a trigger counts, and not a task.
    """
    from airflow_provider_omnimessage.api.delivery import Outcome

    tags = {"dag_id": task_instance.dag_id, "task_id": task_instance.task_id} if task_instance else {}
    for report in reports:
        count_outcome(Outcome(report["outcome"]), report["seconds_to_delivery"], tags, in_triggerer=in_triggerer)


def _stats(in_triggerer: bool) -> Any:
    return triggerer_stats() if in_triggerer else airflow_stats()
