"""Every parameter that takes a list takes it in every form in which Airflow passes lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.definitions.xcom_arg import _ConcatResult, _MapResult
from airflow.sdk.execution_time.lazy_sequence import LazyXComSequence

from airflow_provider_omnimessage._compat import AirflowFailException, BaseOperator
from airflow_provider_omnimessage.api.lists import plain, plain_argument
from airflow_provider_omnimessage.api.messages import sms, viber
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.notifications.omnimessage import OmnimessageNotifier
from airflow_provider_omnimessage.operators.bulk import ScheduleBulkOmnimessageOperator
from airflow_provider_omnimessage.operators.omnimessage import (
    CancelScheduledMessageOperator,
    ScheduleOmnimessageOperator,
    SendOmnimessageOperator,
)
from airflow_provider_omnimessage.sensors.omnimessage import OmnimessageDeliverySensor

TO = "+37255555555"
NEW_YEAR = "2099-01-01T09:00:00+00:00"


class Lazy(LazyXComSequence):
    """The output of a mapped task, without an Airflow that holds it."""

    def __init__(self, values: list[Any]) -> None:
        self._len = len(values)
        self._values = values

    def __getitem__(self, key: Any) -> Any:
        return self._values[key]


FORMS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "lazy": Lazy,
    "lists in a lazy one": lambda values: Lazy([Lazy([value])[0] for value in values]),
    ".concat()": lambda values: _ConcatResult([Lazy(values[:1]), values[1:]]),
    ".map()": lambda values: _MapResult(Lazy([{"value": value} for value in values]), [lambda entry: entry["value"]]),
    "generator": lambda values: (value for value in values),
    "JSON": json.dumps,
    "what a template renders": str,
}
WINDOWS = ("window", "on_unknown_zone")
#: Of each operator: its parameters that take a list, and those that take one value.
PARAMETERS: dict[type[BaseOperator], tuple[set[str], set[str]]] = {
    SendOmnimessageOperator: (
        {"messages"},
        {"to", "timezone", "dlr_url", "text_store", "priority", "omnimessage_conn_id", *WINDOWS},
    ),
    ScheduleOmnimessageOperator: (
        {"messages"},
        {
            "to",
            "dlr_url",
            "text_store",
            "priority",
            "omnimessage_conn_id",
            "time_to_send",
            "timezone",
            "on_past",
            *WINDOWS,
        },
    ),
    ScheduleBulkOmnimessageOperator: (
        {"omnimessages", "recipients", "messages"},
        {
            "time_to_send",
            "timezone",
            "on_past",
            "results_path",
            "dlr_url",
            "text_store",
            "priority",
            "omnimessage_conn_id",
            "prices",
            *WINDOWS,
        },
    ),
    CancelScheduledMessageOperator: ({"omnimessage_id"}, {"if_already_sent", "omnimessage_conn_id"}),
    OmnimessageDeliverySensor: ({"omnimessage_id", "time_to_send"}, {"omnimessage_conn_id"}),
}


@pytest.mark.parametrize("operator", PARAMETERS, ids=lambda operator: operator.__name__)
def test_each_parameter_is_known_to_take_a_list_or_one_value(operator):
    lists, values = PARAMETERS[operator]
    assert set(operator.template_fields) == lists | values


def run(operator: BaseOperator, **rendered: Any) -> Any:
    """Run an operator as a worker does: with rendered parameters in its attributes."""
    for name, value in rendered.items():
        setattr(operator, name, value)
    ti = SimpleNamespace(dag_id="d", task_id="t", max_tries=0, try_number=1, xcom_push=lambda key, value: None)
    return operator.execute({"ti": ti})


@pytest.fixture(params=FORMS, ids=lambda form: form.replace(" ", "-"))
def form(request) -> Callable[[list[Any]], Any]:
    return FORMS[request.param]


class TestEveryFormOfAList:
    MESSAGES = (viber("Hello"), sms("Hello"))

    def test_messages_of_a_single_send(self, sandbox, form):
        operator = SendOmnimessageOperator(task_id="t", to=TO, messages=[sms("a")])
        run(operator, messages=form(list(self.MESSAGES)))
        (message,) = sandbox.messages
        assert message["body"]["messages"] == [dict(each) for each in self.MESSAGES]

    def test_messages_of_a_bulk_send_are_filled(self, sandbox, form):
        operator = ScheduleBulkOmnimessageOperator(
            task_id="t", recipients=[{"to": TO, "name": "Mari"}], messages=[sms("a")]
        )
        run(operator, messages=form([sms("Hello $name")]))
        (message,) = sandbox.messages
        assert message["body"]["messages"][0]["text"] == "Hello Mari"

    def test_recipients(self, sandbox, form):
        operator = ScheduleBulkOmnimessageOperator(task_id="t", recipients=[{"to": TO}], messages=[sms("Hello $name")])
        run(operator, recipients=form([{"to": TO, "name": "Mari"}, {"to": "+37255555556", "name": "Jaan"}]))
        assert [message["body"]["messages"][0]["text"] for message in sandbox.messages] == ["Hello Mari", "Hello Jaan"]

    def test_omnimessages(self, sandbox, form):
        operator = ScheduleBulkOmnimessageOperator(task_id="t", omnimessages=[{"to": TO, "messages": [sms("a")]}])
        run(operator, omnimessages=form([{"to": TO, "messages": [sms("a")]}, {"to": TO, "messages": [sms("b")]}]))
        assert [message["body"]["messages"][0]["text"] for message in sandbox.messages] == ["a", "b"]

    def test_ids_to_cancel(self, sandbox, form):
        ids = schedule(2)
        operator = CancelScheduledMessageOperator(task_id="t", omnimessage_id="x")
        assert run(operator, omnimessage_id=form([None, *ids])) == ids
        assert {message["state"] for message in sandbox.messages} == {"cancelled"}

    def test_ids_in_a_list_with_others(self, sandbox, form):
        first, *others = schedule(3)
        operator = CancelScheduledMessageOperator(task_id="t", omnimessage_id="x")
        nested = form(others) if not isinstance(form(others), str) else others
        assert run(operator, omnimessage_id=[first, nested]) == [first, *others]

    def test_ids_and_times_to_wait_for(self, sandbox, form):
        ids = schedule(2)
        sandbox.advance(timedelta(days=365 * 100))
        operator = OmnimessageDeliverySensor(task_id="t", omnimessage_id="x")
        reports = run(operator, omnimessage_id=form(ids), time_to_send=form(["2020-01-01T09:00:00+00:00", None]))
        assert [(report["omnimessage_id"], report["outcome"]) for report in reports] == [
            (id_, "delivered") for id_ in ids
        ]

    def test_messages_of_a_message_that_the_hook_composes(self, sandbox, form):
        """As the alerts do, for each recipient."""
        with OmnimessageHook() as hook:
            assert hook.compose(TO, form(list(self.MESSAGES)))["messages"] == list(self.MESSAGES)

    def test_recipients_and_messages_of_a_notifier(self, sandbox, form):
        notifier = OmnimessageNotifier(to=TO, text="a")
        notifier.to, notifier.messages = form([TO, "+37255555556"]), form(list(self.MESSAGES))
        notifier.notify({})
        assert [message["to"] for message in sandbox.messages] == [TO, "+37255555556"]
        assert [len(message["body"]["messages"]) for message in sandbox.messages] == [2, 2]


def schedule(count: int) -> list[str]:
    with OmnimessageHook() as hook:
        return [
            hook.send(TO, [sms(str(index))], time_to_send=timedelta(hours=1)).omnimessage_id for index in range(count)
        ]


def test_a_text_inside_a_list_stays_a_text():
    assert plain_argument([sms("[1, 2]")]) == [{"channel": "sms", "text": "[1, 2]"}]
    assert plain(sms("[1, 2]"))["text"] == "[1, 2]"


@pytest.mark.parametrize("text", ["a", "[", "{", "[1", "{'a': open('x')}", "(" * 500, "", "{{1}}", "{[1]: 2}"])
def test_any_other_text_stays_as_it_is(text):
    assert plain_argument(text) == text


@pytest.mark.parametrize(
    "value", [{"text": object()}, {"text": {"$name"}}, {"text": b"$name"}], ids=["an object", "a set", "bytes"]
)
def test_a_value_that_may_hide_a_placeholder_is_rejected(sandbox, value):
    operator = ScheduleBulkOmnimessageOperator(task_id="t", recipients=[{"to": TO, "name": "M"}], messages=[sms("a")])
    with pytest.raises(AirflowFailException, match="messages"):
        run(operator, messages=[{"channel": "sms", **value}])
    assert sandbox.requests == []


def test_omnimessages_are_sent_as_they_are(sandbox):
    run(ScheduleBulkOmnimessageOperator(task_id="t", omnimessages=[{"to": TO, "messages": [sms("$name, $5")]}]))
    assert sandbox.messages[0]["body"]["messages"][0]["text"] == "$name, $5"
