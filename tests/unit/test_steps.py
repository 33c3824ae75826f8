"""The steps of an escalation: their texts, their order, and what is wrong with them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from airflow.sdk import DAG

from airflow_provider_omnimessage.alerts import DeadMansSwitch, HeartbeatOperator, Step
from airflow_provider_omnimessage.alerts.steps import notices, plan_escalation
from airflow_provider_omnimessage.api.errors import InvalidInputError
from airflow_provider_omnimessage.api.messages import rcs, sms, viber, whatsapp

TO, OTHER = "+37255555555", "+37255555556"
MINUTE = timedelta(minutes=1)


def texts(escalate, messages):
    return [
        [message["text"] for message in notice.messages] for notice in notices(TO, messages, plan_escalation(escalate))
    ]


def test_default_texts_differ_on_every_channel():
    messages = [viber("Late"), whatsapp("Late"), rcs("Late", sender="Ops"), sms("Late")]
    first, second, third = texts([Step(after=MINUTE), Step(after=2 * MINUTE)], messages)
    assert second == ["2nd notice: Late", {**first[1], "body": "2nd notice: Late"}, *["2nd notice: Late"] * 2]
    assert third[0] == "3rd notice: Late"


@pytest.mark.parametrize(
    ("own", "sent"),
    [
        (["Call Bob", "Call Bob"], ["Call Bob", "3rd notice: Call Bob"]),
        (["Late", "Call Bob"], ["2nd notice: Late", "Call Bob"]),
    ],
)
def test_own_texts_stay_unless_one_was_sent_before(own, sent):
    steps = [Step(after=number * MINUTE, text=text) for number, text in enumerate(own, 1)]
    assert texts(steps, [sms("Late")]) == [["Late"], *[[text] for text in sent]]


def test_many_steps_have_ordinals():
    many = texts([Step(after=number * MINUTE) for number in range(1, 24)], [sms("Late")])
    assert [many[number][0].split()[0] for number in (1, 2, 3, 10, 11, 12, 20, 21, 22)] == [
        "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd",
    ]  # fmt: skip


def test_steps_are_in_the_order_of_their_times_and_have_the_recipients_of_the_alert_by_default():
    steps = plan_escalation([Step(after=2 * MINUTE, to=OTHER), Step(after=MINUTE)])
    assert [(str(notice), notice.after, notice.to) for notice in notices(TO, [sms("Late")], steps)] == [
        ("alert", timedelta(0), TO),
        ("2nd notice", MINUTE, TO),
        ("3rd notice", 2 * MINUTE, OTHER),
    ]


def test_a_text_that_is_rendered_as_no_list_does_not_stop_the_others():
    steps = [{"after": MINUTE, "to": None, "messages": 5}, {"after": 2 * MINUTE, "to": OTHER, "messages": None}]
    assert [notice.to for notice in notices(TO, [sms("Late")], steps)] == [TO, TO, OTHER]


@pytest.mark.parametrize(
    ("escalate", "named"),
    [
        ("soon", "escalate: is not a list"),
        (Step(after=MINUTE), "escalate: is not a list"),
        ([{"after": MINUTE}], "escalate[0].after: is missing in dict; use Step("),
        ([Step(after=MINUTE), Step(after=15)], "escalate[1].after: 15 is not accepted"),
        ([Step(after=timedelta(0))], "escalate[0].after: "),
        ([Step(after=MINUTE), Step(after=timedelta.max)], "escalate[1].after: datetime.timedelta(days="),
        ([Step(after=timedelta(days=366))], "use a timedelta of more than 0 and at most 365 days"),
        ([Step(after=MINUTE, to="ann")], "escalate[0].to: "),
        ([Step(after=MINUTE, text="a", messages=[sms("b")])], "escalate[0].text: found both"),
        ([Step(after=MINUTE, messages=[{"channel": "fax"}])], "escalate[0].messages[0].channel: "),
    ],
)
def test_what_is_wrong_is_an_error_while_the_dag_is_parsed(escalate, named):
    with pytest.raises(InvalidInputError) as error, DAG("report", schedule=None):
        HeartbeatOperator(task_id="beat", to=TO, grace=timedelta(minutes=5), escalate=escalate)
    assert named in str(error.value)


def who(time: datetime) -> str:
    return TO


def test_a_serialized_dag_has_the_same_steps_at_each_parse_and_no_number_of_a_function():
    from airflow.serialization.serialized_objects import DagSerialization

    def serialized() -> str:
        step = Step(after=MINUTE, to=who)
        with DAG("report", schedule=None) as dag, DeadMansSwitch("a", to=who, text="a", within=MINUTE, escalate=[step]):
            HeartbeatOperator.partial(task_id="beat", to=who, escalate=[step]).expand(grace=[timedelta(minutes=5)])
        return json.dumps(DagSerialization.to_dict(dag))

    text = serialized()
    assert "2nd" not in text
    assert text.count("test_steps.who") >= 4
    assert "2555555" not in text
    assert text == serialized()
