"""The fields of an Airflow connection, as JSON, as a URI or from the form."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.hooks.settings import Settings

MESSENTE = "https://api.messente.com/v1"
ODD = "p:a/s@s%w&o=r?d#ü漢🔑 +"


@pytest.fixture
def connection():
    from airflow.sdk import Connection

    def make(**given):
        given = {"conn_id": "c", "conn_type": "omnimessage", "login": "user", "password": "secret", **given}
        if isinstance(given.get("extra"), dict):
            given["extra"] = json.dumps(given["extra"])
        return Connection(**given)

    return make


@pytest.mark.parametrize(
    ("given", "base_url"),
    [
        ({}, MESSENTE),
        ({"host": ""}, MESSENTE),
        ({"host": "api.messente.com"}, MESSENTE),
        ({"host": "https://api.messente.com"}, MESSENTE),
        ({"host": "https://api.messente.com/v1/"}, MESSENTE),
        ({"host": "https://proxy.example/messente/v1"}, "https://proxy.example/messente/v1"),
        ({"host": "api.messente.com", "schema": "https"}, MESSENTE),
        ({"host": "proxy.example", "port": 8443}, "https://proxy.example:8443/v1"),
        ({"host": "http://127.0.0.1:8025/v1"}, "http://127.0.0.1:8025/v1"),
        ({"host": "http://127.0.0.1", "port": 8025, "schema": "v1"}, "http://127.0.0.1:8025/v1"),
        ({"host": "http://localhost:8025"}, "http://localhost:8025/v1"),
        ({"host": "http://[::1]:8025"}, "http://[::1]:8025/v1"),
        ({"host": "https://gateway.example/"}, "https://gateway.example"),
        ({"host": "http://127.0.0.1:4010/"}, "http://127.0.0.1:4010"),
        ({"host": "https://gateway.example/", "port": 8443}, "https://gateway.example:8443"),
        ({"host": "https://api.messente.com/"}, MESSENTE),
    ],
)
def test_the_host_is_the_base_url_or_a_part_of_it(connection, given, base_url):
    assert Settings.read(connection(**given)).base_url == base_url


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("http://api.messente.com", "would send the password in clear; use an https:// URL"),
        ("http://127.0.0.1.evil.example", "would send the password in clear"),
        ("http://192.168.0.1", "would send the password in clear"),
        ("ftp://api.messente.com", "is not a base URL"),
        ("https://user:pass@api.messente.com", "contains credentials"),
        ("https://", "is not a base URL"),
        ("https://api.messente.com:port", "is not a base URL"),
        ("https://api.messente.com/v1?key=1", "is not a base URL"),
        ("https://a..b", "is not a base URL"),
        ("exa mple.com", "is not a base URL"),
        ("https://api.messente.com:99999", "is not a base URL"),
        ("https:/api.messente.com", "is not a base URL"),
    ],
)
def test_a_host_that_is_not_safe_or_not_a_url_is_rejected(connection, host, said):
    with pytest.raises(InvalidInputError, match=r"^connection 'c', host: ") as caught:
        Settings.read(connection(host=host))
    assert said in str(caught.value)
    assert "pass@" not in str(caught.value)


def test_credentials_with_any_characters_come_through_a_uri():
    from airflow.sdk import Connection

    uri = f"omnimessage://{quote(ODD, safe='')}:{quote(ODD, safe='')}@/?timezone=Europe%2FTallinn&timeout=5"
    settings = Settings.read(Connection.from_uri(uri, conn_id="c"))
    assert (settings.username, settings.password) == (ODD, ODD)
    assert (settings.base_url, settings.timezone, settings.timeout) == (MESSENTE, "Europe/Tallinn", 5.0)


def test_a_uri_with_a_base_url_in_it():
    from airflow.sdk import Connection

    settings = Settings.read(Connection.from_uri("omnimessage://http://u:p@127.0.0.1:8025/v1", conn_id="c"))
    assert settings.base_url == "http://127.0.0.1:8025/v1"


def test_credentials_with_any_characters_come_through_json():
    from airflow.sdk import Connection

    written = json.dumps({"conn_type": "omnimessage", "login": ODD, "password": ODD, "extra": {"sender": "ACME"}})
    settings = Settings.read(Connection.from_json(written, conn_id="c"))
    assert (settings.username, settings.password, settings.sender) == (ODD, ODD, "ACME")


def test_defaults_for_every_message_come_from_the_extra(connection):
    extra = {
        "sender": "ACME",
        "timezone": "Europe/Tallinn",
        "dlr_url": "https://example.com/dlr",
        "text_store": "sha256",
        "priority": "high",
        "timeout": "12.5",
        "somebody_elses": 1,
    }
    settings = Settings.read(connection(extra=extra))
    assert (settings.sender, settings.timezone, settings.dlr_url) == (
        "ACME",
        "Europe/Tallinn",
        "https://example.com/dlr",
    )
    assert (settings.text_store, settings.priority, settings.timeout) == ("sha256", "high", 12.5)


def test_what_a_form_leaves_empty_counts_as_left_out(connection):
    settings = Settings.read(connection(extra={"sender": "", "timezone": None, "timeout": ""}))
    assert (settings.sender, settings.timezone, settings.timeout) == (None, None, 30.0)


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"timezone": "Mars"}, "timezone"),
        ({"dlr_url": "example.com"}, "dlr_url"),
        ({"text_store": "forever"}, "text_store"),
        ({"priority": "urgent"}, "priority"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "soon"}, "timeout"),
        ({"timeout": True}, "timeout"),
        ({"timeout": "nan"}, "timeout"),
        ({"sender": 5}, "sender"),
        ({"sender": "TwelveLetter"}, "sender"),
        ({"sender": "+1234567890123456"}, "sender"),
    ],
)
def test_a_wrong_extra_names_the_connection_and_the_field(connection, extra, field):
    with pytest.raises(InvalidInputError, match=rf"^connection 'c', extra\.{field}: "):
        Settings.read(connection(extra=extra))


def test_a_sender_that_sms_does_not_allow_is_rejected_with_the_way_out(connection):
    with pytest.raises(InvalidInputError) as caught:
        Settings.read(connection(extra={"sender": "Acme Logistics"}))
    assert "14 characters are too many for a sender on SMS; use at most 11" in str(caught.value)
    assert str(caught.value).endswith("; set a longer sender, such as one of Viber, in the message instead")


@pytest.mark.parametrize("sender", ["ACME", "Acme Corp 1", "+37255555555", "37255555555"])
def test_a_sender_may_be_a_short_name_or_a_number(connection, sender):
    assert Settings.read(connection(extra={"sender": sender})).sender == sender


@pytest.mark.parametrize("extra", ["[1]", "{bad", '"text"'])
def test_an_extra_that_is_not_a_json_object_is_rejected(connection, extra):
    with pytest.raises(InvalidInputError, match="extra: is not a JSON object"):
        Settings.read(connection(extra=extra))


@pytest.mark.parametrize("extra", [None, "", "{}"])
def test_an_extra_may_be_empty(connection, extra):
    assert Settings.read(connection(extra=extra)).timezone is None


def test_a_misspelt_extra_is_rejected_with_the_likely_one(connection):
    with pytest.raises(InvalidInputError, match=r"extra\.time_zone: no such field; did you mean timezone\?"):
        Settings.read(connection(extra={"time_zone": "Europe/Tallinn"}))


def test_a_password_that_cannot_be_encoded_is_rejected(connection):
    with pytest.raises(InvalidInputError, match="password: contains half of a surrogate pair"):
        Settings.read(connection(password="\ud800"))


@pytest.mark.parametrize("missing", ["login", "password"])
def test_missing_credentials_are_named(connection, missing):
    with pytest.raises(InvalidInputError, match=rf"connection 'c', {missing}: is missing; set it to the API"):
        Settings.read(connection(**{missing: None}))


def test_the_password_is_in_no_repr(connection):
    assert "secret" not in repr(Settings.read(connection()))


RECEIVER = "https://airflow.example.com/omnimessage"


@pytest.mark.parametrize(
    ("extra", "dlr_url", "receiver_url"),
    [
        ({"push_url": RECEIVER}, f"{RECEIVER}/v1/reports/c", RECEIVER),
        ({"push_url": f"{RECEIVER}/"}, f"{RECEIVER}/v1/reports/c", RECEIVER),
        ({"push_url": RECEIVER, "dlr_url": "https://own.example"}, "https://own.example", RECEIVER),
        ({"push_url": RECEIVER, "receiver_url": "http://api:8080/o"}, f"{RECEIVER}/v1/reports/c", "http://api:8080/o"),
        ({"receiver_url": "http://api:8080/o/"}, None, "http://api:8080/o"),
        ({"push_url": "http://127.0.0.1:8027"}, "http://127.0.0.1:8027/v1/reports/c", "http://127.0.0.1:8027"),
        ({"push_url": ""}, None, None),
    ],
)
def test_reports_go_to_the_receiver_unless_the_connection_says_otherwise(connection, extra, dlr_url, receiver_url):
    settings = Settings.read(connection(extra=extra))
    assert (settings.dlr_url, settings.receiver_url) == (dlr_url, receiver_url)


def test_the_address_for_reports_holds_the_connections_id_escaped(connection):
    settings = Settings.read(connection(conn_id="team#1", extra={"push_url": RECEIVER}))
    assert settings.dlr_url == f"{RECEIVER}/v1/reports/team%231"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"extra": {"push_url": "airflow.example.com"}}, "extra.push_url: a text of 19 characters is not a URL"),
        (
            {"extra": {"push_url": "http://airflow.example.com"}},
            "numbers in clear; use an https:// URL",
        ),
        ({"extra": {"push_url": f"{RECEIVER}?a=b"}}, "has more than a host and a path"),
        ({"extra": {"receiver_url": "https://u:p@airflow.example.com"}}, "has more than a host and a path"),
        ({"extra": {"push_url": RECEIVER}, "conn_id": "team/a"}, "needs a connection id without slashes"),
    ],
)
def test_a_receivers_address_that_cannot_work_is_rejected(connection, given, said):
    with pytest.raises(InvalidInputError, match=said.replace("?", r"\?")):
        Settings.read(connection(**given))


def test_a_wrong_window_is_an_error_where_it_is_used_and_nowhere_else(connection):
    settings = Settings.read(connection(extra={"window": "9-5", "sender": "ACME"}))
    assert settings.sender == "ACME"
    with pytest.raises(InvalidInputError, match=r"^connection 'c', extra\.window\.hours: '9-5' is not a span"):
        _ = settings.window
