"""The dry run of a bulk send: everything is checked and priced, nothing is sent or stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage.api.estimate import counted, price_as_text, unpriced_in_words
from airflow_provider_omnimessage.bulk.estimate import estimate_rows, load_prices
from airflow_provider_omnimessage.bulk.settings import BulkSettings
from airflow_provider_omnimessage.tasks.arguments import ON_PAST, require_choice
from airflow_provider_omnimessage.tasks.failures import task_failures

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook


def dry_run(hook: OmnimessageHook, settings: BulkSettings, context: Mapping[str, Any], log: Logger) -> dict[str, Any]:
    """Return the estimate of a bulk send, and log it."""
    with task_failures():
        require_choice("on_past", settings.on_past, ON_PAST, rendered=True)
        composer = settings.make_composer(hook.settings, datetime.now(timezone.utc))
        prices = load_prices(settings.prices)
        estimate = estimate_rows(composer, settings.read_rows(context), prices, on_past=settings.on_past)
    log.info(
        "Dry run, nothing was sent: %s of %s can be sent, with %s; price: %s",
        f"{estimate['recipients']:,}",
        counted(estimate["rows"], "row"),
        counted(estimate["sms_parts"], "SMS part"),
        price_in_words(estimate),
    )
    for each in estimate["per_parts"]:
        log.info("With %s: %s", counted(each["sms_parts"], "SMS part"), counted(each["recipients"], "recipient"))
    if estimate["dropped"]:
        log.info("Dropped: %s whose time zone is unknown (on_unknown_zone='drop')", counted(estimate["dropped"], "row"))
    if estimate["skipped"]:
        log.info("Skipped: %s whose time is in the past (on_past='skip')", counted(estimate["skipped"], "row"))
    if estimate["rejected"]:
        log.info("Rejected: %s. The first problems:", counted(estimate["rejected"], "row"))
    for problem in estimate["problems"]:
        log.info("Rejected: %s", problem)
    return estimate


def price_in_words(estimate: Mapping[str, Any]) -> str:
    """Return the price of an estimate, with how many recipients have none."""
    if estimate["price"] is None:
        return "unknown"
    if not estimate["unpriced"]:
        return price_as_text(estimate["price"])
    with_sms = sum(each["recipients"] for each in estimate["per_parts"] if each["sms_parts"])
    price = "unknown" if estimate["unpriced"] == with_sms else price_as_text(estimate["price"])
    return f"{price}; {unpriced_in_words(estimate['unpriced_codes'])}"
