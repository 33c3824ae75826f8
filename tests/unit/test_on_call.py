"""Who is on call: OnCall, and functions of the time, as recipients."""

from __future__ import annotations

import json
import logging
from bisect import bisect_right
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from airflow.sdk import DAG, ObjectStoragePath
from hypothesis import given, settings
from hypothesis import strategies as st
from rotas import ALWAYS, ANN, BOB, TEAM, at, calendar, on_call

from airflow_provider_omnimessage.alerts import DeadMansSwitch, HeartbeatOperator, OnCall
from airflow_provider_omnimessage.alerts.recipients import TimedRecipients, as_recipients, recipients_at
from airflow_provider_omnimessage.api.errors import InvalidInputError

TALLINN = ZoneInfo("Europe/Tallinn")


class TestWhoIsOnCall:
    @pytest.mark.parametrize(
        ("event", "numbers"),
        [
            ("SUMMARY:Ann", [ANN]),
            ("SUMMARY:On call: ANN (primary)", [ANN]),
            ("SUMMARY:Annika", [TEAM]),
            ("SUMMARY:Shift\nATTENDEE;CN=Ann:mailto:a@example.com", [ANN]),
            ("SUMMARY:Shift\nATTENDEE:MAILTO:Bob@example.com", [BOB]),
            ("SUMMARY:Shift\nATTENDEE:mailto:bob@example.com\nATTENDEE;CN=Ann:mailto:a@example.com", [BOB, ANN]),
            ("SUMMARY:Ann\nSTATUS:CANCELLED", [TEAM]),
        ],
    )
    def test_an_event_belongs_to_a_person_by_its_title_or_an_attendee(self, rota, event, numbers):
        assert on_call(rota(f"{ALWAYS}\n{event}")).at(at("2026-11-25T09:00+00:00")) == numbers

    def test_the_longest_name_in_a_title_counts(self, rota):
        path = rota(f"{ALWAYS}\nSUMMARY:Ann Lee")
        assert on_call(path, people={"Ann": ANN, "Ann Lee": BOB}).at(at("2026-11-25T09:00+00:00")) == [BOB]

    def test_everybody_in_overlapping_events_is_alerted(self, rota):
        path = rota(f"{ALWAYS}\nSUMMARY:Ann", f"{ALWAYS}\nSUMMARY:bob@example.com and Ann")
        assert on_call(path).at(at("2026-11-25T09:00+00:00")) == [ANN, BOB]

    def test_an_event_begins_with_its_first_second_and_has_ended_at_its_end(self, rota):
        oncall = on_call(rota("DTSTART:20261125T090000Z\nDTEND:20261125T100000Z\nSUMMARY:Ann"))
        times = ["08:59:59", "09:00:00", "09:59:59", "10:00:00"]
        assert [oncall.at(at(f"2026-11-25T{time}+00:00")) for time in times] == [[TEAM], [ANN], [ANN], [TEAM]]

    @pytest.mark.parametrize(
        "head",
        [
            "X-WR-TIMEZONE:Europe/Tallinn",
            "BEGIN:VTIMEZONE\nTZID:Europe/Tallinn\nBEGIN:STANDARD\nDTSTART:19700101T000000\nTZOFFSETFROM:+0200\n"
            "TZOFFSETTO:+0200\nEND:STANDARD\nEND:VTIMEZONE",
        ],
        ids=["x-wr-timezone", "vtimezone"],
    )
    def test_whole_days_and_times_without_a_zone_are_meant_in_the_calendars(self, rota, head):
        days = "DTSTART;VALUE=DATE:20261125\nDTEND;VALUE=DATE:20261126\nSUMMARY:Ann"
        hours = "DTSTART:20261126T090000\nDTEND:20261126T100000\nSUMMARY:bob@example.com"
        oncall = on_call(rota(days, hours, head=head))
        assert oncall.at(at("2026-11-24T21:59+00:00")) == [TEAM]
        assert oncall.at(at("2026-11-24T22:00+00:00")) == [ANN]
        assert oncall.at(at("2026-11-26T07:30+00:00")) == [BOB]

    def test_a_changed_file_is_read_again(self, rota):
        oncall = on_call(rota(f"{ALWAYS}\nSUMMARY:Ann"))
        rota(f"{ALWAYS}\nSUMMARY:bob@example.com")
        assert oncall.at(at("2026-11-25T09:00+00:00")) == [BOB]

    def test_a_relative_path_is_relative_to_the_file_that_makes_it(self, rota, tmp_path):
        rota(f"{ALWAYS}\nSUMMARY:Ann")
        dag_file = tmp_path / "dag.py"
        code = f"to = OnCall('rota.ics', people={{'Ann': '{ANN}'}})"
        names = {"__file__": str(dag_file), "OnCall": OnCall}
        exec(compile(code, dag_file, "exec"), names)
        assert names["to"].at(at("2026-11-25T09:00+00:00")) == [ANN]

    @pytest.mark.parametrize("form", [str, ObjectStoragePath], ids=["url", "path"])
    def test_object_storage_is_read_when_a_message_is_sent(self, rota, form):
        file = rota(f"{ALWAYS}\nSUMMARY:Ann")
        path = form(f"file://{file}")
        assert on_call(path).at(at("2026-11-25T09:00+00:00")) == [ANN]
        assert on_call(form("file:///nowhere/rota.ics")).at(at("2026-11-25T09:00+00:00")) == [TEAM]


