"""Posts delivery reports to ``dlr_url``: signed, in order, tried again, and by default to this machine only."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import ipaddress
import json
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from airflow_provider_omnimessage.sandbox.clock import Clock
from airflow_provider_omnimessage.sandbox.world import Post, World

GAPS: Final = (5, 30, 120)
"""Seconds on the sandbox's clock before the second, third and fourth attempt."""
TIMEOUT: Final = 5.0
AT_ONCE: Final = 8
REFUSED: Final = "refused: not an address of this machine (start the sandbox with --allow-remote-callbacks)"


def is_loopback(host: str) -> bool:
    """Tell whether a host name stands for this machine, without asking a name server.

    :param host: a name or an IP address.
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def sign(body: bytes, password: str) -> str:
    """Compute ``X-Messente-Signature``.

    :param body: the raw body.
    :param password: the API password.
    """
    return hmac.new(password.encode(), body, hashlib.sha256).hexdigest()


def post(url: str, body: bytes, signature: str) -> int:
    """Post one report and return the status; redirects are not followed.

    :param url: where to.
    :param body: the raw body.
    :param signature: the ``X-Messente-Signature``.
    :raises OSError: no connection, or no answer in time.
    :raises http.client.HTTPException: something else than HTTP answered.
    :raises ValueError: the address cannot be used.
    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT)
    try:
        connection.request(
            "POST",
            (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            body,
            {
                "Content-Type": "application/json",
                "User-Agent": "messente-sandbox",
                "X-Messente-Signature": signature,
            },
        )
        return connection.getresponse().status
    finally:
        connection.close()


class Callbacks:
    """The posts under way. Reports on one message follow each other; those on different messages do not wait.

    :param world: where results are kept, and later attempts are scheduled.
    :param clock: the sandbox's clock, on which the gaps between attempts pass.
    :param password: the key of the signature.
    :param allow_remote: whether other machines may be called.
    """

    def __init__(self, world: World, clock: Clock, password: str, *, allow_remote: bool) -> None:
        self._world = world
        self._clock = clock
        self._password = password
        self._allow_remote = allow_remote
        self._lines: dict[str, deque[Post]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_retry: Callable[[], None] | None = None
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="sandbox-callback")

    def take_over(self, outbox: deque[Post]) -> None:
        """Start posting what is in the outbox, and empty it.

        :param outbox: reports in the order of their changes.
        """
        while outbox:
            report = outbox.popleft()
            omnimessage_id = report.message.omnimessage_id
            if omnimessage_id in self._lines:
                self._lines[omnimessage_id].append(report)
                continue
            self._lines[omnimessage_id] = deque([report])
            task = asyncio.get_running_loop().create_task(self._work_off(omnimessage_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def idle(self) -> None:
        """Wait until nothing is under way."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def forget(self) -> None:
        """Drop everything: an attempt under way goes on, its result is not kept."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self._lines.clear()

    def close(self) -> None:
        """Drop everything for good."""
        self.forget()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _work_off(self, omnimessage_id: str) -> None:
        line = self._lines[omnimessage_id]
        while line:
            await self._attempt(line.popleft())
        del self._lines[omnimessage_id]

    async def _attempt(self, report: Post) -> None:
        url = report.message.body["dlr_url"]
        started = self._clock.now
        status, problem = await self._try(url, json.dumps(report.report).encode())
        self._world.record_post(
            report.message,
            {
                "at": started.isoformat(),
                "url": url,
                "status": report.report["status"],
                "attempt": report.attempt,
                "answer": status,
                "problem": problem,
            },
        )
        if problem and problem != REFUSED and report.attempt <= len(GAPS):
            gap = timedelta(seconds=GAPS[report.attempt - 1])
            again = report._replace(attempt=report.attempt + 1)
            self._world.schedule(started + gap, lambda subject, _: self._world.outbox.append(subject), again)
            if self.on_retry:
                self.on_retry()

    async def _try(self, url: str, body: bytes) -> tuple[int | None, str | None]:
        try:
            if not self._allow_remote and not is_loopback(urlsplit(url).hostname or ""):
                return None, REFUSED
            status = await asyncio.get_running_loop().run_in_executor(
                self._threads, post, url, body, sign(body, self._password)
            )
        except (OSError, http.client.HTTPException, ValueError) as error:
            return None, str(error) or type(error).__name__
        return status, None if 200 <= status <= 399 else f"answered {status}"
