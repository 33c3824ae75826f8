"""The sandbox's clock: real time, shifted and stopped as a test or a demo needs it."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone


class Clock:
    """Tells the sandbox's time in UTC; it runs with real time until it is frozen."""

    def __init__(self) -> None:
        self._frozen = False
        self.set(datetime.now(timezone.utc))

    @property
    def now(self) -> datetime:
        """The sandbox's time, UTC."""
        if self._frozen:
            return self._base
        # Monotonic, so that a correction of the machine's clock never takes the sandbox back.
        return self._base + timedelta(seconds=time.monotonic() - self._started)

    @property
    def frozen(self) -> bool:
        """Whether the clock stands still."""
        return self._frozen

    def set(self, moment: datetime) -> None:
        """Show another time, and go on from it if the clock runs.

        :param moment: the new time, with a zone.
        """
        self._base = moment.astimezone(timezone.utc)
        self._started = time.monotonic()

    def freeze(self) -> None:
        """Stand still at the time shown."""
        self.set(self.now)
        self._frozen = True

    def resume(self) -> None:
        """Run on from the time shown."""
        self.set(self.now)
        self._frozen = False

    def reset(self) -> None:
        """Go back to real time, running."""
        self.set(datetime.now(timezone.utc))
        self._frozen = False
