"""What Messente accepts on each channel: read from its documentation and, where that is silent, its official client."""

from __future__ import annotations

import re
from typing import Any, Final

from airflow_provider_omnimessage.sandbox.checks import (
    Check,
    Findings,
    any_object,
    array,
    at_most_one,
    boolean,
    exactly_one,
    integer,
    number,
    one_of,
    present,
    record,
    strings,
    text,
    url,
)

HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})+", re.ASCII)
NUMERIC_SENDER: Final = re.compile(r"\+?[0-9]+", re.ASCII)
LONGEST_NUMERIC_SENDER: Final = 15
LONGEST_ALPHANUMERIC_SENDER: Final = 11
MEGABYTE: Final = 1024 * 1024


def _sms_sender(value: Any, source: str, findings: Findings) -> None:
    if not isinstance(value, str):
        findings.invalid(source, "must be a string")
    elif not value:
        findings.invalid(source, "must not be empty")
    elif NUMERIC_SENDER.fullmatch(value):
        digits = len(value.lstrip("+"))
        if digits > LONGEST_NUMERIC_SENDER:
            findings.invalid(source, f"must have at most {LONGEST_NUMERIC_SENDER} digits if numeric, has {digits}")
    elif len(value) > LONGEST_ALPHANUMERIC_SENDER:
        limit = LONGEST_ALPHANUMERIC_SENDER
        findings.invalid(source, f"must have at most {limit} characters if alphanumeric, has {len(value)}")


def _autoconvert(value: Any, source: str, findings: Findings) -> None:
    if isinstance(value, bool) or value in ("true", "false"):
        # An unquoted `on` in YAML is a boolean: that is how true and false came into the OpenAPI description.
        findings.invalid(source, "must be one of on, full, off; true and false are an error in the OpenAPI description")
    elif value not in ("on", "full", "off"):
        findings.invalid(source, "must be one of on, full, off")


def _udh(value: Any, source: str, findings: Findings) -> None:
    if not isinstance(value, str) or not HEX.fullmatch(value):
        findings.invalid(source, "must be hex-encoded")


def _viber_combination(value: Any, source: str, findings: Findings) -> None:
    found = present(value, VIBER_CONTENT)
    if frozenset(found) not in VIBER_COMBINATIONS:
        detail = (
            "must be one of these combinations: image_url; text; text, button_text and button_url; text, image_url, "
            "button_text and button_url; video; video and text; video, text and button_text; video, text, "
            "button_text and button_url; carousel and text; template"
        )
        if found:
            findings.invalid(source, detail)
        else:
            findings.missing(source, detail)


VIBER_CONTENT: Final = ("text", "image_url", "button_text", "button_url", "video", "carousel", "template")
VIBER_COMBINATIONS: Final = frozenset(
    frozenset(combination)
    for combination in (
        ("image_url",),
        ("text",),
        ("text", "button_text", "button_url"),
        ("text", "image_url", "button_text", "button_url"),
        ("video",),
        ("video", "text"),
        ("video", "text", "button_text"),
        ("video", "text", "button_text", "button_url"),
        ("carousel", "text"),
        ("template",),
    )
)

STRING: Final = text(least=0)
ANY_CHANNEL: Final[dict[str, Check]] = {
    "channel": text(),
    "sender": text(),
    "ttl": integer(least=1),
    "validity": integer(least=1),
}
ONE_LIFETIME: Final = at_most_one("ttl", "validity")

SMS: Final = record(
    {"text": text()},
    {**ANY_CHANNEL, "sender": _sms_sender, "autoconvert": _autoconvert, "udh": _udh},
    ONE_LIFETIME,
)

VIBER_BUTTON: Final = record({"label": text(), "action_url": url})
VIBER: Final = record(
    {},
    {
        **ANY_CHANNEL,
        "text": text(most=1000),
        "image_url": url,
        "button_url": url,
        "button_text": text(),
        "video": record(
            {
                "url": url,
                "thumbnail": url,
                "file_size": integer(least=1, most=200 * MEGABYTE),
                "duration": integer(least=1, most=600),
            }
        ),
        "template": record({"id": text(), "lang": text()}, {"params": strings}),
        "carousel": record(
            {
                "items": array(
                    record(
                        {"title": text(least=2, most=38), "image_url": url, "primary_button": VIBER_BUTTON},
                        {"secondary_button": VIBER_BUTTON},
                    ),
                    least=2,
                    most=5,
                )
            }
        ),
    },
    ONE_LIFETIME,
    _viber_combination,
)


