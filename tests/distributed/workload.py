"""Runs that go through a fault, and what must be true of them and of their messages afterwards."""

from __future__ import annotations

from typing import Any

from client import ClusterClient
from waiting import eventually

from airflow_provider_omnimessage.sandbox import SandboxClient

IN_DOUBT = "Look for it in Messente's dashboard"


def messages_of(sandbox: SandboxClient, mark: str) -> list[dict[str, Any]]:
    """Return the messages whose text has a mark, such as the id of a run."""
    return [message for message in sandbox.messages if mark in str(message["body"]["messages"])]


def notable_lines(log: str) -> str:
    """Return the warnings and errors in a run's log, and the lines that name accepted messages."""
    marks = ('"level":"warning"', '"level":"error"', '"level":"critical"', "Messente has accepted it")
    return "\n".join(line for line in log.splitlines() if any(mark in line for mark in marks))[-20_000:]


class Workload:
    """Runs that schedule, cancel, send, wait and guard, begun before a fault and judged after it.

    :param number: runs of each of the two DAGs.
    """

    def __init__(self, airflow: ClusterClient, sandbox: SandboxClient, number: int = 2) -> None:
        self._airflow, self._sandbox = airflow, sandbox
        self.outage = [airflow.trigger("omnimessage_outage") for _ in range(number)]
        self.guarded = [airflow.trigger("cluster_guarded") for _ in range(number)]

    def await_start(self) -> None:
        """Wait until tasks of every run are in the middle of their work."""
        eventually(
            lambda: all(messages_of(self._sandbox, f"{run_id} is S3CRET") for run_id in self.outage),
            "every run has sent its message",
        )

    def judge(self, tasks_may_fail: bool = False) -> None:
        """Wait until all runs have ended, and compare every message with the task that it belongs to.

        :param tasks_may_fail: whether Airflow may have failed tasks for reasons of its own, such as a lost heartbeat.
        """
        runs = dict.fromkeys(self.outage, "omnimessage_outage")
        runs |= dict.fromkeys(self.guarded, "cluster_guarded")
        ended = self._airflow.await_runs(runs)
        for run_id in self.outage:
            self._judge_outage(run_id, tasks_may_fail)
        for run_id in self.guarded:
            self._judge_guarded(run_id, ended[run_id], tasks_may_fail)

    def _judge_guarded(self, run_id: str, state: str, tasks_may_fail: bool) -> None:
        log = self._airflow.log(run_id)
        states = self._airflow.tasks("cluster_guarded", run_id)
        alerts = [message["state"] for message in messages_of(self._sandbox, f"{run_id} is late")]
        seen = (states, alerts, notable_lines(log))
        is_not_armed = "NOT SCHEDULED" in log or states["by_nine.arm"] == "failed"
        if state == "failed":
            assert tasks_may_fail, seen
            assert "scheduled" in alerts or is_not_armed, seen  # the work is not done, so its alert stays scheduled
            return
        assert "scheduled" not in alerts or "may have been scheduled" in log, seen
        assert "cancelled" in alerts or is_not_armed, seen

    def _judge_outage(self, run_id: str, tasks_may_fail: bool) -> None:
        states = self._airflow.tasks("omnimessage_outage", run_id)
        log = self._airflow.log(run_id)
        scheduled = [message["state"] for message in messages_of(self._sandbox, f"'{run_id} S3CRET'")]
        sent = messages_of(self._sandbox, f"{run_id} is S3CRET")
        seen = (states, scheduled, sent, notable_lines(log))
        assert len(scheduled) == 1 if states["schedule"] == "success" else len(scheduled) <= 1, seen
        assert len(sent) == 1 if states["send"] == "success" else len(sent) <= 1, seen
        assert scheduled == ["cancelled"] if states["cancel"] == "success" else "cancelled" not in scheduled, seen
        assert set(states.values()) == {"success"} or IN_DOUBT in log or tasks_may_fail, seen
