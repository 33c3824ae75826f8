"""Decide when the next request may be made: a rate limit, and the pause after a 429. Nothing here reads a clock."""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow_provider_omnimessage.api.backoff import FIRST_PAUSE, LONGEST_PAUSE

#: Shares of the rate limit. A steady stream stays below it, so that requests that are delayed on their way and arrive
#: together with later ones do not exceed it. After a rest, a few requests are made without a gap.
STEADY_SHARE = 0.88
BURST_SHARE = 0.08

#: Seconds after which a request is made again, however long Messente asks to wait: a wrong ``Retry-After`` must not
#: silence a triggerer for days.
LONGEST_SHARED_PAUSE = 300.0


@dataclass(frozen=True)
class Pacing:
    """
    The state of one stream of requests. All times are seconds on the same clock.

    :param next_turn: when the next request would be made in a steady stream.
    :param paused_at: when the last pause began.
    :param paused_until: when it ends.
    :param pauses: how many pauses in a row, without a success in between.
    """

    next_turn: float = float("-inf")
    paused_at: float = float("-inf")
    paused_until: float = float("-inf")
    pauses: int = 0


def take_turn(pacing: Pacing, now: float, rate_limit: float) -> tuple[float, Pacing]:
    """
    Return the seconds until the next request may be made, and the state after its turn is taken.

    :param rate_limit: requests a second.
    """
    gap = 1.0 / (STEADY_SHARE * rate_limit)
    burst = max(0.0, BURST_SHARE * rate_limit - 1.0) * gap
    turn = max(now, pacing.next_turn - burst)
    return turn - now, replace(pacing, next_turn=max(now, pacing.next_turn) + gap)


def pause(pacing: Pacing, now: float, started: float, retry_after: float | None) -> Pacing:
    """
    Return the state after a 429: requests pause for as long as Messente asks, else longer each time.

    :param started: when the request that received the 429 was made.
    :param retry_after: seconds that Messente asks to wait, if it does.
    """
    # requests that were made together receive their 429s together: that is one pause, not many
    pauses = pacing.pauses if started < pacing.paused_at else pacing.pauses + 1
    seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(pauses - 1, 16)) if retry_after is None else retry_after
    seconds = min(seconds, LONGEST_SHARED_PAUSE)
    # never earlier than another request was told: one may begin just before a pause does
    return replace(pacing, pauses=pauses, paused_at=now, paused_until=max(pacing.paused_until, now + seconds))


def succeed(pacing: Pacing) -> Pacing:
    """Return the state after a response that was not a 429."""
    return replace(pacing, pauses=0) if pacing.pauses else pacing
