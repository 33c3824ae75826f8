"""The operators in DAGs: what reaches the API, the state of the tasks, the XComs, and what the log says."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from airflow.sdk import DAG, Param, task
from full_size import first, full_size

from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import sms, viber, whatsapp
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
    SendOmnimessageOperator,
)

TO = "+37255555555"
SOON = timedelta(hours=1)
LONG_AGO = "2020-01-01T09:00"
UNKNOWN = "6bd8c1ee-6ac2-4eb5-a0a1-6d46b2f42ae6"


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

    @full_size
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

    @full_size
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

    @full_size
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

    @full_size
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


def test_a_dag_with_native_objects_keeps_plain_numbers_and_texts(request, run_dag, sandbox):
    with DAG("native", schedule=None, render_template_as_native_obj=True) as dag:
        SendOmnimessageOperator(task_id="send", to=TO, messages=[sms("123456", ttl="{{ 60 }}")])
    assert run_dag(dag).state == "success"
    assert sandbox.messages[0]["body"] == {"to": TO, "messages": [{"channel": "sms", "text": "123456", "ttl": 60}]}


@pytest.mark.parametrize("is_native", first(1, [True, False]), ids=["native", "text"])
def test_a_text_that_looks_like_python_is_sent_as_it_is(request, run_dag, sandbox, is_native):
    written = ['"Quoted"', "'a' 'b'", "True", "None", "1, 2", "1_000", "b'x'"]
    with DAG("texts", schedule=None, render_template_as_native_obj=is_native, params={"texts": written}) as dag:
        for index in range(len(written)):
            message = sms(f"{{{{ params.texts[{index}] }}}}")
            SendOmnimessageOperator(task_id=f"send_{index}", to=TO, messages=[message])
    assert run_dag(dag).state == "success"
    assert sorted(message["body"]["messages"][0]["text"] for message in sandbox.messages) == sorted(written)


def test_an_xcom_that_cannot_be_pushed_does_not_make_a_second_message(dag, run_dag, sandbox, monkeypatch):
    from airflow_provider_omnimessage.operators import omnimessage

    def refuse(*_: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr(omnimessage, "push_xcom", refuse)
    SendOmnimessageOperator(task_id="send", to=TO, messages=[sms("a")], retries=2, retry_delay=timedelta(0))
    run = run_dag(dag)
    assert run.tasks == {"send": "success"}
    assert [message["omnimessage_id"] for message in sandbox.messages] == [run.xcom("send")]


class TestWhileTheDagIsParsed:
    def test_a_wrong_message_is_rejected_there(self, dag):
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
    def test_what_is_visibly_wrong_is_rejected(self, dag, given, field):
        with pytest.raises(InvalidInputError, match=f"^{field}: "):
            ScheduleOmnimessageOperator(
                task_id="schedule", **{"to": TO, "time_to_send": SOON, "messages": [sms("a")], **given}
            )

    def test_schedule_requires_a_time(self, dag):
        with pytest.raises(Exception, match="time_to_send"):
            ScheduleOmnimessageOperator(task_id="schedule", to=TO, messages=[sms("a")])

    @pytest.mark.parametrize(
        ("operator", "settings"),
        [
            (ScheduleOmnimessageOperator, {"to": TO, "messages": [], "time_to_send": SOON, "on_past": "maybe"}),
            (CancelScheduledMessageOperator, {"omnimessage_id": UNKNOWN, "if_already_sent": "retry"}),
        ],
    )
    def test_a_value_that_is_not_a_choice_is_rejected(self, dag, operator, settings):
        with pytest.raises(InvalidInputError):
            operator(task_id="task", **settings)


@full_size
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
