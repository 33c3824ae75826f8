"""
What 2,000 deferred waits cost a triggerer for ten minutes: pushed, polled, and as the HTTP provider's sensor waits.

Two messages are looked at: one that is scheduled ahead and delivered 30 seconds after its time, ten minutes after the
wait began; and one that is sent at once and delivered after ten minutes. Time is scaled down. For pushed waits, what is
measured is the CPU time of one idle long poll and that of 2,000 reports that come within 20 seconds. For polls, it is
the CPU time of one, times the polls of ten minutes, which follow from the same code that decides them.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import polling
from figure import Figure
from receiving import OURS, PASSWORD, post_reports, server

WAITS = 2000
SPREAD = 20.0
TEN_MINUTES = timedelta(minutes=10)
POKE_INTERVAL = 60.0
#: Seconds for which the waits are measured while nothing comes.
IDLE = 26.0


def measure(database: str, folder: Path) -> list[Figure]:
    """Let 2,000 waits be ended by reports, and compare with what polling costs."""
    ids = [f"wait{number}" for number in range(WAITS)]
    with server(OURS, database, folder) as url:
        output, begun = folder / "waits.json", folder / "begun"
        command = [sys.executable, __file__, url, str(begun), str(output)]
        waiting = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # Airflow logs there
        while not begun.exists():
            assert waiting.poll() is None, "the waits ended before they began"
            time.sleep(0.05)
        accepted = asyncio.run(post_reports(f"{url}/v1/reports/bench", ids, SPREAD))
        assert waiting.wait() == 0, "not every wait was fulfilled"
        result: dict[str, Any] = json.loads(output.read_text())
    delays = sorted(result["fired"][id_] - accepted[id_] for id_ in ids)
    print(
        f"  {len(result['fired']):,} waits; from 200 to event: median {delays[WAITS // 2] * 1000:.0f} ms; CPU of their "
        f"events {result['events_cpu']:.2f} s, of ten idle minutes {result['idle_cpu']:.2f} s",
        flush=True,
    )
    pushed = result["events_cpu"] + result["idle_cpu"]
    return [_delay(delays), *_cpu(pushed), *_requests(result["requests"] / WAITS)]


def _delay(delays: list[float]) -> Figure:
    delay = delays[int(WAITS * 0.99)]
    return Figure(
        what="From a report's 200 to the event of its wait, 99th percentile of 2,000 waits",
        unit="ms",
        ours=delay * 1000,
        peer="the aim",
        theirs=1000.0,
        aim="under a second",
        holds=delay < 1.0,
    )


def _cpu(pushed: float) -> list[Figure]:
    # ours at the limit of 150 a second, as in a triggerer: a poll costs less if the next one follows at once
    ours, theirs = (polling._run("cpu", whose, WAITS, {}) / 1e6 for whose in ("ours", "theirs"))
    ahead, at_once = TEN_MINUTES - timedelta(seconds=30), timedelta()
    what = "CPU of a triggerer for 2,000 waits of ten minutes, pushed"
    polled = WAITS * ours * _polls(ahead, is_pushed=False)
    figures = [
        _cpu_figure(f"{what}; scheduled ahead", pushed, "the same, polled", polled, 0.1, "a tenth"),
        _cpu_figure(
            f"{what}; scheduled ahead", pushed, polling.PEER, WAITS * theirs * _peer_polls(TEN_MINUTES), 0.1, "a tenth"
        ),
    ]
    # until its report comes, a message that was sent is polled four times as rarely
    with_fallback = pushed + WAITS * ours * _polls(at_once, is_pushed=True)
    polled = WAITS * ours * _polls(at_once, is_pushed=False)
    figures.append(
        _cpu_figure(
            f"{what}; sent at once, delivered after ten minutes", with_fallback, "the same, polled", polled, 0.5, "half"
        )
    )
    return figures


def _cpu_figure(what: str, ours: float, peer: str, theirs: float, share: float, words: str) -> Figure:
    return Figure(
        what=what,
        unit="s",
        ours=ours,
        peer=peer,
        theirs=theirs,
        aim=f"at most {words} of the peer",
        holds=ours <= share * theirs,
    )


def _requests(pushed: float) -> list[Figure]:
    what = "Requests to Messente for a message scheduled an hour ahead, pushed"
    hour = timedelta(hours=1)
    polled = _polls(hour, is_pushed=False, delivered_after=hour + timedelta(seconds=30))
    theirs = _peer_polls(hour + timedelta(seconds=30))
    return [
        Figure(what=what, unit="requests", ours=pushed, peer=peer, theirs=polls, aim="none", holds=pushed == 0)
        for peer, polls in (("the same, polled", polled), (f"{polling.PEER} every 60 s", theirs))
    ]


def _polls(ahead: timedelta, *, is_pushed: bool, delivered_after: timedelta = TEN_MINUTES) -> float:
    """Count the polls of a wait for a message, until it is delivered: the mean of 200 messages.

    :param ahead: how far ahead the message is scheduled; zero: it is sent at once.
    :param is_pushed: whether reports arrive: then its delivery is not polled for.
    """
    from airflow_provider_omnimessage.api.awaited_message import AwaitedMessage
    from airflow_provider_omnimessage.api.delivery import DeliveryReport
    from airflow_provider_omnimessage.api.waiting import Wait

    begin = datetime(2026, 11, 23, 8, 0, tzinfo=timezone.utc)
    delivered = begin + delivered_after
    polls, messages = 0, 200
    for number in range(messages):
        message = AwaitedMessage(f"message-{number}", begin + ahead if ahead else None)
        wait = Wait([message], since=begin, deadline=begin + timedelta(days=7), poke_interval=POKE_INTERVAL)
        now = begin
        wait.start(now)
        wait.rely_on_push(is_pushed, now)
        while wait.result is None:
            now = max(now, wait.next_poll or now)
            if is_pushed and now >= delivered:
                break
            status = "DELIVRD" if now >= delivered else None
            report = DeliveryReport.read({"statuses": [{"channel": "viber", "status": status}]})
            for due in wait.due(now):
                polls += 1
                wait.record_report(due, report, now)
    return polls / messages


def _peer_polls(delivered_after: timedelta) -> float:
    """Count the polls of HttpSensor's trigger: one at once, then every 60 s until it finds what it waits for."""
    polls, at = 1, timedelta()
    while at < delivered_after:
        polls, at = polls + 1, at + timedelta(seconds=POKE_INTERVAL)
    return float(polls)


