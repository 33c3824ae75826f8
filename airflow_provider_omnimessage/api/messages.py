"""
What is sent: builders for each channel's message and for the omnimessage around them, and the rules they must keep.

Messages are plain dicts, so they template, map, serialise and show in Airflow's UI like any other dict. A builder
checks what it is given when the DAG is parsed; what a template hides until then is checked when the task runs, before
anything is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from airflow_provider_omnimessage.api import fields
from airflow_provider_omnimessage.api.channels import check_message, check_messages
from airflow_provider_omnimessage.api.fields import Problems
from airflow_provider_omnimessage.api.lists import plain_argument
from airflow_provider_omnimessage.api.timing import as_time_to_send


def sms(
    text: Any,
    *,
    sender: Any = None,
    ttl: Any = None,
    validity: Any = None,
    autoconvert: Any = None,
    udh: Any = None,
) -> dict[str, Any]:
    """
    Build an SMS. What is left out is not part of it.

    :param text: the text, of any length: 160 GSM 03.38 or 70 other characters in one part, 153 or 67 in each of
        several; every part is billed.
    :param sender: name of at most 11 characters, or phone number of at most 15 digits; default: the connection's,
        or the account's.
    :param ttl: seconds after which the next channel is tried, a whole number from 1; default: Messente's own.
    :param validity: the same in minutes, a whole number from 1; only one of the two.
    :param autoconvert: whether characters outside GSM 03.38 are replaced by similar ones, so that the text needs fewer
        parts: ``"on"`` as the account's settings say, ``"full"`` all of them, ``"off"`` none; default: the account's
        setting.
    :param udh: user data header, in hexadecimal.
    :raises InvalidInputError: names each refused field, the value and what would be accepted.
    """
    return _draft("sms", text=text, sender=sender, ttl=ttl, validity=validity, autoconvert=autoconvert, udh=udh)


def viber(
    text: Any = None,
    *,
    image_url: Any = None,
    button_text: Any = None,
    button_url: Any = None,
    video: Any = None,
    carousel: Any = None,
    template: Any = None,
    sender: Any = None,
    ttl: Any = None,
    validity: Any = None,
) -> dict[str, Any]:
    """
    Build a Viber message. What is left out is not part of it.

    Valid are: an image; a text; text and button; text, image and button; a video, alone or with text, text and
    ``button_text``, or text and button; carousel and text; a template.

    :param text: up to 1,000 characters.
    :param image_url: where the image is.
    :param button_text: the button's caption.
    :param button_url: what the button opens.
    :param video: ``{"url", "thumbnail", "file_size", "duration"}``: bytes, at most 200 MB, and seconds, at most 600.
    :param carousel: ``{"items": [...]}``: 2 to 5 of ``{"title", "image_url", "primary_button", "secondary_button"}``,
        a button being ``{"label", "action_url"}``.
    :param template: ``{"id", "lang", "params"}``.
    :param sender: Viber service id; default: the connection's, else the account's.
    :param ttl: seconds after which the next channel is tried, a whole number from 1; default: Messente's own.
    :param validity: the same in minutes, a whole number from 1; only one of the two.
    :raises InvalidInputError: names each refused field, the value and what would be accepted.
    """
    return _draft(
        "viber",
        text=text,
        image_url=image_url,
        button_text=button_text,
        button_url=button_url,
        video=video,
        carousel=carousel,
        template=template,
        sender=sender,
        ttl=ttl,
        validity=validity,
    )


def whatsapp(
    text: Any = None,
    *,
    image: Any = None,
    video: Any = None,
    audio: Any = None,
    document: Any = None,
    sticker: Any = None,
    template: Any = None,
    sender: Any = None,
    ttl: Any = None,
    validity: Any = None,
) -> dict[str, Any]:
    """
    Build a WhatsApp message: exactly one of text, image, video, audio, document, sticker and template.

    What is left out is not part of it.

    :param text: the text, or ``{"body", "preview_url"}`` to say whether a link in it is previewed.
    :param image: ``{"id"}`` or ``{"link"}``, and ``caption``, ``mime_type``.
    :param video: as ``image``.
    :param audio: ``{"id"}`` or ``{"link"}``, and ``mime_type``.
    :param document: as ``image``, and ``file_name``.
    :param sticker: ``{"id"}`` or ``{"link"}``, and ``mime_type``, ``animated``.
    :param template: ``{"name", "language": {"code", "policy"}, "components": [...]}``: a template that WhatsApp has
        approved.
    :param sender: the WhatsApp number; default: the connection's, else the account's.
    :param ttl: seconds after which the next channel is tried, a whole number from 1; default: Messente's own.
    :param validity: the same in minutes, a whole number from 1; only one of the two.
    :raises InvalidInputError: names each refused field, the value and what would be accepted.
    """
    return _draft(
        "whatsapp",
        text=text,
        image=image,
        video=video,
        audio=audio,
        document=document,
        sticker=sticker,
        template=template,
        sender=sender,
        ttl=ttl,
        validity=validity,
    )


def rcs(
    text: Any = None,
    *,
    content_info: Any = None,
    rich_card: Any = None,
    suggestions: Any = None,
    sender: Any = None,
    ttl: Any = None,
    validity: Any = None,
) -> dict[str, Any]:
    """
    Build an RCS message: exactly one of text, content_info and rich_card. What is left out is not part of it.

    :param text: up to 3,072 characters.
    :param content_info: ``{"file_url", "thumbnail_url", "force_refresh"}``.
    :param rich_card: ``{"standalone_card": {...}}`` or ``{"carousel_card": {...}}``.
    :param suggestions: up to 11 of ``{"reply": {...}}`` or ``{"action": {...}}``.
    :param sender: the RCS agent; required here or in the connection.
    :param ttl: seconds after which the next channel is tried, a whole number from 1; default: Messente's own.
    :param validity: the same in minutes, a whole number from 1; only one of the two.
    :raises InvalidInputError: names each refused field, the value and what would be accepted.
    """
    return _draft(
        "rcs",
        text=text,
        content_info=content_info,
        rich_card=rich_card,
        suggestions=suggestions,
        sender=sender,
        ttl=ttl,
        validity=validity,
    )


def draft_messages(messages: Any) -> Any:
    """
    Check what is known of messages while a DAG is parsed. What Airflow has still to resolve passes.

    :param messages: a list of messages.
    :return: the messages, with plain dicts in the place of the official client's objects.
    :raises InvalidInputError: names each refused field, the value and what would be accepted.
    """
    problems = Problems(draft=True)
    checked = messages if fields.is_deferred(messages) else check_messages(messages, "messages", problems)
    problems.raise_if_any()
    # Airflow knows by their identity which values came from an XCom, and must not be rendered once more.
    is_plain = fields.is_deferred(messages) or all(
        isinstance(message, Mapping) or fields.is_deferred(message) for message in messages
    )
    return messages if is_plain else checked


def draft_omnimessage(to: Any, messages: Any, **others: Any) -> Any:
    """
    Check what is known of an omnimessage while a DAG is parsed. What Airflow has still to resolve passes.

    :param to: the recipient.
    :param messages: a list of messages.
    :param others: the other fields, as :func:`omnimessage` takes them.
    :return: the messages, as :func:`draft_messages` gives them.
    :raises InvalidInputError: names each refused field, the value and what would be accepted.
    """
    problems = Problems(draft=True)
    _OMNIMESSAGE({"to": to, "messages": messages, **others}, "", problems)
    problems.raise_if_any()
    return draft_messages(messages)


def omnimessage(
    to: Any,
    messages: Any,
    *,
    time_to_send: datetime | None = None,
    dlr_url: Any = None,
    text_store: Any = None,
    priority: Any = None,
    sender: str | None = None,
) -> dict[str, Any]:
    """
    Build the body of ``POST /omnimessage``, checked against every rule that is known of it.

    What is left out is not part of it.

    :param to: the recipient in E.164, as ``+37255555555``; spaces, dashes, dots, slashes and brackets are tidied away.
    :param messages: one message per channel at most, in the order in which the channels are tried: built by
        :func:`sms`, :func:`viber`, :func:`whatsapp` or :func:`rcs`, dicts of the same form, or the official client's
        model objects.
    :param time_to_send: when Messente is to send it, with a zone; ``None``: now.
    :param dlr_url: where Messente posts delivery reports.
    :param text_store: how Messente keeps the text: ``plaintext``, ``sha256`` or ``nostore``.
    :param priority: ``low``, ``regular`` or ``high``.
    :param sender: for messages that name none.
    :raises InvalidInputError: names each refused field, the value and what would be accepted.
    """
    problems = Problems()
    given = {
        "to": to,
        "messages": plain_argument(messages),
        "dlr_url": dlr_url,
        "text_store": text_store,
        "priority": priority,
    }
    body = checked_omnimessage(given, sender, problems)
    problems.raise_if_any()
    if time_to_send is not None:
        body["time_to_send"] = as_time_to_send(time_to_send)
    return body


def checked_omnimessage(given: Mapping[str, Any], sender: str | None, problems: Problems) -> dict[str, Any]:
    """
    Check an omnimessage that is there as a dict, without its time.

    :param given: its fields, as :func:`omnimessage` takes them; others are refused.
    :param sender: for messages that name none.
    :param problems: takes what is wrong with it.
    """
    if sender is not None:
        given = {**given, "messages": _with_sender(given.get("messages"), sender)}
    body: dict[str, Any] = _OMNIMESSAGE_OF_MANY(given, "", problems)
    return body


def _draft(channel: str, **content: Any) -> dict[str, Any]:
    problems = Problems(draft=True)
    message: dict[str, Any] = check_message({"channel": channel, **content}, channel, problems)
    problems.raise_if_any()
    return message


def _with_sender(messages: Any, sender: str) -> Any:
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        return messages
    plain: Sequence[Any] = [fields.as_plain(message) for message in messages]
    return [
        {**message, "sender": sender} if isinstance(message, Mapping) and message.get("sender") is None else message
        for message in plain
    ]


_RULES: dict[str, fields.Rule] = {
    "to": fields.phone_number(),
    "messages": check_messages,
    "dlr_url": fields.url(),
    "text_store": fields.choice("plaintext", "sha256", "nostore"),
    "priority": fields.choice("low", "regular", "high"),
}
_OMNIMESSAGE = fields.record(_RULES, required=["to", "messages"])
# One of many brings its time itself. It is judged elsewhere; here it is known, so that a misspelt one is told.
_OMNIMESSAGE_OF_MANY = fields.record(
    {**_RULES, **dict.fromkeys(("time_to_send", "timezone"), fields.text())}, required=["to", "messages"]
)
