"""What happens to a message: the last four digits of the recipient decide, so that tests can choose an outcome."""

from __future__ import annotations

from typing import Final, NamedTuple

REJECTED_RECIPIENT: Final = "0005"
CANCEL_TOO_LATE: Final = "0006"
BLOCKS_REPEATED_TEXT: Final = "0018"


class Step(NamedTuple):
    """One status change of a channel, ``after`` seconds from the time at which the channel was tried."""

    after: float
    status: str
    err: int = 0


class Failure(NamedTuple):
    """How every channel of a message ends."""

    status: str
    err: int


FAILURES: Final[dict[str, Failure]] = {
    "0001": Failure("UNDELIV", 1),
    "0007": Failure("EXPIRED", 2),
    "0008": Failure("REJECTD", 4),
    "0010": Failure("REJECTD", 6),
    "0011": Failure("REJECTD", 7),
    "0012": Failure("UNDELIV", 8),
    "0013": Failure("UNDELIV", 9),
    "0014": Failure("FAILED", 999),
    "0015": Failure("NACK", 5),
    "0016": Failure("UNKNOWN", 0),
    "0017": Failure("UNDELIV", 3),
}
"""Last four digits of the recipient, and how each of its channels ends. No ending has a 9 at its end, so that tests
can use numbers with a 9 at the end for thousands of ordinary recipients."""

OUTCOMES: Final[dict[str, str]] = {
    "0001": "not delivered on any channel: UNDELIV, error 1",
    "0002": "the first channel fails, the second delivers",
    "0003": "read by the recipient (SEEN); on SMS, which cannot report that, delivered",
    "0004": "stays in progress; only a channel's ttl or validity ends it",
    "0005": "rejected with 400",
    "0006": "too late to cancel: DELETE returns 404 and the message is sent immediately",
    "0007": "expires on every channel: EXPIRED, error 2",
    "0008": "rejected, no credit: REJECTD, error 4",
    "0010": "rejected, too many identical messages: REJECTD, error 6",
    "0011": "rejected, sender not allowed: REJECTD, error 7",
    "0012": "operator blacklisted: UNDELIV, error 8",
    "0013": "unroutable: UNDELIV, error 9",
    "0014": "temporary error: FAILED, error 999",
    "0015": "invalid number format: NACK, error 5",
    "0016": "the carrier cannot say: UNKNOWN, and nothing follows",
    "0017": "invalid number: UNDELIV, error 3",
    "0018": "delivered, but the same text again within an hour is rejected: REJECTD, error 6",
}
"""Last four digits of the recipient, and what happens. Any other number is delivered."""

ERROR_TEXTS: Final[dict[int, str]] = {
    1: "Delivery failure",
    2: "Sending message expired",
    3: "Invalid number",
    4: "Error crediting message",
    5: "Invalid number format",
    6: "Too many identical messages",
    7: "Sender name not allowed",
    8: "Operator blacklisted",
    9: "Unroutable",
    999: "General temporary error",
}
"""``err``, and the ``error`` that comes with it. 0 (no error) and 10 (seen) have none."""

DELIVERED: Final = frozenset({"DELIVRD", "SEEN"})
FAILED: Final = frozenset({"UNDELIV", "EXPIRED", "REJECTD", "FAILED", "NACK"})
FINAL: Final = DELIVERED | FAILED | {"DELETED", "UNKNOWN"}


def planned_steps(
    to: str,
    *,
    channel: str,
    position: int,
    lifetime: float | None,
    delivery_seconds: float,
    repeated: bool = False,
) -> tuple[Step, ...]:
    """Return the status changes that one channel of a message goes through.

    :param to: the recipient; its last four digits decide the outcome.
    :param channel: ``sms``, ``viber``, ``whatsapp`` or ``rcs``.
    :param position: 0 for the first channel, 1 for the next, and so on.
    :param lifetime: seconds after which the channel expires (its ``ttl`` or ``validity``), or None.
    :param delivery_seconds: seconds until the final status.
    :param repeated: whether the text is blocked as identical to an earlier one.
    """
    ending = to[-4:]
    on_the_way = (Step(delivery_seconds * 0.25, "ACK"), Step(delivery_seconds * 0.5, "ACCEPTD"))
    last: tuple[Step, ...] = (Step(delivery_seconds, "DELIVRD"),)
    if repeated:
        last = (Step(delivery_seconds, "REJECTD", 6),)
    elif ending in FAILURES:
        last = (Step(delivery_seconds, *FAILURES[ending]),)
    elif ending == "0002" and position == 0:
        last = (Step(delivery_seconds, "UNDELIV", 1),)
    elif ending == "0003" and channel != "sms":
        last = (Step(delivery_seconds * 0.75, "DELIVRD"), Step(delivery_seconds, "SEEN", 10))
    elif ending == "0004":
        last = ()
    if lifetime is not None and (not last or lifetime < last[0].after):
        return (*(step for step in on_the_way if step.after < lifetime), Step(lifetime, "EXPIRED", 2))
    return on_the_way + last
