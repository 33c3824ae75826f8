from __future__ import annotations

import json
import threading

import pytest
from receivers import CONN_ID, ids_and_statuses, report

from airflow_provider_omnimessage.receiver.events import Event, read_report
from airflow_provider_omnimessage.receiver.store import Store


def event(omnimessage_id: str, status: str | None, conn_id: str = CONN_ID, **more: object) -> Event:
    return read_report(conn_id, json.dumps(report(omnimessage_id, status, **more)).encode())


def log(store: Store, after: int = 0) -> list[tuple[str, str | None]]:
    return ids_and_statuses(store.page(CONN_ID, after).events)


def test_a_report_is_stored_once_in_one_batch_and_in_two(store: Store) -> None:
    store.append([event("a", "ACK"), event("a", "ACK")])
    assert store.append([event("a", "ACK")]) == {}
    assert log(store) == [("a", "ACK")]


@pytest.mark.parametrize("in_one_batch", [True, False])
def test_a_status_never_goes_back(store: Store, in_one_batch: bool) -> None:
    reports = [event("a", status) for status in ("DELIVRD", "ACK", None, "UNDELIV", "SEEN", "DELIVRD", "ACCEPTD")]
    for batch in [reports] if in_one_batch else [[each] for each in reports]:
        store.append(batch)
    assert log(store) == [("a", "DELIVRD"), ("a", "SEEN")]
    assert [each["status"] for each in store.stored(CONN_ID, ["a"])["a"]] == ["SEEN"]


def test_channels_of_one_message_are_independent(store: Store) -> None:
    store.append([event("a", "DELIVRD", message_id="sms"), event("a", "UNDELIV", message_id="viber", channel="viber")])
    assert log(store) == [("a", "DELIVRD"), ("a", "UNDELIV")]
    assert {each["message_id"]: each["status"] for each in store.stored(CONN_ID, ["a"])["a"]} == {
        "sms": "DELIVRD",
        "viber": "UNDELIV",
    }


def test_exactly_one_event_of_a_message_is_its_first_delivery(store: Store) -> None:
    store.append([event("a", "ACK"), event("a", "DELIVRD", message_id="viber"), event("a", "SEEN", message_id="viber")])
    store.append([event("a", "DELIVRD"), event("b", "SEEN")])
    events = store.page(CONN_ID, 0).events
    assert ids_and_statuses(one for one in events if one["first_delivery"]) == [("a", "DELIVRD"), ("b", "SEEN")]


def test_connections_do_not_see_each_others_events(store: Store) -> None:
    news = store.append([event("a", "ACK"), event("a", "ACK", conn_id="other")])
    assert news == {CONN_ID: 1, "other": 2}
    assert log(store) == [("a", "ACK")]
    assert store.stored("third", ["a"]) == {}


def test_pages_follow_each_other_without_a_gap(store: Store) -> None:
    store.append([event(f"m{number}", "ACK") for number in range(5)])
    first = store.page(CONN_ID, 0, limit=3)
    second = store.page(CONN_ID, first.position.seq, limit=3)
    assert [one["omnimessage_id"] for one in first.events + second.events] == ["m0", "m1", "m2", "m3", "m4"]
    assert second.position == store.position()


def test_sequence_numbers_become_visible_in_their_order(store: Store) -> None:
    """A reader that continues after the last number it saw misses no event, with any number of writers."""
    seen: list[str] = []
    done = threading.Event()

    def read() -> None:
        after = 0
        while True:
            last = done.is_set()
            page = store.page(CONN_ID, after, limit=7)
            seen.extend(one["omnimessage_id"] for one in page.events)
            after = page.position.seq
            if last and not page.events:
                return

    def write(writer: int) -> None:
        for number in range(20):
            store.append([event(f"{writer}-{number}-{part}", "ACK") for part in range(2)])

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert sorted(seen) == sorted(f"{w}-{n}-{p}" for w in range(4) for n in range(20) for p in range(2))


def test_a_consumers_position_never_goes_back(store: Store) -> None:
    assert store.consumer_position(CONN_ID, "dags") is None
    store.advance(CONN_ID, "dags", 7)
    store.advance(CONN_ID, "dags", 5)
    store.advance("other", "dags", 2)
    assert store.consumer_position(CONN_ID, "dags") == 7
    assert store.consumer_position("other", "dags") == 2


def test_old_events_are_deleted_in_small_batches_and_newer_ones_stay(store: Store) -> None:
    now = [1_000_000.0]
    store = Store(store._engine, clock=lambda: now[0])
    store.append([event(f"old{number}", "ACK") for number in range(5)])
    now[0] += 8 * 86_400
    store.append([event("new", "ACK")])
    cutoff = now[0] - 7 * 86_400
    assert [store.delete_before(cutoff, limit=3) for _ in range(3)] == [3, 2, 0]
    assert log(store) == [("new", "ACK")]


def test_deleting_everything_does_not_restart_the_sequence(store: Store) -> None:
    store.append([event("a", "ACK")])
    store.delete_before(4e9)
    store.append([event("b", "ACK")])
    assert [one["seq"] for one in store.page(CONN_ID, 1).events] == [2]


def test_no_phone_number_and_no_sender_is_stored(store: Store) -> None:
    store.append([event("a", "FAILED", error="+37255512345 is not reachable")])
    stored = json.dumps(store.page(CONN_ID, 0).events)
    assert "37255512345" not in stored
    assert "ACME" not in stored
