"""The builders of Viber, WhatsApp and RCS messages: what they accept, and what they reject."""

from __future__ import annotations

from datetime import datetime

import pytest

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import (
    omnimessage,
    rcs,
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


CAROUSEL = {"items": [ITEM, ITEM]}


class TestViber:
    @pytest.mark.parametrize(
        "content",
        [
            {"image_url": LINK},
            {"text": "a"},
            {"text": "a", "button_text": "b", "button_url": LINK},
            {"text": "a", "image_url": LINK, "button_text": "b", "button_url": LINK},
            {"video": VIDEO},
            {"video": VIDEO, "text": "a"},
            {"video": VIDEO, "text": "a", "button_text": "b"},
            {"video": VIDEO, "text": "a", "button_text": "b", "button_url": LINK},
            {"carousel": CAROUSEL, "text": "a"},
            {"template": {"id": "1", "lang": "en", "params": {"name": "Ann"}}},
        ],
    )
    def test_the_valid_combinations(self, content):
        assert viber(**content) == {"channel": "viber", **content}

    @pytest.mark.parametrize(
        "content",
        [
            {},
            {"text": "a", "image_url": LINK},
            {"text": "a", "button_text": "b"},
            {"text": "a", "button_url": LINK},
            {"button_text": "b", "button_url": LINK},
            {"image_url": LINK, "button_text": "b", "button_url": LINK},
            {"video": VIDEO, "image_url": LINK},
            {"video": VIDEO, "text": "a", "button_url": LINK},
            {"carousel": CAROUSEL},
            {"carousel": CAROUSEL, "text": "a", "image_url": LINK},
            {"template": {"id": "1", "lang": "en"}, "text": "a"},
        ],
    )
    def test_all_others_are_rejected_with_the_valid_ones(self, content):
        with pytest.raises(InvalidInputError, match="not a valid combination; use one of: image_url; text;"):
            viber(**content)

    def test_a_text_has_at_most_1000_characters(self):
        assert viber("x" * 1000)
        with pytest.raises(InvalidInputError, match=r"1,001 characters is too short or too long; pass 1 to 1,000"):
            viber("x" * 1001)

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"duration": 601}, "duration"),
            ({"duration": 0}, "duration"),
            ({"file_size": 200 * 1024 * 1024 + 1}, "file_size"),
            ({"thumbnail": "no url"}, "thumbnail"),
            ({"url": None}, "url"),
        ],
    )
    def test_a_video_keeps_its_limits(self, change, field):
        with pytest.raises(InvalidInputError, match=rf"viber\.video\.{field}"):
            viber(video={**VIDEO, **change})

    @pytest.mark.parametrize("count", [1, 6])
    def test_a_carousel_has_2_to_5_items(self, count):
        with pytest.raises(InvalidInputError, match=r"viber\.carousel\.items: .* 2 to 5 entries"):
            viber("a", carousel={"items": [ITEM] * count})

    @pytest.mark.parametrize("title", ["x", "x" * 39])
    def test_a_carousel_title_has_2_to_38_characters(self, title):
        with pytest.raises(InvalidInputError, match=r"items\[1\]\.title"):
            viber("a", carousel={"items": [ITEM, {**ITEM, "title": title}]})


