"""``doctor --push`` names the broken part of a report's way, on a real receiver behind a proxy that can do wrong."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from full_size import first
from receivers import CONN_ID, PASSWORD, RunningReceiver

from airflow_provider_omnimessage.cli.push import check_push
from airflow_provider_omnimessage.hooks.settings import Settings
from airflow_provider_omnimessage.receiver.keys import ConnectionSecrets
from airflow_provider_omnimessage.receiver.store import Store, StoreUnavailableError


class Proxy:
    """A reverse proxy before a receiver."""

    def __init__(self, receiver: RunningReceiver) -> None:
        self.change: Callable[[bytes], bytes] = lambda body: body
        self.answer: tuple[int, bytes] | None = None
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = proxy.change(self.rfile.read(int(self.headers["Content-Length"])))
                status, content = proxy.answer or self.forward("POST", body)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                status, content = self.forward("GET", b"")
                self.send_response(status)
                self.end_headers()
                self.wfile.write(content)

            def forward(self, method: str, body: bytes) -> tuple[int, bytes]:
                connection = http.client.HTTPConnection(receiver.host, receiver.port)
                headers = {name: value for name, value in self.headers.items() if name.startswith("X-")}
                connection.request(method, self.path, body, headers)
                response = connection.getresponse()
                return response.status, response.read()

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def proxy(receiver: RunningReceiver) -> Iterator[Proxy]:
    proxy = Proxy(receiver)
    thread = threading.Thread(target=proxy.server.serve_forever, daemon=True)
    thread.start()
    yield proxy
    proxy.server.shutdown()
    proxy.server.server_close()
    thread.join()


@pytest.fixture
def settings(proxy: Proxy) -> Settings:
    return Settings("https://api.messente.com/v1", "user", PASSWORD, push_url=proxy.url, receiver_url=proxy.url)


def problem(settings: Settings) -> str:
    steps = check_push(settings, CONN_ID)
    (found,) = [step.problem for step in steps if step.problem]
    return found


def test_a_report_that_comes_through_is_read_back(settings: Settings) -> None:
    assert [(step.check, step.problem) for step in check_push(settings, CONN_ID)] == [
        ("report", None),
        ("events", None),
    ]


@pytest.mark.parametrize("conn_id", first(1, ["prod#1", "ünï"]))
def test_a_connection_id_with_special_characters_is_quoted(
    settings: Settings, receiver: RunningReceiver, conn_id: str
) -> None:
    receiver.secrets[conn_id] = ConnectionSecrets(PASSWORD, "x")
    assert [step.problem for step in check_push(settings, conn_id)] == [None, None]


def test_a_server_without_tls_is_named(settings: Settings) -> None:
    url = settings.push_url.replace("http:", "https:")  # type: ignore[union-attr]
    assert "TLS fails there; check the certificate" in problem(replace(settings, push_url=url))


def test_a_proxy_that_changes_the_body_is_named(settings: Settings, proxy: Proxy) -> None:
    proxy.change = lambda body: json.dumps(json.loads(body)).encode()
    assert "the reverse proxy changes the body" in problem(settings)


def test_another_password_at_the_receiver_is_named(settings: Settings) -> None:
    assert "with the same API password" in problem(replace(settings, password="other"))


@pytest.mark.parametrize(
    ("answer", "said"),
    first(
        2,
        [
            ((404, b"{}"), "the prefix is wrong, or the receiver is off"),
            ((301, b""), "Messente treats as success, so the report is lost"),
            ((413, b""), "allow 64 KiB"),
            ((200, b"<html>Log in</html>"), "which is not the receiver's response"),
            ((502, b""), "responded 502"),
        ],
    ),
)
def test_another_server_that_responds_is_named(
    settings: Settings, proxy: Proxy, answer: tuple[int, bytes], said: str
) -> None:
    proxy.answer = answer
    assert said in problem(settings)


def test_a_wrong_prefix_is_named(settings: Settings) -> None:
    assert "the prefix is wrong" in problem(replace(settings, push_url=f"{settings.push_url}/elsewhere"))


def test_a_database_that_is_down_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Store, events: Any) -> None:
        raise StoreUnavailableError("down")

    monkeypatch.setattr(Store, "append", fail)
    assert "its database does not" in problem(settings)


def test_a_closed_port_and_an_unknown_name_have_different_messages(settings: Settings) -> None:
    assert "cannot connect to 127.0.0.1" in problem(replace(settings, push_url="http://127.0.0.1:9"))
    assert "DNS cannot resolve 'nowhere.invalid'" in problem(replace(settings, push_url="https://nowhere.invalid"))


def test_receivers_with_different_databases_are_reported(settings: Settings, tmp_path: Any) -> None:
    with RunningReceiver(f"sqlite:///{tmp_path}/another.db") as other:
        assert "with the same database" in problem(replace(settings, receiver_url=other.url))


def test_a_connection_without_a_push_url_is_reported(settings: Settings) -> None:
    assert "set the connection's extra push_url" in problem(replace(settings, push_url=None))
