"""The notifier as a DAG's callback under ``dag.test()``, as people try it first."""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier

TO = "+37255555555"


def test_a_dags_callback_renders_its_own_text(run_dag, sandbox):
    with DAG(
        "tells",
        schedule=None,
        on_success_callback=OmnimessageNotifier(to=TO, text="{{ dag.dag_id }} {{ run_id }} is done"),
    ) as dag:

        @task
        def work(): ...

        work()

    run = run_dag(dag)
    (message,) = sandbox.messages
    assert message["body"]["messages"] == [{"channel": "sms", "text": f"tells {run.run_id} is done"}]
    assert "does not fit" not in run.log
