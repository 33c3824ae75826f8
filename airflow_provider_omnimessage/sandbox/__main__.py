"""``python -m airflow_provider_omnimessage.sandbox``: runs a sandbox until it is stopped."""

from __future__ import annotations

import argparse
import gc
import json
import os
import shlex
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_omnimessage.sandbox.server import Sandbox


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_omnimessage.sandbox",
        description="An embedded Messente for development, demos and tests. It sends no real messages.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8025, help="the port to listen on; 0 picks a free one (default: %(default)s)"
    )
    parser.add_argument("--username", default="sandbox", help="the API username (default: %(default)s)")
    parser.add_argument("--password", default="sandbox", help="the API password (default: %(default)s)")
    parser.add_argument(
        "--delivery-seconds",
        type=float,
        default=2.0,
        help="how long a channel takes from the first try to its final status (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-remote-callbacks",
        action="store_true",
        help="also post delivery reports and replies to other machines",
    )
    parser.add_argument(
        "--block-repeated-text",
        action="store_true",
        help="reject the same text to the same number within an hour (error 6), whatever the number",
    )
    parser.add_argument(
        "--announce", type=Path, metavar="FILE", help="write url, inbox and pid to FILE as JSON once it listens"
    )
    return parser.parse_args(argv)


def _fail(message: str) -> int:
    print(f"sandbox: {message}", file=sys.stderr)
    return 1


def _announce(sandbox: Sandbox, file: Path) -> None:
    content = json.dumps({"url": sandbox.url, "inbox": sandbox.inbox_url, "pid": os.getpid()})
    # Renamed into place, so that no reader sees half of the file.
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_text(content + "\n", encoding="utf-8")
    draft.replace(file)


def _welcome(sandbox: Sandbox) -> None:
    if not sandbox.on_loopback:
        print(
            "sandbox: WARNING: other machines can reach this sandbox. Anyone who knows its username and password can "
            "read its messages and set its clock.",
            file=sys.stderr,
        )
    print(f"Inbox: {sandbox.inbox_url}")
    print(f"export AIRFLOW_CONN_OMNIMESSAGE_DEFAULT={shlex.quote(sandbox.airflow_conn)}")
    print("Press Ctrl+C to stop.", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Run the sandbox until SIGINT or SIGTERM.

    :param argv: the arguments; default: the command line.
    """
    options = _arguments(argv)
    try:
        from airflow_provider_omnimessage.sandbox.server import Sandbox
    except ImportError as error:
        return _fail(str(error))
    # Messages stay in memory: collecting garbage among them often costs time and frees nothing.
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        sandbox = Sandbox(
            options.username,
            options.password,
            host=options.host,
            port=options.port,
            delivery_seconds=options.delivery_seconds,
            allow_remote_callbacks=options.allow_remote_callbacks,
            block_repeated_text=options.block_repeated_text,
        )
        with sandbox:
            if options.announce:
                _announce(sandbox, options.announce)
            _welcome(sandbox)
            while not stop.wait(1.0):
                if not sandbox.running:
                    return _fail("the server stopped unexpectedly")
    except (OSError, ValueError, OverflowError) as error:
        return _fail(f"cannot listen on {options.host} port {options.port}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
