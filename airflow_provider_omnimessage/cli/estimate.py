"""The command that estimates what a bulk send will cost."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from airflow_provider_omnimessage.api.bulk import Composer
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.estimate import unpriced_in_words
from airflow_provider_omnimessage.bulk.arguments import check_input
from airflow_provider_omnimessage.bulk.estimate import estimate_rows, load_prices
from airflow_provider_omnimessage.bulk.rows import CSV, read_rows, require_source
from airflow_provider_omnimessage.cli.inputs import read_messages, reading
from airflow_provider_omnimessage.cli.terminal import Exit, TerminalHook, command, print_progress, print_rows
from airflow_provider_omnimessage.hooks.choosing import rules_of


@command()
def estimate(args: Namespace) -> Exit:
    """Check a file of recipients, or of whole messages, and print what sending it would cost. Nothing is sent."""
    messages = read_messages(args)
    _check_file(args.file, messages)
    settings = TerminalHook(args.conn_id).settings
    composer = Composer(
        messages=messages,
        defaults={},
        sender=settings.sender,
        rules=rules_of(
            settings,
            time_to_send=args.time_to_send,
            timezone=args.timezone,
            window=args.window,
            on_unknown_zone=args.on_unknown_zone,
        ),
        now=datetime.now(timezone.utc),
    )
    with reading("prices"):
        prices = load_prices(args.prices)
    found = estimate_rows(composer, _rows(args.file), prices, past_advice="use a future time")
    if not found["rows"]:
        raise InvalidInputError.of("FILE", "has no rows; check the path")
    if args.output == "json":
        print(json.dumps(found))
    else:
        _print_tables(found, args.output)
    return Exit.NOT_DELIVERED if found["rejected"] else Exit.DONE


def _check_file(file: str, messages: Any) -> None:
    require_source("FILE", file)
    if messages is not None:
        check_input(None, file, messages)
    elif file.lower().endswith(CSV):
        raise InvalidInputError.of(
            "FILE",
            "a CSV file holds recipients; pass their text with --text-file or --text, or --messages-file, or use a "
            ".jsonl file of whole messages",
        )


def _rows(file: str) -> Iterator[object]:
    with reading("FILE"):
        yield from read_rows("FILE", file, {})


def _print_tables(found: dict[str, Any], output: str) -> None:
    names = ("rows", "recipients", "rejected", "dropped", "sms_parts", "price", "unpriced")
    print_rows([{name: found[name] for name in names}], output)
    if found["most_parts"]:
        if found["recipients"] > len(found["most_parts"]):
            print_rows(found["per_parts"], output)
            print_progress(
                f"The {len(found['most_parts'])} recipients with the most SMS parts; --output json has all rows:"
            )
        listed = ("row", "to", "sms_parts", "price", "chosen", "reason")
        print_rows([{name: each[name] for name in listed} for each in found["most_parts"]], output)
        print_rows(found["per_hour"], output)
    if found["unpriced"]:
        print_progress(unpriced_in_words(found["unpriced_codes"]))
    for problem in found["problems"]:
        print_progress(problem)
