"""The alert for the run that never starts: one waits between the runs, and goes out if the next one does not come."""

# ruff: noqa: AIR311 - the Variable of the SDK needs a running task
from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from airflow.models import Variable
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, task
from full_size import full_size

from airflow_provider_omnimessage.__main__ import main
from airflow_provider_omnimessage.alerts import DeadMansSwitch, HeartbeatOperator, next_run
from airflow_provider_omnimessage.alerts.beats import HeartbeatStore
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.cli.alerts import known_alerts
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

TO, OTHER, REJECTED = "+37255555555", "+37255555556", "+37255550005"
SWITCH = {"to": TO, "text": "late", "within": timedelta(hours=2), "next_run_within": timedelta(minutes=30)}
VARIABLE = "omnimessage_next_run__{}__report"


def utc(*numbers):
    return datetime(*numbers, tzinfo=timezone.utc)


def waiting(sandbox):
    """The alerts for a next run, by state."""
    return [m["state"] for m in sandbox.messages if "no run has started" in m["body"]["messages"][0]["text"]]


def stored(dag):
    return json.loads(Variable.get(VARIABLE.format(dag.dag_id)))


@pytest.fixture
def as_scheduled(monkeypatch):
    """Let a run of ``dag.test()``, which is a manual one, be the one that was due at a time."""

    def at(due):
        monkeypatch.setattr(next_run, "run_type", lambda context: "scheduled")
        monkeypatch.setattr(next_run, "run_time", lambda context: due)

    return at


def test_one_alert_waits_between_the_runs_and_each_run_cancels_it_after_scheduling_its_own(dag, run_dag, sandbox):
    with DeadMansSwitch("report", **SWITCH):
        EmptyOperator(task_id="work")
    for number in range(1, 4):
        assert run_dag(dag).state == "success"
        assert waiting(sandbox) == ["cancelled"] * (number - 1) + ["scheduled"]
    # the run's own alert is scheduled before the other is cancelled, and cancelled before the next one is scheduled
    calls = [(request["method"]) for request in sandbox.requests if request["method"] in ("POST", "DELETE")]
    assert calls == ["POST", "DELETE", "POST", *["POST", "DELETE", "DELETE", "POST"] * 2]


def test_if_the_next_run_does_not_come_the_alert_goes_out(dag, run_dag, sandbox):
    with DeadMansSwitch("report", **{**SWITCH, "next_run_text": "expected {{ expected }}"}):
        EmptyOperator(task_id="work")
    run_dag(dag)
    sandbox.advance(31 * 60)
    (message,) = [message for message in sandbox.messages if message["state"] == "delivered"]
    assert message["body"]["messages"][0]["text"].startswith("expected by 20")


@full_size
def test_failed_work_changes_nothing_about_it_and_the_run_fails_as_without(dag, run_dag, sandbox):
    with DeadMansSwitch("report", **SWITCH):

        @task
        def work():
            raise RuntimeError("as it should")

        work()
    run = run_dag(dag)
    assert run.state == "failed"
    assert (run.tasks["report.disarm"], run.tasks["report.next_run"]) == ("failed", "success")
    assert waiting(sandbox) == ["scheduled"]


@full_size
def test_a_run_that_cannot_schedule_it_is_that_of_the_work_and_says_so(dag, run_dag, sandbox):
    with DeadMansSwitch("report", **SWITCH):
        EmptyOperator(task_id="work")
    sandbox.add_fault("unauthorized", call="send", after=1, times="always")
    run = run_dag(dag)
    assert (run.state, run.tasks["report.next_run"]) == ("success", "failed")
    assert "THE ALERT FOR THE NEXT RUN IS NOT SCHEDULED" in run.log


@full_size
def test_a_lost_response_leaves_one_alert_that_is_known_and_never_none(dag, run_dag, sandbox):
    with DeadMansSwitch("report", **SWITCH):
        EmptyOperator(task_id="work")
    sandbox.add_fault("cut", call="send", after=1, processed=True, times=1)
    run = run_dag(dag)
    assert run.tasks["report.next_run"] == "success"
    assert waiting(sandbox) == ["scheduled", "scheduled"]
    assert len(stored(dag)["live"]) == len(stored(dag)["in_doubt"]) == 1
    assert "cannot be cancelled from here, since its id is unknown" in run.log


