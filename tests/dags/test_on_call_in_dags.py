"""Recipients of alerts that depend on the time at which the message goes out."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from airflow.sdk import task
from full_size import full_size

from airflow_provider_omnimessage.alerts import DeadMansSwitch, HeartbeatOperator, OnCall
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier

ANN, BOB, TEAM = "+37255555551", "+37255555552", "+37255555550"


@full_size
def test_each_alert_goes_to_whoever_is_on_call_when_it_is_sent(dag, run_dag, sandbox, tmp_path, caplog):
    """Ann's shift is over in half an hour, then comes Bob's of an hour; nobody follows him."""
    change = datetime.now(timezone.utc) + timedelta(minutes=30)
    end = change + timedelta(hours=1)
    shifts = [(change - timedelta(days=1), change, "Ann"), (change, end, "Bob")]
    events = [
        f"BEGIN:VEVENT\nUID:{name}\nDTSTART:{begin:%Y%m%dT%H%M%SZ}\nDTEND:{end:%Y%m%dT%H%M%SZ}\nSUMMARY:{name}\nEND:VEVENT"
        for begin, end, name in shifts
    ]
    rota = tmp_path / "rota.ics"
    rota.write_text("\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", *events, "END:VCALENDAR", ""]))
    on_call = OnCall(rota, people={"Ann": ANN, "Bob": BOB}, default=TEAM)

    with dag:

        @task(on_failure_callback=OmnimessageNotifier(to=on_call, text="failed"))
        def work():
            raise RuntimeError

        with DeadMansSwitch("soon", to=on_call, text="late", time_to_send=timedelta(hours=1)):
            work()
        with DeadMansSwitch("later", to=on_call, text="late", time_to_send=timedelta(hours=2)):
            HeartbeatOperator(task_id="beat", to=on_call, text="silent", grace=timedelta(minutes=5))

    run_dag(dag)
    assert sorted((message["to"], message["body"]["messages"][0]["text"]) for message in sandbox.messages) == [
        (TEAM, "late"),
        (ANN, "failed"),
        (ANN, "silent"),
        (BOB, "late"),
    ]
    assert "Alerting the default recipient" in caplog.text


def test_functions_work_in_mapped_tasks(dag, run_dag, sandbox):
    def on_call(when: datetime) -> list[str]:
        return [ANN, BOB] if when > datetime.now(timezone.utc) + timedelta(minutes=30) else ANN

    with dag:
        HeartbeatOperator.partial(task_id="beat", to=on_call).expand(grace=[timedelta(minutes=5), timedelta(hours=1)])
    assert run_dag(dag).state == "success"
    assert sorted(message["to"] for message in sandbox.messages) == [ANN, ANN, BOB]
