"""The nginx configurations of the page about delivery reports, in a real nginx in front of a receiver."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from _airflow import ROOT, free_port
from receivers import REPLY_SECRET, Client, RunningReceiver, report

PAGE = ROOT / "docs/howto/receive-reports.md"
#: The address that each configuration passes requests to, and where the receiver's routes start there.
UPSTREAMS = {"http://airflow-api-server:8080": "/omnimessage", "http://receiver:8027": ""}


def configurations() -> dict[str, str]:
    """Return the page's nginx configurations, by the address that they pass requests to."""
    blocks = re.findall(r"```nginx\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return {upstream: block for block in blocks for upstream in UPSTREAMS if upstream in block}


@contextmanager
def nginx(folder: Path, server: str) -> Iterator[int]:
    """Run nginx with the content of a server block, and return its port."""
    assert shutil.which("nginx"), "install nginx (Debian: apt-get install nginx-light)"
    port = free_port()
    names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    # Debian's nginx has all of them compiled in, with folders that only root can write
    temporary = "".join(f"{name}_temp_path {folder}/{name};" for name in names)
    # as root, nginx would switch to a user that cannot read the test's folder
    user = "user root;" if os.geteuid() == 0 else ""
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"{user} daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port};\n{server}\n}} }}\n"
    )
    command = ["nginx", "-p", str(folder), "-c", str(configuration), "-e", str(folder / "error.log")]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    process = subprocess.Popen(command)
    try:
        until = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "error.log").read_text()
                assert time.monotonic() < until, "nginx did not start in time"
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module", params=UPSTREAMS, ids=["api-server", "own-process"])
def outside(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Client, RunningReceiver]]:
    """What Messente reaches through nginx, and the receiver behind it."""
    upstream = request.param
    folder = tmp_path_factory.mktemp("nginx")
    with RunningReceiver(f"sqlite:///{folder}/receiver.db", prefix=UPSTREAMS[upstream]) as receiver:
        server = configurations()[upstream].replace(upstream, f"http://127.0.0.1:{receiver.port}")
        with nginx(folder, server) as port:
            yield Client("127.0.0.1", port, "/omnimessage"), receiver


def test_only_reports_and_replies_come_in_and_their_bodies_are_unchanged(
    outside: tuple[Client, RunningReceiver],
) -> None:
    client, receiver = outside
    assert client.post(report("a")).status == 200
    assert client.post({"msg_id": "b", "text": "OK"}, route="replies", password=REPLY_SECRET).status == 200
    odd = b'{ "omnimessage_id":"c",\r\n\t"message_id" : "c", "status":"DELIVRD", "error": "\xc3\xa4\\u00e4" }'
    assert client.post(odd).status == 200
    assert client.post(report("d", error="x" * 60_000)).status == 200
    assert [id_ for id_, _ in receiver.log()] == ["a", "b", "c", "d"]
    assert client.post(report("e"), password="guess").status == 403
    assert receiver.events(after=0).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/v1/events/omnimessage_default",
        "/v1/reports",
        "/v1/reports/../events/omnimessage_default",
        "/v1/reports/%2e%2e/events/omnimessage_default",
        "/v1/reports/..%2fevents/omnimessage_default",
        "/v1/events/../reports/omnimessage_default",
        "/../api/v2/version",
    ],
)
def test_nothing_else_comes_in(outside: tuple[Client, RunningReceiver], path: str) -> None:
    client, _ = outside
    status, _ = client.status_and_text("GET", path)
    # 405: nginx passed on what it takes for a report, and the receiver takes reports by POST alone
    assert status in (400, 404, 405)


def test_a_large_body_ends_at_the_proxy(outside: tuple[Client, RunningReceiver]) -> None:
    client, receiver = outside
    body = json.dumps(report("large", error="x" * 70_000)).encode()
    status, content = client.status_and_text("POST", "/v1/reports/omnimessage_default", body)
    assert status == 413
    assert "nginx" in content
    assert "large" not in {id_ for id_, _ in receiver.log()}
