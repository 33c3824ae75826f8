"""The same on every supported Airflow: the built wheel in a clean environment, real DAGs, the form and the commands."""

from __future__ import annotations

import json

import pytest

from .expectations import FORM_FIELDS, LINKED, MESSAGES, RUNS

UNKNOWN = "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"


def test_what_runs_is_this_airflow_and_the_wheel(environment, report):
    assert report["versions"]["airflow"] == environment.version.airflow
    assert "site-packages" in report["versions"]["provider"]


@pytest.mark.parametrize("dag_id", RUNS)
def test_a_dag_ends_as_expected(report, dag_id):
    run = report["runs"][dag_id]
    assert (run["state"], run["tasks"]) == RUNS[dag_id]


def test_every_dag_is_expected(report):
    assert set(report["runs"]) == set(RUNS)


@pytest.mark.parametrize("dag_id", MESSAGES)
def test_its_messages_are_at_messente(environment, report, dag_id):
    returned = report["runs"][dag_id]["returned"]
    ids = [value for _, value in sorted(returned.items()) if isinstance(value, str)]
    messages = [environment.sandbox.message(omnimessage_id) for omnimessage_id in ids]
    states = ["sent" if message["sent_at"] else message["state"] for message in messages]
    assert states == MESSAGES[dag_id]


def test_nothing_else_was_sent(environment, report):
    assert len([one for one in environment.sandbox.requests if one["call"] == "send"]) == sum(
        map(len, MESSAGES.values())
    )


@pytest.mark.parametrize("dag_id", LINKED)
def test_its_tasks_lead_to_their_message(environment, report, dag_id):
    run = report["runs"][dag_id]
    for task_id in LINKED[dag_id]:
        returned = run["returned"][task_id]
        omnimessage_id = returned if isinstance(returned, str) else returned[0]
        assert run["links"][task_id] == f"{environment.sandbox.inbox_url}#{omnimessage_id}"


def test_the_form_has_its_fields(environment, report):
    version = environment.version
    assert report["form"]["fields"] == (FORM_FIELDS if version.form_fields else [])
    assert tuple(report["form"]["hidden"]) == version.hidden
    labels = {"login": "API username", "password": "API password", "host": "Base URL"}
    assert report["form"]["labels"] == (labels if version.form_fields else {})


def test_the_forms_test_greets_and_explains(environment, report):
    (works, greeting), (wrong, said) = report["test"]
    assert (works, wrong) == (True, False)
    assert greeting == f"Reached {environment.sandbox.url}, which accepts the API username 'sandbox'."
    assert said.startswith("Wrong password: ")


def test_airflow_lists_the_provider_with_all_it_has(environment, report):
    known = environment.must("-m", "airflow", "providers", "get", "airflow-provider-omnimessage", "-o", "json")
    assert "airflow-provider-omnimessage" in known
    assert "airflow_provider_omnimessage.links.OmnimessageLink" in environment.must(
        "-m", "airflow", "providers", "links"
    )


def test_the_command_line_works(environment, report):
    sent = environment.run(
        *("-m", "airflow_provider_omnimessage", "schedule", "--to", "+37255555555", "--text-file", "-"),
        *("--in", "1h", "--output", "json"),
        stdin="Tere",
    )
    assert sent.returncode == 0, sent.stderr
    (row,) = json.loads(sent.stdout)
    words = ["omnimessage", "cancel"] if environment.version.own_command else ["cancel"]
    module = "airflow" if environment.version.own_command else "airflow_provider_omnimessage"
    environment.must("-m", module, *words, row["omnimessage_id"])
    assert environment.sandbox.message(row["omnimessage_id"])["state"] == "cancelled"
    assert environment.run("-m", module, *words, UNKNOWN).returncode == 4
    checks = json.loads(environment.must("-m", "airflow_provider_omnimessage", "doctor", "--output", "json"))
    assert {check["result"] for check in checks} == {"ok", "skipped"}
