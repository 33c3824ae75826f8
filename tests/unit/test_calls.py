"""The request of each call, and how any response is parsed."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_omnimessage.api import calls, responses
from airflow_provider_omnimessage.api.delivery import DeliveryReport, Outcome
from airflow_provider_omnimessage.api.errors import (
    ApiError,
    AuthenticationError,
    InvalidInputError,
    NotFoundError,
    OmnimessageError,
    PastTimeToSendError,
    RateLimitedError,
    RejectedError,
    ServerError,
    UnexpectedResponseError,
)
from airflow_provider_omnimessage.api.responses import Response

ID = "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"


def answer(status: int, body: object = None, **headers: str) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, {"Content-Type": "application/json", **headers}, content)


def failure(status: int, body: object = None, **headers: str) -> ApiError:
    with pytest.raises(ApiError) as caught:
        calls.send({}).result(answer(status, body, **headers))
    return caught.value


def test_each_request_is_as_the_api_documentation_says():
    assert (calls.send({"to": "x"}).method, calls.send({}).path) == ("POST", "/omnimessage")
    assert calls.send({"to": "x"}).body == {"to": "x"}
    assert (calls.cancel(ID).method, calls.cancel(ID).path) == ("DELETE", f"/omnimessage/{ID}")
    assert (calls.delivery_report(ID).method, calls.delivery_report(ID).path) == ("GET", f"/omnimessage/{ID}/status")
    assert calls.credentials_check().path == "/omnimessage/00000000-0000-0000-0000-000000000000/status"


@pytest.mark.parametrize("status", [200, 201, 202])
def test_any_success_of_a_send_is_read(status):
    accepted = calls.send({}).result(
        answer(
            status,
            {
                "omnimessage_id": ID,
                "to": "+37255555555",
                "messages": [
                    {"channel": "viber", "message_id": "1", "sender": "A"},
                    {"channel": "sms", "message_id": "2", "sender": "A"},
                ],
            },
        )
    )
    assert accepted == responses.Accepted(ID, "+37255555555", {"viber": "1", "sms": "2"})


@pytest.mark.parametrize("body", [b"", b"{}", b" ", b"null", b'{"errors": []}'])
def test_a_cancel_succeeds_with_an_empty_body_and_with_any_json(body):
    assert calls.cancel(ID).result(answer(202, body)) is None


@pytest.mark.parametrize("body", [b"Accepted", b"{", b"<html/>", b"\xff"])
def test_a_cancel_with_any_other_body_has_an_unknown_outcome(body):
    with pytest.raises(UnexpectedResponseError) as caught:
        calls.cancel(ID).result(answer(202, body))
    assert caught.value.maybe_processed


@pytest.mark.parametrize(
    ("status", "kind", "maybe_processed", "may_pass"),
    [
        (301, UnexpectedResponseError, False, False),
        (307, UnexpectedResponseError, False, False),
        (400, RejectedError, False, False),
        (401, AuthenticationError, False, False),
        (403, AuthenticationError, False, False),
        (404, NotFoundError, False, False),
        (405, RejectedError, False, False),
        (429, RateLimitedError, False, True),
        (500, ServerError, True, True),
        (502, ServerError, True, True),
        (503, ServerError, True, True),
    ],
)
def test_each_failure_is_an_error_of_its_kind(status, kind, maybe_processed, may_pass):
    error = failure(status, {"errors": [{"title": "T", "detail": "D", "code": "105", "source": None}]})
    assert type(error) is kind
    assert (error.status_code, error.codes) == (status, ("105",))
    assert (error.maybe_processed, error.may_pass) == (maybe_processed, may_pass)


def test_an_error_speaks_in_messentes_words_and_names_the_field():
    error = failure(
        400, {"errors": [{"title": "Invalid data", "detail": "too long", "code": "105", "source": "sms.text"}]}
    )
    assert str(error) == "send: Messente rejected the request (400: Invalid data: too long [sms.text])"


def test_a_number_that_an_error_repeats_is_masked():
    error = failure(
        400, {"errors": [{"title": "Invalid data", "detail": "+372 5666 7788 and 37256667788", "code": "105"}]}
    )
    assert "5666" not in str(error).replace(" ", "")
    assert "7788" not in str(error)


def test_a_gateways_html_is_not_repeated_in_the_error():
    error = failure(502, b"<html>SECRET</html>", **{"Content-Type": "text/html"})
    assert str(error) == "send: server error (502: text/html, no reason given)"


def test_a_redirect_names_the_host_but_not_the_address():
    error = failure(302, b"", Location="https://evil.example/steal?token=1")
    assert "redirect to evil.example, which is not followed" in str(error)
    assert "token" not in str(error)


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("soon", None), (None, None), ("-1", None)])
def test_retry_after_is_read_in_seconds(header, seconds):
    error = failure(429, None, **({"Retry-After": header} if header else {}))
    assert error.retry_after == seconds


@pytest.mark.parametrize("body", [b"", b"[]", b'"ok"', b"{", b"{}", b'{"omnimessage_id": 5}', b"<html/>", b"\xff"])
def test_a_success_of_a_send_that_names_no_id_may_have_been_processed(body):
    with pytest.raises(UnexpectedResponseError) as caught:
        calls.send({}).result(answer(201, body))
    assert caught.value.maybe_processed


@pytest.mark.parametrize(
    "omnimessage_id", [None, "", "a/b", "..", "a b", "ä", "x" * 65, 5, "['1', '2']", "id\n", "%2e%2e"]
)
def test_what_cannot_be_an_id_never_becomes_a_path(omnimessage_id):
    with pytest.raises(InvalidInputError, match=r"omnimessage_id: .* is not an id"):
        calls.cancel(omnimessage_id)


def test_a_rendered_list_is_explained():
    with pytest.raises(InvalidInputError, match="a template renders a list as text"):
        calls.cancel("['6bd8c1ee', '6bd8c1ef']")


@given(
    st.integers(200, 599),
    st.one_of(
        st.binary(),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(
                        ["errors", "statuses", "messages", "omnimessage_id", "code", "status", "price_info", "channel"]
                    ),
                    inner,
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
    ),
    st.sampled_from(["send", "cancel", "report"]),
)
def test_any_response_is_a_result_or_one_of_our_own_errors(status, body, name):
    call = {"send": calls.send({}), "cancel": calls.cancel(ID), "report": calls.delivery_report(ID)}[name]
    try:
        call.result(answer(status, body))
    except ApiError as error:
        assert error.status_code == status  # noqa: PT017


def test_errors_survive_being_pickled_as_airflow_may_do():
    originals: list[OmnimessageError] = [
        InvalidInputError.of("to", "is missing"),
        PastTimeToSendError.of("time_to_send", "is in the past"),
        RateLimitedError("slow", status_code=429, codes=["1"], retry_after=3.0),
        UnexpectedResponseError("odd", status_code=302, maybe_processed=False),
        ServerError("bad", status_code=500),
    ]
    for original in originals:
        copy = pickle.loads(pickle.dumps(original))
        assert (type(copy), str(copy), copy.__dict__) == (type(original), str(original), original.__dict__)


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        ([], Outcome.IN_PROGRESS),
        ([None], Outcome.IN_PROGRESS),
        (["ACK"], Outcome.IN_PROGRESS),
        (["UNDELIV", "ACCEPTD"], Outcome.IN_PROGRESS),
        (["UNDELIV", "DELIVRD"], Outcome.DELIVERED),
        (["SEEN"], Outcome.SEEN),
        (["EXPIRED", "REJECTD", "NACK", "FAILED", "UNDELIV"], Outcome.FAILED),
        (["DELETED", "DELETED"], Outcome.CANCELLED),
        (["UNDELIV", "DELETED"], Outcome.FAILED),
        (["UNKNOWN"], Outcome.IN_PROGRESS),
        (["BRANDNEW"], Outcome.IN_PROGRESS),
    ],
)
def test_what_a_report_adds_up_to(statuses, outcome):
    report = DeliveryReport.read(
        {"omnimessage_id": ID, "statuses": [{"channel": "sms", "status": s} for s in statuses]}
    )
    assert report.outcome is outcome


def test_a_report_is_read_whole():
    report = calls.delivery_report(ID).result(
        answer(
            200,
            {
                "omnimessage_id": ID,
                "to": "+37255555555",
                "statuses": [
                    {
                        "status": "UNDELIV",
                        "channel": "viber",
                        "message_id": "1",
                        "sender": "A",
                        "err": 3,
                        "error": "Invalid number",
                        "timestamp": "2026-11-23T09:00:00",
                        "price_info": {"part_price": "0.04", "parts_count": 1, "total_price": "0.04"},
                    }
                ],
            },
        )
    )
    status = report.statuses[0]
    assert str(status) == "viber: UNDELIV (Invalid number)"
    assert (status.err, status.price, status.timestamp) == (3, "0.04", "2026-11-23T09:00:00")
