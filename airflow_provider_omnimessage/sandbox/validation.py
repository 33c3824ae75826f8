"""What Messente accepts: its documentation read anew and, where it is silent, the official client's models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import Any, Final

from airflow_provider_omnimessage.sandbox.checks import (
    INVALID,
    MISSING,
    Check,
    Problem,
    Problems,
    any_object,
    at_most_one,
    boolean,
    exactly_one,
    given,
    integer,
    listing,
    number,
    one_of,
    record,
    strings,
    text,
    url,
)
from airflow_provider_omnimessage.sandbox.outcomes import REFUSED

E164: Final = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)
HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})+", re.ASCII)
ISO_8601: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:(Z)|([+-])(\d\d)(?::?(\d\d))?)?",
    re.ASCII,
)
MEGABYTE: Final = 1024 * 1024
LAST_YEAR: Final = 9000
"""Later moments leave no room for the arithmetic of datetimes, nor for anybody's patience."""


@lru_cache(maxsize=1024)
def parse_time_to_send(value: str) -> datetime:
    """Read ``time_to_send`` as Messente does: ISO 8601, UTC where no zone is told.

    :param value: as in ``2019-06-22T09:05`` or ``2019-06-22T09:05:07+04:00``.
    :raises ValueError: it is not such a moment.
    """
    match = ISO_8601.fullmatch(value)
    if match is None:
        raise ValueError("must be an ISO 8601 date and time, as in 2019-06-22T09:05:07+04:00")
    year, month, day, hour, minute, second, fraction, _, sign, zone_hours, zone_minutes = match.groups()
    try:
        offset = timedelta(hours=int(zone_hours or 0), minutes=int(zone_minutes or 0))
        moment = datetime(
            int(year),
            int(month),
            int(day),
            int(hour),
            int(minute),
            int(second or 0),
            int((fraction or "0")[:6].ljust(6, "0")),
            tzinfo=timezone(-offset if sign == "-" else offset),
        ).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise ValueError("must be a date and time that exists") from None
    if moment.year > LAST_YEAR:
        raise ValueError(f"must not be later than the year {LAST_YEAR}")
    return moment


def _time_to_send(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, str):
        problems.append(Problem(INVALID, path, "must be a string"))
        return
    try:
        parse_time_to_send(value)
    except ValueError as error:
        problems.append(Problem(INVALID, path, str(error)))


def _recipient(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, str) or not E164.fullmatch(value):
        problems.append(Problem(INVALID, path, "must be a phone number in E.164 format, as in +37255555555"))
    elif value.endswith(REFUSED):
        problems.append(Problem(INVALID, path, f"the sandbox refuses recipients that end in {REFUSED}"))


def _udh(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, str) or not HEX.fullmatch(value):
        problems.append(Problem(INVALID, path, "must be hex-encoded"))


def _viber_combination(value: Any, path: str, problems: Problems) -> None:
    content = ("text", "image_url", "button_text", "button_url", "video", "carousel", "template")
    if frozenset(given(value, content)) not in VIBER_COMBINATIONS:
        detail = (
            "must be one of these combinations: image_url; text; text, button_text and button_url; text, image_url, "
            "button_text and button_url; video; video and text; video, text and button_text; video, text, "
            "button_text and button_url; carousel and text; template"
        )
        code = INVALID if given(value, content) else MISSING
        problems.append(Problem(code, path, detail))


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
LIFETIME: Final[dict[str, Check]] = {
    "sender": text(),
    "ttl": integer(least=1),
    "validity": integer(least=1),
}
ONE_LIFETIME: Final = at_most_one("ttl", "validity")

SMS: Final = record(
    {"text": text()},
    # The documentation says on, full, off; the official client sends full, true, false.
    {**LIFETIME, "autoconvert": one_of("on", "full", "off", "true", "false"), "udh": _udh},
    ONE_LIFETIME,
)

VIBER_BUTTON: Final = record({"label": text(), "action_url": url})
VIBER: Final = record(
    {},
    {
        **LIFETIME,
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
                "items": listing(
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
# A template's own media may name neither: the official client leaves both open.
TEMPLATE_MEDIA: Final = record({}, {"id": text(), "link": url, "caption": STRING, "filename": STRING})
WHATSAPP: Final = record(
    {},
    {
        **LIFETIME,
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
                "components": listing(
                    record(
                        {"type": text()},
                        {
                            "sub_type": STRING,
                            "index": integer(least=0),
                            "parameters": listing(
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
        "suggestions": listing(SUGGESTION, most=4),
    },
)
RCS: Final = record(
    {"sender": text()},
    {
        **LIFETIME,
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
                        "card_contents": listing(CARD_CONTENT, least=2, most=10),
                    }
                ),
            },
            exactly_one("standalone_card", "carousel_card"),
        ),
        "suggestions": listing(SUGGESTION, most=11),
    },
    ONE_LIFETIME,
    exactly_one("text", "content_info", "rich_card"),
)

CHANNELS: Final[dict[str, Check]] = {"sms": SMS, "viber": VIBER, "whatsapp": WHATSAPP, "rcs": RCS}


def _messages(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, list):
        problems.append(Problem(INVALID, path, "must be an array"))
        return
    if not value:
        problems.append(Problem(INVALID, path, "must have at least one message"))
    seen: dict[str, int] = {}
    for index, message in enumerate(value):
        here = f"{path}[{index}]"
        if not isinstance(message, dict):
            problems.append(Problem(INVALID, here, "must be an object"))
            continue
        channel = message.get("channel")
        if channel is None:
            problems.append(Problem(MISSING, f"{here}.channel", "is required"))
        elif not isinstance(channel, str) or channel not in CHANNELS:
            detail = f"must be one of {', '.join(CHANNELS)}"
            problems.append(Problem(INVALID, f"{here}.channel", detail))
        else:
            if channel in seen:
                detail = f"{channel} is already {path}[{seen[channel]}]: one message per channel"
                problems.append(Problem(INVALID, f"{here}.channel", detail))
            seen.setdefault(channel, index)
            CHANNELS[channel](message, here, problems)


OMNIMESSAGE: Final = record(
    {"to": _recipient, "messages": _messages},
    {
        "time_to_send": _time_to_send,
        "dlr_url": url,
        "text_store": one_of("plaintext", "sha256", "nostore"),
        "priority": one_of("low", "regular", "high"),
    },
)
KNOWN_FIELDS: Final = frozenset({"to", "messages", "time_to_send", "dlr_url", "text_store", "priority"})


def validate_omnimessage(body: Any) -> list[Problem]:
    """Find everything that Messente would refuse in one omnimessage.

    :param body: the parsed JSON.
    """
    problems: Problems = []
    OMNIMESSAGE(body, "", problems)
    return problems


def lifetime(message: Mapping[str, Any]) -> float | None:
    """Tell after how many seconds a channel counts as failed, or None if never.

    :param message: that channel's content.
    """
    if message.get("ttl") is not None:
        return float(message["ttl"])
    if message.get("validity") is not None:
        return float(message["validity"]) * 60
    return None
