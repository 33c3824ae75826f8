"""`python -m airflow_provider_omnimessage.sandbox`, started from a shell and from a script."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from full_size import first, full_size

from airflow_provider_omnimessage.sandbox import SandboxClient

Start = Callable[..., "subprocess.Popen[str]"]
COMMAND = [sys.executable, "-m", "airflow_provider_omnimessage.sandbox"]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def announced(file: Path, process: subprocess.Popen[str]) -> dict[str, Any]:
    while not file.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return value


@pytest.mark.parametrize("number", first(1, [signal.SIGINT, signal.SIGTERM]))
def test_sandbox_announces_itself_and_stops_cleanly_while_an_inbox_is_open(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    file = tmp_path / "sandbox.json"
    process = start("--port", "0", "--announce", str(file), "--username", "it's", "--password", 'a "b" $c')
    found = announced(file, process)
    client = SandboxClient(found["url"], "it's", 'a "b" $c')

    with requests.get(f"{found['inbox']}sandbox/events", stream=True, timeout=10) as stream:
        lines = stream.iter_lines()  # keeps a reference: without one, requests closes the connection
        next(lines)
        process.send_signal(number)
        output, errors = process.communicate(timeout=10)

    assert found["pid"] == process.pid
    assert process.returncode == 0
    assert errors == ""
    assert f"Inbox: {found['inbox']}" in output
    name, assignment = shlex.split(next(line for line in output.splitlines() if line.startswith("export ")))
    variable, _, value = assignment.partition("=")
    assert (name, variable) == ("export", "AIRFLOW_CONN_OMNIMESSAGE_DEFAULT")
    assert json.loads(value) == {
        "conn_type": "omnimessage",
        "login": "it's",
        "password": 'a "b" $c',
        "host": client.url,
        "extra": {},
    }


@full_size
def test_sandbox_is_controlled_from_another_process(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "sandbox.json"
    process = start("--port", "0", "--announce", str(file), "--delivery-seconds", "60")
    client = SandboxClient(announced(file, process)["url"])
    client.freeze()
    body = {"to": "+37255555555", "messages": [{"channel": "sms", "text": "hi"}]}
    requests.post(f"{client.url}/omnimessage", json=body, auth=("sandbox", "sandbox"), timeout=10)

    client.advance(59)
    assert [message["state"] for message in client.messages] == ["in_progress"]
    client.advance(1)
    assert [message["state"] for message in client.messages] == ["delivered"]


def test_port_in_use_is_reported_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = subprocess.run([*COMMAND, "--port", str(port)], capture_output=True, text=True, timeout=20, check=False)

    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"sandbox: cannot listen on 127.0.0.1 port {port}: ")


@full_size
@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["--delivery-seconds", "-1"], "delivery_seconds"),
        (["--port", "99999"], "port"),
    ],
)
def test_impossible_settings_are_reported_in_one_line(arguments: list[str], field: str) -> None:
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=20, check=False)
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert field in line


@pytest.mark.parametrize("missing", ["fastapi", "uvicorn"])
def test_missing_dependency_is_reported_with_the_extra_to_install(missing: str) -> None:
    program = (
        f"import sys; sys.modules[{missing!r}] = None; "
        "from airflow_provider_omnimessage.sandbox.__main__ import main; sys.exit(main(['--port', '0']))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)

    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line == f"sandbox: The sandbox requires {missing}, which its extra installs: pip install fastapi uvicorn"


@full_size
def test_listening_for_other_machines_prints_a_warning(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "sandbox.json"
    process = start("--host", "0.0.0.0", "--port", "0", "--announce", str(file))
    found = announced(file, process)
    assert requests.get(found["inbox"], timeout=10).status_code == 200
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=10)
    assert "WARNING: other machines can reach this sandbox" in errors


@full_size
def test_repeated_text_is_blocked_on_request(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "sandbox.json"
    process = start("--port", "0", "--announce", str(file), "--block-repeated-text")
    client = SandboxClient(announced(file, process)["url"])
    client.freeze()
    body = {"to": "+37255555555", "messages": [{"channel": "sms", "text": "hi"}]}
    for _ in range(2):
        requests.post(f"{client.url}/omnimessage", json=body, auth=("sandbox", "sandbox"), timeout=10)
    client.advance(2)
    assert [message["state"] for message in client.messages] == ["delivered", "failed"]


def test_importing_the_package_imports_neither_fastapi_nor_uvicorn() -> None:
    program = (
        "import sys, airflow_provider_omnimessage.sandbox as s; assert s.__all__; "
        "from airflow_provider_omnimessage.sandbox import SandboxClient; "
        "print([name for name in ('fastapi', 'uvicorn', 'pydantic', 'airflow') if name in sys.modules])"
    )
    output = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True, env=dict(os.environ)
    ).stdout
    assert output.strip() == "[]"


def test_sandbox_shares_no_code_with_the_hook() -> None:
    program = (
        "import sys, airflow_provider_omnimessage.sandbox.__main__, airflow_provider_omnimessage.sandbox.server; "
        "print(sorted(name for name in sys.modules if name.startswith('airflow_provider_omnimessage.')"
        " and not name.startswith('airflow_provider_omnimessage.sandbox') or name == 'airflow'))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True)
    assert output.stdout.strip() == "[]"
