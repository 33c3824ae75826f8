"""Send windows and recipients' time zones in a bulk send: each row when it is checked, and again when it is posted."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from airflow_provider_omnimessage.api.messages import sms
from airflow_provider_omnimessage.api.responses import Accepted
from airflow_provider_omnimessage.api.send_times import TimeChooser, TimeRules
from airflow_provider_omnimessage.api.windows import SendWindow
from airflow_provider_omnimessage.bulk import pending
from airflow_provider_omnimessage.bulk.pending import PendingBatch, SendSettings
from airflow_provider_omnimessage.bulk.rows import Spool
from airflow_provider_omnimessage.bulk.windows import RowWindows
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.tasks.memory import Mark

EIGHT = "2026-11-24T08:00+00:00"
TALLINN, NEW_YORK, NOWHERE = "+37255555555", "+12025550142", "+80012345678"


def send(**settings):
    return ScheduleBulkOmnimessageOperator(task_id="send", messages=[sms("a")], **settings)


def test_each_row_is_sent_in_its_own_window(dag, run_dag, sandbox):
    send(
        recipients=[
            {"to": TALLINN},
            {"to": NEW_YORK},
            {"to": NEW_YORK, "timezone": "Asia/Tokyo"},
            {"to": TALLINN, "time_to_send": "2098-11-24T12:00+02:00"},
            {"to": NOWHERE},
        ],
        time_to_send="2098-11-24T05:00",
        timezone="recipient",
        window=SendWindow("09:00-20:00", days="mon-fri"),
        on_unknown_zone="drop",
    )
    run = run_dag(dag)
    assert run.tasks == {"send": "success"}
    result = run.xcom("send")
    assert result["time_to_send"] == [
        "2098-11-24T07:00:00+00:00",
        "2098-11-24T14:00:00+00:00",
        "2098-11-24T00:00:00+00:00",
        "2098-11-24T10:00:00+00:00",
        None,
    ]
    assert (result["accepted"], result["skipped"], result["moved"]) == (4, 1, 3)
    assert result["time_choices"][1] == {
        "wanted": "2098-11-24T10:00:00+00:00",
        "chosen": "2098-11-24T14:00:00+00:00",
        "reason": "outside the window '09:00-20:00; days=mon-fri' (America/New_York)",
        "rows": 1,
        "first_row": 2,
    }
    assert "The first is row 2: wanted 2098-11-24T10:00:00+00:00, chosen 2098-11-24T14:00:00+00:00" in run.log
    assert "Leaving out 1 rows whose time zone is unknown" in run.log


def test_if_all_recipients_are_dropped_the_task_is_skipped(dag, run_dag, sandbox):
    send(recipients=[{"to": NOWHERE}], window=SendWindow("09:00-20:00", timezone="recipient"), on_unknown_zone="drop")
    run = run_dag(dag)
    assert run.tasks == {"send": "skipped"}
    assert not sandbox.messages


def test_a_window_that_no_row_could_use_is_an_error_even_if_invalid_rows_are_left_out(dag, run_dag, sandbox):
    send(recipients=[{"to": TALLINN}], window="09:00-20:00; holidays={{ 'XX' }}", on_invalid="drop")
    run = run_dag(dag)
    assert run.tasks == {"send": "failed"}
    assert "window.holidays: " in run.log
    assert not sandbox.messages


class Clock(datetime):
    """A clock that a test sets."""

    current: datetime

    @classmethod
    def now(cls, tz=None):
        return cls.current


@pytest.mark.parametrize(
    ("wanted", "on_past", "at_check", "posted"),
    [
        # at the check, the window was open; when it is posted, it has closed
        (None, "fail", "2026-11-24T17:59:00", ["2026-11-24T18:00:30", "2026-11-25T09:00:00+00:00"]),
        (None, "fail", "2026-11-24T17:59:00", ["2026-11-24T17:59:59", None]),
        # at the check it had not opened; it opened while the batch waited
        (None, "fail", "2026-11-24T08:00:00", ["2026-11-24T09:00:00", None]),
        (None, "fail", "2026-11-24T08:00:00", ["2026-11-24T08:30:00", "2026-11-24T09:00:00+00:00"]),
        # the chosen time has passed, and so has the window
        (None, "fail", "2026-11-24T08:00:00", ["2026-11-25T04:00:00", "2026-11-25T09:00:00+00:00"]),
        (EIGHT, "send_now", "2026-11-24T07:00:00", ["2026-11-24T20:00:00", "2026-11-25T09:00:00+00:00"]),
        (EIGHT, "send_now", "2026-11-24T07:00:00", ["2026-11-24T10:00:00", None]),
        (EIGHT, "fail", "2026-11-24T07:00:00", ["2026-11-24T10:00:00", "in the past"]),
    ],
)  # fmt: skip
def test_the_window_is_applied_again_when_a_row_is_posted(monkeypatch, wanted, on_past, at_check, posted):
    def at(text):
        return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)

    monkeypatch.setattr(pending, "datetime", Clock)
    Clock.current = at(at_check)
    chooser = TimeChooser(TimeRules(wanted, "UTC", SendWindow("09:00-18:00")), now=at(at_check))
    windows = RowWindows(chooser)
    choice = chooser.choose(TALLINN)
    with Spool() as spool:
        spool.add(choice.chosen.utc if choice.chosen else None, {"to": TALLINN}, windows.of(1, choice))
        (rows,) = spool.batches(10)
    settings = SendSettings(on_past, at_least_once=False, batch_size=10, parallel=1, mark=Mark(0), windows=windows)
    batch = PendingBatch(1, rows, "f", None, settings)
    Clock.current = at(posted[0])
    if posted[1] == "in the past":
        with pytest.raises(pending.NothingToPostError):
            batch.next_attempt()
        return
    (body,) = batch.next_attempt()
    assert batch.times == [posted[1]]
    assert (str(posted[1]).encode() in body) == (posted[1] is not None)
    moved = windows.moved
    batch.read([Accepted("6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6", TALLINN, {})])
    own_time = rows[0].time_to_send
    if posted[1] in (None, own_time):
        assert windows.late is None
    else:
        assert windows.moved == moved + 1
        assert windows.as_dict()["time_choices"][-1] == {
            "wanted": own_time or None,
            "chosen": posted[1],
            "reason": "its time had passed when it was posted, and the window was closed",
            "rows": 1,
            "first_row": 1,
        }


def test_what_a_closed_window_delays_when_it_is_posted_is_in_log_and_xcom(dag, run_dag):
    window = f"{datetime.now(timezone.utc) - timedelta(hours=1):%H:%M}-{datetime.now(timezone.utc):%H:%M}; timezone=UTC"
    past = datetime.now(timezone.utc) - timedelta(minutes=30)
    send(recipients=[{"to": TALLINN}], time_to_send=past, window=window, on_past="send_now")
    run = run_dag(dag)
    result = run.xcom("send")
    assert (result["moved"], result["time_choices"][0]["chosen"]) == (1, result["time_to_send"])
    assert "1 rows are sent at another time than wanted: its time had passed when it was posted" in run.log


def test_what_the_window_delayed_is_cancelled_when_the_task_is_cleared(dag, run_dag, clear_and_run, sandbox):
    opened = datetime.now(timezone.utc) - timedelta(hours=1)
    send(
        recipients=[{"to": TALLINN}],
        window=f"{opened:%H:%M}-{opened + timedelta(minutes=1):%H:%M}; timezone=UTC",
    )
    clear_and_run(dag, run_dag(dag))
    assert [message["state"] for message in sandbox.messages] == ["cancelled", "scheduled"]
