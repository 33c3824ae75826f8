"""The hook over real HTTP: what reaches the API, and the errors if it does not."""

from __future__ import annotations

import base64
import json
import socket
import threading
from datetime import datetime, timedelta, timezone

import pytest
import requests
from tls import tls_server

from airflow_provider_omnimessage.api.errors import (
    AuthenticationError,
    InvalidInputError,
    LostResponseError,
    NotFoundError,
    NotSentError,
    OmnimessageError,
    PastTimeToSendError,
    RateLimitedError,
    RejectedError,
    ServerError,
    UnexpectedResponseError,
    UnknownZoneError,
    UntrustedError,
)
from airflow_provider_omnimessage.api.messages import rcs, sms, viber
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

TO = "+37255555555"


@pytest.fixture
def hook(sandbox):
    with OmnimessageHook() as hook:
        yield hook


@pytest.fixture
def connect(monkeypatch, sandbox):
    """Set the host or the extra of the default connection."""

    def change(**changed):
        monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps({**sandbox.connection, **changed}))
        return OmnimessageHook()

    return change


class Listener:
    """A server that sends the same bytes to every client, and records what it receives."""

    def __init__(self, answer: bytes = b"") -> None:
        self.answer = answer
        self.received = b""
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.host = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                self.received += connection.recv(65536)
                connection.sendall(self.answer)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


class TestSend:
    def test_a_message_reaches_the_api_as_it_was_built(self, hook, sandbox):
        accepted = hook.send("+372 5555 5555", [viber("Tere", ttl=60), sms("Tere")])
        (message,) = sandbox.messages
        assert message["body"] == {
            "to": TO,
            "messages": [{"channel": "viber", "text": "Tere", "ttl": 60}, {"channel": "sms", "text": "Tere"}],
        }
        assert accepted.omnimessage_id == message["omnimessage_id"]
        assert accepted.to == TO
        assert list(accepted.message_ids) == ["viber", "sms"]

    def test_the_connection_has_the_defaults_of_a_call(self, connect, sandbox):
        extra = {"sender": "ACME", "text_store": "nostore", "priority": "low", "dlr_url": "http://127.0.0.1:9/dlr"}
        hook = connect(extra=extra)
        hook.send(TO, [rcs("a"), sms("b", sender="MINE")], priority="high")
        (message,) = sandbox.messages
        assert message["body"]["priority"] == "high"
        assert message["body"]["text_store"] == "nostore"
        assert message["body"]["dlr_url"] == "http://127.0.0.1:9/dlr"
        assert [entry["sender"] for entry in message["body"]["messages"]] == ["ACME", "MINE"]

    def test_a_time_without_an_offset_is_meant_in_the_connections_zone(self, connect, sandbox):
        hook = connect(extra={"timezone": "Asia/Tokyo"})
        hook.send(TO, [sms("a")], time_to_send="2099-01-01T09:00")
        hook.send(TO, [sms("a")], time_to_send="2099-01-01T09:00", timezone="Europe/Tallinn")
        hook.send(TO, [sms("a")], time_to_send="2099-01-01T09:00Z")
        assert [message["body"]["time_to_send"] for message in sandbox.messages] == [
            "2099-01-01T00:00:00+00:00",
            "2099-01-01T07:00:00+00:00",
            "2099-01-01T09:00:00+00:00",
        ]

    def test_a_skipped_local_time_is_warned_of_in_the_log(self, hook, capfd):
        hook.resolve_time_to_send("2099-03-29T03:30", timezone="Europe/Tallinn")
        assert "does not exist in Europe/Tallinn" in "".join(capfd.readouterr())

    @pytest.mark.parametrize("value", ["2020-01-01T09:00", timedelta(seconds=-5), datetime(2020, 1, 1)])
    def test_a_time_in_the_past_is_not_sent(self, hook, sandbox, value):
        with pytest.raises(PastTimeToSendError, match=r"is in the past \(.+ ago\); use a future time"):
            hook.send(TO, [sms("a")], time_to_send=value)
        assert sandbox.requests == []

    @pytest.mark.parametrize(
        ("ago", "words"),
        [
            (timedelta(days=400, hours=3, minutes=9), "57 weeks 1 day"),
            (timedelta(hours=3, minutes=9, seconds=30), "3 hours"),
            (timedelta(minutes=9, seconds=30), "9 minutes"),
        ],
    )
    def test_how_long_ago_is_shown_in_units_that_a_person_would_use(self, hook, ago, words):
        with pytest.raises(PastTimeToSendError, match=rf"\({words} ago\)"):
            hook.send(TO, [sms("a")], time_to_send=datetime.now(timezone.utc) - ago)

    def test_a_recipient_whose_zone_is_unknown_is_left_to_the_caller(self, hook, sandbox):
        known, unknown = {"window": "00:00-24:00; timezone=recipient"}, "+80012345678"
        with pytest.raises(UnknownZoneError, match="is unknown; pass a time zone as on_unknown_zone"):
            hook.send(unknown, [sms("a")], **known)
        with pytest.raises(InvalidInputError, match="'drop' is for tasks; use 'fail' and catch UnknownZoneError"):
            hook.send(unknown, [sms("a")], on_unknown_zone="drop", **known)
        assert sandbox.requests == []
        hook.send(unknown, [sms("a")], on_unknown_zone="Asia/Tokyo", **known)
        assert len(sandbox.messages) == 1

    @pytest.mark.parametrize(
        ("to", "messages", "time_to_send"),
        [("5555", [sms("a")], None), (TO, [], None), (TO, [rcs("a")], None), (TO, [sms("a")], "nine o'clock")],
    )
    def test_bad_input_makes_no_call(self, hook, sandbox, to, messages, time_to_send):
        with pytest.raises(InvalidInputError):
            hook.send(to, messages, time_to_send=time_to_send)
        assert sandbox.requests == []

    def test_many_sends_share_one_connection(self, sandbox, connect):
        accepted = socket.socket.connect
        opened = []

        def counting(self, address):
            opened.append(address)
            return accepted(self, address)

        hook = connect()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket.socket, "connect", counting)
            for _ in range(5):
                hook.send(TO, [sms("a")])
        hook.close()
        assert len(sandbox.messages) == 5
        assert len([address for address in opened if address[1] == int(sandbox.url.split(":")[2].split("/")[0])]) == 1

    def test_a_closed_hook_opens_again(self, hook, sandbox):
        hook.send(TO, [sms("a")])
        hook.close()
        hook.send(TO, [sms("b")])
        assert len(sandbox.messages) == 2


