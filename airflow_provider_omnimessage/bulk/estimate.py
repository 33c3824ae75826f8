"""Check and price a bulk send without sending anything: the dry run of the task, and the command ``estimate``."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage._compat import object_storage_path
from airflow_provider_omnimessage.api.bulk import Composer
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.estimate import Estimate, Prices
from airflow_provider_omnimessage.api.lists import structure_in
from airflow_provider_omnimessage.bulk.check import CheckedRows, StoredBatches
from airflow_provider_omnimessage.bulk.rows import Spool

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath


def load_prices(value: Mapping[str, float] | str | ObjectStoragePath | None) -> Prices | None:
    """
    Return the prices of SMS parts.

    :param value: a mapping of country prefixes to prices, also as text: what a template renders; the path of a JSON
        file with one, or of a CSV file with the columns ``prefix`` and ``price``; ``None``: there are none.
    :raises InvalidInputError: if they cannot be read.
    """
    if value in (None, "", "None"):
        return None
    if isinstance(value, Mapping) or (isinstance(value, str) and structure_in(value) is not None):
        return Prices.of(value)
    name = str(value).lower()
    if not name.endswith((".json", ".csv")):
        raise InvalidInputError.of(
            "prices", "is not a file of prices; use a path that ends in .json or .csv, or a dict"
        )
    try:
        with object_storage_path(value).open("r", encoding="utf-8-sig") as file:
            if name.endswith(".json"):
                return Prices.of(json.load(file))
            return Prices.of({row["prefix"]: row["price"] for row in csv.DictReader(file)})
    except InvalidInputError:
        raise
    except KeyError:
        raise InvalidInputError.of("prices", "the file lacks a column; its first line must be prefix,price") from None
    except (OSError, ValueError, csv.Error) as error:
        raise InvalidInputError.of("prices", f"the file cannot be read: {error}") from None


def estimate_rows(composer: Composer, rows: Iterable[object], prices: Prices | None) -> dict[str, Any]:
    """
    Check rows as a bulk send does, and return what they would cost.

    :return: the summary of an :class:`~airflow_provider_omnimessage.api.estimate.Estimate`, and ``rows``, ``rejected``
        and ``problems``: the first problems, in words.
    """
    estimate = Estimate(prices)
    with Spool() as spool:
        # one batch of everything: nothing is stored, so batches do not matter
        checked = CheckedRows(composer, spool, StoredBatches(1_000_000_000, ""), reject_past=True, estimate=estimate)
        checked.add_all(rows)
        found = checked.problems.as_error(spool.rows).problems if checked.problems.rows else []
        return {
            "rows": spool.rows,
            "rejected": checked.problems.rows,
            "dropped": checked.dropped,
            "problems": [str(each) for each in found],
            **estimate.as_dict(),
            **checked.windows.as_dict(),
        }
