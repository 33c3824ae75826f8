"""What is accepted as a message, what is rejected, and the error texts."""

from __future__ import annotations

import pytest

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.masking import mask_number
from airflow_provider_omnimessage.api.messages import (
    draft_messages,
    draft_omnimessage,
    omnimessage,
    rcs,
    sms,
    viber,
    whatsapp,
)

TO = "+37255555555"
LINK = "https://example.com/a.png"
VIDEO = {"url": LINK, "thumbnail": LINK, "file_size": 1000, "duration": 10}
BUTTON = {"label": "Open", "action_url": LINK}
ITEM = {"title": "Shoes", "image_url": LINK, "primary_button": BUTTON}
FILE = {"file_url": LINK, "force_refresh": False}
CARD = {"title": "Title", "media": {"height": "SHORT", "content_info": FILE}}
REPLY = {"reply": {"text": "Yes", "postback_data": "yes"}}


def refusal(*args, **kwargs) -> str:
    with pytest.raises(InvalidInputError) as caught:
        omnimessage(*args, **kwargs)
    return str(caught.value)


class TestRecipient:
    @pytest.mark.parametrize(
        "written",
        [
            "+37255555555",
            "+372 5555 5555",
            "+372 (55) 55-55.55",
            "  +372/55555555 ",
            "+372\u00a05555\u20115555",
            "\u202a+37255555555\u202c",
        ],
    )
    def test_separators_that_people_write_are_tidied_away(self, written):
        assert omnimessage(written, [sms("Hi")])["to"] == TO

    @pytest.mark.parametrize(
        "written",
        [
            "37256667788",
            "0037255555555",
            "+0372555555",
            "+372",
            "+3725555555555555",
            "+372555abc55",
            "",
            "ACME",
            "+٣٧٢٥٥٥٥٥٥٥٥",
        ],
    )
    def test_what_is_not_e164_is_rejected_without_showing_it_whole(self, written):
        said = refusal(written, [sms("Hi")])
        assert said.startswith("to: ")
        assert "E.164" in said
        assert len(written) < 8 or written not in said

    @pytest.mark.parametrize("written", ["+44 (0)20 7946 0958", "+372 5555 5555 / 6666", "+37255555555 /+37255555556"])
    def test_what_would_become_another_number_is_rejected(self, written):
        assert refusal(written, [sms("Hi")]).startswith("to: ")

    @pytest.mark.parametrize(
        ("written", "shown"),
        [
            ("+37255555555", "+37255•••55"),
            ("+123456789", "+123•••89"),
            ("+1234567", "+1•••67"),
            ("55512345", "55•••45"),
            ("12345", "12•••"),
            ("", "''"),
        ],
    )
    def test_at_least_four_digits_of_a_number_stay_hidden(self, written, shown):
        assert mask_number(written) == shown

    @pytest.mark.parametrize(
        "number", ["+37256667788", "+372 5666 7788", "+372/5666/7788", "372 5666 7788", "+372  5666  7788"]
    )
    def test_no_error_shows_a_number_wherever_it_was_put(self, number):
        said = refusal(TO, [{"channel": "sms", "text": "a", number: 1}], priority=number[:20])
        assert "7788" not in said

    @pytest.mark.parametrize("value", [None, 37255555555, ["+37255555555"], {}])
    def test_only_a_string_can_be_a_number(self, value):
        assert "to: " in refusal(value, [sms("Hi")])

    def test_the_error_for_a_number_with_00_shows_how_to_write_it(self):
        assert "write + instead of 00" in refusal("0037255555555", [sms("Hi")])

    @pytest.mark.parametrize("to", [[TO], (TO, TO), {TO}])
    def test_several_recipients_are_shown_the_ways_to_send_to_several(self, to):
        said = refusal(to, [sms("Hi")])
        assert said.startswith(f"to: a {type(to).__name__} is not a phone number; a message has one recipient")
        assert ".expand(to=[...])" in said
        assert TO not in said


