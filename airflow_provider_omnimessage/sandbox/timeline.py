"""Runs events when the sandbox's clock reaches them, whether the clock runs or is moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from airflow_provider_omnimessage.sandbox.clock import Clock
from airflow_provider_omnimessage.sandbox.reports import ReportPoster
from airflow_provider_omnimessage.sandbox.simulation import Simulation

EVENTS_BETWEEN_PAUSES: Final = 500


class Timeline:
    """Connects the clock, the simulation and the reports. Belongs to one event loop.

    :param simulation: the events.
    :param clock: the sandbox's clock.
    :param reports: posts the delivery reports.
    """

    def __init__(self, simulation: Simulation, clock: Clock, reports: ReportPoster) -> None:
        self._simulation = simulation
        self._clock = clock
        self._reports = reports
        self.lock = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due: datetime | None = None

    def run_due(self) -> None:
        """Run every event that is due, and set a timer for the next one."""
        simulation = self._simulation
        if simulation.next_due is not None:
            now = self._clock.now
            while simulation.next_due is not None and simulation.next_due <= now:
                simulation.run_next()
        if simulation.outbox:
            self._reports.post_all(simulation.outbox)
        if simulation.next_due != self._timer_due:
            self.set_timer()

    def set_timer(self) -> None:
        """Set the timer for the next event."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_due = None, self._simulation.next_due
        if self._timer_due is not None and not self._clock.frozen:
            # asyncio rounds to the resolution of its clock: half a millisecond late saves a second round.
            delay = max(0.0, (self._timer_due - self._clock.now).total_seconds()) + 0.0005
            self._timer = asyncio.get_running_loop().call_later(delay, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = self._timer_due = None
        self.run_due()

    async def move(self, new_time: Callable[[datetime], datetime]) -> None:
        """Move the clock. On the way, every event runs in order and at its time, reports to ``dlr_url`` included.

        :param new_time: returns the new time for the current one. Moving back undoes nothing.
        """
        async with self.lock:
            target = new_time(self._clock.now)
            was_frozen = self._clock.frozen
            self._clock.freeze()
            try:
                await self._run_until(target)
                self._clock.set(target)
            finally:
                if not was_frozen:
                    self._clock.resume()
                self.set_timer()

    async def _run_until(self, target: datetime) -> None:
        simulation = self._simulation
        events = 0
        while True:
            if simulation.outbox:
                self._reports.post_all(simulation.outbox)
            await self._reports.idle()
            due = simulation.next_due
            if due is None or due > target:
                return
            if due > self._clock.now:
                self._clock.set(due)
            simulation.run_next()
            events += 1
            if events % EVENTS_BETWEEN_PAUSES == 0:
                await asyncio.sleep(0)

    async def set_frozen(self, frozen: bool) -> None:
        """Freeze or resume the clock."""
        async with self.lock:
            self.run_due()
            if frozen:
                self._clock.freeze()
            else:
                self._clock.resume()
            self.set_timer()

    def reset(self) -> None:
        """Return to real time and drop all reports that are not posted yet."""
        self._reports.forget()
        self._clock.reset()
        self.set_timer()

    def close(self) -> None:
        """Stop the timer and the reports."""
        if self._timer is not None:
            self._timer.cancel()
        self._reports.forget()
