"""The rules of each channel's message: which fields it has, what each may hold, and which go together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from airflow_provider_omnimessage.api import fields, records
from airflow_provider_omnimessage.api.fields import Problems, Rule
from airflow_provider_omnimessage.api.records import Record

MEGABYTE = 1024 * 1024
_LONGEST_NUMERIC_SENDER = 15
_LONGEST_ALPHANUMERIC_SENDER = 11


def check_message(value: object, field: str, problems: Problems) -> Any:
    """Check one channel's message, by the rules of its ``channel``: a dict, or an object with ``to_dict()``."""
    message = records.as_plain(value)
    if not records.is_mapping(message):
        problems.reject(
            field,
            f"{fields.describe(message)} is not a message; build one with sms(), viber(), whatsapp() or rcs()",
        )
        return message
    channel = message.get("channel")
    if problems.draft and fields.is_deferred(channel):
        return dict(message)
    if not isinstance(channel, str) or channel not in _CHANNELS:
        shown = repr(channel) if isinstance(channel, str) and len(channel) <= 20 else fields.describe(channel)
        gone = " (Messente no longer offers it)" if channel == "telegram" else ""
        problems.reject(f"{field}.channel", f"{shown}{gone} is not accepted; use one of {', '.join(_CHANNELS)}")
        return message
    return _CHANNELS[channel]()(message, field, problems)


def rule_of(channel: object, field: str) -> Rule | None:
    """Return the rule for one field of a channel's message; ``None`` if there is no such field."""
    build = _CHANNELS.get(str(channel))
    return build().rules.get(field) if build else None


def check_messages(value: object, field: str, problems: Problems) -> Any:
    """Check the messages of one omnimessage: at least one, and at most one for each channel."""
    checked = records.many(check_message, least=1)(value, field, problems)
    if isinstance(checked, list):
        seen: set[str] = set()
        for index, message in enumerate(checked):
            channel = message.get("channel") if records.is_mapping(message) else None
            if isinstance(channel, str) and channel in seen:
                problems.reject(f"{field}[{index}].channel", f"{channel} appears twice; use one message per channel")
            elif isinstance(channel, str) and not fields.is_deferred(channel):
                seen.add(channel)
    return checked


def sms_sender(value: object, field: str, problems: Problems) -> object:
    """Accept a sender that SMS allows: up to 11 characters, or a number of up to 15 digits."""
    fields.text()(value, field, problems)
    if not isinstance(value, str):
        return value
    digits = value.removeprefix("+")
    if digits.isascii() and digits.isdigit():
        if len(digits) > _LONGEST_NUMERIC_SENDER:
            problems.reject(field, f"{len(digits)} digits are too many; use at most {_LONGEST_NUMERIC_SENDER}")
    elif len(value) > _LONGEST_ALPHANUMERIC_SENDER:
        problems.reject(
            field,
            f"{len(value)} characters are too many for a sender on SMS; use at most {_LONGEST_ALPHANUMERIC_SENDER}, "
            f"or a number of at most {_LONGEST_NUMERIC_SENDER} digits",
        )
    return value


def _one_lifetime(present: Mapping[str, object], field: str, problems: Problems) -> None:
    if "ttl" in present and "validity" in present:
        problems.reject(f"{field}.validity", "ttl is set too; use only one: ttl in seconds, or validity in minutes")


_VIBER_CONTENT = [
    {"image_url"},
    {"text"},
    {"text", "button_text", "button_url"},
    {"text", "image_url", "button_text", "button_url"},
    {"video"},
    {"video", "text"},
    {"video", "text", "button_text"},
    {"video", "text", "button_text", "button_url"},
    {"carousel", "text"},
    {"template"},
]


def _viber_content(present: Mapping[str, object], field: str, problems: Problems) -> None:
    _one_lifetime(present, field, problems)
    content = set(present) - _SHARED_FIELDS
    if content not in _VIBER_CONTENT:
        found = " + ".join(sorted(content)) or "no content"
        valid = "; ".join(" + ".join(sorted(combination)) for combination in _VIBER_CONTENT)
        problems.reject(field, f"{found} is not a valid combination; use one of: {valid}")


