"""When the next request may go out: decisions about a rate limit and the pause after a 429, without a clock."""

from __future__ import annotations

from dataclasses import dataclass, replace

from airflow_provider_omnimessage.api.backoff import FIRST_PAUSE, LONGEST_PAUSE

#: Shares of the rate limit. A steady stream stays below it, so that requests which are delayed on their way, and then
#: arrive together with later ones, do not exceed it. After a rest, a few requests go out without a gap.
STEADY_SHARE = 0.88
BURST_SHARE = 0.08

#: Seconds after which one request is made again, however long Messente asks to wait: a wrong or hostile ``Retry-After``
#: must not silence a triggerer for days.
LONGEST_SHARED_PAUSE = 300.0


@dataclass(frozen=True)
class Pacing:
    """
    The state of one stream of requests. All times are seconds on the same clock.

    :param next_turn: when the next request would go out in a steady stream.
    :param paused_at: when the last pause began.
    :param paused_until: when it ends.
    :param pauses: how many pauses there have been without a success in between.
    """

    next_turn: float = float("-inf")
    paused_at: float = float("-inf")
    paused_until: float = float("-inf")
    pauses: int = 0


def take_turn(pacing: Pacing, now: float, rate_limit: float) -> tuple[float, Pacing]:
    """
    Return the seconds until the next request may go out, and the state in which its turn is taken.

    :param pacing: the state.
    :param now: the current time.
    :param rate_limit: the requests that are allowed in any second.
    """
    gap = 1.0 / (STEADY_SHARE * rate_limit)
    burst = max(0.0, BURST_SHARE * rate_limit - 1.0) * gap
    turn = max(now, pacing.next_turn - burst)
    return turn - now, replace(pacing, next_turn=max(now, pacing.next_turn) + gap)


def pause(pacing: Pacing, now: float, started: float, retry_after: float | None) -> Pacing:
    """
    Return the state after a 429: nothing goes out for as long as Messente asks, else for longer each time.

    :param pacing: the state.
    :param now: the current time.
    :param started: when the request that received the 429 went out.
    :param retry_after: the seconds that Messente asks to wait, if it does.
    """
    # requests that went out together receive their 429s together: that is one pause, not many
    pauses = pacing.pauses if started < pacing.paused_at else pacing.pauses + 1
    seconds = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(pauses - 1, 16)) if retry_after is None else retry_after
    seconds = min(seconds, LONGEST_SHARED_PAUSE)
    until = max(pacing.paused_until, now + seconds) if started < pacing.paused_at else now + seconds
    return replace(pacing, pauses=pauses, paused_at=now, paused_until=until)


def succeed(pacing: Pacing) -> Pacing:
    """
    Return the state after a response that was not a 429.

    :param pacing: the state.
    """
    return replace(pacing, pauses=0) if pacing.pauses else pacing
