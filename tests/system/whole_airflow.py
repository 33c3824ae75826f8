"""What tests of a whole Airflow share: waiting for what it does in its own time, and settings."""

from __future__ import annotations

import time
from collections.abc import Callable

#: A worker that dies with its supervisor is detected by its missing heartbeat only: within 20 seconds with these.
DETECTS_DEAD_WORKERS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
}


def eventually(holds: Callable[[], object], what: str, about: object = "", seconds: float = 180) -> None:
    """
    Wait until a condition holds.

    :param what: the condition in words, for the error.
    :param about: is shown in the error. It becomes text only then.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} seconds: {about}"
        time.sleep(0.2)
