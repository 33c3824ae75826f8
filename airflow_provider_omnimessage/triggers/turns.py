"""Of several triggerers in which Airflow starts the same callback, lets one send: the receiver knows which."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_omnimessage.hooks.lookup import look_up_settings
from airflow_provider_omnimessage.receiver.claim_state import LONGEST_CLAIM, ClaimState
from airflow_provider_omnimessage.receiver.client import ReceiverClient, ReceiverError

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

T = TypeVar("T")

#: Seconds by which a claim lasts longer than the connection's ``deadline``, which limits the requests to Messente.
MARGIN = 60
#: Seconds between two requests to the receiver, at least and at most.
ASK_EVERY = (1.0, 3.0)
#: Seconds for which a receiver that does not respond may be restarting. With the last request, they end before
#: ``MARGIN`` does: the claim of the triggerer that has sent still holds when it is given back.
PATIENCE = 45.0


@dataclass
class Turn:
    """The turn of this triggerer.

    :param has_sent: whether a message was sent, or may have been.
    """

    has_sent: bool = False


async def in_turn(key: str, conn_id: str, work: Callable[[Turn], Coroutine[Any, Any, None]], log: Logger) -> None:
    """Run ``work`` if no other triggerer has, and raise what it raises.

    While another triggerer works, this one waits. If that one dies or sends nothing, this one works. So it does without
    a receiver, and if the receiver does not respond for some time: two messages are better than none.

    :param key: identifies the work in all triggerers.
    :param conn_id: the Airflow connection. Its ``receiver_url`` or ``push_url`` says where the receiver is.
    """
    turn = Turn()
    claim = await _Claim.open(key, conn_id, log)
    if claim is None:
        await work(turn)
        return
    try:
        if not await claim.take():
            log.info("Another triggerer has sent this notification")
            return
        try:
            await work(turn)
        except Exception:
            await claim.give_back(is_done=turn.has_sent)
            raise
        await claim.give_back(is_done=True)
    finally:
        await claim.close()


@dataclass
class _Claim:
    name: str
    seconds: int
    client: ReceiverClient
    log: Logger
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)
    failing_since: float | None = None
    has_warned: bool = False

    @classmethod
    async def open(cls, key: str, conn_id: str, log: Logger) -> _Claim | None:
        """Return ``None`` if the connection has no receiver, or cannot be used: the work itself says why."""
        try:
            settings = await look_up_settings(conn_id)
            if settings.receiver_url is None:
                return None
            client = await ReceiverClient.open(settings, conn_id)
        except Exception as error:
            log.debug("Nothing is claimed: %s", error)
            return None
        name = hashlib.sha256(key.encode()).hexdigest()
        return cls(name, min(int(settings.deadline) + MARGIN, LONGEST_CLAIM), client, log)

    async def take(self) -> bool:
        """Wait for the turn; return false if the work is done."""
        try:
            while (state := await self._repeat(self._take)) is ClaimState.HELD:
                await asyncio.sleep(random.uniform(*ASK_EVERY))
        except ReceiverError as error:
            self._warn(error)
            return True
        return state is ClaimState.YOURS

    async def give_back(self, *, is_done: bool) -> None:
        """End the claim, which this triggerer may also have if the response to its request was lost."""
        try:
            await self._repeat(lambda: self.client.give_back(self.name, self.holder, is_done=is_done))
        except ReceiverError as error:
            if is_done:
                self._warn(error)

    def _take(self) -> Coroutine[Any, Any, ClaimState]:
        return self.client.claim(self.name, self.holder, self.seconds)

    async def _repeat(self, request: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Make a request, and repeat it while the receiver may be restarting: it is safe to repeat each of them."""
        while True:
            started = time.monotonic()
            try:
                response = await request()
            except ReceiverError as error:
                if self.failing_since is None:
                    self.failing_since = started
                if not error.may_pass or time.monotonic() - self.failing_since >= PATIENCE:
                    raise
                await asyncio.sleep(random.uniform(*ASK_EVERY))
            else:
                self.failing_since = None
                return response

    def _warn(self, error: ReceiverError) -> None:
        if not self.has_warned:
            self.log.warning("Another triggerer may send this notification, too: %s", error)
        self.has_warned = True

    async def close(self) -> None:
        await self.client.close()
