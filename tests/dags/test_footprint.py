"""How much a task leaves in Airflow's database: docs/scale.md counts with these figures."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from full_size import full_size

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.operators.omnimessage import ScheduleOmnimessageOperator
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

SOON = timedelta(hours=1)
pytestmark = full_size


@pytest.fixture
def rows():
    """Return the rows that a task has left in a table: how many, and the bytes of their values."""
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    def count(table, run, task_id):
        model = {"xcom": XComModel, "state": TaskStateStoreModel}[table]
        with create_session() as session:
            found = session.query(model).filter_by(run_id=run.run_id, task_id=task_id).all()
            texts = [one.value if isinstance(one.value, str) else json.dumps(one.value) for one in found]
        return len(texts), sum(map(len, texts))

    return count


def test_a_task_that_schedules_leaves_five_xcoms_and_one_row_of_the_store(dag, run_dag, rows, sandbox):
    ScheduleOmnimessageOperator(task_id="send", to="+37255555555", messages=[sms("x")], time_to_send=SOON)
    run = run_dag(dag)
    xcoms, xcom_bytes = rows("xcom", run, "send")
    stored, stored_bytes = rows("state", run, "send")
    assert (xcoms, stored) == (5, 1)
    assert xcom_bytes < 200
    assert stored_bytes < 450


def test_a_wait_leaves_two_xcoms(dag, run_dag, rows, sandbox):
    message = ScheduleOmnimessageOperator(task_id="send", to="+37255555555", messages=[sms("x")], time_to_send=SOON)
    OmnimessageDeliverySensor(task_id="wait", omnimessage_id=message.output, timeout=1, on_timeout="return")
    run = run_dag(dag)
    xcoms, xcom_bytes = rows("xcom", run, "wait")
    assert (xcoms, rows("state", run, "wait")) == (2, (0, 0))
    assert xcom_bytes < 300


@pytest.mark.parametrize("has_file", [False, True])
def test_a_bulk_send_leaves_forty_bytes_for_each_message(dag, run_dag, rows, sandbox, tmp_path, has_file):
    ScheduleBulkOmnimessageOperator(
        task_id="send",
        recipients=[{"to": f"+3725555{number}"} for number in range(6000, 6200)],
        messages=[sms("x")],
        time_to_send=SOON,
        batch_size=100,
        results_path=str(tmp_path / "results.jsonl") if has_file else None,
    )
    run = run_dag(dag)
    xcoms, xcom_bytes = rows("xcom", run, "send")
    stored, stored_bytes = rows("state", run, "send")
    assert (xcoms, stored) == (2, 3)
    assert stored_bytes < 45 * 200 + 500
    assert xcom_bytes < (1000 if has_file else 45 * 200)
