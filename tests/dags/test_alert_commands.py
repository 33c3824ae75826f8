"""The commands that list and cancel alerts: all of them, whoever scheduled them, and whatever Messente responds."""

# ruff: noqa: AIR311 - the Variable of the SDK needs a running task
from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from airflow.models import Variable
from airflow.sdk import task
from full_size import first, full_size

from airflow_provider_omnimessage.__main__ import main
from airflow_provider_omnimessage._compat import TaskMemory, xcom_model
from airflow_provider_omnimessage.alerts import DeadMansSwitch, HeartbeatOperator, Step
from airflow_provider_omnimessage.alerts.beats import DESCRIPTION
from airflow_provider_omnimessage.alerts.known import Alert, KnownAlerts
from airflow_provider_omnimessage.cli.many import SECONDS_PER_CALL
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.tasks.memory import MessageRecord

TO, OTHER = "+37255555555", "+37255555556"
STEPS = [Step(after=timedelta(minutes=15)), Step(after=timedelta(minutes=30), to=OTHER)]


@pytest.fixture(autouse=True)
def only_this_test(_airflow):
    """Forget what the other tests have scheduled."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session
    from sqlalchemy import delete

    from airflow_provider_omnimessage._compat import task_state_model, xcom_model

    with create_session() as session:
        for model in (xcom_model(), task_state_model(), Variable):
            session.execute(delete(model))


@pytest.fixture
def command(capfd):
    """Run a command, and return its exit code, the rows that it prints as JSON, and stderr."""

    def run(*words):
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*words, "-o", "json"])
        printed = capfd.readouterr()
        return ended.value.code, json.loads(printed.out), printed.err

    return run


@pytest.fixture
def fail_guarded(dag, run_dag):
    """Run a DAG whose guarded work fails."""

    def run(**settings):
        alert = {"to": TO, "text": "late {{ run_id }}", "within": timedelta(hours=2), **settings}
        with dag, DeadMansSwitch("report", **alert):

            @task
            def work():
                raise RuntimeError("as it should")

            work()
        for each in dag.tasks:
            each.retries = 0
        return run_dag(dag)

    return run


@pytest.fixture(params=["state store", "no state store"])
def store(request, monkeypatch):
    """Airflow 3.3, and older versions."""
    if request.param == "no state store":
        monkeypatch.setattr(TaskMemory, "of", lambda context, key: None)


def scheduled(sandbox):
    return sorted(each["omnimessage_id"] for each in sandbox.messages if each["state"] == "scheduled")


def assert_all_listed_and_cancelled(dag, sandbox, command):
    code, rows, _ = command("alerts")
    waiting = [message for message in sandbox.messages if message["state"] == "scheduled"]
    assert code == 0
    assert sorted(row["omnimessage_id"] for row in rows) == scheduled(sandbox)
    times = {message["omnimessage_id"]: message["time_to_send"] for message in waiting}
    assert {row["omnimessage_id"]: row["time_to_send"] for row in rows} == times
    code, rows, _ = command("disarm", dag.dag_id)
    assert (code, sorted(row["omnimessage_id"] for row in rows)) == (0, sorted(times))
    assert scheduled(sandbox) == []
    assert command("alerts")[:2] == (0, [])


@full_size
@pytest.mark.usefixtures("store")
class TestWhatDisarmSchedules:
    def test_the_steps_after_an_alert_that_is_sent_at_once(self, fail_guarded, dag, sandbox, command):
        run = fail_guarded(on_failure="send_now", escalate=STEPS)
        assert run.tasks["report.disarm"] == "failed"
        assert len(sandbox.messages) == 6
        assert len(scheduled(sandbox)) == 5, "the alert and its steps at the deadline, and the steps from now on"
        assert_all_listed_and_cancelled(dag, sandbox, command)

    def test_the_alert_that_arm_could_not_schedule(self, fail_guarded, dag, sandbox, command):
        sandbox.add_fault("unauthorized", call="send", times=1)
        run = fail_guarded()
        assert run.tasks["report.arm"] == "failed"
        assert len(scheduled(sandbox)) == 1
        assert_all_listed_and_cancelled(dag, sandbox, command)


@full_size
def test_what_is_stored_while_the_store_does_not_respond_is_listed(fail_guarded, dag, sandbox, command, monkeypatch):
    def fail(self, value):
        raise RuntimeError("no database")

    monkeypatch.setattr(TaskMemory, "keep", fail)
    fail_guarded(on_failure="send_now", escalate=STEPS)
    assert_all_listed_and_cancelled(dag, sandbox, command)


def test_a_stored_value_that_cannot_be_read_is_reported(fail_guarded, dag, sandbox, command):
    from airflow.utils.session import create_session
    from sqlalchemy import update

    from airflow_provider_omnimessage._compat import task_state_model

    run = fail_guarded()
    with create_session() as session:
        session.execute(update(task_state_model()).values(value=json.dumps({"elsewhere": "s3://store/1"})))
    code, rows, errors = command("alerts")
    assert (code, [row["omnimessage_id"] for row in rows]) == (0, scheduled(sandbox))
    assert f"The alerts that report.arm of {dag.dag_id} {run.run_id} has stored cannot be read" in errors


@pytest.mark.parametrize("key", first(1, ["return_value", "time_to_send", "step_times"]))
def test_xcoms_in_object_storage_are_reported_and_hide_no_other_alert(
    fail_guarded, dag, sandbox, command, monkeypatch, key
):
    run = fail_guarded(escalate=STEPS)
    real = xcom_model().deserialize_value
    monkeypatch.setattr(xcom_model(), "deserialize_value", lambda row: "s3://xcoms/1" if row.key == key else real(row))
    code, rows, errors = command("alerts")
    assert (code, sorted(row["omnimessage_id"] for row in rows)) == (0, scheduled(sandbox))
    assert f"The XComs of report.arm of {dag.dag_id} {run.run_id} cannot be read" in errors


def test_an_invalid_id_in_a_variable_hides_no_other_alert(dag, run_dag, sandbox, command):
    with dag:
        for name in ("beat", "damaged"):
            HeartbeatOperator(task_id=name, to=TO, grace=timedelta(hours=3), variable=name)
    run_dag(dag)
    state = json.loads(Variable.get("damaged"))
    damaged = json.dumps({**state, "live": ["no/id", *state["live"]]})
    Variable.set("damaged", damaged, DESCRIPTION.format("the heartbeat"))
    code, rows, errors = command("alerts")
    assert {row["omnimessage_id"]: row["state"] for row in rows} == {
        "no/id": "unknown",
        **dict.fromkeys(scheduled(sandbox), "scheduled"),
    }
    assert (code, "'no/id' is not an id" in errors) == (2, True)


def test_an_alert_that_cannot_be_stored_is_still_an_alert(caplog):
    """Without a store and without XComs, the log says what the commands do not know."""
    ti = SimpleNamespace(
        dag_id="report",
        task_id="disarm",
        max_tries=1,
        try_number=1,
        task=SimpleNamespace(log=logging.getLogger("task")),
    )
    known = KnownAlerts({"ti": ti})
    record = MessageRecord("f", 1, "2026-12-01T09:00:00+00:00", "2026-12-01T08:00:00+00:00", "the-id")
    known.put(Alert("recipient", record))
    assert known.ids() == ["the-id"]
    assert "The commands alerts and disarm do not list this alert: " in caplog.text


@pytest.mark.parametrize(("words", "method"), [(["alerts"], "GET"), (["disarm", "many"], "DELETE")])
def test_an_outage_is_found_out_within_one_time_limit(sandbox, command, pauses, words, method):
    later = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    ids = [f"m-{number}" for number in range(30)]
    state = {"live": ids, "times": dict.fromkeys(ids, later), "dag_id": "many"}
    Variable.set("many", json.dumps(state), DESCRIPTION.format("the heartbeat"))
    sandbox.add_fault("server_error", call="any", times="always")
    code, rows, errors = command(*words)
    assert (code, len(rows)) == (5, 30)
    assert sum(pauses) <= OmnimessageHook().settings.deadline + 30 * SECONDS_PER_CALL
    assert len({request["path"] for request in sandbox.requests if request["method"] == method}) <= 3
    assert "500" in errors
    assert "many" in {each.key for each in variables()}, "what may still be scheduled is not forgotten"


def variables():
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        return session.scalars(select(Variable)).all()


class TestOutput:
    """A script can read stdout, whatever happens."""

    @pytest.mark.parametrize("output", ["json", "yaml", "table", "plain"])
    @pytest.mark.parametrize("words", [["alerts"], ["disarm", "another"]], ids=["alerts", "disarm"])
    def test_nothing_is_armed(self, capfd, words, output):
        with pytest.raises(SystemExit) as ended:
            main([*words, "-o", output])
        printed = capfd.readouterr()
        assert ended.value.code == 0
        assert printed.out.strip() == ("[]" if output in ("json", "yaml") else "")
        assert "No alert " in printed.err

    @pytest.mark.parametrize(
        ("outage", "exit_code", "error"),
        first(
            1,
            [
                ("unauthorized", 3, "rejected the credentials"),
                ("server_error", 5, "500"),
                ("down", 5, "refused"),
                ("no connection", 2, "there is no connection"),
            ],
        ),
    )
    def test_what_airflow_knows_is_listed_without_messente(
        self, fail_guarded, dag, sandbox, command, monkeypatch, pauses, outage, exit_code, error
    ):
        with dag:
            HeartbeatOperator(task_id="beat", to=TO, grace=timedelta(hours=3))
        run = fail_guarded(escalate=STEPS)
        expected = scheduled(sandbox)
        assert len(expected) == 4
        if outage == "down":
            address = {**sandbox.connection, "host": "127.0.0.1", "port": 1}
            monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps(address))
        elif outage == "no connection":
            monkeypatch.delenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT")
        else:
            sandbox.add_fault(outage, call="any", times="always")
        code, rows, errors = command("alerts")
        assert code == exit_code
        assert sorted(row["omnimessage_id"] for row in rows) == expected
        assert {(row["dag_id"], row["state"], row["to"]) for row in rows} == {(dag.dag_id, "unknown", None)}
        assert {row["run_id"] for row in rows if row["kind"] == "switch"} == {run.run_id}
        now = datetime.now(timezone.utc)
        assert all(datetime.fromisoformat(row["time_to_send"]) > now for row in rows)
        assert rows[0]["omnimessage_id"] in errors
        assert error in errors
        code, rows, errors = command("disarm", dag.dag_id)
        assert code == exit_code
        assert sorted(row["omnimessage_id"] for row in rows) == expected
        assert rows[0]["result"] in errors
