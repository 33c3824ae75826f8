"""What the receiver's benchmarks share: its server, the peer's, and a load of signed reports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

PASSWORD = "password"
CONNECTIONS = 32
OURS = ("-m", "airflow_provider_omnimessage", "receiver")


@contextlib.contextmanager
def server(command: Sequence[str], database: str, folder: Path) -> Iterator[str]:
    """Run a server in a process of its own.

    :param command: what follows ``python``; it takes ``--port``, ``--database`` and ``--announce``.
    :param folder: its ``AIRFLOW_HOME``.
    :return: its URL.
    """
    announced = folder / f"{time.monotonic_ns()}.json"
    connection = json.dumps({"conn_type": "omnimessage", "login": "user", "password": PASSWORD})
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command, "--port", "0", "--database", database, "--announce", str(announced)],
            env={**os.environ, "AIRFLOW_HOME": str(folder), "AIRFLOW_CONN_BENCH": connection},
            stdout=output,
            stderr=output,
        )
    try:
        until = time.monotonic() + 120
        while not announced.exists():
            assert process.poll() is None, f"the server did not start:\n{log.read_text()}"
            assert time.monotonic() < until, "the server did not start in time"
            time.sleep(0.05)
        yield json.loads(announced.read_text())["url"]
    finally:
        process.terminate()
        process.wait()


async def post_reports(url: str, ids: Sequence[str], seconds: float = 0.0) -> dict[str, float]:
    """Post reports, all at once or spread over seconds.

    :return: for each id, when its 200 came (Unix time).
    """
    import aiohttp

    from airflow_provider_omnimessage.receiver.signing import MESSENTE_HEADER, sign_body

    accepted: dict[str, float] = {}
    started = time.monotonic()
    todo = iter(enumerate(ids))

    async def work(session: aiohttp.ClientSession) -> None:
        for number, id_ in todo:
            if seconds:
                await asyncio.sleep(max(0.0, started + seconds * number / len(ids) - time.monotonic()))
            report = {"omnimessage_id": id_, "message_id": id_, "channel": "sms", "status": "DELIVRD", "err": 0}
            body = json.dumps(report).encode()
            headers = {"Content-Type": "application/json", MESSENTE_HEADER: sign_body(body, PASSWORD)}
            async with session.post(url, data=body, headers=headers) as response:
                assert response.status == 200, await response.text()
                await response.read()
            accepted[id_] = time.time()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:
        await asyncio.gather(*(work(session) for _ in range(CONNECTIONS)))
    return accepted
