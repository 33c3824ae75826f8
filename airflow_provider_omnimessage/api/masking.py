"""Mask phone numbers in everything that logs can show: enough to recognise a number, too little to call it.

The patterns are compiled when they are first used, not when a DAG is parsed.
"""

from __future__ import annotations

import re

#: What people write between the digits of a phone number, invisible characters included: a set of a regular expression.
SEPARATORS = r"[\s()./\-\u00ad\u2010-\u2015\u2212\u200b-\u200f\u202a-\u202e\u2060\ufeff]"

_DATE = r"(?:19|20)\d\d-[01]\d-[0-3]\d(?![\d-])"
# An id, a date or an IP address can look like a number. A number has a "+" and seven digits or more, or nine digits.
# In a URL, the "+" is "%2B".
_NUMBER = rf"""
    (?P<other>
        [0-9a-f]{{8}} (?: -[0-9a-f]{{4}} ){{3}} -[0-9a-f]{{12}}
        | (?<![\w+.-]){_DATE}
        | (?<![\w+.-]) (?: (?: 25[0-5] | 2[0-4]\d | 1\d\d | [1-9]?\d ) (?: \. (?=\d) | (?![\w.]) ) ){{4}}
    )
    | (?: \+{SEPARATORS}{{0,3}}\d | (?: (?<![\w-]) | (?<=%2[Bb]) ) (?! \({_DATE} ) \(?\d )
      (?: (?! [\s(]{{1,2}}{_DATE} ) {SEPARATORS}{{0,3}}\d )+
    """

_SEPARATORS = f"{SEPARATORS}+"

# ITU-T E.164 assigns two zones with one digit, these with two, and all others with three.
_COUNTRY_CODE = r"\+(?:[17]|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|\d{1,3})"


def mask_number(number: object) -> str:
    """
    Return a phone number with its beginning and its last two digits only: ``+37255•••55``.

    At least four characters stay hidden. Separators are left out, so a number looks the same however it is written.

    :param number: as a user wrote it, valid or not.
    """
    shown = re.sub(_SEPARATORS, "", str(number))
    if not shown:
        return "''"
    end = shown[-2:] if len(shown) >= 8 else ""
    return f"{shown[: min(6, max(2, len(shown) - len(end) - 4))]}•••{end}"


def country_code(number: str) -> str:
    """Return the country code of a phone number in E.164 format, such as ``+372``, and nothing else of it."""
    found = re.match(_COUNTRY_CODE, number)
    return found.group() if found else ""


def mask_numbers(text: str) -> str:
    """
    Mask every phone number within a text, such as an error message from Messente.

    Numbers with spaces, brackets, dashes, dots and slashes between their digits are masked, too. Dates, times, IP
    addresses and message ids are not.
    """
    return re.sub(_NUMBER, _mask_match, text, flags=re.VERBOSE)


def _mask_match(match: re.Match[str]) -> str:
    found = match.group()
    digits = sum(map(str.isdigit, found))
    is_number = match["other"] is None and digits >= (7 if found[0] == "+" else 9)
    # part of a longer word, such as an id, unless it has a plus
    is_word = found[0] != "+" and re.match(r"\w|-\w", match.string[match.end() : match.end() + 2]) is not None
    return mask_number(found) if is_number and not is_word else found
