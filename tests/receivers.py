"""A receiver in a thread of the test, on real HTTP, and requests to it."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import urlencode

import uvicorn
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.routing import Mount
from waiting import PATIENCE

from airflow_provider_omnimessage.receiver import signing
from airflow_provider_omnimessage.receiver.app import create_app
from airflow_provider_omnimessage.receiver.database import open_url
from airflow_provider_omnimessage.receiver.keys import ConnectionSecrets
from airflow_provider_omnimessage.receiver.service import Receiver

CONN_ID = "omnimessage_default"
PASSWORD = "p:a/s@s%w ü漢🔑"
REPLY_SECRET = "shared with the number"


class Response(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


def report(omnimessage_id: str = "message-1", status: str | None = "DELIVRD", **more: Any) -> dict[str, Any]:
    """One delivery report, as Messente posts it."""
    return {
        "omnimessage_id": omnimessage_id,
        "message_id": f"{omnimessage_id}-sms",
        "to": "+37255512345",
        "channel": "sms",
        "sender": "ACME",
        "status": status,
        "err": 0,
        "error": None,
        "timestamp": "2026-11-24T09:00:00",
        "price_info": {"part_price": "0.05", "parts_count": 2, "total_price": "0.10"},
        **more,
    }


class Client:
    """Speaks to a receiver as Messente and as our triggers do."""

    def __init__(self, host: str, port: int, prefix: str = "") -> None:
        self.host, self.port, self.prefix = host, port, prefix

    def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Response:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=90)
        try:
            connection.request(method, self.prefix + path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
            return Response(answer.status, json.loads(content) if content else None, dict(answer.headers))
        finally:
            connection.close()

    def status_and_text(self, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
        """Make a request whose response may be something else than JSON; the path is sent unchanged."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=90)
        try:
            connection.request(method, self.prefix + path, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def post(
        self,
        what: dict[str, Any] | bytes,
        *,
        password: str = PASSWORD,
        conn_id: str = CONN_ID,
        route: str = "reports",
        **headers: str,
    ) -> Response:
        body = what if isinstance(what, bytes) else json.dumps(what).encode()
        signed = {"Content-Type": "application/json", signing.MESSENTE_HEADER: signing.sign_body(body, password)}
        return self.request("POST", f"/v1/{route}/{conn_id}", body, {**signed, **headers})

    def events(
        self, *, password: str = PASSWORD, conn_id: str = CONN_ID, at: float | None = None, **query: object
    ) -> Response:
        items = [(name, str(value)) for name, value in query.items()]
        path = f"/v1/events/{conn_id}"
        header = signing.sign_request(
            password, method="GET", path=path, query=items, body=b"", at=int(time.time() if at is None else at)
        )
        return self.request("GET", f"{path}?{urlencode(items)}", headers={signing.REQUEST_HEADER: header})

    def claim(self, body: Any, *, password: str = PASSWORD, conn_id: str = CONN_ID) -> Response:
        path, content = f"/v1/claims/{conn_id}", json.dumps(body).encode()
        header = signing.sign_request(password, method="POST", path=path, query=(), body=content, at=int(time.time()))
        return self.request("POST", path, content, {signing.REQUEST_HEADER: header})

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}{self.prefix}"

    def log(self) -> list[tuple[str, str | None]]:
        """Return what is in the log: ids and statuses."""
        return ids_and_statuses(self.events(after=0).body["events"])


def ids_and_statuses(events: Iterable[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(event.get("omnimessage_id") or event["msg_id"], event["status"]) for event in events]


class RunningReceiver(Client):
    """A context manager that runs a receiver on a database.

    :param database: its URL.
    :param prefix: where it is mounted, as in Airflow's API server.
    """

    def __init__(self, database: str, prefix: str = "") -> None:
        self.database = database
        self.prefix = prefix
        self.secrets = {CONN_ID: ConnectionSecrets(PASSWORD, REPLY_SECRET)}
        self.looked_up: list[str] = []

    def __enter__(self) -> RunningReceiver:
        engine = open_url(self.database)
        self.receiver = Receiver(lambda: engine, look_up=self._look_up)
        listener = socket.create_server(("127.0.0.1", 0))
        super().__init__("127.0.0.1", listener.getsockname()[1], self.prefix)
        app = create_app(self.receiver)
        mounted = Starlette(routes=[Mount(self.prefix, app)], lifespan=lambda _: app.router.lifespan_context(app))
        self._server = uvicorn.Server(uvicorn.Config(mounted, log_config=None, log_level="warning"))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve([listener])), daemon=True)
        self._thread.start()
        until = time.monotonic() + PATIENCE
        while not (self._server.started and self.receiver.is_ready):
            assert time.monotonic() < until, "the receiver did not start"
            time.sleep(0.01)
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop it. Its thread takes a few tenths of a second to end, for which no test needs to wait."""
        self.receiver.let_go()
        self._server.should_exit = True

    def until_somebody_waits(self, many: int = 1) -> None:
        """Return once so many long polls wait for news."""
        until = time.monotonic() + PATIENCE
        while (waiting := sum(map(len, self.receiver.news._waiting.values()))) < many:
            assert time.monotonic() < until, f"{waiting} of {many} long polls wait"
            time.sleep(0.02)

    def shorten_log(self, log_id: str | None, last_seq: int) -> None:
        """Set the log back, as a backup does, or as another database if ``log_id`` is passed."""
        with self.receiver.store._engine.begin() as connection:
            connection.execute(text("DELETE FROM omnimessage_event WHERE seq > :seq"), {"seq": last_seq})
            connection.execute(
                text("UPDATE omnimessage_log SET log_id = coalesce(:log_id, log_id), last_seq = :seq"),
                {"log_id": log_id, "seq": last_seq},
            )

    def _look_up(self, conn_id: str) -> ConnectionSecrets | None:
        self.looked_up.append(conn_id)
        return self.secrets.get(conn_id)
