"""The official client parses what the builders return, unchanged, and the sandbox accepts it."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from messente_api.models import SMS, Omnimessage

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import omnimessage, rcs, sms, viber, whatsapp
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

TO = "+37255555555"
LINK = "https://example.com/a.png"
VIDEO = {"url": LINK, "thumbnail": LINK, "file_size": 1000, "duration": 10}
BUTTON = {"label": "Open", "action_url": LINK}
ITEM = {"title": "Shoes", "image_url": LINK, "primary_button": BUTTON, "secondary_button": BUTTON}
FILE = {"file_url": LINK, "thumbnail_url": LINK, "force_refresh": True}
REPLY = {"reply": {"text": "Yes", "postback_data": "yes"}}
CARD = {
    "title": "Title",
    "description": "Description",
    "media": {"height": "TALL", "content_info": FILE},
    "suggestions": [REPLY],
}


def action(**kind):
    return {"action": {"text": "Do", "postback_data": "do", **kind}}


CONTENTS = {
    "sms": sms("Tere 🦄 שלום", sender="ACME", ttl=60, autoconvert="full", udh="050003CC0201"),
    "sms with validity": sms("Tere", validity=5),
    "viber image": viber(image_url=LINK),
    "viber text": viber("Tere"),
    "viber text and button": viber("Tere", button_text="Open", button_url=LINK),
    "viber text, image and button": viber("Tere", image_url=LINK, button_text="Open", button_url=LINK),
    "viber video": viber(video=VIDEO),
    "viber video, text and button": viber("Tere", video=VIDEO, button_text="Open", button_url=LINK),
    "viber carousel": viber("Tere", carousel={"items": [ITEM] * 5}),
    "viber template": viber(template={"id": "1", "lang": "et", "params": {"name": "Ann"}}),
    "whatsapp text": whatsapp("Tere"),
    "whatsapp text without preview": whatsapp({"body": LINK, "preview_url": False}),
    "whatsapp image": whatsapp(image={"link": LINK, "caption": "Tere", "mime_type": "image/png"}),
    "whatsapp video": whatsapp(video={"id": "1"}),
    "whatsapp audio": whatsapp(audio={"id": "1"}),
    "whatsapp document": whatsapp(document={"link": LINK, "file_name": "a.pdf", "caption": "Tere"}),
    "whatsapp sticker": whatsapp(sticker={"id": "1", "animated": True}),
    "whatsapp template": whatsapp(
        template={
            "name": "hello",
            "language": {"code": "et", "policy": "deterministic"},
            "components": [
                {
                    "type": "body",
                    "parameters": [
                        {"type": "text", "text": "Ann"},
                        {
                            "type": "currency",
                            "currency": {"fallback_value": "€1", "code": "EUR", "amount_1000": "1000"},
                        },
                        {"type": "date_time", "date_time": {"fallback_value": "today"}},
                        {"type": "image", "image": {"link": LINK}},
                    ],
                },
                {"type": "button", "sub_type": "url", "index": 0, "parameters": [{"type": "payload", "payload": "x"}]},
            ],
        }
    ),
    "whatsapp template without components": whatsapp(template={"name": "hello", "language": {"code": "et"}}),
    "rcs text": rcs("Tere", sender="agent", suggestions=[REPLY] * 11),
    "rcs file": rcs(content_info=FILE, sender="agent"),
    "rcs card": rcs(
        rich_card={
            "standalone_card": {
                "card_orientation": "HORIZONTAL",
                "thumbnail_image_alignment": "RIGHT",
                "card_content": CARD,
            }
        },
        sender="agent",
    ),
    "rcs carousel": rcs(
        rich_card={"carousel_card": {"card_width": "MEDIUM", "card_contents": [CARD] * 10}}, sender="agent"
    ),
    "rcs actions": rcs(
        "Tere",
        sender="agent",
        suggestions=[
            action(dial_action={"phone_number": TO}),
            action(view_location_action={"lat_long": {"latitude": 59.4, "longitude": 24.7}, "label": "Tallinn"}),
            action(
                create_calendar_event_action={
                    "start_time": "2026-11-23T09:00:00Z",
                    "end_time": "2026-11-23T10:00:00Z",
                    "title": "Meeting",
                    "description": "About it",
                }
            ),
            action(open_url_action={"url": LINK, "application": "WEBVIEW", "webview_view_mode": "HALF"}),
            action(share_location_action={}),
        ],
    ),
}


@pytest.mark.parametrize("message", CONTENTS.values(), ids=CONTENTS)
def test_official_client_parses_every_content_unchanged(message):
    body = omnimessage(TO, [message], priority="high", text_store="nostore", dlr_url=LINK)
    assert without_defaults(Omnimessage.from_dict(body).to_dict()) == body


def without_defaults(value):
    """Remove what the client adds by itself: nulls, and WhatsApp's link preview."""
    if isinstance(value, dict):
        return {
            key: without_defaults(entry)
            for key, entry in value.items()
            if entry is not None and (key, entry) != ("preview_url", True)
        }
    return [without_defaults(entry) for entry in value] if isinstance(value, list) else value


@pytest.mark.parametrize("message", CONTENTS.values(), ids=CONTENTS)
def test_sandbox_accepts_every_content_and_knows_all_its_fields(sandbox, message):
    with OmnimessageHook() as hook:
        accepted = hook.send(TO, [message])
    assert sandbox.message(accepted.omnimessage_id)["body"]["messages"] == [message]
    sandbox.assert_no_unknown_fields()


def test_official_client_parses_the_time_to_send():
    time = datetime(2026, 11, 23, 7, 0, tzinfo=timezone.utc)
    body = omnimessage(TO, [sms("Tere")], time_to_send=time)
    assert body["time_to_send"] == "2026-11-23T07:00:00+00:00"
    assert Omnimessage.from_dict(body).time_to_send == time


def test_order_of_the_channels_is_kept():
    body = omnimessage(TO, [CONTENTS["rcs text"], CONTENTS["whatsapp text"], CONTENTS["viber text"], CONTENTS["sms"]])
    assert [message.to_dict()["channel"] for message in Omnimessage.from_dict(body).messages] == [
        "rcs",
        "whatsapp",
        "viber",
        "sms",
    ]


@pytest.mark.parametrize("word", ["true", "false"])
def test_clients_words_for_autoconvert_are_rejected(word):
    """The documentation has on, full and off. The client has full, true and false, and is no oracle here."""
    with pytest.raises(InvalidInputError, match="use 'on', 'full' or 'off'"):
        omnimessage(TO, [SMS(text="Tere", autoconvert=word)])
