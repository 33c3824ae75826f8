"""What receiver and triggers agree on about claims, without a database."""

from __future__ import annotations

from enum import Enum

#: The longest claim, in seconds.
LONGEST_CLAIM = 3600


class ClaimState(str, Enum):
    """What a process is told that claims something."""

    YOURS = "yours"
    HELD = "held"
    DONE = "done"