class TestMessages:
    def test_one_message_per_channel_in_the_order_passed(self):
        body = omnimessage(TO, [viber("a"), whatsapp("b"), rcs("c", sender="agent"), sms("d")])
        assert [message["channel"] for message in body["messages"]] == ["viber", "whatsapp", "rcs", "sms"]

    def test_a_repeated_channel_is_rejected(self):
        assert "messages[2].channel: sms appears twice" in refusal(TO, [sms("a"), viber("b"), sms("c")])

    @pytest.mark.parametrize("messages", [[], None, "text", {"channel": "sms", "text": "a"}, 7])
    def test_messages_must_be_a_list_that_is_not_empty(self, messages):
        assert refusal(TO, messages).startswith("messages")
        assert messages is None or "at least 1 entry" in refusal(TO, messages)

    def test_telegram_is_rejected_with_the_reason(self):
        said = refusal(TO, [{"channel": "telegram", "text": "a"}])
        assert "no longer" in said
        assert "sms, viber, whatsapp, rcs" in said

    def test_a_dict_without_a_channel_is_rejected(self):
        assert "messages[0].channel: None is not accepted" in refusal(TO, [{"text": "a"}])

    def test_what_is_not_a_message_is_rejected(self):
        assert "messages[0]: a text of 2 characters is not a message" in refusal(TO, ["Hi"])

    def test_a_misspelt_field_is_rejected_with_the_likely_one(self):
        said = refusal(TO, [{"channel": "sms", "text": "a", "tll": 60}])
        assert said == "messages[0].tll: no such field; did you mean ttl?"

    def test_every_problem_is_named_at_once(self):
        said = refusal("5", [{"channel": "sms", "ttl": -1}], priority="urgent", text_store="x", dlr_url="ftp://x")
        for field in ("to:", "messages[0].text:", "messages[0].ttl:", "priority:", "text_store:", "dlr_url:"):
            assert field in said

    def test_no_error_shows_a_text_or_a_whole_number(self):
        said = refusal(
            "+37256667788x",
            [{"channel": "viber", "text": "S3CRET" * 500}, {"channel": "sms", "text": "", "ttl": "S3CRET"}],
        )
        assert "S3CRET" not in said
        assert "37256667788" not in said

    def test_fields_that_are_none_are_left_out(self):
        assert omnimessage(TO, [{"channel": "sms", "text": "a", "sender": None}]) == {
            "to": TO,
            "messages": [{"channel": "sms", "text": "a"}],
        }

    def test_the_dicts_passed_are_not_changed(self):
        message = {"channel": "whatsapp", "text": "a"}
        omnimessage(TO, [message], sender="ACME")
        assert message == {"channel": "whatsapp", "text": "a"}

    def test_the_default_sender_is_for_messages_that_name_none(self):
        body = omnimessage(TO, [sms("a", sender="MINE"), viber("b"), rcs("c")], sender="ACME")
        assert [message["sender"] for message in body["messages"]] == ["MINE", "ACME", "ACME"]

    @pytest.mark.parametrize("text", ["\ud83d", "ok\udc00"])
    def test_half_a_surrogate_pair_is_rejected(self, text):
        assert "surrogate" in refusal(TO, [{"channel": "sms", "text": text}])


class TestLifetime:
    @pytest.mark.parametrize("build", [sms, viber, whatsapp, rcs])
    def test_ttl_or_validity_but_not_both(self, build):
        assert build("a", ttl=60)["ttl"] == 60
        assert build("a", validity=5)["validity"] == 5
        with pytest.raises(InvalidInputError, match="use only one"):
            build("a", ttl=60, validity=1)

    @pytest.mark.parametrize("ttl", [0, -5, 1.5, True, "soon", "", [60]])
    def test_a_ttl_that_is_not_a_positive_whole_number_is_rejected(self, ttl):
        with pytest.raises(InvalidInputError, match=r"sms\.ttl: .*whole number of seconds"):
            sms("a", ttl=ttl)

    def test_digits_that_a_template_rendered_become_a_number(self):
        assert sms("a", ttl=" 600 ")["ttl"] == 600


