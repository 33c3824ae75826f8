"""
Thousands of messages: scheduling them, beside the official client's loop and mapped tasks, and waiting for them.

Scheduling: the operator's whole ``execute``, from a file of JSON Lines to the results, checks included, without Airflow
around it, against a sandbox in another process. Mapped tasks need Airflow, so both sides of that row are whole runs of
``dag.test()``. Waiting: triggers on an event loop of their own, against the server of the polling benchmark.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from figure import Figure

CLIENT = "messente-api 2.7.0's loop"
COUNT = 10_000
ROUNDS = 3
CLIENT_SENDS = 400
NEW_YEAR = "2099-01-01T09:00:00+00:00"
LATENCY = 0.05
SENDS_WITH_LATENCY = 40
MAPPED = 20
AIM_RATIO = 20
AIM_LAG = 100.0


def measure() -> list[Figure]:
    """Send in turns, so that both meet the same weather, and take medians."""
    return [*_sending(), _mapped(), *_waiting()]


def _sending() -> list[Figure]:
    from _airflow import running_sandbox

    from airflow_provider_omnimessage.sandbox import SandboxClient

    with tempfile.TemporaryDirectory() as folder:
        os.environ["AIRFLOW_HOME"] = folder
        os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "WARNING"
        with running_sandbox(Path(folder), "--port", "0") as announced:
            sandbox = SandboxClient(announced["url"])
            official = _official(announced["url"])
            source = _people(Path(folder), COUNT)
            connect(announced["url"])
            send_file(source, COUNT)
            gc.freeze()  # as Airflow's LocalExecutor does before it forks its workers
            rates: dict[str, list[float]] = {"ours": [], "official": []}
            for _ in range(ROUNDS + 1):
                rates["official"].append(_rate(official, CLIENT_SENDS))
                rates["ours"].append(send_file(source, COUNT))
                sandbox.reset()
            mine, theirs = (statistics.median(values[1:]) for values in rates.values())
            sandbox.add_fault("slow", call="any", seconds=LATENCY, times="always")
            late_ours, late_theirs = send_file(source, COUNT), _rate(official, SENDS_WITH_LATENCY)
    return [
        Figure(
            what=f"Messages in a bulk of {COUNT:,}, checked, scheduled and reported",
            unit="per second",
            ours=mine,
            peer=CLIENT,
            theirs=theirs,
            aim=f"at least {AIM_RATIO} times the peer",
            holds=mine >= AIM_RATIO * theirs,
        ),
        Figure(
            what=f"The same with {LATENCY * 1000:.0f} ms of latency",
            unit="per second",
            ours=late_ours,
            peer=CLIENT,
            theirs=late_theirs,
            aim=f"at least {AIM_RATIO} times the peer",
            holds=late_ours >= AIM_RATIO * late_theirs,
        ),
    ]


def connect(url: str, extra: dict[str, object] | None = None) -> None:
    """Let ``omnimessage_default`` lead to a sandbox."""
    connection = {
        "conn_type": "omnimessage",
        "login": "sandbox",
        "password": "sandbox",
        "host": url,
        "extra": extra or {},
    }
    os.environ["AIRFLOW_CONN_OMNIMESSAGE_DEFAULT"] = json.dumps(connection)


def _people(folder: Path, count: int) -> Path:
    path = folder / "people.jsonl"
    with open(path, "w") as lines:
        for index in range(count):
            lines.write(json.dumps({"to": f"+3725{index:06d}9", "name": f"Person {index}"}) + "\n")
    return path


def send_file(source: Path, count: int, **settings: Any) -> float:
    """
    Send to all recipients of a file, as a task does, and give the messages per second.

    :param source: JSON Lines.
    :param count: how many recipients it has.
    :param settings: of the operator.
    """
    from types import SimpleNamespace

    from airflow_provider_omnimessage.api.messages import sms
    from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator

    operator = ScheduleBulkOmnimessageOperator(
        task_id="send",
        recipients=str(source),
        messages=[sms("Hello $name")],
        **{"parallel": 2, "time_to_send": NEW_YEAR, **settings},
    )
    context = {"ti": SimpleNamespace(max_tries=0, dag_id="bench", task_id="send", xcom_push=print)}
    begin = time.perf_counter()
    told = operator.execute(context)
    seconds = time.perf_counter() - begin
    if told["accepted"] != count:
        raise SystemExit(f"Not all were accepted: {told}")
    return count / seconds


def _official(url: str) -> Callable[[], object]:
    from messente_api import ApiClient, Configuration, OmnimessageApi
    from messente_api.models import SMS, Omnimessage, OmnimessageMessagesInner

    api = OmnimessageApi(ApiClient(Configuration(host=url, username="sandbox", password="sandbox")))
    numbers, when = iter(range(10**6)), datetime.fromisoformat(NEW_YEAR)

    def send() -> object:
        index = next(numbers)
        message = OmnimessageMessagesInner(SMS(text=f"Hello Person {index}"))
        return api.send_omnimessage(Omnimessage(to=f"+3725{index:06d}9", messages=[message], time_to_send=when))

    return send


def _rate(send: Callable[[], object], sends: int) -> float:
    begin = time.perf_counter()
    for _ in range(sends):
        send()
    return sends / (time.perf_counter() - begin)


def _mapped() -> Figure:
    """Run both on Airflow's own ``dag.test()``, each run from its beginning to its end."""
    with tempfile.TemporaryDirectory() as home:
        mapped, bulk = (float(line) for line in _alone("runs", home).splitlines()[-2:])
    return Figure(
        what=f"Messages a run of dag.test() sends: {COUNT:,} recipients in one task",
        unit="per second",
        ours=bulk,
        peer=f".expand() over the single operator, {MAPPED} recipients",
        theirs=mapped,
        aim=f"at least {AIM_RATIO} times the peer",
        holds=bulk >= AIM_RATIO * mapped,
    )


