"""What a message costs in the sandbox: invented prices, counted in parts as carriers count them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

PART_PRICES: Final[dict[str, Decimal]] = {
    "sms": Decimal("0.050"),
    "viber": Decimal("0.030"),
    "whatsapp": Decimal("0.040"),
    "rcs": Decimal("0.045"),
}

GSM_CHARACTERS: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_TWO_SEPTETS: Final = frozenset("\f^{}\\[~]|€")


def sms_parts(text: str) -> int:
    """Count the parts that an SMS takes: GSM 03.38 where it can be, else UCS-2.

    :param text: the text as it is sent.
    """
    characters = set(text)
    if characters <= GSM_CHARACTERS:
        widths, single, joined = [1] * len(text), 160, 153
    elif characters <= GSM_CHARACTERS | GSM_TWO_SEPTETS:
        widths, single, joined = [2 if character in GSM_TWO_SEPTETS else 1 for character in text], 160, 153
    else:
        widths, single, joined = [2 if ord(character) > 0xFFFF else 1 for character in text], 70, 67
    if sum(widths) <= single:
        return 1
    parts, room = 1, joined
    for width in widths:
        # A character of two units never stands with one half in each part.
        if width > room:
            parts, room = parts + 1, joined
        room -= width
    return parts


def price_info(message: dict[str, Any], *, free: bool = False) -> dict[str, Any]:
    """Tell a delivery report's ``price_info`` for one channel.

    :param message: that channel's content, as it was sent.
    :param free: True for a message that never left, as after a cancel.
    """
    channel = message["channel"]
    parts = sms_parts(message["text"]) if channel == "sms" else 1
    price = Decimal(0) if free else PART_PRICES[channel]
    return {"part_price": f"{price:.3f}", "parts_count": parts, "total_price": f"{price * parts:.3f}"}
