"""
The output of a bulk send: a compact table in its XCom, or a file with a line for each row and a pointer to it.

Both hold every row of the input, in order. Tasks that cancel or wait read either, through :func:`accepted_in`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeGuard

from airflow_provider_omnimessage._compat import object_storage_path
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.lists import entries

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

State = Literal["accepted", "rejected", "unknown", "invalid", "skipped", "not_sent"]

#: The states of a row, in the order in which they are reported.
STATES: tuple[State, ...] = ("accepted", "rejected", "unknown", "invalid", "skipped", "not_sent")
#: With a results file, how many reasons the XCom holds, and how many rows of each.
REASONS_REPORTED = 20
ROWS_REPORTED = 10
_LONGEST_REASON = 300
_LOCAL = ("", "file", "local")


class RowResult(NamedTuple):
    """
    The result of one row.

    :param row: its number, from 1.
    :param state: one of :data:`STATES`.
    :param omnimessage_id: if it was accepted.
    :param time_to_send: ISO 8601 in UTC; ``None``: at once, or not at all.
    :param error: why it was not accepted.
    """

    row: int
    state: State
    omnimessage_id: str | None = None
    time_to_send: str | None = None
    error: str | None = None


class Results(Protocol):
    """Takes the results in the order of the rows, and returns the XCom in the end."""

    counts: Counter[str]
    #: More entries of the XCom.
    extra: dict[str, Any]

    def add(self, result: RowResult) -> None:
        """Add the result of the next row."""

    def close(self) -> dict[str, Any]:
        """Return the XCom. A file is complete by then."""

    def as_table(self) -> ResultsTable:
        """Return the same results as a table, in case a file cannot be written."""


class ResultsTable:
    """The results as one compact XCom: columns, and the errors by reason."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.extra: dict[str, Any] = {}
        self._ids: list[str | None] = []
        self._times: list[str | None] = []
        self._errors: dict[str, list[int]] = {}

    def add(self, result: RowResult) -> None:
        """Add the result of the next row."""
        self.counts[result.state] += 1
        self._ids.append(result.omnimessage_id)
        # most rows have the same time as the one before, and share the object
        last = self._times[-1] if self._times else None
        self._times.append(last if result.time_to_send == last else result.time_to_send)
        if result.error is not None:
            self._errors.setdefault(_short(result.error), []).append(result.row)

    def close(self) -> dict[str, Any]:
        """Return the XCom."""
        distinct = {time for time, id_ in zip(self._times, self._ids, strict=True) if id_ is not None}
        return {
            **_counted(self.counts),
            "omnimessage_id": self._ids,
            "time_to_send": next(iter(distinct), None) if len(distinct) < 2 else self._times,
            "errors": [{"error": error, "rows": rows} for error, rows in self._errors.items()],
            **self.extra,
        }

    def as_table(self) -> ResultsTable:
        """Return itself."""
        return self


