"""What the sandbox rejects, and how it names the field: Messente's rules, without a server."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_omnimessage.sandbox.autoconvert import in_gsm, replace_non_gsm
from airflow_provider_omnimessage.sandbox.prices import sms_parts
from airflow_provider_omnimessage.sandbox.validation import parse_time_to_send, validate_omnimessage

IMAGE = "https://example.com/a.png"
VIDEO = {"url": "https://example.com/v.mp4", "thumbnail": IMAGE, "file_size": 1000, "duration": 10}
ITEM = {"title": "Shoes", "image_url": IMAGE, "primary_button": {"label": "Buy", "action_url": IMAGE}}
BUTTON = {"button_text": "Open", "button_url": "https://example.com"}
REPLY = {"reply": {"text": "Yes", "postback_data": "yes"}}
INFO = {"file_url": IMAGE, "force_refresh": False}
CARD = {"title": "Title", "media": {"height": "SHORT", "content_info": INFO}, "suggestions": [REPLY]}
LANGUAGE = {"code": "en"}


def omnimessage(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"to": "+37255555555", "messages": list(messages), **fields}


def sms(**fields: Any) -> dict[str, Any]:
    return {"channel": "sms", "text": "hi", **fields}


def viber(**fields: Any) -> dict[str, Any]:
    return {"channel": "viber", **fields}


def whatsapp(**fields: Any) -> dict[str, Any]:
    return {"channel": "whatsapp", **fields}


def rcs(**fields: Any) -> dict[str, Any]:
    return {"channel": "rcs", "sender": "ACME", **fields}


def sources(body: Any) -> list[tuple[str, str]]:
    return [(problem.code, problem.source) for problem in validate_omnimessage(body).problems]


@pytest.mark.parametrize(
    "message",
    [
        sms(),
        sms(text="x" * 2000, sender="ACME", ttl=60, udh="050003CC0201"),
        *[sms(autoconvert=word) for word in ("on", "full", "off")],
        sms(sender="Alert Depot"),
        sms(sender="+123456789012345"),
        sms(sender=None, ttl=None, validity=5),
        viber(image_url=IMAGE),
        viber(text="x" * 1000),
        viber(text="hi", **BUTTON),
        viber(text="hi", image_url=IMAGE, **BUTTON),
        viber(video=VIDEO),
        viber(video=VIDEO, text="hi"),
        viber(video=VIDEO, text="hi", button_text="Open"),
        viber(video=VIDEO, text="hi", **BUTTON),
        viber(text="hi", carousel={"items": [ITEM] * 5}),
        viber(template={"id": "1", "lang": "en", "params": {"name": "Mari"}}),
        whatsapp(text={"body": "hi", "preview_url": False}),
        whatsapp(image={"id": "1", "caption": "c"}),
        whatsapp(video={"link": IMAGE}),
        whatsapp(audio={"link": IMAGE, "mime_type": "audio/ogg"}),
        whatsapp(document={"link": IMAGE, "file_name": "a.pdf"}),
        whatsapp(sticker={"id": "1", "animated": True}),
        whatsapp(template={"name": "t", "language": LANGUAGE, "components": []}),
        whatsapp(
            template={
                "name": "t",
                "language": {"code": "en", "policy": "deterministic"},
                "components": [
                    {
                        "type": "button",
                        "sub_type": "url",
                        "index": 0,
                        "parameters": [
                            {"type": "currency", "currency": {"fallback_value": "1", "code": "EUR", "amount_1000": "1"}}
                        ],
                    }
                ],
            }
        ),
        rcs(text="x" * 3072, suggestions=[REPLY] * 11),
        rcs(content_info=INFO),
        rcs(
            rich_card={
                "standalone_card": {
                    "card_orientation": "VERTICAL",
                    "thumbnail_image_alignment": "LEFT",
                    "card_content": CARD,
                }
            }
        ),
        rcs(rich_card={"carousel_card": {"card_width": "SMALL", "card_contents": [CARD, CARD]}}),
        rcs(text="hi", suggestions=[{"action": {"text": "Go", "postback_data": "", "share_location_action": {}}}]),
    ],
)
def test_documented_messages_are_accepted(message: dict[str, Any]) -> None:
    findings = validate_omnimessage(omnimessage(message))
    assert (findings.problems, findings.unknown_fields) == ([], [])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("hi", [("105", "payload[messages][0]")]),
        ({"text": "hi"}, [("106", "payload[messages][0][channel]")]),
        ({"channel": "telegram", "text": "hi"}, [("105", "payload[messages][0][channel]")]),
        ({"channel": ["sms"]}, [("105", "payload[messages][0][channel]")]),
        ({"channel": "sms"}, [("106", "payload[sms][text]")]),
        (sms(text=""), [("105", "payload[sms][text]")]),
        (sms(text=7), [("105", "payload[sms][text]")]),
        (sms(autoconvert="yes"), [("105", "payload[sms][autoconvert]")]),
        (sms(udh="05000"), [("105", "payload[sms][udh]")]),
        (sms(ttl=60, validity=1), [("105", "payload[sms][validity]")]),
        (sms(ttl="60"), [("105", "payload[sms][ttl]")]),
        (sms(ttl=True), [("105", "payload[sms][ttl]")]),
        (sms(ttl=0), [("105", "payload[sms][ttl]")]),
        (sms(sender=""), [("105", "payload[sms][sender]")]),
        (sms(sender=7), [("105", "payload[sms][sender]")]),
        (sms(sender="Alert Centre"), [("105", "payload[sms][sender]")]),
        (sms(sender="1234567890123456"), [("105", "payload[sms][sender]")]),
        (sms(autoconvert=True), [("105", "payload[sms][autoconvert]")]),
        (sms(autoconvert="false"), [("105", "payload[sms][autoconvert]")]),
        (viber(), [("106", "payload[viber]")]),
        (viber(text="x" * 1001), [("105", "payload[viber][text]")]),
        (viber(text="hi", image_url=IMAGE), [("105", "payload[viber]")]),
        (viber(text="hi", button_text="Open"), [("105", "payload[viber]")]),
        (viber(carousel={"items": [ITEM, ITEM]}), [("105", "payload[viber]")]),
        (viber(text="hi", carousel={"items": [ITEM]}), [("105", "payload[viber][carousel][items]")]),
        (
            viber(text="hi", carousel={"items": [ITEM, {**ITEM, "title": "x" * 39}]}),
            [("105", "payload[viber][carousel][items][1][title]")],
        ),
        (viber(video={**VIDEO, "duration": 601}), [("105", "payload[viber][video][duration]")]),
        (viber(video={**VIDEO, "file_size": 200 * 1024 * 1024 + 1}), [("105", "payload[viber][video][file_size]")]),
        (viber(image_url="ftp://example.com"), [("105", "payload[viber][image_url]")]),
        (viber(template={"id": "1"}), [("106", "payload[viber][template][lang]")]),
        (
            viber(template={"id": "1", "lang": "en", "params": {"n": 1}}),
            [("105", "payload[viber][template][params][n]")],
        ),
        (whatsapp(), [("106", "payload[whatsapp]")]),
        (whatsapp(text="hi"), [("105", "payload[whatsapp][text]")]),
        (whatsapp(text={"body": ""}), [("105", "payload[whatsapp][text][body]")]),
        (whatsapp(text={"body": "hi"}, image={"id": "1"}), [("105", "payload[whatsapp][image]")]),
        (whatsapp(image={}), [("106", "payload[whatsapp][image]")]),
        (whatsapp(image={"id": "1", "link": IMAGE}), [("105", "payload[whatsapp][image][link]")]),
        (
            whatsapp(template={"name": "t", "language": {}}),
            [
                ("106", "payload[whatsapp][template][components]"),
                ("106", "payload[whatsapp][template][language][code]"),
            ],
        ),
        ({"channel": "rcs", "text": "hi"}, [("106", "payload[rcs][sender]")]),
        (rcs(), [("106", "payload[rcs]")]),
        (rcs(text="x" * 3073), [("105", "payload[rcs][text]")]),
        (rcs(text="hi", content_info=INFO), [("105", "payload[rcs][content_info]")]),
        (rcs(text="hi", suggestions=[REPLY] * 12), [("105", "payload[rcs][suggestions]")]),
        (rcs(text="hi", suggestions=[{}]), [("106", "payload[rcs][suggestions][0]")]),
        (
            rcs(text="hi", suggestions=[{"reply": {"text": "x" * 26, "postback_data": "y"}}]),
            [("105", "payload[rcs][suggestions][0][reply][text]")],
        ),
        (
            rcs(rich_card={"carousel_card": {"card_width": "LARGE", "card_contents": [CARD]}}),
            [
                ("105", "payload[rcs][rich_card][carousel_card][card_width]"),
                ("105", "payload[rcs][rich_card][carousel_card][card_contents]"),
            ],
        ),
    ],
)
def test_invalid_messages_are_rejected_by_field(message: Any, expected: list[tuple[str, str]]) -> None:
    assert sources(omnimessage(message)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"to": "37255555555"}, [("105", "payload[to]")]),
        ({"to": "+0725555555"}, [("105", "payload[to]")]),
        ({"to": "+3725555555555555"}, [("105", "payload[to]")]),
        ({"to": "+37255555555\n"}, [("105", "payload[to]")]),
        ({"to": "+٣٧٢٥٥٥٥٥٥٥٥"}, [("105", "payload[to]")]),
        ({"to": 37255555555}, [("105", "payload[to]")]),
        ({"to": None}, [("106", "payload[to]")]),
        ({"to": "+37255550005"}, [("105", "payload[to]")]),
        ({"messages": None}, [("106", "payload[messages]")]),
        ({"messages": {}}, [("105", "payload[messages]")]),
        ({"messages": []}, [("105", "payload[messages]")]),
        ({"messages": [sms(), sms()]}, [("105", "payload[messages][1][channel]")]),
        ({"dlr_url": "example.com"}, [("105", "payload[dlr_url]")]),
        ({"text_store": "clear"}, [("105", "payload[text_store]")]),
        ({"priority": "urgent"}, [("105", "payload[priority]")]),
        ({"time_to_send": 1234567890}, [("105", "payload[time_to_send]")]),
        ({"unknown": 1}, []),
    ],
)
def test_fields_of_the_omnimessage_are_checked(fields: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert sources({**omnimessage(sms()), **fields}) == expected


def test_all_problems_are_reported_together() -> None:
    body = omnimessage({"channel": "sms"}, viber(text=""), {"channel": "fax"}, priority="urgent")
    assert sources({**body, "to": "me"}) == [
        ("105", "payload[to]"),
        ("106", "payload[sms][text]"),
        ("105", "payload[viber][text]"),
        ("105", "payload[messages][2][channel]"),
        ("105", "payload[priority]"),
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2019-06-22T09:05", datetime(2019, 6, 22, 9, 5)),
        ("2019-06-22T09:05:07", datetime(2019, 6, 22, 9, 5, 7)),
        ("2019-06-22T09:05:07Z", datetime(2019, 6, 22, 9, 5, 7)),
        ("2019-06-22T09:05:07+04:00", datetime(2019, 6, 22, 5, 5, 7)),
        ("2019-06-22T09:05:07-0330", datetime(2019, 6, 22, 12, 35, 7)),
        ("2019-06-22T09:05:07.5+04", datetime(2019, 6, 22, 5, 5, 7, 500000)),
        ("2019-06-22T09:05:07.123456789Z", datetime(2019, 6, 22, 9, 5, 7, 123456)),
    ],
)
def test_time_without_offset_is_utc_and_time_with_offset_is_converted(value: str, expected: datetime) -> None:
    assert parse_time_to_send(value) == expected.replace(tzinfo=timezone.utc)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "now",
        "2019-06-22",
        "09:05",
        "2019-06-22 09:05",
        "2019-06-22T9:05",
        "2019-06-22T09",
        "2019-02-30T09:05",
        "2019-06-22T24:00",
        "2019-06-22T09:05:60",
        "2019-06-22T09:05+25:00",
        "2019-06-22T09:05 Europe/Tallinn",
        "20190622T0905",
        "2019-06-22T09:05\n",
        "0001-01-01T00:00+10:00",
        "9999-12-31T23:59:59Z",
    ],
)
def test_other_time_formats_are_rejected(value: str) -> None:
    assert sources(omnimessage(sms(), time_to_send=value)) == [("105", "payload[time_to_send]")]


@given(
    st.datetimes(max_value=datetime(2200, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
)
def test_every_isoformat_of_python_is_accepted(time: datetime, minutes: int) -> None:
    zoned = time.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    try:
        expected = zoned.astimezone(timezone.utc)
    except OverflowError:
        return
    assert parse_time_to_send(zoned.isoformat()) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)
contents = st.sampled_from(["text", "image_url", "button_url", "video", "template", "carousel", "image", "rich_card"])
names = contents | st.sampled_from(["suggestions", "ttl", "validity", "sender", "udh"])


@given(
    st.lists(
        st.fixed_dictionaries({"channel": st.sampled_from(["sms", "viber", "whatsapp", "rcs"]) | json_values}).flatmap(
            lambda base: st.dictionaries(names, json_values, max_size=4).map(lambda extra: {**base, **extra})
        )
        | json_values,
        max_size=3,
    )
    | json_values,
    json_values,
)
def test_no_json_makes_the_validation_fail_itself(messages: Any, other: Any) -> None:
    body = {"to": other, "messages": messages, "dlr_url": other, "priority": other, "time_to_send": other}
    assert all(problem.source and problem.detail for problem in validate_omnimessage(body).problems)


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
        # 306 septets would fill two parts, but a character of two septets is never split
        ("€" * 153, 3),
        ("õ" * 70, 1),
        ("õ" * 71, 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("😀" * 67, 3),
    ],
)
def test_sms_is_counted_in_parts(text: str, parts: int) -> None:
    assert sms_parts(text) == parts


@pytest.mark.parametrize(
    ("text", "replaced"),
    [
        ("Tere, öö on äge: 5 €", "Tere, öö on äge: 5 €"),
        ("“Õhtu” – it’s late…", '"Ohtu" - it\'s late...'),
        ("Zażółć gęślą jaźń, Łódź", "Zazolc gesla jazn, Lodz"),
        ("œuvre №5 ™", "oeuvre No5 TM"),
        ("a\u00a0b\tc", "a b c"),
        ("Поезд 😀", "Поезд 😀"),
    ],
)
def test_autoconvert_replaces_characters_by_similar_ones_if_there_are_any(text: str, replaced: str) -> None:
    assert replace_non_gsm(text) == replaced


@given(st.text())
def test_autoconvert_keeps_gsm_text_and_is_stable(text: str) -> None:
    replaced = replace_non_gsm(text)
    assert replace_non_gsm(replaced) == replaced
    assert replaced == text or not in_gsm(text)


@pytest.mark.parametrize(
    ("body", "unknown"),
    [
        (omnimessage(sms(), dlr="x"), ["dlr"]),
        (omnimessage(sms(txt="x")), ["sms.txt"]),
        (omnimessage(viber(video={**VIDEO, "size": 1})), ["viber.video.size"]),
        (omnimessage(rcs(text="hi", suggestions=[{**REPLY, "id": 1}])), ["rcs.suggestions.0.id"]),
    ],
)
def test_unknown_fields_are_found_at_every_depth(body: dict[str, Any], unknown: list[str]) -> None:
    findings = validate_omnimessage(body)
    assert (findings.problems, findings.unknown_fields) == ([], unknown)


def test_true_and_false_for_autoconvert_are_rejected_with_the_reason() -> None:
    (problem,) = validate_omnimessage(omnimessage(sms(autoconvert="true"))).problems
    assert problem.detail == "must be one of on, full, off; true and false are an error in the OpenAPI description"
