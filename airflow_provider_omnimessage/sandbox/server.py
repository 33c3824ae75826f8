"""Runs a sandbox in a thread of this process."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from types import TracebackType
from typing import Final

try:
    import uvicorn

    from airflow_provider_omnimessage.sandbox.app import SandboxApp
except ImportError as error:
    missing = (error.name or "").partition(".")[0]
    if missing not in ("fastapi", "uvicorn", "pydantic", "starlette"):
        raise
    raise ImportError(
        f"The sandbox requires {missing}, which its extra installs: pip install fastapi uvicorn", name=missing
    ) from error

from airflow_provider_omnimessage.sandbox.client import SandboxClient
from airflow_provider_omnimessage.sandbox.messente_app import Scope
from airflow_provider_omnimessage.sandbox.posting import is_loopback
from airflow_provider_omnimessage.sandbox.state import SandboxState

BACKLOG: Final = 2048
KEEP_ALIVE_SECONDS: Final = 75
STOP_SECONDS: Final = 3


class _Server(uvicorn.Server):
    """A uvicorn server that reports when it listens, ends event streams when it stops, and can reset connections."""

    def __init__(self, config: uvicorn.Config, state: SandboxState) -> None:
        super().__init__(config)
        self._state = state
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._state.stop()
        await super().shutdown(sockets)

    def cut(self, scope: Scope) -> None:
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None and getattr(connection, "client", None) == tuple(scope["client"]):
                peer = transport.get_extra_info("socket")
                # With SO_LINGER at 0 the client sees a reset, not an orderly close.
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                transport.abort()


class Sandbox(SandboxClient):
    """An embedded Messente: a context manager that starts and stops its server.

    .. code-block:: python

        with Sandbox() as sandbox:
            os.environ["AIRFLOW_CONN_OMNIMESSAGE_DEFAULT"] = sandbox.airflow_conn

    :param username: the API username; any characters.
    :param password: the API password; any characters.
    :param host: the address to listen on.
    :param port: the port to listen on; 0 picks a free one.
    :param delivery_seconds: how long a channel takes from the first try to its final status, on the sandbox's clock.
    :param allow_remote_callbacks: whether delivery reports and replies may be posted to other machines.
    :param block_repeated_text: whether the same text to the same number within an hour is rejected with error 6 for
        every number, and not only for those that end in 0018.
    :raises ValueError: ``delivery_seconds`` is negative or too large.
    """

    def __init__(
        self,
        username: str = "sandbox",
        password: str = "sandbox",
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        delivery_seconds: float = 2.0,
        allow_remote_callbacks: bool = False,
        block_repeated_text: bool = False,
    ) -> None:
        if not 0 <= delivery_seconds <= 1e6:
            raise ValueError(f"delivery_seconds: {delivery_seconds} is not accepted; use a number from 0 to 1000000")
        super().__init__("", username, password)
        self._host = host
        self._port = port
        self._delivery_seconds = delivery_seconds
        self._allow_remote_callbacks = allow_remote_callbacks
        self._block_repeated_text = block_repeated_text

    @property
    def inbox_url(self) -> str:
        """The address of the inbox page."""
        if not self._origin:
            raise RuntimeError("The sandbox is not running; use it in a with statement")
        return super().inbox_url

    @property
    def running(self) -> bool:
        """Whether the server is running."""
        return self._thread.is_alive()

    def __enter__(self) -> Sandbox:
        """Start the server. It accepts calls when this returns.

        :raises OSError: the port is in use.
        """
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # asyncio turns off Nagle's algorithm only if the protocol is named; with Nagle, each response takes 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self._port))
        except BaseException:
            listener.close()
            raise
        port = listener.getsockname()[1]
        reachable = self._host
        if self._host in ("", "0.0.0.0", "::"):
            reachable = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self._origin = f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
        state = SandboxState(
            self.username,
            self.password,
            delivery_seconds=self._delivery_seconds,
            allow_remote_callbacks=self._allow_remote_callbacks,
            block_repeated_text=self._block_repeated_text,
        )
        app = SandboxApp(state, lambda scope: self._server.cut(scope), url=self.url, host=self._host)
        config = uvicorn.Config(
            app,
            interface="asgi3",
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
        self._server = _Server(config, state)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._server.serve([listener])), name="sandbox", daemon=True
        )
        self._thread.start()
        while not self._server.listening.wait(0.1):
            if not self._thread.is_alive():
                raise RuntimeError("The sandbox did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self._server.should_exit = True
        self._thread.join()

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the sandbox."""
        return is_loopback(self._host)
