"""All faults in random order for as long as wanted; at the end, every message is accounted for.

``OMNIMESSAGE_SOAK_MINUTES`` says how long; ``scripts/test --distributed --soak`` makes it 60.
"""

from __future__ import annotations

import logging
import os
import random
import time

import pytest
from _cluster import API_SERVERS, SCHEDULERS, TRIGGERERS, WORKERS
from matrix.expectations import MESSAGES, OF_A_DEADLINE
from waiting import eventually
from workload import Workload

MINUTES = float(os.environ.get("OMNIMESSAGE_SOAK_MINUTES", "0"))
SEED = int(os.environ.get("OMNIMESSAGE_SEED", str(random.randrange(10**6))))
#: What is killed at a time.
FAULTS = [
    *((name,) for name in (*API_SERVERS, *SCHEDULERS, *TRIGGERERS, *WORKERS, "dag-processor", "redis", "postgres")),
    API_SERVERS,
    SCHEDULERS,
    TRIGGERERS,
    WORKERS,
]
#: The last digits of whom the DAGs with a schedule notify: those of the matrix, the examples and the alerts.
OF_SCHEDULED_DAGS = {*MESSAGES, *OF_A_DEADLINE, "5555", "7777"}
log = logging.getLogger(__name__)


@pytest.mark.skipif(not MINUTES, reason="only with OMNIMESSAGE_SOAK_MINUTES")
def test_whatever_dies_in_whatever_order_every_message_is_accounted_for(cluster, airflow, sandbox):
    log.warning("OMNIMESSAGE_SEED=%d", SEED)
    chance = random.Random(SEED)
    works = []
    end = time.monotonic() + 60 * MINUTES
    while time.monotonic() < end:
        works.append(Workload(airflow, sandbox, number=1))
        cluster.pass_time(chance.uniform(0, 15))
        names = chance.choice(FAULTS)
        log.warning("killed: %s", ", ".join(names))
        cluster.kill(*names)
        cluster.pass_time(chance.choice([0, 0, 5, 20]))
        cluster.start_again(*names)
        eventually(lambda: cluster.restart_ended() == [] and cluster.is_healthy(), f"healthy after {names}")
    for work in works:
        work.judge(tasks_may_fail=True)
    runs = [run_id for work in works for run_id in (*work.outage, *work.guarded)]
    others = [one for one in sandbox.messages if not any(run_id in str(one["body"]["messages"]) for run_id in runs)]
    assert {one["to"][-4:] for one in others} <= OF_SCHEDULED_DAGS, others
