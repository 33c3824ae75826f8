"""Parts of an SMS: the places of both alphabets, and texts cut so that beginning and end can still be read."""

from __future__ import annotations

import pytest
import smsutil
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_omnimessage.api.sms_parts import (
    GSM_ALPHABET,
    GSM_EXTENSION,
    count_parts,
    cut_to_length,
    cut_to_parts,
    is_gsm,
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", 1),
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        # an escape and its character stay together: 153 places hold 76 of them
        ("€" * 152, 2),
        ("€" * 153, 3),
        ("õ" * 70, 1),
        ("õ" * 71, 2),
        ("õ" * 134, 2),
        ("õ" * 135, 3),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        # and so do the two halves of what is outside the basic plane: 67 places hold 33
        ("😀" * 66, 2),
        ("😀" * 67, 3),
        # one character outside GSM makes all of it UCS-2
        ("a" * 70 + "õ", 2),
    ],
)
def test_parts_are_counted_as_they_are_billed(text, parts):
    assert count_parts(text) == parts


def test_the_alphabet_has_127_characters_beside_the_escape():
    assert len(GSM_ALPHABET) == 127
    assert is_gsm("Ää Öö Üü ß Ñ @ [~] €")
    assert not is_gsm("õ")
    assert not is_gsm("`")
    assert not is_gsm("ç")


def test_another_library_has_the_same_alphabet():
    characters = [chr(code) for code in range(0x2200)]
    differing = [character for character in characters if smsutil.is_valid_gsm(character) != is_gsm(character)]
    # the escape itself, which is no character
    assert differing == ["\x1b"]


@given(st.text(st.sampled_from([*GSM_ALPHABET, *GSM_EXTENSION, *"õç😀"]), max_size=700))
@example("€" * 153)
@example("a€" * 102)
@example("a" + "😀" * 67)
def test_another_library_counts_the_same_parts(text):
    assert count_parts(text) == max(1, len(smsutil.split(text).parts))


def test_what_fits_is_left_alone():
    assert cut_to_parts("a" * 160, 1) == "a" * 160


def test_beginning_and_end_can_still_be_read():
    text = "report.load failed: " + "x" * 500 + " ValueError: no such table"
    cut = cut_to_parts(text, 1)
    assert len(cut) == 160
    assert cut.startswith("report.load failed: xxx")
    assert cut.endswith("xxx ValueError: no such table")
    assert " ... " in cut


def test_nothing_that_belongs_together_is_divided():
    family = "👨\u200d👩\u200d👧"
    assert "\u200d ..." not in cut_to_parts(family * 30, 1)
    accent = "e\u0301"
    cut = cut_to_parts(accent * 100, 1)
    assert cut.replace(accent, "") == " ... "


@given(st.text(), st.integers(1, 4))
def test_any_text_is_cut_to_fit(text, parts):
    cut = cut_to_parts(text, parts)
    assert count_parts(cut) <= parts
    assert cut == text or count_parts(text) > parts


@given(st.text(), st.integers(8, 60))
def test_any_text_is_cut_to_a_length(text, length):
    assert len(cut_to_length(text, length)) <= length
