"""A whole Airflow in a folder of its own: settings, database, and processes, each of which can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")


def free_port() -> int:
    """Find a port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class AirflowHome:
    """
    One Airflow's folder and settings.

    :param folder: ``AIRFLOW_HOME``.
    :param dags: where its DAGs are.
    :param connections: Airflow connections, by id, as JSON.
    :param extra: more environment variables.
    :param python: the interpreter that has this Airflow.
    """

    def __init__(
        self,
        folder: Path,
        *,
        dags: Path,
        connections: Mapping[str, str],
        extra: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        self.folder = folder
        self.python = python
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")},
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API_AUTH__JWT_SECRET": "only-for-this-machine-and-never-for-production-0123456789",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
            # a cold API server on a busy machine takes longer than the usual 5 s for its first requests
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            # files that change are parsed again anyway; twice a minute, all of them cost a fifth of a core. But a
            # callback that arrives while its file is parsed waits for the next time
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
            # the first callback waits until the DAG processor has imported the execution API: a minute if busy
            "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "300",
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "NO_PROXY": "127.0.0.1,localhost",
            **{f"AIRFLOW_CONN_{name.upper()}": value for name, value in connections.items()},
            **(extra or {}),
        }

    def prepare(self) -> None:
        """Create the folder, the login (admin, admin) and the database if they do not exist."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "simple_auth_manager_passwords.json.generated").write_text(json.dumps({"admin": "admin"}))
        if not (self.folder / "airflow.db").exists():
            self.run("db", "migrate")

    def run(self, *command: str) -> str:
        """
        Run one ``airflow`` command and wait for its end.

        :param command: its arguments.
        :return: what it printed.
        :raises RuntimeError: if it failed; contains the end of its output.
        """
        done = subprocess.run(
            [self.python, "-m", "airflow", *command],
            env=self.environment,
            cwd=self.folder,  # not the checkout, so that the installed package is imported
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
        if done.returncode:
            raise RuntimeError(f"airflow {' '.join(command)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done.stdout


class Airflow:
    """A running Airflow, seen through its REST API."""

    def __init__(self, home: AirflowHome) -> None:
        self.home = home
        token = self.call("POST", "/auth/token", {"username": "admin", "password": "admin"}, token=None)
        self._token = token["access_token"]

    def call(self, method: str, path: str, body: object = None, token: str | None = "") -> Any:
        """
        Make a request, and repeat it if Airflow responds with 500, as it does while its SQLite is locked.

        :return: the response; ``None`` if a repeated request finds that the first one has created what it names.
        """
        request = urllib.request.Request(
            f"{self.home.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        if token is not None:
            request.add_header("Authorization", f"Bearer {self._token}")
        for attempt, pause in enumerate((1, 2, 4, 8, 8, None)):
            try:
                # long, because requests wait for Airflow's SQLite on a busy machine
                with urllib.request.urlopen(request, timeout=120) as response:
                    return json.loads(response.read())
            except urllib.error.HTTPError as error:
                if error.code == 409 and attempt:
                    return None
                if pause is None or error.code < 500:
                    raise
                time.sleep(pause)
        raise AssertionError("unreachable: the last try returns or raises")

    def await_dag(self, dag_id: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(dag["dag_id"] == dag_id for dag in self.call("GET", "/api/v2/dags?limit=100")["dags"]):
                return
            time.sleep(0.5)
        raise AssertionError(f"Airflow did not find {dag_id}: {self.call('GET', '/api/v2/importErrors')}")

    def trigger(self, dag_id: str, **conf: object) -> str:
        """
        Start a run, and return its id.

        :param dag_id: the DAG.
        :param conf: the parameters of the run.
        """
        run_id = f"run-{uuid.uuid4().hex}"
        self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"dag_run_id": run_id, "conf": conf, "logical_date": None})
        return run_id

    def run(self, dag_id: str, **conf: object) -> str:
        """
        Run a DAG to its end, and return the run's id.

        :param dag_id: the DAG.
        :param conf: the parameters of the run.
        """
        run_id = self.trigger(dag_id, **conf)
        self.await_end(dag_id, run_id)
        return run_id

    def await_end(self, dag_id: str, run_id: str, seconds: float = 180) -> str:
        """Wait until a run has ended, and return its state."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            state = str(self.call("GET", path)["state"])
            if state in ("success", "failed"):
                return state
            time.sleep(0.5)
        raise AssertionError(f"{dag_id} did not end: {self.tasks(dag_id, run_id)}")

    def tasks(self, dag_id: str, run_id: str) -> dict[str, str]:
        response = self.call("GET", f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances")
        return {task["task_id"]: task["state"] for task in response["task_instances"]}

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> object:
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}?deserialize=true"
        return self.call("GET", path)["value"]

    def log(self, run_id: str) -> str:
        return "".join(
            path.read_text()
            for path in sorted((self.home.folder / "logs").rglob("*.log"))
            if f"run_id={run_id}" in str(path)
        )


