"""The sandbox's clock: real time, which tests and demos can move and stop."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone


class Clock:
    """A UTC clock that runs with real time until it is moved or frozen."""

    def __init__(self) -> None:
        self._frozen = False
        self.set(datetime.now(timezone.utc))

    @property
    def now(self) -> datetime:
        """The sandbox's time, UTC."""
        if self._frozen:
            return self._base
        # Monotonic, so that adjusting the system clock never turns the sandbox back.
        return self._base + timedelta(seconds=time.monotonic() - self._started)

    @property
    def frozen(self) -> bool:
        """Whether the clock is stopped."""
        return self._frozen

    def set(self, to: datetime) -> None:
        """Set the time. A running clock goes on from there.

        :param to: the new time, with a time zone.
        """
        self._base = to.astimezone(timezone.utc)
        self._started = time.monotonic()

    def freeze(self) -> None:
        """Stop at the current time."""
        self.set(self.now)
        self._frozen = True

    def resume(self) -> None:
        """Run again, from the current time of the clock."""
        self.set(self.now)
        self._frozen = False

    def reset(self) -> None:
        """Return to real time, running."""
        self.set(datetime.now(timezone.utc))
        self._frozen = False
