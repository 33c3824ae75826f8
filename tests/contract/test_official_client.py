"""Messente's official client against the sandbox: its requests are accepted, and it can parse the responses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from messente_api import (
    SMS,
    ApiClient,
    BulkMessagingApi,
    BulkOmnimessage,
    Channel,
    DeliveryReportApi,
    ErrorCodeOmnichannelMachine,
    ErrorOmnichannel,
    Omnimessage,
    OmnimessageApi,
    OmniMessageCreateSuccessResponse,
    OmnimessageMessagesInner,
    Priority,
    Rcs,
    Status,
    TextStore,
    Viber,
    WhatsApp,
)
from messente_api.exceptions import ApiException, BadRequestException, NotFoundException, UnauthorizedException

from airflow_provider_omnimessage.sandbox import Sandbox

Client = Callable[..., ApiClient]

TO = "+37255555555"
IMAGE = "https://example.com/a.png"
VIDEO = {"url": "https://example.com/v.mp4", "thumbnail": IMAGE, "file_size": 1000, "duration": 10}
BUTTON = {"button_text": "Open", "button_url": "https://example.com"}
ITEM = {"title": "Shoes", "image_url": IMAGE, "primary_button": {"label": "Buy", "action_url": IMAGE}}
BOTH_BUTTONS = {**ITEM, "secondary_button": {"label": "Later", "action_url": IMAGE}}
INFO = {"file_url": IMAGE, "thumbnail_url": IMAGE, "force_refresh": True}
REPLY = {"reply": {"text": "Yes", "postback_data": "yes"}}


def action(**what: Any) -> dict[str, Any]:
    return {"action": {"text": "Do", "postback_data": "do", "fallback_url": IMAGE, **what}}


CARD = {
    "title": "Title",
    "description": "Description",
    "media": {"height": "TALL", "content_info": INFO},
    "suggestions": [REPLY],
}
CONTENTS: dict[str, SMS | Viber | WhatsApp | Rcs | None] = {
    "sms": SMS(text="hi"),
    "sms with everything": SMS(text="Tere õhtust 😀", sender="ACME", ttl=60, autoconvert="full", udh="050003CC0201"),
    "sms with validity": SMS(text="hi", validity=5),
    "viber text": Viber(text="hi", sender="ACME", ttl=60),
    "viber image": Viber(image_url=IMAGE, validity=1),
    "viber button": Viber(text="hi", **BUTTON),
    "viber image and button": Viber(text="hi", image_url=IMAGE, **BUTTON),
    "viber video": Viber.from_dict({"video": VIDEO}),
    "viber video and text": Viber.from_dict({"video": VIDEO, "text": "hi"}),
    "viber video and button text": Viber.from_dict({"video": VIDEO, "text": "hi", "button_text": "Open"}),
    "viber video and button": Viber.from_dict({"video": VIDEO, "text": "hi", **BUTTON}),
    "viber carousel": Viber.from_dict({"text": "hi", "carousel": {"items": [ITEM, BOTH_BUTTONS]}}),
    "viber template": Viber.from_dict({"template": {"id": "1", "lang": "en", "params": {"name": "Mari"}}}),
    "viber template without params": Viber.from_dict({"template": {"id": "1", "lang": "en"}}),
    "whatsapp text": WhatsApp.from_dict({"text": {"body": "hi"}, "sender": "ACME", "ttl": 60}),
    "whatsapp text without preview": WhatsApp.from_dict({"text": {"body": "hi", "preview_url": False}}),
    **{
        f"whatsapp {kind} by {key}": WhatsApp.from_dict({kind: {key: IMAGE, "mime_type": "a/b", **more}})
        for kind, more in {
            "image": {"caption": "c"},
            "video": {"caption": "c"},
            "audio": {},
            "document": {"caption": "c", "file_name": "a.pdf"},
            "sticker": {"animated": True},
        }.items()
        for key in ("id", "link")
    },
    "whatsapp template": WhatsApp.from_dict(
        {
            "template": {
                "name": "alert",
                "language": {"code": "en", "policy": "deterministic"},
                "components": [
                    {"type": "header", "parameters": [{"type": "image", "image": {"link": IMAGE, "caption": "c"}}]},
                    {
                        "type": "body",
                        "parameters": [
                            {"type": "text", "text": "warehouse"},
                            {
                                "type": "currency",
                                "currency": {"fallback_value": "1 €", "code": "EUR", "amount_1000": "1000"},
                            },
                            {"type": "date_time", "date_time": {"fallback_value": "today"}},
                            {"type": "document", "document": {"id": "1", "filename": "a.pdf"}},
                            {"type": "video", "video": {"link": IMAGE}},
                        ],
                    },
                    {
                        "type": "button",
                        "sub_type": "copy_code",
                        "index": 0,
                        "parameters": [{"type": "coupon_code", "coupon_code": "X1"}],
                    },
                ],
            }
        }
    ),
    "whatsapp template without components": WhatsApp.from_dict(
        {"template": {"name": "alert", "language": {"code": "en"}, "components": []}}
    ),
    "rcs text": Rcs(text="hi", sender="ACME", ttl=60),
    "rcs file": Rcs.from_dict({"sender": "ACME", "content_info": INFO, "validity": 1}),
    "rcs standalone card": Rcs.from_dict(
        {
            "sender": "ACME",
            "rich_card": {
                "standalone_card": {
                    "card_orientation": "HORIZONTAL",
                    "thumbnail_image_alignment": "RIGHT",
                    "card_content": CARD,
                }
            },
        }
    ),
    "rcs carousel": Rcs.from_dict(
        {
            "sender": "ACME",
            "rich_card": {"carousel_card": {"card_width": "MEDIUM", "card_contents": [CARD, {"title": "Other"}]}},
        }
    ),
    "rcs suggestions": Rcs.from_dict(
        {
            "sender": "ACME",
            "text": "hi",
            "suggestions": [
                REPLY,
                action(dial_action={"phone_number": TO}),
                action(view_location_action={"lat_long": {"latitude": 59.4, "longitude": 24}, "label": "Tallinn"}),
                action(view_location_action={"query": "Tallinn"}),
                action(
                    create_calendar_event_action={
                        "start_time": "2026-11-24T12:00:00Z",
                        "end_time": "2026-11-24T13:00:00Z",
                        "title": "Review",
                        "description": "Of the report",
                    }
                ),
                action(open_url_action={"url": IMAGE, "application": "BROWSER", "description": "d"}),
                action(open_url_action={"url": IMAGE, "application": "WEBVIEW", "webview_view_mode": "HALF"}),
                action(share_location_action={}),
            ],
        }
    ),
}


def omnimessage(*contents: Any, to: str = TO, **fields: Any) -> Omnimessage:
    messages = [OmnimessageMessagesInner(content) for content in contents or (SMS(text="hi"),)]
    return Omnimessage(to=to, messages=messages, **fields)


def send(client: ApiClient, message: Omnimessage) -> str:
    return str(OmnimessageApi(client).send_omnimessage(message).omnimessage_id)


@pytest.mark.parametrize("name", CONTENTS)
def test_every_content_of_the_client_is_accepted_and_delivered(messente: Sandbox, client: Client, name: str) -> None:
    content = CONTENTS[name]
    assert content is not None
    api = client()
    sent = OmnimessageApi(api).send_omnimessage(omnimessage(content))
    messente.advance(2)
    report = DeliveryReportApi(api).retrieve_delivery_report(sent.omnimessage_id)

    assert isinstance(sent, OmniMessageCreateSuccessResponse)
    assert [message.channel for message in sent.messages] == [Channel(name.split()[0])]
    assert [(entry.status, entry.message_id) for entry in report.statuses] == [
        (Status.DELIVRD, sent.messages[0].message_id)
    ]
    assert messente.messages[0]["body"]["messages"] == [content.to_dict()]
    messente.assert_no_unknown_fields()


@pytest.mark.parametrize("word", ["true", "false"])
def test_autoconvert_of_the_openapi_description_is_rejected(client: Client, word: str) -> None:
    """The description and the client say true and false where the documentation says on and off."""
    with pytest.raises(BadRequestException) as rejected:
        OmnimessageApi(client()).send_omnimessage(omnimessage(SMS(text="hi", autoconvert=word)))
    (error,) = rejected.value.data.errors
    assert error.source == "payload[sms][autoconvert]"
    assert "must be one of on, full, off" in error.detail


def test_one_omnimessage_may_have_all_channels_and_fields(messente: Sandbox, client: Client) -> None:
    contents = [CONTENTS[name] for name in ("rcs text", "whatsapp text", "viber text", "sms")]
    message = omnimessage(*contents, dlr_url="http://127.0.0.1:9/", text_store=TextStore.SHA256, priority=Priority.HIGH)

    sent = OmnimessageApi(client()).send_omnimessage(message)

    assert [each.channel for each in sent.messages] == [Channel.RCS, Channel.WHATSAPP, Channel.VIBER, Channel.SMS]
    assert messente.messages[0]["body"]["priority"] == "high"


@pytest.mark.parametrize(
    ("time", "sent_at"),
    [
        (datetime(2026, 11, 24, 13), "2026-11-24T13:00:00+00:00"),
        (datetime(2026, 11, 24, 13, tzinfo=timezone.utc), "2026-11-24T13:00:00+00:00"),
        (datetime(2026, 11, 24, 15, tzinfo=timezone(timedelta(hours=2))), "2026-11-24T13:00:00+00:00"),
        (datetime(2026, 11, 24, 13, 0, 0, 123456), "2026-11-24T13:00:00.123456+00:00"),
    ],
)
def test_naive_time_is_utc_and_aware_time_is_converted(
    messente: Sandbox, client: Client, time: datetime, sent_at: str
) -> None:
    api = client()
    omnimessage_id = send(api, omnimessage(time_to_send=time))

    scheduled = DeliveryReportApi(api).retrieve_delivery_report(omnimessage_id)
    assert [entry.status for entry in scheduled.statuses] == [None]
    messente.advance_to_next_message()
    assert messente.messages[0]["sent_at"] == sent_at


def test_scheduled_message_is_cancelled_once(messente: Sandbox, client: Client) -> None:
    api = client()
    omnimessage_id = send(api, omnimessage(time_to_send=datetime(2026, 11, 24, 13)))

    cancelled = OmnimessageApi(api).cancel_scheduled_message_with_http_info(omnimessage_id)
    assert (cancelled.status_code, cancelled.raw_data) == (202, b"{}")
    with pytest.raises(NotFoundException) as again:
        OmnimessageApi(api).cancel_scheduled_message(omnimessage_id)

    assert isinstance(again.value.data, ErrorOmnichannel)
    report = DeliveryReportApi(api).retrieve_delivery_report(omnimessage_id)
    assert [entry.status for entry in report.statuses] == [Status.DELETED]
    assert messente.messages[0]["state"] == "cancelled"


def test_sent_message_cannot_be_cancelled(client: Client) -> None:
    api = client()
    with pytest.raises(NotFoundException) as late:
        OmnimessageApi(api).cancel_scheduled_message(send(api, omnimessage()))
    assert late.value.data.errors[0].code == "101"


def test_report_shows_the_first_channel_and_then_its_fallback(messente: Sandbox, client: Client) -> None:
    api = client()
    omnimessage_id = send(api, omnimessage(Viber(text="hi", ttl=60), SMS(text="hi"), to="+37255550002"))
    seen = []
    for _ in range(5):
        seen.append(DeliveryReportApi(api).retrieve_delivery_report(omnimessage_id).statuses)
        messente.advance(1)

    assert [[entry.status for entry in statuses] for statuses in seen] == [
        [None],
        [Status.ACCEPTD],
        [Status.UNDELIV, None],
        [Status.UNDELIV, Status.ACCEPTD],
        [Status.UNDELIV, Status.DELIVRD],
    ]
    failed, delivered = seen[-1]
    assert (failed.channel, failed.err, failed.error) == (
        Channel.VIBER,
        ErrorCodeOmnichannelMachine.NUMBER_1,
        "Delivery failure",
    )
    assert (delivered.err, delivered.error) == (ErrorCodeOmnichannelMachine.NUMBER_0, None)
    assert (delivered.price_info.parts_count, delivered.price_info.total_price) == (1, "0.050")
    assert delivered.timestamp == datetime(2026, 11, 24, 12, 0, 4)
    assert all(earlier[0].timestamp <= later[0].timestamp for earlier, later in pairwise(seen))


@pytest.mark.parametrize(
    ("to", "status", "err"),
    [
        ("+37255550003", Status.SEEN, 10),
        ("+37255550007", Status.EXPIRED, 2),
        ("+37255550008", Status.REJECTD, 4),
        ("+37255550010", Status.REJECTD, 6),
        ("+37255550011", Status.REJECTD, 7),
        ("+37255550012", Status.UNDELIV, 8),
        ("+37255550013", Status.UNDELIV, 9),
        ("+37255550014", Status.FAILED, 999),
        ("+37255550015", Status.NACK, 5),
        ("+37255550016", Status.UNKNOWN, 0),
        ("+37255550017", Status.UNDELIV, 3),
    ],
)
def test_client_parses_every_outcome(messente: Sandbox, client: Client, to: str, status: Status, err: int) -> None:
    api = client()
    omnimessage_id = send(api, omnimessage(Viber(text="hi"), to=to))
    messente.advance(2)
    (entry,) = DeliveryReportApi(api).retrieve_delivery_report(omnimessage_id).statuses
    assert (entry.status, entry.err) == (status, ErrorCodeOmnichannelMachine(err))


def test_partly_rejected_bulk_send_is_parsed_entry_by_entry(messente: Sandbox, client: Client) -> None:
    good, bad, scheduled = (
        omnimessage(to="+37255550101"),
        omnimessage(to="not a number"),
        omnimessage(to="+37255550103", time_to_send=datetime(2026, 11, 24, 13)),
    )
    response = BulkMessagingApi(client()).send_bulk_omnimessage(BulkOmnimessage(messages=[good, bad, scheduled]))

    first, second, third = (entry.actual_instance for entry in response.messages)
    assert isinstance(first, OmniMessageCreateSuccessResponse)
    assert isinstance(second, ErrorOmnichannel)
    assert isinstance(third, OmniMessageCreateSuccessResponse)
    assert [error.source for error in second.errors] == ["payload[to]"]
    kept = [message["omnimessage_id"] for message in messente.messages]
    assert kept == [first.omnimessage_id, third.omnimessage_id]


def test_client_parses_all_problems_of_a_rejected_message(messente: Sandbox, client: Client) -> None:
    message = omnimessage(SMS(text=""), Viber(), Viber(text="x" * 1001), to="12345")
    with pytest.raises(BadRequestException) as rejected:
        OmnimessageApi(client()).send_omnimessage(message)

    assert isinstance(rejected.value.data, ErrorOmnichannel)
    assert [(error.code.value, error.title.value, error.source) for error in rejected.value.data.errors] == [
        ("105", "Invalid data", "payload[to]"),
        ("105", "Invalid data", "payload[sms][text]"),
        ("106", "Missing data", "payload[viber]"),
        ("105", "Invalid data", "payload[messages][2][channel]"),
        ("105", "Invalid data", "payload[viber][text]"),
    ]
    assert messente.messages == []


@pytest.mark.parametrize(
    "call",
    [
        lambda api: OmnimessageApi(api).send_omnimessage(omnimessage()),
        lambda api: OmnimessageApi(api).cancel_scheduled_message("00000000-0000-0000-0000-000000000000"),
        lambda api: DeliveryReportApi(api).retrieve_delivery_report("00000000-0000-0000-0000-000000000000"),
        lambda api: BulkMessagingApi(api).send_bulk_omnimessage(BulkOmnimessage(messages=[omnimessage()])),
    ],
    ids=["send", "cancel", "status", "bulk"],
)
def test_wrong_password_returns_401_on_every_call(
    messente: Sandbox, client: Client, call: Callable[[ApiClient], Any]
) -> None:
    with pytest.raises(UnauthorizedException) as rejected:
        call(client(password="wrong"))

    assert isinstance(rejected.value.data, ErrorOmnichannel)
    assert rejected.value.data.errors[0].code == "103"
    assert messente.messages == []


def test_report_on_an_unknown_message_is_not_found(client: Client) -> None:
    with pytest.raises(NotFoundException):
        DeliveryReportApi(client()).retrieve_delivery_report("00000000-0000-0000-0000-000000000000")


def test_client_raises_on_a_rate_limit(messente: Sandbox, client: Client) -> None:
    messente.add_fault("rate_limited")
    with pytest.raises(ApiException) as failed:
        send(client(), omnimessage())
    assert failed.value.status == 429


def test_base_url_without_v1_works(messente: Sandbox, client: Client) -> None:
    api = client()
    api.configuration.host = messente.url.removesuffix("/v1")
    send(api, omnimessage())
    assert [call["path"] for call in messente.requests] == ["/omnimessage"]


def test_client_raises_on_a_server_error(messente: Sandbox, client: Client) -> None:
    messente.add_fault("server_error", status=503, html=True)
    with pytest.raises(ApiException) as failed:
        send(client(), omnimessage())
    assert failed.value.status == 503
