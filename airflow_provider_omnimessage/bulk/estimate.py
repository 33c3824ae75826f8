"""Check and price a bulk send without sending anything: the dry run of the task, and the command ``estimate``."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage.api.bulk import Composer
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.estimate import Estimate, Prices
from airflow_provider_omnimessage.api.lists import structure_in
from airflow_provider_omnimessage.api.masking import mask_numbers
from airflow_provider_omnimessage.bulk.check import PAST_ADVICE, CheckedRows, StoredBatches
from airflow_provider_omnimessage.bulk.files import open_text
from airflow_provider_omnimessage.bulk.pending import OnPast
from airflow_provider_omnimessage.bulk.rows import Spool

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath


def load_prices(value: Mapping[str, float] | str | ObjectStoragePath | None) -> Prices | None:
    """
    Return the prices of SMS parts.

    :param value: a mapping of country prefixes to prices, also as text: what a template renders; the path of a JSON
        file with one, or of a CSV file with the columns ``prefix`` and ``price``; ``None``: there are none.
    :raises InvalidInputError: if they are not prices.
    :raises OSError: if the file cannot be read. It may pass, so that a task uses its retries.
    """
    if value in (None, "", "None"):
        return None
    if isinstance(value, Mapping) or (isinstance(value, str) and structure_in(value) is not None):
        items = _items_in_json(value)
        return Prices.of(value) if items is None else Prices(items)
    name = str(value).lower()
    if not name.endswith((".json", ".csv")):
        raise InvalidInputError.of(
            "prices", "is not a file of prices; use a path that ends in .json or .csv, or a dict"
        )
    with open_text("prices", value) as file:
        try:
            return Prices(_priced_in_csv(file) if name.endswith(".csv") else _priced_in_json(file))
        except InvalidInputError:
            raise
        except (ValueError, RecursionError, csv.Error) as error:
            raise InvalidInputError.of("prices", f"the file cannot be read: {error}") from None


def _items_in_json(value: object) -> _Items | None:
    """Return the items of an object that a template has rendered as JSON; ``None``: it is something else."""
    try:
        items = json.loads(value, object_pairs_hook=_Items) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        return None
    return items if isinstance(items, _Items) else None


def _priced_in_json(file: Iterable[str]) -> list[tuple[str, Any]]:
    prices = json.loads("".join(file), object_pairs_hook=_Items)  # a dict would keep the last price of a prefix only
    if not isinstance(prices, _Items):
        raise InvalidInputError.of("prices", 'the file does not hold a JSON object; write it as {"372": 0.05}')
    return prices


def _priced_in_csv(file: Iterable[str]) -> Iterator[tuple[str, Any]]:
    reader = csv.DictReader(file, strict=True)
    for row in reader:
        if "prefix" not in row or "price" not in row:
            raise InvalidInputError.of("prices", "the file lacks a column; its first line must be prefix,price")
        if None in row:
            raise InvalidInputError.of(
                "prices",
                f"line {reader.line_num:,} of the file has more cells than its first line; write prices as 0.05",
            )
        yield row["prefix"], row["price"]


class _Items(list[tuple[str, Any]]):
    """The items of a JSON object."""


def estimate_rows(
    composer: Composer,
    rows: Iterable[object],
    prices: Prices | None,
    *,
    on_past: OnPast = "fail",
    past_advice: str = PAST_ADVICE,
) -> dict[str, Any]:
    """
    Check rows as a bulk send does, and return what they would cost.

    :param on_past: what happens to a row whose time is in the past.
    :param past_advice: what to do about such a time if it is rejected.
    :return: the summary of an :class:`~airflow_provider_omnimessage.api.estimate.Estimate` of the rows that would be
        sent; ``rows``, and how many of them are ``rejected``, ``dropped`` or ``skipped`` instead; and ``problems``: the
        first problems of rejected rows, in words.
    """
    estimate = Estimate(prices)
    with Spool() as spool:
        # one batch of everything: nothing is stored, so batches do not matter
        batches = StoredBatches(1_000_000_000, "")
        checked = CheckedRows(composer, spool, batches, on_past=on_past, past_advice=past_advice, estimate=estimate)
        checked.add_all(rows)
        return {
            "rows": spool.rows,
            "rejected": checked.problems.rows,
            "dropped": checked.dropped,
            "skipped": checked.skipped,
            "problems": [mask_numbers(str(each)) for each in checked.problems.reported],
            **estimate.as_dict(spool.rows),
            **checked.windows.as_dict(),
        }
