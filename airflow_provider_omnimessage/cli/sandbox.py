"""The command that runs the sandbox."""

from __future__ import annotations

import sys
from argparse import Namespace

from airflow_provider_omnimessage.cli.inputs import require_writable
from airflow_provider_omnimessage.cli.terminal import errors_in_one_line


def sandbox(args: Namespace) -> None:
    """Run the sandbox until Ctrl+C."""
    from airflow_provider_omnimessage.sandbox.__main__ import main

    with errors_in_one_line():
        require_writable(args.announce, "announce")

    options = {
        "--host": args.host,
        "--port": args.port,
        "--username": args.username,
        "--password": args.password,
        "--delivery-seconds": args.delivery_seconds,
        "--announce": args.announce,
    }
    sys.exit(main([f"{name}={value}" for name, value in options.items() if value is not None]))
