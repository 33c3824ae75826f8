"""What the tests of the delivery sensor share: recipients, its modes, and the requests that the sandbox received."""

from __future__ import annotations

import pytest
from full_size import first

from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

TO = "+37255555555"
UNDELIVERABLE = "+37255550001"
FIRST_CHANNEL_FAILS = "+37255550002"
READ = "+37255550003"
STUCK = "+37255550004"
UNKNOWN = "11111111-2222-4333-8444-555555555555"
DEFERRED = {"deferrable": True}
POKE = {"deferrable": False, "mode": "poke"}
RESCHEDULE = {"deferrable": False, "mode": "reschedule"}


in_each_mode = pytest.mark.parametrize("mode", [POKE, RESCHEDULE, DEFERRED], ids=["poke", "reschedule", "deferred"])
#: In the plain run, only deferred.
in_every_mode = pytest.mark.parametrize(
    "mode", first(1, [DEFERRED, POKE, RESCHEDULE]), ids=["deferred", "poke", "reschedule"]
)
#: In the plain run, only on a worker.
in_a_worker_and_in_the_triggerer = pytest.mark.parametrize("mode", first(1, [POKE, DEFERRED]), ids=["poke", "deferred"])


def a_sensor(**settings):
    return OmnimessageDeliverySensor(**{"task_id": "wait", "poke_interval": 0.05, "timeout": 30, **settings})


def status_requests(sandbox):
    return [request for request in sandbox.requests if request["call"] == "status"]
