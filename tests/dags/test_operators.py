"""The operators in DAGs: what reaches the API, the state of the tasks, the XComs, and what the log says."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone

import pytest
from airflow.sdk import DAG, Param, task

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import sms, viber, whatsapp
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
    SendOmnimessageOperator,
)
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

TO = "+37255555555"
SOON = timedelta(hours=1)
LONG_AGO = "2020-01-01T09:00"
UNKNOWN = "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"


@pytest.fixture
def dag(request):
    with DAG(re.sub(r"\W+", "_", request.node.name), schedule=None) as dag:
        yield dag


class TestScheduleAndCancel:
    def test_the_id_goes_over_xcom_and_the_message_is_cancelled_before_it_is_sent(self, dag, run_dag, sandbox):
        schedule = ScheduleOmnimessageOperator(
            task_id="schedule", to=TO, time_to_send=SOON, messages=[viber("Late", ttl=600), sms("Late")]
        )
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
        run = run_dag(dag)

        sandbox.advance(timedelta(days=1))
        (message,) = sandbox.messages
        assert run.tasks == {"schedule": "success", "cancel": "success"}
        assert (message["state"], message["sent_at"]) == ("cancelled", None)
        assert run.xcom("schedule") == message["omnimessage_id"]
        assert run.xcom("cancel") == [message["omnimessage_id"]]

    def test_the_other_xcoms_say_when_to_whom_and_by_which_ids(self, dag, run_dag, sandbox):
        ScheduleOmnimessageOperator(
            task_id="schedule",
            to="+372 5555 5555",
            time_to_send="2099-01-01T09:00",
            timezone="Europe/Tallinn",
            messages=[viber("Late"), sms("Late")],
        )
        run = run_dag(dag)
        (message,) = sandbox.messages
        assert run.xcom("schedule", "time_to_send") == "2099-01-01T07:00:00+00:00"
        assert run.xcom("schedule", "to") == TO
        assert run.xcom("schedule", "message_ids") == dict(zip(["viber", "sms"], message["message_ids"], strict=True))

    def test_without_a_cancel_the_message_is_sent_at_its_time(self, dag, run_dag, sandbox):
        ScheduleOmnimessageOperator(task_id="schedule", to=TO, time_to_send=SOON, messages=[sms("Late")])
        run_dag(dag)
        assert sandbox.messages[0]["sent_at"] is None
        sandbox.advance(SOON + timedelta(minutes=1))
        (message,) = sandbox.messages
        assert message["state"] == "delivered"
        assert message["sent_at"] == message["time_to_send"]

    def test_the_log_says_what_was_scheduled_but_no_text_and_no_whole_number(self, dag, run_dag):
        ScheduleOmnimessageOperator(
            task_id="schedule",
            to=TO,
            time_to_send="2099-01-01T09:00",
            timezone="Europe/Tallinn",
            messages=[viber("S3CRET"), sms("S3CRET")],
        )
        said = next(line for line in run_dag(dag).log.splitlines() if "Scheduled for" in line)
        assert "2099-01-01 09:00:00 Europe/Tallinn (2099-01-01 07:00:00 UTC) to +37255•••55 via viber, sms" in said
        assert "S3CRET" not in said
        assert TO not in said


class TestSend:
    def test_it_sends_at_once_and_says_null_for_the_time(self, dag, run_dag, sandbox):
        SendOmnimessageOperator(task_id="send", to=TO, messages=[sms("Hi")], priority="high", text_store="nostore")
        run = run_dag(dag)
        (message,) = sandbox.messages
        assert message["sent_at"] is not None
        assert message["body"] == {
            "to": TO,
            "messages": [{"channel": "sms", "text": "Hi"}],
            "priority": "high",
            "text_store": "nostore",
        }
        assert run.xcom("send") == message["omnimessage_id"]
        assert run.xcom("send", "time_to_send") is None

    def test_the_official_clients_objects_are_accepted_and_templated(self, dag, run_dag, sandbox):
        from messente_api.models import SMS, OmnimessageMessagesInner, Viber

        messages = [OmnimessageMessagesInner(Viber(text="{{ dag.dag_id }}", ttl=60)), SMS(text="{{ dag.dag_id }}")]
        SendOmnimessageOperator(task_id="send", to=TO, messages=messages)
        run_dag(dag)
        assert sandbox.messages[0]["body"]["messages"] == [
            {"channel": "viber", "text": dag.dag_id, "ttl": 60},
            {"channel": "sms", "text": dag.dag_id},
        ]


class TestTemplatesAndMapping:
    def test_everything_is_templated_messages_inside_included(self, dag, run_dag, sandbox):
        dag.params["n"] = Param(90)
        ScheduleOmnimessageOperator(
            task_id="schedule",
            to="{{ '+372' ~ '55555555' }}",
            time_to_send="{{ macros.datetime(2099, 1, 1, 9) }}",
            timezone="{{ 'Europe' }}/Tallinn",
            messages=[
                {"channel": "{{ 'whatsapp' }}", "text": {"body": "{{ dag.dag_id }}"}, "ttl": "{{ params.n }}"},
                sms("{{ task.task_id }}", validity="{{ params.n }}", sender="{{ 'ACME' }}"),
            ],
            dlr_url="http://127.0.0.1:9/{{ dag.dag_id }}",
            text_store="{{ 'sha256' }}",
            priority="{{ 'low' }}",
            omnimessage_conn_id="omnimessage_{{ 'default' }}",
        )
        run_dag(dag)
        assert sandbox.messages[0]["body"] == {
            "to": TO,
            "time_to_send": "2099-01-01T07:00:00+00:00",
            "messages": [
                {"channel": "whatsapp", "text": {"body": dag.dag_id}, "ttl": 90},
                {"channel": "sms", "text": "schedule", "validity": 90, "sender": "ACME"},
            ],
            "dlr_url": f"http://127.0.0.1:9/{dag.dag_id}",
            "text_store": "sha256",
            "priority": "low",
        }

    def test_outputs_of_tasks_fit_everywhere(self, dag, run_dag, sandbox):
        @task
        def person() -> dict:
            return {"to": TO, "at": "2099-01-01T09:00:00+02:00", "text": "Hi"}

        who = person()
        schedule = ScheduleOmnimessageOperator(
            task_id="schedule", to=who["to"], time_to_send=who["at"], messages=[viber(who["text"]), sms(who["text"])]
        )

        @task
        def ids(one: str) -> list[str]:
            return [one]

        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=ids(schedule.output))
        run = run_dag(dag)
        (message,) = sandbox.messages
        assert run.state == "success"
        assert [entry["text"] for entry in message["body"]["messages"]] == ["Hi", "Hi"]
        assert message["state"] == "cancelled"

    def test_mapping_over_recipients_and_cancelling_all_of_them_in_one_task(self, dag, run_dag, sandbox):
        @task
        def people() -> list[str]:
            return [f"+3725555555{digit}" for digit in range(4)]

        schedule = ScheduleOmnimessageOperator.partial(
            task_id="schedule", time_to_send=SOON, messages=[sms("Hi {{ ti.map_index }}")]
        ).expand(to=people())
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
        run = run_dag(dag)
        assert (
            sorted(run.xcom("cancel"))
            == sorted(run.xcoms("schedule"))
            == sorted(message["omnimessage_id"] for message in sandbox.messages)
        )
        assert {message["body"]["messages"][0]["text"] for message in sandbox.messages} == {f"Hi {i}" for i in range(4)}
        assert {message["state"] for message in sandbox.messages} == {"cancelled"}
        assert "XCom not found" not in run.log

    def test_what_comes_over_xcom_is_data_and_never_rendered_mapped_or_not(self, dag, run_dag, sandbox):
        @task
        def data() -> list:
            return [[{"channel": "sms", "text": "{{ 1+1 }} costs"}], [{"channel": "sms", "text": "{% odd"}]]

        SendOmnimessageOperator.partial(task_id="mapped", to=TO).expand(messages=data())

        @task
        def one() -> list:
            return [{"channel": "sms", "text": "{% odd"}]

        SendOmnimessageOperator(task_id="one_message", to=TO, messages=one())
        assert run_dag(dag).state == "success"
        sent = sorted(message["body"]["messages"][0]["text"] for message in sandbox.messages)
        assert sent == ["{% odd", "{% odd", "{{ 1+1 }} costs"]

    def test_mapping_the_cancel_and_the_send(self, dag, run_dag, sandbox):
        schedule = ScheduleOmnimessageOperator.partial(task_id="schedule", to=TO, messages=[sms("a")]).expand(
            time_to_send=["2099-01-01T09:00", timedelta(hours=3)]
        )
        CancelScheduledMessageOperator.partial(task_id="cancel").expand(omnimessage_id=schedule.output)
        SendOmnimessageOperator.partial(task_id="send", to=TO).expand(messages=[[sms("b")], [viber("c"), sms("c")]])
        run = run_dag(dag)
        assert run.state == "success"
        assert run.tasks["cancel[1]"] == run.tasks["send[1]"] == "success"
        states = [message["state"] for message in sandbox.messages]
        assert states.count("cancelled") == 2
        assert len(states) == 4


class TestOnPast:
    def test_by_default_it_fails_without_a_retry_and_sends_nothing(self, dag, run_dag, sandbox):
        ScheduleOmnimessageOperator(
            task_id="schedule", to=TO, time_to_send=LONG_AGO, messages=[sms("a")], retries=3, retry_delay=timedelta(0)
        )
        run = run_dag(dag)
        assert run.tasks == {"schedule": "failed"}
        assert "2020-01-01 09:00:00 UTC has gone by" in run.log
        assert "on_past" in run.log
        assert sandbox.requests == []

    def test_skip_skips_the_task_and_its_cancel(self, dag, run_dag, sandbox):
        schedule = ScheduleOmnimessageOperator(
            task_id="schedule", to=TO, time_to_send=LONG_AGO, messages=[sms("a")], on_past="skip"
        )
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
        CancelScheduledMessageOperator(
            task_id="cancel_in_any_case", omnimessage_id=schedule.output, trigger_rule="all_done"
        )
        run = run_dag(dag)
        assert run.tasks == {"schedule": "skipped", "cancel": "skipped", "cancel_in_any_case": "skipped"}
        assert sandbox.requests == []

    def test_send_now_sends_now(self, dag, run_dag, sandbox):
        ScheduleOmnimessageOperator(
            task_id="schedule", to=TO, time_to_send=LONG_AGO, messages=[sms("a")], on_past="send_now"
        )
        run = run_dag(dag)
        (message,) = sandbox.messages
        assert run.tasks == {"schedule": "success"}
        assert message["sent_at"] is not None
        assert "time_to_send" not in message["body"]
        assert run.xcom("schedule", "time_to_send") is None


def cancel_two(dag, run_dag, sandbox, **settings):
    """Cancel one message that has been sent, and one that is waiting."""
    waiting = ScheduleOmnimessageOperator(task_id="waiting", to=TO, time_to_send=SOON, messages=[sms("a")])
    sent = SendOmnimessageOperator(task_id="sent", to=TO, messages=[sms("b")])
    cancel = CancelScheduledMessageOperator(
        task_id="cancel", omnimessage_id=[sent.output, waiting.output, None], retries=2, **settings
    )

    @task
    def after() -> None: ...

    cancel >> after()
    run = run_dag(dag)
    by_state = {message["body"]["messages"][0]["text"]: message["state"] for message in sandbox.messages}
    assert by_state["a"] == "cancelled", "whatever becomes of the others, what can be cancelled is"
    assert run.xcom("cancel") == [run.xcom("waiting")]
    return run


class TestCancelTooLate:
    def test_by_default_it_fails_and_says_what_became_of_the_message(self, dag, run_dag, sandbox):
        run = cancel_two(dag, run_dag, sandbox)
        assert (run.tasks["cancel"], run.tasks["after"]) == ("failed", "upstream_failed")
        assert "does not show that it was sent (sms: in progress)" in run.log

    def test_skip_skips(self, dag, run_dag, sandbox):
        run = cancel_two(dag, run_dag, sandbox, if_already_sent="skip")
        assert (run.tasks["cancel"], run.tasks["after"]) == ("skipped", "skipped")

    def test_ignore_succeeds_and_says_so(self, dag, run_dag, sandbox):
        run = cancel_two(dag, run_dag, sandbox, if_already_sent="ignore")
        assert (run.tasks["cancel"], run.tasks["after"]) == ("success", "success")
        assert "has been sent already" in run.log

    def test_an_unknown_message_is_called_unknown(self, dag, run_dag):
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=UNKNOWN)
        run = run_dag(dag)
        assert run.tasks == {"cancel": "failed"}
        assert f"{UNKNOWN} is unknown to Messente" in run.log

    def test_cancelling_again_succeeds_again(self, dag, run_dag, sandbox):
        schedule = ScheduleOmnimessageOperator(task_id="schedule", to=TO, time_to_send=SOON, messages=[sms("a")])
        first = CancelScheduledMessageOperator(task_id="first", omnimessage_id=schedule.output)
        again = CancelScheduledMessageOperator(task_id="again", omnimessage_id=schedule.output)
        first >> again
        run = run_dag(dag)
        assert run.xcom("again") == run.xcom("first") == [run.xcom("schedule")]

    @pytest.mark.parametrize("omnimessage_id", [None, "None", [], [None, None], "{{ none }}"])
    def test_where_there_is_no_id_there_is_nothing_to_cancel(self, dag, run_dag, sandbox, omnimessage_id):
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=omnimessage_id)
        assert run_dag(dag).tasks == {"cancel": "skipped"}
        assert sandbox.requests == []

    def test_a_list_that_a_template_rendered_is_explained(self, dag, run_dag):
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id="{{ ['1', '2'] }}")
        run = run_dag(dag)
        assert run.tasks == {"cancel": "failed"}
        assert "a template renders a list as text: pass the task's output instead" in run.log

    def test_one_that_did_not_answer_does_not_keep_the_others_waiting(self, dag, run_dag, sandbox):
        schedule = ScheduleOmnimessageOperator.partial(task_id="schedule", to=TO, messages=[sms("a")]).expand(
            time_to_send=[SOON, SOON, SOON]
        )
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
        sandbox.add_fault("server_error", call="cancel", retry_after=500)
        run = run_dag(dag)
        assert run.tasks["cancel"] == "failed"
        assert [message["state"] for message in sandbox.messages].count("cancelled") == 2
        assert len(run.xcom("cancel")) == 2


class TestCancelDoesWhatItCan:
    def test_what_is_no_id_does_not_keep_the_others_from_being_cancelled(self, dag, run_dag, sandbox):
        schedule = ScheduleOmnimessageOperator(task_id="schedule", to=TO, time_to_send=SOON, messages=[sms("a")])
        CancelScheduledMessageOperator(
            task_id="cancel", omnimessage_id=["not an id!", schedule.output], if_already_sent="ignore"
        )
        run = run_dag(dag)
        assert run.tasks["cancel"] == "failed"
        assert sandbox.messages[0]["state"] == "cancelled"
        assert run.xcom("cancel") == [run.xcom("schedule")]
        assert "'not an id!' is not an id" in run.log

    def test_a_web_servers_404_is_not_taken_for_sent_already(self, dag, run_dag, sandbox, monkeypatch):
        schedule = ScheduleOmnimessageOperator(task_id="schedule", to=TO, time_to_send=SOON, messages=[sms("a")])
        elsewhere = {**sandbox.connection, "host": sandbox.url.replace("/v1", "/elsewhere")}
        monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", json.dumps(elsewhere))
        CancelScheduledMessageOperator(
            task_id="cancel",
            omnimessage_id=schedule.output,
            omnimessage_conn_id="elsewhere",
            if_already_sent="ignore",
        )
        assert run_dag(dag).tasks["cancel"] == "failed"

    def test_a_dict_is_refused_by_name(self, dag, run_dag, sandbox):
        @task
        def found() -> dict:
            return {"omnimessage_id": UNKNOWN}

        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=found(), if_already_sent="ignore")
        run = run_dag(dag)
        assert run.tasks["cancel"] == "failed"
        assert "a dict is not an id; give the id that it holds" in run.log

    def test_what_is_no_id_is_named_by_its_position_and_kind_only(self, dag, run_dag, sandbox):
        @task(show_return_value_in_logs=False)
        def reports() -> list:
            return [{"to": "+37255555555", "text": "S3CRET"}]

        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=reports())
        log = run_dag(dag).log
        assert "[0]: omnimessage_id: a dict is not an id" in log
        assert "S3CRET" not in log

    def test_skipped_work_is_not_late_work(self, dag, run_dag, sandbox):
        @task.short_circuit(ignore_downstream_trigger_rules=False)
        def nothing_to_do() -> bool:
            return False

        @task
        def work() -> None: ...

        schedule = ScheduleOmnimessageOperator(task_id="schedule", to=TO, time_to_send=SOON, messages=[sms("a")])
        cancel = CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
        schedule >> nothing_to_do() >> work() >> cancel
        assert run_dag(dag).tasks["cancel"] == "success"
        assert sandbox.messages[0]["state"] == "cancelled"

    def test_of_mapped_messages_those_that_were_scheduled_are_cancelled(self, dag, run_dag, sandbox):
        schedule = ScheduleOmnimessageOperator.partial(
            task_id="schedule", to=TO, messages=[sms("a")], on_past="skip"
        ).expand(time_to_send=[LONG_AGO, SOON])
        CancelScheduledMessageOperator(task_id="cancel", omnimessage_id=schedule.output)
        run = run_dag(dag)
        assert (run.tasks["schedule[0]"], run.tasks["cancel"]) == ("skipped", "success")
        assert [message["state"] for message in sandbox.messages] == ["cancelled"]


def test_a_dag_with_native_objects_keeps_plain_numbers_and_texts(request, run_dag, sandbox):
    with DAG("native", schedule=None, render_template_as_native_obj=True) as dag:
        SendOmnimessageOperator(task_id="send", to=TO, messages=[sms("123456", ttl="{{ 60 }}")])
    assert run_dag(dag).state == "success"
    assert sandbox.messages[0]["body"] == {"to": TO, "messages": [{"channel": "sms", "text": "123456", "ttl": 60}]}


def test_what_to_do_when_the_moment_has_gone_by_can_be_templated(dag, run_dag, sandbox):
    ScheduleOmnimessageOperator(
        task_id="schedule", to=TO, time_to_send=LONG_AGO, messages=[sms("a")], on_past="{{ 'skip' }}"
    )
    assert run_dag(dag).tasks == {"schedule": "skipped"}


def test_an_xcom_that_cannot_be_pushed_does_not_make_a_second_message(dag, run_dag, sandbox, monkeypatch):
    from airflow_provider_omnimessage.operators import omnimessage

    def refuse(*_: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(omnimessage, "push_xcom", refuse)
    SendOmnimessageOperator(task_id="send", to=TO, messages=[sms("a")], retries=2, retry_delay=timedelta(0))
    run = run_dag(dag)
    assert run.tasks == {"send": "success"}
    assert [message["omnimessage_id"] for message in sandbox.messages] == [run.xcom("send")]


class TestFailures:
    """Each row: what goes wrong with the POST, whether Airflow may retry it, how many messages there are in the end."""

    @pytest.mark.parametrize(
        ("fault", "retried", "messages", "said"),
        [
            ({"fault": "rate_limited"}, True, 1, "asks to slow down"),
            ({"fault": "unauthorized"}, False, 0, "check the connection's login and password"),
            ({"fault": "lost_answer"}, False, 1, "Look for it in Messente's dashboard"),
            ({"fault": "cut"}, False, 0, "Look for it in Messente's dashboard"),
            ({"fault": "broken_json"}, False, 1, "Look for it in Messente's dashboard"),
            ({"fault": "server_error", "status": 503}, False, 0, "Look for it in Messente's dashboard"),
        ],
    )
    def test_only_what_surely_was_not_sent_is_tried_again(self, dag, run_dag, sandbox, fault, retried, messages, said):
        ScheduleOmnimessageOperator(
            task_id="schedule",
            to=TO,
            time_to_send=SOON,
            messages=[sms("a")],
            retries=1,
            retry_delay=timedelta(0),
        )
        sandbox.add_fault(**fault)
        run = run_dag(dag)
        sends = [request for request in sandbox.requests if request["method"] == "POST"]
        assert len(sends) == (2 if retried else 1)
        assert run.tasks == {"schedule": "success" if retried else "failed"}
        assert len(sandbox.messages) == messages
        assert said in run.log

    def test_what_a_template_renders_wrong_is_named_and_nothing_is_sent(self, dag, run_dag, sandbox):
        SendOmnimessageOperator(
            task_id="send", to="{{ '5555' }}", messages=[sms("{{ '' }}", ttl="{{ 'soon' }}")], retries=3
        )
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        for field in ("to: ", "messages[0].text: ", "messages[0].ttl: "):
            assert field in run.log
        assert sandbox.requests == []

    def test_what_messente_refuses_fails_without_a_retry(self, dag, run_dag, sandbox):
        SendOmnimessageOperator(task_id="send", to="+37255550005", messages=[sms("a")], retries=3)
        assert run_dag(dag).tasks == {"send": "failed"}
        assert len(sandbox.requests) == 1

    def test_a_missing_connection_fails_and_is_named(self, dag, run_dag):
        SendOmnimessageOperator(task_id="send", to=TO, messages=[sms("a")], omnimessage_conn_id="nobodys")
        run = run_dag(dag)
        assert run.tasks == {"send": "failed"}
        assert "nobodys" in run.log


class TestWhileTheDagIsParsed:
    def test_a_wrong_message_is_refused_there(self, dag):
        with pytest.raises(InvalidInputError, match=r"messages\[0\]\.tll: no such field"):
            SendOmnimessageOperator(task_id="send", to=TO, messages=[{"channel": "sms", "text": "a", "tll": 5}])

    @pytest.mark.parametrize(
        ("given", "field"),
        [
            ({"time_to_send": "garbage"}, "time_to_send"),
            ({"time_to_send": None}, "time_to_send"),
            ({"timezone": "Mars/Olympus"}, "timezone"),
            ({"priority": "urgent"}, "priority"),
            ({"messages": sms("a")}, "messages"),
        ],
    )
    def test_what_can_be_seen_to_be_wrong_is_invalid(self, dag, given, field):
        with pytest.raises(InvalidInputError, match=f"^{field}: "):
            ScheduleOmnimessageOperator(
                task_id="schedule", **{"to": TO, "time_to_send": SOON, "messages": [sms("a")], **given}
            )

    def test_schedule_demands_a_time(self, dag):
        with pytest.raises(Exception, match="time_to_send"):
            ScheduleOmnimessageOperator(task_id="schedule", to=TO, messages=[sms("a")])

    @pytest.mark.parametrize(
        ("operator", "settings"),
        [
            (ScheduleOmnimessageOperator, {"to": TO, "messages": [], "time_to_send": SOON, "on_past": "maybe"}),
            (CancelScheduledMessageOperator, {"omnimessage_id": UNKNOWN, "if_already_sent": "retry"}),
        ],
    )
    def test_a_word_that_is_no_choice_is_invalid(self, dag, operator, settings):
        with pytest.raises(InvalidInputError):
            operator(task_id="task", **settings)


def test_a_run_longer_than_a_clock_change_still_sends_at_the_local_time(dag, run_dag, sandbox):
    ScheduleOmnimessageOperator.partial(
        task_id="schedule", to=TO, timezone="Europe/Tallinn", messages=[whatsapp("Hi")]
    ).expand(time_to_send=["2099-03-28T09:00", "2099-03-29T03:30", "2099-03-29T09:00"])
    run = run_dag(dag)
    sent_at = sorted(datetime.fromisoformat(value) for value in run.xcoms("schedule", "time_to_send"))
    assert sent_at == [
        datetime(2099, 3, 28, 7, 0, tzinfo=timezone.utc),
        datetime(2099, 3, 29, 1, 30, tzinfo=timezone.utc),
        datetime(2099, 3, 29, 6, 0, tzinfo=timezone.utc),
    ]
    assert "2099-03-29 03:30 does not exist in Europe/Tallinn" in run.log


@pytest.mark.parametrize(
    ("operator", "settings", "mapped", "said"),
    [
        (SendOmnimessageOperator, {"messages": [sms("a")]}, {"to": ["not a number"]}, "to: "),
        (SendOmnimessageOperator, {"to": TO}, {"messages": [[{"channel": "pigeon"}]]}, "messages[0].channel: "),
        (
            ScheduleOmnimessageOperator,
            {"to": TO, "messages": [sms("a")]},
            {"time_to_send": ["tomorrow-ish"]},
            "time_to_send: ",
        ),
        (CancelScheduledMessageOperator, {"omnimessage_id": "a"}, {"if_already_sent": ["shrug"]}, "if_already_sent: "),
        (OmnimessageDeliverySensor, {"omnimessage_id": "a"}, {"wait_for": ["applause"]}, "wait_for: "),
    ],
    ids=["to", "messages", "time_to_send", "if_already_sent", "wait_for"],
)
def test_bad_input_of_a_mapped_task_burns_no_retries(dag, run_dag, sandbox, operator, settings, mapped, said):
    """A mapped task is constructed where it runs: what its constructor refuses is not news to a retry."""
    operator.partial(task_id="mapped", retries=2, retry_delay=timedelta(0), **settings).expand(**mapped)
    run = run_dag(dag)
    assert (run.tasks, run.tries) == ({"mapped[0]": "failed"}, {"mapped[0]": 1})
    assert said in run.log
    assert sandbox.requests == []
