"""
What a bulk send leaves: a compact table in its XCom, or a file with a line for each row and a pointer to it.

Both hold every row of the input in its order, whatever became of it. Who comes after it, to cancel or to wait, reads
either.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

from airflow_provider_omnimessage._compat import object_storage_path
from airflow_provider_omnimessage.api.errors import InvalidInputError

State = Literal["accepted", "refused", "unknown", "invalid", "skipped", "not_sent"]

#: What can become of a row, in the order in which it is told.
STATES: tuple[State, ...] = ("accepted", "refused", "unknown", "invalid", "skipped", "not_sent")
#: Beside a file, so many reasons are told in the XCom, each with so many rows.
REASONS_TOLD = 20
ROWS_TOLD = 10
_LONGEST_REASON = 300


class RowResult(NamedTuple):
    """
    What became of one row.

    :param row: its number, from 1.
    :param state: one of :data:`STATES`.
    :param omnimessage_id: where it was accepted.
    :param moment: when it is sent: ISO 8601 in UTC; ``None``: at once, or not at all.
    :param error: why it was not accepted.
    """

    row: int
    state: State
    omnimessage_id: str | None = None
    moment: str | None = None
    error: str | None = None


class Results(Protocol):
    """Takes results in the order of the rows, and says in the end what the XCom holds."""

    counts: Counter[str]

    def add(self, result: RowResult) -> None:
        """
        Take the next one.

        :param result: of the row after the one before.
        """

    def close(self) -> dict[str, Any]:
        """Give the XCom; a file is complete when this returns."""


class ResultsTable:
    """The results as one compact XCom: columns, and errors by their reason."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._ids: list[str | None] = []
        self._moments: list[str | None] = []
        self._errors: dict[str, list[int]] = {}

    def add(self, result: RowResult) -> None:
        """
        Take the next one.

        :param result: of the row after the one before.
        """
        self.counts[result.state] += 1
        self._ids.append(result.omnimessage_id)
        # most have the same moment as the one before, and share it
        last = self._moments[-1] if self._moments else None
        self._moments.append(last if result.moment == last else result.moment)
        if result.error is not None:
            self._errors.setdefault(_short(result.error), []).append(result.row)

    def close(self) -> dict[str, Any]:
        """Give the XCom."""
        distinct = {moment for moment, id_ in zip(self._moments, self._ids, strict=True) if id_ is not None}
        return {
            **_counted(self.counts),
            "omnimessage_id": self._ids,
            "time_to_send": next(iter(distinct), None) if len(distinct) < 2 else self._moments,
            "errors": [{"error": error, "rows": rows} for error, rows in self._errors.items()],
        }


