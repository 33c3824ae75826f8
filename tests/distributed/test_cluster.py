"""Everything that works on one machine works on a cluster, with the connection in Airflow's database."""

from __future__ import annotations

import os
from collections import Counter, defaultdict

import pytest
from matrix.expectations import MESSAGES, OF_A_DEADLINE, RUNS
from waiting import eventually

from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

PUSHED = "matrix_pushed"
#: How many messages a file has.
ROWS = int(os.environ.get("OMNIMESSAGE_BULK", "10000"))


def tasks_of(airflow, dag_id, run_id):
    return {
        one["task_id"] + ("" if one["map_index"] < 0 else f"[{one['map_index']}]"): one["state"]
        for one in airflow.instances(dag_id, run_id)
    }


def texts(sandbox, run_id):
    """The messages whose text names a run."""
    return [message for message in sandbox.messages if run_id in str(message["body"]["messages"])]


def test_the_cluster_has_two_of_each_process_and_an_encrypted_connection(cluster):
    jobs = Counter(job for (job,) in cluster.query("SELECT job_type FROM job WHERE state = 'running'"))
    assert (jobs["SchedulerJob"], jobs["TriggererJob"]) == (2, 2)
    rows = cluster.query("SELECT password, is_encrypted FROM connection WHERE conn_id = 'omnimessage_default'")
    assert [(password == "sandbox", encrypted) for password, encrypted in rows] == [(False, True)]


def test_a_report_to_either_api_server_ends_a_wait_without_a_poll(airflow, pushing_sandbox):
    def wait():
        runs = airflow.persist("GET", f"/api/v2/dags/{PUSHED}/dagRuns")["dag_runs"]
        return airflow.tasks(PUSHED, runs[0]["dag_run_id"]).get("wait") if runs else None

    eventually(lambda: wait() == "deferred", "the message is waited for")
    pushing_sandbox.advance_to_next_message()
    pushing_sandbox.advance(30)
    eventually(lambda: wait() == "success", "the wait has ended")
    assert [request["call"] for request in pushing_sandbox.requests] == ["send"]


@pytest.mark.parametrize("dag_id", [dag_id for dag_id in RUNS if dag_id != PUSHED])
def test_a_matrix_dag_ends_as_on_one_machine(airflow, dag_id):
    def ended():
        runs = airflow.persist("GET", f"/api/v2/dags/{dag_id}/dagRuns?limit=10")["dag_runs"]
        return runs if runs and all(run["state"] in ("success", "failed") for run in runs) else []

    runs = eventually(ended, f"{dag_id} has ended")
    state, tasks = RUNS[dag_id]
    in_words = {run["dag_run_id"]: airflow.in_words(dag_id, run["dag_run_id"]) for run in runs}
    assert {run["state"] for run in runs} == {state}, in_words
    assert tasks_of(airflow, dag_id, runs[0]["dag_run_id"]) == tasks, airflow.log(runs[0]["dag_run_id"])[-5000:]


def test_the_matrix_dags_send_what_they_send_on_one_machine(sandbox):
    expected = {**MESSAGES, **OF_A_DEADLINE}
    (of_a_deadline,) = OF_A_DEADLINE

    def sent():
        found = defaultdict(list)
        for message in sandbox.messages:
            state = message["state"] if message["state"] in ("scheduled", "cancelled") else "sent"
            found[message["to"][-4:]].append(state)
        # each of the two triggerers may send a deadline's message
        found[of_a_deadline] = found[of_a_deadline][:1] if len(found[of_a_deadline]) == 2 else found[of_a_deadline]
        return {digits: sorted(found[digits]) for digits in expected}

    eventually(
        lambda: all(len(states) >= len(expected[digits]) for digits, states in sent().items()),
        "all were sent",
        sent,
    )
    assert sent() == expected


def test_every_example_runs(airflow, sandbox):
    dags = airflow.persist("GET", "/api/v2/dags?limit=100")["dags"]
    examples = [dag["dag_id"] for dag in dags if dag["bundle_name"] == "examples"]
    assert len(examples) > 10
    airflow.persist("PATCH", "/api/v2/dags/omnimessage_next_run", {"is_paused": False})
    runs = {airflow.trigger(dag_id): dag_id for dag_id in examples}
    ended = airflow.await_runs(runs)
    failed = {runs[run_id]: airflow.log(run_id)[-3000:] for run_id, state in ended.items() if state != "success"}
    assert failed == {}


