"""Decide when to poll for a message. The times depend only on its id and age: every process agrees."""

from __future__ import annotations

import hashlib
import math

#: Seconds: the shortest gap between two polls for one message.
SHORTEST_GAP = 5.0
#: The gap between two polls, as a share of the message's age.
GROWTH = 0.5


def next_poll(age: float, poke_interval: float, spread: float) -> float:
    """
    Return the age at which a message is polled next.

    A restarted triggerer therefore continues where it stopped, and many waits for the same time, each with its own
    spread, do not poll at the same time.

    :param age: seconds since its ``time_to_send``; negative before.
    :param poke_interval: seconds, more than 0: the longest gap.
    :param spread: from 0 to 1, the same for all polls for one message.
    """
    shortest = min(SHORTEST_GAP, poke_interval)
    poll = shortest * (1 + spread)
    while poll <= age:
        gap = max(poll * GROWTH, shortest)
        if gap >= poke_interval:
            return poll + poke_interval * (math.floor((age - poll) / poke_interval) + 1)
        poll += gap
    return poll


def spread_of(omnimessage_id: str) -> float:
    """Return a number from 0 to 1 that is the same for this id in every process."""
    return int.from_bytes(hashlib.blake2b(omnimessage_id.encode(), digest_size=4).digest(), "big") / 2**32
