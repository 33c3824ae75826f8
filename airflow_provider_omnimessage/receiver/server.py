"""Runs the receiver as a process of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from airflow_provider_omnimessage.receiver.database import DatabaseError

if TYPE_CHECKING:
    import uvicorn

    from airflow_provider_omnimessage.receiver.service import Receiver

BACKLOG: Final = 2048
KEEP_ALIVE_SECONDS: Final = 75
STOP_SECONDS: Final = 5

log = logging.getLogger(__name__)


class StartError(Exception):
    """The receiver cannot start; the message says why and what to do."""


def run(
    *,
    host: str,
    port: int,
    database: str | None,
    retention_days: float,
    announce: Path | None = None,
    on_start: Callable[[str], None] = lambda url: None,
) -> None:
    """Run the receiver until SIGINT or SIGTERM.

    :param host: the address to listen on.
    :param port: the port to listen on; 0 takes a free one.
    :param database: an SQLAlchemy URL; ``None``: Airflow's metadata database.
    :param retention_days: for how long events are kept.
    :param announce: a file that gets ``url`` and ``pid`` as JSON once the receiver listens.
    :param on_start: called with the URL once the receiver listens.
    :raises StartError: if something is missing, the port is taken, or the database cannot be used.
    """
    try:
        import airflow.models.connection  # noqa: F401 - takes a second, which the first report must not wait for

        from airflow_provider_omnimessage.receiver.app import create_app
        from airflow_provider_omnimessage.receiver.database import check_reachable, open_database
        from airflow_provider_omnimessage.receiver.service import Receiver
    except ImportError as error:
        raise missing_package(error) from error
    listener = _listen(host, port)
    with listener:
        try:
            engine = open_database(database)
            check_reachable(engine)
            receiver = Receiver(lambda: engine, retention_days=retention_days)
            receiver.set_up()
        except DatabaseError as error:
            raise StartError(str(error)) from error
        url = _url(host, listener)

        def announce_start() -> None:
            if announce is not None:
                _announce(announce, url)
            on_start(url)

        server = _server(create_app(receiver, starts_receiver=False), receiver, announce_start)
        asyncio.run(_serve(server, receiver, listener))


def missing_package(error: ImportError) -> StartError:
    """Return the error for a package that is not installed; raise what is something else."""
    package = (error.name or "").partition(".")[0]
    if package not in ("fastapi", "starlette", "pydantic", "uvicorn", "sqlalchemy", "alembic"):
        raise error
    return StartError(f"the receiver needs {package}; pip install '.[receiver]'")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # named as TCP, because asyncio turns Nagle's algorithm off only then
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # a second receiver must fail here, and not only once both of them listen
        listener.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise StartError(
            f"port: {host} port {port} cannot be used ({error}); choose another with --host and --port (0 picks a "
            "free one)"
        ) from error
    return listener


def _url(host: str, listener: socket.socket) -> str:
    reachable = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    port = listener.getsockname()[1]
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"


def _announce(file: Path, url: str) -> None:
    # renamed into place, so that no reader sees half of it
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_text(json.dumps({"url": url, "pid": os.getpid()}) + "\n", encoding="utf-8")
    draft.replace(file)


def _server(app: object, receiver: Receiver, on_start: Callable[[], None]) -> uvicorn.Server:
    try:
        import uvicorn
    except ImportError as error:
        raise missing_package(error) from error

    class Server(uvicorn.Server):
        """A uvicorn that says when it listens, and lets long polls end when it stops."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_start()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            receiver.let_go()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    return Server(config)


async def _serve(server: uvicorn.Server, receiver: Receiver, listener: socket.socket) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises a signal that stopped it once more when it is done: that is no reason to die of it
        signal.signal(number, lambda *_: None)
    receiver.start()
    try:
        await server.serve([listener])
    finally:
        receiver.stop()
