"""How a phone number is shown where logs can see it: enough to recognise it, too little to call it."""

from __future__ import annotations

import re

_NUMBER_IN_TEXT = re.compile(r"\+\d(?:[\s().-]?\d){6,}|(?<![\w-])\d{9,}(?![\w-])")


def mask_number(number: object) -> str:
    """
    Show the beginning and the last two digits of a phone number: ``+37255•••55``.

    :param number: a number as the user wrote it, well-formed or not.
    """
    shown = str(number).strip()
    if len(shown) < 8:
        return f"{shown[:2]}•••" if shown else "''"
    return f"{shown[:6]}•••{shown[-2:]}"


def mask_numbers(text: str) -> str:
    """
    Mask every phone number within a text of somebody else's, such as an error that the API answered.

    :param text: any text. A ``+`` before seven digits, or nine digits in a row, are taken for a number; dates and
        message ids are not.
    """
    return _NUMBER_IN_TEXT.sub(lambda match: mask_number(match.group()), text)
