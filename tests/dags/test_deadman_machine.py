"""Failures, repairs, clears and deploys in any order, against the sandbox: who is alerted, and how often."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException
from full_size import full_size
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from airflow_provider_omnimessage._compat import TaskMemory
from airflow_provider_omnimessage.alerts import arming, disarming
from airflow_provider_omnimessage.alerts.deadman import DeadMansSwitch

#: Rare cases, left to the full size.
pytestmark = full_size

TO = "+37255555555"
_numbers = itertools.count()
FAULTS = st.none() | st.fixed_dictionaries(
    {
        "fault": st.sampled_from(("cut", "lost_answer", "server_error", "rate_limited", "broken_json")),
        "call": st.sampled_from(("send", "cancel", "status")),
        "times": st.integers(1, 2),
    }
)


class Try:
    """One task instance, with the numbers that Airflow 3.3 keeps of it, and what outlives its tries."""

    def __init__(self, operator: Any, retries: int) -> None:
        self.operator = operator
        self.try_number = 0
        self.max_tries = retries
        self.store: dict[str, Any] = {}
        self.xcoms: dict[str, Any] = {}

    def cleared(self, retries: int) -> None:
        self.max_tries = self.try_number + retries
        self.xcoms.clear()

    def run(self, clear_number: int, pulls_from: Try | None = None) -> str:
        """Run it to its end, with the same retries as in Airflow."""
        while True:
            self.try_number += 1
            ti = SimpleNamespace(
                dag_id="d",
                task_id=self.operator.task_id,
                task=self.operator,
                try_number=self.try_number,
                max_tries=self.max_tries,
                xcom_push=lambda key, value: self.xcoms.update({key: value}),
                xcom_pull=lambda task_ids, key: pulls_from.xcoms.get(key) if pulls_from else None,
            )
            now = datetime.now(timezone.utc)
            dag_run = SimpleNamespace(
                run_type="manual", data_interval_end=None, run_after=now, clear_number=clear_number
            )
            try:
                self.xcoms["return_value"] = self.operator.execute(
                    {"ti": ti, "dag_run": dag_run, "task_state_store": self.store}
                )
            except AirflowFailException:
                return "failed"
            except Exception:
                if self.max_tries and self.try_number <= self.max_tries:
                    continue
                return "failed"
            return "success"


class Repairs(RuleBasedStateMachine):
    """One run of a DAG with a dead man's switch. The clock does not reach the deadline."""

    sandbox: Any
    work: dict[str, str]

    @initialize(retries=st.integers(2, 5), on_failure=st.sampled_from(("wait", "send_now")))
    def start(self, retries, on_failure):
        self.sandbox.reset()
        self.retries = retries
        self.on_failure = on_failure
        self.clear_number = 0
        self.lost = self.sent_before = 0
        with (
            DAG(f"machine_{next(_numbers)}", schedule=None),
            DeadMansSwitch("g", to=TO, text="Late", time_to_send="2099-01-01T09:00", on_failure=on_failure) as switch,
        ):
            EmptyOperator(task_id="work")
        self.arm, self.disarm = Try(switch.arm, retries), Try(switch.disarm, retries)
        self.run_on(is_done=False, arm_fault=None, disarm_fault=None)

    @rule(change=st.sampled_from((-1, -1, -2, 1)))
    def deploy(self, change):
        # one less after one try is a clear that leaves max_tries as it was
        self.retries = max(1, self.retries + change)

    @rule(is_done=st.booleans(), arm_fault=FAULTS, disarm_fault=FAULTS)
    def clear(self, is_done, arm_fault, disarm_fault):
        self.clear_number += 1
        for each in (self.arm, self.disarm):
            each.cleared(self.retries)
        self.run_on(is_done=is_done, arm_fault=arm_fault, disarm_fault=disarm_fault)

    def run_on(self, *, is_done, arm_fault, disarm_fault):
        self.work["state"] = "success" if is_done else "failed"
        lost = self.lost
        armed = self.with_fault(arm_fault, self.arm)
        self.disarm.operator.omnimessage_id = self.arm.xcoms.get("return_value")
        disarmed = self.with_fault(disarm_fault, self.disarm, self.arm)
        self.check(is_done=is_done, armed=armed, disarmed=disarmed, lost=self.lost - lost)

    def with_fault(self, fault, each, pulls_from=None):
        if fault is not None:
            self.sandbox.add_fault(**fault)
        state = each.run(self.clear_number, pulls_from)
        if fault is not None:
            (left,) = self.sandbox.faults
            # a message that was accepted without a response cannot be cancelled by anybody
            self.lost += left["hits"] if left["processed"] and left["call"] == "send" else 0
            self.sandbox.clear_faults()
        return state

    def check(self, *, is_done, armed, disarmed, lost):
        waiting = [message for message in self.sandbox.messages if message["state"] == "scheduled"]
        sent = len([message for message in self.sandbox.messages if message["sent_at"]])
        newly_sent, self.sent_before = sent - self.sent_before, sent
        if is_done:
            assert disarmed == "success"
            assert newly_sent == 0, "done in time and sent"
            assert len(waiting) <= self.lost
        else:
            assert disarmed == "failed"
            assert waiting, "a repaired run that hangs is not guarded"
            if self.on_failure == "wait":
                assert newly_sent == 0
            else:
                assert newly_sent >= 1, "a failure after a clear is news"
                assert newly_sent <= 1 + lost, "a retry of disarm alerts once more"


@pytest.fixture
def memory(monkeypatch):
    """Keep the task state store in memory."""
    monkeypatch.setattr(TaskMemory, "recall", lambda self: self._store.get(self._key))
    monkeypatch.setattr(TaskMemory, "keep", lambda self, value: self._store.update({self._key: value}))
    monkeypatch.setattr(TaskMemory, "forget", lambda self: self._store.pop(self._key, None))


@pytest.fixture
def work(monkeypatch) -> Iterator[dict[str, str]]:
    """Set the state of the work."""
    state: dict[str, str] = {"state": "failed"}
    monkeypatch.setattr(arming, "work_states", lambda ti, ids: {(one, -1): "none" for one in ids})
    monkeypatch.setattr(disarming, "work_states", lambda ti, ids: {(one, -1): state["state"] for one in ids})
    return state


def test_each_failure_is_sent_once_and_work_that_is_done_leaves_no_alert(memory, work, sandbox, caplog):
    caplog.set_level("CRITICAL")
    Repairs.sandbox, Repairs.work = sandbox, work
    run_state_machine_as_test(
        Repairs,
        settings=settings(
            max_examples=25,
            stateful_step_count=6,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
