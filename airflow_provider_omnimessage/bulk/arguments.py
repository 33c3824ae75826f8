"""Check the arguments of a bulk send while the DAG is parsed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_omnimessage.api.bulk import MOST_IN_A_CALL
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.fields import Problems, integer, is_deferred, limit
from airflow_provider_omnimessage.api.lists import plain, plain_argument
from airflow_provider_omnimessage.api.messages import draft_messages
from airflow_provider_omnimessage.api.placeholders import as_draft, compile_placeholders
from airflow_provider_omnimessage.bulk.rows import require_source

MOST_PARALLEL = 10

_BATCH_SIZE = integer(most=MOST_IN_A_CALL, unit="rows")
_PARALLEL = integer(most=MOST_PARALLEL, unit="calls")


def require_numbers(batch_size: object, parallel: object, max_failed: object) -> None:
    """
    Raise unless the numbers are in their ranges.

    :raises InvalidInputError: names each parameter that is wrong.
    """
    problems = Problems()
    _BATCH_SIZE(batch_size, "batch_size", problems)
    _PARALLEL(parallel, "parallel", problems)
    limit()(max_failed, "max_failed", problems)
    problems.raise_if_any()


def require_results_path(path: object, *, rendered: bool = False) -> None:
    """
    Raise unless the path can be that of a results file, or is a template that is not rendered yet.

    :param rendered: whether templates are rendered by now.
    """
    if path is None or (is_deferred(path) and not rendered):
        return
    if not str(path).lower().endswith(".jsonl"):
        raise InvalidInputError.of(
            "results_path", "does not end in .jsonl; the results are JSON Lines, so use a name such as results.jsonl"
        )


def check_input(omnimessages: object, recipients: object, messages: object) -> Any:
    """
    Check what to send, as far as it is known, and return the messages as plain dicts.

    :param omnimessages: rows that are whole messages.
    :param recipients: rows that all get the same messages.
    :param messages: what each of the recipients gets.
    :raises InvalidInputError: names the parameter that is wrong.
    """
    if (omnimessages is None) == (recipients is None):
        state = "are both missing" if omnimessages is None else "are both set"
        raise InvalidInputError.of("omnimessages", f"and recipients {state}; set one of them")
    if recipients is None:
        if messages is not None:
            raise InvalidInputError.of("messages", "is set, but omnimessages have their own messages; leave it out")
        require_source("omnimessages", omnimessages)
        if isinstance(omnimessages, str) and omnimessages.lower().endswith(".csv"):
            raise InvalidInputError.of(
                "omnimessages", "a CSV file holds recipients; set recipients and messages, or use a .jsonl file"
            )
        return None
    if messages is None:
        raise InvalidInputError.of("messages", "is missing; pass what each of the recipients gets")
    require_source("recipients", recipients)
    return messages if is_deferred(messages) else _check_messages(messages)


def _check_messages(messages: object) -> Any:
    entries: Any = plain_argument(messages)
    if isinstance(messages, (list, tuple)):
        entries = [each if is_deferred(each) else plain(each) for each in messages]
    problems = Problems(draft=True)
    compile_placeholders(entries, "messages", problems)
    problems.raise_if_any()
    draft_messages(as_draft(entries))
    # Airflow knows by its identity what came from an XCom, and does not render it: keep a list without objects
    has_objects = isinstance(messages, (list, tuple)) and not all(
        isinstance(each, Mapping) or is_deferred(each) for each in messages
    )
    return entries if has_objects else messages
