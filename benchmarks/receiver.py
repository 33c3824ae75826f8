"""
The receiver: reports per second, beside a bare FastAPI route that inserts one row, and what pushed waits cost.

Servers, waits and load each run in a process of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from figure import Figure

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

PEER = "a bare FastAPI route"
PASSWORD = "password"
REPORTS = 3000
CONNECTIONS = 32
WAITS = 2000
SPREAD = 20.0
TEN_MINUTES = 600.0


def measure() -> list[Figure]:
    """Measure everything."""
    from postgres import Postgres

    figures = []
    with tempfile.TemporaryDirectory() as folder, Postgres() as postgres:
        databases = {
            "PostgreSQL": lambda name: postgres.create(name),
            "SQLite": lambda name: f"sqlite:///{folder}/{name}.db",
        }
        for kind, create in databases.items():
            ours = _throughput("ours", create("ours"), Path(folder))
            theirs = _throughput("bare", create("bare"), Path(folder))
            figures.append(
                Figure(
                    what=f"Reports received on {kind}",
                    unit="/s",
                    ours=ours,
                    peer=PEER,
                    theirs=theirs,
                    aim="at least half of the peer",
                    holds=ours >= theirs / 2,
                )
            )
        figures += _waits(postgres.create("waits"), Path(folder))
    return figures


def _throughput(what: str, database: str, folder: Path) -> float:
    with _server(what, database, folder) as url:
        path = "/v1/reports/bench" if what == "ours" else "/report"
        asyncio.run(_post(url + path, [f"warm{number}" for number in range(200)]))
        started = time.perf_counter()
        asyncio.run(_post(url + path, [f"m{number}" for number in range(REPORTS)]))
        return REPORTS / (time.perf_counter() - started)


@contextlib.contextmanager
def _server(what: str, database: str, folder: Path) -> Iterator[str]:
    announced = folder / f"{time.monotonic_ns()}.json"
    connection = json.dumps({"conn_type": "omnimessage", "login": "user", "password": PASSWORD})
    module = ["-m", "airflow_provider_omnimessage", "receiver"] if what == "ours" else [__file__, "bare"]
    process = subprocess.Popen(
        [sys.executable, *module, "--port", "0", "--database", database, "--announce", str(announced)],
        env={**os.environ, "AIRFLOW_HOME": str(folder), "AIRFLOW_CONN_BENCH": connection},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 120
        while not announced.exists():
            assert process.poll() is None, "the server did not start"
            assert time.monotonic() < until, "the server did not start in time"
            time.sleep(0.05)
        yield json.loads(announced.read_text())["url"]
    finally:
        process.terminate()
        process.wait()


async def _post(url: str, ids: list[str], seconds: float = 0.0) -> dict[str, float]:
    """Post reports, all at once or spread over seconds.

    :return: for each id, when its 200 came.
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


def _waits(database: str, folder: Path) -> list[Figure]:
    """Let 2,000 waits be ended by reports, and compare with what polling for ten minutes costs."""
    import polling

    from airflow_provider_omnimessage.api.poll_times import next_poll

    with _server("ours", database, folder) as url:
        ids = [f"wait{number}" for number in range(WAITS)]
        output = folder / "waits.json"
        command = [sys.executable, __file__, "waits", url, str(output)]
        waiting = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # Airflow logs there
        while not output.exists():
            assert waiting.poll() is None, "the waits ended before they began"
            time.sleep(0.05)
        accepted = asyncio.run(_post(f"{url}/v1/reports/bench", ids, SPREAD))
        assert waiting.wait() == 0, "not every wait was fulfilled"
        result: dict[str, Any] = json.loads(output.read_text())
    delays = sorted(result["fired"][id_] - accepted[id_] for id_ in ids)
    print(f"  {len(result['fired']):,} waits; from 200 to event: median {delays[WAITS // 2] * 1000:.0f} ms", flush=True)
    polls, age = 0, 0.0
    while (age := next_poll(age + 0.001, 60.0, 0.5)) < TEN_MINUTES:
        polls += 1
    polled = polling._run("cpu", "ours", WAITS) * polls * WAITS / 1e6
    return [
        Figure(
            what="From a report's 200 to the event of its wait, 99th percentile of 2,000 waits",
            unit="s",
            ours=delays[int(WAITS * 0.99)],
            peer="the aim",
            theirs=1.0,
            aim="under a second",
            holds=delays[int(WAITS * 0.99)] < 1.0,
        ),
        Figure(
            what="CPU of a triggerer for 2,000 waits of ten minutes, pushed",
            unit="s",
            ours=result["cpu"],
            peer="the same, polled",
            theirs=polled,
            aim="at most a tenth",
            holds=result["cpu"] <= polled / 10,
        ),
        Figure(
            what="Requests to Messente for a delivered message, pushed",
            unit="requests",
            ours=result["requests"] / WAITS,
            peer="the same, polled",
            theirs=5.0,
            aim="none",
            holds=result["requests"] == 0,
        ),
    ]