class RunningAirflow:
    """
    The processes of one Airflow.

    :param home: its folder and settings.
    """

    def __init__(self, home: AirflowHome) -> None:
        self.home = home
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, components: Sequence[str] = COMPONENTS) -> None:
        """
        Start processes, each in a process group of its own, and wait until the API server responds.

        The scheduler starts last: tasks that it starts before the API server listens fail.

        :param components: their names.
        """
        for component in components:
            if component != "scheduler":
                self._start(component)
        if "api-server" in components:
            self._await_api_server()
        if "scheduler" in components:
            self._start("scheduler")

    def _start(self, component: str) -> None:
        logs = self.home.folder / "processes"
        logs.mkdir(exist_ok=True)
        with open(logs / f"{component}.log", "ab") as log:
            self._processes[component] = subprocess.Popen(
                [self.home.python, "-m", "airflow", component],
                env=self.home.environment,
                cwd=self.home.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, components: Sequence[str] = COMPONENTS) -> None:
        """
        Kill processes and all their children at once, as a power cut would (SIGKILL).

        :param components: their names.
        """
        for component in components:
            process = self._processes.pop(component, None)
            if process is not None:
                _signal_group(process, signal.SIGKILL)
                process.wait()

    def stop(self) -> None:
        """Stop all processes with SIGTERM, and kill those that still run after 15 seconds."""
        for process in self._processes.values():
            _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + 15
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
        self.kill(list(self._processes))

    def check(self) -> None:
        """
        Raise if a process has ended.

        :raises RuntimeError: contains the end of its log.
        """
        for component, process in self._processes.items():
            if process.poll() is not None:
                log = (self.home.folder / "processes" / f"{component}.log").read_text(errors="replace")
                raise RuntimeError(f"airflow {component} ended with {process.returncode}:\n{log[-3000:]}")

    def _await_api_server(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"{self.home.url}/api/v2/version", timeout=2).close()
                return
            time.sleep(0.3)
        raise RuntimeError("The API server did not respond within two minutes")


@contextlib.contextmanager
def running_airflow(home: AirflowHome) -> Iterator[RunningAirflow]:
    """
    Run a complete Airflow: create its database, start all processes, and stop them at the end.

    :param home: its folder and settings.
    """
    home.prepare()
    processes = RunningAirflow(home)
    try:
        processes.start()
        yield processes
    finally:
        processes.stop()


@contextlib.contextmanager
def running_sandbox(folder: Path, *options: str) -> Iterator[dict[str, str]]:
    """
    Run the sandbox in a process of its own.

    :param folder: where its log is written.
    :param options: more command line options.
    :return: what it writes to its announcement file: ``url``, ``inbox`` and ``pid``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    announcement = folder / "sandbox.json"
    announcement.unlink(missing_ok=True)
    command = [sys.executable, "-m", "airflow_provider_omnimessage.sandbox", "--announce", str(announcement), *options]
    with open(folder / "sandbox.log", "wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 60
        while not announcement.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"The sandbox did not start:\n{(folder / 'sandbox.log').read_text()[-3000:]}")
            time.sleep(0.05)
        yield json.loads(announcement.read_text())
    finally:
        _signal_group(process, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            _signal_group(process, signal.SIGKILL)
            process.wait()


def _signal_group(process: subprocess.Popen[bytes], what: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, what)
