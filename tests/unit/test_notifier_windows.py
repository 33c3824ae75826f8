"""The notifier with send windows and recipients' time zones."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier

TO = "+37255555555"


def of_a_task(state):
    ti = SimpleNamespace(task_id="load", state=state, try_number=2, max_tries=None)
    return {"dag": SimpleNamespace(dag_id="report"), "run_id": "run_1", "ti": ti, "task": SimpleNamespace()}


_OPENED = datetime.now(timezone.utc) - timedelta(hours=1)
CLOSED = f"{_OPENED:%H:%M}-{_OPENED + timedelta(minutes=1):%H:%M}"


@pytest.mark.parametrize(
    ("window", "state"), [(None, "accepted"), ("connection", "scheduled"), (f"{CLOSED}; timezone=UTC", "scheduled")]
)
def test_a_notification_ignores_the_window_of_the_connection_unless_asked(sandbox, monkeypatch, window, state):
    connection = {**sandbox.connection, "extra": {"window": f"{CLOSED}; timezone=UTC"}}
    monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps(connection))
    sandbox.freeze()
    OmnimessageNotifier(to=TO, window=window).notify(of_a_task("failed"))
    assert (sandbox.messages[0]["time_to_send"] is not None) == (state == "scheduled")


@pytest.mark.parametrize("window", [None, "connection", "00:00-24:00"])
def test_a_connection_whose_window_is_wrong_stops_no_alert(sandbox, monkeypatch, window):
    connection = {**sandbox.connection, "extra": {"window": "9-5"}}
    monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps(connection))
    OmnimessageNotifier(to=TO, window=window).notify(of_a_task("failed"))
    assert len(sandbox.messages) == 1


def test_an_alert_whose_window_cannot_be_applied_is_sent(sandbox, capsys):
    OmnimessageNotifier(to="+80012345678", window="09:00-09:01; timezone=recipient").notify(of_a_task("failed"))
    assert len(sandbox.messages) == 1
    logged = capsys.readouterr().out
    assert "is ignored: timezone: the time zone of +80012•••78 is unknown" in logged
    assert "on_unknown_zone" not in logged, "which alerts do not have"


@pytest.mark.parametrize(
    ("to", "hour"), [("+37255555555", 7), ("+12025550142", 14), ("+80012345678", 0)], ids=["EE", "US", "unknown"]
)
def test_a_time_in_the_zone_of_each_recipient(sandbox, monkeypatch, to, hour):
    connection = {**sandbox.connection, "extra": {"timezone": "Asia/Tokyo"}}
    monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps(connection))
    OmnimessageNotifier(to=to, time_to_send="2098-11-24T09:00", timezone="recipient").notify(of_a_task("failed"))
    assert datetime.fromisoformat(sandbox.messages[0]["time_to_send"]) == datetime(
        2098, 11, 24, hour, tzinfo=timezone.utc
    )


def test_a_window_without_a_zone_is_in_that_of_each_recipient(sandbox):
    notifier = OmnimessageNotifier(
        to=["+37255555555", "+12025550142"],
        time_to_send="2098-11-24T03:00",
        timezone="recipient",
        window="09:00-20:00",
    )
    notifier.notify(of_a_task("failed"))
    assert [datetime.fromisoformat(message["time_to_send"]).hour for message in sandbox.messages] == [7, 14]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"to": lambda _: TO}, "timezone: 'recipient' cannot be combined with recipients that depend on the time"),
        ({"dedup_key": "a"}, "timezone: 'recipient' cannot be combined with dedup_key"),
    ],
)
def test_the_zone_of_each_recipient_is_rejected_if_it_cannot_be(settings, words):
    with pytest.raises(InvalidInputError, match=words):
        OmnimessageNotifier(**{"to": TO, "timezone": "recipient", **settings})


def test_a_time_in_the_past_in_the_zone_of_the_recipient_means_now(sandbox):
    OmnimessageNotifier(to=TO, time_to_send="2020-11-24T09:00", timezone="recipient").notify(of_a_task("failed"))
    assert sandbox.messages[0]["time_to_send"] is None
