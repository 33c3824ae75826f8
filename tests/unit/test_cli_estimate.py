"""The command line: what a file would cost, moved and past times, and files that cannot be used."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

TO = "+37255555555"


@pytest.fixture
def people(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(f"to,name\n{TO},Mari\n+12025550142,Ann\n12,Nobody\n")
    return str(path)


@pytest.mark.parametrize(
    "words",
    [
        ("estimate", "MISSING.csv", "--text", "a"),
        ("estimate", "MISSING.jsonl"),
        ("estimate", "FOLDER.csv", "--text", "a"),
        ("estimate", "nowhere://bucket/people.csv", "--text", "a"),
        ("estimate", "people.txt", "--text", "a"),
        ("estimate", "PEOPLE", "--text", "a", "--prices", "MISSING.csv"),
        ("estimate", "PEOPLE", "--text", "a", "--prices", "FOLDER.csv"),
        ("estimate", "PEOPLE", "--text-file", "MISSING"),
        ("estimate", "PEOPLE", "--messages-file", "MISSING"),
        ("send", "--to-file", "MISSING", "--text", "a"),
        ("send", "--to", TO, "--text-file", "BINARY"),
        ("send", "--to", TO, "--messages-file", "FOLDER.csv"),
        ("send", "--to", TO, "--messages-file", "DEEP"),
        ("receiver", "--announce", "MISSING/ready.json"),
        ("receiver", "--announce", "FOLDER.csv"),
        ("sandbox", "--announce", "MISSING/ready.json"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_in_one_line(run, sandbox, people, tmp_path, words):
    (tmp_path / "FOLDER.csv").mkdir()
    (tmp_path / "BINARY").write_bytes(b"\xff\xfe")
    (tmp_path / "DEEP").write_text("[" * 100_000)
    here = ("MISSING", "FOLDER", "BINARY", "DEEP")
    ended = run(*(str(tmp_path / word) if word.startswith(here) else word.replace("PEOPLE", people) for word in words))
    assert (ended.code, ended.output) == (2, "")
    assert ended.stderr.count("\n") == 1
    assert sandbox.requests == []


@pytest.mark.parametrize("output", ["table", "json"])
def test_a_file_without_rows_is_an_error_in_each_output(run, tmp_path, output):
    (tmp_path / "people.csv").write_text("to\n")
    ended = run("estimate", str(tmp_path / "people.csv"), "--text", "a", "--output", output)
    assert (ended.code, ended.output) == (2, "")
    assert "FILE: has no rows; check the path" in ended.stderr


def test_a_csv_file_without_a_text_names_the_options(run, people):
    ended = run("estimate", people)
    assert ended.code == 2
    assert "FILE: a CSV file holds recipients; pass their text with --text-file or --text" in ended.stderr


def test_rows_in_the_past_are_rejected_and_not_counted(run, people):
    ended = run("estimate", people, "--text", "a", "--time-to-send", "2020-01-01T09:00", "--output", "json")
    found = json.loads(ended.output)
    assert ended.code == 1
    assert {name: found[name] for name in ("rows", "recipients", "rejected", "sms_parts", "per_hour")} == {
        "rows": 3,
        "recipients": 0,
        "rejected": 3,
        "sms_parts": 0,
        "per_hour": [],
    }
    assert found["problems"][0] == "row 1, time_to_send: 2020-01-01 09:00:00 UTC is in the past; use a future time"


def test_recipients_without_a_price_are_named(run, people, tmp_path):
    (tmp_path / "prices.csv").write_text("prefix,price\n372,0.05\n")
    ended = run("estimate", people, "--text", "a", "--prices", str(tmp_path / "prices.csv"))
    assert "1 recipient has no price (+1)" in ended.stderr


def test_the_exit_codes_include_rejected_rows():
    from airflow_provider_omnimessage.cli.commands import EXIT_CODES

    assert "1 a message was not delivered, rows were rejected" in EXIT_CODES


def test_reschedule_shows_that_a_window_moves_the_time(run, sandbox, scheduled):
    words = ("--time-to-send", "2098-11-24T03:00", "--window", "09:00-20:00; timezone=recipient", "--output", "json")
    ended = run("reschedule", scheduled, "--to", TO, "--text", "b", *words)
    assert ended.code == 0
    time_to_send = ended.rows[0]["time_to_send"]
    assert datetime.fromisoformat(time_to_send) == datetime.fromisoformat(sandbox.messages[1]["time_to_send"])
    assert datetime.fromisoformat(time_to_send).hour == 7
    assert "Wanted: 2098-11-24 03:00:00 UTC. Chosen: 2098-11-24 09:00:00 Europe/Bucharest (" in ended.stderr


def test_reschedule_to_a_time_in_the_past_says_what_to_do_and_keeps_the_message(run, sandbox, scheduled):
    ended = run("reschedule", scheduled, "--to", TO, "--text", "b", "--time-to-send", "2020-01-01T09:00")
    assert ended.code == 2
    assert "is in the past; pass a future time, or use the commands cancel and send" in ended.stderr
    assert [message["state"] for message in sandbox.messages] == ["scheduled"]