def _waiting() -> list[Figure]:
    from polling import UNPACED, _server

    with tempfile.TemporaryDirectory() as home, _server(home) as port:
        connect(f"http://127.0.0.1:{port}", UNPACED)
        one, lag = (float(line) for line in _alone("one trigger", home).splitlines()[-2:])
        many = float(_alone("many triggers", home).splitlines()[-1])
    return [
        Figure(
            what=f"CPU per poll with {COUNT:,} messages in one trigger",
            unit="µs",
            ours=one,
            peer=f"{COUNT:,} triggers of one message",
            theirs=many,
            aim="not more",
            holds=one <= many,
        ),
        Figure(
            what=f"Longest that one trigger with {COUNT:,} messages blocks its event loop, in CPU time",
            unit="ms",
            ours=lag,
            peer="the aim",
            theirs=AIM_LAG,
            aim=f"at most {AIM_LAG:.0f} ms",
            holds=lag <= AIM_LAG,
        ),
    ]


def _alone(what: str, home: str) -> str:
    environment = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, __file__, what], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{what} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def _runs() -> None:
    from _airflow import running_sandbox
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.sdk import DAG
    from airflow.utils.db import initdb

    from airflow_provider_omnimessage.api.messages import sms
    from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
    from airflow_provider_omnimessage.operators.omnimessage import ScheduleOmnimessageOperator

    folder = Path(os.environ["AIRFLOW_HOME"])
    initdb()
    DagBundlesManager().sync_bundles_to_db()
    rates = []
    with running_sandbox(folder, "--port", "0") as announced:
        connect(announced["url"])
        source = _people(folder, COUNT)
        with DAG("mapped", schedule=None) as mapped:
            ScheduleOmnimessageOperator.partial(task_id="send", messages=[sms("Hello")], time_to_send=NEW_YEAR).expand(
                to=[f"+3725{index:06d}9" for index in range(MAPPED)]
            )
        with DAG("bulk", schedule=None) as bulk:
            ScheduleBulkOmnimessageOperator(
                task_id="send",
                recipients=str(source),
                messages=[sms("Hello $name")],
                time_to_send=NEW_YEAR,
                parallel=2,
            )
        bag = DagBag(folder)
        for dag in (mapped, bulk):
            bag.dags[dag.dag_id] = dag
        sync_bag_to_db(bag, "dags-folder", None)
        for dag, count in ((mapped, MAPPED), (bulk, COUNT)):
            dag.test()  # once for what is imported and cached
            begin = time.perf_counter()
            run = dag.test()
            rates.append(count / (time.perf_counter() - begin))
            if run.state != "success":
                raise SystemExit(f"{dag.dag_id} ended {run.state}")
    print("\n".join(map(str, rates)))


async def _poll(one: bool) -> None:
    from datetime import timedelta, timezone

    from polling import _consume, _counting

    from airflow_provider_omnimessage.triggers.omnimessage import OmnimessageDeliveryTrigger

    now = datetime.now(timezone.utc)
    times = {"since": now.isoformat(), "deadline": (now + timedelta(days=1)).isoformat(), "poke_interval": 0.5}
    ids = [f"01234567-0123-0123-0123-{number:012}" for number in range(COUNT)]
    polls, late, over = _counting("ours"), [0.0], asyncio.Event()

    async def probe() -> None:
        """Measure, in CPU time of this process, how long others take at most before it is this one's turn again."""
        while not over.is_set():
            begin = time.process_time()
            await asyncio.sleep(0.005)
            late[0] = max(late[0], time.process_time() - begin)

    if one:
        bulk = {"ids": " ".join(ids), "moments": "-"}
        kwargs = {"messages": [], "bulk": bulk, "omnimessage_conn_id": "omnimessage_default", **times}
        triggers = [OmnimessageDeliveryTrigger(**kwargs)]
    else:
        triggers = [
            OmnimessageDeliveryTrigger(messages=[(id_, None)], omnimessage_conn_id="omnimessage_default", **times)
            for id_ in ids
        ]
    # what a full collection of Airflow's own objects takes is not a trigger's doing
    gc.collect()
    gc.freeze()
    probing = asyncio.create_task(probe())
    tasks = [asyncio.create_task(_consume(trigger)) for trigger in triggers]
    while polls[0] < COUNT:  # once around: imports, lookup, first connections
        await asyncio.sleep(0.05)
    before, first = time.process_time(), polls[0]
    while polls[0] < first + 2 * COUNT:
        await asyncio.sleep(0.05)
    spent = (time.process_time() - before) / (polls[0] - first)
    over.set()
    await probing
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(f"{spent * 1e6}\n{late[0] * 1e3}" if one else spent * 1e6)


if __name__ == "__main__":
    if sys.argv[1] == "runs":
        _runs()
    else:
        asyncio.run(_poll(one=sys.argv[1] == "one trigger"))
