"""Who is on call, as a calendar's titles and rules may be written: names, exceptions, copies, broken rules."""

from __future__ import annotations

import copy
import pickle
from datetime import datetime, timedelta, timezone

import pytest
from airflow.sdk import DAG
from rotas import ALWAYS, ANN, BOB, TEAM, at, on_call

from airflow_provider_omnimessage.alerts import HeartbeatOperator
from airflow_provider_omnimessage.api.errors import InvalidInputError


class TestNames:
    """A name is found however it is written: case, accents, spaces."""

    @pytest.mark.parametrize(
        ("name", "title"),
        [
            ("ilker", "On call: İLKER"),
            ("İlker", "On call: ilker"),
            ("İLKER", "On call: İlker"),
            ("Işıl", "On call: IŞIL"),
            ("J\u00fcri", "On call: Ju\u0308ri"),
            ("Ju\u0308ri", "On call: J\u00dcRI"),
            ("Ann ", "On call: Ann"),
            (" Ann  Lee", "On call: Ann\u00a0Lee"),
            ("Stra\u00dfe", "On call: STRASSE"),
            ("STRASSE", "On call: Stra\u00dfe"),
            ("ﬁona", "On call: Fiona"),
            ("Ann", "On call: Ann\u200b"),
            ("Ann", "On call: Ann-Marie"),
            ("Ann", "ann@example.com"),
            ("रामा", "On call: रामा"),
        ],
    )
    def test_a_name_is_found_however_it_is_written(self, rota, name, title):
        path = rota(f"{ALWAYS}\nSUMMARY:{title}")
        assert on_call(path, people={name: ANN}, default=None).at(at("2026-11-25T09:00+00:00")) == [ANN]

    @pytest.mark.parametrize(
        ("name", "title"), [("Ann", "Anna"), ("Ann", "Joann"), ("राम", "रामा"), ("J", "J\u030c"), ("Ann", "Ann_2")]
    )
    def test_a_part_of_a_word_is_no_name(self, rota, name, title):
        path = rota(f"{ALWAYS}\nSUMMARY:{title}")
        assert on_call(path, people={name: ANN}).at(at("2026-11-25T09:00+00:00")) == [TEAM]

    def test_the_longer_of_two_names_counts(self, rota):
        path = rota(f"{ALWAYS}\nSUMMARY:On call: Ann-Marie")
        assert on_call(path, people={"Ann": ANN, "ANN-MARIE": BOB}).at(at("2026-11-25T09:00+00:00")) == [BOB]

    def test_two_spellings_of_one_name_are_both_alerted(self, rota):
        path = rota(f"{ALWAYS}\nSUMMARY:On call: Ann")
        assert on_call(path, people={"Ann": ANN, "ann": BOB}).at(at("2026-11-25T09:00+00:00")) == [ANN, BOB]

    @pytest.mark.parametrize("name", ["", " ", "\u200b"])
    def test_an_empty_name_is_rejected(self, rota, name):
        with pytest.raises(InvalidInputError, match=r"people: the name .* is empty; pass the name of a person"):
            on_call(rota(f"{ALWAYS}\nSUMMARY:Ann"), people={"Ann": ANN, name: BOB})


class TestRecurringInUtc:
    """Events in UTC in a calendar with a zone of its own, with exceptions on both sides of a clock change."""

    DAILY = "DTSTART:20260101T000000Z\nDTEND:20260102T000000Z\nRRULE:FREQ=DAILY\nUID:rota"
    HEADS = pytest.mark.parametrize("head", ["X-WR-TIMEZONE:Europe/Tallinn", "X-WR-TIMEZONE:UTC", "X-OTHER:1"])

    @HEADS
    @pytest.mark.parametrize("day", ["2026-07-03", "2026-12-03"])
    def test_a_day_that_is_excluded(self, rota, head, day):
        excluded = f"EXDATE:{day.replace('-', '')}T000000Z\nEXDATE:20260705T000000Z,20260706T000000Z"
        oncall = on_call(rota(f"{self.DAILY}\nSUMMARY:Ann\n{excluded}", head=head))
        noon = at(f"{day}T12:00+00:00")
        days = [noon - timedelta(days=1), noon, noon + timedelta(days=1)]
        assert [oncall.at(when) for when in days] == [[ANN], [TEAM], [ANN]]
        assert oncall.at(at("2026-07-06T12:00+00:00")) == [TEAM]

    @HEADS
    def test_a_day_that_is_swapped(self, rota, head):
        swap = "UID:rota\nSUMMARY:bob@example.com\nRECURRENCE-ID:20260703T000000Z\n"
        swap += "DTSTART:20260703T000000Z\nDTEND:20260704T000000Z"
        other = "DTSTART:20260101T000000Z\nDTEND:20260101T010000Z\nSUMMARY:Ann"
        oncall = on_call(rota(f"{self.DAILY}\nSUMMARY:Ann", swap, other, head=head))
        times = ["02T23:59", "03T00:00", "03T12:00", "03T23:59", "04T00:00"]
        found = [oncall.at(at(f"2026-07-{time}+00:00")) for time in times]
        assert found == [[ANN], [BOB], [BOB], [BOB], [ANN]]

    def test_exceptions_at_the_local_time_leave_the_handover_at_the_local_time(self, rota):
        oncall = on_call(rota(f"{self.DAILY}\nSUMMARY:Ann\nEXDATE:20260702T230000Z"))
        times = ["02T22:59", "02T23:00", "03T22:59", "03T23:00"]
        assert [oncall.at(at(f"2026-07-{time}+00:00")) for time in times] == [[ANN], [TEAM], [TEAM], [ANN]]


class TestCopies:
    """Airflow copies tasks, and what they hold: dag.partial_subset(), mapped tasks."""

    @pytest.mark.parametrize("event", [ALWAYS, TestRecurringInUtc.DAILY], ids=["once", "daily"])
    def test_a_copy_reads_the_calendar_again(self, rota, event):
        oncall = on_call(rota(f"{event}\nSUMMARY:Ann"), default=None)
        with DAG("report", schedule=None) as dag:
            HeartbeatOperator(task_id="beat", to=oncall, grace=timedelta(minutes=5))
        subset = dag.partial_subset("beat").task_dict["beat"].to
        for copied in (copy.deepcopy(oncall), copy.copy(oncall), pickle.loads(pickle.dumps(oncall)), subset):
            assert copied.at(at("2026-11-25T09:00+00:00")) == [ANN]


class TestWhatTheLibraryRaises:
    @pytest.mark.parametrize("error", [KeyError("x"), AttributeError("x"), OverflowError("x"), RecursionError("x")])
    @pytest.mark.parametrize("where", ["start", "get"])
    def test_the_default_is_alerted(self, rota, monkeypatch, error, where, caplog):
        import icalendar

        path = rota(f"{ALWAYS}\nSUMMARY:Ann")
        with_default, without = on_call(path), on_call(path, default=None)

        def fail(*_):
            raise error

        monkeypatch.setattr(icalendar.Event, where, property(fail) if where == "start" else fail)
        assert with_default.at(at("2026-11-25T09:00+00:00")) == [TEAM]
        assert f"cannot be evaluated ({type(error).__name__}: " in caplog.text
        with pytest.raises(InvalidInputError, match="cannot be evaluated"):
            without.at(at("2026-11-25T09:00+00:00"))

    def test_a_time_at_the_end_of_all_calendars(self, rota):
        """There is no time three hours later."""
        assert on_call(rota(f"{ALWAYS}\nSUMMARY:Ann")).at(datetime.max.replace(tzinfo=timezone.utc)) == [TEAM]
