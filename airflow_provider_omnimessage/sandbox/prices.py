"""What a message costs in the sandbox: invented prices, for parts that are counted as carriers count them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from airflow_provider_omnimessage.sandbox.autoconvert import GSM_TWO_SEPTETS, in_gsm, sent_text

PART_PRICES: Final[dict[str, Decimal]] = {
    "sms": Decimal("0.050"),
    "viber": Decimal("0.030"),
    "whatsapp": Decimal("0.040"),
    "rcs": Decimal("0.045"),
}


def sms_parts(text: str) -> int:
    """Count the parts of an SMS: GSM 03.38 if it has all characters, otherwise UCS-2.

    :param text: the text as it is sent.
    """
    if in_gsm(text):
        widths, single, joined = [2 if character in GSM_TWO_SEPTETS else 1 for character in text], 160, 153
    else:
        widths, single, joined = [2 if ord(character) > 0xFFFF else 1 for character in text], 70, 67
    if sum(widths) <= single:
        return 1
    parts, room = 1, joined
    for width in widths:
        # A character of two units is never split between two parts.
        if width > room:
            parts, room = parts + 1, joined
        room -= width
    return parts


def price_info(message: dict[str, Any], *, free: bool = False) -> dict[str, Any]:
    """Return ``price_info`` for one channel of a delivery report.

    :param message: the content for that channel.
    :param free: True for a message that was never sent.
    """
    channel = message["channel"]
    parts = sms_parts(sent_text(message)) if channel == "sms" else 1
    price = Decimal(0) if free else PART_PRICES[channel]
    return {"part_price": f"{price:.3f}", "parts_count": parts, "total_price": f"{price * parts:.3f}"}