class TestCancelAndReport:
    def test_a_scheduled_message_is_cancelled_and_never_sent(self, hook, sandbox):
        accepted = hook.send(TO, [sms("a")], time_to_send=timedelta(hours=1))
        hook.cancel(accepted.omnimessage_id)
        sandbox.advance(timedelta(hours=2))
        (message,) = sandbox.messages
        assert (message["state"], message["sent_at"]) == ("cancelled", None)
        assert hook.get_delivery_report(accepted.omnimessage_id).outcome == "cancelled"

    def test_a_message_that_was_sent_cannot_be_cancelled(self, hook, sandbox):
        accepted = hook.send(TO, [sms("a")], time_to_send=timedelta(hours=1))
        sandbox.advance(timedelta(hours=2))
        with pytest.raises(NotFoundError):
            hook.cancel(accepted.omnimessage_id)
        assert hook.get_delivery_report(accepted.omnimessage_id).outcome == "delivered"

    def test_an_unknown_message_has_no_report(self, hook):
        with pytest.raises(NotFoundError):
            hook.get_delivery_report("6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6")


class TestWhatGoesWrong:
    """Each row: the fault, the error, and whether a message may exist. None of these is repeated."""

    @pytest.mark.parametrize(
        ("fault", "error", "maybe_processed", "messages"),
        [
            ({"fault": "cut"}, LostResponseError, True, 0),
            ({"fault": "lost_answer"}, LostResponseError, True, 1),
            ({"fault": "broken_json"}, UnexpectedResponseError, True, 1),
            ({"fault": "html"}, UnexpectedResponseError, True, 0),
            ({"fault": "server_error"}, ServerError, True, 0),
            ({"fault": "server_error", "status": 502, "html": True}, ServerError, True, 0),
            ({"fault": "rate_limited", "retry_after": 500}, RateLimitedError, False, 0),
            ({"fault": "unauthorized"}, AuthenticationError, False, 0),
            ({"fault": "redirect", "location": "https://evil.example/"}, UnexpectedResponseError, False, 0),
        ],
    )
    def test_a_fault_becomes_an_error_that_knows_whether_to_try_again(
        self, hook, sandbox, fault, error, maybe_processed, messages
    ):
        sandbox.add_fault(**fault)
        with pytest.raises(error) as caught:
            hook.send(TO, [sms("a")])
        assert caught.value.maybe_processed is maybe_processed
        assert len(sandbox.messages) == messages
        assert len(sandbox.requests) == 1

    def test_what_the_caller_was_handling_does_not_count(self, hook, sandbox):
        sandbox.add_fault("lost_answer")
        try:
            requests.get("http://127.0.0.1:1/", timeout=5)
        except requests.ConnectionError:
            with pytest.raises(LostResponseError):
                hook.send(TO, [sms("a")])
        assert len(sandbox.messages) == 1

    @pytest.mark.parametrize("location", ["http://[bad/", "\xff\xfe"])
    def test_a_broken_location_is_one_of_our_own_errors(self, connect, location):
        answer = f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        with Listener(answer.encode("latin-1")) as listener, pytest.raises(OmnimessageError) as caught:
            connect(host=listener.host).send(TO, [sms("a")])
        assert isinstance(caught.value, (LostResponseError, UnexpectedResponseError))

    def test_a_missing_certificate_bundle_is_one_of_our_own_errors(self, connect, monkeypatch):
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent/bundle.pem")
        works, said = connect(host="https://api.invalid").test_connection()
        assert not works
        assert "nonexistent" in said

    def test_a_response_slower_than_the_timeout_is_lost(self, connect, sandbox):
        sandbox.add_fault("slow", seconds=2)
        with pytest.raises(LostResponseError, match="no complete response"):
            connect(extra={"timeout": 0.3}).send(TO, [sms("a")])

    def test_a_refused_connection_certainly_sent_nothing(self, connect):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with pytest.raises(NotSentError, match=r"nothing was sent: .*Connection refused"):
            connect(host=f"http://127.0.0.1:{port}").send(TO, [sms("a")])

    def test_an_unknown_host_certainly_was_sent_nothing(self, connect):
        with pytest.raises(NotSentError, match=r"could not reach https://api\.invalid/v1, nothing was sent"):
            connect(host="https://api.invalid").send(TO, [sms("a")])

    def test_a_server_that_speaks_no_tls_was_sent_nothing(self, connect):
        with Listener(b"HTTP/1.1 200 OK\r\n\r\n") as listener:
            host = listener.host.replace("http:", "https:")
            with pytest.raises(NotSentError, match="nothing was sent"):
                connect(host=host).send(TO, [sms("a")])
            assert b"POST" not in listener.received

    def test_a_server_with_an_untrusted_certificate_gets_no_request_and_is_tried_once(self, connect, untrusted_server):
        calls = (
            lambda hook: hook.send(TO, [sms("a")]),
            lambda hook: hook.cancel("m-1"),
            lambda hook: hook.get_delivery_report("m-1"),
        )
        for times, call in enumerate(calls, start=1):
            with pytest.raises(UntrustedError, match=r"CERTIFICATE_VERIFY_FAILED.*REQUESTS_CA_BUNDLE"):
                call(connect(host=untrusted_server.host))
            assert untrusted_server.connections == times
        assert untrusted_server.received == []

    def test_a_redirect_takes_no_credentials_along(self, connect):
        with Listener() as thief, Listener() as listener:
            listener.answer = (
                f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {thief.host}/v1\r\nContent-Length: 0\r\n\r\n"
            ).encode()
            with pytest.raises(UnexpectedResponseError, match=r"a redirect to 127\.0\.0\.1, which is not followed"):
                connect(host=listener.host).send(TO, [sms("a")])
            assert thief.received == b""

    def test_plain_http_beyond_this_machine_is_rejected_before_any_connection(self, connect):
        with pytest.raises(InvalidInputError, match="would send the password in clear"):
            connect(host="http://api.messente.com/v1").send(TO, [sms("a")])

    def test_a_netrc_does_not_replace_the_connections_credentials(self, hook, sandbox, monkeypatch, tmp_path):
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login other password other\n")
        monkeypatch.setenv("NETRC", str(netrc))
        hook.send(TO, [sms("a")])
        assert len(sandbox.messages) == 1

    def test_a_proxy_never_sees_what_goes_over_plain_http(self, connect, sandbox, monkeypatch):
        with Listener() as proxy:
            monkeypatch.delenv("NO_PROXY")
            monkeypatch.setenv("HTTP_PROXY", proxy.host)
            monkeypatch.setenv("http_proxy", proxy.host)
            connect().send(TO, [sms("a")])
            assert proxy.received == b""
        assert len(sandbox.messages) == 1

    def test_what_messente_rejects_is_reported_in_its_words(self, hook, sandbox):
        with pytest.raises(RejectedError, match="Messente rejected the request"):
            hook.send("+37255550005", [sms("a")])


