"""The event log in the database: how events are written, ordered and read."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, exc, func, insert, select, text, update

from airflow_provider_omnimessage.receiver.events import Event, EventJson, as_json, is_delivery, rank_of
from airflow_provider_omnimessage.receiver.tables import consumer_table, event_table, log_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine, Row
    from sqlalchemy.sql import ColumnElement

#: Maximum number of events in a page, of ids in a lookup, and of rows in a statement.
PAGE = 500
#: Milliseconds after which PostgreSQL gives up on a statement, so that a lock cannot block all reports.
STATEMENT_TIMEOUT = 10_000


class StoreUnavailableError(Exception):
    """The database did not respond, or returned an error. The call may be repeated."""


@dataclass(frozen=True)
class Position:
    """A position in the log.

    :param log_id: changes when the log is reset, for example in another database.
    :param seq: the sequence number of its last event.
    """

    log_id: str
    seq: int


@dataclass(frozen=True)
class Page:
    """Events of one connection.

    :param position: the events are complete up to here.
    :param events: in log order.
    """

    position: Position
    events: list[EventJson]


@dataclass
class _Known:
    """What the log contains about the messages of a batch."""

    keys: set[tuple[str, str, str, str, str]] = field(default_factory=set)
    ranks: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    delivered: set[tuple[str, str]] = field(default_factory=set)

    def is_news(self, event: Event) -> bool:
        return event.key not in self.keys and event.rank >= self.ranks.get(event.key[:4], -1)

    def is_first_delivery(self, event: Event) -> bool:
        return is_delivery(event.rank) and (event.conn_id, event.subject_id) not in self.delivered

    def add(self, key: tuple[str, str, str, str, str]) -> None:
        conn_id, kind, subject_id, message_id, status = key
        rank = rank_of(status)
        channel = (conn_id, kind, subject_id, message_id)
        self.keys.add(key)
        self.ranks[channel] = max(rank, self.ranks.get(channel, -1))
        if is_delivery(rank):
            self.delivered.add((conn_id, subject_id))


class Store:
    """The log in one database. Its methods block, and can be called from any thread.

    :param engine: SQLAlchemy 1.4 (``future=True``) or newer.
    :param clock: returns Unix time.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def append(self, events: Sequence[Event]) -> dict[str, int]:
        """Store a batch of events in one transaction, which is committed when this returns.

        Events that are in the log already, and statuses that would go back, are ignored.

        :return: for each connection that has new events, the sequence number of the last one.
        """
        with self._transaction() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT}"))
            # First, and even if nothing is new: this row's lock orders the writers of all processes.
            connection.execute(
                update(log_table).where(log_table.c.id == 1).values(last_seq=log_table.c.last_seq + len(events))
            )
            end = _position(connection)
            known = _known(connection, {event.subject_id for event in events})
            now = int(self._clock())
            rows: list[dict[str, object]] = []
            news: dict[str, int] = {}
            for seq, event in enumerate(events, end.seq - len(events) + 1):
                if known.is_news(event):
                    rows.append(_row(seq, event, known.is_first_delivery(event), now))
                    news[event.conn_id] = seq
                    known.add(event.key)
            if rows:
                connection.execute(insert(event_table), rows)
        return news

    def position(self) -> Position:
        """Return the end of the log."""
        with self._transaction() as connection:
            return _position(connection)

    def page(self, conn_id: str, after: int, limit: int = PAGE) -> Page:
        """Return a connection's events after a sequence number."""
        with self._transaction() as connection:
            end = _position(connection)
            found = connection.execute(
                select(event_table)
                .where(event_table.c.conn_id == conn_id, event_table.c.seq > after, event_table.c.seq <= end.seq)
                .order_by(event_table.c.seq)
                .limit(limit)
            )
            events = [_as_json(row) for row in found]
        if len(events) == limit:
            end = Position(end.log_id, events[-1]["seq"])
        return Page(end, events)

    def news(self, after: int, until: int) -> dict[str, int]:
        """Return the connections that have events in a part of the log, each with its last sequence number."""
        seq, conn_id = event_table.c.seq, event_table.c.conn_id
        query = select(conn_id, func.max(seq).label("last")).where(seq > after, seq <= until).group_by(conn_id)
        with self._transaction() as connection:
            return {row.conn_id: int(row.last) for row in connection.execute(query)}

    def stored(self, conn_id: str, omnimessage_ids: Iterable[str]) -> dict[str, list[EventJson]]:
        """Return the stored reports of messages: for each id, the latest one of each channel."""
        latest: dict[tuple[str, str], EventJson] = {}
        with self._transaction() as connection:
            for part in _parts(sorted(set(omnimessage_ids))):
                found = connection.execute(
                    select(event_table)
                    .where(
                        event_table.c.subject_id.in_(part),
                        event_table.c.conn_id == conn_id,
                        event_table.c.kind == "report",
                    )
                    .order_by(event_table.c.seq)
                )
                # a channel's status never goes back, so the last one counts
                for row in found:
                    latest[row.subject_id, row.message_id] = _as_json(row)
        by_id: dict[str, list[EventJson]] = {}
        for (omnimessage_id, _), event in latest.items():
            by_id.setdefault(omnimessage_id, []).append(event)
        return by_id

    def consumer_position(self, conn_id: str, name: str) -> int | None:
        """Return the position of a named consumer; ``None`` if it is new."""
        with self._transaction() as connection:
            found = connection.execute(select(consumer_table.c.position).where(*_consumer(conn_id, name))).first()
        return None if found is None else int(found.position)

    def advance(self, conn_id: str, name: str, position: int) -> None:
        """Store the position of a named consumer. It never goes back."""
        now = int(self._clock())
        with self._transaction() as connection:
            known = connection.execute(
                select(consumer_table.c.position, consumer_table.c.seen_at).where(*_consumer(conn_id, name))
            ).first()
            if known is not None and known.position >= position and now - known.seen_at < 3600:
                return
            further = {"position": max(position, known.position if known else 0), "seen_at": now}
            if known is None:
                connection.execute(insert(consumer_table).values(conn_id=conn_id, name=name, **further))
            else:
                connection.execute(
                    update(consumer_table)
                    .where(*_consumer(conn_id, name), consumer_table.c.position <= further["position"])
                    .values(**further)
                )

    def delete_before(self, cutoff: float, limit: int = PAGE) -> int:
        """Delete a small batch of the oldest events.

        :param cutoff: Unix time; only events received before it are deleted.
        :param limit: maximum number of events to delete.
        :return: number of deleted events.
        """
        with self._transaction() as connection:
            oldest = connection.execute(
                select(event_table.c.seq, event_table.c.received_at).order_by(event_table.c.seq).limit(limit)
            )
            expired = [row.seq for row in oldest if row.received_at < cutoff]
            if expired:
                connection.execute(delete(event_table).where(event_table.c.seq.in_(expired)))
        return len(expired)

    def forget_consumers(self, cutoff: float) -> None:
        """Delete the positions of consumers that were last seen before ``cutoff`` (Unix time)."""
        with self._transaction() as connection:
            connection.execute(delete(consumer_table).where(consumer_table.c.seen_at < cutoff))

    def _transaction(self) -> AbstractContextManager[Connection]:
        return transaction(self._engine)


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Open a transaction, which is committed in the end.

    :raises StoreUnavailableError: if the database does not respond, or returns an error.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except (exc.DBAPIError, exc.TimeoutError) as error:
        raise StoreUnavailableError(describe(error)) from error


