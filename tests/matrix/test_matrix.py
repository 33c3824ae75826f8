"""The same on every supported Airflow: the built wheel in a clean environment, real DAGs, the form and the commands."""

from __future__ import annotations

import json

import pytest

from .expectations import FORM_FIELDS, LINKED, RUNS, SAID, WAITING


def test_what_runs_is_this_airflow_and_the_wheel(environment, report):
    assert report["versions"]["airflow"] == environment.version.airflow
    assert "site-packages" in report["versions"]["provider"]


@pytest.mark.parametrize("dag_id", RUNS)
def test_a_dag_ends_as_expected(report, dag_id):
    runs = report["runs"][dag_id]
    assert runs
    for run in runs:
        assert (run["state"], run["tasks"]) == RUNS[dag_id]


def test_dag_test_runs_it_too(report):
    run = report["by_hand"]
    assert (run["state"], run["tasks"]) == ("success", {"send": "success", "wait": "success"})
    assert run["returned"]["wait"]["outcome"] == "delivered"


def test_every_message_has_the_expected_outcome(seen):
    states: dict[str, list[str]] = {}
    for message in sorted(seen.messages, key=lambda message: message["accepted_at"]):
        state = "sent" if message["sent_at"] else message["state"]
        states.setdefault(message["to"][-4:], []).append(state)
    assert states == seen.environment.version.messages, seen.environment.about_callbacks()


@pytest.mark.parametrize("task_id", ["poke", "reschedule", "deferred", "deferred_with_callback"])
def test_a_wait_returns_the_report_in_every_mode(report, task_id):
    (run,) = report["runs"]["matrix_waits"]
    report = run["returned"][task_id]
    assert (report["omnimessage_id"], report["outcome"]) == (run["returned"]["send"], "delivered")


def test_a_report_from_the_triggerer_is_no_text_to_the_next_task(report):
    assert report["runs"]["matrix_waits"][0]["returned"]["read"] == "delivered"


def test_every_wait_had_to_wait(seen):
    assert seen.waited == WAITING


def test_a_success_ends_in_the_triggerer_if_no_worker_is_needed(environment, report):
    assert report["runs"]["matrix_waits"][0]["tasks"]["deferred"] == "success"
    assert environment.times_on_a_worker("matrix_waits", "deferred") == 1
    assert environment.times_on_a_worker("matrix_waits", "deferred_with_callback") > 1


def test_a_report_ends_a_deferred_wait_without_a_poll(seen, environment, report):
    (run,) = report["runs"]["matrix_pushed"]
    assert run["returned"]["wait"]["outcome"] == "delivered"
    assert seen.requests_while_pushed == []
    assert environment.times_on_a_worker("matrix_pushed", "wait") == 1


def test_a_switch_that_waits_for_work_stays_away_until_its_time(environment):
    came_back = environment.came_back("matrix_dead_mans_switch_waits", "in_time.disarm")
    assert not any(came_back)
    # since Airflow 3.2, a teardown does not start before all tasks between it and its setup have ended
    assert not came_back or environment.version.line in ("2.11", "3.0", "3.1")


def test_a_switch_rejects_a_schedule_that_is_due_at_its_deadline(report):
    assert "by: 09:00 UTC is when the run itself is due" in report["due_at_the_deadline"]


@pytest.mark.parametrize(("dag_id", "task_id"), SAID)
def test_a_failure_says_why(environment, dag_id, task_id):
    assert SAID[dag_id, task_id] in environment.log(dag_id, task_id)


@pytest.mark.parametrize("dag_id", LINKED)
def test_its_tasks_lead_to_their_message(environment, report, dag_id):
    (run,) = report["runs"][dag_id]
    for task_id in LINKED[dag_id]:
        returned = run["returned"][task_id]
        returned = returned[0] if isinstance(returned, list) else returned
        omnimessage_id = returned["omnimessage_id"] if isinstance(returned, dict) else returned
        assert run["links"][task_id] == f"{environment.sandbox.inbox_url}#{omnimessage_id}"


def test_the_form_has_its_fields(environment, report):
    version = environment.version
    assert report["form"]["fields"] == (FORM_FIELDS if version.form_fields else [])
    assert tuple(report["form"]["hidden"]) == version.hidden
    labels = {"login": "API username", "password": "API password", "host": "Base URL"}
    assert report["form"]["labels"] == (labels if version.form_fields else {})


def test_the_test_button_accepts_the_right_password_and_explains_a_wrong_one(environment, report):
    (works, greeting), (wrong, said) = report["test"]
    assert (works, wrong) == (True, False)
    assert greeting == f"Reached {environment.sandbox.url}, which accepts the API username 'sandbox'."
    assert said.startswith("Wrong password: ")


def test_the_metadata_matches_the_schema_of_this_airflow(report):
    assert report["metadata"] == []


def test_airflow_describes_the_provider(report):
    (described,) = json.loads(report["described"])
    assert described["package-name"] == "airflow-provider-omnimessage"
    assert {entry["connection-type"] for entry in described["connection-types"]} == {"omnimessage"}
    assert described["extra-links"] == ["airflow_provider_omnimessage.links.OmnimessageLink"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("hooks", "airflow_provider_omnimessage.hooks.omnimessage.OmnimessageHook"),
        ("links", "airflow_provider_omnimessage.links.OmnimessageLink"),
        ("notifications", "airflow_provider_omnimessage.notifications.omnimessage.OmnimessageNotifier"),
        ("triggers", "airflow_provider_omnimessage.triggers.omnimessage"),
    ],
)
def test_airflow_lists_what_the_provider_has(report, kind, name):
    assert [line for line in report["listed"][kind] if name in line]


def test_airflow_lists_the_fields_of_the_form(environment, report):
    fields = FORM_FIELDS if environment.version.form_fields else []
    assert sorted(line.split()[0] for line in report["listed"]["widgets"]) == [
        f"extra__omnimessage__{field}" for field in fields
    ]
    assert bool(report["listed"]["behaviours"]) == environment.version.form_fields


def test_the_command_line_works(environment, report):
    seen = report["command_line"]
    assert seen["has_command"] == environment.version.own_command
    codes = {name: seen[name]["code"] for name in ("scheduled", "cancelled", "unknown", "checked")}
    assert codes == {"scheduled": 0, "cancelled": 0, "unknown": 4, "checked": 0}, seen
    assert environment.sandbox.message(seen["omnimessage_id"])["state"] == "cancelled"
    checks = json.loads(seen["checked"]["printed"])
    assert {check["result"] for check in checks} == {"ok", "skipped"}
