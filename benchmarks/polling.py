"""
Waits for delivery: CPU, memory and requests, beside the trigger of the HTTP provider's sensor.

Each measurement runs in a process of its own, against a small server in another one that answers what Messente would,
and costs little itself. What is counted is the CPU time of the process that polls, event loop and threads included.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from figure import Figure

PEER = "HttpSensor's trigger"
ROUNDS = 3
POLLS_PER_WAIT = 3
AIM_RATIO = 0.3
AIM_REQUESTS = 8
#: The peer has no limit on its requests. With ours, most of the time would pass between polls.
UNPACED = {"rate_limit": 100_000}
#: Milliseconds for which Airflow lets a trigger block the event loop before it logs a warning.
AIM_BLOCKED = 200

IN_PROGRESS = json.dumps(
    {
        "to": "+37255555555",
        "statuses": [
            {"status": None, "channel": "viber", "message_id": "v", "sender": "s", "err": None, "error": None,
             "timestamp": "2026-11-23T09:00:00", "price_info": None}
        ],
    }
).encode()  # fmt: skip


def measure() -> list[Figure]:
    """Poll in turns, so that both meet the same weather, and take medians of what varies."""
    figures = []
    for waits in (500, 2000):
        ours, theirs = _medians_of_both("cpu", waits)
        figures.append(
            Figure(
                what=f"CPU per poll with {waits:,} waits",
                unit="µs",
                ours=ours,
                peer=PEER,
                theirs=theirs,
                aim=f"at most {AIM_RATIO} of the peer",
                holds=ours <= AIM_RATIO * theirs,
            )
        )
    # memory and growth hardly vary: once is enough
    ours, theirs = _run("memory", "ours", 2000), _run("memory", "theirs", 2000)
    figures.append(
        Figure(
            what="Memory per additional wait",
            unit="KiB",
            ours=ours,
            peer=PEER,
            theirs=theirs,
            aim="not more than the peer",
            holds=ours <= theirs,
        )
    )
    figures.append(_growth())
    figures.append(_first_polls())
    figures.append(_requests())
    return figures


def _growth() -> Figure:
    few, many = _run("cpu", "ours", 100), _run("cpu", "ours", 10_000)
    return Figure(
        what="CPU per poll with 10,000 waits",
        unit="µs",
        ours=many,
        peer="the same with 100 waits",
        theirs=few,
        aim="not more: linear or better",
        holds=many <= few,
    )


def _first_polls() -> Figure:
    ours, theirs = _medians_of_both("blocked", 2000)
    return Figure(
        what="Longest that the first polls of 2,000 waits block the event loop",
        unit="ms",
        ours=ours,
        peer=PEER,
        theirs=theirs,
        aim=f"at most {AIM_BLOCKED} ms, above which Airflow warns",
        holds=ours <= AIM_BLOCKED,
    )


def _requests() -> Figure:
    """Count the polls for one message, scheduled an hour ahead and delivered 30 seconds after its time."""
    from datetime import datetime, timedelta, timezone

    from airflow_provider_omnimessage.api.awaited_message import AwaitedMessage
    from airflow_provider_omnimessage.api.delivery import DeliveryReport
    from airflow_provider_omnimessage.api.waiting import Wait

    begin = datetime(2026, 11, 23, 8, 0, tzinfo=timezone.utc)
    time_to_send = begin + timedelta(hours=1)
    delivered = time_to_send + timedelta(seconds=30)
    most = 0
    for number in range(1000):  # the moments differ from message to message
        deadline = begin + timedelta(days=7)
        wait = Wait(
            [AwaitedMessage(f"message-{number}", time_to_send)], since=begin, deadline=deadline, poke_interval=60.0
        )
        now, polls = begin, 0
        wait.start(now, poll_first=True)
        while wait.result is None:
            now = max(now, wait.next_poll or now)
            status = "DELIVRD" if now >= delivered else None
            report = DeliveryReport.read({"statuses": [{"channel": "viber", "status": status}]})
            for message in wait.due(now):
                polls += 1
                wait.record_report(message, report, now)
        most = max(most, polls)
    # its trigger asks at once and then every 60 seconds, as its run() reads, until it finds what it waits for
    peer, moment = 1, begin
    while moment < delivered:
        peer, moment = peer + 1, moment + timedelta(seconds=60)
    return Figure(
        what="Requests for a message scheduled an hour ahead, delivered 30 s after its time (most of 1,000)",
        unit="requests",
        ours=float(most),
        peer=f"{PEER} every 60 s",
        theirs=float(peer),
        aim=f"at most {AIM_REQUESTS}",
        holds=most <= AIM_REQUESTS,
    )


def _medians_of_both(what: str, waits: int) -> tuple[float, float]:
    samples: dict[str, list[float]] = {"ours": [], "theirs": []}
    for _ in range(ROUNDS):
        for whose, values in samples.items():
            values.append(_run(what, whose, waits))
    return statistics.median(samples["ours"]), statistics.median(samples["theirs"])


def _run(what: str, whose: str, waits: int, extra: dict[str, int] = UNPACED) -> float:
    with tempfile.TemporaryDirectory() as home, _server(home) as port:
        environment = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
        connection = {"conn_type": "omnimessage", "login": "u", "password": "p", "host": f"http://127.0.0.1:{port}"}
        environment["AIRFLOW_CONN_HTTP_DEFAULT"] = json.dumps(connection)
        environment["AIRFLOW_CONN_OMNIMESSAGE_DEFAULT"] = json.dumps({**connection, "extra": extra})
        command = [sys.executable, __file__, what, whose, str(waits)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return float(done.stdout.strip().splitlines()[-1])


@contextmanager
def _server(folder: str) -> Iterator[int]:
    announced = Path(folder) / "port"
    process = subprocess.Popen([sys.executable, __file__, "serve", str(announced)])
    try:
        while not announced.exists() or not announced.read_text():
            if process.poll() is not None:
                raise SystemExit("The server of the benchmark did not start")
        yield int(announced.read_text())
    finally:
        process.terminate()
        process.wait()


class _Answers(asyncio.Protocol):
    """Just enough of HTTP: a report for ours, a 404, which its trigger takes for 'not yet', for the peer."""

    def __init__(self) -> None:
        self._read = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        while b"\r\n\r\n" in self._read:
            head, _, self._read = self._read.partition(b"\r\n\r\n")
            status = b"404 Not Found" if b"/peer" in head.split(b"\r\n", 1)[0] else b"200 OK"
            self._transport.write(
                b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (status, len(IN_PROGRESS), IN_PROGRESS)
            )


async def _serve(announced: str) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Answers, "127.0.0.1", 0, backlog=4096)
    Path(announced).write_text(str(server.sockets[0].getsockname()[1]))
    await server.serve_forever()


def _triggers(whose: str, waits: int, asleep: bool) -> list[Any]:
    from datetime import datetime, timedelta, timezone

    if whose == "ours":
        from airflow_provider_omnimessage.triggers.omnimessage import OmnimessageDeliveryTrigger

        now = datetime.now(timezone.utc)
        time_to_send = (now + timedelta(hours=1)).isoformat() if asleep else None
        return [
            OmnimessageDeliveryTrigger(
                messages=[(f"message-{number}", time_to_send)],
                omnimessage_conn_id="omnimessage_default",
                since=now.isoformat(),
                deadline=(now + timedelta(days=1)).isoformat(),
                poke_interval=3600.0 if asleep else 0.5,
            )
            for number in range(waits)
        ]
    from airflow.providers.http.triggers.http import HttpSensorTrigger

    return [HttpSensorTrigger(endpoint="peer", poke_interval=3600.0 if asleep else 0.5) for _ in range(waits)]


def _counting(whose: str) -> list[int]:
    """Count the polls that came to an end, where each of the two makes them."""
    polls = [0]
    if whose == "ours":
        from airflow_provider_omnimessage.triggers.polling import Poller as owner

        name = "make"
    else:
        from airflow.providers.http.hooks.http import HttpAsyncHook as owner  # type: ignore[no-redef]

        name = "run"
    original = getattr(owner, name)

    async def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await original(self, *args, **kwargs)
        finally:
            polls[0] += 1

    setattr(owner, name, counted)
    return polls


async def _consume(trigger: Any) -> None:
    async for _ in trigger.run():
        return


async def _cpu(whose: str, waits: int) -> float:
    import time

    polls = _counting(whose)
    tasks = [asyncio.create_task(_consume(trigger)) for trigger in _triggers(whose, waits, asleep=False)]
    while polls[0] < waits:  # once around: imports, lookup, first connections
        await asyncio.sleep(0.05)
    before, first = time.process_time(), polls[0]
    while polls[0] < first + max(POLLS_PER_WAIT * waits, 1500):
        await asyncio.sleep(0.05)
    spent = (time.process_time() - before) / (polls[0] - first)
    await _end(tasks)
    return spent * 1e6


async def _blocked(whose: str, waits: int) -> float:
    """Measure the longest time in which nobody else had a turn, from the start of all until each has polled once."""
    import time

    polls, longest = _counting(whose), 0.0
    tasks = [asyncio.create_task(_consume(trigger)) for trigger in _triggers(whose, waits, asleep=False)]
    while polls[0] < waits:
        begin = time.perf_counter()
        await asyncio.sleep(0.005)
        longest = max(longest, time.perf_counter() - begin)
    await _end(tasks)
    return longest * 1e3


async def _memory(whose: str, waits: int) -> float:
    """Measure what waits take that wait: ours for their time, the peer's for their next poll."""
    import gc

    polls = _counting(whose)

    async def add(count: int) -> list[asyncio.Task[None]]:
        seen = polls[0]
        tasks = [asyncio.create_task(_consume(trigger)) for trigger in _triggers(whose, count, asleep=True)]
        while whose == "theirs" and polls[0] < seen + count:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        gc.collect()
        return tasks

    # the first ones pay for what all share, and for what the allocator keeps of a first round
    tasks = await add(waits)
    before = _resident()
    tasks += await add(waits)
    added = _resident() - before
    await _end(tasks)
    return added / waits


def _resident() -> float:
    status = Path("/proc/self/status").read_text()
    return float(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    pending = set(tasks)
    while pending:
        # the peer's trigger misses a cancel that comes just as a response does, before Python 3.12
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=1)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(_serve(sys.argv[2]))
    else:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard < 1 << 20 else 1 << 16, hard))
        measurement = {"cpu": _cpu, "memory": _memory, "blocked": _blocked}[sys.argv[1]]
        print(asyncio.run(measurement(sys.argv[2], int(sys.argv[3]))))