class ResultsFile:
    """
    The results as a file of JSON Lines.

    They are written beside the worker first, and copied when they are complete: an object store takes whole objects.

    :param path: where, as :func:`~airflow_provider_omnimessage._compat.object_storage_path` takes it.
    """

    def __init__(self, path: Any) -> None:
        self.counts: Counter[str] = Counter()
        self._path = object_storage_path(path)
        self._named = _with_connection(path, self._path)
        self._first_id: str | None = None
        self._errors: dict[str, list[int]] = {}
        self._error_counts: Counter[str] = Counter()
        self._beside = tempfile.TemporaryFile()  # noqa: SIM115 - goes with this object

    def require_writable(self) -> None:
        """Find out before anything is sent that the file cannot be written."""
        if str(self._path.protocol or "file") in ("file", "local"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            mode = "ab"
        else:
            # not every object store can append; one that is there was written by this connection before
            if self._path.exists():
                return
            mode = "wb"
        # what an earlier run has left stays until there is more to tell: it may be all that names its messages
        with self._path.open(mode) as file:
            file.write(b"")

    def add(self, result: RowResult) -> None:
        """
        Take the next one.

        :param result: of the row after the one before.
        """
        self.counts[result.state] += 1
        line = {
            "row": result.row,
            "state": result.state,
            "omnimessage_id": result.omnimessage_id,
            "time_to_send": result.moment,
            "error": result.error,
        }
        self._beside.write(json.dumps(line).encode() + b"\n")
        self._first_id = self._first_id or result.omnimessage_id
        if result.error is not None:
            reason = _short(result.error)
            if reason in self._errors or len(self._errors) < REASONS_TOLD:
                self._error_counts[reason] += 1
                rows = self._errors.setdefault(reason, [])
                if len(rows) < ROWS_TOLD:
                    rows.append(result.row)

    def close(self) -> dict[str, Any]:
        """Write the file, and give the pointer to it."""
        self._beside.seek(0)
        with self._path.open("wb") as file:
            shutil.copyfileobj(self._beside, file)
        return {
            **_counted(self.counts),
            "results": self._named,
            "first_omnimessage_id": self._first_id,
            "errors": [
                {"error": error, "count": self._error_counts[error], "first_rows": rows}
                for error, rows in self._errors.items()
            ],
        }

    def as_table(self) -> ResultsTable:
        """Read back what was written beside the worker: what is left to report where the file cannot be written."""
        table = ResultsTable()
        self._beside.seek(0)
        for line in self._beside:
            said = json.loads(line)
            table.add(
                RowResult(said["row"], said["state"], said["omnimessage_id"], said["time_to_send"], said["error"])
            )
        return table


def is_result(value: object) -> bool:
    """
    Tell the XCom of a bulk send from an id, or a list of ids.

    :param value: what a task was given.
    """
    return isinstance(value, Mapping) and "accepted" in value and ("results" in value or "omnimessage_id" in value)


def accepted_in(result: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """
    Go through the messages that a bulk send has had accepted.

    :param result: its XCom. A file is read as a stream.
    :return: each id, and when it is sent: ISO 8601 in UTC, or ``None`` for sent at once.
    """
    if "results" in result:
        yield from _whole_file(result)
        return
    ids, moments = result["omnimessage_id"], result["time_to_send"]
    each: Iterable[str | None] = moments if isinstance(moments, list) else [moments] * len(ids)
    for omnimessage_id, moment in zip(ids, each, strict=True):
        if omnimessage_id is not None:
            yield omnimessage_id, moment


def read_file(path: str) -> Iterator[tuple[str, str | None]]:
    """
    Go through the accepted messages of a file of results.

    :param path: where it is.
    :return: each id, and when it is sent: ISO 8601 in UTC, or ``None`` for sent at once.
    """
    with object_storage_path(path).open("rb") as lines:
        for line in lines:
            said = json.loads(line)
            if said["omnimessage_id"] is not None:
                yield said["omnimessage_id"], said["time_to_send"]


def _whole_file(result: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Read a file of results, and refuse one that is cut short, or that another run has written since."""
    count, first = 0, None
    try:
        for omnimessage_id, moment in read_file(result["results"]):
            count, first = count + 1, first or omnimessage_id
            yield omnimessage_id, moment
    except (ValueError, KeyError, TypeError):
        count = -1
    if count != result["accepted"] or first != result.get("first_omnimessage_id", first):
        raise InvalidInputError.of(
            "results",
            f"the file does not hold the {result['accepted']:,} messages that were accepted: it is cut short, or was "
            "written again since; give each task and run a results_path of its own",
        )


def in_words(counts: Mapping[str, int]) -> str:
    """
    Say what became of the rows: ``9,990 accepted, 10 refused``.

    :param counts: by state.
    """
    told = [f"{counts[state]:,} {state.replace('_', ' ')}" for state in STATES if counts.get(state)]
    return ", ".join(told) or "no rows"


def _counted(counts: Mapping[str, int]) -> dict[str, int]:
    return {"messages": sum(counts.values()), **{state: counts.get(state, 0) for state in STATES}}


def _short(reason: str) -> str:
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 1]}…"


def _with_connection(given: Any, path: Any) -> str:
    """Name a path so that whoever reads the XCom finds it with the same connection."""
    conn_id = getattr(path, "conn_id", None)
    if isinstance(given, str) or not conn_id:
        return str(given)
    scheme, _, rest = str(path).partition("://")
    return f"{scheme}://{conn_id}@{rest}"