def run_waits(url: str, output: Path) -> None:
    """Run 2,000 waits in this process, and write down when each of them fired."""
    os.environ["AIRFLOW_CONN_BENCH"] = json.dumps(
        {
            "conn_type": "omnimessage",
            "login": "user",
            "password": PASSWORD,
            "host": "http://127.0.0.1:9/v1",
            "extra": {"receiver_url": url},
        }
    )
    from airflow_provider_omnimessage.hooks import aiohttp_transport
    from airflow_provider_omnimessage.triggers.omnimessage import OmnimessageDeliveryTrigger
    from airflow_provider_omnimessage.triggers.polling import _pollers

    requests: list[str] = []
    make = aiohttp_transport.AiohttpTransport.make

    async def counted(self: Any, call: Any, timeout: float | None = None) -> Any:
        requests.append(call.path)
        return await make(self, call, timeout)

    aiohttp_transport.AiohttpTransport.make = counted  # type: ignore[method-assign]
    fired: dict[str, float] = {}

    async def wait(id_: str) -> None:
        now = datetime.now(timezone.utc)
        trigger = OmnimessageDeliveryTrigger(
            messages=[(id_, None)],
            omnimessage_conn_id="bench",
            since=now.isoformat(),
            deadline=(now + timedelta(minutes=10)).isoformat(),
        )
        async for event in trigger.run():
            assert event.payload["ending"] == "fulfilled", event.payload
        fired[id_] = time.time()

    async def all_of_them() -> float:
        running = [asyncio.ensure_future(wait(f"wait{number}")) for number in range(WAITS)]
        listener = None
        while listener is None or not listener.is_reliable or listener._unread:
            await asyncio.sleep(0.05)
            pollers = _pollers.get(asyncio.get_running_loop(), {})
            listener = next((poller.listener for poller in pollers.values()), None)
        output.touch()
        started = time.process_time()
        await asyncio.gather(*running)
        return time.process_time() - started

    cpu = asyncio.run(all_of_them())
    output.write_text(json.dumps({"cpu": cpu, "requests": len(requests), "fired": fired}))


def run_bare(database: str, announced: Path) -> None:
    """Run the peer: one route, one row, one transaction."""
    import socket

    import uvicorn
    from fastapi import Body, FastAPI
    from sqlalchemy import Column, Integer, MetaData, String, Table, Text, create_engine, insert

    metadata = MetaData()
    table = Table(
        "report",
        metadata,
        Column("id", Integer, primary_key=True),
        Column("omnimessage_id", String(64)),
        Column("status", String(32)),
        Column("content", Text),
    )
    # many threads write to one SQLite: without patience, the peer fails
    patience = {"timeout": 60} if database.startswith("sqlite") else {}
    engine = create_engine(database, connect_args=patience)
    metadata.create_all(engine)
    app = FastAPI()

    @app.post("/report")
    def receive(report: dict = Body()) -> dict[str, str]:  # noqa: B008
        with engine.begin() as connection:
            row = {"omnimessage_id": report["omnimessage_id"], "status": report["status"]}
            connection.execute(insert(table).values(**row, content=json.dumps(report)))
        return {"status": "stored"}

    listener = socket.create_server(("127.0.0.1", 0))
    draft = announced.with_suffix(".draft")
    draft.write_text(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}))
    draft.replace(announced)
    asyncio.run(uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).serve([listener]))


if __name__ == "__main__":
    if sys.argv[1] == "waits":
        run_waits(sys.argv[2], Path(sys.argv[3]))
    else:
        options = dict(zip(sys.argv[2::2], sys.argv[3::2], strict=True))
        run_bare(options["--database"], Path(options["--announce"]))