class TestAcrossClockChanges:
    """A weekly or daily handover at a local time, compared with a list of local times."""

    @settings(max_examples=20, deadline=None)
    @given(
        hour=st.integers(0, 23),
        first=st.dates(datetime(2026, 1, 1).date(), datetime(2026, 12, 31).date()),
        days=st.sampled_from([1, 7]),
        in_utc=st.booleans(),
        minutes=st.lists(st.integers(0, 300 * 24 * 60), min_size=1, max_size=20),
        near_changes=st.lists(st.integers(-300, 300), max_size=10),
    )
    def test_handovers_keep_their_local_time(self, tmp_path_factory, hour, first, days, in_utc, minutes, near_changes):
        begin = datetime(first.year, first.month, first.day, hour)
        handovers = [
            (begin + timedelta(days=days * number)).replace(tzinfo=TALLINN).astimezone(timezone.utc)
            for number in range(800 // days)
        ]
        # an export in UTC, such as Google's, recurs in the calendar's zone, too
        start, zone = (handovers[0], "Z") if in_utc else (begin, "")
        events = [
            f"DTSTART{'' if in_utc else ';TZID=Europe/Tallinn'}:{start + timedelta(0):%Y%m%dT%H%M%S}{zone}\n"
            f"DURATION:P{days}D\nRRULE:FREQ=DAILY;INTERVAL={2 * days}\nSUMMARY:Ann"
        ]
        path = tmp_path_factory.getbasetemp() / "property.ics"
        path.write_text(calendar(*events))
        oncall = on_call(path)
        changes = [at("2026-10-25T01:00+00:00"), at("2027-03-28T01:00+00:00")]
        times = [handovers[0] + timedelta(minutes=minute) for minute in minutes]
        times += [change + timedelta(minutes=minute) for change in changes for minute in near_changes]
        for when in (time for time in times if handovers[0] <= time < handovers[-1]):
            shift = bisect_right(handovers, when) - 1
            assert oncall.at(when) == ([ANN] if shift % 2 == 0 else [TEAM]), when

    @pytest.mark.parametrize("zone", ["", ";TZID=Europe/Tallinn"], ids=["calendar", "event"])
    @pytest.mark.parametrize("minute", [0, 30])
    @pytest.mark.parametrize("change", ["2026-10-25T01:00+00:00", "2026-03-29T01:00+00:00"], ids=["back", "forward"])
    def test_a_handover_in_the_hour_that_is_repeated_or_skipped(self, rota, caplog, change, minute, zone):
        """At 03:00 or 03:30, which comes twice or not at all; the earlier one counts."""
        caplog.set_level(logging.CRITICAL)
        begin = datetime(2026, 3, 1, 3, minute)
        event = f"DTSTART{zone}:{begin:%Y%m%dT%H%M%S}\nDURATION:P1D\nRRULE:FREQ=DAILY;INTERVAL=2\nSUMMARY:Ann"
        oncall = on_call(rota(event))
        handovers = [
            (begin + timedelta(days=day)).replace(tzinfo=TALLINN).astimezone(timezone.utc) for day in range(300)
        ]
        for minutes in range(-300, 300, 10):
            when = at(change) + timedelta(minutes=minutes)
            is_ann = (bisect_right(handovers, when) - 1) % 2 == 0
            assert oncall.at(when) == ([ANN] if is_ann else [TEAM]), when


class TestWhatIsWrong:
    """An error while the DAG is parsed, if it can be seen then; else the default is alerted."""

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({"people": {"Ann": "555"}}, "people['Ann']: 55••• is not a phone number"),
            ({"people": {"Ann": [ANN, "x"]}}, "people['Ann'][1]"),
            ({"people": {}}, "people: is empty"),
            ({"default": "nobody"}, "default: "),
        ],
    )
    def test_a_bad_number(self, rota, arguments, words):
        with pytest.raises(InvalidInputError) as error:
            on_call(rota(f"{ALWAYS}\nSUMMARY:Ann"), **arguments)
        assert words in str(error.value)

    @pytest.mark.parametrize("default", [None, TEAM])
    @pytest.mark.parametrize(
        ("content", "words"), [(None, "cannot be read (FileNotFoundError"), ("garbage", "is not a calendar (")]
    )
    def test_an_unreadable_file(self, tmp_path, content, words, default):
        path = tmp_path / "rota.ics"
        if content is not None:
            path.write_text(content)
        with pytest.raises(InvalidInputError) as error:
            on_call(path, default=default)
        assert words in str(error.value)

    @pytest.mark.parametrize(
        ("begins", "ends"), [(1, 24 * 30), (-24, 24 * 6), (-24, -1)], ids=["not yet", "ends soon", "ended"]
    )
    def test_a_gap_within_seven_days_without_a_default(self, rota, begins, ends):
        now = datetime.now(timezone.utc)
        times = [f"{now + timedelta(hours=hours):%Y%m%dT%H%M%SZ}" for hours in (begins, ends)]
        path = rota(f"DTSTART:{times[0]}\nDTEND:{times[1]}\nSUMMARY:Ann", f"{ALWAYS}\nSUMMARY:Holiday")
        with pytest.raises(InvalidInputError, match=r"nobody is on call from .*; add an event"):
            on_call(path, default=None)
        on_call(path, default=TEAM)

    def test_a_rota_without_gaps_is_accepted(self, rota):
        now = datetime.now(timezone.utc).replace(microsecond=0)
        times = [f"{now + timedelta(days=days):%Y%m%dT%H%M%SZ}" for days in (-1, 2, 9)]
        path = rota(
            f"DTSTART:{times[0]}\nDTEND:{times[1]}\nSUMMARY:Ann",
            f"DTSTART:{times[1]}\nDTEND:{times[2]}\nSUMMARY:bob@example.com",
        )
        on_call(path, default=None)

    def test_the_default_is_alerted_and_logged(self, rota, caplog):
        oncall = on_call(rota("DTSTART:20200101T000000Z\nDTEND:20200102T000000Z\nSUMMARY:Ann"))
        assert oncall.at(at("2026-11-25T09:00+00:00")) == [TEAM]
        assert "Alerting the default recipient: OnCall(" in caplog.text
        assert "nobody is on call at 2026-11-25 09:00 UTC" in caplog.text

    def test_a_file_that_is_lost_later_never_stops_an_alert(self, rota, caplog):
        path = rota(f"{ALWAYS}\nSUMMARY:Ann")
        with_default, without = on_call(path), on_call(path, default=None)
        path.unlink()
        assert with_default.at(at("2026-11-25T09:00+00:00")) == [TEAM]
        assert "cannot be read" in caplog.text
        with pytest.raises(InvalidInputError, match="cannot be read"):
            without.at(at("2026-11-25T09:00+00:00"))

    def test_a_worker_that_parses_the_dag_for_a_task_does_not_fail(self, tmp_path, monkeypatch):
        """The work must not be blocked by a file that is missing on a worker."""
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "report")
        monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_TASK_ID", "load")
        assert on_call(tmp_path / "rota.ics").at(at("2026-11-25T09:00+00:00")) == [TEAM]

    def test_without_the_extra_the_way_out_is_named(self, rota, monkeypatch):
        import sys

        monkeypatch.setitem(sys.modules, "icalendar", None)
        with pytest.raises(InvalidInputError, match=r"pip install '\.\[oncall\]'"):
            on_call(rota(f"{ALWAYS}\nSUMMARY:Ann"))


