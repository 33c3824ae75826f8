"""The rendered parameters of a bulk send."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_omnimessage.api.bulk import Composer
from airflow_provider_omnimessage.api.estimate import Estimate
from airflow_provider_omnimessage.bulk.estimate import load_prices
from airflow_provider_omnimessage.bulk.pending import OnPast
from airflow_provider_omnimessage.bulk.rows import read_rows
from airflow_provider_omnimessage.hooks.choosing import rules_of

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk import ObjectStoragePath

    from airflow_provider_omnimessage.hooks.settings import Settings


@dataclass(frozen=True)
class BulkSettings:
    """
    The rendered parameters of a bulk send, see
    :class:`~airflow_provider_omnimessage.operators.bulk.ScheduleBulkOmnimessageOperator`.

    :param defaults: ``dlr_url``, ``text_store`` and ``priority`` of the task.
    """

    omnimessages: object
    recipients: object
    messages: object
    time_to_send: object
    timezone: str | None
    on_past: OnPast
    on_invalid: Literal["fail", "drop"]
    max_failed: float
    batch_size: int
    parallel: int
    results_path: str | ObjectStoragePath | None
    defaults: Mapping[str, str | None]
    at_least_once: bool
    durable: bool
    window: object = None
    on_unknown_zone: str = "fail"
    prices: Mapping[str, float] | str | ObjectStoragePath | None = None
    budget: float | None = None

    def read_rows(self, context: Mapping[str, Any]) -> Iterator[object]:
        """Read the source of rows, once."""
        if self.omnimessages is None:
            return read_rows("recipients", self.recipients, context)
        return read_rows("omnimessages", self.omnimessages, context)

    def make_estimate(self) -> Estimate | None:
        """Return what counts the cost; ``None``: there is no budget."""
        return None if self.budget is None else Estimate(load_prices(self.prices))

    def make_composer(self, connection: Settings, since: datetime) -> Composer:
        """
        Return what builds the omnimessage of each row.

        :param since: a timedelta is added to it, also by retries.
        """
        own = self.defaults
        return Composer(
            messages=self.messages if self.omnimessages is None else None,
            defaults={
                "dlr_url": own["dlr_url"] or connection.dlr_url,
                "text_store": own["text_store"] or connection.text_store,
                "priority": own["priority"] or connection.priority,
            },
            sender=connection.sender,
            rules=rules_of(
                connection,
                time_to_send=None if self.time_to_send in ("", "None") else self.time_to_send,
                timezone=self.timezone,
                window=self.window,
                on_unknown_zone=self.on_unknown_zone,
            ),
            now=since,
        )
