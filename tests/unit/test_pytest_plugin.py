"""The pytest plugin that users get: what it gives, what it says, and that it costs nobody anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest

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


def test_it_finds_the_message_by_all_that_is_known_of_it(scheduled):
    (message,) = scheduled.messages
    for one in (
        scheduled.assert_one_scheduled(),
        scheduled.assert_one_scheduled(to="+372 5555-5555", at=AT, text="report", channels=["viber", "sms"]),
        scheduled.assert_one_scheduled(at=datetime(2027, 1, 5, 9, tzinfo=timezone(timedelta(hours=2)))),
        scheduled.assert_one_scheduled(at="2027-01-05T07:00:00Z", text="It is"),
        scheduled.assert_one_scheduled(at=datetime(2027, 1, 5, 7)),
    ):
        assert one == message
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
def test_it_does_not_take_another_message_for_it(scheduled, wrong):
    with pytest.raises(AssertionError, match=r"^Expected one message scheduled .*, and there is none\."):
        scheduled.assert_one_scheduled(**wrong)


def test_time_passes_when_the_test_says_so(scheduled):
    with pytest.raises(AssertionError, match="Expected one message sent, and there is none"):
        scheduled.assert_one_sent()
    scheduled.advance(timedelta(days=2))
    scheduled.assert_one_sent(at=AT)
    scheduled.assert_nothing_scheduled()
    with pytest.raises(AssertionError, match="Expected no message sent, and 1 is"):
        scheduled.assert_nothing_sent()


def test_cancelled_is_neither_scheduled_nor_sent(scheduled):
    with pytest.raises(AssertionError, match="Expected no message scheduled, and 1 is"):
        scheduled.assert_nothing_scheduled()
    with pytest.raises(AssertionError, match="Expected one message cancelled, and there is none"):
        scheduled.assert_one_cancelled()
    with OmnimessageHook() as hook:
        hook.cancel(scheduled.messages[0]["omnimessage_id"])
    scheduled.advance(timedelta(days=2))
    scheduled.assert_one_cancelled(to="+37255555555")
    scheduled.assert_nothing_scheduled()
    scheduled.assert_nothing_sent()


def test_what_fails_says_what_is_there(scheduled):
    with OmnimessageHook() as hook:
        hook.send("+37255555555", [sms("x" * 61)])
    scheduled.add_fault("unauthorized")
    with OmnimessageHook() as hook, pytest.raises(Exception, match="401"):
        hook.send("+37255555555", [sms("Never")])
    with pytest.raises(AssertionError) as caught:
        scheduled.assert_one_scheduled(to="+37255550001", at=AT, text="late", channels=["sms"])
    assert str(caught.value).splitlines() == [
        "Expected one message scheduled to +37255550001 for 2027-01-05 07:00:00 UTC with the text 'late' by sms, "
        "and there is none.",
        "The sandbox has 2 messages:",
        "  1. scheduled, to +37255555555, for 2027-01-05 07:00:00 UTC, by viber, then sms: 'The report is late'",
        f"  2. in_progress, to +37255555555, at once, by sms: '{'x' * 60}…'",
        "It did not carry out 1 call; the last:",
        "  POST /v1/omnimessage: 401 (unauthorized, as ordered)",
    ]


def test_two_are_not_one(scheduled):
    with OmnimessageHook() as hook:
        hook.send("+37255555556", [sms("The same")], time_to_send=AT)
    with pytest.raises(AssertionError, match="Expected one message scheduled, and there are 2"):
        scheduled.assert_one_scheduled()
    scheduled.assert_one_scheduled(to="+37255555556")


def test_many_messages_make_no_endless_error(omnimessage_sandbox):
    with OmnimessageHook() as hook:
        for _ in range(21):
            hook.send("+37255555555", [sms("Many")])
    with pytest.raises(AssertionError, match=r"(?s) 20\. in_progress.*and 1 more$"):
        omnimessage_sandbox.assert_nothing_sent()


def test_where_no_call_came_it_asks_about_the_connection(omnimessage_sandbox):
    with pytest.raises(AssertionError, match=r"has no messages\.\nNo call has reached it: does the task use a conn"):
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


def test_it_works_in_a_project_that_only_has_it_installed(tmp_path):
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
        "def test_the_next_one_has_nothing_of_it(omnimessage_sandbox):\n"
        "    omnimessage_sandbox.assert_nothing_sent()\n"
        "    assert omnimessage_sandbox.faults == []\n"
        "    before = omnimessage_sandbox.now\n"
        "    while omnimessage_sandbox.now == before: pass\n"
        "def test_without_it_the_connections_are_gone():\n"
        "    assert 'AIRFLOW_CONN_ALERTS' not in os.environ\n"
    )
    done = pytest_in_another_process(tmp_path, "-q")
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_an_assertion_that_fails_shows_the_tests_line_and_none_of_its_own(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_theirs.py").write_text(
        "def test_one(omnimessage_sandbox):\n    omnimessage_sandbox.assert_one_sent(to='+37255555555')\n"
    )
    done = pytest_in_another_process(tmp_path, "-q")
    assert "test_theirs.py:2: AssertionError" in done.stdout, done.stdout + done.stderr
    assert "Expected one message sent to +37255555555, and there is none." in done.stdout
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


def test_who_does_not_use_it_pays_for_reading_one_module(in_a_project_without_the_extra):
    (line,) = [line for line in in_a_project_without_the_extra.stdout.splitlines() if "MODULES" in line]
    # a plugin of Airflow's or of a dependency would be seen here, too, and is not ours
    assert json.loads(line.partition("MODULES ")[2]) == [
        "airflow_provider_omnimessage",
        "airflow_provider_omnimessage.sandbox",
        "airflow_provider_omnimessage.sandbox.pytest_plugin",
    ]


def test_without_the_extra_the_fixture_says_what_to_install(in_a_project_without_the_extra):
    told = in_a_project_without_the_extra.stdout
    assert "1 passed, 1 error" in told
    assert "The sandbox requires uvicorn, which its extra installs: pip install fastapi uvicorn" in told