@full_size
def test_a_task_that_is_killed_leaves_what_its_next_try_cancels(dag, run_dag, sandbox, monkeypatch):
    with DeadMansSwitch("report", **SWITCH) as switch:
        EmptyOperator(task_id="work")
    dag.task_dict[switch.task_id_of("next_run")].retry_delay = timedelta(0)
    whole, calls = HeartbeatStore.write, []

    def write(self, state):
        whole(self, state)
        calls.append(state)
        if len(calls) == 2:
            raise SystemExit("as a kill would end it")

    monkeypatch.setattr(HeartbeatStore, "write", write)
    run_dag(dag)
    assert waiting(sandbox) == ["cancelled", "scheduled"]


@full_size
def test_one_wrong_recipient_does_not_cost_the_others_their_alert(dag, run_dag, sandbox):
    with DeadMansSwitch("report", **{**SWITCH, "to": "{{ '+37255555555, nobody' }}"}):
        EmptyOperator(task_id="work")
    run = run_dag(dag)
    assert run.tasks["report.next_run"] == "failed"
    assert waiting(sandbox) == ["scheduled"]


@full_size
def test_a_recipient_that_messente_rejects_does_not_cost_the_others_their_alert(dag, run_dag, sandbox):
    with DeadMansSwitch("report", **{**SWITCH, "to": [REJECTED, TO]}):
        EmptyOperator(task_id="work")
    for number in range(1, 3):
        run = run_dag(dag)
        assert run.tasks["report.next_run"] == "failed"
        assert "No alert for +37255•••05: " in run.log
        assert waiting(sandbox) == ["cancelled"] * (number - 1) + ["scheduled"]
        assert len(stored(dag)["live"]) == 1


@full_size
def test_two_switches_of_a_dag_have_different_texts(dag, run_dag, sandbox):
    for group in ("load", "report"):
        with DeadMansSwitch(group, **SWITCH):
            EmptyOperator(task_id="work")
    run_dag(dag)
    texts = sorted(message["body"]["messages"][0]["text"] for message in sandbox.messages)
    begin = f"{dag.dag_id} ({{}}): no run has started"
    assert [text.partition(" that")[0] for text in texts if "no run" in text] == [
        begin.format("load"),
        begin.format("report"),
    ]


@full_size
def test_the_names_of_the_variables_fit_into_the_database(run_dag, sandbox):
    dag = DAG("d" * 200, schedule=None)
    with dag, DeadMansSwitch("g" * 40, **SWITCH):
        EmptyOperator(task_id="work")
    with dag:
        HeartbeatOperator(task_id="b" * 40, to=TO, grace=timedelta(hours=3))
    for states in (["scheduled"], ["cancelled", "scheduled"]):
        run_dag(dag)
        assert waiting(sandbox) == states
    found = {alert.variable for alert in known_alerts() if alert.dag_id == dag.dag_id and alert.variable}
    assert sorted(len(variable) for variable in found) == [250, 250]
    assert {variable.partition("__")[0] for variable in found} == {"omnimessage_heartbeat", "omnimessage_next_run"}


@full_size
def test_if_only_a_stale_alert_cannot_be_cancelled_the_next_one_is_scheduled_anyway(dag, run_dag, sandbox):
    with DeadMansSwitch("report", **SWITCH):
        EmptyOperator(task_id="work")
    run_dag(dag)
    sandbox.add_fault("server_error", call="cancel", times="always")
    assert run_dag(dag).tasks["report.next_run"] == "success"
    assert waiting(sandbox) == ["scheduled", "scheduled"]
    assert (len(stored(dag)["live"]), len(stored(dag)["left"])) == (1, 1)
    sandbox.clear_faults()
    run_dag(dag)
    assert waiting(sandbox) == ["cancelled", "cancelled", "scheduled"]