def _whatsapp_content(present: Mapping[str, object], field: str, problems: Problems) -> None:
    _one_lifetime(present, field, problems)
    records.exactly_one_of("text", "image", "video", "audio", "document", "sticker", "template")(
        present, field, problems
    )


def _rcs_content(present: Mapping[str, object], field: str, problems: Problems) -> None:
    _one_lifetime(present, field, problems)
    records.exactly_one_of("text", "content_info", "rich_card")(present, field, problems)
    if "sender" not in present and not problems.draft:
        problems.reject(f"{field}.sender", "is missing: RCS needs the agent's name, here or as the connection's sender")


def _whatsapp_text(value: object, field: str, problems: Problems) -> Any:
    content = {"body": value} if isinstance(value, str) else value
    return Record({"body": fields.text(), "preview_url": fields.flag()}, required=["body"])(content, field, problems)


def _check_whatsapp_template(value: object, field: str, problems: Problems) -> Any:
    checked = _whatsapp_template()(value, field, problems)
    if isinstance(checked, dict):
        checked.setdefault("components", [])
    return checked


def _media(**more: Rule) -> Rule:
    return Record(
        {"id": fields.text(), "link": fields.url(), "mime_type": fields.text(), **more},
        combination=records.exactly_one_of("id", "link"),
    )


def _autoconvert(value: object, field: str, problems: Problems) -> Any:
    word = getattr(value, "value", value)  # the official client's enums
    if isinstance(word, bool) or word in ("true", "false"):
        problems.reject(
            field,
            f"{word!r} is an error in Messente's OpenAPI description (YAML turns on into true); "
            "use 'on', 'full' or 'off'",
        )
        return value
    return fields.choice("on", "full", "off")(value, field, problems)


_SHARED_FIELDS = {"channel", "sender", "ttl", "validity"}


def _any_channel() -> dict[str, Rule]:
    return {
        "channel": fields.text(),
        "sender": fields.text(),
        "ttl": fields.integer(unit="seconds"),
        "validity": fields.integer(unit="minutes"),
    }


def _viber_button() -> Record:
    return Record({"label": fields.text(), "action_url": fields.url()}, required=["label", "action_url"])


# Meta extends these at will: known fields are checked, others are sent as they are.
def _whatsapp_parameter() -> Record:
    return Record({"type": fields.text()}, required=["type"], extra=True)


def _whatsapp_component() -> Record:
    return Record(
        {
            "type": fields.text(),
            "sub_type": fields.text(),
            "index": fields.integer(least=0, unit="buttons"),
            "parameters": records.many(_whatsapp_parameter()),
        },
        required=["type"],
        extra=True,
    )


def _whatsapp_template() -> Record:
    return Record(
        {
            "name": fields.text(),
            "language": Record({"code": fields.text(), "policy": fields.text()}, required=["code"]),
            "components": records.many(_whatsapp_component()),
        },
        required=["name", "language"],
    )


def _rcs_file() -> Record:
    return Record(
        {"file_url": fields.url(), "thumbnail_url": fields.url(), "force_refresh": fields.flag()},
        required=["file_url", "force_refresh"],
    )


def _rcs_reply() -> Record:
    return Record(
        {"text": fields.text(longest=25), "postback_data": fields.text(longest=2048)},
        required=["text", "postback_data"],
    )


def _rcs_action() -> Record:
    return Record(
        {
            "text": fields.text(longest=25),
            "postback_data": fields.text(longest=2048),
            "fallback_url": fields.url(longest=2048),
            "dial_action": Record({"phone_number": fields.phone_number()}, required=["phone_number"]),
            "view_location_action": Record(
                {
                    "lat_long": Record(
                        {"latitude": fields.number(), "longitude": fields.number()},
                        required=["latitude", "longitude"],
                    ),
                    "label": fields.text(),
                    "query": fields.text(),
                }
            ),
            "create_calendar_event_action": Record(
                {
                    "start_time": fields.text(),
                    "end_time": fields.text(),
                    "title": fields.text(longest=100),
                    "description": fields.text(longest=500),
                },
                required=["start_time", "end_time", "title", "description"],
            ),
            "open_url_action": Record(
                {
                    "url": fields.url(longest=2048),
                    "description": fields.text(),
                    "application": fields.choice("BROWSER", "WEBVIEW"),
                    "webview_view_mode": fields.choice("FULL", "HALF", "TALL"),
                },
                required=["url", "application"],
            ),
            "share_location_action": Record({}),
        },
        required=["text", "postback_data"],
        combination=records.exactly_one_of(
            "dial_action",
            "view_location_action",
            "create_calendar_event_action",
            "open_url_action",
            "share_location_action",
        ),
    )


