"""The command line, as a person or a script uses it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone

import pytest
import yaml
from full_size import full_size

from airflow_provider_omnimessage.api.delivery import ChannelStatus, DeliveryReport
from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.cli import inputs, watch
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook

TO = "+37255555555"
UNKNOWN = "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"


class TestSend:
    def test_number_and_text_need_not_be_on_the_command_line(self, run, sandbox, tmp_path):
        number = tmp_path / "number"
        number.write_text(f"{TO}\n")
        ended = run("send", "--to-file", str(number), "--text-file", "-", "-o", "json", stdin="Tere, 漢\nja veel\n")
        (message,) = sandbox.messages
        assert message["body"] == {"to": TO, "messages": [{"channel": "sms", "text": "Tere, 漢\nja veel"}]}
        assert ended.code == 0
        assert ended.rows == [
            {
                "omnimessage_id": message["omnimessage_id"],
                "to": "+37255•••55",
                "channels": "sms",
                "time_to_send": None,
            }
        ]

    def test_the_mark_of_windows_programs_is_not_sent(self, run, sandbox, tmp_path):
        number = tmp_path / "number"
        number.write_text(TO, encoding="utf-8-sig")
        assert run("send", "--to-file", str(number), "--text-file", "-", stdin="\ufeffTere").code == 0
        assert sandbox.messages[0]["body"] == {"to": TO, "messages": [{"channel": "sms", "text": "Tere"}]}

    def test_a_terminal_prompts_for_them(self, run, sandbox, monkeypatch):
        monkeypatch.setattr(inputs, "_at_a_terminal", lambda: True)
        ended = run("send", stdin=f"{TO}\nTere\n")
        assert ended.code == 0
        assert ended.stderr == "Recipient (E.164, such as +37255555555): Text: "
        assert sandbox.messages[0]["body"]["messages"][0]["text"] == "Tere"

    def test_one_text_can_go_by_several_channels(self, run, sandbox):
        run("send", "--to", TO, "--text", "a", "--channel", "viber", "sms", "--ttl", "60", "--priority", "high")
        assert sandbox.messages[0]["body"] == {
            "to": TO,
            "messages": [{"channel": "viber", "text": "a", "ttl": 60}, {"channel": "sms", "text": "a", "ttl": 60}],
            "priority": "high",
        }

    def test_messages_of_any_kind_come_from_a_file(self, run, sandbox):
        given = [viber(image_url="https://example.com/a.png"), sms("a")]
        assert run("send", "--to", TO, "--messages-file", "-", stdin=json.dumps(given)).code == 0
        assert sandbox.messages[0]["body"]["messages"] == given

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--to", "5555", "--text", "a"], "to: "),
            (["--to", TO], "text: is missing; pass --text-file ('-' for stdin) or --text"),
            (["--text", "a"], "to: is missing"),
            (["--to", TO, "--to-file", "-", "--text", "a"], "to: is passed twice"),
            (["--to-file", "-", "--text-file", "-"], "stdin: only one of"),
            (["--to", TO, "--text-file", "/nowhere"], "text-file: cannot be read"),
            (["--to", TO, "--messages-file", "-"], "messages-file: is not JSON"),
            (["--to", TO, "--text", "a", "--conn-id", "nobodys"], "there is no connection 'nobodys'"),
        ],
    )
    def test_wrong_use_says_what_is_wrong_and_sends_nothing(self, run, sandbox, words, message):
        ended = run("send", *words)
        assert ended.code == 2
        assert message in ended.stderr
        assert sandbox.messages == []

    @pytest.mark.parametrize(
        ("fault", "code"),
        [("unauthorized", 3), ("rate_limited", 5), ("lost_answer", 6), ("server_error", 6), ("broken_json", 6)],
    )
    def test_the_exit_code_shows_whether_to_send_again(self, run, sandbox, fault, code):
        sandbox.add_fault(fault, times="always")
        ended = run("send", "--to", TO, "--text", "a")
        assert ended.code == code
        assert ended.stderr
        assert ended.output == ""


class TestSchedule:
    def test_the_time_is_a_span_from_now_or_a_local_time(self, run, sandbox):
        before = datetime.now(timezone.utc)
        run("schedule", "--to", TO, "--text", "a", "--in", "30m")
        run("schedule", "--to", TO, "--text", "a", "--time-to-send", "2099-01-01T09:00", "--timezone", "Europe/Tallinn")
        first, second = (datetime.fromisoformat(message["time_to_send"]) for message in sandbox.messages)
        assert timedelta(minutes=30) <= first - before < timedelta(minutes=31)
        assert second == datetime(2099, 1, 1, 7, tzinfo=timezone.utc)

    @pytest.mark.parametrize("words", [[], ["--in", "soon"], ["--in", "5m", "--time-to-send", "2099-01-01T09:00"]])
    def test_the_time_must_be_passed_once_and_be_valid(self, run, sandbox, words):
        assert run("schedule", "--to", TO, "--text", "a", *words).code == 2
        assert sandbox.messages == []

    def test_a_time_in_the_past_is_rejected(self, run, sandbox):
        ended = run("schedule", "--to", TO, "--text", "a", "--time-to-send", "2020-01-01T09:00")
        assert (ended.code, sandbox.messages) == (2, [])
        assert "is in the past" in ended.stderr

    def test_a_time_that_a_clock_change_skips_is_warned_of(self, run):
        ended = run(
            *("schedule", "--to", TO, "--text", "a"),
            *("--time-to-send", "2099-03-29T03:30", "--timezone", "Europe/Tallinn"),
        )
        assert ended.code == 0
        assert "does not exist in Europe/Tallinn" in ended.stderr


class TestCancelAndStatus:
    def test_a_scheduled_message_is_cancelled_and_a_second_time_too(self, run, sandbox, scheduled):
        assert run("cancel", scheduled, "-o", "json").rows == [{"omnimessage_id": scheduled, "result": "cancelled"}]
        again = run("cancel", scheduled, "-o", "json")
        assert (again.code, again.rows[0]["result"]) == (0, "was cancelled before")
        assert sandbox.messages[0]["state"] == "cancelled"

    def test_what_cannot_be_cancelled_is_reported_after_the_others(self, run, sandbox, scheduled):
        with OmnimessageHook() as hook:
            sent = hook.send(TO, [sms("b")]).omnimessage_id
        sandbox.advance(60)
        ended = run("cancel", sent, "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6", scheduled, "-o", "json")
        assert ended.code == 4
        assert [row["result"] for row in ended.rows] == [
            "has been sent already (sms: DELIVRD)",
            "is unknown to Messente, or belongs to another account",
            "cancelled",
        ]

    def test_status_has_a_row_for_each_channel(self, run, sandbox):
        with OmnimessageHook() as hook:
            sent = hook.send("+37255550002", [viber("a"), sms("a")]).omnimessage_id
        sandbox.advance(60)
        rows = run("status", sent, "-o", "json").rows
        assert [(row["outcome"], row["channel"], row["status"]) for row in rows] == [
            ("delivered", "viber", "UNDELIV"),
            ("delivered", "sms", "DELIVRD"),
        ]

    @pytest.mark.parametrize("output", ["table", "plain"])
    def test_people_see_a_table_without_none(self, run, scheduled, output):
        ended = run("status", scheduled, "--output", output)
        assert ended.code == 0
        assert scheduled in ended.output
        assert "None" not in ended.output
        assert ("|" in ended.output) == (output == "table")

    def test_programs_read_the_same_from_json_and_yaml(self, run, scheduled):
        (row,) = run("status", scheduled, "--output", "json").rows
        assert (row["omnimessage_id"], row["channel"], row["status"]) == (scheduled, "sms", None)
        assert yaml.safe_load(run("status", scheduled, "--output", "yaml").output) == [row]

    def test_one_bad_id_does_not_hide_the_others(self, run, scheduled):
        ended = run("status", "no id!", scheduled, "-o", "json")
        assert ended.code == 2
        assert [row["omnimessage_id"] for row in ended.rows] == [scheduled]
        assert "is not an id" in ended.stderr

    @pytest.mark.parametrize("name", ["cancel", "status"])
    def test_many_ids_share_one_time_and_stop_when_all_would_fail(self, run, sandbox, pauses, name):
        with OmnimessageHook() as hook:
            ids = [hook.send(TO, [sms("a")], time_to_send=timedelta(hours=1)).omnimessage_id for _ in range(20)]
        sandbox.add_fault("server_error", status=503, times="always")
        ended = run(name, *ids, "-o", "json")
        assert ended.code == 5
        assert sum(pauses) < 150, "the deadline of 120 seconds, and half a second for each id"
        assert (ended.output + ended.stderr).count("not tried, because an earlier one failed: ") >= 17

    def test_rejected_credentials_are_one_request(self, run, sandbox):
        sandbox.add_fault("unauthorized", times="always")
        ended = run("cancel", "m-1", "m-2", "m-3", "-o", "json")
        assert ended.code == 3
        assert [row["omnimessage_id"] for row in ended.rows] == ["m-1", "m-2", "m-3"]
        assert len(sandbox.requests) == 1

    def test_an_unknown_message_is_reported(self, run):
        ended = run("status", "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6")
        assert ended.code == 4
        assert "unknown to Messente" in ended.stderr


class TestWatch:
    def test_it_follows_until_the_fallback_channel_has_delivered(self, sandbox, capsys):
        sandbox.freeze()
        with OmnimessageHook() as hook:
            sent = hook.send("+37255550002", [viber("a"), sms("a")]).omnimessage_id
            (followed,) = watch.follow(hook, [sent], interval=1, timeout=60, pause=sandbox.advance)
        assert followed.report.outcome == "delivered"
        assert followed.exit == 0
        message = capsys.readouterr().err
        assert re.search(
            "in_progress  viber: ACCEPTD.*in_progress  viber: UNDELIV.*delivered  viber: UNDELIV.*sms: DELIVRD",
            message,
            re.S,
        )

    def test_what_fails_on_every_channel_ends_it_with_1(self, sandbox):
        with OmnimessageHook() as hook:
            sent = hook.send("+37255550001", [sms("a")]).omnimessage_id
            (followed,) = watch.follow(hook, [sent], interval=1, timeout=60, pause=sandbox.advance)
        assert followed.exit == 1

    def test_a_slow_response_does_not_outlast_the_timeout(self, sandbox):
        with OmnimessageHook() as hook:
            sent = hook.send(TO, [sms("a")]).omnimessage_id
            sandbox.add_fault("slow", call="status", seconds=5, times="always")
            assert watch.follow(hook, [sent], interval=1, timeout=0.1) == [watch.Followed(sent)]

    def test_the_watch_ends_at_its_timeout(self, sandbox):
        with OmnimessageHook() as hook:
            sent = hook.send("+37255550004", [sms("a")]).omnimessage_id
            (followed,) = watch.follow(hook, [sent], interval=1, timeout=10, pause=sandbox.advance)
        assert followed.exit == 7

    def test_a_request_without_a_response_is_repeated(self, sandbox, capsys, monkeypatch):
        # the pause that the server asks for exceeds the deadline, so the hook itself does not repeat
        without_repeats = json.dumps({**sandbox.connection, "extra": {"deadline": 5}})
        monkeypatch.setenv("AIRFLOW_CONN_OMNIMESSAGE_DEFAULT", without_repeats)
        sandbox.add_fault("server_error", call="status", times=2, retry_after=60)
        with OmnimessageHook() as hook:
            sent = hook.send(TO, [sms("a")]).omnimessage_id
            (followed,) = watch.follow(hook, [sent], interval=1, timeout=60, pause=sandbox.advance)
        assert followed.report.outcome == "delivered"
        assert capsys.readouterr().err.count("trying again") == 2

    def test_a_failure_counts_after_some_seconds_on_the_same_channels(self):
        def report(*statuses):
            return DeliveryReport("m-1", "", tuple(map(ChannelStatus, ("viber", "sms"), statuses)))

        message = watch.Followed("m-1")
        message.record(report("UNDELIV"), 0)
        message.record(report("UNDELIV"), 2)
        assert message.exit == 7, "an SMS may follow"
        message.record(report("UNDELIV", None), 3)
        message.record(report("UNDELIV", "UNDELIV"), 5)
        message.record(report("UNDELIV", "UNDELIV"), 9)
        assert message.exit == 7
        message.record(report("UNDELIV", "UNDELIV"), 10)
        assert message.exit == 1

    def test_one_unknown_id_does_not_hide_the_others(self, run, sandbox):
        with OmnimessageHook() as hook:
            sent = hook.send(TO, [sms("a")]).omnimessage_id
        sandbox.advance(60)
        ended = run("watch", sent, UNKNOWN, "-o", "json")
        assert ended.code == 4
        assert [row["outcome"] for row in ended.rows] == ["delivered"]
        assert f"{UNKNOWN}  delivery report: 404" in ended.stderr

    def test_a_slow_look_up_of_the_connection_takes_none_of_the_time(self, scheduled, pauses, monkeypatch):
        get_conn = OmnimessageHook.get_conn

        def slowly(hook):
            pauses.append(0.0 if hook._transport else 5.0)
            return get_conn(hook)

        monkeypatch.setattr(OmnimessageHook, "get_conn", slowly)
        with OmnimessageHook() as hook:
            (followed,) = watch.follow(hook, [scheduled], interval=1, timeout=0)
        assert followed.report is not None

    @pytest.mark.parametrize("words", [("--interval", "nan"), ("--interval", "0.5"), ("--timeout", "-1")])
    def test_times_that_are_no_times_are_rejected(self, run, scheduled, words):
        ended = run("watch", scheduled, *words)
        assert ended.code == 2
        assert f"{words[0].removeprefix('--')}: {words[1]} is too short or no number" in ended.stderr

    def test_the_exit_code_shows_a_timeout(self, run, scheduled):
        ended = run("watch", scheduled, "--timeout", "0", "-o", "json")
        assert (ended.code, ended.rows[0]["outcome"]) == (7, "in_progress")
        assert f"{scheduled}  in_progress" in ended.stderr

    @pytest.mark.parametrize(
        ("fault", "code"), [("unauthorized", 3), ("rate_limited", 5), ("server_error", 5), ("lost_answer", 5)]
    )
    def test_the_exit_code_allows_repeating_a_read(self, run, sandbox, scheduled, fault, code):
        sandbox.add_fault(fault, call="status", times="always")
        ended = run("status", scheduled)
        assert (ended.code, ended.output) == (code, "")
        assert ended.stderr

    def test_the_command_prints_where_it_ended(self, run, scheduled):
        assert run("cancel", scheduled).code == 0
        ended = run("watch", scheduled, "-o", "json")
        assert (ended.code, ended.rows[0]["outcome"]) == (1, "cancelled")


def test_the_sandbox_is_a_command_too(run):
    ended = run("sandbox", "--host", "256.256.256.256", "--port", "0")
    assert ended.code == 1
    assert "cannot listen on 256.256.256.256" in ended.stderr


def test_airflows_own_command_line_has_the_same_commands():
    from airflow.cli.cli_parser import get_parser

    parsed = get_parser().parse_args(["omnimessage", "cancel", "an-id", "--output", "yaml"])
    assert (parsed.omnimessage_id, parsed.output, parsed.conn_id) == (["an-id"], "yaml", "omnimessage_default")


@full_size
def test_offering_the_commands_costs_airflow_no_imports():
    lines = (
        "import sys, airflow.cli.cli_config",
        "before = set(sys.modules)",
        "from airflow_provider_omnimessage.cli.commands import get_commands",
        "get_commands()",
        "print(len([name for name in set(sys.modules) - before if not name.startswith('airflow_provider')]))",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "0"


def test_a_window_moves_a_message_and_says_why(run, sandbox):
    words = ("--time-to-send", "2098-11-24T03:00", "--timezone", "recipient", "--window", "09:00-20:00")
    ended = run("schedule", "--to", TO, "--text", "a", *words)
    assert datetime.fromisoformat(sandbox.messages[0]["time_to_send"]).hour == 7
    assert "outside the window '09:00-20:00' (Europe/Bucharest)" in ended.stderr


def test_estimate_shows_what_a_file_would_cost(run, sandbox, tmp_path):
    people, prices = tmp_path / "people.csv", tmp_path / "prices.csv"
    people.write_text("to,name\n+37255555555,Mari\n+12025550142,Ann\n12,Nobody\n")
    prices.write_text("prefix,price\n372,0.05\n1,0.01\n")
    ended = run("estimate", str(people), "--text", "Hello $name", "--prices", str(prices), "--output", "json")
    assert ended.code == 1
    found = json.loads(ended.output)
    assert (found["recipients"], found["rejected"], found["price"]) == (2, 1, 0.06)
    shown = run("estimate", str(people), "--text", "Hello $name", "--prices", str(prices), "--output", "plain")
    lines = [line.split() for line in shown.output.splitlines()]
    assert ["1", "+37255•••55", "1", "0.05"] in lines, "the SMS parts of each recipient"
    assert ["2", "+12025•••42", "1", "0.01"] in lines
    assert "row 3, to" in shown.stderr
    assert sandbox.requests == []


def test_estimate_of_a_long_file_lists_the_most_sms_parts_and_counts_the_rest(run, tmp_path):
    people = tmp_path / "people.csv"
    texts = ["short"] * 40 + ["a" * 161] * 3 + ["ž" * 200]
    people.write_text("\n".join(["to,text", *(f"+372555555{row:02},{text}" for row, text in enumerate(texts))]))
    shown = run("estimate", str(people), "--text", "$text", "--output", "plain")
    lines = [line.split() for line in shown.output.splitlines()]
    rows = [line[0] for line in lines if any(word.startswith("+372") for word in line)]
    assert rows == ["44", "41", "42", "43", *map(str, range(1, 17))]
    for count in (["1", "40"], ["2", "3"], ["3", "1"]):
        assert count in lines
    assert "The 20 recipients with the most SMS parts; --output json has all rows" in shown.stderr
    found = json.loads(run("estimate", str(people), "--text", "$text", "--output", "json").output)
    assert found["parts"] == [1] * 40 + [2] * 3 + [3]


@pytest.mark.parametrize("words", [["send"], ["schedule", "--in", "1h"], ["reschedule", "ID", "--in", "1h"]])
@pytest.mark.parametrize(("on_unknown_zone", "code"), [("fail", 2), ("drop", 0), ("Asia/Tokyo", 0)])
def test_a_recipient_whose_zone_is_unknown(run, sandbox, scheduled, words, on_unknown_zone, code):
    words = [scheduled if word == "ID" else word for word in words]
    message = ("--to", "+80012345678", "--text", "a", "--window", "00:00-24:00; timezone=recipient")
    ended = run(*words, *message, "--on-unknown-zone", on_unknown_zone)
    assert ended.code == code
    sent = [message["to"] for message in sandbox.messages].count("+80012345678")
    assert sent == (on_unknown_zone == "Asia/Tokyo")
    if not sent:
        assert "the time zone of +80012•••78 is unknown" in ended.stderr
        assert sandbox.messages[0]["state"] == "scheduled", "nothing was cancelled either"
