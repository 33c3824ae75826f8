"""Recipients in every form in which Airflow hands them over."""

from __future__ import annotations

import pytest

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.recipients import check_recipients_at_parse, parse_recipients

ONE, TWO = "+37255555555", "+37255555556"


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        (ONE, [ONE]),
        ("+372 5555 5555", [ONE]),
        (37255555555, [ONE]),
        ([ONE, TWO, ONE], [ONE, TWO]),
        ((ONE, None, ""), [ONE]),
        ([37255555555, TWO], [ONE, TWO]),
        (f'["{ONE}", "{TWO}"]', [ONE, TWO]),
        (f"['{ONE}', '{TWO}']", [ONE, TWO]),
        ("[37255555555]", [ONE]),
        (f"{ONE}, {TWO}", [ONE, TWO]),
        (f"{ONE};{TWO}\n", [ONE, TWO]),
        ({ONE: 1}.keys(), [ONE]),
        (iter([ONE]), [ONE]),
    ],
)
def test_numbers_are_read_from(value, numbers):
    assert parse_recipients(value) == numbers


@pytest.mark.parametrize("value", [None, "", "  ", [], [None], "None", "[]", ","])
def test_nobody_is_an_error(value):
    with pytest.raises(InvalidInputError, match=r"to: is empty; pass a number in E\.164 format"):
        parse_recipients(value)


@pytest.mark.parametrize("value", ["37255555555", True, 3.5, ["+372", ONE], {"to": ONE}, "[+37255555555", "ann"])
def test_what_is_not_a_number_is_an_error_that_does_not_show_it_whole(value):
    with pytest.raises(InvalidInputError) as error:
        parse_recipients(value)
    assert str(error.value).startswith("to")
    assert "37255555555" not in str(error.value)


def test_each_wrong_entry_is_named_by_its_place():
    with pytest.raises(InvalidInputError, match=r"to\[1\].*to\[2\]"):
        parse_recipients([ONE, "ann", "bob"])


@pytest.mark.parametrize("value", ["{{ var.value.oncall }}", ["{{ var.value.oncall }}", ONE], ["{{ a }}"], ONE])
def test_what_is_rendered_later_passes_while_the_dag_is_parsed(value):
    check_recipients_at_parse(value)


@pytest.mark.parametrize("value", ["37255555555", ["{{ a }}", "ann"], [], None, ""])
def test_what_is_wrong_already_does_not(value):
    with pytest.raises(InvalidInputError):
        check_recipients_at_parse(value)
