"""
What a wait costs a whole Airflow: CPU time of each of its processes, beside a deferred HttpSensor.

Airflow runs with LocalExecutor on PostgreSQL. Both kinds of wait run on it after each other, with the same interval,
and all end at the same time. The table of all processes is printed.
"""

from __future__ import annotations

import http.server
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from figure import Figure

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

WAITS = int(os.environ.get("OMNIMESSAGE_WAITS", "100"))
PEER = "a deferred HttpSensor"
TICKS = os.sysconf("SC_CLK_TCK")


class _NotYet(http.server.BaseHTTPRequestHandler):
    """Responds with 404 until the server is open, and with 200 from then on."""

    is_open = threading.Event()
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200 if self.is_open.is_set() else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Log nothing."""


@contextmanager
def _peers_server() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _NotYet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()


def measure() -> list[Figure]:
    """Measure both kinds of wait on one Airflow."""
    from _airflow import Airflow, AirflowHome, running_airflow, running_sandbox
    from postgres import Postgres

    from airflow_provider_omnimessage.sandbox import SandboxClient

    with (
        tempfile.TemporaryDirectory() as folder,
        Postgres() as postgres,
        running_sandbox(Path(folder) / "sandbox", "--port", "0") as announced,
        _peers_server() as peer_url,
    ):
        sandbox = SandboxClient(announced["url"])
        home = AirflowHome(
            Path(folder) / "airflow",
            dags=ROOT / "benchmarks" / "dags",
            connections={
                "omnimessage_default": sandbox.airflow_conn,
                "http_default": json.dumps({"conn_type": "http", "host": peer_url}),
            },
            extra={
                "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": postgres.create("airflow"),
                "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "1000",
            },
        )
        with running_airflow(home) as processes:
            airflow = Airflow(home)
            # the DAG processor takes no part in a wait
            pids = {name: processes._processes[name].pid for name in ("api-server", "scheduler", "triggerer")}
            spent = {
                "ours": _run(airflow, pids, "ours", _schedule(sandbox), sandbox.resume),
                "peer": _run(airflow, pids, "peer", [f"wait{n}" for n in range(WAITS)], _NotYet.is_open.set),
            }
    for process in spent["ours"]:
        ours, theirs = (1e3 * spent[whose][process] / WAITS for whose in ("ours", "peer"))
        print(f"  {process:30} {ours:8.1f} ms {theirs:8.1f} ms")
    ours, theirs = (1e3 * sum(spent[whose].values()) / WAITS for whose in ("ours", "peer"))
    return [
        Figure(
            what=f"CPU of scheduler, triggerer, API server and workers for the end of a wait ({WAITS} end at once)",
            unit="ms",
            ours=ours,
            peer=PEER,
            theirs=theirs,
            aim="at most half of the peer",
            holds=ours <= theirs / 2,
        )
    ]


def _schedule(sandbox: object) -> list[str]:
    """Send messages that are delivered once the sandbox's clock runs."""
    from airflow_provider_omnimessage.api.messages import sms
    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

    os.environ["AIRFLOW_CONN_OMNIMESSAGE_DEFAULT"] = sandbox.airflow_conn  # type: ignore[attr-defined]
    sandbox.freeze()  # type: ignore[attr-defined]
    with OmnimessageHook() as hook:
        return [hook.send("+37255555555", [sms(f"{number}")]).omnimessage_id for number in range(WAITS)]


def _run(
    airflow: object, pids: Mapping[str, int], dag_id: str, ids: list[str], end_all: Callable[[], object]
) -> dict[str, float]:
    """Start a run of waits, and return the CPU time that each process spends on their end."""
    airflow.await_dag(dag_id)  # type: ignore[attr-defined]
    run_id = airflow.trigger(dag_id, ids=ids)  # type: ignore[attr-defined]
    path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"
    await_waits(len(ids), lambda: count(airflow, path, "deferred") == len(ids), "all waits are deferred")
    # what Airflow spends while nothing happens is not a wait's
    before, begin = _cpu(pids), time.monotonic()
    time.sleep(20)
    idle, seconds = _difference(_cpu(pids), before), time.monotonic() - begin
    spent, took = spent_at_the_end(airflow, pids, [path], len(ids), end_all)
    return {name: max(0.0, used - idle[name] * took / seconds) for name, used in spent.items()}


def spent_at_the_end(
    airflow: object,
    pids: Mapping[str, int],
    paths: Sequence[str],
    waits: int,
    end_all: Callable[[], object],
) -> tuple[dict[str, float], float]:
    """Return the CPU time that each process spends until all runs have ended, and how long that takes in seconds.

    :param paths: of the runs, whose waits are all deferred.
    """

    def have_succeeded() -> bool:
        return all(airflow.call("GET", path)["state"] == "success" for path in paths)  # type: ignore[attr-defined]

    before, begin = _cpu(pids), time.monotonic()
    end_all()
    await_waits(waits, have_succeeded, "all runs have succeeded")
    took = time.monotonic() - begin
    print(f"  {paths[0].split('/')[4]}: {waits:,} waits ended in {took:.0f} s", flush=True)
    return _difference(_cpu(pids), before), took


def count(airflow: object, path: str, state: str) -> int:
    return int(airflow.call("GET", f"{path}/taskInstances?state={state}&limit=1")["total_entries"])  # type: ignore[attr-defined]


def await_waits(waits: int, condition: Callable[[], bool], what: str) -> None:
    """Wait for something that takes a few seconds for each wait, at most."""
    deadline = time.monotonic() + 60 + 5 * waits
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"Still not: {what}")
        time.sleep(2)


def _difference(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {name: after[name] - before.get(name, 0.0) for name in after}


def _cpu(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the CPU time of each component, and that of the workers, which are children of the scheduler."""
    used = dict.fromkeys(pids, 0.0) | {"workers (LocalExecutor)": 0.0}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, fields = int(stat.parent.name), stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        session = int(fields[3])
        component = next((name for name, leader in pids.items() if leader == session), None)
        if component is None:
            continue
        own, of_children = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
        if component == "scheduler" and pid != pids["scheduler"]:
            component = "workers (LocalExecutor)"
        used[component] += (own + (0 if component == "scheduler" else of_children)) / TICKS
    return used
