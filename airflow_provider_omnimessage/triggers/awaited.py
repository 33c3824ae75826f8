"""Which messages a wait is for: a few, which are reported one by one, or those of bulk sends and more, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_provider_omnimessage.api.awaited_message import AwaitedMessage
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.ids import as_list, checked_ids
from airflow_provider_omnimessage.bulk.results import accepted_in, is_result, read_file

#: An omnimessage_id, and when the message is sent: ISO 8601 with an offset, or ``None`` if it was sent before.
IdAndTime = tuple[str, str | None]
#: The accepted messages of a bulk send: ``{"results", "accepted", "first_omnimessage_id"}``, the results file and what
#: it must hold, which older versions did not write; or ``{"ids", "moments"}``, separated by spaces, with one time for
#: all or one for each (``-``: sent before).
BulkSource = dict[str, Any]


@dataclass(frozen=True)
class FewMessages:
    """
    Messages that are reported one by one.

    :param single: whether one id was passed, and not a list: the task then returns one report.
    """

    ids_and_times: Sequence[IdAndTime]
    single: bool
    only_count = False

    def messages(self) -> list[AwaitedMessage]:
        """Return the messages to wait for."""
        return _messages(self.ids_and_times)

    def to_row(self) -> dict[str, Any]:
        """Return the trigger's arguments for these messages."""
        return {"messages": [list(each) for each in self.ids_and_times], "one": self.single, "bulk": None}


@dataclass(frozen=True)
class BulkMessages:
    """
    The accepted messages of one or more bulk sends, which are counted.

    :param sources: one for each bulk send, small enough for a trigger's row.
    :param ids_and_times: what the sources hold, if that has been read already.
    """

    sources: Sequence[BulkSource]
    ids_and_times: Sequence[IdAndTime] | None = field(default=None, compare=False, repr=False)
    single = False
    only_count = True

    @classmethod
    def of(cls, results: Iterable[dict[str, Any]], ids_and_times: Sequence[IdAndTime] = ()) -> BulkMessages:
        """
        Read the outputs of bulk sends.

        :param ids_and_times: further messages, which are counted too.
        :raises InvalidInputError: if a results file does not hold what its output says.
        """
        sources, everything = [_columns(ids_and_times)] if ids_and_times else [], list(ids_and_times)
        for result in results:
            accepted = list(accepted_in(result))
            everything += accepted
            if accepted:
                sources.append(_file(result) if "results" in result else _columns(accepted))
        return cls(sources, everything)

    def messages(self) -> list[AwaitedMessage]:
        """Return the messages to wait for. This may read files."""
        if self.ids_and_times is not None:
            return _messages(self.ids_and_times)
        return _messages(each for source in self.sources for each in _read(source))

    def to_row(self) -> dict[str, Any]:
        """Return the trigger's arguments for these messages."""
        return {"messages": [], "one": False, "bulk": [dict(source) for source in self.sources]}


Awaited = FewMessages | BulkMessages


def list_awaited(omnimessage_id: object, time_to_send: object, resolve: Callable[[object], datetime]) -> Awaited:
    """
    Return what a task waits for.

    :param omnimessage_id: an id, the output of a bulk send, or a list of both (``None`` among them is left out).
    :param time_to_send: one time, or one for each id; the output of a bulk send has its own.
    :param resolve: turns a value of ``time_to_send`` into a time with a zone.
    :raises InvalidInputError: if a value cannot be an id or a time, or the numbers of ids and times differ.
    """
    if is_result(omnimessage_id):
        return BulkMessages.of([omnimessage_id])
    values = as_list(omnimessage_id)
    results = [value for value in values if is_result(value)]
    ids = checked_ids([None if is_result(value) else value for value in values])
    times = as_list(time_to_send, "time_to_send")
    if len(times) == 1:
        times *= len(values)
    if ids and len(times) != len(values):
        raise InvalidInputError.of(
            "time_to_send", f"{len(times)} times for {len(values)} ids; pass one time, or one for each id"
        )
    ids_and_times = [(id_, _iso(times[position], resolve)) for position, id_ in ids]
    if results:
        return BulkMessages.of(results, ids_and_times)
    return FewMessages(ids_and_times, single=is_single(omnimessage_id))


def is_single(omnimessage_id: object) -> bool:
    """Return whether a task waits for one id, so that it returns one report and not a list."""
    return isinstance(omnimessage_id, str)


def awaited_of_row(
    messages: Sequence[Sequence[str | None]], one: bool, bulk: BulkSource | Sequence[BulkSource] | None
) -> Awaited:
    """Return what a trigger's arguments describe, those of older versions included."""
    if bulk is None:
        return FewMessages([(str(id_), time) for id_, time in messages], single=one)
    return BulkMessages([bulk] if isinstance(bulk, dict) else list(bulk))


def _messages(ids_and_times: Iterable[IdAndTime]) -> list[AwaitedMessage]:
    # the same output may be passed twice, or an id beside the output that holds it
    different = dict(ids_and_times)
    return [AwaitedMessage(id_, datetime.fromisoformat(time) if time else None) for id_, time in different.items()]


def _iso(value: object, resolve: Callable[[object], datetime]) -> str | None:
    # a template renders None as text
    return None if value in (None, "None", "") else resolve(value).isoformat()


def _columns(accepted: Sequence[IdAndTime]) -> BulkSource:
    ids, times = zip(*accepted, strict=True)
    texts = [time or "-" for time in times]
    return {"ids": " ".join(ids), "moments": texts[0] if len(set(texts)) == 1 else " ".join(texts)}


def _file(result: Mapping[str, Any]) -> BulkSource:
    names = ("results", "accepted", "first_omnimessage_id")
    return {name: result[name] for name in names if name in result}


def _read(source: BulkSource) -> Iterable[IdAndTime]:
    if "accepted" in source:
        return accepted_in(source)  # another run may have written the file since
    if "results" in source:
        return read_file(source["results"])
    ids, times = source["ids"].split(), source["moments"].split()
    each = times if len(times) > 1 else times * len(ids)
    return [(id_, None if time == "-" else time) for id_, time in zip(ids, each, strict=True)]
