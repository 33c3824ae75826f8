"""Keeps the state of events in an Airflow Variable, which many tasks write at the same time."""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_provider_omnimessage._compat import Variable
from airflow_provider_omnimessage.notifications.event_state import EventState

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

#: A change is written again if another task has overwritten it, at most so many times.
ATTEMPTS = 6
#: Seconds between a write and the look at what others made of it, at least and at most. It is longer than the time
#: between the read and the write of another task, nearly always.
SETTLING = (0.3, 0.7)
#: Seconds after that at which a change that must not be lost is looked for again: a write that took as long as that
#: may overwrite what was seen to be there.
LATER = (1.5, 3.5)
#: Characters of a key that the Variable's name shows, at most.
SHOWN = 100


class EventStore:
    """The Variable of one deduplication key.

    Airflow's Variables have no compare-and-set: two tasks that write at the same time overwrite each other. So each
    change is looked for after a pause, and made again, to the state as it is then, if it is not there.
    """

    def __init__(self, dedup_key: str, log: Logger) -> None:
        self.variable = variable_of(dedup_key)
        self._log = log

    def read(self) -> EventState:
        """Return the stored state; an empty one if there is none, or if it is something else."""
        value = Variable.get(self.variable, None)
        if not value:
            return EventState()
        try:
            return EventState.read(json.loads(value))
        except (ValueError, TypeError):
            self._log.warning("Variable %s does not hold the state of events; replacing it", self.variable)
            return EventState()

    def change(
        self,
        change: Callable[[EventState], EventState],
        is_there: Callable[[EventState], bool],
        *,
        must_last: bool = False,
    ) -> EventState:
        """Change the state, and return it as it is a little later, with what other tasks did to it.

        :param change: makes the new state of the stored one.
        :param is_there: whether a state contains the change.
        :param must_last: whether to look for it for some seconds, as a message would be lost or doubled without it.
        """
        for _ in range(ATTEMPTS):
            self.write(change(self.read()))
            for pause in (random.uniform(*SETTLING), *(LATER if must_last else ())):
                time.sleep(pause)
                state = self.read()
                if not is_there(state):
                    break
            else:
                return state
        self._log.warning("Other tasks keep overwriting Variable %s; the digest may miss this event", self.variable)
        return change(state)

    def write(self, state: EventState) -> None:
        """Store the state, over whatever is there."""
        description = "Events that are reported together, and messages about them that are scheduled"
        Variable.set(self.variable, json.dumps(state.as_dict()), description=description)


def variable_of(dedup_key: str) -> str:
    """Return the name of the Variable of a key: the key itself, if it can be a name."""
    shown = re.sub(r"[^\w.-]+", "_", dedup_key, flags=re.ASCII)[:SHOWN]
    unique = "" if shown == dedup_key else f"_{hashlib.sha256(dedup_key.encode()).hexdigest()[:12]}"
    return f"omnimessage_events__{shown}{unique}"