class ResultsFile:
    """
    The results as a file of JSON Lines.

    They are collected in a temporary file of the worker and copied once complete: an object store takes whole objects.

    :param path: a path or URL, or an ``ObjectStoragePath``.
    """

    def __init__(self, path: str | ObjectStoragePath) -> None:
        self.counts: Counter[str] = Counter()
        self.extra: dict[str, Any] = {}
        self._path = object_storage_path(path)
        self._url = _url_with_connection(path, self._path)
        self._first_id: str | None = None
        self._errors: dict[str, list[int]] = {}
        self._error_counts: Counter[str] = Counter()
        self._collected = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this object

    def require_writable(self) -> None:
        """Raise before anything is sent if the file cannot be written."""
        if _is_local(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            mode = "ab"
        else:
            # not every object store can append; this connection has written an existing file before
            if self._path.exists():
                return
            mode = "wb"
        # the results of an earlier run stay until there are new ones: they may be the only record of its messages
        with self._path.open(mode) as file:
            file.write(b"")

    def add(self, result: RowResult) -> None:
        """Add the result of the next row."""
        self.counts[result.state] += 1
        self._collected.write(json.dumps(result._asdict()).encode() + b"\n")
        self._first_id = self._first_id or result.omnimessage_id
        if result.error is not None:
            reason = _short(result.error)
            if reason in self._errors or len(self._errors) < REASONS_REPORTED:
                self._error_counts[reason] += 1
                rows = self._errors.setdefault(reason, [])
                if len(rows) < ROWS_REPORTED:
                    rows.append(result.row)

    def close(self) -> dict[str, Any]:
        """Write the file, and return the pointer to it."""
        self._collected.seek(0)
        with self._path.open("wb") as file:
            shutil.copyfileobj(self._collected, file)
        return {
            **_counted(self.counts),
            "results": self._url,
            "first_omnimessage_id": self._first_id,
            "errors": [
                {"error": error, "count": self._error_counts[error], "first_rows": rows}
                for error, rows in self._errors.items()
            ],
            **self.extra,
        }

    def as_table(self) -> ResultsTable:
        """Return the collected results as a table, for a task whose file cannot be written."""
        table = ResultsTable()
        table.extra = self.extra
        self._collected.seek(0)
        for line in self._collected:
            table.add(RowResult(**json.loads(line)))
        return table


def is_result(value: object) -> TypeGuard[dict[str, Any]]:
    """Return whether ``value`` is the output of one bulk send. A mapped task has a list of them."""
    return isinstance(value, Mapping) and "accepted" in value and ("results" in value or "omnimessage_id" in value)


def accepted_in(output: Mapping[str, Any] | Sequence[Mapping[str, Any] | None]) -> Iterator[tuple[str, str | None]]:
    """
    Yield the messages that a bulk send, or a mapped one, got accepted. The one way to read its output.

    :param output: the XCom: one result, or a list of results with ``None`` for skipped tasks. A results file is read
        as a stream.
    :return: each id, and its time: ISO 8601 in UTC, or ``None`` for sent at once.
    :raises InvalidInputError: if a results file is missing or incomplete, or if an entry is not a result.
    """
    results = [output] if isinstance(output, Mapping) else [each for each in entries(output) if each is not None]
    for index, result in enumerate(results):
        if not is_result(result):
            raise InvalidInputError.of(
                f"omnimessage_id[{index}]", "is not the output of a bulk send; pass outputs or ids, not a mix of them"
            )
        yield from _accepted_in_file(result) if "results" in result else _accepted_in_table(result)


def read_file(path: str) -> Iterator[tuple[str, str | None]]:
    """
    Yield the accepted messages of a results file.

    :param path: a path or URL.
    :return: each id, and its time: ISO 8601 in UTC, or ``None`` for sent at once.
    :raises InvalidInputError: if there is no such file.
    """
    file = object_storage_path(path)
    try:
        lines = file.open("rb")
    except FileNotFoundError:
        raise InvalidInputError.of("results", _missing_file(path, is_local=_is_local(file))) from None
    with lines:
        for line in lines:
            row = json.loads(line)
            if row["omnimessage_id"] is not None:
                yield row["omnimessage_id"], row["time_to_send"]


def _accepted_in_table(result: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    ids, times = result["omnimessage_id"], result["time_to_send"]
    time_of_each: Iterable[str | None] = times if isinstance(times, list) else [times] * len(ids)
    for omnimessage_id, time in zip(ids, time_of_each, strict=True):
        if omnimessage_id is not None:
            yield omnimessage_id, time


def _accepted_in_file(result: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """Read a results file; raise if it is incomplete, or if another run has written it since."""
    count, first = 0, None
    try:
        for omnimessage_id, time in read_file(result["results"]):
            count, first = count + 1, first or omnimessage_id
            yield omnimessage_id, time
    except InvalidInputError:
        raise
    except (ValueError, KeyError, TypeError):
        count = -1
    if count != result["accepted"] or first != result.get("first_omnimessage_id", first):
        raise InvalidInputError.of(
            "results",
            f"the file does not hold the {result['accepted']:,} accepted messages: it is incomplete, or was written "
            "again since; give each task and run its own results_path",
        )


def _missing_file(path: str, *, is_local: bool) -> str:
    if not is_local:
        return (
            f"there is no file {path}; its messages stay scheduled. Restore it, or clear the task that sent them: it "
            "cancels what is still scheduled, and sends again"
        )
    return (
        f"{path} does not exist on this machine. A local path is visible to one worker only, the one that ran the send "
        "task. Its messages stay scheduled. Copy the file to this machine and clear this task; for the next runs set "
        "results_path to an object store that all workers reach, or leave it out, so that the XCom holds the ids"
    )


def in_words(counts: Mapping[str, int]) -> str:
    """
    Return the numbers of a bulk send in words: ``9,990 accepted, 10 rejected``.

    :param counts: by state.
    """
    parts = [f"{counts[state]:,} {state.replace('_', ' ')}" for state in STATES if counts.get(state)]
    return ", ".join(parts) or "no rows"


def _counted(counts: Mapping[str, int]) -> dict[str, int]:
    return {"messages": sum(counts.values()), **{state: counts.get(state, 0) for state in STATES}}


def _short(reason: str) -> str:
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 1]}…"


def _is_local(path: ObjectStoragePath) -> bool:
    return str(path.protocol or "file") in _LOCAL


def _url_with_connection(path: str | ObjectStoragePath, storage_path: ObjectStoragePath) -> str:
    """Write a path so that whoever reads the XCom finds the file with the same connection."""
    conn_id = getattr(storage_path, "conn_id", None)
    url = str(path)
    if isinstance(path, str) or not conn_id:
        return url
    scheme, _, rest = url.partition("://")
    # some Airflow versions write the connection themselves
    return url if rest.startswith(f"{conn_id}@") else f"{scheme}://{conn_id}@{rest}"
