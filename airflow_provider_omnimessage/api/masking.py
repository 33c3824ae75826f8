"""How a phone number is shown where logs can see it: enough to recognise it, too little to call it."""

from __future__ import annotations

import re

_NUMBER_IN_TEXT = re.compile(r"\+\d(?:[\s()./-]{0,3}\d){6,}|(?<![\w-])\d(?: ?\d){8,}(?![\w-])")


def mask_number(number: object) -> str:
    """
    Show the beginning and the last two digits of a phone number: ``+37255•••55``. At least four digits stay hidden.

    :param number: a number as the user wrote it, well-formed or not.
    """
    shown = str(number).strip()
    if not shown:
        return "''"
    end = shown[-2:] if len(shown) >= 8 else ""
    return f"{shown[: min(6, max(2, len(shown) - len(end) - 4))]}•••{end}"


def mask_numbers(text: str) -> str:
    """
    Mask every phone number within a text of somebody else's, such as an error that the API answered.

    :param text: any text. A ``+`` before seven digits, or nine digits with at most a space between them, are taken for
        a number; dates and message ids are not.
    """
    return _NUMBER_IN_TEXT.sub(lambda match: mask_number(match.group()), text)