class TestFunctions:
    def test_a_function_gets_the_time_in_utc(self):
        when = at("2026-11-25T09:00+02:00")
        to = as_recipients(lambda time: [ANN, BOB] if time == when and time.tzinfo is timezone.utc else TEAM)
        assert recipients_at(to, when) == ([ANN, BOB], [])

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda time: None, "to: is empty"),
            (lambda time: "nobody", "is not a phone number"),
            (lambda time: 1 / 0, "failed for 2026-11-25 09:00 UTC (ZeroDivisionError: division by zero)"),
        ],
        ids=["nothing", "no number", "raises"],
    )
    def test_what_it_returns_is_checked(self, function, words):
        with pytest.raises(InvalidInputError) as error:
            recipients_at(as_recipients(function), at("2026-11-25T09:00+00:00"))
        assert words in str(error.value)

    def test_numbers_that_a_generator_yields_before_it_fails_are_alerted(self):
        def rota(time):
            yield ANN
            yield "nobody"
            raise KeyError("bob")

        numbers, problems = recipients_at(as_recipients(rota), at("2026-11-25T09:00+00:00"))
        assert numbers == [ANN]
        assert [reason for _, reason in problems][1].startswith("<function ")
        assert "rota> failed for 2026-11-25 09:00 UTC (KeyError: 'bob'); return a number" in problems[1].reason

    def test_a_generator_that_fails_at_once_is_named(self):
        with pytest.raises(InvalidInputError, match=r"failed for .* \(ZeroDivisionError: division by zero\)"):
            recipients_at(as_recipients(lambda time: (1 / 0 for _ in "a")), at("2026-11-25T09:00+00:00"))

    def test_a_calendar_that_raises_what_nobody_expects_counts_as_nobody(self):
        class Rota(TimedRecipients):
            def at(self, when):
                raise KeyError("ann")

        with pytest.raises(InvalidInputError, match=r"to: .* \(KeyError: 'ann'\); return a number"):
            recipients_at(Rota(), at("2026-11-25T09:00+00:00"))


def who(time: datetime) -> str:
    return ANN


@pytest.mark.parametrize("kind", ["function", "rota"])
def test_a_serialized_dag_has_no_numbers_in_it(rota, kind):
    from airflow.serialization.serialized_objects import DagSerialization

    def serialized() -> str:
        with DAG("report", schedule=None) as dag:
            to = who if kind == "function" else on_call(rota(f"{ALWAYS}\nSUMMARY:Ann"))
            with DeadMansSwitch("in_time", to=to, text="late", within=timedelta(hours=1)):
                HeartbeatOperator(task_id="beat", to=to, grace=timedelta(minutes=5))
            HeartbeatOperator.partial(task_id="beats", to=to).expand(grace=[timedelta(minutes=5)])
        return json.dumps(DagSerialization.to_dict(dag))

    text = serialized()
    assert "2555555" not in text
    assert ("who" if kind == "function" else "rota.ics") in text
    assert text == serialized()


def test_the_log_of_a_gap_that_the_default_covers(rota, caplog):
    with caplog.at_level(logging.INFO):
        on_call(rota("DTSTART:20200101T000000Z\nDTEND:20200102T000000Z\nSUMMARY:Ann"))
    assert "nobody is on call from" in caplog.text
