"""
Count the parts of an SMS, and cut a text to fit: in GSM 03.38 if that has every character, else in UCS-2.

The character table is here because no maintained library counts parts: on PyPI in November 2026, smsutil does (1.1.3,
last released in 2020), sms-counter is a 0.0.1 without tests, gsm0338 (1.1.0) and smspdudecoder (2.2.0, 2025) encode but
do not count, and none cuts. The tests compare it with smsutil, character by character and text by text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

GSM_ALPHABET = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
#: Each takes two places: an escape, and a character from the extension table.
GSM_EXTENSION = frozenset("\f^{}\\[~]|€")

#: Places in a single part, and in each of several parts, whose headers take some.
GSM_PLACES = (160, 153)
UCS2_PLACES = (70, 67)


def is_gsm(text: str) -> bool:
    """Return whether GSM 03.38 has every character of a text."""
    return all(character in GSM_ALPHABET or character in GSM_EXTENSION for character in text)


def count_parts(text: str) -> int:
    """
    Return the number of parts that a text takes as an SMS. Each part is billed; an empty text takes one.

    A character that takes two places (in UCS-2 those outside the basic plane) is not split between parts.
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
    Cut the middle of a text so that it fits into ``parts`` SMS parts. The end is kept: errors name their cause there.

    :param parts: at least 1.
    """
    return cut(text, lambda candidate: count_parts(candidate) <= parts, GSM_PLACES[0] * parts)


def cut_to_length(text: str, length: int) -> str:
    """
    Cut a text to a number of characters, as :func:`cut_to_parts` does.

    :param length: at least 8.
    """
    return cut(text, lambda candidate: len(candidate) <= length, length)


def cut(text: str, fits: Callable[[str], bool], most: int) -> str:
    """
    Replace as little of the middle of a text as possible by dots, so that it fits.

    :param fits: returns whether a text fits.
    :param most: the largest number of characters that can fit.
    """
    if fits(text):
        return text
    kept = min(most, len(text)) - 5
    while kept > 1:
        # keep two thirds of the beginning, and one third of the end
        head, tail = kept - kept // 3, kept // 3
        candidate = f"{_whole_end(text[:head], text[head:])} ... {_whole_start(text[len(text) - tail :])}"
        if fits(candidate):
            return candidate
        kept -= 1
    return text[:1]


def _whole_end(head: str, rest: str) -> str:
    # cut off a character together with the marks that belong to it
    while head and rest and _joins_previous(rest[0]):
        head, rest = head[:-1], head[-1]
    while head.endswith("\u200d"):
        head = head[:-2]
    return head.rstrip()


def _whole_start(tail: str) -> str:
    while tail and _joins_previous(tail[0]):
        tail = tail[1:]
    return tail.lstrip()


def _joins_previous(character: str) -> bool:
    return (
        bool(unicodedata.combining(character))
        or character in "\u200d\ufe0e\ufe0f"
        or 0x1F3FB <= ord(character) <= 0x1F3FF  # skin tones
    )
