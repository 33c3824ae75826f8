"""Whatever part of a cluster dies: no message is sent twice, none is lost silently, and the work continues."""

from __future__ import annotations

import os
import signal
import uuid
from collections import Counter

import pytest
from _cluster import API_SERVERS, SCHEDULERS, TRIGGERERS, WORKERS

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

GUARANTEES = ("at_most_once", "at_least_once")
IN_DOUBT = "Look for it in Messente's dashboard"
#: How many waits two triggerers share.
WAITS = int(os.environ.get("OMNIMESSAGE_WAITS", "40"))
#: How long all API servers are down in the long outage.
LONG_OUTAGE = int(os.environ.get("OMNIMESSAGE_OUTAGE", "60"))


def messages_of(sandbox, mark):
    return [message for message in sandbox.messages if mark in str(message["body"]["messages"])]


def restart(cluster, *names):
    for name in names:
        cluster.processes[name].start()


def host_of(airflow, dag_id, run_id, task_id):
    (one,) = (one for one in airflow.instances(dag_id, run_id) if one["task_id"] == task_id)
    return one["hostname"]


class Workload:
    """Runs that schedule, cancel, send, wait and guard, begun before a fault and judged after it."""

    def __init__(self, airflow, sandbox, number=2):
        self._airflow, self._sandbox = airflow, sandbox
        self.outage = [airflow.trigger("omnimessage_outage") for _ in range(number)]
        self.guarded = [airflow.trigger("cluster_guarded") for _ in range(number)]

    def await_start(self, eventually):
        eventually(
            lambda: all(messages_of(self._sandbox, f"{run_id} is S3CRET") for run_id in self.outage),
            "every run has sent its message",
        )

    def judge(self, tasks_may_fail=False):
        runs = dict.fromkeys(self.outage, "omnimessage_outage")
        runs |= dict.fromkeys(self.guarded, "cluster_guarded")
        ended = self._airflow.await_runs(runs)
        for run_id in self.outage:
            self._judge_outage(run_id, tasks_may_fail)
        for run_id in self.guarded:
            self._judge_guarded(run_id, ended[run_id], tasks_may_fail)

    def _judge_guarded(self, run_id, state, tasks_may_fail):
        log = self._airflow.log(run_id)
        states = self._airflow.tasks("cluster_guarded", run_id)
        alerts = [message["state"] for message in messages_of(self._sandbox, f"{run_id} is late")]
        seen = (states, alerts, log[-4000:])
        if state == "failed":
            assert tasks_may_fail, seen
            assert "scheduled" in alerts, seen  # the work is not done, so its alert stays scheduled
            return
        assert "scheduled" not in alerts or "may have been scheduled" in log, seen
        assert "cancelled" in alerts or "NOT SCHEDULED" in log or states["by_nine.arm"] == "failed", seen

    def _judge_outage(self, run_id, tasks_may_fail):
        states = self._airflow.tasks("omnimessage_outage", run_id)
        log = self._airflow.log(run_id)
        posted = messages_of(self._sandbox, f"'{run_id} S3CRET'")
        assert len(posted) <= 1, log[-4000:]
        if states["schedule"] == states["work"] == states["cancel"] == "success":
            assert [message["state"] for message in posted] == ["cancelled"], log[-4000:]
        else:
            assert IN_DOUBT in log or tasks_may_fail, (states, log[-4000:])
        sent = messages_of(self._sandbox, f"{run_id} is S3CRET")
        assert len(sent) <= 1, log[-4000:]
        assert states["send"] == states["wait"] == "success" or IN_DOUBT in log or tasks_may_fail, (states, log[-4000:])


def test_workers_killed_in_the_middle_of_a_post_break_no_guarantee(cluster, airflow, sandbox, eventually):
    sandbox.add_fault("slow", call="send", seconds=60, processed=True, times=2)
    run_id = airflow.trigger("cluster_schedule")
    eventually(lambda: len(messages_of(sandbox, run_id)) == 2, "both requests were accepted")
    killed = {host_of(airflow, "cluster_schedule", run_id, guarantee) for guarantee in GUARANTEES}
    for name in killed:
        cluster.processes[name].kill()
    restart(cluster, *killed)
    airflow.await_runs({run_id: "cluster_schedule"})
    states = airflow.tasks("cluster_schedule", run_id)
    log = {guarantee: airflow.log(run_id, guarantee) for guarantee in GUARANTEES}
    assert states == {"at_most_once": "failed", "at_least_once": "success"}, log
    assert len(messages_of(sandbox, f"{run_id} at_most_once")) == 1, log
    assert len(messages_of(sandbox, f"{run_id} at_least_once")) == 2, log
    assert IN_DOUBT in log["at_most_once"]