def describe(error: exc.SQLAlchemyError) -> str:
    """Describe a database error without the statement and its values."""
    reason: object = getattr(error, "orig", None) or error
    lines = str(reason).strip().splitlines()
    return f"{type(reason).__name__}: {lines[0] if lines else 'no reason'}"


def _position(connection: Connection) -> Position:
    row = connection.execute(select(log_table.c.log_id, log_table.c.last_seq).where(log_table.c.id == 1)).one()
    return Position(row.log_id, int(row.last_seq))


def _known(connection: Connection, subject_ids: set[str]) -> _Known:
    known = _Known()
    columns = event_table.c
    for part in _parts(sorted(subject_ids)):
        found = connection.execute(
            select(columns.conn_id, columns.kind, columns.subject_id, columns.message_id, columns.status).where(
                columns.subject_id.in_(part)
            )
        )
        for row in found:
            known.add((row.conn_id, row.kind, row.subject_id, row.message_id, row.status))
    return known


def _consumer(conn_id: str, name: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return consumer_table.c.conn_id == conn_id, consumer_table.c.name == name


def _row(seq: int, event: Event, first_delivery: bool, now: int) -> dict[str, object]:
    return {
        "seq": seq,
        "conn_id": event.conn_id,
        "kind": event.kind,
        "subject_id": event.subject_id,
        "message_id": event.message_id,
        "status": event.status,
        "first_delivery": first_delivery,
        "received_at": now,
        "details": json.dumps(event.details),
    }


def _as_json(row: Row[Any]) -> EventJson:
    event = Event(row.conn_id, row.kind, row.subject_id, row.message_id, row.status, json.loads(row.details))
    return as_json(int(row.seq), event, bool(row.first_delivery), int(row.received_at))


def _parts(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), PAGE):
        yield ids[start : start + PAGE]