def run_waits(url: str, begun: Path, output: Path) -> None:
    """Run 2,000 waits in this process, and write down what they cost and when each of them fired."""
    os.environ["AIRFLOW_CONN_BENCH"] = json.dumps(
        {
            "conn_type": "omnimessage",
            "login": "user",
            "password": PASSWORD,
            "host": "http://127.0.0.1:9/v1",
            "extra": {"receiver_url": url},
        }
    )
    from airflow_provider_omnimessage import metrics
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
            messages=[(id_, (now + timedelta(hours=1)).isoformat())],
            omnimessage_conn_id="bench",
            since=now.isoformat(),
            deadline=(now + timedelta(hours=2)).isoformat(),
        )
        async for event in trigger.run():
            assert event.payload["ending"] == "fulfilled", event.payload
        fired[id_] = time.time()

    async def all_of_them() -> dict[str, float]:
        running = [asyncio.ensure_future(wait(f"wait{number}")) for number in range(WAITS)]
        listener = None
        while listener is None or not listener.is_reliable or listener._unread:
            await asyncio.sleep(0.05)
            pollers = _pollers.get(asyncio.get_running_loop(), {})
            listener = next((poller.listener for poller in pollers.values()), None)
        metrics.count("push_received", {"conn_id": "bench"}, in_triggerer=True)  # once, Airflow loads its registry
        before = time.process_time()
        await asyncio.sleep(IDLE)
        idle = (time.process_time() - before) * TEN_MINUTES.total_seconds() / IDLE
        begun.touch()
        before = time.process_time()
        await asyncio.gather(*running)
        return {"idle_cpu": idle, "events_cpu": time.process_time() - before}

    cpu = asyncio.run(all_of_them())
    output.write_text(json.dumps({**cpu, "requests": len(requests), "fired": fired}))


if __name__ == "__main__":
    run_waits(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
