"""The command that runs the receiver as a process of its own."""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from pathlib import Path

from airflow_provider_omnimessage.cli.inputs import require_writable
from airflow_provider_omnimessage.cli.terminal import errors_in_one_line
from airflow_provider_omnimessage.receiver import config, server


def run(args: Namespace) -> None:
    """Run the receiver until it is stopped."""
    with errors_in_one_line():
        require_writable(args.announce, "announce")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    level = logging.DEBUG if getattr(args, "verbose", False) else logging.INFO
    logging.getLogger("airflow_provider_omnimessage").setLevel(level)
    try:
        server.run(
            host=args.host,
            port=args.port,
            database=args.database or config.database_url(),
            retention_days=config.retention_days(),
            announce=Path(args.announce) if args.announce else None,
            on_start=_welcome,
        )
    except (server.StartError, config.OptionError) as error:
        print(f"receiver: {error}", file=sys.stderr)
        sys.exit(1)


def _welcome(url: str) -> None:
    print(f"Receiver: {url}")
    print("Ctrl+C stops it.", flush=True)
