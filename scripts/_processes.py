"""Processes that can be killed and started again, and one address in front of several servers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from _airflow import free_port


class Process:
    """A process that can be killed and started again.

    :param command: the program and its arguments.
    :param user: run as this user (only root can).
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        log: Path,
        user: str | None = None,
    ) -> None:
        self._command = command
        self._environment = environment
        self._folder = folder
        self._log = log
        self._user = user
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it in a process group of its own."""
        with open(self._log, "ab") as log:
            self._popen = subprocess.Popen(
                self._command,
                env=dict(self._environment),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._user,
                group=self._user,
            )

    @property
    def is_running(self) -> bool:
        """Return whether it runs."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def log(self) -> str:
        """Return everything that it has written."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def send_signal(self, what: signal.Signals) -> None:
        """Send a signal to the process alone, as Kubernetes does."""
        assert self._popen is not None
        os.kill(self._popen.pid, what)

    def kill(self) -> None:
        """Kill it and all its descendants at once, as a power cut would."""
        if self._popen is None:
            return
        # stop the parent first, so that it does not replace the children that are killed
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._popen.pid, signal.SIGSTOP)
        for pid in [*_descendants(self._popen.pid), self._popen.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._popen.wait()
        self._popen = None


class OneAddress:
    """A load balancer: one address for several servers. A connection goes to the next one that accepts it.

    :param ports: the ports of the servers.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = list(ports)
        self._turn = 0
        self._loop = asyncio.new_event_loop()
        self.port = free_port()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        """Stop accepting connections."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", self.port))
        self._ready.set()
        self._loop.run_forever()
        server.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in self._ports:
            self._turn += 1
            try:
                to_server = await asyncio.open_connection("127.0.0.1", self._ports[self._turn % len(self._ports)])
            except OSError:
                continue
            await asyncio.gather(_copy(reader, to_server[1]), _copy(to_server[0], writer))
            return
        writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()


def _descendants(pid: int) -> list[int]:
    """Return all descendants of a process, children first."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []
