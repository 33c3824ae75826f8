"""A cluster on this machine: PostgreSQL, Redis, an S3 server, and two of each process of Airflow.

The processes listen on free ports and can be killed. No service of the system is touched.
"""

from __future__ import annotations

import contextlib
import glob
import http.client
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from _airflow import AirflowHome, free_port
from _processes import OneAddress, Process
from cryptography.fernet import Fernet

API_SERVERS = ("api-1", "api-2")
SCHEDULERS = ("scheduler-1", "scheduler-2")
TRIGGERERS = ("triggerer-1", "triggerer-2")
WORKERS = ("worker-1", "worker-2")
#: Airflow knows the executor of this provider by its full path only.
EDGE_EXECUTOR = "airflow.providers.edge3.executors.EdgeExecutor"
BUCKET = "omnimessage"
_AS_HOST = 'import os\n\ndef name():\n    return os.environ["CLUSTER_HOST"]\n'


class Cluster:
    """PostgreSQL, Redis, S3 and Airflow with two hosts for everything that can be doubled.

    The connections are kept in Airflow's database, encrypted.

    :param folder: where all of it lives.
    :param bundles: folders of DAGs, by the name of the bundle.
    :param connections: Airflow connections by id.
    :param extra: more environment variables for all of Airflow's processes.
    :param concurrency: tasks at a time on each worker.
    :param edge: whether the workers are Edge workers, which reach the API servers alone, and not Celery's.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bundles: Mapping[str, Path],
        connections: Mapping[str, Mapping[str, Any]],
        extra: Mapping[str, str] | None = None,
        concurrency: int = 4,
        edge: bool = False,
    ) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in ("postgres", "redis", "s3", *API_SERVERS)}
        self.address = OneAddress([self.ports[name] for name in API_SERVERS])
        self.s3_url = f"http://127.0.0.1:{self.ports['s3']}"
        self.connections = {
            **connections,
            "aws_default": {
                "conn_type": "aws",
                "login": "test",
                "password": "test",
                "extra": {"endpoint_url": self.s3_url, "region_name": "eu-north-1"},
            },
        }
        self.home = AirflowHome(folder / "airflow", dags=folder / "no-dags", connections={})
        self.home.url = f"http://127.0.0.1:{self.address.port}"
        self._concurrency = concurrency
        self._edge = edge
        self.home.environment |= {**self._settings(bundles), **(extra or {})}
        self.processes: dict[str, Process] = {}

    def _settings(self, bundles: Mapping[str, Path]) -> dict[str, str]:
        """Return the settings that all of Airflow's processes share."""
        database = f"airflow@127.0.0.1:{self.ports['postgres']}/airflow"
        bundle_list = [
            {
                "name": name,
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(path)},
            }
            for name, path in bundles.items()
        ]
        return {
            "AIRFLOW__CORE__EXECUTOR": EDGE_EXECUTOR if self._edge else "CeleryExecutor",
            "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
            "AIRFLOW__CORE__PARALLELISM": "64",
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "2000",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.home.url}/execution/",
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "cluster_host.name",
            "AIRFLOW__API__BASE_URL": self.home.url,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{database}",
            "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{self.ports['redis']}/0",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2://{database}",
            "AIRFLOW__EDGE__API_ENABLED": str(self._edge),
            "AIRFLOW__EDGE__API_URL": f"{self.home.url}/edge_worker/v1/rpcapi",
            "AIRFLOW__EDGE__JOB_POLL_INTERVAL": "1",
            "AIRFLOW__EDGE__HEARTBEAT_INTERVAL": "5",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundle_list),
            # detect dead processes soon
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "15",
            "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "60",
            "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
            "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "3",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
            # a busy machine may need longer for a response than the default of 5 seconds
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "30",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
            "PYTHONPATH": str(self.folder / "lib"),
        }

    # -- starting and stopping

    def start(self) -> None:
        """Start everything, and wait until Airflow responds."""
        for path in ("lib", "logs", "airflow"):
            (self.folder / path).mkdir(parents=True, exist_ok=True)
        (self.folder / "lib" / "cluster_host.py").write_text(_AS_HOST)
        self._add_postgres()
        self._add("redis", ["redis-server", "--port", str(self.ports["redis"]), "--bind", "127.0.0.1",
                            "--dir", str(self.folder), "--appendonly", "yes", "--save", ""])  # fmt: skip
        self._add("s3", [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.ports["s3"])])
        for name in ("postgres", "redis", "s3"):
            self.processes[name].start()
        self.await_port("postgres")
        self._create_database()
        passwords = self.home.folder / "simple_auth_manager_passwords.json.generated"
        passwords.write_text(json.dumps({"admin": "admin"}))
        self.home.environment |= {"CLUSTER_HOST": "setup"}
        self.home.run("db", "migrate")
        known = self.folder / "connections.json"
        known.write_text(
            json.dumps({id_: {**one, "extra": json.dumps(one["extra"])} for id_, one in self.connections.items()})
        )
        self.home.run("connections", "import", str(known))
        known.unlink()
        self.await_port("s3")
        urllib.request.urlopen(urllib.request.Request(f"{self.s3_url}/{BUCKET}", method="PUT"), timeout=30).close()
        self._add_airflow()
        for name in (*API_SERVERS, "dag-processor", *TRIGGERERS):
            self.processes[name].start()
        # a task that starts before an API server listens fails
        for name in API_SERVERS:
            self.await_port(name)
        for name in (*SCHEDULERS, *WORKERS):
            self.processes[name].start()
        self.await_health()

    def stop(self) -> None:
        """End everything."""
        for name in reversed(self.processes):
            # kill: the cluster is not started again, so no process needs an orderly stop
            self.processes[name].kill()
        self.address.close()

    def check(self) -> None:
        """Raise if a process that was started has ended by itself."""
        for name, process in self.processes.items():
            if process._popen is not None and not process.is_running:
                raise RuntimeError(f"{name} ended:\n{process.log[-3000:]}")

    def await_port(self, name: str) -> None:
        """Wait until a process listens on its port."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if not self.processes[name].is_running:
                raise RuntimeError(f"{name} ended:\n{self.processes[name].log[-3000:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.ports[name]), 1):
                return
            time.sleep(0.1)
        raise RuntimeError(f"{name} does not listen:\n{self.processes[name].log[-3000:]}")

    def kill(self, *names: str) -> None:
        """Kill processes with all their descendants."""
        for name in names:
            self.processes[name].kill()

    def start_again(self, *names: str) -> None:
        """Start processes that were killed; each server listens when this returns."""
        if "postgres" in names:
            (self.data / "postmaster.pid").unlink(missing_ok=True)
        for name in names:
            self.processes[name].start()
        for name in set(names) & set(self.ports):
            self.await_port(name)

    def restart_ended(self) -> list[str]:
        """Start everything again that has ended by itself, and return its names."""
        ended = [name for name, process in self.processes.items() if not process.is_running]
        for name in ended:
            self.processes[name].kill()
            self.processes[name].start()
        return ended

    def is_healthy(self) -> bool:
        """Return whether scheduler, triggerer and DAG processor report to the database."""
        try:
            with urllib.request.urlopen(f"{self.home.url}/api/v2/monitor/health", timeout=10) as response:
                health = json.loads(response.read())
        except (OSError, http.client.HTTPException):
            return False
        return {part["status"] for part in health.values()} == {"healthy"}

    def pass_time(self, seconds: float) -> None:
        """Sleep while an outage lasts."""
        time.sleep(seconds)

    def await_health(self) -> None:
        """Wait until scheduler, triggerer and DAG processor report to the database, and both workers take tasks."""
        deadline = time.monotonic() + 600
        while time.monotonic() < deadline:
            self.check()
            if all(self._is_ready(name) for name in WORKERS) and self.is_healthy():
                return
            time.sleep(0.5)
        raise RuntimeError("Airflow is not healthy after ten minutes")

    def _is_ready(self, worker: str) -> bool:
        """Return whether a worker has begun to take tasks."""
        if self._edge:
            return (self.folder / f"{worker}.pid").exists()
        return f"celery@{worker} ready" in self.processes[worker].log

    # -- its parts

    def _add(self, name: str, command: Sequence[str], user: str | None = None, **environment: str) -> None:
        self.processes[name] = Process(
            command,
            environment={**self.home.environment, "CLUSTER_HOST": name, **environment},
            folder=self.home.folder if user is None else Path("/"),
            log=self.folder / "logs" / f"{name}.log",
            user=user,
        )

    def _add_postgres(self) -> None:
        # PostgreSQL does not run as root, and its user cannot read root's folders
        user = "postgres" if os.geteuid() == 0 else None
        self.data = Path("/tmp") / f"omnimessage-postgres-{self.ports['postgres']}"
        self.data.mkdir(mode=0o700)
        if user:
            entry = pwd.getpwnam(user)
            os.chown(self.data, entry.pw_uid, entry.pw_gid)
        subprocess.run(
            [_postgres("initdb"), "-D", str(self.data), "-U", "airflow", "-A", "trust", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, cwd="/", user=user, group=user,
        )  # fmt: skip
        options = ("listen_addresses=127.0.0.1", f"unix_socket_directories={self.data}", "max_connections=300",
                   "fsync=off")  # fmt: skip
        command = [_postgres("postgres"), "-D", str(self.data), "-p", str(self.ports["postgres"])]
        self._add("postgres", [*command, *(word for option in options for word in ("-c", option))], user=user)

    def _create_database(self) -> None:
        import psycopg2

        deadline = time.monotonic() + 60
        while True:
            try:
                connection = psycopg2.connect(
                    host="127.0.0.1", port=self.ports["postgres"], user="airflow", dbname="postgres"
                )
                break
            except psycopg2.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE airflow")
        connection.close()

    def query(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query to Airflow's database."""
        import psycopg2

        with contextlib.closing(
            psycopg2.connect(host="127.0.0.1", port=self.ports["postgres"], user="airflow", dbname="airflow")
        ) as connection, connection.cursor() as cursor:  # fmt: skip
            cursor.execute(sql, parameters or None)
            return cursor.fetchall()

    def _add_airflow(self) -> None:
        for name in API_SERVERS:
            self._add_component(name, "api-server", AIRFLOW__API__PORT=str(self.ports[name]))
        for name in SCHEDULERS:
            self._add_component(name, "scheduler")
        self._add_component("dag-processor", "dag-processor")
        for name in TRIGGERERS:
            self._add_component(name, "triggerer", AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT=str(free_port()))
        for name in WORKERS:
            of_kind = (
                ("edge", "worker", "--edge-hostname", name, "--pid", str(self.folder / f"{name}.pid"))
                if self._edge
                else ("celery", "worker", "--celery-hostname", name)
            )
            self._add_component(
                name, *of_kind, "--concurrency", str(self._concurrency),
                AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT=str(free_port()),
            )  # fmt: skip

    def _add_component(self, name: str, *command: str, **environment: str) -> None:
        """Add a process with a folder for logs and one for temporary files that no other process sees."""
        host = self.folder / "hosts" / name
        for path in ("tmp", "logs"):
            (host / path).mkdir(parents=True, exist_ok=True)
        self._add(
            name, [self.home.python, "-m", "airflow", *command],
            TMPDIR=str(host / "tmp"), AIRFLOW__LOGGING__BASE_LOG_FOLDER=str(host / "logs"), **environment,
        )  # fmt: skip

    def cleanup(self) -> None:
        """Remove what is not in the folder."""
        shutil.rmtree(self.data, ignore_errors=True)


@contextlib.contextmanager
def running_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """Run a cluster, and end all its processes in the end."""
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        cluster.cleanup()


def _postgres(program: str) -> str:
    """Find a program of PostgreSQL: Debian keeps them out of the PATH."""
    for path in sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{program}"), reverse=True):
        return path
    found = shutil.which(program)
    if found is None:
        raise RuntimeError(f"{program} was not found; install PostgreSQL (Debian: apt install postgresql)")
    return found
