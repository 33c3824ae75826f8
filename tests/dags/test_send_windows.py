"""Send windows and recipients' time zones, in the tasks that send one message."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from full_size import first, full_size

from airflow_provider_omnimessage.alerts import DeadMansSwitch, HeartbeatOperator
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.api.windows import SendWindow
from airflow_provider_omnimessage.hooks import choosing
from airflow_provider_omnimessage.operators.omnimessage import ScheduleOmnimessageOperator, SendOmnimessageOperator
from airflow_provider_omnimessage.tasks import scheduling as scheduling_of_tasks

TO = "+37255555555"
AUSTRALIAN = "+61412345678"
WITHOUT_COUNTRY = "+80012345678"


def closed_now(zone: tzinfo = timezone.utc) -> str:
    """A window of ten minutes that opened an hour ago, and opens again tomorrow."""
    opened = datetime.now(zone) - timedelta(hours=1)
    return f"{opened:%H:%M}-{opened + timedelta(minutes=10):%H:%M}"


@pytest.fixture
def connection_window(sandbox, monkeypatch):
    def set_window(window: str) -> None:
        connection = {**sandbox.connection, "extra": {"window": window}}
        monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", json.dumps(connection))

    return set_window


def sending(**settings):
    return SendOmnimessageOperator(task_id="send", messages=[sms("a")], **{"to": TO, **settings})


def scheduling(**settings):
    return ScheduleOmnimessageOperator(task_id="schedule", messages=[sms("a")], **{"to": TO, **settings})


def test_a_send_outside_its_window_is_scheduled(dag, run_dag, sandbox):
    sending(window=SendWindow("{{ dag_run.conf['hours'] }}", timezone="UTC"))
    hours = closed_now()
    run = run_dag(dag, hours=hours)
    (message,) = sandbox.messages
    chosen = datetime.fromisoformat(run.xcom("send", "time_to_send"))
    assert message["state"] == "scheduled"
    assert f"{chosen:%H:%M}" == hours[:5]
    reason = f"outside the window '{hours}; timezone=UTC' (UTC)"
    assert run.xcom("send", "time_choice") == {"wanted": None, "chosen": chosen.isoformat(), "reason": reason}
    assert f"Wanted: now. Chosen: {chosen:%Y-%m-%d %H:%M:%S} UTC: {reason}" in run.log


def test_a_send_takes_the_time_zone_of_its_window(dag, run_dag, sandbox):
    sending(window=closed_now(ZoneInfo("Asia/Tokyo")), timezone="{{ 'recipient' }}", to="+819012345678")
    run = run_dag(dag)
    assert run.xcom("send", "time_choice")["reason"].endswith("(Asia/Tokyo)")


CONF = {name: f"{{{{ dag_run.conf['{name}'] }}}}" for name in ("hours", "days", "timezone", "holidays")}


@pytest.mark.parametrize(
    "window",
    first(
        1,
        [
            "{{ dag_run.conf }}",
            SendWindow(**CONF),
            f"{CONF['hours']}; days={CONF['days']}; timezone=UTC; holidays={CONF['holidays']}",
        ],
    ),
    ids=["a dict", "its parts", "a text"],
)
def test_a_window_is_rendered_from_dicts_and_lists(dag, run_dag, sandbox, window):
    sending(window=window)
    today = datetime.now(timezone.utc).date()
    run = run_dag(dag, hours="00:00-24:00", days=["mon-fri", "sat", "sun"], timezone="UTC", holidays=[f"{today}"])
    assert run.state == "success", run.log
    assert run.xcom("send", "time_to_send") == f"{today + timedelta(days=1)}T00:00:00+00:00"
    assert f"days=mon-fri,sat,sun; timezone=UTC; holidays={today}'" in run.xcom("send", "time_choice")["reason"]


def test_the_window_of_the_connection_holds_for_a_task_without_its_own(dag, run_dag, sandbox, connection_window):
    connection_window(f"{closed_now()}; timezone=UTC")
    sending()
    SendOmnimessageOperator(task_id="anyway", to=TO, messages=[sms("b")], window="00:00-24:00")
    run_dag(dag)
    states = {message["body"]["messages"][0]["text"]: message["state"] != "scheduled" for message in sandbox.messages}
    assert states == {"a": False, "b": True}


def test_a_scheduled_message_waits_for_the_window_in_every_zone_of_the_number(dag, run_dag, sandbox):
    scheduling(to=AUSTRALIAN, time_to_send="2098-11-24T07:00", timezone="recipient", window=SendWindow("09:00-20:00"))
    run = run_dag(dag)
    assert run.xcom("schedule", "time_to_send") == "2098-11-24T02:30:00+00:00"  # 9 in the Cocos Islands
    choice = run.xcom("schedule", "time_choice")
    assert choice["wanted"] == "2098-11-24T00:30:00+00:00"
    assert choice["reason"] == (
        "the latest of 8 time zones of the recipient; outside the window '09:00-20:00' (in 8 time zones, of which "
        "Australia/Adelaide is one)"
    )


@pytest.mark.parametrize(
    ("on_unknown_zone", "state"), first(1, [("fail", "failed"), ("drop", "skipped"), ("UTC", "success")])
)
def test_a_recipient_whose_zone_is_unknown(dag, run_dag, sandbox, on_unknown_zone, state):
    scheduling(
        to=WITHOUT_COUNTRY, time_to_send="2098-11-24T07:00", timezone="recipient", on_unknown_zone=on_unknown_zone
    )
    run = run_dag(dag)
    assert run.tasks == {"schedule": state}
    assert len(sandbox.messages) == (state == "success")
    assert state == "success" or "the time zone of +80012•••78 is unknown" in run.log
    assert ("set on_unknown_zone to 'drop'" in run.log) == (state == "failed")


@full_size
def test_a_clear_withdraws_the_message_of_a_recipient_who_is_dropped_now(dag, run_dag, clear_and_run, sandbox):
    task = scheduling(to=TO, time_to_send="2098-11-24T07:00", timezone="recipient", on_unknown_zone="drop")
    run = run_dag(dag)
    task.to = WITHOUT_COUNTRY
    assert clear_and_run(dag, run).tasks == {"schedule": "skipped"}
    assert [message["state"] for message in sandbox.messages] == ["cancelled"]


def test_a_number_that_no_country_has_is_not_sent_to(dag, run_dag, sandbox):
    sending(to="+3725555555555555"[:16])
    run = run_dag(dag)
    assert run.tasks == {"send": "failed"}
    assert "digits after +372 (EE), too many; check the number and its country code" in run.log
    assert sandbox.requests == []


@pytest.mark.parametrize("on_past", first(1, ["fail", "skip", "send_now"]))
def test_a_time_in_the_past_is_judged_after_the_window(dag, run_dag, sandbox, on_past):
    hours = closed_now()
    scheduling(time_to_send="2020-01-01T09:00+00:00", on_past=on_past, window=f"{hours}; timezone=UTC")
    run = run_dag(dag)
    assert run.tasks == {"schedule": {"fail": "failed", "skip": "skipped", "send_now": "success"}[on_past]}
    assert [message["state"] for message in sandbox.messages] == (["scheduled"] if on_past == "send_now" else [])


def test_a_message_for_now_is_sent_if_its_window_opens_before_it_is_posted(dag, run_dag, sandbox, monkeypatch):
    now = choosing.current_time
    times = [timedelta(0), timedelta(days=1, minutes=-60)]
    monkeypatch.setattr(choosing, "current_time", lambda: now() + (times.pop(0) if len(times) > 1 else times[0]))
    monkeypatch.setattr(scheduling_of_tasks, "current_time", choosing.current_time)
    sending(window=f"{closed_now()}; timezone=UTC")
    run = run_dag(dag)
    assert run.tasks == {"send": "success"}
    assert sandbox.messages[0]["time_to_send"] is None
    assert run.xcom("send", "time_choice")["reason"] == "its time has passed"


def test_the_xcom_has_the_time_choice_if_the_zone_of_the_recipient_counts(dag, run_dag):
    scheduling(time_to_send="2098-11-24T09:00", timezone="recipient")
    time = "2098-11-24T07:00:00+00:00"
    assert run_dag(dag).xcom("schedule", "time_choice") == {"wanted": time, "chosen": time, "reason": None}


def test_a_retry_keeps_the_choice_of_the_first_try(dag, run_dag, sandbox, first_try_fails_after_the_post):
    sending(window=f"{closed_now()}; timezone=UTC", retries=1, retry_delay=timedelta(0))
    run = run_dag(dag)
    assert run.xcom("send", "time_choice")["reason"].startswith("outside the window")
    assert len(sandbox.messages) == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"window": "9-20"}, "window.hours: '9-20' is not a span"),
        ({"window": 9}, "window: 9 is not a window"),
        ({"on_unknown_zone": "guess"}, "on_unknown_zone: 'guess' is not accepted; use 'fail', 'drop' or a time zone"),
    ],
)
def test_what_is_wrong_is_seen_while_the_dag_is_parsed(settings, words):
    with pytest.raises(InvalidInputError) as caught:
        sending(**settings)
    assert words in str(caught.value)


@full_size
def test_alerts_ignore_the_window_of_the_connection(dag, run_dag, sandbox, connection_window):
    connection_window(f"{closed_now()}; timezone=UTC")
    HeartbeatOperator(task_id="beat", to=TO, grace=timedelta(minutes=15))
    with DeadMansSwitch("switch", to=TO, text="late", within=timedelta(minutes=15)):
        sending(window="00:00-24:00")
    run_dag(dag)
    now = datetime.now(timezone.utc)
    due = [message for message in sandbox.messages if message["time_to_send"]]
    assert len(due) == 2
    assert all(datetime.fromisoformat(message["time_to_send"]) < now + timedelta(minutes=16) for message in due)
