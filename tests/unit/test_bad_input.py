"""Any input and any response: only this package's own errors are raised."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from datetime import date, datetime, time, timedelta, timezone
from typing import Any

import pytest
from full_size import first
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_omnimessage.api import calls, responses, timing
from airflow_provider_omnimessage.api.delivery import Outcome
from airflow_provider_omnimessage.api.errors import InvalidInputError, OmnimessageError
from airflow_provider_omnimessage.api.messages import draft_messages, omnimessage, rcs, sms, viber, whatsapp
from airflow_provider_omnimessage.hooks.settings import Settings
from airflow_provider_omnimessage.tasks.memory import Mark, MessageRecord, next_step

ID = "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"
NOW = datetime(2026, 11, 23, 9, 0, tzinfo=timezone.utc)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.dates(),
    st.times(),
    st.datetimes(),
    st.timedeltas(),
)
WORDS = st.from_regex(
    r"\A(to|messages|channel|sms|viber|whatsapp|rcs|text|ttl|validity|sender|image|video|template|carousel|body|items|"
    r"statuses|status|errors|code|title|detail|source|omnimessage_id|message_id|price_info|total_price|err|error|"
    r"DELIVRD|SEEN|DELETED|timestamp|language|name|components|suggestions|rich_card|content_info|udh|autoconvert)\Z"
)
ANYTHING = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=5),
    max_leaves=12,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=5),
    max_leaves=12,
)
BODIES = st.binary() | JSON.map(lambda value: json.dumps(value).encode()) | JSON.map(lambda value: str(value).encode())
HEADERS = st.dictionaries(
    st.sampled_from(["Retry-After", "retry-after", "Location", "Content-Type", "X"]), st.text(max_size=40), max_size=4
)
MESSAGE = st.fixed_dictionaries(
    {"channel": st.sampled_from(["sms", "viber", "whatsapp", "rcs"])},
    optional=dict.fromkeys(
        ("text", "ttl", "validity", "sender", "image_url", "video", "template", "carousel", "rich_card"), ANYTHING
    ),
)


@given(to=ANYTHING, messages=ANYTHING | st.lists(MESSAGE, max_size=3), rest=st.lists(ANYTHING, min_size=4, max_size=4))
def test_the_builder_raises_its_own_errors_and_builds_json(to, messages, rest):
    dlr_url, text_store, priority, sender = rest
    with contextlib.suppress(InvalidInputError):
        body = omnimessage(to, messages, dlr_url=dlr_url, text_store=text_store, priority=priority, sender=sender)
        json.dumps(body, allow_nan=False)


@given(st.lists(MESSAGE, max_size=3) | ANYTHING)
def test_the_check_at_parse_time_raises_its_own_errors(messages):
    with contextlib.suppress(InvalidInputError):
        draft_messages(messages)


@pytest.mark.parametrize("build", first(1, [sms, viber, whatsapp, rcs]))
@given(text=ANYTHING, ttl=ANYTHING, validity=ANYTHING, sender=ANYTHING)
def test_the_builders_of_the_channels_raise_their_own_errors(build, text, ttl, validity, sender):
    with contextlib.suppress(InvalidInputError):
        build(text=text, ttl=ttl, validity=validity, sender=sender)


ISO_LIKE = st.from_regex(r"\A[-+ 0-9TZW:./PYMDHS]{0,30}\Z")
MOMENTS = SCALARS | ISO_LIKE | st.datetimes(timezones=st.timezones()) | st.text(max_size=40)


@settings(max_examples=3 * settings.default.max_examples)
@given(value=MOMENTS, zone=st.none() | st.timezone_keys() | st.text(max_size=20))
def test_any_value_is_a_time_or_is_rejected_by_name(value, zone):
    try:
        moment = timing.resolve(value, zone=zone, now=NOW)
    except InvalidInputError as error:
        refused = {problem.field for problem in error.problems}
    else:
        refused = set()
        assert not isinstance(value, (time, int, float)) or isinstance(value, datetime)
        assert type(value) is not date
        assert moment.utc.utcoffset() == timedelta(0)
        assert datetime.fromisoformat(timing.as_time_to_send(moment.utc)) == moment.utc
        str(moment)
    assert refused <= {"time_to_send", "timezone"}


@settings(max_examples=3 * settings.default.max_examples)
@given(
    call=st.sampled_from([calls.send({}), calls.cancel(ID), calls.delivery_report(ID), calls.credentials_check()]),
    status=st.integers(100, 999) | st.sampled_from([200, 201, 202, 301, 400, 401, 404, 429, 500, 503]),
    headers=HEADERS,
    body=BODIES,
)
def test_any_response_is_parsed_or_becomes_an_error_with_a_meaning(call, status, headers, body):
    succeeded = 200 <= status < 300
    error: OmnimessageError | None = None
    result: Any = None
    try:
        result = call.result(responses.Response(status, headers, body, NOW))
    except OmnimessageError as caught:
        error = caught
    if error is not None:
        assert str(error)
        assert error.maybe_processed or not succeeded
    else:
        assert succeeded
    if result is not None and call.method == "GET":
        assert isinstance(result.outcome, Outcome)
        assert all(str(each) for each in result.statuses)


@given(ANYTHING)
def test_no_id_changes_the_path_of_a_request(value):
    with contextlib.suppress(InvalidInputError):
        assert calls.cancel(value).path == f"/omnimessage/{value}"


class Connection:
    conn_id = "fuzzed"

    def __init__(self, **given: Any) -> None:
        self.__dict__.update(given)


@settings(max_examples=3 * settings.default.max_examples)
@given(
    host=st.none() | st.text() | st.from_regex(r"\A(https?://)?[a-z0-9.:\[\]@/%?#-]{0,30}\Z"),
    port=st.none() | st.integers(0, 70000),
    schema=st.none() | st.text(max_size=5),
    login=st.none() | st.text(),
    password=st.none() | st.text(),
    extra=ANYTHING,
)
def test_any_connection_is_read_or_rejected_and_never_leads_over_plain_http_to_others(**given):
    extra = given.pop("extra")
    with contextlib.suppress(InvalidInputError):
        settings_read = Settings.read(Connection(**given, extra=None, extra_dejson=extra))
        assert settings_read.base_url.startswith("https://") or settings_read.is_loopback
        assert repr(settings_read) == repr(dataclasses.replace(settings_read, password="another"))


MEMORY = {"fingerprint": "a", "max_tries": 1, "time_to_send": "2099-01-01T09:00:00+00:00", "since": "b"}


@settings(max_examples=3 * settings.default.max_examples)
@given(
    JSON | st.dictionaries(st.sampled_from([*MEMORY, "omnimessage_id"]), JSON).map(lambda value: {**MEMORY, **value})
)
def test_whatever_the_state_store_holds_is_a_memory_or_invalid(value):
    with contextlib.suppress(InvalidInputError):
        earlier = MessageRecord.read(value)
        assert (earlier is None) is (value is None)
        next_step(earlier, Mark(1), at_least_once=False)
        if earlier is not None:
            earlier.waits(NOW)


def test_a_memory_reads_itself_and_leaves_out_what_is_newer():
    earlier = MessageRecord(**MEMORY, omnimessage_id=ID, message_ids={"sms": "1"})
    assert MessageRecord.read({**earlier.as_dict(), "newer": 1}) == earlier
