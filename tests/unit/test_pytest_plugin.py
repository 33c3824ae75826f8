"""The pytest plugin for users: its fixtures, its error texts, and that it costs nothing if it is not used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest
import requests
from full_size import full_size

from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

AT = "2027-01-05T07:00:00+00:00"


@pytest.fixture
def scheduled(omnimessage_sandbox):
    omnimessage_sandbox.freeze()
    omnimessage_sandbox.set_time(datetime(2027, 1, 4, tzinfo=timezone.utc))
    with OmnimessageHook() as hook:
        hook.send("+37255555555", [viber("The report is late", ttl=60), sms("It is late")], time_to_send=AT)
    return omnimessage_sandbox


def test_message_is_found_by_any_of_its_properties(scheduled):
    (message,) = scheduled.messages
    for found in (
        scheduled.assert_one_scheduled(),
        scheduled.assert_one_scheduled(to="+372 5555-5555", at=AT, text="report", channels=["viber", "sms"]),
        scheduled.assert_one_scheduled(at=datetime(2027, 1, 5, 9, tzinfo=timezone(timedelta(hours=2)))),
        scheduled.assert_one_scheduled(at="2027-01-05T07:00:00Z", text="It is"),
        scheduled.assert_one_scheduled(at=datetime(2027, 1, 5, 7)),
    ):
        assert found == message
    scheduled.assert_nothing_sent()


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": "+37255555556"},
        {"at": "2027-01-05T07:00:01Z"},
        {"text": "the report"},
        {"channels": ["sms", "viber"]},
        {"channels": ["viber"]},
    ],
)
def test_other_message_does_not_match(scheduled, wrong):
    with pytest.raises(AssertionError, match=r"^Expected one scheduled message .*, found 0\."):
        scheduled.assert_one_scheduled(**wrong)


def test_message_is_sent_when_the_test_moves_the_clock(scheduled):
    with pytest.raises(AssertionError, match="Expected one sent message, found 0"):
        scheduled.assert_one_sent()
    scheduled.advance(timedelta(days=2))
    scheduled.assert_one_sent(at=AT)
    scheduled.assert_nothing_scheduled()
    with pytest.raises(AssertionError, match="Expected no sent message, found 1"):
        scheduled.assert_nothing_sent()


def test_cancelled_message_is_neither_scheduled_nor_sent(scheduled):
    with pytest.raises(AssertionError, match="Expected no scheduled message, found 1"):
        scheduled.assert_nothing_scheduled()
    with pytest.raises(AssertionError, match="Expected one cancelled message, found 0"):
        scheduled.assert_one_cancelled()
    with OmnimessageHook() as hook:
        hook.cancel(scheduled.messages[0]["omnimessage_id"])
    scheduled.advance(timedelta(days=2))
    scheduled.assert_one_cancelled(to="+37255555555")
    scheduled.assert_nothing_scheduled()
    scheduled.assert_nothing_sent()


def test_failed_assertion_lists_messages_and_failed_calls(scheduled):
    with OmnimessageHook() as hook:
        hook.send("+37255555555", [sms("x" * 61)])
    scheduled.add_fault("unauthorized")
    with OmnimessageHook() as hook, pytest.raises(Exception, match="401"):
        hook.send("+37255555555", [sms("Never")])
    with pytest.raises(AssertionError) as caught:
        scheduled.assert_one_scheduled(to="+37255550001", at=AT, text="late", channels=["sms"])
    assert str(caught.value).splitlines() == [
        "Expected one scheduled message to +37255550001 for 2027-01-05 07:00:00 UTC with the text 'late' by sms, "
        "found 0.",
        "The sandbox has 2 messages:",
        "  1. scheduled, to +37255555555, for 2027-01-05 07:00:00 UTC, by viber, then sms: 'The report is late'",
        f"  2. in_progress, to +37255555555, sent immediately, by sms: '{'x' * 60}…'",
        "1 call failed. The latest:",
        "  POST /v1/omnimessage: 401 (fault: unauthorized)",
    ]


def test_two_matching_messages_fail_the_assertion(scheduled):
    with OmnimessageHook() as hook:
        hook.send("+37255555556", [sms("The same")], time_to_send=AT)
    with pytest.raises(AssertionError, match="Expected one scheduled message, found 2"):
        scheduled.assert_one_scheduled()
    scheduled.assert_one_scheduled(to="+37255555556")


def test_error_lists_at_most_20_messages(omnimessage_sandbox):
    with OmnimessageHook() as hook:
        for _ in range(21):
            hook.send("+37255555555", [sms("Many")])
    with pytest.raises(AssertionError, match=r"(?s) 20\. in_progress.*and 1 more$"):
        omnimessage_sandbox.assert_nothing_sent()


def test_unknown_field_fails_the_assertion(scheduled):
    scheduled.assert_no_unknown_fields()
    body = {"to": "+37255555555", "messages": [{"channel": "sms", "text": "Hi", "sendr": "ACME"}], "time": "09:00"}
    credentials = (scheduled.username.encode(), scheduled.password.encode())
    requests.post(f"{scheduled.url}/omnimessage", json=body, auth=credentials, timeout=10).raise_for_status()
    with pytest.raises(AssertionError, match=r"does not know these fields.*\n  to \+37255555555: sms\.sendr, time"):
        scheduled.assert_no_unknown_fields()


def test_error_mentions_the_connection_if_no_call_came(omnimessage_sandbox):
    with pytest.raises(AssertionError, match=r"has no messages\.\nNo call has reached it\. Does the task use a conn"):
        omnimessage_sandbox.assert_one_scheduled()


def pytest_in_another_process(folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_plugin_works_in_a_project_that_only_installs_the_package(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text(
        "import pytest\n"
        "@pytest.fixture(scope='session')\n"
        "def omnimessage_conn_ids():\n"
        "    return ['alerts', 'omnimessage_default']\n"
        "@pytest.fixture(scope='session')\n"
        "def omnimessage_sandbox_options():\n"
        "    return {'delivery_seconds': 7, 'username': 'me'}\n"
    )
    (tmp_path / "test_theirs.py").write_text(
        "import json, os, urllib.request\n"
        "def send(sandbox):\n"
        "    import base64\n"
        "    login = base64.b64encode(f'{sandbox.username}:{sandbox.password}'.encode()).decode()\n"
        "    body = {'to': '+37255555555', 'messages': [{'channel': 'sms', 'text': 'Hi'}]}\n"
        "    headers = {'Authorization': f'Basic {login}', 'Content-Type': 'application/json'}\n"
        "    url = f'{sandbox.url}/omnimessage'\n"
        "    urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)).close()\n"
        "def test_one(omnimessage_sandbox):\n"
        "    for name in ('ALERTS', 'OMNIMESSAGE_DEFAULT'):\n"
        "        connection = json.loads(os.environ[f'AIRFLOW_CONN_{name}'])\n"
        "        assert (connection['conn_type'], connection['login']) == ('omnimessage', 'me')\n"
        "        assert connection['host'] == omnimessage_sandbox.url\n"
        "    omnimessage_sandbox.add_fault('slow', call='status')\n"
        "    omnimessage_sandbox.freeze()\n"
        "    send(omnimessage_sandbox)\n"
        "    omnimessage_sandbox.assert_one_sent(to='+37255555555')\n"
        "def test_the_next_test_starts_empty(omnimessage_sandbox):\n"
        "    omnimessage_sandbox.assert_nothing_sent()\n"
        "    assert omnimessage_sandbox.faults == []\n"
        "    before = omnimessage_sandbox.now\n"
        "    while omnimessage_sandbox.now == before: pass\n"
        "def test_without_the_fixture_there_are_no_connections():\n"
        "    assert 'AIRFLOW_CONN_ALERTS' not in os.environ\n"
    )
    done = pytest_in_another_process(tmp_path, "-q")
    assert "3 passed" in done.stdout, done.stdout + done.stderr


@full_size
def test_failed_assertion_shows_the_line_of_the_test(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_theirs.py").write_text(
        "def test_one(omnimessage_sandbox):\n    omnimessage_sandbox.assert_one_sent(to='+37255555555')\n"
    )
    done = pytest_in_another_process(tmp_path, "-q")
    assert "test_theirs.py:2: AssertionError" in done.stdout, done.stdout + done.stderr
    assert "Expected one sent message to +37255555555, found 0." in done.stdout
    assert "assertions.py" not in done.stdout
    assert "client.py" not in done.stdout


@pytest.fixture(scope="module")
def in_a_project_without_the_extra(tmp_path_factory):
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "conftest.py").write_text("import sys\nsys.modules['uvicorn'] = None\n")
    (folder / "test_theirs.py").write_text(
        "import json, sys\n"
        "def test_modules():\n"
        "    names = sorted(name for name, module in sys.modules.items() if module and name.split('.')[0] in "
        "('airflow', 'airflow_provider_omnimessage', 'fastapi', 'uvicorn', 'requests', 'pendulum', 'aiohttp'))\n"
        "    print('MODULES', json.dumps(names))\n"
        "def test_sandbox(omnimessage_sandbox):\n"
        "    pass\n"
    )
    return pytest_in_another_process(folder, "-s")


@full_size
def test_unused_plugin_imports_one_module(in_a_project_without_the_extra):
    (line,) = [line for line in in_a_project_without_the_extra.stdout.splitlines() if "MODULES" in line]
    # plugins of Airflow or of a dependency would show here too
    assert json.loads(line.partition("MODULES ")[2]) == [
        "airflow_provider_omnimessage",
        "airflow_provider_omnimessage.sandbox",
        "airflow_provider_omnimessage.sandbox.pytest_plugin",
    ]


@full_size
def test_fixture_says_what_to_install_if_the_extra_is_missing(in_a_project_without_the_extra):
    output = in_a_project_without_the_extra.stdout
    assert "1 passed, 1 error" in output
    assert "The sandbox requires uvicorn, which its extra installs: pip install fastapi uvicorn" in output
