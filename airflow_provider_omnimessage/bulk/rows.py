"""
Where the rows of a bulk send come from, and where the checked rows wait until they are sent.

Any source is read once, as a stream. Each row is checked and written to a temporary file of the worker, in the form in
which it is posted. So everything is checked before anything is sent, exactly that is sent, and memory use does not grow
with the number of rows.
"""

from __future__ import annotations

import csv
import inspect
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeGuard

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.fields import describe, is_deferred, is_uncalled_task
from airflow_provider_omnimessage.api.lists import entries, structure_in
from airflow_provider_omnimessage.bulk.files import open_text
from airflow_provider_omnimessage.bulk.windows import NO_WINDOW, RowWindow

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

#: Bytes of checked rows that are kept in memory before a file is used.
KEPT_IN_MEMORY = 1024 * 1024

JSON_LINES = (".jsonl", ".ndjson")
CSV = (".csv",)
#: What stands in place of the time of a row that is left out.
_LEFT_OUT: dict[bytes, Literal["invalid", "skipped"]] = {b"!": "invalid", b"-": "skipped"}

_ACCEPTED = (
    "a list of dicts, the output of a task, a function that returns them, or the path of a file: "
    ".jsonl (JSON Lines) or .csv"
)


def require_source(field: str, source: object) -> None:
    """
    Raise, while a DAG is parsed, unless ``source`` can be a source of rows.

    :param field: the parameter's name.
    :param source: a list, a function that returns rows, a path, or anything that Airflow resolves later.
    :raises InvalidInputError: for anything else, including a generator: the first reader would use it up.
    """
    if is_uncalled_task(source):
        raise InvalidInputError.of(field, "is a task that was not called; pass its output, such as customers()")
    if is_deferred(source) or callable(source):
        return
    if isinstance(source, Iterator):
        raise InvalidInputError.of(
            field, "a generator can be read only once, but a DAG is parsed many times; pass the function that makes it"
        )
    if isinstance(source, str) or _is_path(source):
        _suffix(field, source)
    elif isinstance(source, (bytes, Mapping)) or not isinstance(source, Iterable):
        raise InvalidInputError.of(field, f"{describe(source)} is not accepted; pass {_ACCEPTED}")


class RowFunction:
    """
    A function that returns rows, wrapped until the task runs: Airflow 3 would call it while it renders templates.

    :param function: its parameters receive the context variables of the same names; ``**kwargs`` receives all.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __repr__(self) -> str:
        # the same in each process: it becomes a part of the serialised DAG
        name = getattr(self._function, "__qualname__", type(self._function).__qualname__)
        return f"<rows of {name}()>"

    def call(self, context: Mapping[str, Any]) -> Any:
        """Call it, and return its rows."""
        parameters = inspect.signature(self._function).parameters.values()
        if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
            return self._function(**context)
        names = [parameter.name for parameter in parameters if parameter.name in context]
        return self._function(**{name: context[name] for name in names})


def wrap_function(source: object) -> object:
    """Wrap a function that returns rows; return any other source as it is."""
    return RowFunction(source) if callable(source) and not is_deferred(source) and not _is_path(source) else source


def read_rows(field: str, source: object, context: Mapping[str, Any]) -> Iterator[object]:
    """
    Read a source once.

    :param field: the parameter's name.
    :param source: a list, what a task returned, a :class:`RowFunction`, or a file of JSON Lines or CSV: a path or an
        ``ObjectStoragePath``.
    :param context: the task's.
    :return: the rows; an :class:`InvalidInputError` in place of one that cannot be read.
    :raises InvalidInputError: if it is not a source of rows.
    """
    if isinstance(source, RowFunction):
        source = source.call(context)
    if isinstance(source, str) and (structure := structure_in(source)) is not None:
        source = structure
    if isinstance(source, str) or _is_path(source):
        yield from _read_file(field, source)
        return
    if isinstance(source, (bytes, Mapping)) or not isinstance(source, Iterable):
        raise InvalidInputError.of(field, f"{describe(source)} is not accepted; pass {_ACCEPTED}")
    # other sources are read as a stream
    yield from entries(source) if isinstance(source, Sequence) else source


class CheckedRow(NamedTuple):
    """
    A row that waits to be sent.

    :param row: its number, from 1.
    :param time_to_send: ISO 8601 in UTC; empty: now.
    :param body: the omnimessage as JSON, without its time; empty if the row is left out.
    :param problem: why it is left out.
    :param window: in which it is sent if its time passes before it is posted.
    :param left_out_as: the state of a row that is left out.
    """

    row: int
    time_to_send: str
    body: bytes
    problem: str = ""
    window: RowWindow = NO_WINDOW
    left_out_as: Literal["invalid", "skipped"] = "invalid"

    def json(self, time_to_send: str) -> bytes:
        """
        Return the omnimessage as it is posted.

        :param time_to_send: ISO 8601 in UTC; empty: now.
        """
        if not time_to_send:
            return self.body
        return b'%s, "time_to_send": "%s"}' % (self.body[:-1], time_to_send.encode())


class Spool:
    """The checked rows, in a temporary file without a name that disappears with the process."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=KEPT_IN_MEMORY)  # noqa: SIM115 - closed in __exit__
        self.rows = 0

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, time_to_send: datetime | None, body: Mapping[str, Any], window: RowWindow = NO_WINDOW) -> None:
        """
        Add the next row.

        :param time_to_send: in UTC; ``None``: now.
        :param body: the omnimessage, without its time.
        """
        self.rows += 1
        time = _write_time(time_to_send) if time_to_send else b""
        self._file.write(b"%s\t%s\t%s\n" % (time, _write_window(window), json.dumps(body).encode()))

    def leave_out(self, problem: str, state: Literal["invalid", "skipped"] = "invalid") -> None:
        """Add the next row as one that is not sent, with the reason."""
        self.rows += 1
        mark = b"!" if state == "invalid" else b"-"
        self._file.write(b"%s\t\t%s\n" % (mark, json.dumps(problem).encode()))

    def batches(self, size: int) -> Iterator[list[CheckedRow]]:
        """
        Yield the rows in order, in batches.

        :param size: rows in a batch; the last one may have fewer.
        """
        self._file.seek(0)
        batch: list[CheckedRow] = []
        for row, line in enumerate(self._file, 1):
            time_to_send, mark, rest = line.rstrip(b"\n").split(b"\t", 2)
            if left_out_as := _LEFT_OUT.get(time_to_send):
                batch.append(CheckedRow(row, "", b"", json.loads(rest), left_out_as=left_out_as))
            else:
                batch.append(CheckedRow(row, time_to_send.decode(), rest, "", _read_window(mark)))
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch


