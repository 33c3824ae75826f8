"""Whatever part of a cluster dies: no message is sent twice, none is lost silently, and the work continues."""

from __future__ import annotations

import os
import signal
import uuid
from collections import Counter

import pytest
from _cluster import API_SERVERS, SCHEDULERS, TRIGGERERS, WORKERS
from waiting import copy_deferred_wait, eventually
from workload import IN_DOUBT, Workload, messages_of

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

GUARANTEES = ("at_most_once", "at_least_once")
#: How many waits two triggerers share.
WAITS = int(os.environ.get("OMNIMESSAGE_WAITS", "200"))
#: How long all API servers are down in the long outage.
LONG_OUTAGE = int(os.environ.get("OMNIMESSAGE_OUTAGE", "60"))


def host_of(airflow, dag_id, run_id, task_id):
    (one,) = (one for one in airflow.instances(dag_id, run_id) if one["task_id"] == task_id)
    return one["hostname"]


def test_workers_killed_in_the_middle_of_a_post_break_no_guarantee(cluster, airflow, sandbox):
    sandbox.add_fault("slow", call="send", seconds=60, processed=True, times=2)
    run_id = airflow.trigger("cluster_schedule")
    eventually(lambda: len(messages_of(sandbox, run_id)) == 2, "both requests were accepted")
    killed = {host_of(airflow, "cluster_schedule", run_id, guarantee) for guarantee in GUARANTEES}
    cluster.kill(*killed)
    cluster.start_again(*killed)
    airflow.await_runs({run_id: "cluster_schedule"})
    states = airflow.tasks("cluster_schedule", run_id)
    log = {guarantee: airflow.log(run_id, guarantee) for guarantee in GUARANTEES}
    assert states == {"at_most_once": "failed", "at_least_once": "success"}, log
    assert len(messages_of(sandbox, f"{run_id} at_most_once")) == 1, log
    assert len(messages_of(sandbox, f"{run_id} at_least_once")) == 2, log
    assert IN_DOUBT in log["at_most_once"]


def test_a_worker_killed_in_the_middle_of_a_bulk_send_loses_one_batch_at_most(cluster, airflow, bulk_sandbox):
    bulk_sandbox.add_fault("slow", call="bulk", seconds=60, processed=True, after=4)
    run_id = airflow.trigger("cluster_bulk_cancel", rows=1000)
    eventually(lambda: len(messages_of(bulk_sandbox, run_id)) == 500, "the fifth batch was accepted")
    name = host_of(airflow, "cluster_bulk_cancel", run_id, "send")
    cluster.kill(name)
    cluster.start_again(name)
    airflow.await_runs({run_id: "cluster_bulk_cancel"})
    log = airflow.log(run_id)
    reached = Counter(message["to"] for message in messages_of(bulk_sandbox, run_id))
    assert (len(reached), max(reached.values())) == (1000, 1), log[-4000:]
    assert airflow.tasks("cluster_bulk_cancel", run_id)["send"] == "failed", "100 of them are in doubt"
    counts = airflow.xcom("cluster_bulk_cancel", run_id, "send")
    assert (counts["accepted"], counts["unknown"]) == (900, 100), log[-4000:]


def test_a_killed_triggerer_loses_no_wait(cluster, airflow, sandbox, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", sandbox.airflow_conn)
    sandbox.freeze()
    with OmnimessageHook() as hook:
        ids = [hook.send("+37255555555", [sms(f"{number}")]).omnimessage_id for number in range(WAITS)]
    run_id = airflow.trigger("cluster_waits", ids=ids)
    eventually(
        lambda: "deferred" in {one["state"] for one in airflow.instances("cluster_waits", run_id)}, "the first waits"
    )
    copy_deferred_wait(cluster.home, run_id, ids)

    def held():
        return dict(
            cluster.query(
                "SELECT triggerer_id, COUNT(*) FROM trigger JOIN task_instance ON trigger.id = trigger_id "
                "WHERE run_id = %s GROUP BY triggerer_id",
                run_id,
            )
        )

    eventually(lambda: sum(held().values()) == WAITS and None not in held(), f"{WAITS} waits are held")
    cluster.kill(TRIGGERERS[0])
    sandbox.resume()
    sandbox.advance(60)
    ended = airflow.await_runs({run_id: "cluster_waits"})
    cluster.start_again(TRIGGERERS[0])
    assert ended == {run_id: "success"}
    log = airflow.log(run_id)
    deliveries = {id_: log.count(f"{id_}: delivered") for id_ in ids}
    assert set(deliveries.values()) <= {1}, Counter(deliveries.values())
    assert {one["try_number"] for one in airflow.instances("cluster_waits", run_id)} == {1}


@pytest.mark.parametrize(
    "names",
    [(SCHEDULERS[0],), SCHEDULERS, ("redis",), (API_SERVERS[0],), ("dag-processor",)],
    ids=["one scheduler", "both schedulers", "redis", "one API server", "the DAG processor"],
)
def test_what_dies_and_comes_back_breaks_nothing(cluster, airflow, sandbox, names):
    work = Workload(airflow, sandbox)
    work.await_start()
    cluster.kill(*names)
    cluster.start_again(*names)
    work.judge()


def test_a_killed_database_breaks_nothing_once_what_it_took_down_is_started_again(cluster, airflow, sandbox):
    work = Workload(airflow, sandbox)
    work.await_start()
    cluster.kill("postgres")
    cluster.start_again("postgres")
    # as systemd or Kubernetes would, for as long as it takes
    eventually(lambda: cluster.restart_ended() == [] and cluster.is_healthy(), "Airflow is healthy")
    work.judge()
    cluster.restart_ended()


def test_an_outage_of_all_api_servers_doubles_nothing_and_an_alert_is_armed_after_it(cluster, airflow, sandbox):
    work = Workload(airflow, sandbox)
    work.await_start()
    cluster.kill(*API_SERVERS)
    run_id = f"begun-in-the-outage-{uuid.uuid4().hex}"
    cluster.home.run("dags", "trigger", "cluster_guarded", "--run-id", run_id)
    cluster.pass_time(LONG_OUTAGE)
    cluster.start_again(*API_SERVERS)
    eventually(lambda: cluster.restart_ended() == [] and cluster.is_healthy(), "Airflow is healthy")
    work.guarded.append(run_id)
    work.judge(tasks_may_fail=True)
    assert airflow.tasks("cluster_guarded", run_id)["by_nine.arm"] == "success", airflow.in_words(
        "cluster_guarded", run_id
    )


def test_an_evicted_worker_still_reads_its_response(cluster, airflow, sandbox):
    sandbox.add_fault("slow", call="send", seconds=5, processed=True, times=2)
    run_id = airflow.trigger("cluster_schedule")
    eventually(lambda: len(messages_of(sandbox, run_id)) == 2, "both requests were accepted")
    evicted = {host_of(airflow, "cluster_schedule", run_id, guarantee) for guarantee in GUARANTEES}
    for name in evicted:
        cluster.processes[name].send_signal(signal.SIGTERM)
    for name in evicted:
        eventually(lambda name=name: not cluster.processes[name].is_running, f"{name} has ended")
    cluster.start_again(*evicted)
    ended = airflow.await_runs({run_id: "cluster_schedule"})
    assert ended == {run_id: "success"}, airflow.log(run_id)[-5000:]
    assert len(messages_of(sandbox, run_id)) == 2
    assert all(name in WORKERS for name in evicted)
