"""The alert that waits for a run is cancelled once the alert of that run stands, whatever else fails in ``arm``."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from airflow.sdk import task
from full_size import first

from airflow_provider_omnimessage.alerts import DeadMansSwitch, Step

TO, OTHER, REJECTED = "+37255555555", "+37255555556", "+37255550005"


@pytest.fixture
def waiting_during_work(dag, run_dag, sandbox):
    """Run a DAG twice, and return the states of the alert for the second run, while that works."""

    def run_twice(to, *steps):
        def for_the_run_itself(when):
            # the alert for the next run goes out within the hour, and its recipient is fine
            return to if when > datetime.now(timezone.utc) + timedelta(hours=1) else TO

        seen = []
        with DeadMansSwitch(
            "report",
            to=for_the_run_itself,
            text="late",
            within=timedelta(hours=2),
            next_run_within=timedelta(minutes=30),
            escalate=[Step(after=timedelta(minutes=15), to=each) for each in steps],
        ):

            @task
            def work():
                texts = [(message["state"], message["body"]["messages"][0]["text"]) for message in sandbox.messages]
                seen.append([state for state, text in texts if "no run has started" in text])

            work()
        for each in dag.tasks:
            each.retries = 0
        run_dag(dag)
        run = run_dag(dag)
        assert run.tasks["report.arm"] == "failed", "it names what it could not schedule"
        assert run.state == "success"
        return seen[1]

    return run_twice


@pytest.mark.parametrize(
    ("to", "steps"),
    first(
        1,
        [
            (TO, [REJECTED]),
            ([REJECTED, TO], []),
            ([TO, REJECTED], []),
            ([TO, "nobody"], []),
            (TO, [lambda when: 1 / 0, OTHER]),
        ],
    ),
)
def test_one_recipient_of_the_runs_own_alert_is_enough(waiting_during_work, to, steps):
    assert waiting_during_work(to, *steps) == ["cancelled"]


@pytest.mark.parametrize(("to", "steps"), first(1, [(REJECTED, [OTHER]), ("nobody", [OTHER]), (REJECTED, [])]))
def test_the_alert_stays_if_the_run_has_no_alert_of_its_own(waiting_during_work, to, steps):
    assert waiting_during_work(to, *steps) == ["scheduled"], "a step alone may be too late"