def _whatsapp_media(**optional: Check) -> Check:
    fields = {"id": text(), "link": url, "mime_type": STRING, **optional}
    return record({}, fields, exactly_one("id", "link"))


WHATSAPP_CONTENT: Final = ("text", "image", "video", "audio", "document", "sticker", "template")
# Media in a template may have neither id nor link: the official client requires none.
TEMPLATE_MEDIA: Final = record({}, {"id": text(), "link": url, "caption": STRING, "filename": STRING})
WHATSAPP: Final = record(
    {},
    {
        **ANY_CHANNEL,
        "text": record({"body": text()}, {"preview_url": boolean}),
        "image": _whatsapp_media(caption=STRING),
        "video": _whatsapp_media(caption=STRING),
        "audio": _whatsapp_media(),
        "document": _whatsapp_media(caption=STRING, file_name=STRING),
        "sticker": _whatsapp_media(animated=boolean),
        "template": record(
            {
                "name": text(),
                "language": record({"code": text()}, {"policy": STRING}),
                "components": array(
                    record(
                        {"type": text()},
                        {
                            "sub_type": STRING,
                            "index": integer(least=0),
                            "parameters": array(
                                record(
                                    {"type": text()},
                                    {
                                        "text": STRING,
                                        "currency": record(
                                            {"fallback_value": STRING, "code": STRING, "amount_1000": STRING}
                                        ),
                                        "date_time": record({"fallback_value": STRING}),
                                        "image": TEMPLATE_MEDIA,
                                        "document": TEMPLATE_MEDIA,
                                        "video": TEMPLATE_MEDIA,
                                        "coupon_code": STRING,
                                        "payload": STRING,
                                    },
                                )
                            ),
                        },
                    )
                ),
            }
        ),
    },
    ONE_LIFETIME,
    exactly_one(*WHATSAPP_CONTENT),
)

POSTBACK: Final = text(least=0, most=2048)
ACTIONS: Final[dict[str, Check]] = {
    "dial_action": record({"phone_number": text()}),
    "view_location_action": record(
        {},
        {
            "lat_long": record({"latitude": number, "longitude": number}),
            "label": STRING,
            "query": STRING,
        },
    ),
    "create_calendar_event_action": record(
        {
            "start_time": text(),
            "end_time": text(),
            "title": text(least=0, most=100),
            "description": text(least=0, most=500),
        }
    ),
    "open_url_action": record(
        {"url": text(most=2048), "application": one_of("BROWSER", "WEBVIEW")},
        {"description": STRING, "webview_view_mode": one_of("FULL", "HALF", "TALL")},
    ),
    "share_location_action": any_object,
}
SUGGESTION: Final = record(
    {},
    {
        "reply": record({"text": text(most=25), "postback_data": POSTBACK}),
        "action": record(
            {"text": text(most=25), "postback_data": POSTBACK},
            {"fallback_url": text(least=0, most=2048), **ACTIONS},
            exactly_one(*ACTIONS),
        ),
    },
    exactly_one("reply", "action"),
)
CONTENT_INFO: Final = record({"file_url": url, "force_refresh": boolean}, {"thumbnail_url": url})
CARD_CONTENT: Final = record(
    {},
    {
        "title": text(least=0, most=200),
        "description": text(least=0, most=2000),
        "media": record({"height": one_of("SHORT", "MEDIUM", "TALL"), "content_info": CONTENT_INFO}),
        "suggestions": array(SUGGESTION, most=4),
    },
)
RCS: Final = record(
    {"sender": text()},
    {
        **ANY_CHANNEL,
        "text": text(most=3072),
        "content_info": CONTENT_INFO,
        "rich_card": record(
            {},
            {
                "standalone_card": record(
                    {
                        "card_orientation": one_of("VERTICAL", "HORIZONTAL"),
                        "thumbnail_image_alignment": one_of("LEFT", "RIGHT"),
                        "card_content": CARD_CONTENT,
                    }
                ),
                "carousel_card": record(
                    {
                        "card_width": one_of("SMALL", "MEDIUM"),
                        "card_contents": array(CARD_CONTENT, least=2, most=10),
                    }
                ),
            },
            exactly_one("standalone_card", "carousel_card"),
        ),
        "suggestions": array(SUGGESTION, most=11),
    },
    ONE_LIFETIME,
    exactly_one("text", "content_info", "rich_card"),
)

CHANNELS: Final[dict[str, Check]] = {"sms": SMS, "viber": VIBER, "whatsapp": WHATSAPP, "rcs": RCS}
