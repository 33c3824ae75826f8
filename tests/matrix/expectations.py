"""What each supported Airflow is expected to give: one row for each version, one for each DAG."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_provider_omnimessage.provider_info import CONN_FIELDS

FORM_FIELDS = sorted(CONN_FIELDS)


@dataclass(frozen=True)
class Version:
    """
    One Airflow.

    :param airflow: the release that stands for its line.
    :param as_of: the day whose package index gives a set of packages that works with it.
    :param python: the Python that is asked for; another does where this one is not there.
    :param form_fields: the fields of the connection form that are the provider's own.
    :param hidden: the standard fields that the form hides.
    :param own_command: whether there is ``airflow omnimessage``.
    :param more: what else is installed.
    """

    airflow: str
    as_of: str
    python: str
    form_fields: bool = True
    hidden: tuple[str, ...] = ("port", "url_schema")
    own_command: bool = True
    more: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """The line of releases, as ``3.2``."""
        return self.airflow.rpartition(".")[0]


VERSIONS = (
    Version("2.11.2", "2026-11-20", "3.10", hidden=("extra", "port", "schema"), own_command=False),
    # There is no WTForms, without which these two draw their plain form, ...
    Version("3.0.6", "2025-09-15", "3.11", form_fields=False, hidden=(), own_command=False),
    # ... and which comes with FAB.
    Version("3.1.8", "2026-11-20", "3.12", own_command=False, more=("apache-airflow-providers-fab",)),
    Version("3.2.2", "2026-06-15", "3.13", hidden=("url_schema",)),
    Version("3.3.2", "2026-11-20", "3.13", hidden=("url_schema",)),
)

#: The state of each run and of its tasks, the same on every version.
RUNS: dict[str, tuple[str, dict[str, str]]] = {
    "matrix_schedule_and_cancel": ("success", {"schedule": "success", "work": "success", "cancel": "success"}),
    "matrix_work_fails": ("failed", {"schedule": "success", "failing_work": "failed", "cancel": "upstream_failed"}),
    "matrix_mapped_sends": ("success", {"recipients": "success", "send[0]": "success", "send[1]": "success"}),
    "matrix_past_is_skipped": ("success", {"schedule": "skipped"}),
    "matrix_bad_input_fails": ("failed", {"send": "failed"}),
}

#: What became of each DAG's messages at Messente, in the order in which they were accepted.
MESSAGES: dict[str, list[str]] = {
    "matrix_schedule_and_cancel": ["cancelled"],
    "matrix_work_fails": ["scheduled"],
    "matrix_mapped_sends": ["sent", "sent"],
}

#: The tasks whose page has a link to the message.
LINKED = {
    "matrix_schedule_and_cancel": ["schedule", "cancel"],
    "matrix_work_fails": ["schedule"],
    "matrix_mapped_sends": ["send[0]", "send[1]"],
}
