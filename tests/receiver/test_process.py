from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from full_size import full_size
from receivers import CONN_ID, PASSWORD, Client, report
from sqlalchemy import text

from airflow_provider_omnimessage.__main__ import main
from airflow_provider_omnimessage.receiver.database import open_url


def start(folder: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    connection = json.dumps({"conn_type": "omnimessage", "login": "user", "password": PASSWORD})
    return subprocess.Popen(
        [sys.executable, "-m", "airflow_provider_omnimessage", "receiver", *options],
        env={**os.environ, f"AIRFLOW_CONN_{CONN_ID.upper()}": connection, **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def announced(process: subprocess.Popen[str], file: Path) -> dict[str, object]:
    until = time.monotonic() + 60
    while not file.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    found: dict[str, object] = json.loads(file.read_text())
    return found


@full_size
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_announces_itself_receives_and_stops_on_a_signal(tmp_path: Path, stop: signal.Signals) -> None:
    file = tmp_path / "announced.json"
    database = f"sqlite:///{tmp_path}/new.db"
    process = start(
        tmp_path,
        *("--port", "0", "--database", database, "--announce", str(file)),
        AIRFLOW_CONN_NO_PASSWORD='{"conn_type": "omnimessage", "login": "user"}',
    )
    try:
        where = announced(process, file)
        assert where["pid"] == process.pid
        url = urlsplit(str(where["url"]))
        assert url.port
        client = Client(str(url.hostname), url.port)
        assert client.request("GET", "/health").status == 200
        assert client.post(report("a")).status == 200
        assert client.log() == [("a", "DELIVRD")]
        assert client.post(report("b"), conn_id="no_password").status == 403
    finally:
        process.send_signal(stop)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert str(where["url"]) in out
    assert "connection 'no_password', password: is missing" in out + err
    assert "Traceback" not in out + err


@full_size
class TestErrors:
    @pytest.fixture
    def error(self, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
        """Run the command in this process, which it does not leave running, and return its error."""

        def run(*options: str) -> str:
            with pytest.raises(SystemExit) as ended:
                main(["receiver", *options])
            assert ended.value.code == 1
            return capsys.readouterr().err

        return run

    def test_a_port_that_is_taken_is_named(self, error: Callable[..., str], database: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            said = error("--port", port, "--database", database)
        assert f"receiver: port: 127.0.0.1 port {port} cannot be used" in said
        assert "0 picks a free one" in said

    def test_a_database_that_cannot_be_reached_is_named_without_its_password(self, error: Callable[..., str]) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            url = f"postgresql+psycopg2://user:secret@127.0.0.1:{closed.getsockname()[1]}/nowhere"
            said = error("--port", "0", "--database", url)
        assert "receiver: database: postgresql+psycopg2://127.0.0.1" in said
        assert "cannot be reached" in said
        assert "secret" not in said

    def test_a_schema_newer_than_the_program_is_named(self, error: Callable[..., str], database: str) -> None:
        with open_url(database).begin() as connection:
            connection.execute(text("UPDATE omnimessage_alembic_version SET version_num = '9999'"))
        assert "newer than this program" in error("--port", "0", "--database", database)

    def test_a_wrong_option_is_named(
        self, error: Callable[..., str], database: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW__OMNIMESSAGE__RECEIVER_RETENTION_DAYS", "-1")
        said = error("--port", "0", "--database", database)
        assert "receiver: [omnimessage] receiver_retention_days: is not a positive number" in said
