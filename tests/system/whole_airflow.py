"""Settings that tests of a whole Airflow share."""

from __future__ import annotations

#: A worker that dies with its supervisor is detected by its missing heartbeat only: within 20 seconds with these. If it
#: dies just before its task starts, the task stays queued until a timeout. It must be longer than tasks queue on a busy
#: machine, since it is also the lifetime of the token with which a task starts.
DETECTS_DEAD_WORKERS = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "90",
    "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
}