class TestTestConnection:
    def test_valid_credentials_are_confirmed_and_nothing_is_sent(self, hook, sandbox):
        assert hook.test_connection() == (True, f"Reached {sandbox.url}, which accepts the API username 'us:er%@/ü'.")
        assert sandbox.messages == []

    def test_a_wrong_password_is_explained(self, connect):
        works, said = connect(password="wrong").test_connection()
        assert not works
        assert said.startswith("Wrong password: ")
        assert "check which IP addresses the account allows" in said

    def test_a_rejected_address_is_explained(self, connect):
        with Listener(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n") as listener:
            works, said = connect(host=listener.host).test_connection()
        assert not works
        assert said.startswith("Rejected address: ")

    @pytest.mark.parametrize(("window", "field"), [("9-5", "hours"), ("09:00-20:00; holidays=XX", "holidays")])
    def test_a_wrong_window_is_named_although_alerts_do_without_it(self, connect, window, field):
        works, said = connect(extra={"window": window}).test_connection()
        assert not works
        assert f"window.{field}: " in said

    def test_a_missing_password_is_named_as_the_form_names_it(self, connect):
        assert connect(password=None).test_connection() == (False, "password: is missing; set it to the API password")

    def test_plain_http_is_rejected_before_the_password_is_sent(self, connect):
        works, said = connect(host="http://api.messente.com/v1").test_connection()
        assert not works
        assert said == "host: http://api.messente.com would send the password in clear; use an https:// URL"

    def test_a_missing_route_is_reported(self, connect):
        works, said = connect(host="https://api.invalid").test_connection()
        assert not works
        assert said.startswith("No route: ")
        assert "could not reach https://api.invalid/v1" in said

    def test_an_untrusted_certificate_is_reported_as_such(self, connect, tmp_path):
        with tls_server(tmp_path) as (host, received):
            works, said = connect(host=host).test_connection()
        assert not works
        assert said.startswith("Not trusted: ")
        assert "REQUESTS_CA_BUNDLE" in said
        assert received == []

    @pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
    def test_a_server_that_is_not_messente_is_reported(self, connect, status):
        body = b"<html>Hello</html>"
        answer = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        with Listener(answer + body) as listener:
            works, said = connect(host=listener.host).test_connection()
        assert not works
        assert said.startswith("Not Messente: ")


def test_credentials_go_as_utf8_basic_authentication(connect):
    with Listener(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n") as listener:
        with pytest.raises(ServerError):
            connect(host=listener.host, login="ü:@/", password="p%:漢").send(TO, [sms("a")])
        header = next(line for line in listener.received.split(b"\r\n") if line.startswith(b"Authorization: Basic "))
    assert base64.b64decode(header.split()[-1]).decode() == "ü:@/:p%:漢"


def test_the_sandbox_sends_at_the_time_that_was_accepted(hook, sandbox):
    moment = datetime.now(timezone.utc) + timedelta(hours=3)
    hook.send(TO, [sms("a")], time_to_send=moment)
    waits_until = datetime.fromisoformat(sandbox.messages[0]["time_to_send"])
    assert timedelta(0) <= waits_until - moment < timedelta(seconds=1)
