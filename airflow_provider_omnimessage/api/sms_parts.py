"""
How many parts an SMS takes, and cutting a text to what fits: by GSM 03.38 where that has every character, else UCS-2.

The table stands here whole, as no kept library counts parts: of those on PyPI in November 2026, smsutil does (1.1.3,
last released in 2020), sms-counter is a 0.0.1 without tests, gsm0338 (1.1.0) and smspdudecoder (2.2.0, 2025) encode but
do not count, and none cuts. The tests hold it against smsutil, character by character and text by text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

GSM_ALPHABET = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
#: Each takes two places: an escape, and a character of the extension table.
GSM_EXTENSION = frozenset("\f^{}\\[~]|€")

#: Places in the only part, and in each of several, which lose some to the header that joins them.
GSM_PLACES = (160, 153)
UCS2_PLACES = (70, 67)


def is_gsm(text: str) -> bool:
    """
    Tell whether GSM 03.38 has every character of a text.

    :param text: any text.
    """
    return all(character in GSM_ALPHABET or character in GSM_EXTENSION for character in text)


def count_parts(text: str) -> int:
    """
    Count the parts that a text takes as an SMS, each of which is billed.

    A character that takes two places, which in UCS-2 are those outside the basic plane, is not divided between parts.

    :param text: any text; an empty one takes one part.
    """
    if is_gsm(text):
        widths = [2 if character in GSM_EXTENSION else 1 for character in text]
        single, several = GSM_PLACES
    else:
        widths = [2 if ord(character) > 0xFFFF else 1 for character in text]
        single, several = UCS2_PLACES
    if sum(widths) <= single:
        return 1
    parts, used = 1, 0
    for width in widths:
        if used + width > several:
            parts, used = parts + 1, 0
        used += width
    return parts


def cut_to_parts(text: str, parts: int) -> str:
    """
    Cut a text so that it takes no more than a number of SMS parts; its end, where an error says what it is, is kept.

    :param text: any text.
    :param parts: at least 1.
    """
    return cut(text, lambda candidate: count_parts(candidate) <= parts, GSM_PLACES[0] * parts)


def cut_to_length(text: str, length: int) -> str:
    """
    Cut a text to a number of characters, as :func:`cut_to_parts` does.

    :param text: any text.
    :param length: at least 8.
    """
    return cut(text, lambda candidate: len(candidate) <= length, length)


def cut(text: str, fits: Callable[[str], bool], most: int) -> str:
    """
    Take out as little of the middle of a text as makes it fit, and say so with dots.

    :param text: any text.
    :param fits: tells whether a text fits.
    :param most: as many characters as can possibly fit.
    """
    if fits(text):
        return text
    kept = min(most, len(text)) - 5
    while kept > 1:
        # two thirds of the beginning, one of the end
        head, tail = kept - kept // 3, kept // 3
        candidate = f"{_whole_end(text[:head], text[head:])} ... {_whole_start(text[len(text) - tail :])}"
        if fits(candidate):
            return candidate
        kept -= 1
    return text[:1]


def _whole_end(head: str, rest: str) -> str:
    # what belongs to the last character is cut off with it
    while head and rest and _belongs_to_the_one_before(rest[0]):
        head, rest = head[:-1], head[-1]
    while head.endswith("\u200d"):
        head = head[:-2]
    return head.rstrip()


def _whole_start(tail: str) -> str:
    while tail and _belongs_to_the_one_before(tail[0]):
        tail = tail[1:]
    return tail.lstrip()


def _belongs_to_the_one_before(character: str) -> bool:
    return (
        bool(unicodedata.combining(character))
        or character in "\u200d\ufe0e\ufe0f"
        or 0x1F3FB <= ord(character) <= 0x1F3FF  # skin tones
    )