# Many rows share few times and windows.
@lru_cache(4096)
def _write_time(time_to_send: datetime) -> bytes:
    return time_to_send.isoformat(timespec="seconds").encode()


@lru_cache(4096)
def _write_window(window: RowWindow) -> bytes:
    return b"" if window == NO_WINDOW else b"%d %d" % window


@lru_cache(4096)
def _read_window(mark: bytes) -> RowWindow:
    if not mark:
        return NO_WINDOW
    zones, is_for_now = mark.split()
    return RowWindow(int(zones), is_for_now == b"1")


def _is_path(source: object) -> TypeGuard[ObjectStoragePath]:
    return hasattr(source, "open") and hasattr(source, "suffix")


def _suffix(field: str, path: str | ObjectStoragePath) -> str:
    name = str(path).rstrip("/").rpartition("/")[2]
    suffix = f".{name.rpartition('.')[2].lower()}" if "." in name else ""
    if suffix not in JSON_LINES + CSV:
        hint = ""
        if str(path).lstrip().startswith(("[", "{")):
            hint = "; a template renders a list as text: pass the task's output instead"
        raise InvalidInputError.of(
            field, f"{describe(str(path))} is not the name of a file that ends in .jsonl, .ndjson or .csv{hint}"
        )
    return suffix


def _read_file(field: str, path: str | ObjectStoragePath) -> Iterator[object]:
    read: Callable[[str, Iterable[str]], Iterator[object]]
    read = _read_csv if _suffix(field, path) in CSV else _read_json_lines
    with open_text(field, path, newline="") as lines:
        try:
            yield from read(field, lines)
        except UnicodeDecodeError as error:
            raise InvalidInputError.of(
                field, f"the file is not UTF-8: byte {error.start:,} of a part of it; convert it to UTF-8"
            ) from None


def _read_json_lines(_field: str, lines: Iterable[str]) -> Iterator[object]:
    for line in lines:
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            yield InvalidInputError.of("row", "is not JSON; write one object per line")


def _read_csv(field: str, lines: Iterable[str]) -> Iterator[object]:
    reader = csv.DictReader(lines, strict=True)
    try:
        names = reader.fieldnames or []
        if "to" not in names:
            # The names are not shown: in a file without a header, the first line is a customer.
            raise InvalidInputError.of(
                field,
                f"the file has no column 'to'; its first line must name the columns, separated by commas, and has "
                f"{len(names)} of them",
            )
        duplicates = sorted({name for name in names if name and names.count(name) > 1})
        if duplicates:
            raise InvalidInputError.of(
                field, f"the file has two columns of the same name: {', '.join(name[:30] for name in duplicates[:10])}"
            )
        for row in reader:
            if None in row or None in row.values():
                yield InvalidInputError.of("row", f"does not have the {len(names)} cells that the first line names")
            else:
                # CSV has no other way to write a missing value
                yield {name: value or None for name, value in row.items()}
    except csv.Error as error:
        raise InvalidInputError.of(field, f"the file is not CSV: line {reader.line_num:,}: {error}") from None