@full_size
class TestScheduled:
    """With a schedule, an alert waits for the run that is due next."""

    @pytest.fixture
    def dag(self, dag):
        with DAG(dag.dag_id, schedule="0 6 1 * *", start_date=utc(2026, 1, 1), catchup=False) as scheduled:
            with DeadMansSwitch("report", **SWITCH):
                EmptyOperator(task_id="work")
            yield scheduled

    def test_it_waits_for_the_next_due_time_plus_the_grace(self, dag, run_dag, sandbox):
        run_dag(dag)
        state = stored(dag)
        expected = datetime.fromisoformat(state["expected"])
        assert (expected.hour, expected.minute) == (6, 0)
        assert timedelta(0) < expected - datetime.now(timezone.utc) <= timedelta(days=31)
        assert [datetime.fromisoformat(due) for due in state["times"].values()] == [expected + timedelta(minutes=30)]

    def test_a_manual_run_leaves_it_and_the_scheduled_one_replaces_it(self, dag, run_dag, sandbox, as_scheduled):
        run_dag(dag)
        run = run_dag(dag)
        assert "An alert waits for the next run already" in run.log
        assert waiting(sandbox) == ["scheduled"]
        as_scheduled(datetime.fromisoformat(stored(dag)["expected"]))
        run_dag(dag)
        assert waiting(sandbox) == ["cancelled", "scheduled"]

    def test_the_next_try_schedules_only_what_is_missing(self, dag, run_dag, sandbox):
        for name in ("arm", "disarm", "next_run"):
            dag.task_dict[f"report.{name}"].to = [TO, OTHER]
        sandbox.add_fault("unauthorized", call="send", after=3)
        assert run_dag(dag).tasks["report.next_run"] == "failed"
        assert run_dag(dag).tasks["report.next_run"] == "success"
        sent = [m["to"] for m in sandbox.messages if "no run has started" in m["body"]["messages"][0]["text"]]
        assert (sent, waiting(sandbox)) == ([TO, OTHER], ["scheduled", "scheduled"])
        assert "already" in run_dag(dag).log
        assert len(waiting(sandbox)) == 2

    def test_once_a_wrong_number_is_corrected_its_alert_is_scheduled_too(self, dag, run_dag, sandbox):
        guards = [dag.task_dict[f"report.{name}"] for name in ("arm", "disarm", "next_run")]
        for guard in guards:
            guard.to = "{{ '+37255555555, nobody' }}"
        assert run_dag(dag).tasks["report.next_run"] == "failed"
        for guard in guards:
            guard.to = [TO, OTHER]
        assert run_dag(dag).tasks["report.next_run"] == "success"
        sent = [m["to"] for m in sandbox.messages if "no run has started" in m["body"]["messages"][0]["text"]]
        assert (sent, waiting(sandbox)) == ([TO, OTHER], ["scheduled", "scheduled"])

    def test_a_manual_run_that_starts_meanwhile_does_not_cancel_what_is_being_scheduled(
        self, dag, run_dag, sandbox, monkeypatch
    ):
        whole, seen = OmnimessageHook.post, []

        def post(self, body):
            seen.append(json.loads(Variable.get(VARIABLE.format(dag.dag_id), "{}")).get("expected"))
            return whole(self, body)

        monkeypatch.setattr(OmnimessageHook, "post", post)
        run_dag(dag)
        assert seen == [None, stored(dag)["expected"]]

    def test_an_older_run_that_is_caught_up_leaves_it(self, dag, run_dag, sandbox, as_scheduled):
        run_dag(dag)
        as_scheduled(datetime.fromisoformat(stored(dag)["expected"]) - timedelta(days=31))
        run_dag(dag)
        assert waiting(sandbox) == ["scheduled"]

    def test_a_backfill_neither_cancels_nor_schedules(self, dag, run_dag, sandbox, monkeypatch):
        monkeypatch.setattr(next_run, "run_type", lambda context: "backfill")
        run_dag(dag)
        assert waiting(sandbox) == []

    def test_a_schedule_with_earlier_runs_replaces_it(self, dag, run_dag, sandbox):
        run_dag(dag)
        later = (datetime.now(timezone.utc) + timedelta(days=99)).isoformat()
        Variable.set(VARIABLE.format(dag.dag_id), json.dumps({**stored(dag), "expected": later}))
        run_dag(dag)
        assert waiting(sandbox) == ["cancelled", "scheduled"]

    @pytest.mark.parametrize("later", [None, "0 6 1 * *"])
    def test_an_alert_for_a_time_that_the_schedule_no_longer_has_is_replaced(self, run_dag, sandbox, later):
        for schedule, states in (("@hourly", ["scheduled"]), (later, ["cancelled", "scheduled"])):
            dag = DAG("changed", schedule=schedule, start_date=utc(2026, 1, 1), catchup=False)
            with dag, DeadMansSwitch("report", **SWITCH):
                EmptyOperator(task_id="work")
            run_dag(dag)
            assert waiting(sandbox) == states

    def test_a_run_that_ends_after_the_next_one_is_due_awaits_that_one(self, dag, run_dag, sandbox, as_scheduled):
        this, following = utc(2026, 10, 1, 6), utc(2026, 11, 1, 6)
        dag.task_dict["report.arm"].time_to_send = timedelta(days=90)
        as_scheduled(this)
        interval = {"due": this.isoformat(), "start": utc(2026, 9, 1, 6).isoformat(), "end": this.isoformat()}
        Variable.set(VARIABLE.format(dag.dag_id), json.dumps({"last_run": interval}))
        run_dag(dag)
        state = stored(dag)
        assert state["last_run"] == interval
        assert datetime.fromisoformat(state["expected"]) == following
        (due,) = map(datetime.fromisoformat, state["times"].values())
        assert timedelta(minutes=28) < due - datetime.now(timezone.utc) <= timedelta(minutes=31)
        # the awaited run cancels it, and is stored as the newest
        as_scheduled(following)
        run_dag(dag)
        assert stored(dag)["last_run"]["due"] == following.isoformat()
        assert waiting(sandbox) == ["cancelled", "scheduled"]

    def test_after_the_last_run_none_is_awaited(self, dag, run_dag, sandbox):
        dag.end_date = datetime.now(timezone.utc) + timedelta(seconds=1)
        run = run_dag(dag)
        assert waiting(sandbox) == []
        assert "no further run is due" in run.log


