"""
Where the rows of a bulk send come from, and where they wait, checked, until they are sent.

Any source is gone through once, as a stream. What it gives is checked row by row and written to a temporary file of
the worker, in the form in which it will be posted. So nothing is sent before everything was checked, what is sent is
what was checked, and the memory that it takes does not grow with the number of rows.
"""

from __future__ import annotations

import csv
import inspect
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, NamedTuple

from airflow_provider_omnimessage._compat import object_storage_path
from airflow_provider_omnimessage.api.calls import as_list
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.fields import describe, is_deferred

#: Bytes up to which checked rows are kept in memory, and not in a file.
KEPT_IN_MEMORY = 1024 * 1024

JSON_LINES = (".jsonl", ".ndjson")
CSV = (".csv",)
_INVALID = b"!"


def require_source(field: str, given: Any) -> None:
    """
    Refuse, while a DAG is parsed, what cannot be a source of rows.

    :param field: what the parameter is called.
    :param given: a list, a function that gives rows, a path, or anything that Airflow resolves later.
    :raises InvalidInputError: for anything else, a generator included: it would be used up by the first who looks.
    """
    if is_deferred(given) or callable(given):
        return
    if isinstance(given, Iterator):
        raise InvalidInputError.of(
            field, "a generator can be gone through once, and a DAG is read many times; give the function that makes it"
        )
    if isinstance(given, str) or _is_path(given):
        _suffix(field, given)
    elif isinstance(given, (bytes, Mapping)) or not isinstance(given, Iterable):
        raise InvalidInputError.of(field, f"{describe(given)} is not accepted; give {_WANTED}")


class RowsOf:
    """
    A function that gives rows, held until the task runs: Airflow 3 would call it while it renders templates.

    :param function: called with what its parameters name of the context; with all of it, where it takes ``**kwargs``.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __repr__(self) -> str:
        # the same in each process: it becomes a part of the serialised DAG
        name = getattr(self._function, "__qualname__", type(self._function).__qualname__)
        return f"<rows of {name}()>"

    def call(self, context: Mapping[str, Any]) -> Any:
        """
        Call it.

        :param context: the task's.
        """
        parameters = inspect.signature(self._function).parameters.values()
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            return self._function(**context)
        names = [parameter.name for parameter in parameters if parameter.name in context]
        return self._function(**{name: context[name] for name in names})


def held(given: Any) -> Any:
    """
    Hold a function that gives rows until the task runs; anything else comes back as it is.

    :param given: a source of rows.
    """
    return RowsOf(given) if callable(given) and not is_deferred(given) and not _is_path(given) else given


def rows_of(field: str, given: Any, context: Mapping[str, Any]) -> Iterator[Any]:
    """
    Go through a source once.

    :param field: what the parameter is called.
    :param given: a list or what a task returned; :class:`RowsOf` a function; or a file of JSON Lines or CSV, as a path
        or an ``ObjectStoragePath``.
    :param context: the task's.
    :return: the rows; an :class:`InvalidInputError` in the place of one that cannot be read.
    :raises InvalidInputError: for what is not a source of rows.
    """
    if isinstance(given, RowsOf):
        given = given.call(context)
    if isinstance(given, str) or _is_path(given):
        yield from _rows_of_file(field, given)
        return
    if isinstance(given, (bytes, Mapping)) or not isinstance(given, Iterable):
        raise InvalidInputError.of(field, f"{describe(given)} is not accepted; give {_WANTED}")
    # of a mapped task's XComs, iterating asks for them one by one
    yield from as_list(given) if isinstance(given, Sequence) and not isinstance(given, list) else given


class CheckedRow(NamedTuple):
    """
    A row as it waits to be sent.

    :param row: its number, from 1.
    :param moment: when it is to be sent: ISO 8601 in UTC; empty: at once.
    :param body: the omnimessage as JSON, without its time; empty where it is left out.
    :param problem: why it is left out.
    """

    row: int
    moment: str
    body: bytes
    problem: str = ""

    @property
    def whole(self) -> bytes:
        """What is posted, its time included."""
        return b'%s, "time_to_send": "%s"}' % (self.body[:-1], self.moment.encode()) if self.moment else self.body


class Spool:
    """Rows that were checked, in a file that has no name and goes with the process."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=KEPT_IN_MEMORY)  # noqa: SIM115 - closed in __exit__
        # most have the same moment as the one before
        self._last: tuple[datetime | None, bytes] = (None, b"")
        self.rows = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, moment: datetime | None, body: Mapping[str, Any]) -> None:
        """
        Keep the next row.

        :param moment: when it is to be sent; ``None``: at once.
        :param body: what is posted, without its time.
        """
        self.rows += 1
        if moment is not self._last[0]:
            self._last = (moment, moment.isoformat(timespec="seconds").encode() if moment else b"")
        self._file.write(b"%s\t%s\n" % (self._last[1], json.dumps(body).encode()))

    def leave_out(self, problem: str) -> None:
        """
        Keep the place of the next row, which is not sent.

        :param problem: why.
        """
        self.rows += 1
        self._file.write(b"%s\t%s\n" % (_INVALID, json.dumps(problem).encode()))

    def batches(self, size: int) -> Iterator[list[CheckedRow]]:
        """
        Go through what was kept, in its order.

        :param size: rows in a batch, the last one excepted.
        """
        self._file.seek(0)
        batch: list[CheckedRow] = []
        for row, written in enumerate(self._file, 1):
            moment, _, rest = written.rstrip(b"\n").partition(b"\t")
            if moment == _INVALID:
                batch.append(CheckedRow(row, "", b"", json.loads(rest)))
            else:
                batch.append(CheckedRow(row, moment.decode(), rest))
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch


_WANTED = (
    "a list of dicts, the output of a task, a function that gives them, or the path of a file: "
    ".jsonl (JSON Lines) or .csv"
)


def _is_path(given: Any) -> bool:
    return hasattr(given, "open") and hasattr(given, "suffix")


def _suffix(field: str, path: Any) -> str:
    name = str(path).rstrip("/").rpartition("/")[2]
    suffix = f".{name.rpartition('.')[2].lower()}" if "." in name else ""
    if suffix not in JSON_LINES + CSV:
        hint = ""
        if str(path).lstrip().startswith(("[", "{")):
            hint = "; a template renders a list as text: pass the task's output instead"
        raise InvalidInputError.of(
            field, f"{describe(str(path))} does not name a file that ends in .jsonl, .ndjson or .csv{hint}"
        )
    return suffix


def _rows_of_file(field: str, path: Any) -> Iterator[Any]:
    read: Callable[[str, Iterable[str]], Iterator[Any]]
    read = _rows_of_csv if _suffix(field, path) in CSV else _rows_of_json_lines
    with object_storage_path(path).open("r", encoding="utf-8-sig", newline="") as lines:
        try:
            yield from read(field, lines)
        except UnicodeDecodeError as error:
            raise InvalidInputError.of(field, f"the file is not UTF-8: byte {error.start:,} of a part of it") from None


def _rows_of_json_lines(_field: str, lines: Iterable[str]) -> Iterator[Any]:
    for line in lines:
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            yield InvalidInputError.of("row", "is not JSON; give one object in each line")


def _rows_of_csv(field: str, lines: Iterable[str]) -> Iterator[Any]:
    reader = csv.DictReader(lines, strict=True)
    try:
        names = reader.fieldnames or []
        if "to" not in names:
            # not what stands there: where the names are forgotten, that is a customer
            raise InvalidInputError.of(
                field,
                f"the file has no column 'to'; its first line, which is to name the columns, has {len(names)} of them, "
                "and commas divide them",
            )
        twice = sorted({name for name in names if name and names.count(name) > 1})
        if twice:
            raise InvalidInputError.of(
                field, f"the file has two columns of one name: {', '.join(name[:30] for name in twice[:10])}"
            )
        for row in reader:
            if None in row or None in row.values():
                yield InvalidInputError.of("row", f"has not the {len(names)} cells that the first line names")
            else:
                # CSV has no other way to say that there is nothing
                yield {name: value or None for name, value in row.items()}
    except csv.Error as error:
        raise InvalidInputError.of(field, f"the file is not CSV: line {reader.line_num:,}: {error}") from None
