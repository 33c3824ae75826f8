"""A DAG whose workers are killed (SIGKILL) in the middle of a bulk send, around its third batch."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param
from dying import die, die_at

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator

ROWS, BATCH = 500, 50
#: Each batch is stored twice: before it is posted, and with its ids.
STORES = {
    "before the third batch is stored": (5, False),
    "after the third batch is stored": (5, True),
    "before the ids of the third batch are stored": (6, False),
    "after the ids of the third batch are stored": (6, True),
}


class Dying(ScheduleBulkOmnimessageOperator):
    """
    Sends to many, and is killed at one point of its first try.

    :param point: where. (templated)
    """

    template_fields = (*ScheduleBulkOmnimessageOperator.template_fields, "point")

    def __init__(self, *, point: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.point = point

    def execute(self, context: Any) -> Any:
        if context["ti"].try_number == 1:
            self.log.info("This try is killed: %s", self.point)
            self._arm(*STORES.get(self.point, (0, False)))
        returned = super().execute(context)
        if context["ti"].try_number == 1:
            die()
        return returned

    def _arm(self, number: int, after: bool) -> None:
        from airflow_provider_omnimessage.bulk.memory import BulkMemory

        die_at(BulkMemory, "keep_batch", call=number, after=after)


def rows() -> Any:
    for index in range(ROWS):
        yield {"to": f"+3725{index:06d}9", "number": index}


with DAG(
    "omnimessage_bulk_crash",
    schedule=None,
    params={"point": Param("after everything", type="string")},
    default_args={"retries": 4, "retry_delay": timedelta(0)},
    max_active_runs=100,
    max_active_tasks=100,
):
    for guarantee in ("at_most_once", "at_least_once"):
        Dying(
            task_id=guarantee,
            delivery_guarantee=guarantee,
            point="{{ params.point }}",
            recipients=rows,
            messages=[sms("{{ run_id }} {{ task.task_id }} $number")],
            time_to_send="2099-01-01T09:00Z",
            batch_size=BATCH,
        )