@pytest.mark.parametrize(
    ("settings", "schedule", "says"),
    [
        ({"next_run_within": 30}, None, "next_run_within: 30 is not accepted; use a timedelta of at least one minute"),
        ({"next_run_within": timedelta(seconds=5)}, None, "use a timedelta of at least one minute"),
        ({"next_run_within": None, "next_run_text": "x"}, None, "next_run_text: works with next_run_within only"),
        ({}, "@once", "next_run_within: the DAG runs once only"),
    ],
)
def test_what_cannot_be_awaited_is_rejected_while_the_dag_is_parsed(settings, schedule, says):
    with DAG("rejected", schedule=schedule), pytest.raises(InvalidInputError, match=says):
        DeadMansSwitch("report", **{**SWITCH, **settings})


@full_size
class TestCommands:
    """What is scheduled can be listed, and cancelled before a pause."""

    @pytest.fixture
    def command(self, capfd):
        def run(*words):
            capfd.readouterr()
            with pytest.raises(SystemExit) as ended:
                main([*words])
            printed = capfd.readouterr()
            # what else is in there is the log of this process
            rows = [line for line in printed.out.splitlines() if line.startswith("[{")]
            return ended.value.code, json.loads(rows[0]) if rows else [], printed.err

        return run

    def test_alerts_lists_what_is_scheduled_and_disarm_cancels_it(self, dag, run_dag, sandbox, command):
        with DeadMansSwitch("report", **SWITCH):

            @task
            def work():
                raise RuntimeError("as it should")

            work()
        HeartbeatOperator(task_id="beat", to=TO, grace=timedelta(hours=3))
        run = run_dag(dag)
        code, rows, _ = command("alerts", "-o", "json")
        mine = [row for row in rows if row["dag_id"] == dag.dag_id]
        assert code == 0
        assert sorted(row["kind"] for row in mine) == ["heartbeat", "next run", "switch"]
        assert {row["to"] for row in mine} == {"+37255•••55"}
        assert {row["run_id"] for row in mine if row["kind"] == "switch"} == {run.run_id}
        due = {row["kind"]: datetime.fromisoformat(row["time_to_send"]) for row in mine}
        assert due["next run"] < due["switch"] < due["heartbeat"]
        code, rows, _ = command("disarm", dag.dag_id, "-o", "json")
        assert (code, len(rows)) == (0, 3)
        assert {message["state"] for message in sandbox.messages} == {"cancelled"}
        assert Variable.get(VARIABLE.format(dag.dag_id), None) is None
        code, rows, _ = command("alerts", "-o", "json")
        assert [row for row in rows if row["dag_id"] == dag.dag_id] == []
        # again is harmless
        assert command("disarm", dag.dag_id)[0] == 0
        assert command("disarm", "another")[2] == "No alert of the DAG another is known\n"

    def test_what_cannot_be_cancelled_stays_known(self, dag, run_dag, sandbox, command):
        with DeadMansSwitch("report", **SWITCH):
            EmptyOperator(task_id="work")
        run_dag(dag)
        sandbox.add_fault("unauthorized", call="cancel", times="always")
        code, _, _ = command("disarm", dag.dag_id)
        assert code == 3
        assert stored(dag)["live"]