class TestWhatsApp:
    @pytest.mark.parametrize(
        "content",
        [
            {"text": {"body": "a", "preview_url": False}},
            {"image": {"link": LINK, "caption": "c"}},
            {"video": {"id": "1"}},
            {"audio": {"link": LINK, "mime_type": "audio/ogg"}},
            {"document": {"link": LINK, "file_name": "a.pdf"}},
            {"sticker": {"id": "1", "animated": True}},
            {
                "template": {
                    "name": "hello",
                    "language": {"code": "en", "policy": "deterministic"},
                    "components": [{"type": "body", "parameters": [{"type": "text", "text": "Ann"}]}],
                }
            },
        ],
    )
    def test_each_content_alone(self, content):
        assert whatsapp(**content) == {"channel": "whatsapp", **content}

    def test_a_plain_text_becomes_a_body(self):
        assert whatsapp("Hi")["text"] == {"body": "Hi"}

    def test_a_template_without_components_gets_none(self):
        template = {"name": "hello", "language": {"code": "en"}}
        assert whatsapp(template=template)["template"] == {**template, "components": []}

    @pytest.mark.parametrize("content", [{}, {"text": "a", "image": {"id": "1"}}])
    def test_none_or_two_are_rejected(self, content):
        with pytest.raises(InvalidInputError, match="use exactly one of text, image, video, audio"):
            whatsapp(**content)

    @pytest.mark.parametrize("media", [{}, {"id": "1", "link": LINK}, {"link": "file:///etc/passwd"}])
    def test_media_are_named_by_id_or_by_link(self, media):
        with pytest.raises(InvalidInputError, match=r"whatsapp\.image"):
            whatsapp(image=media)

    @pytest.mark.parametrize("value", [datetime(2026, 11, 23), float("inf"), {1, 2}])
    def test_what_json_cannot_hold_is_rejected(self, value):
        component = {"type": "header", "parameters": [{"type": "text", "text": value}]}
        template = {"name": "n", "language": {"code": "en"}, "components": [component]}
        said = refusal(TO, [{"channel": "whatsapp", "template": template}])
        assert "parameters[0].text: " in said
        assert "JSON" in said

    def test_what_meta_adds_to_components_goes_through(self):
        component = {"type": "header", "parameters": [{"type": "location", "location": {"latitude": 1}}], "new": 1}
        template = {"name": "n", "language": {"code": "en"}, "components": [component]}
        assert whatsapp(template=template)["template"]["components"] == [component]


class TestRcs:
    @pytest.mark.parametrize(
        "content",
        [
            {"text": "a", "suggestions": [REPLY]},
            {"content_info": FILE},
            {
                "rich_card": {
                    "standalone_card": {
                        "card_orientation": "VERTICAL",
                        "thumbnail_image_alignment": "LEFT",
                        "card_content": CARD,
                    }
                }
            },
            {"rich_card": {"carousel_card": {"card_width": "SMALL", "card_contents": [CARD, CARD]}}},
        ],
    )
    def test_each_content_alone(self, content):
        assert rcs(sender="agent", **content) == {"channel": "rcs", "sender": "agent", **content}

    def test_the_sender_may_come_later_but_must_come(self):
        assert "messages[0].sender: is missing" in refusal(TO, [rcs("a")])

    def test_a_text_has_at_most_3072_characters(self):
        assert rcs("x" * 3072)
        with pytest.raises(InvalidInputError, match="3,073"):
            rcs("x" * 3073)

    def test_there_are_at_most_11_suggestions(self):
        assert rcs("a", suggestions=[REPLY] * 11)
        with pytest.raises(InvalidInputError, match=r"rcs\.suggestions: a list of 12"):
            rcs("a", suggestions=[REPLY] * 12)

    @pytest.mark.parametrize(
        "action",
        [
            {"dial_action": {"phone_number": TO}},
            {"view_location_action": {"lat_long": {"latitude": 59.4, "longitude": 24}}},
            {
                "create_calendar_event_action": {
                    "start_time": "2026-11-23T09:00:00Z",
                    "end_time": "2026-11-23T10:00:00Z",
                    "title": "t",
                    "description": "d",
                }
            },
            {"open_url_action": {"url": LINK, "application": "BROWSER"}},
            {"share_location_action": {}},
        ],
    )
    def test_an_action_has_exactly_one_kind(self, action):
        base = {"text": "Do", "postback_data": "do"}
        assert rcs("a", suggestions=[{"action": {**base, **action}}])
        with pytest.raises(InvalidInputError, match="exactly one of dial_action"):
            rcs("a", suggestions=[{"action": base}])
