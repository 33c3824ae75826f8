"""
The receiver: reports per second, beside a bare FastAPI route that inserts one row; the time of rejections; and what
pushed waits cost.

Servers, waits and load each run in a process of their own.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import pushed
from figure import Figure
from receiving import CONNECTIONS, OURS, post_reports, server

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

PEER = "a bare FastAPI route"
REPORTS = 2000
ROUNDS = 3
REJECTIONS = 500
#: Two samples of one distribution differ by more than this in one of 370 runs.
NOISE = 3.0


def measure() -> list[Figure]:
    """Measure everything."""
    from postgres import Postgres

    figures = []
    with tempfile.TemporaryDirectory() as name, Postgres() as postgres:
        folder = Path(name)
        databases = {
            "PostgreSQL": lambda name: postgres.create(name),
            "SQLite": lambda name: f"sqlite:///{folder}/{name}.db",
        }
        for kind, create in databases.items():
            figures.append(_throughputs(kind, create("ours"), create("bare"), folder))
        figures.append(_rejections(postgres.create("rejections"), folder))
        figures += pushed.measure(postgres.create("waits"), folder)
    return figures


def _throughputs(kind: str, ours_database: str, bare_database: str, folder: Path) -> Figure:
    ours, bare = [], []
    for number in range(ROUNDS):
        ours.append(_throughput(OURS, "/v1/reports/bench", ours_database, folder, number))
        bare.append(_throughput((__file__, "bare"), "/report", bare_database, folder, number))
    print(f"  {kind}: {ours} and {bare}", flush=True)
    return Figure(
        what=f"Reports received on {kind}",
        unit="per second",
        ours=statistics.median(ours),
        peer=PEER,
        theirs=statistics.median(bare),
        aim="at least half of the peer",
        holds=statistics.median(ours) >= statistics.median(bare) / 2,
    )


def _throughput(command: Sequence[str], path: str, database: str, folder: Path, number: int) -> float:
    with server(command, database, folder) as url:
        asyncio.run(post_reports(url + path, [f"warm{number}-{each}" for each in range(200)]))
        started = time.perf_counter()
        asyncio.run(post_reports(url + path, [f"m{number}-{each}" for each in range(REPORTS)]))
        return REPORTS / (time.perf_counter() - started)


def _rejections(database: str, folder: Path) -> Figure:
    """Compare how long forged reports take: for a connection that exists, and for others."""
    with server(OURS, database, folder) as url:
        asyncio.run(post_reports(f"{url}/v1/reports/bench", ["known"]))
        known, unknown = asyncio.run(_forge(url))
    z = _rank_sum_z(known, unknown)
    print(f"  rejections: z = {z:.2f}", flush=True)
    return Figure(
        what=f"Rejecting a forged report on a connection that does not exist (median of {REJECTIONS})",
        unit="ms",
        ours=statistics.median(unknown) * 1000,
        peer="the same on one that exists",
        theirs=statistics.median(known) * 1000,
        aim="the same within noise (rank-sum test)",
        holds=abs(z) < NOISE,
    )


async def _forge(url: str) -> tuple[list[float], list[float]]:
    """Post forged reports to both in turn.

    :return: the seconds of each, on the connection that exists and on those that do not.
    """
    import aiohttp

    taken: dict[bool, list[float]] = {True: [], False: []}
    todo = iter([number % 2 == 0 for number in range(2 * REJECTIONS)])
    body = json.dumps({"omnimessage_id": "forged", "message_id": "forged", "status": "DELIVRD"}).encode()
    headers = {"Content-Type": "application/json", "X-Messente-Signature": "0" * 64}

    async def work(session: aiohttp.ClientSession) -> None:
        for is_known in todo:
            conn_id = "bench" if is_known else f"guess_{uuid.uuid4().hex[:8]}"
            started = time.perf_counter()
            async with session.post(f"{url}/v1/reports/{conn_id}", data=body, headers=headers) as response:
                await response.read()
                assert response.status == 403
            taken[is_known].append(time.perf_counter() - started)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONNECTIONS)) as session:
        await asyncio.gather(*(work(session) for _ in range(CONNECTIONS // 4)))
    return taken[True], taken[False]


def _rank_sum_z(one: Sequence[float], other: Sequence[float]) -> float:
    """Return by how many standard deviations two samples differ (Mann-Whitney); times hardly ever tie."""
    ranked = sorted([(value, True) for value in one] + [(value, False) for value in other])
    ranks = sum(rank for rank, (_, is_one) in enumerate(ranked, 1) if is_one)
    n, m = len(one), len(other)
    u = ranks - n * (n + 1) / 2
    return float((u - n * m / 2) / (n * m * (n + m + 1) / 12) ** 0.5)


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
    options = dict(zip(sys.argv[2::2], sys.argv[3::2], strict=True))
    run_bare(options["--database"], Path(options["--announce"]))
