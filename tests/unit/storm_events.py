"""Failures and successes as callbacks see them, and Variables for their state."""

from __future__ import annotations

import random
import re
import time
from datetime import datetime, timedelta
from types import SimpleNamespace

from airflow.sdk import DAG

from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier

TO = "+37255555555"
HOUR = timedelta(hours=1)
REPORT = DAG("report", schedule=None)


class Variables(dict):
    """Airflow's Variables: reads and writes take a little time, and are not atomic together."""

    delay = 0.0
    is_down = False

    def look(self, key, default=None):
        self._wait()
        return super().get(key, default)

    def put(self, key, value, description=None):
        self._wait()
        self[key] = value

    def _wait(self):
        if self.is_down:
            raise RuntimeError("no database")
        time.sleep(random.uniform(0, self.delay))

    def shift(self, span):
        """Let time pass: move everything that is stored into the past."""
        for key, value in self.items():
            times = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+\+00:00")
            self[key] = times.sub(lambda found: (datetime.fromisoformat(found[0]) - span).isoformat(), value)


def event(task_id="load", state="failed", **more):
    ti = SimpleNamespace(task_id=task_id, state=state, try_number=1, max_tries=0)
    return {"dag": REPORT, "run_id": "run_1", "ti": ti, "task": SimpleNamespace(), **more}


def notifier(**kwargs):
    return OmnimessageNotifier(**{"to": TO, "dedup_key": "{{ dag.dag_id }}", **kwargs})


def pending(sandbox):
    return [text(message) for message in sandbox.messages if message["state"] == "scheduled"]


def sent(sandbox):
    return [text(message) for message in sandbox.messages if message["time_to_send"] is None]


def text(message):
    return message["body"]["messages"][-1]["text"]
