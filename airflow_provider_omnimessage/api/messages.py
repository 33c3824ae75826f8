"""
Build messages: a builder for each channel, and one for the omnimessage that contains them.

Messages are plain dicts, so they template, map, serialise and show in Airflow's UI like any other dict. A builder
checks its arguments when the DAG is parsed. What a template renders is checked when the task runs, before anything is
sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage.api import fields
from airflow_provider_omnimessage.api.channels import check_message, check_messages
from airflow_provider_omnimessage.api.fields import Problems
from airflow_provider_omnimessage.api.lists import plain_argument
from airflow_provider_omnimessage.api.records import Record, as_plain
from airflow_provider_omnimessage.api.timing import as_time_to_send

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.types import (
        AutoConvert,
        Content,
        Deferred,
        Messages,
        Priority,
        Text,
        TextStore,
        WholeNumber,
    )


def sms(
    text: Text,
    *,
    sender: Text | None = None,
    ttl: WholeNumber | None = None,
    validity: WholeNumber | None = None,
    autoconvert: AutoConvert | Deferred | None = None,
    udh: Text | None = None,
) -> dict[str, Any]:
    """
    Build an SMS. Arguments that are ``None`` are left out.

    :param text: of any length: 160 GSM 03.38 or 70 other characters fit in one part, 153 or 67 in each of several;
        every part is billed.
    :param sender: name of at most 11 characters, or phone number of at most 15 digits; default: the connection's,
        or the account's.
    :param ttl: seconds after which the next channel is tried, 1 or more; default: Messente's.
    :param validity: the same in minutes; use only one of the two.
    :param autoconvert: replace characters outside GSM 03.38 by similar ones, so that the text needs fewer parts:
        ``"on"`` as in the account's settings, ``"full"`` all of them, ``"off"`` none; default: the account's setting.
    :param udh: user data header, in hexadecimal.
    :raises InvalidInputError: with each invalid field, its value and what would be accepted.
    """
    return _draft("sms", text=text, sender=sender, ttl=ttl, validity=validity, autoconvert=autoconvert, udh=udh)


def viber(
    text: Text | None = None,
    *,
    image_url: Text | None = None,
    button_text: Text | None = None,
    button_url: Text | None = None,
    video: Content | None = None,
    carousel: Content | None = None,
    template: Content | None = None,
    sender: Text | None = None,
    ttl: WholeNumber | None = None,
    validity: WholeNumber | None = None,
) -> dict[str, Any]:
    """
    Build a Viber message. Arguments that are ``None`` are left out.

    Valid combinations: an image; a text; text and button; text, image and button; a video, alone or with text, text and
    ``button_text``, or text and button; carousel and text; a template.

    :param text: up to 1,000 characters.
    :param button_text: the button's caption.
    :param button_url: what the button opens.
    :param video: ``{"url", "thumbnail", "file_size", "duration"}``: bytes, at most 200 MB, and seconds, at most 600.
    :param carousel: ``{"items": [...]}``: 2 to 5 of ``{"title", "image_url", "primary_button", "secondary_button"}``,
        a button being ``{"label", "action_url"}``.
    :param template: ``{"id", "lang", "params"}``.
    :param sender: Viber service id; default: the connection's sender, else the account's.
    :param ttl: seconds after which the next channel is tried, 1 or more; default: Messente's.
    :param validity: the same in minutes; use only one of the two.
    :raises InvalidInputError: with each invalid field, its value and what would be accepted.
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
    text: Text | Content | None = None,
    *,
    image: Content | None = None,
    video: Content | None = None,
    audio: Content | None = None,
    document: Content | None = None,
    sticker: Content | None = None,
    template: Content | None = None,
    sender: Text | None = None,
    ttl: WholeNumber | None = None,
    validity: WholeNumber | None = None,
) -> dict[str, Any]:
    """
    Build a WhatsApp message: exactly one of text, image, video, audio, document, sticker or template.

    Arguments that are ``None`` are left out.

    :param text: the text, or ``{"body", "preview_url"}`` to turn the preview of a link on or off.
    :param image: ``{"id"}`` or ``{"link"}``, and ``caption``, ``mime_type``.
    :param video: like ``image``.
    :param audio: ``{"id"}`` or ``{"link"}``, and ``mime_type``.
    :param document: like ``image``, and ``file_name``.
    :param sticker: ``{"id"}`` or ``{"link"}``, and ``mime_type``, ``animated``.
    :param template: ``{"name", "language": {"code", "policy"}, "components": [...]}``: a template that WhatsApp has
        approved.
    :param sender: the WhatsApp number; default: the connection's, else the account's.
    :param ttl: seconds after which the next channel is tried, 1 or more; default: Messente's.
    :param validity: the same in minutes; use only one of the two.
    :raises InvalidInputError: with each invalid field, its value and what would be accepted.
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
    text: Text | None = None,
    *,
    content_info: Content | None = None,
    rich_card: Content | None = None,
    suggestions: Iterable[Content] | Deferred | None = None,
    sender: Text | None = None,
    ttl: WholeNumber | None = None,
    validity: WholeNumber | None = None,
) -> dict[str, Any]:
    """
    Build an RCS message: exactly one of text, content_info or rich_card.

    Arguments that are ``None`` are left out.

    :param text: up to 3,072 characters.
    :param content_info: ``{"file_url", "thumbnail_url", "force_refresh"}``.
    :param rich_card: ``{"standalone_card": {...}}`` or ``{"carousel_card": {...}}``.
    :param suggestions: up to 11 of ``{"reply": {...}}`` or ``{"action": {...}}``.
    :param sender: the RCS agent; required here or in the connection.
    :param ttl: seconds after which the next channel is tried, 1 or more; default: Messente's.
    :param validity: the same in minutes; use only one of the two.
    :raises InvalidInputError: with each invalid field, its value and what would be accepted.
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


