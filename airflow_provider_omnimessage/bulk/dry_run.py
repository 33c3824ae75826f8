"""The dry run of a bulk send: everything is checked and priced, nothing is sent or stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage.bulk.estimate import estimate_rows, load_prices
from airflow_provider_omnimessage.bulk.settings import BulkSettings
from airflow_provider_omnimessage.tasks.failures import task_failures

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook


def dry_run(hook: OmnimessageHook, settings: BulkSettings, context: Mapping[str, Any], log: Logger) -> dict[str, Any]:
    """Return the estimate of a bulk send, and log it."""
    with task_failures():
        composer = settings.make_composer(hook.settings, datetime.now(timezone.utc))
        estimate = estimate_rows(composer, settings.read_rows(context), load_prices(settings.prices))
    log.info(
        "Dry run, nothing was sent: %s of %s rows can be sent, with %s SMS parts; price: %s",
        f"{estimate['recipients']:,}",
        f"{estimate['rows']:,}",
        f"{estimate['sms_parts']:,}",
        "unknown" if estimate["price"] is None else f"{estimate['price']:,.2f}",
    )
    for each in estimate["per_parts"]:
        log.info("With %s SMS parts: %s recipients", each["sms_parts"], f"{each['recipients']:,}")
    for problem in estimate["problems"]:
        log.info("Rejected: %s", problem)
    return estimate