def test_a_wait_ends_in_every_mode(airflow, sandbox, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", sandbox.airflow_conn)
    modes = ("poke", "reschedule", "deferred")
    with OmnimessageHook() as hook:
        ids = {mode: hook.send("+37255555555", [viber("a"), sms("a")]).omnimessage_id for mode in modes}
    run_id = airflow.trigger("every_mode", ids=ids)
    assert airflow.await_runs({run_id: "every_mode"}) == {run_id: "success"}, airflow.log(run_id)[-5000:]
    for mode in modes:
        assert f"{ids[mode]}: delivered" in airflow.log(run_id, mode)


def test_ten_thousand_messages_go_from_a_file_in_s3_to_a_file_in_s3(airflow, bulk_sandbox):
    states = {"cluster_bulk_cancel": "cancelled", "cluster_bulk_wait": "delivered"}
    runs = {airflow.trigger(dag_id, rows=ROWS): dag_id for dag_id in states}
    ended = airflow.await_runs(runs)
    assert set(ended.values()) == {"success"}, [airflow.log(run_id)[-5000:] for run_id in runs]
    for run_id, dag_id in runs.items():
        mine = texts(bulk_sandbox, run_id)
        assert Counter(message["state"] for message in mine) == {states[dag_id]: ROWS}
        assert len({message["to"] for message in mine}) == ROWS
    bulk_sandbox.reset()


def test_every_callback_notifies(airflow, sandbox, tmp_path):
    before = Counter(message["to"][-4:] for message in sandbox.messages)
    instructions = tmp_path / "instructions"
    failing = airflow.trigger("failing_work", instructions=str(instructions))
    succeeding = airflow.trigger("successful_work")

    def sent():
        return Counter(message["to"][-4:] for message in sandbox.messages) - before

    eventually(lambda: sent()["1102"], "the deadline of the DAG was notified")
    # after a callback, Airflow parses its file, and another callback of it waits for the next parse
    eventually(lambda: sent()["1107"], "the success of a DAG was notified")
    instructions.write_text("fail")
    runs = {failing: "failing_work", succeeding: "successful_work"}
    assert airflow.await_runs(runs) == {failing: "failed", succeeding: "success"}
    expected = {"1101", "1102", *(str(number) for number in range(1104, 1112))}
    eventually(lambda: expected <= set(sent()), f"all callbacks: {sorted(expected)}")
    counts = {digits: count for digits, count in sent().items() if digits in expected}
    assert counts.pop("1102") <= 2, "a deadline's AsyncCallback: once for each triggerer"
    assert set(counts.values()) == {1}, counts


def test_a_deadline_sends_one_message_by_the_receiver_and_a_sync_callback_names_the_way_out(
    airflow, cluster, sandbox, pushing_sandbox
):
    for each in (sandbox, pushing_sandbox):
        each.add_fault("slow", call="send", seconds=4, processed=True, times="always")
    run_id = airflow.trigger("cluster_deadline")

    def states():
        return [
            state
            for (state,) in cluster.query(
                "SELECT state FROM callback WHERE data::text LIKE %s AND data::text LIKE %s",
                "%OmnimessageNotifier%", f"%{run_id}%",
            )
        ]  # fmt: skip

    eventually(lambda: sorted(states()) == ["failed", "success", "success"], "all callbacks have ended", states)
    assert len(texts(pushing_sandbox, run_id)) == 1, "with a receiver: one of the triggerers"
    messages = Counter(message["to"][-4:] for message in texts(sandbox, run_id))
    assert messages["6102"] == 0, "a token of a callback may not read connections of Airflow's database"
    assert 1 <= messages["6101"] <= 2, "without a receiver: one for each triggerer, at most"
    logs = "".join(
        path.read_text(errors="replace")
        for path in (cluster.folder / "hosts").rglob(f"executor_callbacks/*/{run_id}/*")
    )
    assert "a SyncCallback may not read the connection 'omnimessage_default' from Airflow's database; set" in logs


def test_a_heartbeat_leaves_one_message_whichever_worker_beats(airflow, sandbox):
    for _ in range(3):
        run_id = airflow.trigger("heartbeat")
        assert airflow.await_runs({run_id: "heartbeat"}) == {run_id: "success"}, airflow.log(run_id)
    states = [message["state"] for message in sandbox.messages if message["to"] == "+37255556666"]
    assert states == ["cancelled", "cancelled", "scheduled"]