def draft_messages(messages: Messages) -> Any:
    """
    Check messages while a DAG is parsed. Deferred values pass.

    :return: the messages, with plain dicts instead of the official client's objects.
    :raises InvalidInputError: with each invalid field, its value and what would be accepted.
    """
    problems = Problems(draft=True)
    checked = messages if fields.is_deferred(messages) else check_messages(messages, "messages", problems)
    problems.raise_if_any()
    # Airflow knows values from an XCom by their identity, and does not render them once more: return the same object
    is_plain = (
        fields.is_deferred(messages)
        or not isinstance(messages, Iterable)
        or all(isinstance(message, Mapping) or fields.is_deferred(message) for message in messages)
    )
    return messages if is_plain or fields.is_deferred(messages) else checked


def draft_omnimessage(to: object, messages: Messages, **others: object) -> Any:
    """
    Check an omnimessage while a DAG is parsed. Deferred values pass.

    :param others: the other fields of :func:`omnimessage`.
    :return: the messages, as :func:`draft_messages` returns them.
    :raises InvalidInputError: with each invalid field, its value and what would be accepted.
    """
    problems = Problems(draft=True)
    _omnimessage()({"to": to, "messages": messages, **others}, "", problems)
    problems.raise_if_any()
    return draft_messages(messages)


def omnimessage(
    to: object,
    messages: object,
    *,
    time_to_send: datetime | None = None,
    dlr_url: str | None = None,
    text_store: TextStore | None = None,
    priority: Priority | None = None,
    sender: str | None = None,
) -> dict[str, Any]:
    """
    Build the body of ``POST /omnimessage``, and check it against every known rule.

    Arguments that are ``None`` are left out.

    :param to: the recipient in E.164 format, such as ``+37255555555``; spaces, dashes, dots, slashes and brackets are
        removed.
    :param messages: at most one message for each channel, in the order in which the channels are tried: built by
        :func:`sms`, :func:`viber`, :func:`whatsapp` or :func:`rcs`, dicts of the same form, or the official client's
        model objects.
    :param time_to_send: with a zone; ``None``: now.
    :param dlr_url: where Messente posts delivery reports.
    :param text_store: how Messente keeps the text.
    :param sender: for messages without their own.
    :raises InvalidInputError: with each invalid field, its value and what would be accepted.
    """
    problems = Problems()
    values = {
        "to": to,
        "messages": plain_argument(messages),
        "dlr_url": dlr_url,
        "text_store": text_store,
        "priority": priority,
    }
    body = checked_omnimessage(values, sender, problems)
    problems.raise_if_any()
    if time_to_send is not None:
        body["time_to_send"] = as_time_to_send(time_to_send)
    return body


def checked_omnimessage(values: Mapping[str, object], sender: str | None, problems: Problems) -> dict[str, Any]:
    """
    Return the body of ``POST /omnimessage``, checked, without its time.

    :param values: the fields of :func:`omnimessage`; others are rejected.
    :param sender: for messages without their own.
    :param problems: receives what is wrong.
    """
    if sender is not None:
        values = {**values, "messages": _with_sender(values.get("messages"), sender)}
    body: dict[str, Any] = _one_of_many()(values, "", problems)
    return body


def _draft(channel: str, **content: object) -> dict[str, Any]:
    problems = Problems(draft=True)
    message: dict[str, Any] = check_message({"channel": channel, **content}, channel, problems)
    problems.raise_if_any()
    return message


def _with_sender(messages: object, sender: str) -> object:
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Iterable):
        return messages
    plain = [as_plain(message) for message in messages]
    return [
        {**message, "sender": sender} if isinstance(message, Mapping) and message.get("sender") is None else message
        for message in plain
    ]


# Built when they are first used: importing this module is part of parsing every DAG.
@cache
def _rules() -> dict[str, fields.Rule]:
    return {
        "to": fields.phone_number(),
        "messages": check_messages,
        "dlr_url": fields.url(),
        "text_store": fields.choice("plaintext", "sha256", "nostore"),
        "priority": fields.choice("low", "regular", "high"),
    }


@cache
def _omnimessage() -> Record:
    return Record(_rules(), required=["to", "messages"])


@cache
def _one_of_many() -> Record:
    # a row of a bulk send has its time beside these fields: it is known here, so that a misspelt name is reported
    times = dict.fromkeys(("time_to_send", "timezone"), fields.text())
    return Record({**_rules(), **times}, required=["to", "messages"])