def test_a_worker_killed_in_the_middle_of_a_bulk_send_loses_one_batch_at_most(cluster, airflow, sandbox, eventually):
    sandbox.add_fault("slow", call="bulk", seconds=60, processed=True, after=4)
    run_id = airflow.trigger("cluster_bulk_cancel", rows=1000)
    eventually(lambda: len(messages_of(sandbox, run_id)) == 500, "the fifth batch was accepted")
    name = host_of(airflow, "cluster_bulk_cancel", run_id, "send")
    cluster.processes[name].kill()
    restart(cluster, name)
    airflow.await_runs({run_id: "cluster_bulk_cancel"})
    log = airflow.log(run_id)
    reached = Counter(message["to"] for message in messages_of(sandbox, run_id))
    assert (len(reached), max(reached.values())) == (1000, 1), log[-4000:]
    assert airflow.tasks("cluster_bulk_cancel", run_id)["send"] == "failed", "100 of them are in doubt"
    counts = airflow.xcom("cluster_bulk_cancel", run_id, "send")
    assert (counts["accepted"], counts["unknown"]) == (900, 100), log[-4000:]


def test_a_killed_triggerer_loses_no_wait(cluster, airflow, sandbox, eventually, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", sandbox.airflow_conn)
    sandbox.freeze()
    with OmnimessageHook() as hook:
        ids = [hook.send("+37255555555", [sms(f"{number}")]).omnimessage_id for number in range(WAITS)]
    run_id = airflow.trigger("many_waits", ids=ids)

    def held():
        return dict(cluster.query("SELECT triggerer_id, COUNT(*) FROM trigger GROUP BY triggerer_id"))

    eventually(lambda: sum(held().values()) >= WAITS and None not in held(), f"{WAITS} waits are held", 60 + 3 * WAITS)
    cluster.processes[TRIGGERERS[0]].kill()
    sandbox.resume()
    sandbox.advance(60)
    ended = airflow.await_runs({run_id: "many_waits"}, 60 + 3 * WAITS)
    restart(cluster, TRIGGERERS[0])
    assert ended == {run_id: "success"}
    log = airflow.log(run_id)
    deliveries = {id_: log.count(f"{id_}: delivered") for id_ in ids}
    assert set(deliveries.values()) <= {1}, Counter(deliveries.values())
    assert {one["try_number"] for one in airflow.instances("many_waits", run_id)} == {1}


@pytest.mark.parametrize(
    "names",
    [(SCHEDULERS[0],), SCHEDULERS, ("redis",), (API_SERVERS[0],), ("dag-processor",)],
    ids=["one scheduler", "both schedulers", "redis", "one API server", "the DAG processor"],
)
def test_what_dies_and_comes_back_breaks_nothing(cluster, airflow, sandbox, eventually, names):
    work = Workload(airflow, sandbox)
    work.await_start(eventually)
    for name in names:
        cluster.processes[name].kill()
    restart(cluster, *names)
    work.judge()


def test_a_killed_database_breaks_nothing_once_what_it_took_down_is_started_again(
    cluster, airflow, sandbox, eventually
):
    work = Workload(airflow, sandbox)
    work.await_start(eventually)
    cluster.processes["postgres"].kill()
    (cluster.data / "postmaster.pid").unlink(missing_ok=True)
    restart(cluster, "postgres")
    cluster.await_port("postgres")
    # as systemd or Kubernetes would, for as long as it takes
    eventually(lambda: cluster.restart_ended() == [] and cluster.is_healthy(), "Airflow is healthy", 120)
    work.judge()
    cluster.restart_ended()


def test_an_outage_of_all_api_servers_doubles_nothing_and_an_alert_is_armed_after_it(
    cluster, airflow, sandbox, eventually
):
    work = Workload(airflow, sandbox)
    work.await_start(eventually)
    for name in API_SERVERS:
        cluster.processes[name].kill()
    run_id = f"begun-in-the-outage-{uuid.uuid4().hex}"
    cluster.home.run("dags", "trigger", "cluster_guarded", "--run-id", run_id)
    cluster.pass_time(LONG_OUTAGE)
    restart(cluster, *API_SERVERS)
    for name in API_SERVERS:
        cluster.await_port(name)
    eventually(lambda: cluster.restart_ended() == [] and cluster.is_healthy(), "Airflow is healthy", 120)
    work.guarded.append(run_id)
    work.judge(tasks_may_fail=True)
    assert airflow.tasks("cluster_guarded", run_id)["by_nine.arm"] == "success", airflow.in_words(
        "cluster_guarded", run_id
    )


def test_an_evicted_worker_still_reads_its_response(cluster, airflow, sandbox, eventually):
    sandbox.add_fault("slow", call="send", seconds=5, processed=True, times=2)
    run_id = airflow.trigger("cluster_schedule")
    eventually(lambda: len(messages_of(sandbox, run_id)) == 2, "both requests were accepted")
    evicted = {host_of(airflow, "cluster_schedule", run_id, guarantee) for guarantee in GUARANTEES}
    for name in evicted:
        cluster.processes[name].send_signal(signal.SIGTERM)
    for name in evicted:
        eventually(lambda name=name: not cluster.processes[name].is_running, f"{name} has ended", 60)
    restart(cluster, *evicted)
    ended = airflow.await_runs({run_id: "cluster_schedule"})
    assert ended == {run_id: "success"}, airflow.log(run_id)[-5000:]
    assert len(messages_of(sandbox, run_id)) == 2
    assert all(name in WORKERS for name in evicted)
