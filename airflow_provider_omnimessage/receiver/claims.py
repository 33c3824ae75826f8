"""Claims in the database: of several processes that would do the same, one does it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, exc, insert, or_, select, update

from airflow_provider_omnimessage.receiver.claim_state import ClaimState
from airflow_provider_omnimessage.receiver.store import transaction
from airflow_provider_omnimessage.receiver.tables import claim_table

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine
    from sqlalchemy.sql import ColumnElement


class Claims:
    """The claims in one database. Its methods block, and can be called from any thread.

    :param engine: SQLAlchemy 1.4 (``future=True``) or newer.
    :param clock: returns Unix time.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def take(self, conn_id: str, name: str, holder: str, seconds: int) -> ClaimState:
        """Claim something, if it is not done, and nobody else holds it.

        :param name: what is claimed.
        :param holder: who claims it. The holder may take it again, which makes it last longer.
        :param seconds: after which somebody else may take it.
        """
        now = int(self._clock())
        this, columns = _this(conn_id, name), claim_table.c
        may_take = and_(this, columns.is_done.is_(False), or_(columns.until <= now, columns.holder == holder))
        mine = {"holder": holder, "until": now + seconds}
        with transaction(self._engine) as connection:
            # the database compares and sets under the lock of the row: of two, one changes it
            if connection.execute(update(claim_table).where(may_take).values(**mine)).rowcount:
                return ClaimState.YOURS
            is_done = connection.execute(select(columns.is_done).where(this)).scalar()
            if is_done is None:
                try:
                    with connection.begin_nested():
                        connection.execute(
                            insert(claim_table).values(conn_id=conn_id, name=name, is_done=False, **mine)
                        )
                except exc.IntegrityError:
                    return ClaimState.HELD  # another process was faster
                return ClaimState.YOURS
        return ClaimState.DONE if is_done else ClaimState.HELD

    def give_back(self, conn_id: str, name: str, holder: str, *, is_done: bool) -> None:
        """End a claim.

        :param is_done: whether nobody else has to do it.
        """
        mine = and_(_this(conn_id, name), claim_table.c.holder == holder)
        with transaction(self._engine) as connection:
            connection.execute(update(claim_table).where(mine).values(until=int(self._clock()), is_done=is_done))

    def forget(self, cutoff: float) -> None:
        """Delete the claims that ended before ``cutoff`` (Unix time)."""
        with transaction(self._engine) as connection:
            connection.execute(delete(claim_table).where(claim_table.c.until < cutoff))


def _this(conn_id: str, name: str) -> ColumnElement[bool]:
    return and_(claim_table.c.conn_id == conn_id, claim_table.c.name == name)
