"""What a wait is for, from what a task was passed, and back from a trigger's row."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.triggers.awaited import awaited_of_row, list_awaited

NINE, TEN = "2026-11-23T09:00:00+00:00", "2026-11-23T10:00:00+00:00"


def resolve(value):
    return datetime.fromisoformat(value).replace(tzinfo=timezone.utc)


def awaited(omnimessage_id, time_to_send=None):
    return list_awaited(omnimessage_id, time_to_send, resolve)


def after_a_restart(what):
    row = json.loads(json.dumps(what.to_row()))
    return awaited_of_row(row["messages"], row["one"], row["bulk"])


def ids_and_times(what):
    return [(each.omnimessage_id, each.time_to_send and each.time_to_send.isoformat()) for each in what.messages()]


def a_bulk_result(ids, time_to_send=None):
    return {"accepted": sum(id_ is not None for id_ in ids), "omnimessage_id": ids, "time_to_send": time_to_send}


def a_results_file(path, ids, accepted=None):
    lines = [{"row": row, "omnimessage_id": id_, "time_to_send": NINE} for row, id_ in enumerate(ids, 1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"accepted": accepted or len(ids), "results": str(path), "first_omnimessage_id": ids[0]}


@pytest.mark.parametrize(
    ("omnimessage_id", "time_to_send", "expected", "single"),
    [
        ("m-1", None, [("m-1", None)], True),
        ("m-1", NINE, [("m-1", NINE)], True),
        (["m-1", None, "m-2"], NINE, [("m-1", NINE), ("m-2", NINE)], False),
        (["m-1", None, "m-2"], [NINE, None, TEN], [("m-1", NINE), ("m-2", TEN)], False),
        (["m-1", "m-1"], None, [("m-1", None)], False),
        (["m-1", ["m-2", "m-3"]], [NINE, [TEN, None]], [("m-1", NINE), ("m-2", TEN), ("m-3", None)], False),
        (None, None, [], False),
        ([None, "None"], None, [], False),
    ],
)
def test_a_few_messages_are_reported(omnimessage_id, time_to_send, expected, single):
    what = awaited(omnimessage_id, time_to_send)
    assert not what.only_count
    assert what.single is single
    assert ids_and_times(what) == ids_and_times(after_a_restart(what)) == expected
    assert after_a_restart(what).single is single


def test_the_output_of_bulk_sends_is_counted(tmp_path):
    table = a_bulk_result(["m-1", None, "m-2"], [NINE, None, TEN])
    at_once = a_bulk_result(["m-3", "m-4"])
    file = a_results_file(tmp_path / "results.jsonl", ["m-5", "m-6"])
    of_table = [("m-1", NINE), ("m-2", TEN)]
    everything = [*of_table, ("m-3", None), ("m-4", None), ("m-5", NINE), ("m-6", NINE)]
    for passed, expected in (
        (table, of_table),
        (file, everything[4:]),
        ([table], of_table),
        # a mapped bulk send, one of whose tasks was skipped
        ([table, None, at_once, file], everything),
        ([a_bulk_result([None])], []),
        # and messages of other tasks, sent before
        (["m-8", table, None, "m-9"], [("m-8", None), ("m-9", None), *of_table]),
    ):
        what = awaited(passed)
        assert what.only_count
        assert ids_and_times(what) == ids_and_times(after_a_restart(what)) == expected


def test_of_ids_and_outputs_together_only_the_ids_take_the_time_that_is_passed():
    what = awaited([a_bulk_result(["m-1"], TEN), "m-2"], NINE)
    assert ids_and_times(what) == ids_and_times(after_a_restart(what)) == [("m-2", NINE), ("m-1", TEN)]


def test_a_message_of_two_outputs_is_awaited_once_and_at_its_own_time():
    result = a_bulk_result(["m-1", "m-2"], TEN)
    both = awaited([result, "m-1", result], NINE)
    assert ids_and_times(both) == ids_and_times(after_a_restart(both)) == [("m-1", TEN), ("m-2", TEN)]


def test_a_time_that_is_a_dict_is_rejected_by_its_own_name():
    with pytest.raises(InvalidInputError, match="time_to_send: a dict is not accepted"):
        awaited("m-1", a_bulk_result(["m-1"]))


def test_the_row_of_thousands_stays_small(tmp_path):
    ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(10_000)]
    inline = json.dumps(awaited(a_bulk_result(ids, NINE)).to_row())
    assert len(inline) < 10_000 * 40
    file = a_results_file(tmp_path / "results.jsonl", ids)
    assert len(json.dumps(awaited(file).to_row())) < 1000


def test_what_cannot_be_awaited_is_rejected_by_name(tmp_path):
    with pytest.raises(InvalidInputError, match=r"^time_to_send: 2 times for 3 ids"):
        awaited(["a", "b", "c"], [NINE, TEN])
    with pytest.raises(InvalidInputError, match=r"^omnimessage_id: "):
        awaited({"omnimessage_id": "m-1"})
    with pytest.raises(InvalidInputError, match=r"^omnimessage_id: "):
        awaited([a_bulk_result(["m-1"]), {"omnimessage_id": "m-2"}])
    with pytest.raises(InvalidInputError, match=r"^results: "):
        awaited(a_results_file(tmp_path / "results.jsonl", ["m-1"], accepted=2))
