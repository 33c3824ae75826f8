"""CPU time that importing a provider's public classes adds to a DAG file that has imported ``airflow.sdk``."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from figure import Figure

ROUNDS = 9
AIM_MILLISECONDS = 15.0

OURS = """
from airflow_provider_omnimessage.alerts import DeadMansSwitch, HeartbeatOperator
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier
from airflow_provider_omnimessage.api.messages import omnimessage, rcs, sms, viber, whatsapp
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator, ScheduleOmnimessageOperator, SendOmnimessageOperator)
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor
"""
PEERS = {
    "Slack provider's operators": "import airflow.providers.slack.operators.slack",
    "HTTP provider's operator": "import airflow.providers.http.operators.http",
    "dbt Cloud provider's operators": "import airflow.providers.dbt.cloud.operators.dbt",
}
#: What a DAG file has imported before.
AIRFLOW = (
    "from airflow.sdk import DAG, BaseHook, BaseNotifier, BaseOperator, BaseSensorOperator, Param, TaskGroup, task"
)
_PROGRAM = f"""
import sys, time
{AIRFLOW}
before = time.process_time()
exec(compile(sys.argv[1], "imports", "exec"))
print((time.process_time() - before) * 1000)
"""


def measure() -> list[Figure]:
    """Import each in fresh processes, in turn, and take medians."""
    samples: dict[str, list[float]] = {name: [] for name in ("ours", *PEERS)}
    with tempfile.TemporaryDirectory() as home:
        # with bytecode compiled, as on any machine that has parsed a DAG before
        environment = {**os.environ, "AIRFLOW_HOME": home, "PYTHONDONTWRITEBYTECODE": ""}
        for _ in range(ROUNDS + 1):
            for name, statement in (("ours", OURS), *PEERS.items()):
                command = [sys.executable, "-c", _PROGRAM, statement]
                printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
                samples[name].append(float(printed.strip().splitlines()[-1]))
    medians = {name: statistics.median(values[1:]) for name, values in samples.items()}
    return [
        Figure(
            what="CPU time that importing all public classes adds on top of airflow.sdk",
            unit="ms",
            ours=medians["ours"],
            peer=peer,
            theirs=medians[peer],
            aim=f"at most {AIM_MILLISECONDS:.0f} ms",
            holds=medians["ours"] <= AIM_MILLISECONDS,
        )
        for peer in PEERS
    ]