def _rcs_suggestion() -> Record:
    return Record(
        {"reply": _rcs_reply(), "action": _rcs_action()}, combination=records.exactly_one_of("reply", "action")
    )


def _rcs_card() -> Record:
    return Record(
        {
            "title": fields.text(longest=200),
            "description": fields.text(longest=2000),
            "media": Record(
                {"height": fields.choice("SHORT", "MEDIUM", "TALL"), "content_info": _rcs_file()},
                required=["height", "content_info"],
            ),
            "suggestions": records.many(_rcs_suggestion(), most=4),
        }
    )


def _rcs_rich_card() -> Record:
    return Record(
        {
            "standalone_card": Record(
                {
                    "card_orientation": fields.choice("VERTICAL", "HORIZONTAL"),
                    "thumbnail_image_alignment": fields.choice("LEFT", "RIGHT"),
                    "card_content": _rcs_card(),
                },
                required=["card_orientation", "thumbnail_image_alignment", "card_content"],
            ),
            "carousel_card": Record(
                {
                    "card_width": fields.choice("SMALL", "MEDIUM"),
                    "card_contents": records.many(_rcs_card(), least=2, most=10),
                },
                required=["card_width", "card_contents"],
            ),
        },
        combination=records.exactly_one_of("standalone_card", "carousel_card"),
    )


@cache
def _sms() -> Record:
    return Record(
        {
            **_any_channel(),
            "sender": sms_sender,
            "text": fields.text(),
            "autoconvert": _autoconvert,
            "udh": fields.hexadecimal(),
        },
        required=["text"],
        combination=_one_lifetime,
    )


@cache
def _viber() -> Record:
    return Record(
        {
            **_any_channel(),
            "text": fields.text(longest=1000),
            "image_url": fields.url(),
            "button_text": fields.text(),
            "button_url": fields.url(),
            "video": Record(
                {
                    "url": fields.url(),
                    "thumbnail": fields.url(),
                    "file_size": fields.integer(most=200 * MEGABYTE, unit="bytes"),
                    "duration": fields.integer(most=600, unit="seconds"),
                },
                required=["url", "thumbnail", "file_size", "duration"],
            ),
            "carousel": Record(
                {
                    "items": records.many(
                        Record(
                            {
                                "title": fields.text(shortest=2, longest=38),
                                "image_url": fields.url(),
                                "primary_button": _viber_button(),
                                "secondary_button": _viber_button(),
                            },
                            required=["title", "image_url", "primary_button"],
                        ),
                        least=2,
                        most=5,
                    )
                },
                required=["items"],
            ),
            "template": Record(
                {"id": fields.text(), "lang": fields.text(), "params": records.mapping_of_texts()},
                required=["id", "lang"],
            ),
        },
        combination=_viber_content,
    )


@cache
def _whatsapp() -> Record:
    return Record(
        {
            **_any_channel(),
            "text": _whatsapp_text,
            "image": _media(caption=fields.text()),
            "video": _media(caption=fields.text()),
            "audio": _media(),
            "document": _media(caption=fields.text(), file_name=fields.text()),
            "sticker": _media(animated=fields.flag()),
            "template": _check_whatsapp_template,
        },
        combination=_whatsapp_content,
    )


@cache
def _rcs() -> Record:
    return Record(
        {
            **_any_channel(),
            "text": fields.text(longest=3072),
            "content_info": _rcs_file(),
            "rich_card": _rcs_rich_card(),
            "suggestions": records.many(_rcs_suggestion(), most=11),
        },
        combination=_rcs_content,
    )


# Built when a channel is first used: importing this module is part of parsing every DAG.
_CHANNELS: dict[str, Callable[[], Record]] = {"sms": _sms, "viber": _viber, "whatsapp": _whatsapp, "rcs": _rcs}
