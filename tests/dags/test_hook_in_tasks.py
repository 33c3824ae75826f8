"""The hook in a task that somebody has written: what the task may return, and what a retry of it does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import task
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_omnimessage.api.errors import LostResponseError
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

TO = "+37255555555"
LATER = timedelta(hours=1)

METHODS = {
    "send": lambda hook, id_: hook.send(TO, [sms("b")]),
    "post_bulk": lambda hook, id_: hook.post_bulk([hook.compose(TO, [sms("b")])]),
    "reschedule": lambda hook, id_: hook.reschedule(id_, TO, [sms("b")], time_to_send=LATER),
    "try_to_cancel": lambda hook, id_: hook.try_to_cancel(id_),
    "get_delivery_report": lambda hook, id_: hook.get_delivery_report(id_),
    "resolve_time_to_send": lambda hook, id_: hook.resolve_time_to_send(LATER),
}


@pytest.mark.parametrize("method", METHODS)
def test_a_task_may_return_what_the_hook_returns(dag, run_dag, sandbox, method):
    """If Airflow could not store it, the task would fail after its request, and its retry would make another one."""
    scheduled = OmnimessageHook().send(TO, [sms("a")], time_to_send=LATER).omnimessage_id

    @task(retries=1, retry_delay=timedelta(0))
    def call():
        with OmnimessageHook() as hook:
            return METHODS[method](hook, scheduled)

    call()
    run = run_dag(dag)
    assert (run.tasks, run.tries) == ({"call": "success"}, {"call": 1})
    assert run.xcom("call")


@pytest.mark.parametrize("catches", [True, False])
def test_a_retry_of_such_a_task_posts_again_unless_it_fails_for_good(dag, run_dag, sandbox, catches):
    sandbox.add_fault("lost_answer", call="send")

    @task(retries=1, retry_delay=timedelta(0))
    def call():
        with OmnimessageHook() as hook:
            try:
                hook.send(TO, [sms("a")])
            except LostResponseError as error:
                if catches:
                    raise AirflowFailException(str(error)) from error
                raise

    call()
    assert run_dag(dag).tasks == {"call": "failed" if catches else "success"}
    assert len(sandbox.messages) == (1 if catches else 2)
