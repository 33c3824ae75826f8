"""What is expected on each supported Airflow: one row for each version, one for each DAG."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from airflow_provider_omnimessage.provider_info import CONN_FIELDS

FORM_FIELDS = sorted(CONN_FIELDS)


def switch(group: str) -> dict[str, str]:
    """Return what the tasks of a dead man's switch come to before the work of its group begins."""
    return {f"{group}.{name}": "success" for name in ("before_arm", "arm", "after_arm")}


@dataclass(frozen=True)
class Version:
    """
    One Airflow.

    :param airflow: the release that is tested for its minor version.
    :param as_of: the day whose package index gives a set of packages that works with it.
    :param python: the preferred Python; if it is not installed, another one is used.
    :param form_fields: the fields of the connection form that are the provider's own.
    :param hidden: the standard fields that the form hides.
    :param own_command: whether there is ``airflow omnimessage``.
    :param deadlines: whether there are deadline alerts.
    :param more: what else is installed.
    :param is_early: whether it is a pre-release: what fails there warns, and fails nothing.
    """

    airflow: str
    as_of: str
    python: str
    form_fields: bool = True
    hidden: tuple[str, ...] = ("port", "url_schema")
    own_command: bool = True
    deadlines: bool = True
    more: tuple[str, ...] = ()
    is_early: bool = False

    @property
    def is_2(self) -> bool:
        """Whether this is Airflow 2."""
        return self.airflow.startswith("2.")

    @property
    def components(self) -> tuple[str, ...]:
        """The processes that run DAGs; in Airflow 2 the scheduler parses them, too, and tasks need no API."""
        return ("scheduler", "triggerer") if self.is_2 else ("api-server", "scheduler", "dag-processor", "triggerer")

    @property
    def first_words(self) -> str:
        """What a log says each time that a worker takes the task up."""
        return "Pre task execution logs" if self.is_2 else "DAG bundles loaded"

    @property
    def messages(self) -> dict[str, list[str]]:
        """The outcome of every message."""
        return {**MESSAGES, **(OF_A_DEADLINE if self.deadlines else {})}

    def settings(self, folder: Path) -> dict[str, str]:
        """
        Give the settings that only this version needs.

        :param folder: its ``AIRFLOW_HOME``.
        """
        if self.line == "3.0":
            # there, a callback for a task deactivates the DAGs of its file that were parsed longer ago than this
            return {"AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "3600"}
        if not self.is_2:
            return {}
        return {
            # several workers write to the database themselves, and SQLite lets one at a time
            "_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK": "1",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db?timeout=60",
            "AIRFLOW__SCHEDULER__MIN_FILE_PROCESS_INTERVAL": "120",
            "AIRFLOW__CORE__DAG_FILE_PROCESSOR_TIMEOUT": "300",
        }

    @property
    def line(self) -> str:
        """The line of releases, as ``3.2``."""
        return self.airflow.rpartition(".")[0]


VERSIONS = (
    Version("2.11.2", "2026-11-20", "3.10", hidden=("extra", "port", "schema"), own_command=False, deadlines=False),
    # There is no WTForms, without which these two draw their plain form, ...
    Version("3.0.6", "2025-09-15", "3.11", form_fields=False, hidden=(), own_command=False, deadlines=False),
    # ... and which may come with FAB, or alone.
    Version("3.1.8", "2026-11-20", "3.12", own_command=False, more=("wtforms",)),
    Version("3.2.2", "2026-06-15", "3.13", hidden=("url_schema",)),
    Version("3.3.2", "2026-11-20", "3.13", hidden=("url_schema",)),
    # uv takes a pre-release of what is named, and released packages otherwise
    Version(
        "3.4.0b2",
        "2026-11-20",
        "3.13",
        hidden=("url_schema",),
        more=("apache-airflow-core==3.4.0b2", "apache-airflow-task-sdk==1.4.0b2"),
        is_early=True,
    ),
)

#: The state of every run and of its tasks, the same on every version.
RUNS: dict[str, tuple[str, dict[str, str]]] = {
    "matrix_schedule_and_cancel": ("success", {"schedule": "success", "work": "success", "cancel": "success"}),
    "matrix_work_fails": ("failed", {"schedule": "success", "failing_work": "failed", "cancel": "upstream_failed"}),
    "matrix_mapped_sends": ("success", {"recipients": "success", "send[0]": "success", "send[1]": "success"}),
    "matrix_past_is_skipped": ("success", {"schedule": "skipped"}),
    "matrix_bad_input_fails": ("failed", {"send": "failed"}),
    "matrix_waits": (
        "success",
        {
            "send": "success",
            "poke": "success",
            "reschedule": "success",
            "deferred": "success",
            "deferred_with_callback": "success",
            "read": "success",
        },
    ),
    "matrix_pushed": ("success", {"schedule": "success", "wait": "success"}),
    "matrix_waits_in_vain": (
        "failed",
        {
            "sent": "success",
            "deferred_failure": "failed",
            "deferred_timeout": "failed",
            "deferred_execution_timeout": "failed",
            "poke_timeout": "failed",
            "reschedule_timeout": "failed",
            "deferred_skip": "skipped",
        },
    ),
    "matrix_notifies_failure": ("failed", {"fails": "failed"}),
    "matrix_notifies_success": ("success", {"succeeds": "success"}),
    "matrix_dead_mans_switch": (
        "success",
        {**switch("by_nine"), "by_nine.work_in_time": "success", "by_nine.disarm": "success"},
    ),
    "matrix_dead_mans_switch_stands": (
        "failed",
        {**switch("by_nine"), "by_nine.guarded_work": "failed", "by_nine.disarm": "failed"},
    ),
    "matrix_dead_mans_switch_waits": (
        "success",
        {
            **switch("in_time"),
            "send": "success",
            "in_time.delivered": "success",
            "in_time.quick_work": "success",
            "in_time.disarm": "success",
        },
    ),
    "matrix_dead_mans_switch_catches_up": (
        "success",
        {**switch("by_midnight"), "by_midnight.late_work": "success", "by_midnight.disarm": "success"},
    ),
    "matrix_heartbeat": ("success", {"beat": "success", "beat_again": "success"}),
}

#: The outcome of every message, by the last four digits of its recipient.
MESSAGES: dict[str, list[str]] = {
    "1001": ["cancelled"],
    "1102": ["scheduled"],
    "1203": ["sent"],
    "1204": ["sent"],
    "1403": ["sent"],
    "1408": ["sent"],
    "0001": ["sent"],
    "0004": ["sent"],
    # of a DAG's failure, of a retry, of a task's failure to two, of a DAG's success, of a task's
    "1508": ["sent"],
    "1509": ["sent"],
    "1510": ["sent"],
    "1511": ["sent"],
    "1518": ["sent"],
    "1519": ["sent"],
    # of the switch that was disarmed, of the one that was not, and of only the last run that is caught up
    "1608": ["cancelled"],
    "1609": ["scheduled"],
    "1610": ["sent"],
    # of the switch that waits for its work: what the work sends, and the alert
    "1611": ["sent"],
    "1612": ["cancelled"],
    "1708": ["cancelled", "scheduled"],
}

#: Of a missed deadline, from the triggerer, where Airflow has deadlines.
OF_A_DEADLINE = {"1507": ["sent"]}

#: The tasks that wait until all of them do, and how they are then: only then do reports tell anything.
WAITING: dict[tuple[str, str], str] = {
    ("matrix_waits", "poke"): "running",
    ("matrix_waits", "reschedule"): "up_for_reschedule",
    ("matrix_waits", "deferred"): "deferred",
    ("matrix_waits", "deferred_with_callback"): "deferred",
    ("matrix_waits_in_vain", "deferred_failure"): "deferred",
}

#: What the log of a task says, at the end of what only a run on this version can show.
SAID: dict[tuple[str, str], str] = {
    ("matrix_waits_in_vain", "deferred_failure"): "sms: UNDELIV",
    ("matrix_waits_in_vain", "deferred_timeout"): "Not delivered within the timeout of 0:00:15",
    ("matrix_waits_in_vain", "deferred_execution_timeout"): "Not delivered within the execution_timeout of 0:00:15",
    ("matrix_waits_in_vain", "poke_timeout"): "Not delivered within the timeout of 0:00:03",
    ("matrix_waits_in_vain", "reschedule_timeout"): "Not delivered within the timeout of 0:00:15",
    ("matrix_bad_input_fails", "send"): "to: ",
    ("matrix_dead_mans_switch_stands", "by_nine.disarm"): "guarded_work is failed",
}

#: The tasks whose page has a link to the message.
LINKED = {
    "matrix_schedule_and_cancel": ["schedule", "cancel"],
    "matrix_work_fails": ["schedule"],
    "matrix_mapped_sends": ["send[0]", "send[1]"],
    "matrix_waits": ["send", "poke", "reschedule", "deferred", "deferred_with_callback"],
}
