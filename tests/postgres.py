"""A PostgreSQL server of a test's own, on a free port of this machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path


def _program(name: str) -> str:
    on_path = shutil.which("postgres")
    folders = [Path(on_path).resolve().parent] if on_path else []
    # Debian keeps its programs out of the path
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in folders:
        if (folder / name).exists():
            return str(folder / name)
    raise RuntimeError("PostgreSQL is not installed; install it (Debian: apt-get install postgresql)")


class Postgres:
    """A context manager that makes a cluster, runs its server, and removes both.

    :param options: settings of the server, such as ``max_connections=200``.
    """

    def __init__(self, *options: str) -> None:
        self._options = [part for option in options for part in ("-c", option)]

    def __enter__(self) -> Postgres:
        self._folder = Path(tempfile.mkdtemp(prefix="omnimessage-postgres-"))
        # PostgreSQL does not run as root
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user:
            shutil.chown(self._folder, self._user)
        self.data = self._folder / "data"
        self._run("initdb", "-D", str(self.data), "-U", "airflow", "--auth=trust", "--encoding=UTF8", "--no-sync")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [
                    *(_program("postgres"), "-D", str(self.data), "-h", "127.0.0.1", "-p", str(self.port)),
                    *("-k", str(self._folder), "-c", "fsync=on", *self._options),
                ],
                stdout=log,
                stderr=log,
                user=self._user,
                cwd=self._folder,
            )
        until = time.monotonic() + 60
        while subprocess.run(
            [_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)], check=False
        ).returncode:
            if self._server.poll() is not None or time.monotonic() > until:
                raise RuntimeError((self._folder / "log").read_text())
            time.sleep(0.1)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop the server, as a restart does; clients lose their connections."""
        if self._server.poll() is None:
            self._server.send_signal(number)
            self._server.wait(30)

    def pause(self) -> None:
        """Pause all server processes: connections stay open, and get no response."""
        self._signal_all(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        self._signal_all(signal.SIGCONT)

    def create(self, name: str, driver: str = "postgresql+psycopg2") -> str:
        """Create an empty database and return its URL."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "airflow", name)
        return f"{driver}://airflow@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [_program(program), *arguments], check=True, capture_output=True, user=self._user, cwd=self._folder
        )

    def _signal_all(self, number: signal.Signals) -> None:
        children = Path(f"/proc/{self._server.pid}/task/{self._server.pid}/children").read_text().split()
        for pid in [*map(int, children), self._server.pid]:
            os.kill(pid, number)