class TestSms:
    def test_long_and_unicode_texts_are_accepted(self):
        assert sms("ü🦄" * 1000)["text"] == "ü🦄" * 1000

    @pytest.mark.parametrize("text", ["", "  \n", None, 5, b"bytes"])
    def test_there_must_be_a_text(self, text):
        with pytest.raises(InvalidInputError, match=r"sms\.text"):
            sms(text)

    @pytest.mark.parametrize("autoconvert", ["on", "full", "off"])
    def test_autoconvert_takes_the_documented_words(self, autoconvert):
        assert sms("a", autoconvert=autoconvert)["autoconvert"] == autoconvert

    def test_autoconvert_rejects_other_words(self):
        with pytest.raises(InvalidInputError, match="'yes' is not accepted; use one of on, full, off"):
            sms("a", autoconvert="yes")

    @pytest.mark.parametrize("autoconvert", [True, False, "true", "false"])
    def test_autoconvert_rejects_the_booleans_of_the_openapi_description(self, autoconvert):
        with pytest.raises(InvalidInputError, match=r"autoconvert: .* is an error in .* use 'on', 'full' or 'off'"):
            sms("a", autoconvert=autoconvert)

    @pytest.mark.parametrize("sender", ["Alert Depot", "123456789012345", "+123456789012345", "Ülemiste"])
    def test_sender_may_be_a_short_name_or_a_number(self, sender):
        assert sms("a", sender=sender)["sender"] == sender

    @pytest.mark.parametrize(
        ("sender", "problem"),
        [
            ("Alert Centre", "12 characters are too many for a sender on SMS; use at most 11"),
            ("1234567890123456", "16 digits are too many; use at most 15"),
            ("", "an empty text"),
            (7, "is not a text"),
        ],
    )
    def test_sender_that_sms_cannot_carry_is_rejected(self, sender, problem):
        with pytest.raises(InvalidInputError, match=rf"sms\.sender: .*{problem}|sms\.sender: {problem}"):
            sms("a", sender=sender)

    def test_sender_of_the_connection_is_checked_for_sms_and_not_for_other_channels(self):
        assert omnimessage(TO, [viber("a")], sender="Alert Department")["messages"][0]["sender"] == "Alert Department"
        with pytest.raises(InvalidInputError, match=r"messages\[0\]\.sender: 16 characters are too many"):
            omnimessage(TO, [sms("a")], sender="Alert Department")

    @pytest.mark.parametrize(("udh", "accepted"), [("050003CC0201", True), ("0g", False), ("050", False), ("", False)])
    def test_udh_is_hexadecimal(self, udh, accepted):
        if accepted:
            assert sms("a", udh=udh)["udh"] == udh
        else:
            with pytest.raises(InvalidInputError, match=r"sms\.udh"):
                sms("a", udh=udh)


class TestWhatATemplateHides:
    def test_a_draft_lets_templates_pass(self):
        message = viber(
            "{{ text }}", ttl="{{ ttl }}", image_url="{{ a }}", button_text="x" * 5, button_url="{% if a %}{% endif %}"
        )
        assert message["ttl"] == "{{ ttl }}"

    def test_a_draft_still_checks_what_it_can_see(self):
        with pytest.raises(InvalidInputError, match="not a valid combination"):
            viber("{{ text }}", image_url="{{ image }}")

    def test_what_was_not_rendered_is_never_sent(self):
        assert "messages[0].ttl" in refusal(TO, [sms("a", ttl="{{ ttl }}")])

    def test_hand_written_dicts_are_checked_while_the_dag_is_parsed(self):
        with pytest.raises(InvalidInputError, match=r"messages\[0\]\.txt: no such field"):
            draft_messages([{"channel": "sms", "txt": "a", "text": "{{ b }}"}])

    def test_a_list_from_an_xcom_stays_the_same_object_for_airflow_to_know_it_by(self):
        messages = [{"channel": "sms", "text": "{{ data, not a template }}"}]
        assert draft_messages(messages) is messages

    def test_an_object_whose_to_dict_fails_is_rejected(self):
        class Odd:
            def to_dict(self):
                raise RuntimeError

        assert "messages[0]: a Odd is not a message" in refusal(TO, [Odd()])

    def test_what_airflow_resolves_later_passes(self):
        later = "{{ messages }}"
        assert draft_omnimessage("{{ to }}", later, priority="{{ priority }}") is later

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"to": "garbage"}, "to"),
            ({"to": None}, "to"),
            ({"messages": None}, "messages"),
            ({"messages": sms("Hi")}, "messages"),
            ({"priority": "urgent"}, "priority"),
            ({"dlr_url": "x"}, "dlr_url"),
        ],
    )
    def test_what_is_visibly_wrong_by_then_is_rejected(self, given, field):
        with pytest.raises(InvalidInputError, match=f"^{field}: "):
            draft_omnimessage(**{"to": TO, "messages": [sms("Hi")], **given})
