"""The command that runs the sandbox."""

from __future__ import annotations

import sys
from argparse import Namespace


def sandbox(args: Namespace) -> None:
    """Run the sandbox until Ctrl+C."""
    from airflow_provider_omnimessage.sandbox.__main__ import main

    options = {
        "--host": args.host,
        "--port": args.port,
        "--username": args.username,
        "--password": args.password,
        "--delivery-seconds": args.delivery_seconds,
        "--announce": args.announce,
    }
    sys.exit(main([f"{name}={value}" for name, value in options.items() if value is not None]))
