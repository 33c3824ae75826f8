"""The rules of each channel's message: which fields it has, what each may hold, and which go together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from airflow_provider_omnimessage.api import fields
from airflow_provider_omnimessage.api.fields import Problems, Rule

MEGABYTE = 1024 * 1024
_NUMERIC_SENDER = re.compile(r"\+?[0-9]+", re.ASCII)
_LONGEST_NUMERIC_SENDER = 15
_LONGEST_ALPHANUMERIC_SENDER = 11


def check_message(value: Any, field: str, problems: Problems) -> Any:
    """
    Check one channel's message: the rule that its ``channel`` chooses.

    :param value: a dict, or an object with ``to_dict()``.
    :param field: where it stands.
    :param problems: takes what is wrong with it.
    """
    value = fields.as_plain(value)
    if not fields.is_mapping(value):
        problems.reject(
            field,
            f"{fields.describe(value)} is not a message; build one with sms(), viber(), whatsapp() or rcs()",
        )
        return value
    channel = value.get("channel")
    if problems.draft and fields.is_deferred(channel):
        return dict(value)
    if not isinstance(channel, str) or channel not in _CHANNELS:
        shown = repr(channel) if isinstance(channel, str) and len(channel) <= 20 else fields.describe(channel)
        gone = " (Messente no longer offers it)" if channel == "telegram" else ""
        problems.reject(f"{field}.channel", f"{shown}{gone} is not accepted; give one of {', '.join(_CHANNELS)}")
        return value
    return _CHANNELS[channel](value, field, problems)


def rule_of(channel: object, field: str) -> Rule | None:
    """
    Give the rule for one field of a message, which does not know of its others.

    :param channel: which kind of message.
    :param field: its name.
    :return: ``None`` where there is no such field.
    """
    rules: Mapping[str, Rule] = getattr(_CHANNELS.get(str(channel)), "rules", {})
    return rules.get(field)


def check_messages(value: Any, field: str, problems: Problems) -> Any:
    """
    Check the messages of one omnimessage: at least one, and at most one per channel.

    :param value: a list of messages, in the order in which they are tried.
    :param field: where it stands.
    :param problems: takes what is wrong with it.
    """
    checked = fields.many(_message_or_deferred, least=1)(value, field, problems)
    if isinstance(checked, list):
        seen: set[str] = set()
        for index, message in enumerate(checked):
            channel = message.get("channel") if fields.is_mapping(message) else None
            if isinstance(channel, str) and channel in seen:
                problems.reject(f"{field}[{index}].channel", f"{channel} is there twice; give one message per channel")
            elif isinstance(channel, str) and not fields.is_deferred(channel):
                seen.add(channel)
    return checked


def _message_or_deferred(value: Any, field: str, problems: Problems) -> Any:
    return value if problems.draft and fields.is_deferred(value) else check_message(value, field, problems)


def _one_lifetime(present: Mapping[str, Any], field: str, problems: Problems) -> None:
    if "ttl" in present and "validity" in present:
        problems.reject(f"{field}.validity", "ttl is given too; give only one: ttl in seconds, or validity in minutes")


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


def _viber_content(present: Mapping[str, Any], field: str, problems: Problems) -> None:
    _one_lifetime(present, field, problems)
    content = set(present) - set(_ANY_CHANNEL)
    if content not in _VIBER_CONTENT:
        given = " + ".join(sorted(content)) or "no content"
        valid = "; ".join(" + ".join(sorted(combination)) for combination in _VIBER_CONTENT)
        problems.reject(field, f"{given} is not a valid combination; give one of: {valid}")


def _whatsapp_content(present: Mapping[str, Any], field: str, problems: Problems) -> None:
    _one_lifetime(present, field, problems)
    fields.exactly_one_of("text", "image", "video", "audio", "document", "sticker", "template")(
        present, field, problems
    )


def _rcs_content(present: Mapping[str, Any], field: str, problems: Problems) -> None:
    _one_lifetime(present, field, problems)
    fields.exactly_one_of("text", "content_info", "rich_card")(present, field, problems)
    if "sender" not in present and not problems.draft:
        problems.reject(f"{field}.sender", "is missing: RCS needs the agent's name, here or as the connection's sender")


def _whatsapp_text(value: Any, field: str, problems: Problems) -> Any:
    if isinstance(value, str):
        value = {"body": value}
    return fields.record({"body": fields.text(), "preview_url": fields.flag()}, required=["body"])(
        value, field, problems
    )


def _whatsapp_template(value: Any, field: str, problems: Problems) -> Any:
    checked = _WHATSAPP_TEMPLATE(value, field, problems)
    if isinstance(checked, dict):
        checked.setdefault("components", [])
    return checked


def _media(**more: Rule) -> Rule:
    return fields.record(
        {"id": fields.text(), "link": fields.url(), "mime_type": fields.text(), **more},
        combination=fields.exactly_one_of("id", "link"),
    )


def _sms_sender(value: Any, field: str, problems: Problems) -> Any:
    checked = fields.text()(value, field, problems)
    if not isinstance(value, str):
        return checked
    if _NUMERIC_SENDER.fullmatch(value):
        digits = len(value.lstrip("+"))
        if digits > _LONGEST_NUMERIC_SENDER:
            problems.reject(field, f"{digits} digits are too many; use at most {_LONGEST_NUMERIC_SENDER}")
    elif len(value) > _LONGEST_ALPHANUMERIC_SENDER:
        problems.reject(
            field,
            f"{len(value)} characters are too many for a sender on SMS; use at most {_LONGEST_ALPHANUMERIC_SENDER}, "
            f"or a number of at most {_LONGEST_NUMERIC_SENDER} digits",
        )
    return checked


def _autoconvert(value: Any, field: str, problems: Problems) -> Any:
    value = getattr(value, "value", value)  # the official client's enums
    if isinstance(value, bool) or value in ("true", "false"):
        # In YAML an unquoted `on` is a boolean: that is how true and false came into the OpenAPI description.
        problems.reject(
            field,
            f"{value!r} is an error in Messente's OpenAPI description (YAML turns on into true); "
            "use 'on', 'full' or 'off'",
        )
        return value
    return fields.choice("on", "full", "off")(value, field, problems)


_ANY_CHANNEL: dict[str, Rule] = {
    "channel": fields.text(),
    "sender": fields.text(),
    "ttl": fields.integer(unit="seconds"),
    "validity": fields.integer(unit="minutes"),
}

_VIBER_BUTTON = fields.record({"label": fields.text(), "action_url": fields.url()}, required=["label", "action_url"])

# Meta adds to these as it likes: what is known is checked, the rest goes through.
_WHATSAPP_PARAMETER = fields.record({"type": fields.text()}, required=["type"], extra=True)
_WHATSAPP_COMPONENT = fields.record(
    {
        "type": fields.text(),
        "sub_type": fields.text(),
        "index": fields.integer(least=0, unit="buttons"),
        "parameters": fields.many(_WHATSAPP_PARAMETER),
    },
    required=["type"],
    extra=True,
)
_WHATSAPP_TEMPLATE = fields.record(
    {
        "name": fields.text(),
        "language": fields.record({"code": fields.text(), "policy": fields.text()}, required=["code"]),
        "components": fields.many(_WHATSAPP_COMPONENT),
    },
    required=["name", "language"],
)

_RCS_FILE = fields.record(
    {"file_url": fields.url(), "thumbnail_url": fields.url(), "force_refresh": fields.flag()},
    required=["file_url", "force_refresh"],
)
_RCS_REPLY = fields.record(
    {"text": fields.text(longest=25), "postback_data": fields.text(longest=2048)},
    required=["text", "postback_data"],
)
_RCS_ACTION = fields.record(
    {
        "text": fields.text(longest=25),
        "postback_data": fields.text(longest=2048),
        "fallback_url": fields.url(longest=2048),
        "dial_action": fields.record({"phone_number": fields.phone_number()}, required=["phone_number"]),
        "view_location_action": fields.record(
            {
                "lat_long": fields.record(
                    {"latitude": fields.number(), "longitude": fields.number()},
                    required=["latitude", "longitude"],
                ),
                "label": fields.text(),
                "query": fields.text(),
            }
        ),
        "create_calendar_event_action": fields.record(
            {
                "start_time": fields.text(),
                "end_time": fields.text(),
                "title": fields.text(longest=100),
                "description": fields.text(longest=500),
            },
            required=["start_time", "end_time", "title", "description"],
        ),
        "open_url_action": fields.record(
            {
                "url": fields.url(longest=2048),
                "description": fields.text(),
                "application": fields.choice("BROWSER", "WEBVIEW"),
                "webview_view_mode": fields.choice("FULL", "HALF", "TALL"),
            },
            required=["url", "application"],
        ),
        "share_location_action": fields.record({}),
    },
    required=["text", "postback_data"],
    combination=fields.exactly_one_of(
        "dial_action",
        "view_location_action",
        "create_calendar_event_action",
        "open_url_action",
        "share_location_action",
    ),
)
_RCS_SUGGESTION = fields.record(
    {"reply": _RCS_REPLY, "action": _RCS_ACTION}, combination=fields.exactly_one_of("reply", "action")
)
_RCS_CARD = fields.record(
    {
        "title": fields.text(longest=200),
        "description": fields.text(longest=2000),
        "media": fields.record(
            {"height": fields.choice("SHORT", "MEDIUM", "TALL"), "content_info": _RCS_FILE},
            required=["height", "content_info"],
        ),
        "suggestions": fields.many(_RCS_SUGGESTION, most=4),
    }
)
_RCS_RICH_CARD = fields.record(
    {
        "standalone_card": fields.record(
            {
                "card_orientation": fields.choice("VERTICAL", "HORIZONTAL"),
                "thumbnail_image_alignment": fields.choice("LEFT", "RIGHT"),
                "card_content": _RCS_CARD,
            },
            required=["card_orientation", "thumbnail_image_alignment", "card_content"],
        ),
        "carousel_card": fields.record(
            {
                "card_width": fields.choice("SMALL", "MEDIUM"),
                "card_contents": fields.many(_RCS_CARD, least=2, most=10),
            },
            required=["card_width", "card_contents"],
        ),
    },
    combination=fields.exactly_one_of("standalone_card", "carousel_card"),
)

_CHANNELS: dict[str, Rule] = {
    "sms": fields.record(
        {
            **_ANY_CHANNEL,
            "sender": _sms_sender,
            "text": fields.text(),
            "autoconvert": _autoconvert,
            "udh": fields.hexadecimal(),
        },
        required=["text"],
        combination=_one_lifetime,
    ),
    "viber": fields.record(
        {
            **_ANY_CHANNEL,
            "text": fields.text(longest=1000),
            "image_url": fields.url(),
            "button_text": fields.text(),
            "button_url": fields.url(),
            "video": fields.record(
                {
                    "url": fields.url(),
                    "thumbnail": fields.url(),
                    "file_size": fields.integer(most=200 * MEGABYTE, unit="bytes"),
                    "duration": fields.integer(most=600, unit="seconds"),
                },
                required=["url", "thumbnail", "file_size", "duration"],
            ),
            "carousel": fields.record(
                {
                    "items": fields.many(
                        fields.record(
                            {
                                "title": fields.text(shortest=2, longest=38),
                                "image_url": fields.url(),
                                "primary_button": _VIBER_BUTTON,
                                "secondary_button": _VIBER_BUTTON,
                            },
                            required=["title", "image_url", "primary_button"],
                        ),
                        least=2,
                        most=5,
                    )
                },
                required=["items"],
            ),
            "template": fields.record(
                {"id": fields.text(), "lang": fields.text(), "params": fields.mapping_of_texts()},
                required=["id", "lang"],
            ),
        },
        combination=_viber_content,
    ),
    "whatsapp": fields.record(
        {
            **_ANY_CHANNEL,
            "text": _whatsapp_text,
            "image": _media(caption=fields.text()),
            "video": _media(caption=fields.text()),
            "audio": _media(),
            "document": _media(caption=fields.text(), file_name=fields.text()),
            "sticker": _media(animated=fields.flag()),
            "template": _whatsapp_template,
        },
        combination=_whatsapp_content,
    ),
    "rcs": fields.record(
        {
            **_ANY_CHANNEL,
            "text": fields.text(longest=3072),
            "content_info": _RCS_FILE,
            "rich_card": _RCS_RICH_CARD,
            "suggestions": fields.many(_RCS_SUGGESTION, most=11),
        },
        combination=_rcs_content,
    ),
}
