"""Lets things happen when the sandbox's clock says so, whether it runs by itself or is moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from airflow_provider_omnimessage.sandbox.callbacks import Callbacks
from airflow_provider_omnimessage.sandbox.clock import Clock
from airflow_provider_omnimessage.sandbox.world import World

STEPS_IN_A_ROW = 500


class Timeline:
    """Joins the clock, the world and the callbacks; belongs to one event loop.

    :param world: what happens.
    :param clock: when it happens.
    :param callbacks: who is told.
    """

    def __init__(self, world: World, clock: Clock, callbacks: Callbacks) -> None:
        self._world = world
        self._clock = clock
        self._callbacks = callbacks
        self.moving = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due: datetime | None = None
        callbacks.on_retry = self.arm

    def catch_up(self) -> None:
        """Let everything happen that is due by now, and be called again when the next thing is."""
        world = self._world
        if world.next_due is not None:
            now = self._clock.now
            while world.next_due is not None and world.next_due <= now:
                world.step()
        if world.outbox:
            self._callbacks.take_over(world.outbox)
        if world.next_due != self._timer_due:
            self.arm()

    def arm(self) -> None:
        """Set the alarm for the next thing that is due."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_due = None, self._world.next_due
        if self._timer_due is not None and not self._clock.frozen:
            # asyncio rounds to its clock's resolution: a hair later is better than a round too many.
            delay = max(0.0, (self._timer_due - self._clock.now).total_seconds()) + 0.0005
            self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self._timer = self._timer_due = None
        self.catch_up()

    async def move(self, target_from: Callable[[datetime], datetime]) -> None:
        """Show another time; on the way there, everything happens in order, reports to ``dlr_url`` included.

        :param target_from: tells the new time from the present one; an earlier one undoes nothing.
        """
        async with self.moving:
            target = target_from(self._clock.now)
            was_frozen = self._clock.frozen
            self._clock.freeze()
            try:
                await self._happen_until(target)
                self._clock.set(target)
            finally:
                if not was_frozen:
                    self._clock.resume()
                self.arm()

    async def _happen_until(self, target: datetime) -> None:
        world = self._world
        steps = 0
        while True:
            if world.outbox:
                self._callbacks.take_over(world.outbox)
            await self._callbacks.idle()
            due = world.next_due
            if due is None or due > target:
                return
            if due > self._clock.now:
                self._clock.set(due)
            world.step()
            steps += 1
            if steps % STEPS_IN_A_ROW == 0:
                await asyncio.sleep(0)

    async def set_frozen(self, frozen: bool) -> None:
        """Stop the clock, or let it run.

        :param frozen: True to stop it.
        """
        async with self.moving:
            self.catch_up()
            if frozen:
                self._clock.freeze()
            else:
                self._clock.resume()
            self.arm()

    def reset(self) -> None:
        """Go back to real time and forget what was under way."""
        self._callbacks.forget()
        self._clock.reset()
        self.arm()

    def close(self) -> None:
        """Stop for good."""
        if self._timer is not None:
            self._timer.cancel()
        self._callbacks.close()
