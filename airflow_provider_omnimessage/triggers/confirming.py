"""Polls for messages whose reports look like a failure: only Messente knows whether another channel follows."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING

from airflow_provider_omnimessage.api import backoff
from airflow_provider_omnimessage.api.calls import Call, delivery_report
from airflow_provider_omnimessage.api.delivery import DeliveryReport, Outcome
from airflow_provider_omnimessage.api.errors import InvalidInputError, NotFoundError, OmnimessageError, RejectedError
from airflow_provider_omnimessage.api.waiting import NOT_FOUND_PATIENCE, is_transient
from airflow_provider_omnimessage.hooks.lookup import import_transport, look_up_settings
from airflow_provider_omnimessage.triggers.log_lines import LogLines

if TYPE_CHECKING:
    from airflow_provider_omnimessage.hooks.aiohttp_transport import AiohttpTransport

#: Maximum number of requests at the same time.
IN_FLIGHT = 4
#: Longest pause after an error in seconds.
MAX_PAUSE = 60.0

log = LogLines(logging.getLogger(__name__))


class Confirmer:
    """Confirms outcomes for one connection. It tries again until Messente responds about the message.

    :param conn_id: the Airflow connection: looked up for the first request, and again after an error that does not
        pass by itself, such as a 401.
    :param pause: seconds between the two polls that confirm a failure, and the shortest pause after an error.
    """

    def __init__(self, conn_id: str, pause: float) -> None:
        self._conn_id = conn_id
        self._pause = pause
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._opening = asyncio.Lock()
        self._transport: AiohttpTransport | None = None
        self._failures = 0
        self._next_try = 0.0

    async def failure(self, omnimessage_id: str) -> DeliveryReport | None:
        """Return a message's report once it has failed or was cancelled.

        :return: ``None`` if another channel follows or has delivered it, or if Messente does not know the message.
        """
        try:
            call = delivery_report(omnimessage_id)
        except InvalidInputError as error:
            _log_unknown(omnimessage_id, error)
            return None
        since = time.monotonic()
        failures = 0
        is_second_poll = False
        while True:
            try:
                report = await self._poll(call)
            except Exception as error:
                if _is_about_the_message(error, time.monotonic() - since):
                    _log_unknown(omnimessage_id, error)
                    return None
                failures += 1
                await asyncio.sleep(self._pause_after(failures))
                continue
            if report.outcome is Outcome.CANCELLED or (report.outcome is Outcome.FAILED and is_second_poll):
                return report
            if report.outcome is not Outcome.FAILED:
                return None
            is_second_poll, failures = True, 0
            await asyncio.sleep(self._pause)

    async def close(self) -> None:
        """Close the session."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()

    async def _poll(self, call: Call[DeliveryReport]) -> DeliveryReport:
        """Make one request. While Messente cannot be reached, all messages share one pause."""
        async with self._slots:
            await asyncio.sleep(max(0.0, self._next_try - time.monotonic()))
            transport = None
            try:
                transport = await self._open()
                report = await transport.make(call)
            except (NotFoundError, RejectedError):
                self._failures = 0
                raise
            except Exception as error:
                self._record_error(error)
                if transport is self._transport and not _passes_by_itself(error):
                    await self.close()  # the connection in Airflow may have changed
                raise
            self._failures = 0
            return report

    async def _open(self) -> AiohttpTransport:
        async with self._opening:
            if self._transport is None:
                settings = await look_up_settings(self._conn_id)
                await import_transport()
                from airflow_provider_omnimessage.hooks.aiohttp_transport import AiohttpTransport

                self._transport = await AiohttpTransport.open(settings, connections=IN_FLIGHT)
            return self._transport

    def _record_error(self, error: Exception) -> None:
        self._failures += 1
        self._next_try = time.monotonic() + self._pause_after(self._failures)
        if self._failures == 1:
            log.warning("connection '%s': failed outcomes cannot be confirmed; trying again: %s", self._conn_id, error)

    def _pause_after(self, failures: int) -> float:
        return backoff.reconnect_pause(failures, self._pause, MAX_PAUSE, random.random())


def _log_unknown(omnimessage_id: str, error: Exception) -> None:
    log.warning("%s: its outcome is unknown: %s", omnimessage_id, error)


def _passes_by_itself(error: Exception) -> bool:
    return isinstance(error, OmnimessageError) and is_transient(error)


def _is_about_the_message(error: Exception, age: float) -> bool:
    """Return whether an error is about this message alone, and will not pass."""
    if isinstance(error, NotFoundError):
        return age >= NOT_FOUND_PATIENCE  # Messente may have no report yet
    return isinstance(error, RejectedError)
