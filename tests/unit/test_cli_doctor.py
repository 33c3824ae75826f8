"""The doctor command: what it checks, and how it explains a network that does not work."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone

import pytest
from tls import tls_server

from airflow_provider_omnimessage.cli import doctor

TO = "+37255555555"
_BODY = json.dumps({"errors": [{"title": "Not found", "detail": "", "code": "101", "source": None}]})
NOT_FOUND = (
    "HTTP/1.1 404 Not Found\r\nDate: Mon, 01 Jan 2024 12:00:00 GMT\r\nConnection: close\r\n"
    f"Content-Type: application/json\r\nContent-Length: {len(_BODY)}\r\n\r\n{_BODY}"
).encode()


class TestDoctor:
    def test_every_line_is_ok_if_nothing_is_wrong(self, run, sandbox):
        ended = run("doctor", "-o", "json")
        assert ended.code == 0
        assert {row["check"]: row["result"] for row in ended.rows} == {
            "versions": "ok",
            "connection": "ok",
            "DNS": "ok",
            "TLS": "skipped",
            "response": "ok",
            "clock": "ok",
            "credentials": "ok",
        }
        assert sandbox.messages == []

    @pytest.mark.parametrize(
        ("changed", "check", "cure"),
        [
            ({"password": "wrong"}, "credentials", "Check both in Messente's dashboard"),
            ({"password": ""}, "connection", "set it to the API password"),
            ({"host": "http://example.com"}, "connection", "use an https:// URL"),
            ({"host": "https://api.invalid"}, "DNS", "check the connection's base URL"),
            ({"host": "http://127.0.0.1:1"}, "response", "check the base URL"),
            ({"host": "https://127.0.0.1:1"}, "TLS", "Connection refused"),
        ],
    )
    def test_a_problem_is_shown_with_its_remedy_and_dependent_checks_are_skipped(
        self, run, sandbox, monkeypatch, changed, check, cure
    ):
        monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps({**sandbox.connection, **changed}))
        ended = run("doctor", "-o", "json")
        assert ended.code == 1
        (wrong,) = [row for row in ended.rows if row["result"] == "wrong"]
        assert wrong["check"] == check
        assert cure in wrong["detail"]
        after = ended.rows[ended.rows.index(wrong) + 1 :]
        assert {row["result"] for row in after} <= {"skipped"}
        assert [row["check"] for row in ended.rows] == list(doctor.CHECKS)

    @pytest.mark.parametrize(
        ("date", "result", "said"),
        [
            ("Mon, 23 Nov 2026 12:00:00 GMT", "ok", "agrees"),
            ("Mon, 23 Nov 2026 11:59:00 GMT", "wrong", "60 s ahead of the server's"),
            ("Mon, 23 Nov 2026 12:10:00 GMT", "wrong", "600 s behind the server's"),
            (None, "skipped", "no Date header"),
            ("noon", "skipped", "no Date header"),
        ],
    )
    def test_a_wrong_clock_is_reported(self, date, result, said):
        finding = doctor.clock(date, datetime(2026, 11, 23, 12, tzinfo=timezone.utc))
        assert finding.result == result
        assert said in finding.detail

    def test_certificates_are_checked_as_in_other_calls(self, run, sandbox, monkeypatch, tmp_path):
        server = tls_server(tmp_path, answer=NOT_FOUND)
        with server as (host, received):
            monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps({**sandbox.connection, "host": host}))
            before = run("doctor", "-o", "json")
            assert received == []
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.certificate))
            after = run("doctor", "-o", "json")
        (wrong,) = [row for row in before.rows if row["result"] == "wrong"]
        assert (before.code, wrong["check"]) == (1, "TLS")
        assert "set REQUESTS_CA_BUNDLE to its authority" in wrong["detail"]
        results = {row["check"]: row for row in after.rows}
        assert results["TLS"]["result"] == "ok"
        assert re.match(r"TLSv1\.\d, certificate valid until ", results["TLS"]["detail"])
        assert results["credentials"]["result"] == "ok"
        # the same server says that it is noon
        assert (after.code, results["clock"]["result"]) == (1, "wrong")
        assert "synchronise it with NTP" in results["clock"]["detail"]

    @pytest.mark.parametrize(
        ("certificate", "cure"),
        [({"address": "127.0.0.2"}, "check the connection's base URL"), ({"days": 5}, "by this machine's clock")],
    )
    def test_a_wrong_host_and_an_expired_certificate_have_different_messages(
        self, run, sandbox, monkeypatch, tmp_path, certificate, cure
    ):
        server = tls_server(tmp_path, **certificate)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.certificate))
        with server as (host, _):
            monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps({**sandbox.connection, "host": host}))
            ended = run("doctor", "-o", "json")
        (wrong,) = [row for row in ended.rows if row["result"] == "wrong"]
        assert wrong["check"] == "TLS"
        assert cure in wrong["detail"]

    def test_a_proxy_that_does_not_respond_is_named_without_its_password(self, run, sandbox, monkeypatch):
        monkeypatch.setenv("HTTPS_PROXY", "http://someone:secret@127.0.0.1:1")
        connection = {**sandbox.connection, "host": "https://api.messente.com"}
        monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps(connection))
        ended = run("doctor", "-o", "json")
        rows = {row["check"]: row for row in ended.rows}
        assert ended.code == 1
        assert rows["DNS"] == {"check": "DNS", "result": "skipped", "detail": "done by the proxy 127.0.0.1"}
        assert rows["TLS"]["result"] == "skipped"
        assert rows["response"]["result"] == "wrong"
        assert "check HTTPS_PROXY, or bypass the proxy with NO_PROXY=api.messente.com" in rows["response"]["detail"]
        assert rows["credentials"]["result"] == "skipped"
        assert "secret" not in ended.output + ended.stderr

    def test_a_connection_that_is_set_and_cannot_be_read_is_not_called_missing(self, run, monkeypatch):
        monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", '{"conn_type": "omnimessage", "password": "secret}')
        ended = run("doctor", "-o", "json")
        (wrong,) = [row for row in ended.rows if row["result"] == "wrong"]
        assert ended.code == 1
        assert wrong["check"] == "connection"
        assert "AIRFLOW_CONN_OMNIMESSAGE_DEFAULT is set, but is neither JSON nor a URI" in wrong["detail"]
        assert "secret" not in ended.output + ended.stderr

    def test_the_request_for_the_time_contains_no_credentials(self, run, sandbox):
        run("doctor")
        assert [request["status"] for request in sandbox.requests] == [401, 404]
