"""``autoconvert``: replaces characters outside GSM 03.38 by similar ones, so that a text needs fewer SMS parts."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

GSM_CHARACTERS: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_TWO_SEPTETS: Final = frozenset("\f^{}\\[~]|€")
_ALL_GSM: Final = GSM_CHARACTERS | GSM_TWO_SEPTETS

_REPLACEMENTS: Final[dict[str, str]] = {
    **dict.fromkeys("‘’‚‛′ʼ`´", "'"),
    **dict.fromkeys("“”„‟″«»", '"'),
    **dict.fromkeys("‐‑‒–—―−", "-"),
    **dict.fromkeys("•·", "-"),
    "\t": " ",
    "ł": "l",
    "Ł": "L",
    "đ": "d",
    "Đ": "D",
    "ð": "d",
    "Ð": "D",
    "ħ": "h",
    "Ħ": "H",
    "ı": "i",
    "œ": "oe",
    "Œ": "OE",
    "þ": "th",
    "Þ": "Th",
    "ŧ": "t",
    "Ŧ": "T",
}
"""Characters that Unicode does not decompose into a letter and an accent."""


def in_gsm(text: str) -> bool:
    """Return whether GSM 03.38 has all characters of a text."""
    return _ALL_GSM.issuperset(text)


def replace_non_gsm(text: str) -> str:
    """Replace each character outside GSM 03.38 by a similar one. A character without one, such as 😀, stays."""
    return text if in_gsm(text) else "".join(map(_similar, text))


@lru_cache(maxsize=4096)
def _similar(character: str) -> str:
    if in_gsm(character):
        return character
    if character in _REPLACEMENTS:
        return _REPLACEMENTS[character]
    decomposed = unicodedata.normalize("NFKD", character)
    letters = "".join(part for part in decomposed if not unicodedata.combining(part))
    return letters if letters and in_gsm(letters) else character


def sent_text(message: dict[str, object]) -> str:
    """Return the text that an SMS is sent with.

    :param message: the content for the channel ``sms``.
    """
    text = str(message["text"])
    return replace_non_gsm(text) if message.get("autoconvert") == "full" else text
