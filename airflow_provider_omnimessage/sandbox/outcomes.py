"""What becomes of a message, told by the last four digits of its recipient, and by which steps."""

from __future__ import annotations

from typing import Final, NamedTuple

REFUSED: Final = "0005"
CANCEL_TOO_LATE: Final = "0006"

OUTCOMES: Final[dict[str, str]] = {
    "0001": "undeliverable on every channel",
    "0002": "the first channel fails, the fallback channel delivers",
    "0003": "seen; on SMS, which cannot tell, delivered",
    "0004": "stays in progress for ever; a channel's ttl or validity still ends it",
    "0005": "refused with 400",
    "0006": "a cancel comes too late: DELETE answers 404 and the message goes out at once",
    "0007": "expired on every channel",
}
"""Last four digits of the recipient, and what happens; any other number is delivered."""

ERRORS: Final[dict[str, tuple[int, str | None]]] = {
    "ACK": (0, None),
    "ACCEPTD": (0, None),
    "DELIVRD": (0, None),
    "SEEN": (10, None),
    "UNDELIV": (1, "Delivery failure"),
    "EXPIRED": (2, "Sending message expired"),
    "DELETED": (0, None),
}
"""Status, and the ``err`` and ``error`` that come with it."""

DELIVERED: Final = frozenset({"DELIVRD", "SEEN"})
FAILED: Final = frozenset({"UNDELIV", "EXPIRED"})


class Step(NamedTuple):
    """One change of a channel's status, in seconds after the channel was tried."""

    after: float
    status: str


def course(
    to: str, *, channel: str, position: int, lifetime: float | None, delivery_seconds: float
) -> tuple[Step, ...]:
    """Tell the steps that one channel of a message goes through.

    :param to: the recipient; its last four digits choose the outcome.
    :param channel: ``sms``, ``viber``, ``whatsapp`` or ``rcs``.
    :param position: 0 for the first channel, 1 for its fallback, and so on.
    :param lifetime: seconds after which the channel counts as failed (its ``ttl`` or ``validity``), or None.
    :param delivery_seconds: seconds from the try to the final status.
    """
    ending = to[-4:]
    under_way = (Step(delivery_seconds * 0.25, "ACK"), Step(delivery_seconds * 0.5, "ACCEPTD"))
    final: tuple[Step, ...] = (Step(delivery_seconds, "DELIVRD"),)
    if ending == "0001" or (ending == "0002" and position == 0):
        final = (Step(delivery_seconds, "UNDELIV"),)
    elif ending == "0003" and channel != "sms":
        final = (Step(delivery_seconds * 0.75, "DELIVRD"), Step(delivery_seconds, "SEEN"))
    elif ending == "0004":
        final = ()
    elif ending == "0007":
        final = (Step(delivery_seconds, "EXPIRED"),)
    if lifetime is not None and (not final or lifetime < final[0].after):
        return (*(step for step in under_way if step.after < lifetime), Step(lifetime, "EXPIRED"))
    return under_way + final
