"""Handing out events: long polls, consumers and their positions."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from full_size import first, full_size
from receivers import PASSWORD, RunningReceiver, report
from sqlalchemy import event as sqlalchemy_event
from waiting import eventually

from airflow_provider_omnimessage.receiver.keys import ConnectionSecrets
from airflow_provider_omnimessage.receiver.store import Page, Store


def test_a_long_poll_is_answered_by_the_next_report(receiver: RunningReceiver) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(receiver.events, after=0, wait=30)
        receiver.until_somebody_waits()
        receiver.post(report("a"))
        assert [event["omnimessage_id"] for event in waiting.result().body["events"]] == ["a"]


def test_a_long_poll_is_answered_by_what_another_process_stored(receiver: RunningReceiver) -> None:
    with RunningReceiver(receiver.database) as other, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(receiver.events, after=0, wait=30)
        receiver.until_somebody_waits()
        other.post(report("a"))
        assert [event["omnimessage_id"] for event in waiting.result().body["events"]] == ["a"]


@full_size
def test_many_long_polls_make_one_light_query_and_hold_no_connection(
    receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.secrets |= {f"conn{number}": ConnectionSecrets(PASSWORD, "x") for number in range(40)}
    with ThreadPoolExecutor(40) as pool:
        # on a slow machine, it takes seconds until all of them wait
        polls = [pool.submit(receiver.events, conn_id=f"conn{number}", after=0, wait=60) for number in range(40)]
        receiver.until_somebody_waits(40)
        looks: list[int] = []
        position = Store.position
        monkeypatch.setattr(Store, "position", lambda self: looks.append(1) or position(self))
        pages: list[int] = []
        page = Store.page
        monkeypatch.setattr(Store, "page", lambda *args: pages.append(1) or page(*args))
        held = {"checkout": 0, "checkin": 0}
        for name in held:
            sqlalchemy_event.listen(receiver.receiver.store._engine, name, _counter(held, name))
        time.sleep(1)
        assert len(looks) <= 6
        assert not pages
        eventually(lambda: held["checkout"] == len(looks), "each query has taken one connection")
        assert held["checkout"] - held["checkin"] <= 1
        receiver.receiver.let_go()
        assert {poll.result().body["position"] for poll in polls} == {0}


def test_a_report_stored_between_the_read_and_the_wait_answers_the_long_poll(
    receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, reads = Store.page, count()

    def then_post(self: Store, conn_id: str, after: int) -> Page:
        read = page(self, conn_id, after)
        if next(reads) == 0:
            receiver.post(report("a"))
        return read

    monkeypatch.setattr(Store, "page", then_post)
    started = time.monotonic()
    assert [event["omnimessage_id"] for event in receiver.events(after=0, wait=60).body["events"]] == ["a"]
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("log_id", "last_seq"), [("another", 0), (None, 5)], ids=["another database", "restored from a backup"]
)
def test_a_long_poll_of_a_log_that_starts_anew_reads_no_more_than_others(
    receiver: RunningReceiver, monkeypatch: pytest.MonkeyPatch, log_id: str | None, last_seq: int
) -> None:
    for number in range(10):
        receiver.post(report(f"m{number}"))
    receiver.shorten_log(log_id, last_seq)
    page, reads = Store.page, []
    monkeypatch.setattr(Store, "page", lambda *args: reads.append(1) or page(*args))
    assert receiver.events(after=last_seq, wait=2).body["position"] == last_seq
    assert len(reads) <= 3
    receiver.post(report("a"))
    assert [event["omnimessage_id"] for event in receiver.events(after=last_seq, wait=60).body["events"]] == ["a"]


def test_a_report_for_one_connection_does_not_end_the_long_poll_of_another(receiver: RunningReceiver) -> None:
    receiver.secrets["other"] = ConnectionSecrets(PASSWORD, "x")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(receiver.events, conn_id="other", after=0, wait=60)
        receiver.until_somebody_waits()
        receiver.post(report("a"))
        receiver.post(report("b"), conn_id="other")
        assert [event["omnimessage_id"] for event in waiting.result().body["events"]] == ["b"]


def test_long_polls_end_when_the_receiver_stops(database: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        with RunningReceiver(database) as receiver:
            waiting = pool.submit(receiver.events, after=0, wait=60)
            receiver.until_somebody_waits()
        assert waiting.result().body["events"] == []


def test_ids_are_answered_at_once_with_the_latest_status_of_each_channel(receiver: RunningReceiver) -> None:
    for status in ("ACK", "DELIVRD"):
        receiver.post(report("a", status))
    answer = receiver.events(ids="a,unknown", wait=30).body
    assert {id_: [one["status"] for one in stored] for id_, stored in answer["stored"].items()} == {"a": ["DELIVRD"]}
    assert answer["position"] == 2


def test_a_new_consumer_begins_at_the_end_and_goes_on_where_it_was(receiver: RunningReceiver) -> None:
    receiver.post(report("before"))
    first = receiver.events(consumer="dags").body
    assert (first["events"], first["position"]) == ([], 1)
    receiver.post(report("a"))
    receiver.post(report("b"))
    # it dies before it acknowledges them, and gets them again
    for _ in range(2):
        again = receiver.events(consumer="dags").body
        assert [event["omnimessage_id"] for event in again["events"]] == ["a", "b"]
    receiver.events(consumer="dags", after=again["position"])
    assert receiver.events(consumer="dags").body["events"] == []


def test_a_replayed_request_does_not_set_a_consumer_back(receiver: RunningReceiver) -> None:
    receiver.post(report("a"))
    receiver.events(consumer="dags", after=1)
    receiver.events(consumer="dags", after=0)
    assert receiver.events(consumer="dags").body["events"] == []


def test_a_position_beyond_the_end_is_answered_at_once(receiver: RunningReceiver) -> None:
    """The log has started anew, in another database: its reader must not wait for a number that is far away."""
    answer = receiver.events(after=1000, wait=30).body
    assert answer["position"] == 0


@pytest.mark.parametrize(
    "query",
    first(
        3,
        [
            {"after": "x"},
            {"after": "-1"},
            {"after": "1" * 19},
            {"wait": "61"},
            {"wait": "-1"},
            {"wait": "nan"},
            {"ids": "a b"},
            {"ids": ",".join(["a"] * 201)},
            {"consumer": "a b"},
        ],
    ),
)
def test_a_query_that_makes_no_sense_gets_400(receiver: RunningReceiver, query: dict[str, str]) -> None:
    assert receiver.events(**query).status == 400


def _counter(counts: dict[str, int], name: str) -> Callable[..., None]:
    def count(*_: object) -> None:
        counts[name] += 1

    return count
